//! Rich Text Format: embedded objects, hexadecimal or binary, and templates from elsewhere.
//!
//! Word skips what it does not know, at any place, also between two digits. So digits are gathered across white space,
//! control words and groups inside of the object's group.

use std::borrow::Cow;

use memchr::memmem;

use super::octets::{latin, le32, length, part};
use super::{Opening, ole};
use crate::content::Condition;
use crate::content::magic::OLE;
use crate::content::reading::hex;

/// Groups inside each other. Word refuses far fewer.
const DEPTH_MAX: usize = 10_000;
/// Letters of a control word. Word takes 32; what is longer is cut there.
const WORD_CHARS_MAX: usize = 40;
/// Octets of the place of a template that are read.
const PLACE_BYTES_MAX: usize = 4_096;
/// OLE 1: an object that is linked, and one that is embedded ([MS-OLEDS] section 2.2).
const LINKED: u32 = 1;

/// What the text of a group is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Destination {
    Other,
    Object,
    Template,
    Field,
}

/// Give the embedded objects.
pub(super) fn open(octets: &[u8], opening: &mut Opening<'_, '_>) {
    if !opening.takes(octets.len()) {
        return;
    }
    let mut reader = Reader {
        opening,
        groups: Vec::new(),
        digits: Digits::default(),
        direct: Digits::default(),
        depth: 0,
        text: Vec::new(),
        count: 0,
    };
    let mut rest = octets;
    while let Some((first, behind)) = rest.split_first() {
        if reader.opening.is_ended() {
            return;
        }
        rest = match first {
            b'{' => {
                reader.begin();
                behind
            }
            b'}' => {
                reader.end();
                behind
            }
            b'\\' => reader.control(behind),
            _ => {
                reader.text(*first);
                behind
            }
        };
    }
    while !reader.groups.is_empty() {
        reader.end();
    }
}

/// Hexadecimal digits, two an octet.
#[derive(Default)]
struct Digits {
    octets: Vec<u8>,
    high: Option<u8>,
}

impl Digits {
    fn push(&mut self, value: u8) {
        match self.high.take() {
            Some(high) => self.octets.push(high << 4 | value),
            None => self.high = Some(value),
        }
    }
}

struct Reader<'r, 'o, 'v> {
    opening: &'r mut Opening<'o, 'v>,
    groups: Vec<Destination>,
    /// The digits of an object in every group of its own, and those outside of inner groups: some readers skip these.
    digits: Digits,
    direct: Digits,
    /// The groups around the object.
    depth: usize,
    text: Vec<u8>,
    count: u32,
}

