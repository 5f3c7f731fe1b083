//! The grammar of each verb's arguments.

use super::Verb;
use crate::imap::grammar::Grammar;
use crate::imap::grammar::Piece::{
    Astring, Atom, Either, Flag, Flags, List, Maybe, NString, Number, Number64, Octet, Pattern, Repeat, Set,
    Space, String, Value, Values, Word,
};

/// Which forms of a verb there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Forms {
    Plain,
    Uid,
    Both,
}

const NOTHING: Grammar = &[];
const MAILBOX: Grammar = &[Space, Astring];
const SET_AND_MAILBOX: Grammar = &[Space, Set, Space, Astring];

/// RFC 2971: NIL or pairs of a string and a string or NIL.
const ID: Grammar = &[Space, Either(&[&[Word(b"NIL")], &[List(&[String, Space, NString])]])];

/// RFC 6154 section 3: `CREATE name (USE (\Sent))`.
const CREATE: Grammar =
    &[Space, Astring, Maybe(&[Space, Octet(b'('), Word(b"USE"), Space, Flags, Octet(b')')])];

/// RFC 5258 section 6: options before, several patterns, RETURN behind. RFC 5819 adds `STATUS (...)` to the latter.
const LIST: Grammar = &[
    Space,
    Maybe(&[List(OPTION), Space]),
    Astring,
    Space,
    Either(&[&[Pattern], &[List(&[Pattern])]]),
    Maybe(&[Space, Word(b"RETURN"), Space, List(OPTION)]),
];

/// An option and, where it has one, its list.
const OPTION: Grammar = &[Atom, Maybe(&[Space, Octet(b'('), Values, Octet(b')')])];

const LSUB: Grammar = &[Space, Astring, Space, Pattern];

const STATUS: Grammar = &[Space, Astring, Space, List(&[Atom])];

/// RFC 4731 section 3.1 and RFC 5182: what SEARCH and SORT return.
const RETURN: Grammar = &[Maybe(&[Space, Word(b"RETURN"), Space, List(OPTION)])];

const SEARCH: Grammar =
    &[Either(&[RETURN]), Maybe(&[Space, Word(b"CHARSET"), Space, Astring]), Space, Values];

/// RFC 5256, with the RETURN of RFC 5267.
const SORT: Grammar = &[Either(&[RETURN]), Space, List(&[Atom]), Space, Astring, Space, Values];
const THREAD: Grammar = &[Space, Atom, Space, Astring, Space, Values];

/// RFC 7162 section 3.1.3, and Gmail's labels beside flags. Flags may stand without parentheses.
const STORE: Grammar = &[
    Space,
    Set,
    Space,
    Maybe(&[Octet(b'('), Word(b"UNCHANGEDSINCE"), Space, Number64, Octet(b')'), Space]),
    Maybe(&[Either(&[&[Octet(b'+')], &[Octet(b'-')]])]),
    Either(&[
        &[
            Either(&[&[Word(b"FLAGS.SILENT")], &[Word(b"FLAGS")]]),
            Space,
            Either(&[&[Flags], &[Flag, Repeat(&[Space, Flag])]]),
        ],
        &[
            Either(&[&[Word(b"X-GM-LABELS.SILENT")], &[Word(b"X-GM-LABELS")]]),
            Space,
            Either(&[&[List(LABEL)], &[Either(&[LABEL]), Repeat(&[Space, Either(&[LABEL])])]]),
        ],
    ]),
];

/// `\Inbox` or a name.
const LABEL: Grammar = &[Either(&[&[Astring], &[Flag]])];

const SET_QUOTA: Grammar = &[Space, Astring, Space, List(&[Atom, Space, Number64])];
const TWO_NAMES: Grammar = &[Space, Astring, Space, Astring];
const THREE_NAMES: Grammar = &[Space, Astring, Space, Astring, Space, Astring];

/// RFC 5464 section 5: its grammar has the options before the mailbox, some of its examples behind it.
const GET_METADATA: Grammar = &[
    Space,
    Maybe(&[List(METADATA_OPTION), Space]),
    Astring,
    Space,
    Maybe(&[
        Octet(b'('),
        Either(&[METADATA_OPTION]),
        Repeat(&[Space, Either(&[METADATA_OPTION])]),
        Octet(b')'),
        Space,
    ]),
    Either(&[&[Astring], &[List(&[Astring])]]),
];
const METADATA_OPTION: Grammar = &[Either(&[
    &[Word(b"MAXSIZE"), Space, Number],
    &[Word(b"DEPTH"), Space, Either(&[&[Word(b"INFINITY")], &[Number]])],
])];
const SET_METADATA: Grammar = &[Space, Astring, Space, List(&[Astring, Space, NString])];

