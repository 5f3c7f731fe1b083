//! Rules by file name: patterns, and a name in each form in which a client may use it.

use super::{FilePlace, NAME_CHARS_MAX, PATTERN_CHARS_MAX, RuleName, RulesError, Ruling};
use crate::config::{ContentList, RuleAction};

/// Rules by file name, in the order in which they count.
#[derive(Clone, Debug)]
pub(super) struct NameRules {
    entries: Vec<NameEntry>,
    unmatched: RuleAction,
}

#[derive(Clone, Debug)]
pub(super) struct NameEntry {
    pub(super) pattern: Pattern,
    /// The list that has the pattern; none of a pattern that the owner wrote.
    pub(super) list: Option<ContentList>,
    pub(super) action: RuleAction,
}

impl NameRules {
    /// From entries in the order of the configuration.
    pub(super) fn new(mut entries: Vec<NameEntry>, unmatched: RuleAction) -> Self {
        entries.sort_by_key(|entry| !entry.pattern.is_exact());
        Self { entries, unmatched }
    }

    /// What the rules say of a file with these names; `None` where it has none.
    pub(super) fn ruling(&self, names: &[String], place: FilePlace) -> Option<Ruling> {
        // What no entry fits inside another file is scanned: its name is not the sender's word to the reader.
        let unmatched = if place == FilePlace::Part { self.unmatched } else { RuleAction::AvScan };
        if self.entries.is_empty() && unmatched == RuleAction::AvScan {
            return None;
        }
        // Pictures of a document are files of these kinds, and nobody clicks them.
        let counts = |entry: &NameEntry| {
            place != FilePlace::InDocument || entry.list != Some(ContentList::HtmlAttachments)
        };
        let mut ruling: Option<Ruling> = None;
        for name in names {
            for form in NameForms::new(name).iter().flat_map(|forms| &forms.0) {
                let mut entries = self.entries.iter().filter(|entry| counts(entry));
                let entry = entries.find(|entry| entry.pattern.matches(form));
                let action = entry.map_or(unmatched, |entry| entry.action);
                if ruling.as_ref().is_none_or(|ruling| action.weight() > ruling.action.weight()) {
                    ruling = Some(Ruling { action, rule: rule(name, entry) });
                }
            }
        }
        ruling
    }
}

fn rule(name: &str, entry: Option<&NameEntry>) -> RuleName {
    let name = name.to_owned();
    match entry {
        None => RuleName::UnmatchedName { name },
        Some(NameEntry { list: Some(list), .. }) => {
            RuleName::List { list: list.as_str().to_owned(), found: name }
        }
        Some(NameEntry { pattern, .. }) => RuleName::Name { name, pattern: pattern.written.clone() },
    }
}

/// A name, in the forms in which a client or a file system may use it.
struct NameForms(Vec<Vec<char>>);

impl NameForms {
    /// None where the name is longer than [`NAME_CHARS_MAX`]: the walker has refused it before.
    fn new(name: &str) -> Option<Self> {
        if name.chars().count() > NAME_CHARS_MAX {
            return None;
        }
        let whole: Vec<char> = lower(name);
        // Windows leaves trailing dots and spaces out; clients leave out what stands before the last separator.
        let trimmed: Vec<char> = trim(&whole).to_vec();
        let base: Vec<char> =
            trim(trimmed.rsplit(|c| matches!(c, '/' | '\\')).next().unwrap_or_default()).to_vec();
        // `name:stream` is the file `name` on NTFS.
        let main: Vec<char> = trim(base.split(|c| *c == ':').next().unwrap_or_default()).to_vec();
        // No pattern has a path: a name with one is ruled on by what stands behind it.
        let mut forms = if base.is_empty() { vec![whole, trimmed] } else { vec![base, main] };
        let bare: Vec<Vec<char>> = forms.iter().map(|form| without_blanks_in_extension(form)).collect();
        forms.extend(bare);
        forms.dedup();
        Some(Self(forms))
    }
}

