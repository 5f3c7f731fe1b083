//! How a way to content is tried: first directly, where it must lead to what is forbidden unless no server has it, then
//! through Postern, where it must not, and where all that comes must be what every other way brings.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use postern_tests::client::Session;
use postern_tests::corpus::holds;
use postern_tests::fetched::{Reply, shown};
use postern_tests::mail_server::{Path, Server};
use postern_tests::mediated::{Bench, Exhibit};

/// What was asked, and of which message of the exhibit: its place.
type Question = (usize, String);

/// A way, tried once.
pub(crate) struct Attempt<'b> {
    pub(crate) bench: &'b Bench,
    pub(crate) server: Server,
    pub(crate) exhibit: Arc<Exhibit>,
    pub(crate) session: Session,
    path: Path,
    folder: String,
    /// What came; nothing where it was refused.
    views: BTreeMap<Question, Option<Vec<u8>>>,
    heard: Vec<u8>,
}

impl<'b> Attempt<'b> {
    fn new(bench: &'b Bench, server: Server, path: Path) -> Result<Self> {
        let exhibit = bench.exhibit(server)?;
        let folder = exhibit.folder.clone();
        let session = bench.inside(server, path, &folder)?;
        Ok(Self { bench, server, exhibit, session, path, folder, views: BTreeMap::new(), heard: Vec::new() })
    }

    /// Whether no Postern is in between.
    pub(crate) fn is_direct(&self) -> bool {
        self.path == Path::Direct
    }

    /// How many messages there are.
    pub(crate) fn count(&self) -> usize {
        self.exhibit.samples.len()
    }

    /// The folder that is selected.
    pub(crate) fn folder(&self) -> &str {
        &self.folder
    }

    /// The number of a message, from 1.
    pub(crate) fn number(&self, name: &str) -> Result<usize> {
        let at = self.exhibit.samples.iter().position(|sample| sample.name == name);
        Ok(1 + at.with_context(|| format!("no message {name}"))?)
    }

    /// Send a command; everything that comes is looked at later.
    pub(crate) fn exchange(&mut self, command: &str) -> Result<Reply> {
        let reply = self.session.exchange(command)?;
        self.heard.extend(reply.all());
        if reply.is_refused() {
            // Servers end a session that makes nothing but mistakes.
            self.session.noop()?;
        }
        Ok(reply)
    }

    /// Everything that came counts, wherever it came from.
    pub(crate) fn hear(&mut self, octets: &[u8]) {
        self.heard.extend_from_slice(octets);
    }

    /// Keep what was seen of a message, by its number.
    pub(crate) fn see(&mut self, number: usize, what: &str, octets: Option<Vec<u8>>) {
        self.views.insert((number - 1, what.to_owned()), octets);
    }

    /// One command about one message: the first content that comes.
    pub(crate) fn view(&mut self, number: usize, command: &str) -> Result<()> {
        let reply = self.exchange(command)?;
        let octets = reply.octets().with_context(|| command.to_owned())?.into_iter().next();
        self.see(number, command, octets);
        Ok(())
    }

    /// Each of these items of every message.
    pub(crate) fn items(&mut self, items: &[&str]) -> Result<()> {
        for number in 1..=self.count() {
            for item in items {
                self.view(number, &format!("FETCH {number} ({item})"))?;
            }
        }
        Ok(())
    }

    /// Commands without waiting. Servers may finish them in any order, so what comes is told apart by message and item.
    pub(crate) fn pipeline(&mut self, commands: &[String]) -> Result<()> {
        let tags: BTreeSet<String> =
            commands.iter().map(|command| self.session.send_command(command)).collect::<Result<_>>()?;
        let (mut units, mut done) = (Vec::new(), 0);
        while done < tags.len() {
            let unit = self.session.unit()?;
            self.hear(&unit);
            let first = unit.split(|&octet| octet == b' ').next().unwrap_or_default();
            if tags.contains(String::from_utf8_lossy(first).as_ref()) {
                done += 1;
            } else {
                units.push(unit);
            }
        }
        for one in (Reply { units, tagged: String::new() }).fetched()? {
            for (label, value) in one.items {
                if let Some(octets) = value.octets() {
                    self.see(usize::try_from(one.number)?, &label, Some(octets));
                }
            }
        }
        Ok(())
    }

