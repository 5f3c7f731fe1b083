//! What a leaf of mail is, what is forbidden in it, and what becomes of a forbidden one.
//!
//! A sender chooses the octets, and each client reads them in its own way. So no single reading is trusted: where a
//! message can be read in several ways, every reading is judged, and a leaf that one of them forbids is overwritten.
//! Nothing here waits for anything: the caller holds the complete octets and runs `judge` on a thread of a pool.
//!
//! `leaf` reads what is inside of files, with code of many hands: it belongs into a process of its own (`crate::judging`).
//! docs/content.md says what is opened, and what is not.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

/// Overwriting a forbidden leaf in place: same length, same lines.
pub mod fill;
/// The judgement of one case: every leaf in every reading.
mod judge;
/// Which header fields the owner removes.
mod field_rules;
/// Values of header fields that the owner removes, overwritten in place.
mod redact;
/// Header fields as tolerant clients read them: names, types, encodings, boundaries.
mod header;
/// What stands where in a message, in every reading.
pub mod walk;
/// The alphabet of base64: values of characters, and characters without what stands between them.
mod alphabet;
/// What a reader sees in the place of what was removed.
pub mod notice;
/// The bounds of a mail's structure.
pub mod limits;
/// The octets of a leaf behind its transfer encoding.
pub mod reading;
/// The file that a leaf is, for records.
mod leaf_file;
/// The types of files that are told by their octets.
mod real_type;
/// What a file is, from its first octets.
pub mod magic;
/// The EICAR test file, in any reading.
mod eicar;
/// The judge of hard rules: EICAR, names, real types.
pub mod rules;
/// What a policy says of content beside rules.
mod terms;
/// What is found in content beside what a rule names.
mod condition;
/// The judge of complete leaves: rules, scanners, and what is inside.
mod leaf;
/// What is inside a file.
pub mod open;
/// Whoever says of a file by its content that it is harmful.
pub mod scan;
/// Octets that a client could read as a leaf where the walker sees none.
mod loose;
/// The slow code that the fast one must equal.
#[cfg(test)]
mod reference;
/// Messages, files and judgements for the tests.
#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;

pub use condition::Condition;
pub use field_rules::{FieldRules, KEPT_FIELDS};
pub(crate) use header::unstructured_text;
pub use judge::judge;
pub use leaf::LeafJudge;
pub use leaf_file::LeafFile;
pub use reading::Reading;
pub use real_type::RealType;
pub use redact::{redact, redact_value};
pub(crate) use rules::ContentMaterial;
pub use rules::{HashList, RuleName, Rules, RulesError};
pub use terms::ContentTerms;

/// Counted up by each change of the code after which something that was allowed may be forbidden: what was judged by an
/// earlier version is judged again.
pub const JUDGEMENT_VERSION: u32 = 5;

/// What is to be judged: the octets of one response or command, and where content stands in them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// The complete unit, literals inline.
    pub octets: Vec<u8>,
    /// The content in `octets`. Pieces do not overlap.
    pub pieces: Vec<ContentPiece>,
    /// Leaves that are allowed are described as files, too. To hash them takes a fifth of a judgement's time.
    pub describes_allowed: bool,
}

/// One stretch of content in a [`Case`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentPiece {
    /// Offsets within [`Case::octets`]. The octets are content as they are: a quoted string with escapes must have been
    /// made a literal, or have been unescaped, before.
    pub range: Range<usize>,
    /// What is known of it.
    pub shape: Shape,
}

/// What is known of a stretch of content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A header and its body: `BODY[]`, `RFC822`, APPEND, `BODY[n]` of a `message/rfc822`.
    Message,
    /// A body whose header is known: `BODY[n]` with `n.MIME`, `BODY[TEXT]` with HEADER.
    Body {
        /// The header, as served.
        header: Vec<u8>,
        /// What BODYSTRUCTURE says. It adds to the header and replaces nothing.
        hints: Vec<LeafHint>,
    },
    /// Content without a header. It is read as a leaf and as a message.
    Unknown {
        /// What BODYSTRUCTURE says of the part; of every part, where it knows no such part.
        hints: Vec<LeafHint>,
    },
    /// Metadata as far as it is header fields. What stands behind the first line that is none is content.
    Header,
}