fn trim(name: &[char]) -> &[char] {
    let is_quote = |c: &char| matches!(c, '"' | '\'');
    let is_blank = |c: &char| c.is_whitespace() || is_unseen(*c);
    let end = name.iter().rposition(|c| !(*c == '.' || is_quote(c) || is_blank(c))).map_or(0, |at| at + 1);
    let name = name.get(..end).unwrap_or_default();
    let begin = name.iter().position(|c| !(is_quote(c) || is_blank(c))).unwrap_or(end);
    name.get(begin..).unwrap_or_default()
}

/// Thunderbird leaves out blanks within the extension when it saves a file.
fn without_blanks_in_extension(name: &[char]) -> Vec<char> {
    let dot = name.iter().rposition(|c| *c == '.').unwrap_or(name.len());
    let (stem, end) = name.split_at_checked(dot).unwrap_or((name, &[]));
    let end = end.iter().filter(|c| !c.is_whitespace() && !is_unseen(**c));
    stem.iter().chain(end).copied().collect()
}

/// Characters that nobody sees: clients leave them out of names, or show nothing.
const fn is_unseen(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
    )
}

pub(super) fn lower(text: &str) -> Vec<char> {
    text.chars().filter(|c| !c.is_control()).flat_map(char::to_lowercase).collect()
}

/// A pattern: `*` stands for any characters, `?` for one; case does not count.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    pub(super) written: String,
    lower: Vec<char>,
}

impl Pattern {
    /// For file names.
    pub(super) fn new(value: &str) -> Result<Self, RulesError> {
        let fault = |why| Err(RulesError::Pattern { value: value.to_owned(), why });
        if value.trim().is_empty() {
            return fault("empty");
        }
        if value.chars().count() > PATTERN_CHARS_MAX {
            return fault("longer than 255 characters");
        }
        if value.chars().any(char::is_control) {
            return fault("control character");
        }
        if value.contains(['/', '\\']) {
            return fault("a name has no path");
        }
        if value.ends_with(['.', ' ']) || value.starts_with(' ') {
            return fault("dots and spaces at the end and spaces at the beginning never match");
        }
        Ok(Self::of_text(value))
    }

    /// For any text.
    pub(super) fn of_text(value: &str) -> Self {
        Self { written: value.to_owned(), lower: lower(value) }
    }

    /// Whether it stands for itself alone.
    pub(super) fn is_exact(&self) -> bool {
        !self.lower.iter().any(|c| matches!(c, '*' | '?'))
    }

    /// Goes back to the last `*` only: at worst the product of both lengths, and both are bounded.
    pub(super) fn matches(&self, name: &[char]) -> bool {
        // Most patterns are `*.exe`: the end decides nearly always, and costs the least.
        let tail = self.lower.iter().rposition(|p| *p == '*').and_then(|star| self.lower.get(star + 1..));
        let ends_like = |tail: &[char]| {
            let mut pairs = tail.iter().rev().zip(name.iter().rev());
            tail.len() <= name.len() && pairs.all(|(p, c)| *p == '?' || p == c)
        };
        if tail.is_some_and(|tail| !ends_like(tail)) {
            return false;
        }
        let (mut at, mut with) = (0, 0);
        let mut star: Option<(usize, usize)> = None;
        while let Some(c) = name.get(at) {
            match self.lower.get(with) {
                Some('*') => {
                    star = Some((with, at));
                    with += 1;
                }
                Some(p) if *p == '?' || p == c => {
                    at += 1;
                    with += 1;
                }
                _ => {
                    let Some((behind, from)) = star else { return false };
                    star = Some((behind, from + 1));
                    with = behind + 1;
                    at = from + 1;
                }
            }
        }
        self.lower.get(with..).unwrap_or_default().iter().all(|p| *p == '*')
    }
}
