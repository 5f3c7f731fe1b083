//! Rules by content type: the declared ones, and the one that a file's octets show.

use super::super::RealType;
use super::names::{Pattern, lower};
use super::{RuleName, Ruling};
use crate::config::{ContentList, RuleAction};

/// What a part without a Content-Type is (RFC 2045 section 5.2).
const TYPE_OF_NO_TYPE: &str = "text/plain";
/// What says nothing about a file (RFC 2046 section 4.5.1).
const GENERIC_TYPE: &str = "application/octet-stream";
/// Characters of a declared type that records and patterns see (RFC 6838 section 4.2).
const TYPE_CHARS_MAX: usize = 255;

/// Rules by content type, in the order in which they count.
#[derive(Clone, Debug)]
pub(super) struct TypeRules {
    entries: Vec<TypeEntry>,
    /// Lists, by what files are by their octets, in the order in which they count.
    pub(super) lists: Vec<(ContentList, &'static [RealType], RuleAction)>,
    /// Programs are removed.
    pub(super) executable: bool,
    /// The type that a file's octets show is compared with the patterns.
    pub(super) detects: bool,
    unmatched: RuleAction,
}

#[derive(Clone, Debug)]
pub(super) struct TypeEntry {
    pub(super) pattern: Pattern,
    pub(super) action: RuleAction,
}

impl TypeRules {
    /// From entries in the order of the configuration.
    pub(super) fn new(mut entries: Vec<TypeEntry>, detects: bool, unmatched: RuleAction) -> Self {
        entries.sort_by_key(|entry| !entry.pattern.is_exact());
        Self { entries, lists: Vec::new(), executable: false, detects, unmatched }
    }

    /// What rules that fit say of a file of these types; the strictest counts.
    pub(super) fn fitting(&self, declared: &[String], real: Option<RealType>) -> Option<Ruling> {
        let mut ruling = real.and_then(|real| self.by_octets(real));
        let detected = real.filter(|_| self.detects).map(RealType::media_type);
        for kind in detected.into_iter().chain(declared.iter().map(String::as_str)) {
            ruling = Ruling::strictest(ruling, self.entry(kind));
        }
        ruling
    }

    /// What the rules say of a whole file, `types_unmatched` among them. A part of a mail has a type where it declares none.
    pub(super) fn ruling(&self, declared: &[String], real: Option<RealType>, is_member: bool) -> Ruling {
        // Text is what files are that are nothing else. In another reading, encoded files are text, too.
        let detected = real.filter(|real| self.detects && *real != RealType::Text).map(RealType::media_type);
        let mut types: Vec<&str> = detected.into_iter().chain(declared.iter().map(String::as_str)).collect();
        let has_meaning = types.iter().any(|kind| *kind != GENERIC_TYPE);
        types.retain(|kind| !has_meaning || *kind != GENERIC_TYPE);
        if types.is_empty() {
            types.push(if is_member { GENERIC_TYPE } else { TYPE_OF_NO_TYPE });
        }
        let by_octets = real.and_then(|real| self.by_octets(real));
        // What is forbidden or allowed by its octets has been spoken of.
        let spoken_of = detected.filter(|_| by_octets.is_some());
        // What no entry fits inside another file is scanned: no sender declares its type.
        let unmatched = |kind: &str| Ruling {
            action: if is_member { RuleAction::AvScan } else { self.unmatched },
            rule: RuleName::UnmatchedType { media_type: cut(kind) },
        };
        let mut ruling = by_octets;
        for kind in types {
            let of_type = self.entry(kind).or_else(|| (spoken_of != Some(kind)).then(|| unmatched(kind)));
            ruling = Ruling::strictest(ruling, of_type);
        }
        ruling.unwrap_or_else(|| unmatched(GENERIC_TYPE))
    }

    fn entry(&self, kind: &str) -> Option<Ruling> {
        if self.entries.is_empty() {
            return None;
        }
        let characters = lower(&cut(kind));
        let entry = self.entries.iter().find(|entry| entry.pattern.matches(&characters))?;
        let rule = RuleName::Media { media_type: cut(kind), pattern: entry.pattern.written.clone() };
        Some(Ruling { action: entry.action, rule })
    }

    fn by_octets(&self, real: RealType) -> Option<Ruling> {
        let executable = self.executable && real.is_program();
        let programs =
            executable.then_some(Ruling { action: RuleAction::Remove, rule: RuleName::Type(real) });
        // What the owner wrote makes exceptions from lists.
        let is_written = self.detects && self.entry(real.media_type()).is_some();
        let list = self.lists.iter().find(|(_, types, _)| !is_written && types.contains(&real));
        let of_list = list.map(|(list, _, action)| Ruling {
            action: *action,
            rule: RuleName::List { list: list.as_str().to_owned(), found: real.media_type().to_owned() },
        });
        Ruling::strictest(programs, of_list)
    }
}

fn cut(kind: &str) -> String {
    kind.chars().take(TYPE_CHARS_MAX).collect()
}