    /// Ranges of a section, each by a command of its own, put together where they belong.
    pub(crate) fn ranges(&mut self, number: usize, section: &str, ranges: &[(usize, usize)]) -> Result<()> {
        let mut whole = Vec::new();
        for &(from, octets) in ranges {
            let command = format!("FETCH {number} BODY.PEEK[{section}]<{from}.{octets}>");
            for octets in self.exchange(&command)?.octets()? {
                let end = from + octets.len();
                if whole.len() < end {
                    whole.resize(end, 0);
                }
                if let Some(place) = whole.get_mut(from..end) {
                    place.copy_from_slice(&octets);
                }
            }
        }
        // What was not asked for stays zero: cut it off in front.
        let first = ranges.iter().map(|(from, _)| *from).min().unwrap_or_default();
        let seen = whole.get(first..).filter(|seen| !seen.is_empty()).map(<[u8]>::to_vec);
        self.see(number, &format!("BODY[{section}] from {first} in {} ranges", ranges.len()), seen);
        Ok(())
    }

    /// Go on in a folder of one's own with the same messages.
    pub(crate) fn own_folder(&mut self) -> Result<()> {
        self.folder = self.bench.folder(self.server, &self.exhibit.samples)?;
        self.exchange(&format!("SELECT {}", self.folder))?.ok()?;
        Ok(())
    }

    /// Go on in another session.
    pub(crate) fn reconnect(&mut self) -> Result<()> {
        self.session = self.another()?;
        Ok(())
    }

    /// A second session of the same kind in the same folder.
    pub(crate) fn another(&self) -> Result<Session> {
        self.bench.inside(self.server, self.path, &self.folder)
    }
}

/// Whether a way leads anywhere without Postern.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// To what is forbidden, on one server at least.
    Leads,
    /// Nowhere: no server has it, or it is not tried directly.
    LeadsNowhere,
}

/// Try a way at every server.
pub(crate) fn attempt(way: Way, run: impl Fn(&mut Attempt<'_>) -> Result<()>) -> Result<()> {
    let bench = Bench::get()?;
    let (mut led, mut wrong) = (false, Vec::new());
    for server in Server::ALL {
        let tried = |path| {
            let mut attempt = Attempt::new(&bench, server, path)?;
            run(&mut attempt).with_context(|| format!("{server:?}, {path:?}"))?;
            anyhow::Ok(attempt)
        };
        let direct = tried(Path::Direct)?;
        let through = tried(Path::Through)?;
        let exhibit = &direct.exhibit;
        let needles: BTreeSet<_> =
            exhibit.samples.iter().flat_map(|sample| sample.needles.iter().cloned()).collect();
        let needles: Vec<_> = needles.into_iter().collect();
        led |= reveals(&direct, &needles).is_some();
        if let Some(what) = reveals(&through, &needles) {
            wrong.push(format!("{server:?}: forbidden content came by {what}"));
        }
        wrong.extend(differences(&direct, &through).into_iter().map(|what| format!("{server:?}: {what}")));
    }
    ensure!(way == Way::LeadsNowhere || led, "this way leads nowhere without Postern: it shows nothing");
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// What showed something forbidden.
fn reveals(attempt: &Attempt<'_>, needles: &[Vec<u8>]) -> Option<String> {
    let view =
        attempt.views.iter().find(|(_, octets)| octets.as_ref().is_some_and(|octets| holds(needles, octets)));
    view.map(|((_, what), _)| what.clone())
        .or_else(|| holds(needles, &attempt.heard).then(|| "some answer".to_owned()))
}

/// Views that are neither refused nor what the message is as it arrives.
fn differences(direct: &Attempt<'_>, through: &Attempt<'_>) -> Vec<String> {
    let mut wrong = Vec::new();
    for ((message, what), got) in &through.views {
        let Some(got) = got else { continue };
        let Some(Some(served)) = direct.views.get(&(*message, what.clone())) else {
            wrong.push(format!("{what}: nothing directly, but {}", shown(got)));
            continue;
        };
        let (kept, arrived) = (&direct.exhibit.kept[*message], &direct.exhibit.arrived[*message]);
        let places = places(kept, served);
        let fits = places.iter().any(|&at| arrived.get(at..at + served.len()) == Some(got.as_slice()));
        // Octets that are no piece of the message, such as a decoded part, are only searched for what is forbidden.
        if !places.is_empty() && !fits {
            wrong.push(format!("{what}: another fill, {} of {}", shown(got), shown(served)));
        }
    }
    wrong
}

fn places(kept: &[u8], served: &[u8]) -> Vec<usize> {
    if served.is_empty() {
        return vec![0];
    }
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(rest) = kept.get(from..) {
        let Some(at) = rest.iter().position(|octet| Some(octet) == served.first()) else { break };
        if rest[at..].starts_with(served) {
            found.push(from + at);
        }
        from += at + 1;
    }
    found
}
