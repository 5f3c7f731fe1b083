//! An IMAP server over TLS that does what real servers do not: it answers everything as it should, but FETCH, NOOP and
//! what else a script takes over.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustls::{ALL_VERSIONS, ServerConnection, StreamOwned};

use crate::lab::Family;
use crate::scene::Scene;
use crate::scripted::{Scripted, accept_tls, line, read};
use crate::wait::PATIENCE;

/// What the server says that it can do: with more than Postern lets through.
pub const CAPABILITY: &str = "IMAP4rev1 IMAP4rev2 LITERAL+ SASL-IR ID ENABLE IDLE NAMESPACE UIDPLUS MOVE UNSELECT BINARY \
     CATENATE MULTIAPPEND REPLACE COMPRESS=DEFLATE URLAUTH PREVIEW NOTIFY CONDSTORE ESEARCH XSECRET AUTH=PLAIN \
     AUTH=X-SECRET APPENDLIMIT=4294967295";

/// A command as it came, literals in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Its tag.
    pub tag: String,
    /// Its verb in upper case; `UID` is part of it.
    pub verb: String,
    /// Everything behind the verb, without the line end.
    pub rest: Vec<u8>,
}

impl Asked {
    /// The items of a FETCH, in upper case: macros are not spelled out.
    #[must_use]
    pub fn items(&self) -> Vec<String> {
        let text = String::from_utf8_lossy(&self.rest).to_uppercase();
        let (_, items) = text.split_once(' ').unwrap_or_default();
        let list = items.strip_prefix('(').and_then(|items| items.rsplit_once(')')).map(|(list, _)| list);
        let (mut found, mut depth) = (vec![String::new()], 0_u32);
        for letter in list.unwrap_or(items).chars() {
            match letter {
                '[' | '(' => depth += 1,
                ']' | ')' => depth = depth.saturating_sub(1),
                _ => {}
            }
            match found.last_mut() {
                Some(item) if letter != ' ' || depth > 0 => item.push(letter),
                _ => found.push(String::new()),
            }
        }
        found
    }
}

/// One connection, as the script sees it.
pub struct Desk {
    stream: StreamOwned<ServerConnection, TcpStream>,
    /// Every octet that came.
    pub came: Vec<u8>,
    /// What the mailbox holds.
    pub shelf: Vec<Book>,
}

/// A message with what a server makes of it.
#[derive(Clone, Debug)]
pub struct Book {
    /// The message.
    pub octets: Vec<u8>,
    /// Its UID.
    pub uid: u32,
    /// Header, and the two parts with their headers, where it has parts: ranges of the message.
    parts: [std::ops::Range<usize>; 5],
}

impl Book {
    /// A message of two parts with the boundary `cut`, such as the corpus has; other messages have no parts here.
    #[must_use]
    pub fn new(octets: &[u8], uid: u32) -> Self {
        let find = |what: &[u8], from: usize| {
            let rest = octets.get(from..).unwrap_or_default();
            let at = rest.windows(what.len()).position(|window| window == what);
            at.map_or(octets.len(), |at| from + at)
        };
        let header = (find(b"\r\n\r\n", 0) + 4).min(octets.len());
        let first = (find(b"--cut\r\n", header) + 7).min(octets.len());
        let first_body = (find(b"\r\n\r\n", first) + 4).min(octets.len());
        let first_end = find(b"\r\n--cut\r\n", first_body);
        let second = (first_end + 9).min(octets.len());
        let second_body = (find(b"\r\n\r\n", second) + 4).min(octets.len());
        let second_end = find(b"\r\n--cut--", second_body);
        let parts = [
            0..header,
            first..first_body,
            first_body..first_end,
            second..second_body,
            second_body..second_end,
        ];
        Self { octets: octets.to_vec(), uid, parts }
    }

    /// A section, by what stands between the brackets.
    #[must_use]
    pub fn section(&self, name: &str) -> &[u8] {
        let [header, first, first_body, second, second_body] = &self.parts;
        let range = match name {
            "" => 0..self.octets.len(),
            "TEXT" => header.end..self.octets.len(),
            "1" => first_body.clone(),
            "1.MIME" => first.clone(),
            "2" => second_body.clone(),
            "2.MIME" => second.clone(),
            _ if name.starts_with("HEADER") => header.clone(),
            _ => 0..0,
        };
        self.octets.get(range).unwrap_or_default()
    }

