//! Names of members, in the forms in which readers take them.
//!
//! Archives say seldom in which character set a name is, and may name a member more than once. Rules see every form.

use std::sync::LazyLock;

/// Characters of a name. Of a longer one the end is kept, where the extension stands.
const NAME_CHARS_MAX: usize = 1_024;
/// Names of one member.
const NAMES_MAX: usize = 16;

/// The upper half of the character set of DOS, which ZIP has where nothing else is said.
const CP437: &str = "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀\
                     αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{a0}";

/// The names of one member, without repetition.
#[derive(Clone, Debug, Default)]
pub(super) struct Names(Vec<String>);

impl Names {
    /// Of octets in an unknown character set. Behind a NUL some readers read on, and others do not.
    pub(super) fn of(raw: &[u8]) -> Self {
        let mut names = Self::default();
        names.add_raw(raw);
        names
    }

    /// One more name, in an unknown character set.
    pub(super) fn add_raw(&mut self, raw: &[u8]) {
        for raw in [raw, super::octets::until_nul(raw)] {
            if let Ok(name) = std::str::from_utf8(raw) {
                self.add(name);
            }
            if !raw.is_ascii() {
                self.add(&raw.iter().map(|octet| cp437(*octet)).collect::<String>());
            }
        }
    }

    /// One more name in UTF-16. Half a character at the end is left out.
    pub(super) fn add_utf16(&mut self, raw: &[u8], of: fn([u8; 2]) -> u16) {
        let (units, _) = raw.as_chunks::<2>();
        self.add(&String::from_utf16_lossy(&units.iter().map(|unit| of(*unit)).collect::<Vec<_>>()));
    }

    /// One more name.
    pub(super) fn add(&mut self, name: &str) {
        let name = name.chars().filter(|c| !c.is_control()).collect::<Vec<_>>();
        let end = name.get(name.len().saturating_sub(NAME_CHARS_MAX)..).unwrap_or_default();
        let name = end.iter().collect::<String>();
        if !name.is_empty() && self.0.len() < NAMES_MAX && !self.0.contains(&name) {
            self.0.push(name);
        }
    }

    /// The names of another record of the same member.
    pub(super) fn add_all(&mut self, others: &Self) {
        others.0.iter().for_each(|name| self.add(name));
    }

    /// The names before one of which a path stands.
    pub(super) fn below(&self, path: &str) -> Self {
        if path.is_empty() {
            return self.clone();
        }
        let mut names = Self::default();
        self.0.iter().for_each(|name| names.add(&format!("{path}/{name}")));
        names
    }

    /// The first one, empty where there is none.
    pub(super) fn first(&self) -> &str {
        self.0.first().map_or("", String::as_str)
    }

    /// All of them.
    pub(super) fn to_vec(&self) -> Vec<String> {
        self.0.clone()
    }
}

/// [`CP437`], to look up a character at once: names are long, and there are many.
static UPPER_HALF: LazyLock<Vec<char>> = LazyLock::new(|| CP437.chars().collect());

fn cp437(octet: u8) -> char {
    match octet.checked_sub(128) {
        None => char::from(octet),
        Some(upper) => UPPER_HALF.get(usize::from(upper)).copied().unwrap_or(char::REPLACEMENT_CHARACTER),
    }
}
