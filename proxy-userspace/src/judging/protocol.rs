use std::fmt;

use serde::de::{Error as _, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::content::rules::{NAME_CHARS_MAX, PATTERN_CHARS_MAX};
use crate::content::scan::yara::{RuleFacts, YaraError};
use crate::content::{
    DeclaredEncodings, LeafDecision, LeafHead, LeafOutcome, Reading, RuleName, Unavailable,
};

/// Both ends are the same binary. Another number means that one of them is not.
pub(super) const PROTOCOL_VERSION: u32 = 2;
/// CPU time that a judge has for terms: ten thousand rules of the scanner take a second or two.
pub(super) const TERMS_CPU_SECONDS: u32 = 30;
/// Octets of a leaf, with its head, that travel inside the message. Larger ones lie in sealed memory.
pub(super) const INLINE_BYTES_MAX: usize = 64 << 10;
/// Octets of a head as it is written: path, names and types.
pub(super) const HEAD_BYTES_MAX: usize = 8 << 20;
/// Octets of a body in sealed memory: the largest message, and a head.
pub(super) const BODY_BYTES_MAX: u64 = (1 << 30) + HEAD_BYTES_MAX as u64;
/// Names, and declared types, of one leaf.
pub(super) const HEAD_NAMES_MAX: usize = 16_384;
/// Octets of a decision's `member`: the names of files inside each other.
const MEMBER_BYTES_MAX: usize = 64 << 10;
/// Octets of a file's name that a rule forbids.
const NAME_BYTES_MAX: usize = NAME_CHARS_MAX * 4;
/// Octets of a pattern.
const PATTERN_BYTES_MAX: usize = PATTERN_CHARS_MAX * 4;
/// Octets of a scanner's word.
const SCANNER_BYTES_MAX: usize = 64;
/// Octets of a signature's name.
const SIGNATURE_BYTES_MAX: usize = 256;

/// From the supervisor.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToJudge {
    /// With an end of a channel to a worker, in place of an earlier one.
    Serve,
    /// With sealed memory: find out whether the scanner's rules in it can be compiled. Of a judge that serves no worker, and
    /// ends then. Answered by [`FromJudge::Compiled`].
    Compile,
}

/// To the supervisor.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromJudge {
    /// Once: the first leaf has come. Whatever ends the judge from now on may be a leaf's doing.
    Judges,
    /// What is known of the rules, or why they cannot be compiled.
    Compiled(Result<RuleFacts, YaraError>),
}

/// Names what a leaf is judged by: the half of a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct TermsId(pub(super) [u8; 16]);

/// From the worker.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct JudgeRequest {
    pub(super) version: u32,
    pub(super) order: JudgeOrder,
}

/// What a judge shall do.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum JudgeOrder {
    /// Know these terms. With sealed memory that holds the settings, and, where there are some, with one that holds the
    /// scanner's rules. Answered by a [`TermsReply`].
    Terms { terms: TermsId, has_scanner: bool },
    /// Judge a leaf under terms that were told before; answered by a [`JudgeReply`].
    Leaf {
        /// The reply repeats it.
        id: u64,
        terms: TermsId,
        /// Seconds of CPU that it may take.
        cpu_seconds: u32,
        /// Octets of the head, which stands before the leaf in the body.
        head_bytes: u32,
        body: LeafBody,
    },
}

/// Head and leaf, one behind the other.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum LeafBody {
    /// At most [`INLINE_BYTES_MAX`].
    Inline(OctetString),
    /// In sealed memory, whose descriptor comes with the message.
    Memory,
}

/// Octets that are written and read at once, not one by one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct OctetString(pub(super) Vec<u8>);

impl Serialize for OctetString {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for OctetString {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Octets;
        impl Visitor<'_> for Octets {
            type Value = OctetString;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "at most {INLINE_BYTES_MAX} octets")
            }

            fn visit_bytes<E: serde::de::Error>(self, octets: &[u8]) -> Result<OctetString, E> {
                if octets.len() > INLINE_BYTES_MAX {
                    return Err(E::custom("more octets than a message may hold"));
                }
                Ok(OctetString(octets.to_vec()))
            }
        }
        deserializer.deserialize_bytes(Octets)
    }
}

/// A head as the worker writes it.
#[derive(Serialize)]
struct HeadWritten<'a> {
    path: &'a str,
    names: &'a [String],
    declared_types: &'a [String],
    encodings: DeclaredEncodings,
}

/// A head as the judge reads it.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(super) struct HeadRead {
    path: String,
    names: HeadNames,
    declared_types: HeadNames,
    encodings: DeclaredEncodings,
}

