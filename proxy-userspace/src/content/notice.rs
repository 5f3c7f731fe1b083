//! The deny message: what a reader sees in the place of what was removed.
//!
//! It is ASCII in every language: so it is the same in every charset, and a view that does not know the charset shows what
//! the others show. Letters with accents lose them.

/// Reasons and sentences in each language.
mod languages;

use std::fmt;

use self::languages::Wording;
use super::rules::RuleName;
use super::{Condition, ContentAction};
use crate::config::{DenyLanguage, DenyMessage};

/// Characters of a deny text, variables included. A long one would push the reason out of small leaves.
pub const DENY_TEXT_CHARS_MAX: usize = 500;
/// Characters that are shown of a name or a signature, which strangers choose.
const SHOWN_CHARS_MAX: usize = 64;
/// Of a longer one, this many are shown of the end: there stands what kind of file it is.
const SHOWN_END_CHARS: usize = 20;

/// What stands between `%(` and `)%`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variable {
    /// Why.
    Reason,
    /// The file's name.
    FileName,
    /// The signature.
    Virus,
    /// What was done.
    Action,
    /// How to get it back; empty where there is no way.
    Recovery,
}

impl Variable {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Reason, Self::FileName, Self::Virus, Self::Action, Self::Recovery];

    /// As a text has it.
    #[must_use]
    pub const fn written(self) -> &'static str {
        match self {
            Self::Reason => "%(reason)%",
            Self::FileName => "%(filename)%",
            Self::Virus => "%(virus)%",
            Self::Action => "%(action)%",
            Self::Recovery => "%(recovery)%",
        }
    }

    /// The one of this name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|variable| {
            let written = variable.written().strip_prefix("%(").and_then(|rest| rest.strip_suffix(")%"));
            written == Some(name)
        })
    }
}

/// What readers see in the place of what was removed: a text, or the usual one, in a language.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DenyNotice {
    message: Option<String>,
    language: DenyLanguage,
}

/// What was removed, as far as the deny message speaks of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removed {
    /// The rule.
    pub rule: RuleName,
    /// The file's name, where it is known.
    pub name: Option<String>,
    /// What was done.
    pub action: ContentAction,
}

impl DenyNotice {
    /// With this text, or the usual one.
    #[must_use]
    pub fn new(message: Option<&DenyMessage>, language: DenyLanguage) -> Self {
        Self { message: message.map(|message| message.as_str().to_owned()), language }
    }

    /// The text for what was removed: [`DENY_TEXT_CHARS_MAX`] plain characters at most.
    #[must_use]
    pub fn text(&self, removed: &Removed) -> String {
        let wording = Wording::of(self.language);
        let usual = match removed.rule {
            RuleName::Condition(Condition::MimeLimits) => wording.mail,
            _ => wording.attachment,
        };
        let mut text = String::new();
        let mut rest = self.message.as_deref().unwrap_or(usual);
        while let Some((before, behind)) = rest.split_once("%(") {
            text.push_str(before);
            let (name, behind) = behind.split_once(")%").unwrap_or((behind, ""));
            if let Some(variable) = Variable::of(name) {
                text.push_str(&value(variable, removed, &wording));
            }
            rest = behind;
        }
        text.push_str(rest);
        plain_text(&text).chars().take(DENY_TEXT_CHARS_MAX).collect()
    }
}

/// What stands in the place of a variable.
fn value(variable: Variable, removed: &Removed, wording: &Wording) -> String {
    match variable {
        Variable::Reason => wording.reason_words(&removed.rule),
        Variable::FileName => removed.name.as_deref().map(shown).unwrap_or_default(),
        Variable::Virus => match &removed.rule {
            RuleName::Virus { signature, .. } => shown(signature),
            RuleName::Eicar => "EICAR".to_owned(),
            _ => String::new(),
        },
        Variable::Action => match removed.action {
            ContentAction::Allow => String::new(),
            ContentAction::Remove => wording.removed.to_owned(),
            ContentAction::Deny => wording.denied.to_owned(),
        },
        Variable::Recovery => String::new(),
    }
}

/// As much of a stranger's text as is shown.
fn shown(text: &str) -> String {
    let text = plain_text(text);
    let count = text.chars().count();
    if count <= SHOWN_CHARS_MAX {
        return text;
    }
    let begin: String = text.chars().take(SHOWN_CHARS_MAX - SHOWN_END_CHARS).collect();
    let end: String = text.chars().skip(count - SHOWN_END_CHARS).collect();
    format!("{begin}...{end}")
}

