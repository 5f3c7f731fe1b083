use serde::{Deserialize, Serialize};

use super::fault::Reason;
use super::kinds::TextValue;
use super::setting::StandIn;
use crate::content::notice::{Variable, ascii};

/// Characters of a deny message. A long one would push the reason out of small parts.
const DENY_MESSAGE_CHARS_MAX: usize = 300;
/// Octets of a media type: 127 on either side of the `/` (RFC 6838 section 4.2).
const MEDIA_TYPE_BYTES_MAX: usize = 255;

/// A pattern for media types, in lower case. `*` stands for any characters, also none, and `?` for one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MediaTypePattern(pub(crate) String);

impl MediaTypePattern {
    /// The pattern.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TextValue for MediaTypePattern {
    type Value = Self;
    const WHAT: &'static str = "a pattern for media types";

    fn parse(text: &str) -> Result<Self, Reason> {
        let remedy =
            "write a type and a subtype, such as \"application/pdf\" or \"image/*\", without parameters";
        let is_character = |octet: u8| octet.is_ascii_graphic() && !b"()<>@,;:\\\"[]=".contains(&octet);
        let has_form = match text.split_once('/') {
            Some((kind, subtype)) => !kind.is_empty() && !subtype.is_empty() && !subtype.contains('/'),
            None => text == "*",
        };
        if !has_form || text.len() > MEDIA_TYPE_BYTES_MAX || !text.bytes().all(is_character) {
            return Err(Reason::unfit("not a pattern for media types", remedy));
        }
        Ok(Self(text.to_ascii_lowercase()))
    }

    fn show(value: &Self) -> String {
        value.0.clone()
    }
}

impl StandIn for MediaTypePattern {
    fn stand_in() -> Self {
        Self(String::new())
    }
}

/// SHA-256 of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FileHash(pub [u8; 32]);

impl FileHash {
    /// From 64 hexadecimal digits.
    pub(crate) fn of_digits(text: &str) -> Option<Self> {
        let (digits, rest) = text.as_bytes().as_chunks::<2>();
        let mut octets = [0; 32];
        if digits.len() != octets.len() || !rest.is_empty() {
            return None;
        }
        for (place, [high, low]) in octets.iter_mut().zip(digits) {
            let digit = |octet: u8| char::from(octet).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            *place = digit(*high)? << 4 | digit(*low)?;
        }
        Some(Self(octets))
    }
}

impl TextValue for FileHash {
    type Value = Self;
    const WHAT: &'static str = "the SHA-256 of a file";

    fn parse(text: &str) -> Result<Self, Reason> {
        let remedy = "write the 64 hexadecimal digits that `sha256sum FILE` prints";
        Self::of_digits(text).ok_or_else(|| Reason::unfit("not a SHA-256", remedy))
    }

    fn show(value: &Self) -> String {
        value.0.iter().map(|octet| format!("{octet:02x}")).collect()
    }
}

/// A deny message, with variables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DenyMessage(pub(crate) String);

impl DenyMessage {
    /// The text as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// How the file spells a [`DenyMessage`].
pub(super) struct DenyMessageText;

impl TextValue for DenyMessageText {
    type Value = DenyMessage;
    const WHAT: &'static str = "a text with variables";

    fn parse(text: &str) -> Result<DenyMessage, Reason> {
        let known = || Variable::ALL.map(Variable::written).join(", ");
        if text.trim().is_empty() {
            return Err(Reason::Empty { remedy: "write a sentence, or remove the line for the usual one" });
        }
        if text.chars().count() > DENY_MESSAGE_CHARS_MAX {
            let what = format!("longer than {DENY_MESSAGE_CHARS_MAX} characters");
            return Err(Reason::unfit(what, "write less: small parts have no room for it"));
        }
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once('%') {
            if let Some(unfit) = before.chars().find(|c| !shows_alike(*c)) {
                return Err(unshown(unfit));
            }
            let variable = behind.strip_prefix('(').and_then(|behind| behind.split_once(")%"));
            let Some((name, behind)) = variable else {
                return Err(Reason::unfit(
                    "`%` begins no variable",
                    format!("the variables are {}", known()),
                ));
            };
            if Variable::of(name).is_none() {
                let shown: String = name.chars().take(32).collect();
                return Err(Reason::unfit(
                    format!("unknown variable %({shown})%"),
                    format!("the variables are {}", known()),
                ));
            }
            rest = behind;
        }
        match rest.chars().find(|c| !shows_alike(*c)) {
            Some(unfit) => Err(unshown(unfit)),
            None => Ok(DenyMessage(text.to_owned())),
        }
    }

    fn show(value: &DenyMessage) -> String {
        value.0.clone()
    }
}

/// Whether a character is shown in every charset and in HTML: itself, or letters of ASCII in its place.
fn shows_alike(c: char) -> bool {
    matches!(c, ' '..='~') && !"<>&=\"\\".contains(c) || !c.is_ascii() && ascii(c).is_some()
}

fn unshown(c: char) -> Reason {
    Reason::unfit(
        format!("{c:?} cannot be shown in every charset and in HTML"),
        "use letters, digits and punctuation of Latin script, but none of < > & = \" \\",
    )
}