/// RFC 5255: comparators have wildcards.
const NAMES: Grammar = &[Repeat(&[Space, Pattern])];

const TABLE: &[(Verb, Forms, Grammar)] = &[
    (Verb::Capability, Forms::Plain, NOTHING),
    (Verb::Noop, Forms::Plain, NOTHING),
    (Verb::Logout, Forms::Plain, NOTHING),
    (Verb::Id, Forms::Plain, ID),
    (Verb::StartTls, Forms::Plain, NOTHING),
    (Verb::Create, Forms::Plain, CREATE),
    (Verb::Delete, Forms::Plain, MAILBOX),
    (Verb::Rename, Forms::Plain, TWO_NAMES),
    (Verb::Subscribe, Forms::Plain, MAILBOX),
    (Verb::Unsubscribe, Forms::Plain, MAILBOX),
    (Verb::List, Forms::Plain, LIST),
    (Verb::Lsub, Forms::Plain, LSUB),
    (Verb::Xlist, Forms::Plain, LSUB),
    (Verb::Namespace, Forms::Plain, NOTHING),
    (Verb::Status, Forms::Plain, STATUS),
    (Verb::Idle, Forms::Plain, NOTHING),
    (Verb::Check, Forms::Plain, NOTHING),
    (Verb::Close, Forms::Plain, NOTHING),
    (Verb::Unselect, Forms::Plain, NOTHING),
    (Verb::Expunge, Forms::Plain, NOTHING),
    (Verb::Expunge, Forms::Uid, &[Space, Set]),
    (Verb::Search, Forms::Both, SEARCH),
    (Verb::Sort, Forms::Both, SORT),
    (Verb::Thread, Forms::Both, THREAD),
    (Verb::Store, Forms::Both, STORE),
    (Verb::Copy, Forms::Both, SET_AND_MAILBOX),
    (Verb::Move, Forms::Both, SET_AND_MAILBOX),
    (Verb::GetQuota, Forms::Plain, MAILBOX),
    (Verb::GetQuotaRoot, Forms::Plain, MAILBOX),
    (Verb::SetQuota, Forms::Plain, SET_QUOTA),
    (Verb::GetAcl, Forms::Plain, MAILBOX),
    (Verb::SetAcl, Forms::Plain, THREE_NAMES),
    (Verb::DeleteAcl, Forms::Plain, TWO_NAMES),
    (Verb::ListRights, Forms::Plain, TWO_NAMES),
    (Verb::MyRights, Forms::Plain, MAILBOX),
    (Verb::GetMetadata, Forms::Plain, GET_METADATA),
    (Verb::SetMetadata, Forms::Plain, SET_METADATA),
    (Verb::Comparator, Forms::Plain, NAMES),
    (Verb::Language, Forms::Plain, NAMES),
    (Verb::XApplePushService, Forms::Plain, &[Repeat(&[Space, Value])]),
    (Verb::Compress, Forms::Plain, &[Space, Atom]),
];

/// The arguments of one form of a verb; nothing where the verb has no such form or is no entry of the table.
pub(super) fn grammar(verb: Verb, uid: bool) -> Option<Grammar> {
    let fits = |forms| forms == Forms::Both || (forms == Forms::Uid) == uid;
    TABLE.iter().find(|(entry, forms, _)| *entry == verb && fits(*forms)).map(|(_, _, grammar)| *grammar)
}

/// SELECT and EXAMINE behind the mailbox: RFC 7162 sections 3.1.8 and 3.2.5.
pub(super) const SELECT_PARAMETERS: Grammar = &[Maybe(&[
    Space,
    Octet(b'('),
    Either(&[SELECT_PARAMETER]),
    Repeat(&[Space, Either(&[SELECT_PARAMETER])]),
    Octet(b')'),
])];

const SELECT_PARAMETER: Grammar = &[Either(&[
    &[Word(b"CONDSTORE")],
    &[
        Word(b"QRESYNC"),
        Space,
        Octet(b'('),
        Number,
        Space,
        Number64,
        Maybe(&[Space, Set]),
        Maybe(&[Space, Octet(b'('), Set, Space, Set, Octet(b')')]),
        Octet(b')'),
    ],
])];