impl Reader<'_, '_, '_> {
    fn destination(&self) -> Destination {
        self.groups.last().copied().unwrap_or(Destination::Other)
    }

    fn begin(&mut self) {
        if self.groups.len() < DEPTH_MAX {
            self.groups.push(self.destination());
        }
    }

    fn end(&mut self) {
        let ended = self.groups.pop().unwrap_or(Destination::Other);
        if ended == self.destination() && !self.groups.is_empty() {
            return;
        }
        match ended {
            Destination::Object => self.object(),
            Destination::Template => {
                let place = latin(&std::mem::take(&mut self.text)).replace('/', "\\").to_ascii_lowercase();
                if place.contains("\\\\") {
                    self.opening.found(Condition::ExternalReference);
                }
            }
            Destination::Field => {
                let field = std::mem::take(&mut self.text).to_ascii_uppercase();
                let is_exchange =
                    memmem::find(&field, b"DDEAUTO").is_some() || field.trim_ascii().starts_with(b"DDE ");
                if is_exchange {
                    self.opening.found(Condition::ExternalReference);
                }
            }
            Destination::Other => {}
        }
    }

    /// A control word or symbol, behind its backslash; what stands behind it.
    fn control<'t>(&mut self, rest: &'t [u8]) -> &'t [u8] {
        let letters = rest.iter().take_while(|octet| octet.is_ascii_alphabetic()).count();
        if letters == 0 {
            return self.symbol(rest);
        }
        let (word, behind) = rest.split_at(letters);
        let word = word.get(..WORD_CHARS_MAX).unwrap_or(word).to_ascii_lowercase();
        let digits_from = usize::from(behind.first() == Some(&b'-'));
        let digits = behind.iter().skip(digits_from).take_while(|octet| octet.is_ascii_digit()).count();
        let number = behind.get(digits_from..digits_from.saturating_add(digits)).unwrap_or_default();
        let number = std::str::from_utf8(number).ok().and_then(|number| number.parse::<u32>().ok());
        let is_negative = digits_from > 0;
        let skipped = if digits == 0 { 0 } else { digits_from.saturating_add(digits) };
        let mut behind = behind.get(skipped..).unwrap_or_default();
        behind = behind.strip_prefix(b" ").unwrap_or(behind);
        match word.as_slice() {
            b"objdata" => self.become_of(Destination::Object),
            b"template" => self.become_of(Destination::Template),
            b"fldinst" => self.become_of(Destination::Field),
            b"bin" => {
                // A count that cannot be right skips nothing: readers differ, and what follows would be hidden.
                let count = number.filter(|count| !is_negative && i32::try_from(*count).is_ok());
                let data = behind.get(..count.map_or(0, length)).unwrap_or_default();
                if self.destination() == Destination::Object {
                    self.digits.octets.extend_from_slice(data);
                    if self.groups.len() == self.depth {
                        self.direct.octets.extend_from_slice(data);
                    }
                }
                behind = behind.get(data.len()..).unwrap_or_default();
            }
            b"u" => {
                if let Some(octet) = number.and_then(|number| u8::try_from(number).ok()) {
                    self.character(octet);
                }
                // What stands for the character where a reader does not know it.
                behind = behind.strip_prefix(b"?").unwrap_or(behind);
            }
            _ => {}
        }
        behind
    }

    fn symbol<'t>(&mut self, rest: &'t [u8]) -> &'t [u8] {
        match rest {
            [b'\'', high, low, behind @ ..] => {
                if let Some((high, low)) = hex(*high).zip(hex(*low)) {
                    self.character(high << 4 | low);
                }
                behind
            }
            [first @ (b'\\' | b'{' | b'}'), behind @ ..] => {
                self.character(*first);
                behind
            }
            [_, behind @ ..] => behind,
            [] => &[],
        }
    }

    fn become_of(&mut self, destination: Destination) {
        if self.destination() == Destination::Object && destination != Destination::Object {
            return;
        }
        // A second word of that name in one group begins the object anew.
        if destination == Destination::Object && !self.digits.octets.is_empty() {
            self.object();
        }
        self.text.clear();
        match self.groups.last_mut() {
            Some(group) => *group = destination,
            None => self.groups.push(destination),
        }
        if destination == Destination::Object {
            self.depth = self.groups.len();
        }
    }

    /// A character that is no digit of an object.
    fn character(&mut self, octet: u8) {
        let wants = matches!(self.destination(), Destination::Template | Destination::Field);
        if wants && self.text.len() < PLACE_BYTES_MAX {
            self.text.push(octet);
        }
    }

    fn text(&mut self, octet: u8) {
        if self.destination() != Destination::Object {
            if !matches!(octet, b'\r' | b'\n') {
                self.character(octet);
            }
            return;
        }
        if let Some(value) = hex(octet) {
            self.digits.push(value);
            if self.groups.len() == self.depth {
                self.direct.push(value);
            }
        }
    }

    /// An object is complete.
    fn object(&mut self) {
        let octets = std::mem::take(&mut self.digits).octets;
        let direct = std::mem::take(&mut self.direct).octets;
        if direct != octets && self.opening.takes(direct.len()) {
            self.reading(direct);
        }
        self.reading(octets);
    }

    /// One reading of an object.
    fn reading(&mut self, octets: Vec<u8>) {
        if octets.is_empty() {
            return;
        }
        self.count = self.count.saturating_add(1);
        let name = format!("object-{}", self.count);
        match fields(&octets) {
            Some((LINKED, _, _)) => self.opening.found(Condition::ExternalReference),
            Some((_, class, native)) if class.eq_ignore_ascii_case(b"package") => {
                ole::package(native, self.opening)
            }
            _ => {}
        }
        // A compound file is found wherever it begins: a wrong length before it hides nothing.
        if let Some(at) = memmem::find(&octets, &OLE) {
            self.opening.member(&[&name], octets.get(at..).unwrap_or_default());
        }
        if self.opening.takes(octets.len()) {
            self.opening.taken(&[&format!("{name}.objdata")], Vec::new(), Cow::Owned(octets));
        }
    }
}

/// The kind, the class and the data of an object of OLE 1.
fn fields(octets: &[u8]) -> Option<(u32, &[u8], &[u8])> {
    let kind = le32(octets, 4)?;
    let mut at = 8usize;
    let mut strings = [b"".as_slice(); 3];
    for string in &mut strings {
        let size = length(le32(octets, at)?);
        let text = part(octets, at.checked_add(4)?, size);
        *string = text.strip_suffix(b"\0").unwrap_or(text);
        at = at.checked_add(4)?.checked_add(size)?;
    }
    let [class, _, _] = strings;
    let size = le32(octets, at).map_or(0, length);
    Some((kind, class, part(octets, at.saturating_add(4), size)))
}