    /// One item as a server answers it: name and value.
    #[must_use]
    pub fn item(&self, asked: &str) -> Option<(String, Vec<u8>)> {
        let plain = |value: String| Some((asked.to_owned(), value.into_bytes()));
        match asked {
            "UID" => plain(self.uid.to_string()),
            "FLAGS" => plain("(\\Seen)".to_owned()),
            "INTERNALDATE" => plain("\"24-Nov-2026 08:00:00 +0000\"".to_owned()),
            "RFC822.SIZE" => plain(self.octets.len().to_string()),
            "BODYSTRUCTURE" | "BODY" => {
                let part = |section: &str, kind: &str| {
                    format!("({kind} NIL NIL \"7BIT\" {}", self.section(section).len())
                };
                let one = part("1", "\"TEXT\" \"PLAIN\" NIL");
                let two = part("2", "\"APPLICATION\" \"OCTET-STREAM\" NIL");
                plain(format!("({one} 1){two}) \"MIXED\")"))
            }
            "RFC822" => Some((asked.to_owned(), literal(&self.octets))),
            "RFC822.HEADER" => Some((asked.to_owned(), literal(self.section("HEADER")))),
            "RFC822.TEXT" => Some((asked.to_owned(), literal(self.section("TEXT")))),
            _ => {
                let rest = asked.strip_prefix("BODY.PEEK[").or_else(|| asked.strip_prefix("BODY["))?;
                let (section, range) = rest.split_once(']')?;
                let content = self.section(section);
                let range = range.strip_prefix('<').and_then(|range| range.strip_suffix('>'));
                let Some((from, octets)) = range.and_then(|range| range.split_once('.')) else {
                    return Some((format!("BODY[{section}]"), literal(content)));
                };
                let from: usize = from.parse().ok()?;
                let end = from.saturating_add(octets.parse().ok()?).min(content.len());
                let piece = content.get(from..end).unwrap_or_default();
                Some((format!("BODY[{section}]<{from}>"), literal(piece)))
            }
        }
    }

    /// The FETCH response to a command, as it should be.
    #[must_use]
    pub fn answer(&self, number: usize, asked: &Asked) -> Vec<u8> {
        let mut items: Vec<_> = asked.items().iter().filter_map(|item| self.item(item)).collect();
        if asked.verb.starts_with("UID") && !items.iter().any(|(name, _)| name == "UID") {
            items.extend(self.item("UID"));
        }
        respond(number, &items)
    }
}

/// `{n}` and the octets.
#[must_use]
pub fn literal(octets: &[u8]) -> Vec<u8> {
    [format!("{{{}}}\r\n", octets.len()).as_bytes(), octets].concat()
}

/// `* n FETCH (...)` with these items.
#[must_use]
pub fn respond(number: usize, items: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut out = format!("* {number} FETCH (").into_bytes();
    for (at, (name, value)) in items.iter().enumerate() {
        if at > 0 {
            out.push(b' ');
        }
        out.extend_from_slice(name.as_bytes());
        out.push(b' ');
        out.extend_from_slice(value);
    }
    out.extend_from_slice(b")\r\n");
    out
}

impl Desk {
    /// Say octets, as they are.
    ///
    /// # Errors
    /// When the peer is gone.
    pub fn say(&mut self, octets: impl AsRef<[u8]>) -> Result<()> {
        self.stream.write_all(octets.as_ref())?;
        Ok(self.stream.flush()?)
    }

    /// The next command with its literals, each of which is asked for. `None` at the end.
    ///
    /// # Errors
    /// When it is no command.
    pub fn command(&mut self) -> Result<Option<Asked>> {
        let mut whole = Vec::new();
        loop {
            let Ok(text) = line(&mut self.stream) else { return Ok(None) };
            self.came.extend_from_slice(text.as_bytes());
            whole.extend_from_slice(text.as_bytes());
            let size = text.trim_end().strip_suffix('}').and_then(|text| text.rsplit_once('{'));
            let digits = size.map(|(_, digits)| digits.trim_end_matches('+'));
            let Some(octets) = digits.and_then(|digits| digits.parse::<usize>().ok()) else { break };
            if !text.trim_end().ends_with("+}") {
                self.say("+ go on\r\n")?;
            }
            let mut content = vec![0; octets];
            self.stream.read_exact(&mut content)?;
            self.came.extend_from_slice(&content);
            whole.extend(content);
        }
        let end = whole.len().saturating_sub(2);
        whole.truncate(end);
        let mut words = whole.splitn(2, |&octet| octet == b' ');
        let tag = String::from_utf8_lossy(words.next().unwrap_or_default()).into_owned();
        let mut rest = words.next().unwrap_or_default().to_vec();
        let mut verb = first_word(&mut rest);
        if verb == "UID" {
            verb = format!("UID {}", first_word(&mut rest));
        }
        Ok(Some(Asked { tag, verb, rest }))
    }

