//! Responses octet for octet, and what a FETCH response holds. Written apart from the gateway's own parser: the tests
//! must not share its mistakes.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail, ensure};

use crate::client::Session;

/// Longest literal that a lab client takes.
const LITERAL_BYTES_MAX: usize = 128 * 1024 * 1024;

/// What a command brought, unchanged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Everything before the tagged line, one response each, line ends included.
    pub units: Vec<Vec<u8>>,
    /// The tagged line without its tag, such as `OK done`.
    pub tagged: String,
}

/// The value of a FETCH item.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// `NIL`.
    Nil,
    /// A literal, or a quoted string without its quotes.
    Octets(Vec<u8>),
    /// Anything else as it stands: a number, an atom, a list.
    Other(Vec<u8>),
}

/// One FETCH response.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fetched {
    /// The message's sequence number.
    pub number: u32,
    /// Names as the server spells them, and values, in its order.
    pub items: Vec<(String, Value)>,
}

impl std::fmt::Debug for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Nil => f.write_str("NIL"),
            Self::Octets(octets) => write!(f, "{{{}}}{}", octets.len(), shown(octets)),
            Self::Other(octets) => f.write_str(&shown(octets)),
        }
    }
}

/// The beginning of some octets, to be read by people.
#[must_use]
pub fn shown(octets: &[u8]) -> String {
    const SHOWN_BYTES: usize = 400;
    let cut = octets.get(..SHOWN_BYTES).unwrap_or(octets);
    let more = if cut.len() < octets.len() { "..." } else { "" };
    format!("{}{more}", cut.escape_ascii())
}

impl Reply {
    /// Whether the server did it.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.tagged.starts_with("OK")
    }

    /// Whether the command was refused in a way that a client understands.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.tagged.starts_with("NO") || self.tagged.starts_with("BAD")
    }

    /// This reply, if it is OK.
    ///
    /// # Errors
    /// Shows the reply.
    pub fn ok(self) -> Result<Self> {
        ensure!(self.is_ok(), "the server answered {:?}", self.tagged);
        Ok(self)
    }

    /// The FETCH responses, in order.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn fetched(&self) -> Result<Vec<Fetched>> {
        let all = self.units.iter().map(|unit| fetched(unit).with_context(|| shown(unit)));
        all.filter_map(Result::transpose).collect()
    }

    /// Every literal and string of its FETCH responses, in order.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn octets(&self) -> Result<Vec<Vec<u8>>> {
        let items = self.fetched()?.into_iter().flat_map(|fetched| fetched.items);
        Ok(items.filter_map(|(_, value)| value.octets()).collect())
    }

    /// All of it, as one run of octets.
    #[must_use]
    pub fn all(&self) -> Vec<u8> {
        let mut all = self.units.concat();
        all.extend_from_slice(self.tagged.as_bytes());
        all
    }
}

impl Value {
    /// The octets of a literal or string.
    #[must_use]
    pub fn octets(self) -> Option<Vec<u8>> {
        match self {
            Self::Octets(octets) => Some(octets),
            Self::Nil | Self::Other(_) => None,
        }
    }
}

impl Fetched {
    /// The value of an item.
    #[must_use]
    pub fn item(&self, name: &str) -> Option<&Value> {
        self.items.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// The message's UID, if it was told.
    #[must_use]
    pub fn uid(&self) -> Option<u32> {
        match self.item("UID")? {
            Value::Other(digits) => std::str::from_utf8(digits).ok()?.parse().ok(),
            Value::Nil | Value::Octets(_) => None,
        }
    }

    /// The octets of the first item whose name begins like this.
    #[must_use]
    pub fn content(&self, name: &str) -> Option<&[u8]> {
        self.items.iter().find_map(|(known, value)| match value {
            Value::Octets(octets) if known.starts_with(name) => Some(octets.as_slice()),
            _ => None,
        })
    }

    /// The same with the items sorted: their order says nothing.
    #[must_use]
    pub fn sorted(mut self) -> Self {
        self.items.sort();
        self
    }
}

impl Session {
    /// LOGIN.
    ///
    /// # Errors
    /// When it is refused.
    pub fn log_in(&mut self) -> Result<()> {
        use crate::imap_server::{PASSWORD, USER};
        self.command(&format!("LOGIN {USER} {PASSWORD}"))?.ok().map(drop)
    }

