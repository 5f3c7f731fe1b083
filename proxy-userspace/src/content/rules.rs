//! The judge of hard rules: EICAR always, then what the owner wrote about names, types and hashes.
//!
//! Rules speak of a file's names, of its types and of its hash, each for itself, and the strictest of what they say
//! counts. So a file is left unscanned only where names and types both say so.

/// Files by their SHA-256.
mod hashes;
/// What the lists hold that rules can name.
mod lists;
/// Rules by file name.
mod names;
/// From the configuration to compiled rules.
mod settings;
/// Rules by content type.
mod types;

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

pub(crate) use self::hashes::ContentMaterial;
pub use self::hashes::HashList;
use self::names::{NameEntry, NameRules, Pattern};
use self::types::TypeRules;
use super::eicar::Eicar;
use super::magic::TypeProbe;
use super::terms::ContentTerms;
use super::{Condition, Examination, Judge, LeafDecision, LeafHead, LeafOutcome, Reading, RealType};
use crate::config::RuleAction;

/// Characters of a pattern. A name on a disk has 255 at most.
pub const PATTERN_CHARS_MAX: usize = 255;
/// Patterns. Each name is compared with each.
pub const PATTERNS_MAX: usize = 1_000;
/// Characters of a name that is compared with patterns. A longer one is no name of a file, but might hide its end.
pub(crate) const NAME_CHARS_MAX: usize = 4_096;

/// The rule by which something is removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RuleName {
    /// The EICAR test file.
    Eicar,
    /// A name matches a pattern of `action.content.names` or `action.content.name_rule`.
    Name {
        /// The name that matches, without control characters.
        name: String,
        /// The pattern, as configured.
        pattern: String,
    },
    /// The real type is in a class of `action.content.types`.
    Type(RealType),
    /// A type matches a pattern of `action.content.type_rule`.
    Media {
        /// The type that matches: a declared one, or the one of [`RealType::media_type`].
        media_type: String,
        /// The pattern, as configured.
        pattern: String,
    },
    /// A name or a type stands in a list of `action.content.lists` or `action.content.list_rule`.
    List {
        /// The word of the list.
        list: String,
        /// The name or the type.
        found: String,
    },
    /// No rule fits the name, and `action.content.names_unmatched` speaks.
    UnmatchedName {
        /// The name.
        name: String,
    },
    /// No rule fits the type, and `action.content.types_unmatched` speaks.
    UnmatchedType {
        /// The type.
        media_type: String,
    },
    /// The file's hash is blocked.
    Hash {
        /// SHA-256 of the file, which may be inside another.
        sha256: [u8; 32],
    },
    /// A scanner knows it.
    Virus {
        /// The scanner.
        scanner: String,
        /// Its name for it.
        signature: String,
    },
    /// What was found in it.
    Condition(Condition),
}

impl RuleName {
    /// The token in records.
    #[must_use]
    pub const fn token(&self) -> &'static str {
        match self {
            Self::Eicar => "eicar",
            Self::Name { .. } => "names",
            Self::Type(_) | Self::Media { .. } => "types",
            Self::List { .. } => "lists",
            Self::UnmatchedName { .. } => "names_unmatched",
            Self::UnmatchedType { .. } => "types_unmatched",
            Self::Hash { .. } => "blocked_hash",
            Self::Virus { .. } => "virus",
            Self::Condition(condition) => condition.token(),
        }
    }

    /// The name by which the file was forbidden, where it was.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Name { name, .. } | Self::UnmatchedName { name } => Some(name),
            _ => None,
        }
    }
}

/// Why rules cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RulesError {
    /// A pattern matches nothing, or is none.
    #[error("names: {value:?}: {why}; write for example \"*.exe\"")]
    Pattern {
        /// The configured pattern.
        value: String,
        /// What is wrong.
        why: &'static str,
    },
    /// More than [`PATTERNS_MAX`] patterns.
    #[error("names: {count} patterns, room for {PATTERNS_MAX}; join some with \"*\" or \"?\"")]
    TooManyPatterns {
        /// How many there are.
        count: usize,
    },
    /// A class of types that does not exist.
    #[error("types: unknown class {value:?}; this version knows \"executable\"")]
    UnknownType {
        /// The configured class.
        value: String,
    },
}

impl RuleAction {
    /// The later ones outweigh those before.
    const fn weight(self) -> u8 {
        match self {
            Self::Allow => 0,
            Self::AvScan => 1,
            Self::Remove => 2,
            Self::Deny => 3,
        }
    }
}

/// What rules of one kind say of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ruling {
    action: RuleAction,
    rule: RuleName,
}

impl Ruling {
    /// The stricter one, and of equals the first.
    fn strictest(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        match (one, other) {
            (Some(one), Some(other)) if other.action.weight() > one.action.weight() => Some(other),
            (None, other) => other,
            (one, _) => one,
        }
    }

    fn outcome(self) -> LeafOutcome {
        match self.action {
            RuleAction::Allow | RuleAction::AvScan => LeafOutcome::Allow,
            RuleAction::Remove => LeafOutcome::Remove(self.rule),
            RuleAction::Deny => LeafOutcome::Deny(self.rule),
        }
    }
}

/// A file about which rules are asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct RuledFile<'a> {
    /// Its names, without control characters.
    pub(super) names: &'a [String],
    /// Its declared types, in lower case.
    pub(super) declared_types: &'a [String],
    /// What it is by its octets.
    pub(super) real_type: Option<RealType>,
    /// All of them.
    pub(super) octets: &'a [u8],
    /// Where it stands.
    pub(super) place: FilePlace,
}

