//! Which capabilities a command needs. The tables of `allow` say what passes; a policy that hides some of it refuses the
//! commands that would use it all the same, because servers answer many of them whether or not they are offered.

use std::borrow::Cow;

use crate::imap::command::{Arguments, ClientCommand, Verb};
use crate::imap::fetch::{FetchItem, FetchRequest};
use crate::imap::token::{Cursor, Malformed};

/// The name of a capability, in capitals but for what the client wrote itself.
type Name<'a> = Cow<'a, [u8]>;

/// What every command of a verb needs.
pub(super) const fn of_verb(verb: Verb) -> &'static [&'static str] {
    match verb {
        Verb::Id => &["ID"],
        Verb::Enable => &["ENABLE"],
        Verb::Xlist => &["XLIST"],
        Verb::Namespace => &["NAMESPACE"],
        Verb::Idle => &["IDLE"],
        Verb::Unselect => &["UNSELECT"],
        Verb::Sort => &["SORT"],
        Verb::Thread => &["THREAD="],
        Verb::Move => &["MOVE"],
        Verb::Replace => &["REPLACE"],
        Verb::GetQuota | Verb::GetQuotaRoot => &["QUOTA"],
        Verb::SetQuota => &["QUOTA", "QUOTASET"],
        Verb::GetAcl | Verb::SetAcl | Verb::DeleteAcl | Verb::ListRights | Verb::MyRights => &["ACL"],
        // RFC 5255 section 4.7.
        Verb::Comparator => &["I18NLEVEL=2"],
        Verb::XApplePushService => &["XAPPLEPUSHSERVICE"],
        _ => &[],
    }
}

/// What a command needs.
///
/// # Errors
/// Its arguments cannot be told apart, which its syntax forbids.
pub(super) fn used<'a>(command: &ClientCommand<'a>, unit: &'a [u8]) -> Result<Vec<Name<'a>>, Malformed> {
    let mut names: Vec<Name<'a>> = Vec::new();
    let mut needs = |name: &'static str| names.push(Cow::Borrowed(name.as_bytes()));
    of_verb(command.verb).iter().copied().for_each(&mut needs);
    match &command.arguments {
        Arguments::Fetch(request) => of_fetch(request, needs),
        Arguments::Append(request) => {
            if request.messages.len() > 1 {
                needs("MULTIAPPEND");
            }
            let is_utf8 = |message: &std::ops::Range<usize>| is_utf8_message(unit, message.start);
            if request.messages.iter().any(is_utf8) {
                needs("UTF8=ACCEPT");
            }
        }
        Arguments::Authenticate { initial: Some(_), .. } => needs("SASL-IR"),
        Arguments::Select { .. } | Arguments::Plain => {
            let arguments = arguments(command, unit)?;
            of_arguments(command, &arguments, &mut names);
        }
        _ => {}
    }
    Ok(names)
}

/// Whether the message whose octets begin here is announced as `UTF8 (~{n}` (RFC 6855 section 4).
fn is_utf8_message(unit: &[u8], at: usize) -> bool {
    const FORM: &[u8] = b"UTF8 (~";
    let before = unit.get(..at).unwrap_or_default();
    let head = before.iter().rposition(|octet| *octet == b'{').and_then(|brace| before.get(..brace));
    let form = head.and_then(|head| head.get(head.len().checked_sub(FORM.len())?..));
    form.is_some_and(|form| form.eq_ignore_ascii_case(FORM))
}

fn of_fetch(request: &FetchRequest<'_>, mut needs: impl FnMut(&'static str)) {
    if request.set == b"$" {
        needs("SEARCHRES");
    }
    for item in &request.items {
        match item {
            FetchItem::ModSeq => needs("CONDSTORE"),
            FetchItem::SaveDate => needs("SAVEDATE"),
            FetchItem::EmailId | FetchItem::ThreadId => needs("OBJECTID"),
            FetchItem::GmMsgId | FetchItem::GmThrId | FetchItem::GmLabels => needs("X-GM-EXT-1"),
            _ => {}
        }
    }
    let modifiers = request.modifiers.unwrap_or_default();
    for word in modifiers.split(|octet| !octet.is_ascii_alphanumeric()) {
        match word {
            _ if word.eq_ignore_ascii_case(b"CHANGEDSINCE") => needs("CONDSTORE"),
            _ if word.eq_ignore_ascii_case(b"VANISHED") => needs("QRESYNC"),
            _ => {}
        }
    }
}