/// What BODYSTRUCTURE says about a leaf. It is a claim of the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeafHint {
    /// Type and subtype.
    pub media: (Vec<u8>, Vec<u8>),
    /// The name or file name as it stands there, without the quotes of the string.
    pub name: Option<Vec<u8>>,
    /// The transfer encoding.
    pub encoding: Vec<u8>,
}

/// Whether octets are nothing but header fields, so that they are metadata (name, colon, folded lines, an empty line).
#[must_use]
pub fn is_fields_only(octets: &[u8]) -> bool {
    let behind = octets.get(header::extent(octets, 0, &|_| false).narrow..).unwrap_or_default();
    behind.trim_ascii().is_empty()
}

/// The end of a judgement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judged {
    /// This is true tomorrow, too.
    Final {
        /// The octets of the case. Forbidden leaves are overwritten in place; the length is that of the case.
        octets: Vec<u8>,
        /// Every leaf that was judged, and everything else that was removed.
        leaves: Vec<LeafVerdict>,
    },
    /// No verdict now. Nothing of the case may go on, and nothing may be filled.
    Unavailable {
        /// Why.
        why: Unavailable,
    },
}

/// Why there is no verdict now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unavailable {
    /// The caller cancelled the judgement.
    Cancelled,
    /// The judge cannot judge now.
    JudgeDown,
    /// A piece lies outside the octets of its case.
    NoSuchPiece,
}

impl Unavailable {
    /// The token in records.
    #[must_use]
    pub const fn token(self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::JudgeDown => "judge_down",
            Self::NoSuchPiece => "no_such_piece",
        }
    }
}

/// What became of one leaf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeafVerdict {
    /// Index in [`Case::pieces`].
    pub piece: usize,
    /// The part number within the piece, as IMAP counts (RFC 9051 section 6.4.5). Empty: the piece itself.
    pub path: String,
    /// Its name: the forbidden one, else the first one of those that clients may read. Control characters are left out.
    pub name: Option<String>,
    /// All names that clients may read, [`LISTED_MAX`] at most; none of a leaf that is not described.
    pub names: Vec<String>,
    /// The declared type, in lower case.
    pub declared_type: Option<String>,
    /// All types that it declares, likewise.
    pub declared_types: Vec<String>,
    /// What it is by its first octets, where that is known.
    pub real_type: Option<RealType>,
    /// The decoded file; none of a leaf that is allowed, but where [`Case::describes_allowed`] says so.
    pub file: Option<LeafFile>,
    /// Where the rule found something inside the file: the names of the members, from the outermost on.
    pub member: Option<String>,
    /// The rule that forbids it; of a leaf that is allowed, what was found and is allowed to be.
    pub rule: Option<RuleName>,
    /// What was done.
    pub action: ContentAction,
    /// How long the judge took for it, in all its readings.
    pub took: std::time::Duration,
}

/// Names, and declared types, of one leaf that a verdict lists.
pub const LISTED_MAX: usize = 8;

/// What is done with a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentAction {
    /// It goes on unchanged.
    Allow,
    /// It was overwritten.
    Remove,
    /// It was overwritten, with every other leaf of what was judged together.
    Deny,
}

impl ContentAction {
    /// The token in records.
    #[must_use]
    pub const fn token(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Remove => "remove",
            Self::Deny => "deny",
        }
    }
}

/// What a judge learns of a leaf before its octets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeafHead<'a> {
    /// The part number within the piece, as IMAP counts.
    pub path: &'a str,
    /// Every name that some client may read. Control characters are left out.
    pub names: &'a [String],
    /// Every declared type, in lower case.
    pub declared_types: &'a [String],
    /// The encodings that some header declares.
    pub encodings: DeclaredEncodings,
    /// How the octets that follow were decoded.
    pub reading: Reading,
    /// Only the beginning follows, of what is a container or a line for nearly every client. Its names and what it is by
    /// its first octets count; what it holds is judged elsewhere, and must not forbid the whole.
    pub is_beginning: bool,
}

/// The encodings of a leaf that its header declares, in any reading (RFC 2045 section 6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeclaredEncodings {
    /// base64.
    pub base64: bool,
    /// quoted-printable.
    pub quoted_printable: bool,
}