/// At most [`HEAD_NAMES_MAX`].
#[derive(Debug, PartialEq, Eq)]
struct HeadNames(Vec<String>);

impl<'de> Deserialize<'de> for HeadNames {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let names = Vec::<String>::deserialize(deserializer)?;
        if names.len() > HEAD_NAMES_MAX {
            return Err(D::Error::custom("more names than a leaf may have"));
        }
        Ok(Self(names))
    }
}

/// A head is larger than a judge takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the names of a leaf are more than are judged")]
pub(super) struct HeadTooLarge;

/// The octets of a head.
///
/// # Errors
/// It is beyond the bounds.
pub(super) fn write_head(head: &LeafHead<'_>) -> Result<Vec<u8>, HeadTooLarge> {
    let &LeafHead { path, names, declared_types, encodings, .. } = head;
    if names.len() > HEAD_NAMES_MAX || declared_types.len() > HEAD_NAMES_MAX {
        return Err(HeadTooLarge);
    }
    let written = postcard::to_stdvec(&HeadWritten { path, names, declared_types, encodings });
    written.ok().filter(|octets| octets.len() <= HEAD_BYTES_MAX).ok_or(HeadTooLarge)
}

/// What is wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum RequestFault {
    /// The head is longer than its body, or than heads may be.
    #[error("a head of {0} octets does not fit")]
    Head(u32),
    /// The octets are no head.
    #[error("the head cannot be read")]
    Malformed,
    /// Of another version.
    #[error("the worker is of another version")]
    Version,
    /// Another number of descriptors than it needs.
    #[error("another number of descriptors than it needs")]
    Descriptors,
    /// Terms that were not told, or are known no more.
    #[error("terms that were not told")]
    UnknownTerms,
}

/// Head and leaf of a body.
///
/// # Errors
/// The head is none.
pub(super) fn read_body(body: &[u8], head_bytes: u32) -> Result<(HeadRead, &[u8]), RequestFault> {
    let length = usize::try_from(head_bytes).map_err(|_| RequestFault::Head(head_bytes))?;
    if length > HEAD_BYTES_MAX {
        return Err(RequestFault::Head(head_bytes));
    }
    let (head, leaf) = body.split_at_checked(length).ok_or(RequestFault::Head(head_bytes))?;
    let head = postcard::from_bytes(head).map_err(|_| RequestFault::Malformed)?;
    Ok((head, leaf))
}

impl HeadRead {
    /// For [`crate::content::Judge::leaf`].
    pub(super) fn head(&self) -> LeafHead<'_> {
        LeafHead {
            path: &self.path,
            names: &self.names.0,
            declared_types: &self.declared_types.0,
            encodings: self.encodings,
            reading: Reading::Identity,
            is_beginning: false,
        }
    }
}

/// The answer to [`JudgeOrder::Terms`]: they are known.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct TermsReply {
    version: u32,
    terms: TermsId,
}

impl TermsReply {
    pub(super) const fn new(terms: TermsId) -> Self {
        Self { version: PROTOCOL_VERSION, terms }
    }

    /// Whether it answers the order to know these terms.
    pub(super) fn answers(&self, asked: TermsId) -> bool {
        self.version == PROTOCOL_VERSION && self.terms == asked
    }
}

/// The answer to [`JudgeOrder::Leaf`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct JudgeReply {
    pub(super) version: u32,
    pub(super) id: u64,
    pub(super) decision: LeafDecision,
}

/// What is wrong with a reply. The judge that sent it is none of ours any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ReplyFault {
    /// Of another version.
    #[error("of another version")]
    Version,
    /// Of another leaf.
    #[error("to a leaf that was not asked about")]
    Id,
    /// A name or a word that no judge makes.
    #[error("with words that no judge makes")]
    Words,
    /// A reason that only the worker has.
    #[error("with a reason that no judge has")]
    Reason,
}

