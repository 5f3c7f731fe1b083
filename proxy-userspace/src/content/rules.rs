//! The judge of hard rules: EICAR always, names by pattern, types by their first octets.

use std::fmt;

use super::eicar::Eicar;
use serde::{Deserialize, Serialize};

use super::magic::TypeProbe;
use super::{Condition, Examination, Judge, LeafDecision, LeafHead, LeafOutcome, RealType};

/// Characters of a pattern. A name on a disk has 255 at most.
pub const PATTERN_CHARS_MAX: usize = 255;
/// Patterns. Each name is compared with each.
pub const PATTERNS_MAX: usize = 1_000;
/// Characters of a name that is compared with patterns. A longer one is no name of a file, but might hide its end.
pub(super) const NAME_CHARS_MAX: usize = 4_096;

/// The rule by which something is removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RuleName {
    /// The EICAR test file.
    Eicar,
    /// A name matches a pattern of `action.content.names`.
    Name {
        /// The name that matches, without control characters.
        name: String,
        /// The pattern, as configured.
        pattern: String,
    },
    /// The real type is in a class of `action.content.types`.
    Type(RealType),
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
            Self::Type(_) => "types",
            Self::Virus { .. } => "virus",
            Self::Condition(condition) => condition.token(),
        }
    }
}

impl fmt::Display for RuleName {
    /// The reason, in words that the reader of a mail understands.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Eicar => f.write_str("it contains a test virus (EICAR)"),
            Self::Name { pattern, .. } => write!(f, "files with names like {pattern} are not allowed"),
            Self::Type(real) => write!(f, "it is a {real}, and files of this type are not allowed"),
            Self::Virus { signature, .. } => write!(f, "it contains a virus ({signature})"),
            Self::Condition(condition) => write!(f, "{condition}"),
        }
    }
}

/// A class of real types that `action.content.types` can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TypeClass {
    Executable,
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

/// Compiled hard rules. The EICAR test file is always forbidden.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    patterns: Vec<Pattern>,
    executable: bool,
}

impl Rules {
    /// Compile `action.content.names` and `action.content.types`.
    ///
    /// # Errors
    /// The first value that is wrong, and what to write in its place.
    pub fn new<N: AsRef<str>, T: AsRef<str>>(names: &[N], types: &[T]) -> Result<Self, RulesError> {
        if names.len() > PATTERNS_MAX {
            return Err(RulesError::TooManyPatterns { count: names.len() });
        }
        let patterns = names.iter().map(|name| Pattern::new(name.as_ref())).collect::<Result<_, _>>()?;
        let classes =
            types.iter().map(|class| TypeClass::new(class.as_ref())).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { patterns, executable: classes.contains(&TypeClass::Executable) })
    }

    /// What becomes of a file that is called and typed so.
    pub(super) fn file(&self, names: &[String], real_type: Option<RealType>) -> LeafOutcome {
        let by_type = || real_type.filter(|real| self.executable && real.is_program()).map(RuleName::Type);
        self.forbidden(names).or_else(by_type).map_or(LeafOutcome::Allow, LeafOutcome::Remove)
    }

    /// What becomes of a file in which this was found.
    pub(super) fn found(&self, condition: Condition) -> LeafOutcome {
        let rule = RuleName::Condition(condition);
        match condition {
            Condition::Macro
            | Condition::ExternalReference
            | Condition::ActiveContent
            | Condition::EncryptedMail => LeafOutcome::Note(rule),
            _ => LeafOutcome::Remove(rule),
        }
    }

    /// The first name that a pattern forbids.
    fn forbidden(&self, names: &[String]) -> Option<RuleName> {
        names.iter().find_map(|name| {
            if self.patterns.is_empty() {
                return None;
            }
            let forms = NameForms::new(name)?;
            let pattern = self.patterns.iter().find(|pattern| forms.match_any(pattern))?;
            Some(RuleName::Name { name: name.clone(), pattern: pattern.written.clone() })
        })
    }
}

impl Judge for Rules {
    fn begin(&self, leaf: &LeafHead<'_>) -> Box<dyn Examination + Send> {
        Box::new(HardRules {
            name: self.forbidden(leaf.names),
            executable: self.executable,
            is_beginning: leaf.is_beginning,
            probe: TypeProbe::default(),
            eicar: Eicar::default(),
        })
    }
}

/// One reading of one leaf under the hard rules.
struct HardRules {
    name: Option<RuleName>,
    executable: bool,
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
        let by_type = real_type.filter(|real| self.executable && real.is_program()).map(RuleName::Type);
        let eicar = (self.eicar.is_found() && !self.is_beginning).then_some(RuleName::Eicar);
        let outcome = eicar.or(self.name).or(by_type).map_or(LeafOutcome::Allow, LeafOutcome::Remove);
        LeafDecision { real_type, member: None, outcome }
    }
}

impl TypeClass {
    fn new(value: &str) -> Result<Self, RulesError> {
        match value {
            "executable" => Ok(Self::Executable),
            _ => Err(RulesError::UnknownType { value: value.to_owned() }),
        }
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
        let mut forms = vec![whole, trimmed, base, main];
        forms.dedup();
        Some(Self(forms))
    }

    fn match_any(&self, pattern: &Pattern) -> bool {
        self.0.iter().any(|form| pattern.matches(form))
    }
}

fn trim(name: &[char]) -> &[char] {
    let is_left_out = |c: &char| matches!(c, '.' | '"' | '\'') || c.is_whitespace();
    let end = name.iter().rposition(|c| !is_left_out(c)).map_or(0, |at| at + 1);
    let name = name.get(..end).unwrap_or_default();
    let begin = name.iter().position(|c| !(matches!(c, '"' | '\'') || c.is_whitespace())).unwrap_or(end);
    name.get(begin..).unwrap_or_default()
}

fn lower(text: &str) -> Vec<char> {
    text.chars().filter(|c| !c.is_control()).flat_map(char::to_lowercase).collect()
}

/// A pattern: `*` stands for any characters, `?` for one; case does not count.
#[derive(Clone, Debug)]
struct Pattern {
    written: String,
    lower: Vec<char>,
}

impl Pattern {
    fn new(value: &str) -> Result<Self, RulesError> {
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
        Ok(Self { written: value.to_owned(), lower: lower(value) })
    }

    /// Goes back to the last `*` only: at worst the product of both lengths, and both are bounded.
    fn matches(&self, name: &[char]) -> bool {
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

#[cfg(test)]
mod tests;