/// One argument of a command.
#[derive(Debug, PartialEq, Eq)]
enum Argument<'a> {
    /// A run of octets without quotes.
    Atom(&'a [u8]),
    /// A string, without quotes and escapes.
    Text(Cow<'a, [u8]>),
    /// What stands in parentheses.
    List(Vec<Argument<'a>>),
}

impl<'a> Argument<'a> {
    fn is(&self, word: &str) -> bool {
        matches!(self, Self::Atom(atom) if atom.eq_ignore_ascii_case(word.as_bytes()))
    }

    fn list(&self) -> Option<&[Self]> {
        match self {
            Self::List(arguments) => Some(arguments),
            _ => None,
        }
    }

    const fn atom(&self) -> Option<&'a [u8]> {
        match self {
            Self::Atom(atom) => Some(atom),
            _ => None,
        }
    }

    /// What it says, in quotes or not.
    fn word(&self) -> Option<&[u8]> {
        match self {
            Self::Atom(atom) => Some(atom),
            Self::Text(text) => Some(text),
            Self::List(_) => None,
        }
    }
}

/// What stands behind the verb.
fn arguments<'a>(command: &ClientCommand<'_>, unit: &'a [u8]) -> Result<Vec<Argument<'a>>, Malformed> {
    let uid = if command.uid { b"UID ".len() } else { 0 };
    let begin = command.tag.len() + 1 + uid + command.name.len();
    let mut cursor = Cursor::new(unit.get(begin..).unwrap_or_default());
    let mut outer: Vec<Vec<Argument<'a>>> = Vec::new();
    let mut now = Vec::new();
    loop {
        match cursor.peek() {
            None | Some(b'\r' | b'\n') => break,
            Some(b' ') => drop(cursor.skip(b' ')),
            Some(b'(') => {
                cursor.skip(b'(');
                outer.push(std::mem::take(&mut now));
            }
            Some(b')') => {
                cursor.skip(b')');
                let before = outer.pop().ok_or(cursor.malformed())?;
                let list = std::mem::replace(&mut now, before);
                now.push(Argument::List(list));
            }
            // A tilde begins an atom here, such as a folder's name: no grammar of these commands has a `~{n}`.
            Some(b'"' | b'{') => now.push(Argument::Text(cursor.string()?)),
            Some(_) => {
                let ends = |octet| matches!(octet, b' ' | b'(' | b')' | b'\r' | b'\n');
                now.push(Argument::Atom(cursor.run(|octet| !ends(octet))?));
            }
        }
    }
    if outer.is_empty() { Ok(now) } else { Err(cursor.malformed()) }
}

fn of_arguments<'a>(command: &ClientCommand<'_>, arguments: &[Argument<'a>], names: &mut Vec<Name<'a>>) {
    let mut needs = |name: &'static str| names.push(Cow::Borrowed(name.as_bytes()));
    let (first, second) = (arguments.first(), arguments.get(1));
    let list = second.and_then(Argument::list);
    let of_saved_result = matches!(command.verb, Verb::Store | Verb::Copy | Verb::Move | Verb::Expunge);
    if of_saved_result && first.is_some_and(|set| set.is("$")) {
        needs("SEARCHRES");
    }
    match command.verb {
        Verb::Expunge if command.uid => needs("UIDPLUS"),
        // The parameters are named as the capabilities are (RFC 7162 sections 3.1.8 and 3.2.5).
        Verb::Select | Verb::Examine => {
            for parameter in ["CONDSTORE", "QRESYNC"] {
                if list.is_some_and(|list| list.iter().any(|each| each.is(parameter))) {
                    needs(parameter);
                }
            }
        }
        Verb::Create if list.is_some() => needs("CREATE-SPECIAL-USE"),
        Verb::Store => {
            if list.and_then(<[_]>::first).is_some_and(|word| word.is("UNCHANGEDSINCE")) {
                needs("CONDSTORE");
            }
            let item = arguments.get(if list.is_some() { 2 } else { 1 }).and_then(Argument::atom);
            if item.is_some_and(|item| {
                is_of_gmail(item.strip_prefix(b"+").or(item.strip_prefix(b"-")).unwrap_or(item))
            }) {
                needs("X-GM-EXT-1");
            }
        }
        Verb::Status => list.into_iter().flatten().filter_map(of_status).for_each(needs),
        Verb::List => of_list(arguments, needs),
        Verb::GetMetadata | Verb::SetMetadata => {
            // RFC 5464 section 3.1: an empty name stands for the server. Options may stand before and behind it.
            let is_of_server =
                arguments.iter().any(|each| matches!(each, Argument::Text(text) if text.is_empty()));
            needs(if is_of_server { "METADATA-SERVER" } else { "METADATA" });
        }
        Verb::Search => of_search(arguments, "ESEARCH", names),
        Verb::Sort => of_search(arguments, "ESORT", names),
        Verb::Thread => {
            if let Some(algorithm) = first.and_then(Argument::atom) {
                names.push(Cow::Owned([b"THREAD=", algorithm].concat()));
            }
            // Behind the algorithm stands a character set, and then what SEARCH has.
            of_keys(arguments.get(2..).unwrap_or_default(), names);
        }
        _ => {}
    }
}

/// An item of STATUS; X-SIZE is Dovecot's older name of SIZE.
fn of_status(item: &Argument<'_>) -> Option<&'static str> {
    const ITEMS: [(&str, &str); 4] = [
        ("SIZE", "STATUS=SIZE"),
        ("X-SIZE", "STATUS=SIZE"),
        ("HIGHESTMODSEQ", "CONDSTORE"),
        ("MAILBOXID", "OBJECTID"),
    ];
    ITEMS.into_iter().find(|(name, _)| item.is(name)).map(|(_, needed)| needed)
}

/// LIST as RFC 5258 extends it: options before, several patterns, RETURN behind.
fn of_list(arguments: &[Argument<'_>], mut needs: impl FnMut(&'static str)) {
    const OPTIONS: [(&str, &str); 4] = [
        ("SPECIAL-USE", "SPECIAL-USE"),
        ("STATUS", "LIST-STATUS"),
        ("MYRIGHTS", "LIST-MYRIGHTS"),
        ("METADATA", "LIST-METADATA"),
    ];
    for (index, argument) in arguments.iter().enumerate() {
        let Some(option) = argument.list() else { continue };
        needs("LIST-EXTENDED");
        let before = index.checked_sub(1).and_then(|before| arguments.get(before));
        if before.is_some_and(|before| !before.is("RETURN")) {
            // Patterns.
            continue;
        }
        for (name, needed) in OPTIONS {
            if option.iter().any(|each| each.is(name)) {
                needs(needed);
            }
        }
        option.iter().filter_map(Argument::list).flatten().filter_map(of_status).for_each(&mut needs);
    }
}

/// SEARCH, and SORT with its keys: RETURN, the keys of SORT and the character set stand before what is searched for.
fn of_search(arguments: &[Argument<'_>], with_return: &'static str, names: &mut Vec<Name<'_>>) {
    let mut needs = |name: &'static str| names.push(Cow::Borrowed(name.as_bytes()));
    let mut rest = arguments;
    if let [word, Argument::List(options), behind @ ..] = rest
        && word.is("RETURN")
    {
        needs(with_return);
        if options.iter().any(|option| option.is("SAVE")) {
            needs("SEARCHRES");
        }
        rest = behind;
    }
    if with_return == "ESORT" {
        let [Argument::List(keys), _charset, behind @ ..] = rest else { return };
        if keys.iter().any(|key| key.is("DISPLAYFROM") || key.is("DISPLAYTO")) {
            needs("SORT=DISPLAY");
        }
        rest = behind;
    } else if let [word, _charset, behind @ ..] = rest
        && word.is("CHARSET")
    {
        rest = behind;
    }
    of_keys(rest, names);
}

/// Keys of SEARCH without a value (RFC 9051 section 6.4.4, RFC 3501, and the extensions that are let through), and those
/// that stand before other keys. RFC 7162 section 3.1.5 has ALL, PRIV and SHARED between the entry of MODSEQ and its number.
#[rustfmt::skip]
const KEYS_ALONE: &[&str] = &[
    "ALL", "ANSWERED", "DELETED", "DRAFT", "FLAGGED", "NEW", "OLD", "RECENT", "SEEN", "UNANSWERED", "UNDELETED",
    "UNDRAFT", "UNFLAGGED", "UNSEEN", "NOT", "OR", "SAVEDATESUPPORTED", "PRIV", "SHARED", "$",
];

/// The same with one value behind them. A value is no key, whatever it says. MODSEQ is followed by its number or by an
/// entry: what else stands behind an entry is known, and a server may take any string for the number. INTHREAD is
/// Dovecot's: a key stands behind its algorithm.
#[rustfmt::skip]
const KEYS_WITH_VALUE: &[&str] = &[
    "BCC", "BEFORE", "BODY", "CC", "FROM", "KEYWORD", "ON", "SINCE", "SUBJECT", "TEXT", "TO", "UNKEYWORD", "LARGER",
    "SENTBEFORE", "SENTON", "SENTSINCE", "SMALLER", "UID", "OLDER", "YOUNGER", "SAVEDBEFORE", "SAVEDON", "SAVEDSINCE",
    "X-SAVEDBEFORE", "X-SAVEDON", "X-SAVEDSINCE", "EMAILID", "THREADID", "MODSEQ", "INTHREAD",
    "X-GM-RAW", "X-GM-MSGID", "X-GM-THRID", "X-GM-LABELS",
];

/// Keys of SEARCH that belong to an extension. Those with X- are what Dovecot called them first, and still takes.
const KEYS: &[(&str, &str)] = &[
    ("OLDER", "WITHIN"),
    ("YOUNGER", "WITHIN"),
    ("MODSEQ", "CONDSTORE"),
    ("SAVEDBEFORE", "SAVEDATE"),
    ("SAVEDON", "SAVEDATE"),
    ("SAVEDSINCE", "SAVEDATE"),
    ("X-SAVEDBEFORE", "SAVEDATE"),
    ("X-SAVEDON", "SAVEDATE"),
    ("X-SAVEDSINCE", "SAVEDATE"),
    ("SAVEDATESUPPORTED", "SAVEDATE"),
    ("EMAILID", "OBJECTID"),
    ("THREADID", "OBJECTID"),
    ("$", "SEARCHRES"),
];

/// How many values stand behind a key; `None` where nobody knows.
fn values_behind(key: &[u8]) -> Option<usize> {
    let is_in = |keys: &[&str]| keys.iter().any(|name| key.eq_ignore_ascii_case(name.as_bytes()));
    let is_set = || key.iter().all(|octet| octet.is_ascii_digit() || matches!(octet, b':' | b',' | b'*'));
    match key {
        _ if is_in(KEYS_ALONE) || is_set() => Some(0),
        _ if is_in(KEYS_WITH_VALUE) => Some(1),
        _ if key.eq_ignore_ascii_case(b"HEADER") => Some(2),
        _ => None,
    }
}

/// The keys of a search. Behind a key that nobody knows here, a server may take any word for a key or for a value: from
/// there on each counts as a key, so that nothing hidden is reached by a key that has more or fewer values than it seems.
fn of_keys(keys: &[Argument<'_>], names: &mut Vec<Name<'_>>) {
    let mut lists = vec![(keys, true)];
    while let Some((keys, mut in_step)) = lists.pop() {
        let mut rest = keys.iter();
        while let Some(key) = rest.next() {
            lists.extend(key.list().map(|list| (list, in_step)));
            let Some(word) = key.word() else { continue };
            let known = KEYS.iter().find(|(name, _)| word.eq_ignore_ascii_case(name.as_bytes()));
            names.extend(known.map(|(_, needed)| Cow::Borrowed(needed.as_bytes())));
            if is_of_gmail(word) {
                names.push(Cow::Borrowed(b"X-GM-EXT-1"));
            }
            let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
            let value = rest.as_slice().first();
            if is("INTHREAD") {
                let algorithm = value.and_then(Argument::word).unwrap_or_default();
                names.push(Cow::Owned([b"THREAD=", algorithm].concat()));
            }
            // Dovecot takes the saved result in quotes, too.
            if is("UID") && value.and_then(Argument::word).is_some_and(|set| set.contains(&b'$')) {
                names.push(Cow::Borrowed(b"SEARCHRES"));
            }
            // No server takes a string for a key.
            let values = key.atom().and_then(values_behind);
            in_step &= values.is_some();
            if in_step {
                let values = rest.by_ref().take(values.unwrap_or_default());
                // No key has a list for its value.
                lists.extend(values.filter_map(Argument::list).map(|list| (list, false)));
            }
        }
    }
}

/// Items and keys of Gmail's extension.
fn is_of_gmail(word: &[u8]) -> bool {
    super::allow::begins(word, "X-GM-")
}