    /// Answer as a good server does; FETCH, too.
    ///
    /// # Errors
    /// When the peer is gone.
    pub fn answer(&mut self, asked: &Asked) -> Result<()> {
        let count = self.shelf.len();
        let untagged = match asked.verb.as_str() {
            "CAPABILITY" => format!("* CAPABILITY {CAPABILITY}\r\n").into_bytes(),
            "SELECT" | "EXAMINE" => format!(
                "* {count} EXISTS\r\n* 0 RECENT\r\n* FLAGS (\\Seen \\Deleted)\r\n\
                 * OK [UIDVALIDITY 1] valid\r\n* OK [UIDNEXT 100] next\r\n"
            )
            .into_bytes(),
            "LOGOUT" => b"* BYE until next time\r\n".to_vec(),
            "IDLE" => {
                self.say("+ idling\r\n")?;
                let done = line(&mut self.stream)?;
                self.came.extend_from_slice(done.as_bytes());
                Vec::new()
            }
            "FETCH" | "UID FETCH" => {
                let numbers = self.numbers(asked);
                let books =
                    numbers.into_iter().filter_map(|number| Some((number, self.shelf.get(number - 1)?)));
                books.flat_map(|(number, book)| book.answer(number, asked)).collect()
            }
            _ => Vec::new(),
        };
        self.say(untagged)?;
        self.done(asked)
    }

    /// The numbers that a FETCH names: all of them, if it is no single one.
    #[must_use]
    pub fn numbers(&self, asked: &Asked) -> Vec<usize> {
        let text = String::from_utf8_lossy(&asked.rest).into_owned();
        let named: Option<u32> = text.split(' ').next().and_then(|set| set.parse().ok());
        let uid = asked.verb.starts_with("UID");
        let fits = |(number, book): &(usize, &Book)| match named {
            Some(named) if uid => book.uid == named,
            Some(named) => u32::try_from(*number) == Ok(named),
            None => true,
        };
        (1..).zip(&self.shelf).filter(fits).map(|(number, _)| number).collect()
    }

    /// `OK` for a command.
    ///
    /// # Errors
    /// When the peer is gone.
    pub fn done(&mut self, asked: &Asked) -> Result<()> {
        self.say(format!("{} OK done\r\n", asked.tag))
    }

    /// Whether something more comes from the client in this time.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn is_waited_for(&mut self, patience: Duration) -> Result<bool> {
        if self.stream.conn.process_new_packets()?.plaintext_bytes_to_read() > 0 {
            return Ok(true);
        }
        self.stream.sock.set_read_timeout(Some(patience))?;
        let came = self.stream.sock.peek(&mut [0]).is_ok();
        self.stream.sock.set_read_timeout(Some(PATIENCE))?;
        Ok(came)
    }

    /// End without saying so.
    pub fn hang_up(&mut self) {
        let _ = self.stream.sock.shutdown(std::net::Shutdown::Both);
    }

    /// Read until the peer ends it.
    pub fn drain(&mut self) {
        let mut chunk = [0; 4096];
        while let Ok(count @ 1..) = read(&mut self.stream, &mut chunk) {
            self.came.extend_from_slice(chunk.get(..count).unwrap_or_default());
        }
    }
}

fn first_word(rest: &mut Vec<u8>) -> String {
    let end = rest.iter().position(|&octet| octet == b' ').unwrap_or(rest.len());
    let behind = rest.get(end + 1..).unwrap_or_default().to_vec();
    let word = String::from_utf8_lossy(rest.get(..end).unwrap_or_default()).to_uppercase();
    *rest = behind;
    word
}

/// Serve one connection on port 993: `script` is shown each command and says whether it has answered it. What it does
/// not answer is answered as it should be. At the end everything that came is returned.
///
/// # Errors
/// When the address is taken.
pub fn serve(
    scene: &Scene,
    shelf: Vec<Book>,
    mut script: impl FnMut(&mut Desk, &Asked) -> Result<bool> + Send + 'static,
) -> Result<Scripted<Vec<u8>>> {
    let tls = scene.identity.server_config(ALL_VERSIONS)?;
    Scripted::once(&scene.lab.server, scene.server(Family::V4, 993), move |tcp| {
        let mut desk = Desk { stream: accept_tls(tcp, tls)?, came: Vec::new(), shelf };
        desk.say(format!("* OK [CAPABILITY {CAPABILITY}] ready\r\n"))?;
        while let Some(asked) = desk.command()? {
            let answered = script(&mut desk, &asked).with_context(|| format!("{asked:?}"));
            match answered {
                // A script that breaks the rules is cut off: that is no fault of the test.
                Err(_) => break,
                Ok(true) => {}
                Ok(false) => desk.answer(&asked)?,
            }
            if asked.verb == "LOGOUT" {
                break;
            }
        }
        desk.stream.conn.send_close_notify();
        let _ = desk.stream.flush();
        Ok(desk.came)
    })
}
