//! How clients fetch, replayed: the commands that they send, in their order and their spelling.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail, ensure};

use crate::client::Session;
use crate::fetched::{Fetched, Reply, Value, leaves};

/// A client whose way of fetching is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replay {
    /// Whole messages, large ones in pieces that grow.
    Thunderbird,
    /// Whole messages by pieces of a fixed size, the first one always with a range.
    Ios,
    /// The structure first, then part by part.
    AppleMail,
    /// Many messages in one command, each only to a size.
    K9,
}

/// Thunderbird asks for more than this in pieces.
const THUNDERBIRD_WHOLE_BYTES_MAX: u64 = 98_304;
/// Its first piece.
const THUNDERBIRD_PIECE_BYTES: u64 = 65_536;
/// What every further piece is larger by.
const THUNDERBIRD_GROWTH_BYTES: u64 = 8_192;
/// The piece of iOS.
const IOS_PIECE_BYTES: u64 = 393_216;
/// What K-9 fetches of a message at first.
const K9_PREFIX_BYTES: u64 = 131_072;
/// How many messages K-9 names in a command.
const K9_MESSAGES: usize = 10;

const THUNDERBIRD_HEADER: &str = "FLAGS RFC822.SIZE BODY.PEEK[HEADER.FIELDS (From To Cc Bcc Subject Date Message-ID \
     Priority X-Priority References Newsgroups In-Reply-To Content-Type Reply-To)]";
const IOS_HEADER: &str = "INTERNALDATE UID RFC822.SIZE FLAGS BODY.PEEK[HEADER.FIELDS (date subject from to cc message-id \
     in-reply-to references content-type x-priority x-uniform-type-identifier x-universally-unique-identifier \
     list-id list-unsubscribe bimi-indicator bimi-location x-bimi-indicator-hash authentication-results dkim-signature)]";
const APPLE_HEADER: &str = "INTERNALDATE UID RFC822.SIZE FLAGS BODY.PEEK[HEADER.FIELDS (date subject from to cc message-id \
     in-reply-to references content-type x-priority x-uniform-type-identifier x-universally-unique-identifier)]";
const K9_HEADER: &str = "UID FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[HEADER.FIELDS (date subject from content-type to cc \
     reply-to message-id references in-reply-to list-unsubscribe sender x-k9mail-identity)]";

/// What a client got.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Got {
    /// Each command and the responses to it, items sorted.
    pub steps: Vec<(String, Vec<Fetched>)>,
    /// Messages by UID, put together as the client does; of a client that fetches parts, the parts by section.
    pub messages: BTreeMap<(u32, String), Vec<u8>>,
}

impl Replay {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Thunderbird, Self::Ios, Self::AppleMail, Self::K9];

    /// Whether it puts whole messages together.
    #[must_use]
    pub const fn fetches_whole(self) -> bool {
        !matches!(self, Self::AppleMail)
    }

    /// Fetch everything in the folder.
    ///
    /// # Errors
    /// When the client would be confused, or the server refuses.
    pub fn sync(self, session: &mut Session, folder: &str) -> Result<Got> {
        let mut replayed = Replayed { session, got: Got::default() };
        let synced = match self {
            Self::Thunderbird => replayed.thunderbird(folder),
            Self::Ios => replayed.ios(folder),
            Self::AppleMail => replayed.apple_mail(folder),
            Self::K9 => replayed.k9(folder),
        };
        synced.with_context(|| format!("{self:?}"))?;
        Ok(replayed.got)
    }
}

struct Replayed<'s> {
    session: &'s mut Session,
    got: Got,
}

/// UID and size of each message of an answer.
fn sizes(fetched: &[Fetched]) -> Result<Vec<(u32, u64)>> {
    let of = |fetched: &Fetched| {
        let Some(Value::Other(size)) = fetched.item("RFC822.SIZE") else { bail!("no size: {fetched:?}") };
        Ok((fetched.uid().context("no UID")?, std::str::from_utf8(size)?.parse()?))
    };
    fetched.iter().filter(|fetched| fetched.item("RFC822.SIZE").is_some()).map(of).collect()
}