/// Where a file stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FilePlace {
    /// A part of a mail.
    Part,
    /// Inside another file.
    Inside,
    /// Inside a document that is an archive of its parts (OOXML, ODF).
    InDocument,
}

/// What all rules say of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileRuling {
    /// What becomes of it by the rules.
    pub(super) outcome: LeafOutcome,
    /// Whether scanners and openers look at it.
    pub(super) is_scanned: bool,
}

/// Compiled rules. The EICAR test file is always forbidden.
#[derive(Clone, Debug)]
pub struct Rules {
    names: NameRules,
    types: Arc<TypeRules>,
    hashes: Arc<HashList>,
    terms: ContentTerms,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            names: NameRules::new(Vec::new(), RuleAction::AvScan),
            types: Arc::new(TypeRules::new(Vec::new(), true, RuleAction::AvScan)),
            hashes: Arc::default(),
            terms: ContentTerms::default(),
        }
    }
}

impl Rules {
    /// Rules that remove files of these names, in the words of `action.content.names`, and types, in those of
    /// `action.content.types`, and have the defaults for the rest.
    ///
    /// # Errors
    /// The first value that is wrong, and what to write in its place.
    pub fn new<N: AsRef<str>, T: AsRef<str>>(names: &[N], types: &[T]) -> Result<Self, RulesError> {
        if names.len() > PATTERNS_MAX {
            return Err(RulesError::TooManyPatterns { count: names.len() });
        }
        let entry = |name: &N| {
            let pattern = Pattern::new(name.as_ref())?;
            Ok(NameEntry { pattern, list: None, action: RuleAction::Remove })
        };
        let entries = names.iter().map(entry).collect::<Result<_, RulesError>>()?;
        let mut by_type = TypeRules::new(Vec::new(), true, RuleAction::AvScan);
        for class in types {
            match class.as_ref() {
                "executable" => by_type.executable = true,
                value => return Err(RulesError::UnknownType { value: value.to_owned() }),
            }
        }
        let names = NameRules::new(entries, RuleAction::AvScan);
        Ok(Self { names, types: Arc::new(by_type), ..Self::default() })
    }

    /// What rules say of a complete file.
    pub(super) fn file(&self, file: &RuledFile<'_>) -> FileRuling {
        let names = self.names.ruling(file.names, file.place);
        let types = self.types.ruling(file.declared_types, file.real_type, file.place != FilePlace::Part);
        let names_allow = match &names {
            Some(names) => names.action == RuleAction::Allow,
            // A file without a name is judged by its types alone.
            None => file.names.is_empty(),
        };
        let is_scanned = types.action != RuleAction::Allow || !names_allow;
        let mut decision = LeafDecision::from(self.blocked(file.octets));
        for ruling in [names, Some(types)].into_iter().flatten() {
            decision.add(ruling.outcome().into());
        }
        FileRuling { outcome: decision.outcome, is_scanned }
    }

    /// What becomes of a file in which this was found.
    pub(super) fn found(&self, condition: Condition) -> LeafOutcome {
        self.terms.found(condition)
    }

    /// What becomes of a file that a scanner knows by this signature.
    pub(super) fn virus(&self, scanner: &str, signature: String) -> LeafOutcome {
        self.terms.virus(scanner, signature)
    }

    /// What hashes say of a leaf, in each reading of it.
    pub(crate) fn blocked_in_readings(&self, octets: &[u8]) -> LeafOutcome {
        let mut decision = LeafDecision::default();
        if !self.hashes.is_empty() {
            for reading in Reading::of(octets) {
                decision.add(self.blocked(&reading.decoded(octets)).into());
            }
        }
        decision.outcome
    }

    fn blocked(&self, octets: &[u8]) -> LeafOutcome {
        if self.hashes.is_empty() {
            return LeafOutcome::Allow;
        }
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(digest(&SHA256, octets).as_ref());
        if self.hashes.contains(&sha256) { self.terms.blocked(sha256) } else { LeafOutcome::Allow }
    }
}

impl Judge for Rules {
    fn begin(&self, leaf: &LeafHead<'_>) -> Box<dyn Examination + Send> {
        Box::new(HardRules {
            names: self.names.ruling(leaf.names, FilePlace::Part).map_or(LeafOutcome::Allow, Ruling::outcome),
            types: Arc::clone(&self.types),
            declared_types: leaf.declared_types.to_vec(),
            when_eicar: self.terms.eicar(),
            is_beginning: leaf.is_beginning,
            probe: TypeProbe::default(),
            eicar: Eicar::default(),
        })
    }

    fn terms(&self) -> &ContentTerms {
        &self.terms
    }
}

/// One reading of one leaf under the hard rules. It sees no file whole: what no rule by type fits, and hashes, are the
/// matter of [`Rules::file`].
struct HardRules {
    names: LeafOutcome,
    types: Arc<TypeRules>,
    declared_types: Vec<String>,
    when_eicar: LeafOutcome,
    is_beginning: bool,
    probe: TypeProbe,
    eicar: Eicar,
}

impl Examination for HardRules {
    fn push(&mut self, octets: &[u8]) {
        self.probe.push(octets);
        self.eicar.push(octets);
    }

    fn finish(self: Box<Self>) -> LeafDecision {
        let real_type = self.probe.finish();
        let mut decision = LeafDecision { real_type, ..LeafDecision::default() };
        if self.eicar.is_found() && !self.is_beginning {
            decision.add(self.when_eicar.into());
        }
        decision.add(self.names.into());
        let types = self.types.fitting(&self.declared_types, real_type);
        decision.add(types.map_or(LeafOutcome::Allow, Ruling::outcome).into());
        decision
    }
}

#[cfg(test)]
mod tests;