impl DeclaredEncodings {
    /// Whether a client that believes the header reads the leaf so.
    const fn demand(self, reading: Reading) -> bool {
        match reading {
            Reading::Identity => !self.base64 && !self.quoted_printable,
            Reading::Base64 => self.base64,
            Reading::QuotedPrintable => self.quoted_printable,
        }
    }
}

/// Decides about leaves.
pub trait Judge: Send + Sync {
    /// Begin one reading of the beginning of a leaf, or of what may be one.
    fn begin(&self, leaf: &LeafHead<'_>) -> Box<dyn Examination + Send>;

    /// A complete leaf, encoded as it is served, in every reading. This may take long.
    fn leaf(&self, leaf: &LeafHead<'_>, octets: &[u8], cancelled: &AtomicBool) -> LeafDecision {
        let mut decision = LeafDecision::default();
        for reading in Reading::of(octets) {
            let mut examination = self.begin(&LeafHead { reading, ..leaf.clone() });
            let pushed = reading.decode(octets, &mut |decoded| {
                examination.push(decoded);
                !cancelled.load(Ordering::Relaxed)
            });
            decision.add(if pushed { examination.finish() } else { Unavailable::Cancelled.into() });
        }
        decision
    }

    /// What the policy says beside rules. A judge that stands for another one has to hand on that one's.
    fn terms(&self) -> &ContentTerms {
        ContentTerms::standard()
    }
}

/// One reading of one leaf in progress.
pub trait Examination {
    /// The next octets, [`PUSH_BYTES_MAX`] at most.
    fn push(&mut self, octets: &[u8]);
    /// No more octets.
    fn finish(self: Box<Self>) -> LeafDecision;
}

/// What a judge says about a leaf, or about one reading of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeafDecision {
    /// What it is by its octets, where that is known.
    pub real_type: Option<RealType>,
    /// Where it was found inside the file: the names of the members, from the outermost on.
    pub member: Option<String>,
    /// Whether it may pass.
    pub outcome: LeafOutcome,
}

/// Whether a leaf may pass. The later ones outweigh those before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum LeafOutcome {
    /// It is allowed.
    #[default]
    Allow,
    /// It is allowed, and what was found is recorded.
    Note(RuleName),
    /// The leaf is forbidden, by this rule.
    Remove(RuleName),
    /// It is forbidden, and the message with it.
    Deny(RuleName),
    /// Not known now.
    Unavailable(Unavailable),
}

impl LeafOutcome {
    fn weight(&self) -> u8 {
        match self {
            Self::Allow => 0,
            // What could not be scanned is not known to be clean, whatever else was found.
            Self::Note(rule) if *rule == RuleName::Condition(Condition::CannotScan) => 2,
            Self::Note(_) => 1,
            Self::Remove(_) => 3,
            Self::Deny(_) => 4,
            Self::Unavailable(_) => 5,
        }
    }

    /// Whether nothing that is found later changes it.
    #[must_use]
    pub const fn is_last(&self) -> bool {
        matches!(self, Self::Deny(_) | Self::Unavailable(_))
    }
}

impl LeafOutcome {
    /// Whether it is removed for nothing but that it is broken.
    fn is_removed_as_broken(&self) -> bool {
        matches!(self, Self::Remove(RuleName::Condition(Condition::BrokenFile)))
    }
}

impl LeafDecision {
    /// The same leaf was looked at in another way: what weighs more counts, and of equals what came first. Only a broken
    /// file yields to what else forbids it: what is broken says nothing of what stands beside it.
    pub fn add(&mut self, other: Self) {
        self.real_type = self.real_type.or(other.real_type);
        let yields = self.outcome.is_removed_as_broken()
            && matches!(other.outcome, LeafOutcome::Remove(_))
            && !other.outcome.is_removed_as_broken();
        if yields || other.outcome.weight() > self.outcome.weight() {
            (self.outcome, self.member) = (other.outcome, other.member);
        }
    }
}

impl From<LeafOutcome> for LeafDecision {
    fn from(outcome: LeafOutcome) -> Self {
        Self { outcome, ..Self::default() }
    }
}

impl From<Unavailable> for LeafDecision {
    fn from(why: Unavailable) -> Self {
        Self { outcome: LeafOutcome::Unavailable(why), ..Self::default() }
    }
}

/// Octets of one push. The cancel flag is looked at between two of them.
pub const PUSH_BYTES_MAX: usize = 64 << 10;