    /// One response, octet for octet, with its literals and its line end.
    ///
    /// # Errors
    /// At the end of the stream.
    pub fn unit(&mut self) -> Result<Vec<u8>> {
        let mut unit = self.raw_line()?;
        // Status and tagged lines are text: there a number in braces is one, too.
        let text = ["* OK", "* NO", "* BAD", "* BYE"].iter().any(|word| unit.starts_with(word.as_bytes()));
        if text || !unit.starts_with(b"* ") {
            return Ok(unit);
        }
        while let Some(octets) = literal_size(&unit) {
            ensure!(octets <= LITERAL_BYTES_MAX, "a literal of {octets} octets");
            unit.extend(self.literal(octets)?);
            unit.extend(self.raw_line()?);
        }
        Ok(unit)
    }

    /// Send a command and read its reply.
    ///
    /// # Errors
    /// At the end of the stream.
    pub fn exchange(&mut self, text: &str) -> Result<Reply> {
        let tag = self.send_command(text)?;
        self.reply(&tag).with_context(|| text.to_owned())
    }

    /// Read until the tagged line.
    ///
    /// # Errors
    /// At the end of the stream.
    pub fn reply(&mut self, tag: &str) -> Result<Reply> {
        let mut units = Vec::new();
        loop {
            let unit = self.unit().with_context(|| {
                let last = units.last().map(|unit: &Vec<u8>| shown(unit)).unwrap_or_default();
                format!("after {} responses, the last of which is {last}", units.len())
            })?;
            let tagged = unit.strip_prefix(tag.as_bytes()).and_then(|rest| rest.strip_prefix(b" "));
            if let Some(tagged) = tagged {
                let tagged = String::from_utf8_lossy(tagged).trim_end().to_owned();
                return Ok(Reply { units, tagged });
            }
            units.push(unit);
        }
    }