impl JudgeReply {
    /// With the words of the decision within the bounds that [`Self::checked`] demands.
    pub(super) fn new(id: u64, mut decision: LeafDecision) -> Self {
        if let Some(member) = &mut decision.member {
            tame(member, MEMBER_BYTES_MAX);
        }
        match &mut decision.outcome {
            LeafOutcome::Note(rule) | LeafOutcome::Remove(rule) | LeafOutcome::Deny(rule) => match rule {
                RuleName::Name { name, pattern } | RuleName::Media { media_type: name, pattern } => {
                    tame(name, NAME_BYTES_MAX);
                    tame(pattern, PATTERN_BYTES_MAX);
                }
                RuleName::List { list, found } => {
                    tame(list, PATTERN_BYTES_MAX);
                    tame(found, NAME_BYTES_MAX);
                }
                RuleName::UnmatchedName { name } | RuleName::UnmatchedType { media_type: name } => {
                    tame(name, NAME_BYTES_MAX);
                }
                RuleName::Virus { scanner, signature } => {
                    tame(scanner, SCANNER_BYTES_MAX);
                    tame(signature, SIGNATURE_BYTES_MAX);
                }
                RuleName::Eicar | RuleName::Type(_) | RuleName::Hash { .. } | RuleName::Condition(_) => {}
            },
            LeafOutcome::Allow | LeafOutcome::Unavailable(_) => {}
        }
        Self { version: PROTOCOL_VERSION, id, decision }
    }

    /// The decision, if it answers this request and is one that a judge makes.
    ///
    /// # Errors
    /// [`ReplyFault`].
    pub(super) fn checked(self, asked: u64) -> Result<LeafDecision, ReplyFault> {
        let Self { version, id, decision } = self;
        if version != PROTOCOL_VERSION {
            return Err(ReplyFault::Version);
        }
        if id != asked {
            return Err(ReplyFault::Id);
        }
        if decision.member.as_deref().is_some_and(|member| !are_words(member, MEMBER_BYTES_MAX)) {
            return Err(ReplyFault::Words);
        }
        match &decision.outcome {
            LeafOutcome::Allow | LeafOutcome::Unavailable(Unavailable::JudgeDown) => {}
            LeafOutcome::Note(rule) | LeafOutcome::Remove(rule) | LeafOutcome::Deny(rule) => {
                rule_words(rule)?;
            }
            LeafOutcome::Unavailable(_) => return Err(ReplyFault::Reason),
        }
        Ok(decision)
    }
}

/// What a rule's name quotes stands in records, and in what the reader of a mail is told.
fn rule_words(rule: &RuleName) -> Result<(), ReplyFault> {
    let are_bounded = match rule {
        RuleName::Name { name, pattern } | RuleName::Media { media_type: name, pattern } => {
            are_words(name, NAME_BYTES_MAX) && are_words(pattern, PATTERN_BYTES_MAX)
        }
        RuleName::List { list, found } => {
            are_words(list, PATTERN_BYTES_MAX) && are_words(found, NAME_BYTES_MAX)
        }
        RuleName::UnmatchedName { name } | RuleName::UnmatchedType { media_type: name } => {
            are_words(name, NAME_BYTES_MAX)
        }
        RuleName::Virus { scanner, signature } => {
            are_words(scanner, SCANNER_BYTES_MAX) && are_words(signature, SIGNATURE_BYTES_MAX)
        }
        RuleName::Eicar | RuleName::Type(_) | RuleName::Hash { .. } | RuleName::Condition(_) => true,
    };
    if are_bounded { Ok(()) } else { Err(ReplyFault::Words) }
}

/// Leave out what no word may have.
fn tame(text: &mut String, bytes_max: usize) {
    text.retain(|c| !c.is_control());
    text.truncate(text.floor_char_boundary(bytes_max));
}