/// Characters that are themselves in every charset that holds ASCII.
fn plain_text(text: &str) -> String {
    let mut plain_text = String::with_capacity(text.len());
    for c in text.chars() {
        match ascii(c) {
            Some(letters) if !c.is_ascii() => plain_text.push_str(letters),
            _ => plain_text.push(plain(c)),
        }
    }
    plain_text
}

/// A character that is itself in HTML, in quoted-printable, in a quoted string, and in every charset that holds ASCII.
pub(super) const fn plain(c: char) -> char {
    match c {
        '<' | '>' | '&' | '=' | '%' | '"' | '\\' => '_',
        ' '..='~' => c,
        _ => '?',
    }
}

/// What is written in the place of a character outside ASCII, where there is something.
#[must_use]
pub const fn ascii(c: char) -> Option<&'static str> {
    Some(match c {
        'À' | 'Á' | 'Â' | 'Ã' | 'Å' | 'Ā' | 'Ă' | 'Ą' => "A",
        'à' | 'á' | 'â' | 'ã' | 'å' | 'ā' | 'ă' | 'ą' | 'ª' => "a",
        'Ä' | 'Æ' => "Ae",
        'ä' | 'æ' => "ae",
        'Ç' | 'Ć' | 'Č' => "C",
        'ç' | 'ć' | 'č' => "c",
        'Ð' | 'Ď' | 'Đ' => "D",
        'ð' | 'ď' | 'đ' => "d",
        'È' | 'É' | 'Ê' | 'Ë' | 'Ē' | 'Ė' | 'Ę' | 'Ě' => "E",
        'è' | 'é' | 'ê' | 'ë' | 'ē' | 'ė' | 'ę' | 'ě' => "e",
        'Ğ' | 'Ģ' => "G",
        'ğ' | 'ģ' => "g",
        'Ì' | 'Í' | 'Î' | 'Ï' | 'Ī' | 'Į' | 'İ' => "I",
        'ì' | 'í' | 'î' | 'ï' | 'ī' | 'į' | 'ı' => "i",
        'Ķ' => "K",
        'ķ' => "k",
        'Ĺ' | 'Ļ' | 'Ľ' | 'Ł' => "L",
        'ĺ' | 'ļ' | 'ľ' | 'ł' => "l",
        'Ñ' | 'Ń' | 'Ņ' | 'Ň' => "N",
        'ñ' | 'ń' | 'ņ' | 'ň' => "n",
        'Ò' | 'Ó' | 'Ô' | 'Õ' | 'Ō' => "O",
        'ò' | 'ó' | 'ô' | 'õ' | 'ō' | 'º' => "o",
        'Ö' | 'Ø' | 'Ő' | 'Œ' => "Oe",
        'ö' | 'ø' | 'ő' | 'œ' => "oe",
        'Ŕ' | 'Ř' => "R",
        'ŕ' | 'ř' => "r",
        'Ś' | 'Ş' | 'Š' | 'Ș' => "S",
        'ś' | 'ş' | 'š' | 'ș' => "s",
        'ß' => "ss",
        'Ţ' | 'Ť' | 'Ț' => "T",
        'ţ' | 'ť' | 'ț' => "t",
        'Þ' => "Th",
        'þ' => "th",
        'Ù' | 'Ú' | 'Û' | 'Ū' | 'Ů' | 'Ų' => "U",
        'ù' | 'ú' | 'û' | 'ū' | 'ů' | 'ų' => "u",
        'Ü' | 'Ű' => "Ue",
        'ü' | 'ű' => "ue",
        'Ý' | 'Ÿ' => "Y",
        'ý' | 'ÿ' => "y",
        'Ź' | 'Ż' | 'Ž' => "Z",
        'ź' | 'ż' | 'ž' => "z",
        '\u{2018}' | '\u{2019}' | '\u{201a}' | '\u{201c}' | '\u{201d}' | '\u{201e}' | '«' | '»' => "'",
        '\u{2010}'..='\u{2015}' => "-",
        '…' => "...",
        '€' => "EUR",
        '\u{a0}' | '\u{202f}' => " ",
        '¿' | '¡' => "",
        _ => return None,
    })
}

impl fmt::Display for RuleName {
    /// The reason, in words that the reader of a mail understands.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&Wording::of(DenyLanguage::En).reason_words(self))
    }
}

#[cfg(test)]
mod tests;