    /// APPEND with a literal that waits for its continuation; `between` stands between folder and literal.
    ///
    /// # Errors
    /// At the end of the stream; a refusal is a reply.
    pub fn upload(&mut self, folder: &str, between: &str, message: &[u8]) -> Result<Reply> {
        let tag = self.send_command(&format!("APPEND {folder} {between}{{{}}}", message.len()))?;
        let mut early = Vec::new();
        loop {
            let unit = self.unit()?;
            if unit.starts_with(b"+") {
                break;
            }
            if let Some(rest) = unit.strip_prefix(format!("{tag} ").as_bytes()) {
                let tagged = String::from_utf8_lossy(rest).trim_end().to_owned();
                return Ok(Reply { units: early, tagged });
            }
            early.push(unit);
        }
        self.send(message)?;
        self.send(b"\r\n")?;
        let mut reply = self.reply(&tag)?;
        reply.units.splice(0..0, early);
        Ok(reply)
    }
}

/// `{n}` or `~{n}` at the end of a line.
fn literal_size(line: &[u8]) -> Option<usize> {
    let inner = line.strip_suffix(b"}\r\n")?;
    let open = inner.iter().rposition(|&octet| octet == b'{')?;
    std::str::from_utf8(inner.get(open + 1..)?).ok()?.parse().ok()
}

/// What a FETCH response holds; `None` for another response.
///
/// # Errors
/// When it is one and cannot be read.
pub fn fetched(unit: &[u8]) -> Result<Option<Fetched>> {
    let mut words = unit.splitn(4, |&octet| octet == b' ');
    let (star, number, name) = (words.next(), words.next(), words.next());
    if star != Some(b"*") || !name.is_some_and(|name| name.eq_ignore_ascii_case(b"FETCH")) {
        return Ok(None);
    }
    let number = std::str::from_utf8(number.unwrap_or_default())?.parse()?;
    let mut reader = Reader { rest: words.next().context("a FETCH response without items")? };
    reader.expect(b'(')?;
    let mut items = Vec::new();
    while reader.peek() != Some(b')') {
        let name = reader.name()?;
        reader.expect(b' ')?;
        items.push((name, reader.value()?));
        if reader.peek() == Some(b' ') {
            reader.expect(b' ')?;
        }
    }
    ensure!(reader.rest == b")\r\n", "behind the items: {}", shown(reader.rest));
    Ok(Some(Fetched { number, items }))
}

/// A walk through one response.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    fn expect(&mut self, octet: u8) -> Result<()> {
        self.rest = self
            .rest
            .strip_prefix(&[octet])
            .with_context(|| format!("no {:?} but {}", char::from(octet), shown(self.rest)))?;
        Ok(())
    }

    fn take(&mut self, octets: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(octets).context("the response is cut short")?;
        self.rest = rest;
        Ok(taken)
    }

    /// An item's name: brackets may hold spaces.
    fn name(&mut self) -> Result<String> {
        let mut depth = 0_u32;
        let end = self.rest.iter().position(|octet| {
            match octet {
                b'[' => depth += 1,
                b']' => depth = depth.saturating_sub(1),
                _ => {}
            }
            depth == 0 && matches!(octet, b' ' | b')')
        });
        let name = self.take(end.context("an item without value")?)?;
        ensure!(!name.is_empty(), "an item without name before {}", shown(self.rest));
        Ok(String::from_utf8_lossy(name).into_owned())
    }

    fn value(&mut self) -> Result<Value> {
        match self.peek().context("an item without value")? {
            b'"' => Ok(Value::Octets(self.quoted()?)),
            b'{' | b'~' => Ok(Value::Octets(self.literal()?)),
            b'(' => self.list().map(|list| Value::Other(list.to_vec())),
            _ => {
                let end = self.rest.iter().position(|octet| matches!(octet, b' ' | b')' | b'\r'));
                let atom = self.take(end.context("a value without end")?)?;
                ensure!(!atom.is_empty(), "an empty value before {}", shown(self.rest));
                let nil = atom.eq_ignore_ascii_case(b"NIL");
                Ok(if nil { Value::Nil } else { Value::Other(atom.to_vec()) })
            }
        }
    }

    fn quoted(&mut self) -> Result<Vec<u8>> {
        self.expect(b'"')?;
        let mut octets = Vec::new();
        loop {
            match *self.take(1)? {
                [b'"'] => return Ok(octets),
                [b'\\'] => octets.extend_from_slice(self.take(1)?),
                [octet] => octets.push(octet),
                _ => bail!("a string without end"),
            }
        }
    }

    fn literal(&mut self) -> Result<Vec<u8>> {
        let end = self.rest.iter().position(|&octet| octet == b'\n').context("a literal without line end")?;
        let head = self.take(end + 1)?;
        let octets = literal_size(head).with_context(|| format!("no literal: {}", shown(head)))?;
        Ok(self.take(octets)?.to_vec())
    }

    fn list(&mut self) -> Result<&'a [u8]> {
        let whole = self.rest;
        let mut depth = 0_u32;
        loop {
            match self.peek().context("a list without end")? {
                b'"' => drop(self.quoted()?),
                b'{' if literal_size(self.line()).is_some() => drop(self.literal()?),
                octet => {
                    self.take(1)?;
                    match octet {
                        b'(' => depth += 1,
                        b')' => depth = depth.saturating_sub(1),
                        _ => {}
                    }
                    if depth == 0 {
                        break;
                    }
                }
            }
        }
        whole.get(..whole.len() - self.rest.len()).context("a list")
    }

    /// What is left of this line, with its end.
    fn line(&self) -> &'a [u8] {
        self.rest.split_inclusive(|&octet| octet == b'\n').next().unwrap_or_default()
    }
}

/// A parenthesised value as a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tree {
    /// A list.
    List(Vec<Tree>),
    /// An atom, a number or a string.
    Word(Vec<u8>),
}

/// The leaves of a BODYSTRUCTURE: section, type in lower case, octets.
///
/// # Errors
/// When it cannot be read.
pub fn leaves(structure: &[u8]) -> Result<BTreeMap<String, (String, u64)>> {
    let mut reader = Reader { rest: structure };
    let tree = tree(&mut reader)?;
    let mut found = BTreeMap::new();
    walk(&tree, "", &mut found)?;
    Ok(found)
}

