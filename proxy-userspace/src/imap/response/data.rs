//! Untagged data beside FETCH: their names, and the grammar of what follows.

use super::DataName;
use crate::imap::grammar::Grammar;
use crate::imap::grammar::Piece::{
    AnyList, Astring, Atom, Either, Flags, List, Maybe, NString, Number64, Octet, Repeat, Set, Space, Value,
    Values, Word,
};

/// Words with spaces before each.
const WORDS: Grammar = &[Repeat(&[Space, Maybe(&[Value])])];
const VALUES: Grammar = &[Space, Values];

/// RFC 9051 `mailbox-list`, with the extended items of RFC 5258.
const LIST: Grammar =
    &[Space, Flags, Space, Either(&[&[NString], &[Value]]), Space, Astring, Maybe(&[Space, Value])];

/// RFC 3501, with the mod-sequence of RFC 7162.
const NUMBERS: Grammar = &[
    Repeat(&[Space, Maybe(&[Number64])]),
    Maybe(&[Octet(b'('), Word(b"MODSEQ"), Space, Number64, Octet(b')')]),
];
const STATUS: Grammar = &[Space, Astring, Space, List(&[Atom, Space, Value])];
const NAMESPACE: Grammar = &[Space, Value, Space, Value, Space, Value];
const VANISHED: Grammar = &[Maybe(&[Space, Octet(b'('), Word(b"EARLIER"), Octet(b')')]), Space, Set];
const QUOTA: Grammar = &[Space, Astring, Space, List(&[Atom, Space, Number64, Space, Number64])];
const ID: Grammar = &[Space, Either(&[&[Word(b"NIL")], &[List(&[NString, Space, NString])]])];
const ANY: Grammar = &[Repeat(&[Space, Value])];

const TABLE: &[(&[u8], DataName, Grammar)] = &[
    (b"CAPABILITY", DataName::Capability, WORDS),
    (b"ENABLED", DataName::Enabled, WORDS),
    (b"FLAGS", DataName::Flags, &[Space, Flags]),
    (b"LIST", DataName::List, LIST),
    (b"LSUB", DataName::Lsub, LIST),
    (b"XLIST", DataName::Xlist, LIST),
    (b"SEARCH", DataName::Search, NUMBERS),
    (b"ESEARCH", DataName::ESearch, ANY),
    (b"SORT", DataName::Sort, NUMBERS),
    (b"THREAD", DataName::Thread, THREADS),
    (b"STATUS", DataName::Status, STATUS),
    (b"NAMESPACE", DataName::Namespace, NAMESPACE),
    (b"ID", DataName::Id, ID),
    (b"VANISHED", DataName::Vanished, VANISHED),
    (b"QUOTA", DataName::Quota, QUOTA),
    (b"QUOTAROOT", DataName::QuotaRoot, VALUES),
    (b"ACL", DataName::Acl, VALUES),
    (b"LISTRIGHTS", DataName::ListRights, VALUES),
    (b"MYRIGHTS", DataName::MyRights, VALUES),
    (b"METADATA", DataName::Metadata, VALUES),
    (b"COMPARATOR", DataName::Comparator, ANY),
    (b"XAPPLEPUSHSERVICE", DataName::XApplePushService, ANY),
];

/// RFC 5256: threads stand one behind the other, without a space.
const THREADS: Grammar = &[Maybe(&[Space, Repeat(&[AnyList])])];

/// What a name says, and the grammar of what follows it; none for another name, which may be followed by anything.
pub(super) fn named(name: &[u8]) -> (DataName, Option<Grammar>) {
    TABLE
        .iter()
        .find(|(known, _, _)| name.eq_ignore_ascii_case(known))
        .map_or((DataName::Other, None), |(_, name, grammar)| (*name, Some(*grammar)))
}