fn are_words(text: &str, bytes_max: usize) -> bool {
    text.len() <= bytes_max && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::content::{Condition, RealType};

    /// As a judge that was taken over sends it.
    fn reply(outcome: LeafOutcome) -> JudgeReply {
        JudgeReply { version: PROTOCOL_VERSION, id: 7, decision: outcome.into() }
    }

    #[test]
    fn a_reply_to_another_leaf_or_of_another_version_is_none() {
        assert_eq!(reply(LeafOutcome::Allow).checked(7), Ok(LeafDecision::default()));
        assert_eq!(reply(LeafOutcome::Allow).checked(8), Err(ReplyFault::Id));
        let other = JudgeReply { version: PROTOCOL_VERSION + 1, ..reply(LeafOutcome::Allow) };
        assert_eq!(other.checked(7), Err(ReplyFault::Version));
    }

    #[test]
    fn a_judge_that_was_taken_over_puts_no_word_of_its_own_into_records_but_bounded_ones() {
        let name = |name: &str| {
            let (name, pattern) = (name.to_owned(), "*.exe".to_owned());
            reply(LeafOutcome::Remove(RuleName::Name { name, pattern })).checked(7).map(drop)
        };
        assert_eq!(name("a.exe"), Ok(()));
        assert_eq!(name("a\r\n.exe"), Err(ReplyFault::Words));
        assert_eq!(name(&"a".repeat(NAME_BYTES_MAX + 1)), Err(ReplyFault::Words));
        let virus = |signature: &str| {
            let (scanner, signature) = ("yara".to_owned(), signature.to_owned());
            reply(LeafOutcome::Deny(RuleName::Virus { scanner, signature })).checked(7).map(drop)
        };
        assert_eq!(virus("Test.Signature"), Ok(()));
        assert_eq!(virus(&"a".repeat(257)), Err(ReplyFault::Words));
        let decision = LeafDecision { member: Some("\u{1b}[2J".to_owned()), ..LeafDecision::default() };
        let escapes = JudgeReply { decision: decision.clone(), ..reply(LeafOutcome::Allow) };
        assert_eq!(escapes.checked(7), Err(ReplyFault::Words));
        let tamed = JudgeReply::new(7, decision).checked(7).unwrap();
        assert_eq!(tamed.member.as_deref(), Some("[2J"), "an honest judge leaves out what no word may have");
        let down = reply(LeafOutcome::Unavailable(Unavailable::JudgeDown));
        assert!(down.checked(7).is_ok());
        let cancelled = reply(LeafOutcome::Unavailable(Unavailable::Cancelled));
        assert_eq!(cancelled.checked(7), Err(ReplyFault::Reason));
    }

    #[test]
    fn a_head_that_is_longer_than_its_body_or_names_too_many_is_refused() {
        let (names, types) = (vec!["a.zip".to_owned(), "b".to_owned()], vec!["application/zip".to_owned()]);
        let head = LeafHead {
            path: "1.2",
            names: &names,
            declared_types: &types,
            encodings: DeclaredEncodings { base64: true, quoted_printable: false },
            reading: Reading::Identity,
            is_beginning: false,
        };
        let mut body = write_head(&head).unwrap();
        let length = u32::try_from(body.len()).unwrap();
        body.extend_from_slice(b"octets");
        let (read, leaf) = read_body(&body, length).unwrap();
        assert_eq!((read.head(), leaf), (head.clone(), &b"octets"[..]));
        assert_eq!(read_body(b"", length), Err(RequestFault::Head(length)));
        assert_eq!(read_body(&body, u32::MAX), Err(RequestFault::Head(u32::MAX)));
        assert_eq!(read_body(&body, 1), Err(RequestFault::Malformed));
        let many = vec![String::new(); HEAD_NAMES_MAX + 1];
        assert_eq!(write_head(&LeafHead { names: &many, ..head.clone() }), Err(HeadTooLarge));
        let large = vec!["a".repeat(HEAD_BYTES_MAX)];
        assert_eq!(write_head(&LeafHead { names: &large, ..head }), Err(HeadTooLarge));
        let written = HeadWritten {
            path: "",
            names: &many,
            declared_types: &[],
            encodings: DeclaredEncodings::default(),
        };
        let octets = postcard::to_stdvec(&written).unwrap();
        assert!(postcard::from_bytes::<HeadRead>(&octets).is_err());
    }

    proptest! {
        /// Either end may have been taken over.
        #[test]
        fn any_octets_are_a_message_or_a_fault(octets in proptest::collection::vec(any::<u8>(), 0..256)) {
            crate::judging::fuzzing::messages(&octets);
        }

        #[test]
        fn a_leaf_arrives_as_it_was_sent(id: u64, octets in proptest::collection::vec(any::<u8>(), 0..512)) {
            let terms = TermsId([3; 16]);
            let body = LeafBody::Inline(OctetString(octets.clone()));
            let order = JudgeOrder::Leaf { id, terms, cpu_seconds: 30, head_bytes: 0, body };
            let sent = postcard::to_stdvec(&JudgeRequest { version: PROTOCOL_VERSION, order }).unwrap();
            let got: JudgeRequest = postcard::from_bytes(&sent).unwrap();
            let JudgeOrder::Leaf { id: got_id, body: LeafBody::Inline(body), .. } = got.order else {
                panic!("another order")
            };
            prop_assert_eq!((got_id, body), (id, OctetString(octets)));
        }

        #[test]
        fn a_decision_arrives_as_it_was_made(id: u64, member in proptest::option::of("[a-z]{0,40}")) {
            let outcome = LeafOutcome::Note(RuleName::Condition(Condition::Macro));
            let decision = LeafDecision { real_type: Some(RealType::Zip), member, outcome };
            let sent = postcard::to_stdvec(&JudgeReply::new(id, decision.clone())).unwrap();
            let got: JudgeReply = postcard::from_bytes(&sent).unwrap();
            prop_assert_eq!(got.checked(id), Ok(decision));
        }
    }
}