fn tree(reader: &mut Reader<'_>) -> Result<Tree> {
    match reader.peek().context("a structure without end")? {
        b'(' => {
            reader.expect(b'(')?;
            let mut list = Vec::new();
            loop {
                match reader.peek().context("a structure without end")? {
                    b')' => break,
                    b' ' => reader.expect(b' ')?,
                    _ => list.push(tree(reader)?),
                }
            }
            reader.expect(b')')?;
            Ok(Tree::List(list))
        }
        b'"' => Ok(Tree::Word(reader.quoted()?)),
        b'{' => Ok(Tree::Word(reader.literal()?)),
        _ => {
            let end = reader.rest.iter().position(|octet| matches!(octet, b' ' | b')'));
            Ok(Tree::Word(reader.take(end.unwrap_or(reader.rest.len()))?.to_vec()))
        }
    }
}

fn walk(tree: &Tree, path: &str, found: &mut BTreeMap<String, (String, u64)>) -> Result<()> {
    let Tree::List(list) = tree else { bail!("no body: {tree:?}") };
    let below = |number: usize| {
        if path.is_empty() { number.to_string() } else { format!("{path}.{number}") }
    };
    if matches!(list.first(), Some(Tree::List(_))) {
        let parts = list.iter().take_while(|part| matches!(part, Tree::List(_)));
        return parts.enumerate().try_for_each(|(at, part)| walk(part, &below(at + 1), found));
    }
    let word = |at: usize| match list.get(at) {
        Some(Tree::Word(word)) => String::from_utf8_lossy(word).to_lowercase(),
        _ => String::new(),
    };
    let own = if path.is_empty() { "1".to_owned() } else { path.to_owned() };
    let media = format!("{}/{}", word(0), word(1));
    found.insert(own, (media, word(6).parse().unwrap_or_default()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_gives_its_items_with_their_octets() {
        let unit = b"* 12 FETCH (UID 3 FLAGS (\\Seen $x) BODY[HEADER.FIELDS (\"A\" b)] {5}\r\na) b\r BODY[1]<0> NIL \
                     ENVELOPE (\"a)\\\"\" NIL {2}\r\n)) x) BODY[2] \"q\\\\\" BINARY[2] ~{1}\r\n\0)\r\n";
        let fetched = fetched(unit).unwrap().unwrap();
        assert_eq!((fetched.number, fetched.uid()), (12, Some(3)));
        let names: Vec<_> = fetched.items.iter().map(|(name, _)| name.as_str()).collect();
        let wanted = [
            "UID",
            "FLAGS",
            "BODY[HEADER.FIELDS (\"A\" b)]",
            "BODY[1]<0>",
            "ENVELOPE",
            "BODY[2]",
            "BINARY[2]",
        ];
        assert_eq!(names, wanted);
        assert_eq!(fetched.content("BODY[HEADER"), Some(&b"a) b\r"[..]));
        assert_eq!(fetched.item("BODY[1]<0>"), Some(&Value::Nil));
        assert_eq!(fetched.content("BODY[2]"), Some(&b"q\\"[..]));
        assert_eq!(fetched.content("BINARY"), Some(&b"\0"[..]));
        assert!(super::fetched(b"* 3 EXISTS\r\n").unwrap().is_none());
    }

    #[test]
    fn a_response_that_is_cut_short_is_an_error() {
        for unit in
            [&b"* 1 FETCH (UID 3\r\n"[..], b"* 1 FETCH (BODY[] {9}\r\nabc)\r\n", b"* 1 FETCH (UID)\r\n"]
        {
            assert!(fetched(unit).is_err(), "{}", shown(unit));
        }
    }

    #[test]
    fn the_leaves_of_a_structure() {
        let structure = b"((\"text\" \"plain\" NIL NIL NIL \"7bit\" 4 1)((\"A\" \"B\" (\"name\" \"(\") NIL NIL \"base64\" 9)\
                          (\"c\" \"d\" NIL NIL NIL \"8bit\" 1) \"mixed\") \"mixed\" NIL)";
        let found = leaves(structure).unwrap();
        let found: Vec<_> =
            found.iter().map(|(at, (media, size))| (at.as_str(), media.as_str(), *size)).collect();
        assert_eq!(found, [("1", "text/plain", 4), ("2.1", "a/b", 9), ("2.2", "c/d", 1)]);
    }
}