impl Replayed<'_> {
    fn other(&mut self, command: &str) -> Result<Reply> {
        let reply = self.session.exchange(command)?;
        ensure!(reply.is_ok(), "{command}: {}", reply.tagged);
        Ok(reply)
    }

    fn fetch(&mut self, command: &str) -> Result<Vec<Fetched>> {
        let fetched = self.other(command)?.fetched().with_context(|| command.to_owned())?;
        let sorted = fetched.iter().cloned().map(Fetched::sorted).collect();
        self.got.steps.push((command.to_owned(), sorted));
        Ok(fetched)
    }

    /// The content of one message, under exactly this label.
    fn content(&mut self, command: &str, uid: u32, label: &str) -> Result<Vec<u8>> {
        let fetched = self.fetch(command)?;
        let one = fetched.iter().find(|one| one.uid() == Some(uid) && one.item(label).is_some());
        match one.and_then(|one| one.item(label)) {
            Some(Value::Octets(octets)) => Ok(octets.clone()),
            other => bail!("{command}: {label} is {other:?} of {fetched:?}"),
        }
    }

    fn keep(&mut self, uid: u32, section: &str, octets: Vec<u8>) {
        self.got.messages.insert((uid, section.to_owned()), octets);
    }

    fn thunderbird(&mut self, folder: &str) -> Result<()> {
        self.other("CAPABILITY")?;
        self.other(&format!("SELECT \"{folder}\""))?;
        self.fetch("UID FETCH 1:* (FLAGS)")?;
        let list = self.fetch(&format!("UID FETCH 1:* (UID {THUNDERBIRD_HEADER})"))?;
        for (uid, size) in sizes(&list)? {
            if size <= THUNDERBIRD_WHOLE_BYTES_MAX {
                let command = format!("UID fetch {uid} (UID RFC822.SIZE BODY.PEEK[])");
                let message = self.content(&command, uid, "BODY[]")?;
                self.keep(uid, "", message);
                continue;
            }
            let (mut message, mut piece) = (Vec::new(), THUNDERBIRD_PIECE_BYTES);
            while (message.len() as u64) < size {
                let from = message.len();
                let command = format!("UID fetch {uid} (UID RFC822.SIZE BODY.PEEK[]<{from}.{piece}>)");
                let octets = self.content(&command, uid, &format!("BODY[]<{from}>"))?;
                ensure!(!octets.is_empty(), "{command}: nothing before the end");
                message.extend(octets);
                piece += THUNDERBIRD_GROWTH_BYTES;
            }
            self.keep(uid, "", message);
        }
        Ok(())
    }

    fn ios(&mut self, folder: &str) -> Result<()> {
        self.other(&format!("SELECT {folder}"))?;
        let list = self.fetch(&format!("UID FETCH 1:* ({IOS_HEADER})"))?;
        for (uid, _) in sizes(&list)? {
            let mut message = Vec::new();
            // It asks until a piece is shorter than what it asked for, and does not look at the size.
            loop {
                let from = message.len();
                let command = format!("UID FETCH {uid} (BODY.PEEK[]<{from}.{IOS_PIECE_BYTES}> UID)");
                let octets = self.content(&command, uid, &format!("BODY[]<{from}>"))?;
                let last = (octets.len() as u64) < IOS_PIECE_BYTES;
                message.extend(octets);
                if last {
                    break;
                }
            }
            self.keep(uid, "", message);
        }
        Ok(())
    }

    fn apple_mail(&mut self, folder: &str) -> Result<()> {
        self.other(&format!("SELECT {folder}"))?;
        let list = self.fetch(&format!("FETCH 1:* ({APPLE_HEADER})"))?;
        for (uid, _) in sizes(&list)? {
            let fetched = self.fetch(&format!("UID FETCH {uid} (BODYSTRUCTURE BODY.PEEK[HEADER])"))?;
            let header = fetched.iter().find_map(|one| one.content("BODY[HEADER]"));
            let header = header.map(<[u8]>::to_vec).with_context(|| format!("no header of {uid}"))?;
            self.keep(uid, "HEADER", header);
            let structure = fetched.iter().find_map(|one| match one.item("BODYSTRUCTURE") {
                Some(Value::Other(structure)) => Some(structure.clone()),
                _ => None,
            });
            for section in leaves(&structure.context("no structure")?)?.into_keys() {
                let label = format!("BODY[{section}]");
                let command = format!("UID FETCH {uid} (BODY.PEEK[{section}.MIME] BODY.PEEK[{section}])");
                let fetched = self.fetch(&command)?;
                if let Some(octets) = fetched.iter().find_map(|one| one.content(&label)) {
                    self.keep(uid, &section, octets.to_vec());
                }
            }
        }
        Ok(())
    }

    fn k9(&mut self, folder: &str) -> Result<()> {
        self.other(&format!("SELECT {folder}"))?;
        let list = self.fetch(&format!("UID FETCH 1:* ({K9_HEADER})"))?;
        let uids: Vec<String> = sizes(&list)?.iter().map(|(uid, _)| uid.to_string()).collect();
        for some in uids.chunks(K9_MESSAGES) {
            let command =
                format!("UID FETCH {} (UID FLAGS BODY.PEEK[]<0.{K9_PREFIX_BYTES}>)", some.join(","));
            let reply = self.other(&command)?;
            for unit in &reply.units {
                let text = String::from_utf8_lossy(unit);
                // It reads the second word of every untagged response, whatever it is.
                ensure!(text.split_whitespace().count() > 2, "K-9 throws at {text:?}");
                let (uid, body) = (text.find("UID "), text.find("BODY["));
                ensure!(body.is_none() || uid < body, "K-9 needs the UID before the body: {text:?}");
            }
            let fetched = reply.fetched()?;
            for one in &fetched {
                if let (Some(uid), Some(octets)) = (one.uid(), one.content("BODY[]<0>")) {
                    self.keep(uid, "", octets.to_vec());
                }
            }
            self.got.steps.push((command, fetched.into_iter().map(Fetched::sorted).collect()));
        }
        Ok(())
    }
}
