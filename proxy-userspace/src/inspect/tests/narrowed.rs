//! What a policy hides: capabilities with their commands, mechanisms, the command LOGIN, what servers tell of themselves,
//! and long lines.

use super::*;
use crate::config;
use crate::imap::command::{ClientCommand, Verb};
use crate::imap::tests::dialogues::CLIENTS;
use crate::inspect::allow;

/// What these lines of `[action.capabilities]` and `[action.general]` say.
fn terms(capabilities: &str, general: &str) -> ImapTerms {
    let text = format!(
        "[steering]\ningress = [\"lan0\"]\negress = [\"wan0\"]\n\
         [certificates]\nauthority = {{ cert = \"a\", key = \"b\" }}\n\
         [action.capabilities]\n{capabilities}\n[action.general]\n{general}\n"
    );
    ImapTerms::of(&config::parse(&text, std::path::Path::new("/postern.toml")).unwrap().unnamed_action)
}

fn hiding(names: &[&str]) -> Dialogue {
    Dialogue::under(terms(&format!("hide = {names:?}"), ""))
}

fn without_banner() -> Dialogue {
    Dialogue::under(terms("", "hide_banner = true"))
}

/// A session in which a mailbox is selected, as far as the engine cares.
fn refuses(names: &[&str], command: &str) -> bool {
    let mut dialogue = hiding(names);
    dialogue.client(command);
    let (client, server) = (dialogue.client_got(), dialogue.server_got());
    assert_ne!(client.contains("this gateway hides"), !server.is_empty(), "{command}: {client:?} {server:?}");
    if server.is_empty() {
        assert!(client.starts_with("a BAD ") || client.starts_with("+ "), "{command}: {client}");
    }
    server.is_empty()
}

#[test]
fn a_hidden_capability_stands_in_no_list() {
    const LIST: &str =
        "IMAP4rev1 IDLE THREAD=REFERENCES THREAD=ORDEREDSUBJECT LITERAL+ SORT SORT=DISPLAY CONDSTORE QRESYNC";
    for (before, behind) in [
        ("* OK [CAPABILITY ", "] ready\r\n"),
        ("* PREAUTH [CAPABILITY ", "] ready\r\n"),
        ("* CAPABILITY ", "\r\n"),
        ("a OK [CAPABILITY ", "] in\r\n"),
        ("* NO [CAPABILITY ", "] no\r\n"),
    ] {
        for (hidden, shown) in [
            (
                &["IDLE"][..],
                "IMAP4rev1 THREAD=REFERENCES THREAD=ORDEREDSUBJECT LITERAL- SORT SORT=DISPLAY CONDSTORE QRESYNC",
            ),
            (
                &["idle", "thread=references"],
                "IMAP4rev1 THREAD=ORDEREDSUBJECT LITERAL- SORT SORT=DISPLAY CONDSTORE QRESYNC",
            ),
            (&["THREAD=", "LITERAL-"], "IMAP4rev1 IDLE SORT SORT=DISPLAY CONDSTORE QRESYNC"),
            (&["SORT", "CONDSTORE"], "IMAP4rev1 IDLE THREAD=REFERENCES THREAD=ORDEREDSUBJECT LITERAL-"),
            (
                &["SORT=DISPLAY", "QRESYNC"],
                "IMAP4rev1 IDLE THREAD=REFERENCES THREAD=ORDEREDSUBJECT LITERAL- SORT CONDSTORE",
            ),
        ] {
            let mut dialogue = hiding(hidden);
            dialogue.client("a NOOP\r\n");
            dialogue.server(&format!("{before}{LIST}{behind}"));
            let expected = format!("{before}{shown} APPENDLIMIT=100000{behind}");
            assert_eq!(dialogue.client_got(), expected, "{hidden:?}");
        }
    }
}

#[test]
fn enable_does_not_switch_on_what_is_hidden() {
    let mut dialogue = hiding(&["CONDSTORE"]);
    dialogue.client("a ENABLE CONDSTORE QRESYNC UTF8=ACCEPT\r\n");
    assert_eq!(dialogue.server_got(), "a ENABLE UTF8=ACCEPT\r\n");
    dialogue.server("* ENABLED CONDSTORE UTF8=ACCEPT\r\na OK done\r\n");
    assert_eq!(dialogue.client_got(), "* ENABLED UTF8=ACCEPT\r\na OK done\r\n");
}

/// A capability, a command that needs it, and one that looks much like it and does not.
const NEEDS: &[(&str, &str, &str)] = &[
    ("SASL-IR", "a AUTHENTICATE PLAIN AGEAYg==\r\n", "a AUTHENTICATE PLAIN\r\n"),
    ("ID", "a ID NIL\r\n", "a NOOP\r\n"),
    ("ENABLE", "a ENABLE CONDSTORE\r\n", "a NOOP\r\n"),
    ("IDLE", "a idle\r\n", "a SUBSCRIBE IDLE\r\n"),
    ("NAMESPACE", "a NAMESPACE\r\n", "a LIST \"\" NAMESPACE\r\n"),
    ("SPECIAL-USE", "a LIST (SPECIAL-USE) \"\" *\r\n", "a LIST () \"\" *\r\n"),
    (
        "SPECIAL-USE",
        "a LIST \"\" * RETURN (SPECIAL-USE)\r\n",
        "a LIST \"\" (SPECIAL-USE) RETURN (CHILDREN)\r\n",
    ),
    ("CREATE-SPECIAL-USE", "a CREATE x (USE (\\Sent))\r\n", "a CREATE USE\r\n"),
    ("SPECIAL-USE", "a CREATE x (USE (\\Sent))\r\n", "a CREATE USE\r\n"),
    ("XLIST", "a XLIST \"\" *\r\n", "a LIST \"\" *\r\n"),
    ("LIST-EXTENDED", "a LIST (SUBSCRIBED) \"\" *\r\n", "a LIST \"\" *\r\n"),
    ("LIST-EXTENDED", "a LIST \"\" (a b)\r\n", "a LIST \"\" \"(a b)\"\r\n"),
    ("LIST-EXTENDED", "a LIST \"\" * RETURN (CHILDREN)\r\n", "a LIST RETURN *\r\n"),
    ("LIST-STATUS", "a LIST \"\" * RETURN (STATUS (MESSAGES))\r\n", "a LIST \"\" * RETURN (CHILDREN)\r\n"),
    ("LIST-MYRIGHTS", "a LIST \"\" * RETURN (MYRIGHTS)\r\n", "a LIST \"\" * RETURN (CHILDREN)\r\n"),
    ("LIST-METADATA", "a LIST \"\" * RETURN (METADATA (/a))\r\n", "a LIST \"\" * RETURN (CHILDREN)\r\n"),
    ("METADATA", "a LIST \"\" * RETURN (METADATA (/a))\r\n", "a LIST \"\" * RETURN (CHILDREN)\r\n"),
    ("UIDPLUS", "a UID EXPUNGE 1\r\n", "a EXPUNGE\r\n"),
    ("MOVE", "a UID MOVE 1 x\r\n", "a UID COPY 1 MOVE\r\n"),
    ("UNSELECT", "a UNSELECT\r\n", "a CLOSE\r\n"),
    ("CONDSTORE", "a SELECT x (CONDSTORE)\r\n", "a SELECT CONDSTORE\r\n"),
    ("CONDSTORE", "a EXAMINE {1+}\r\nx (condstore)\r\n", "a EXAMINE {9+}\r\nCONDSTORE\r\n"),
    ("CONDSTORE", "a FETCH 1 (FLAGS MODSEQ)\r\n", "a FETCH 1 (FLAGS BODY.PEEK[HEADER.FIELDS (MODSEQ)])\r\n"),
    ("CONDSTORE", "a FETCH 1 FLAGS (CHANGEDSINCE 5)\r\n", "a FETCH 1 FLAGS\r\n"),
    ("CONDSTORE", "a STORE 1 (UNCHANGEDSINCE 5) FLAGS (x)\r\n", "a STORE 1 FLAGS (UNCHANGEDSINCE)\r\n"),
    ("CONDSTORE", "a SEARCH MODSEQ 5\r\n", "a SEARCH SUBJECT MODSEQ\r\n"),
    (
        "CONDSTORE",
        "a SEARCH OR (SEEN MODSEQ \"/flags/x\" all 5) NEW\r\n",
        "a SEARCH OR (SEEN HEADER X MODSEQ) NEW\r\n",
    ),
    ("CONDSTORE", "a STATUS x (HIGHESTMODSEQ)\r\n", "a STATUS HIGHESTMODSEQ (MESSAGES)\r\n"),
    (
        "CONDSTORE",
        "a LIST \"\" * RETURN (STATUS (HIGHESTMODSEQ))\r\n",
        "a LIST \"\" * RETURN (STATUS (MESSAGES))\r\n",
    ),
    ("QRESYNC", "a SELECT x (QRESYNC (1 2))\r\n", "a SELECT QRESYNC (CONDSTORE)\r\n"),
    ("CONDSTORE", "a SELECT x (QRESYNC (1 2))\r\n", "a SELECT QRESYNC\r\n"),
    (
        "QRESYNC",
        "a UID FETCH 1 FLAGS (CHANGEDSINCE 5 VANISHED)\r\n",
        "a UID FETCH 1 FLAGS (CHANGEDSINCE 5)\r\n",
    ),
    ("ESEARCH", "a UID SEARCH RETURN (MIN) ALL\r\n", "a UID SEARCH SUBJECT RETURN ALL\r\n"),
    ("ESORT", "a SORT RETURN (MIN) (DATE) UTF-8 ALL\r\n", "a SORT (DATE) UTF-8 SUBJECT RETURN\r\n"),
    ("SEARCHRES", "a SEARCH RETURN (SAVE) ALL\r\n", "a SEARCH RETURN (MIN) SUBJECT SAVE\r\n"),
    ("SEARCHRES", "a FETCH $ FLAGS\r\n", "a FETCH 1 FLAGS\r\n"),
    ("SEARCHRES", "a SEARCH UID $\r\n", "a SEARCH SUBJECT $\r\n"),
    ("SEARCHRES", "a SEARCH UID \"$\"\r\n", "a SEARCH UID \"1:5\"\r\n"),
    ("SEARCHRES", "a SEARCH NOT UID {1+}\r\n$\r\n", "a SEARCH NOT UID {1+}\r\n7\r\n"),
    ("SEARCHRES", "a SEARCH NOT $\r\n", "a SEARCH NOT FROM $\r\n"),
    ("SEARCHRES", "a COPY $ x\r\n", "a COPY 1 $\r\n"),
    ("WITHIN", "a SEARCH CHARSET UTF-8 YOUNGER 5\r\n", "a SEARCH CHARSET UTF-8 TEXT YOUNGER\r\n"),
    ("WITHIN", "a SORT (DATE) UTF-8 OLDER 5\r\n", "a SORT (DATE) UTF-8 TEXT OLDER\r\n"),
    ("WITHIN", "a THREAD REFERENCES UTF-8 OLDER 5\r\n", "a THREAD REFERENCES UTF-8 TEXT \"OLDER 5\"\r\n"),
    // Behind a key with values that nobody counts, any word may be a key.
    ("WITHIN", "a SEARCH OR X-GUID SUBJECT OLDER 5\r\n", "a SEARCH OR X-GUID SUBJECT NEW\r\n"),
    (
        "WITHIN",
        "a SEARCH X-MAILBOX FROM (NOT (SUBJECT OLDER)) 5\r\n",
        "a SEARCH X-MAILBOX (SUBJECT \"OLDER 5\")\r\n",
    ),
    ("WITHIN", "a SEARCH \"x\" SUBJECT \"older\" 5\r\n", "a SEARCH 1:*,7 SUBJECT \"older\"\r\n"),
    ("WITHIN", "a SEARCH FROM (OLDER 5)\r\n", "a SEARCH (FROM OLDER) 5\r\n"),
    ("WITHIN", "a SEARCH (X-GUID x) OLDER 5\r\n", "a SEARCH (X-GUID x) SUBJECT OLDER\r\n"),
    ("WITHIN", "a SEARCH MODSEQ \"1\" OLDER 5\r\n", "a SEARCH MODSEQ \"/flags/x\" priv 5 SUBJECT OLDER\r\n"),
    ("WITHIN", "a SEARCH TEXT {3+}\r\nabc OLDER 5\r\n", "a SEARCH TEXT {7+}\r\nOLDER 5\r\n"),
    ("SORT", "a UID SORT (DATE) UTF-8 ALL\r\n", "a SEARCH ALL\r\n"),
    (
        "SORT=DISPLAY",
        "a SORT (REVERSE DISPLAYFROM) UTF-8 ALL\r\n",
        "a SORT (FROM) UTF-8 TEXT DISPLAYFROM\r\n",
    ),
    ("THREAD=", "a THREAD REFERENCES UTF-8 ALL\r\n", "a SEARCH ALL\r\n"),
    (
        "THREAD=REFERENCES",
        "a UID THREAD references UTF-8 ALL\r\n",
        "a THREAD ORDEREDSUBJECT UTF-8 TEXT REFERENCES\r\n",
    ),
    ("THREAD=", "a SEARCH INTHREAD REFS SUBJECT x\r\n", "a SEARCH SUBJECT INTHREAD\r\n"),
    (
        "THREAD=REFERENCES",
        "a SEARCH NOT INTHREAD \"references\" (SEEN)\r\n",
        "a SEARCH INTHREAD REFS SUBJECT REFERENCES\r\n",
    ),
    ("I18NLEVEL=2", "a COMPARATOR\r\n", "a NOOP\r\n"),
    ("QUOTA", "a GETQUOTAROOT x\r\n", "a SELECT QUOTA\r\n"),
    ("QUOTASET", "a SETQUOTA x (STORAGE 5)\r\n", "a GETQUOTA x\r\n"),
    ("ACL", "a MYRIGHTS x\r\n", "a SELECT ACL\r\n"),
    ("STATUS=SIZE", "a STATUS x (MESSAGES SIZE)\r\n", "a STATUS SIZE (MESSAGES)\r\n"),
    ("STATUS=SIZE", "a STATUS x (X-SIZE)\r\n", "a STATUS X-SIZE (MESSAGES)\r\n"),
    ("SAVEDATE", "a SEARCH X-SAVEDBEFORE 1-Jan-2020\r\n", "a SEARCH BEFORE 1-Jan-2020\r\n"),
    ("SAVEDATE", "a SEARCH NOT x-savedon 1-Jan-2020\r\n", "a SEARCH KEYWORD X-SAVEDON\r\n"),
    ("SAVEDATE", "a SEARCH (X-SAVEDSINCE 1-Jan-2020)\r\n", "a SEARCH (KEYWORD X-SAVEDSINCE)\r\n"),
    ("SAVEDATE", "a FETCH 1 SAVEDATE\r\n", "a FETCH 1 INTERNALDATE\r\n"),
    ("SAVEDATE", "a SEARCH SAVEDON 1-Jan-2020\r\n", "a SEARCH ON 1-Jan-2020\r\n"),
    ("OBJECTID", "a FETCH 1 (UID EMAILID)\r\n", "a FETCH 1 UID\r\n"),
    ("OBJECTID", "a SEARCH THREADID x\r\n", "a SEARCH KEYWORD THREADID\r\n"),
    ("OBJECTID", "a STATUS x (MAILBOXID)\r\n", "a STATUS x (MESSAGES)\r\n"),
    ("MULTIAPPEND", "a APPEND x {1+}\r\na {1+}\r\nb\r\n", "a APPEND x {1+}\r\na\r\n"),
    ("REPLACE", "a REPLACE 1 x {1+}\r\na\r\n", "a APPEND x {1+}\r\na\r\n"),
    ("UTF8=ACCEPT", "a APPEND x UTF8 (~{1+}\r\na)\r\n", "a APPEND UTF8 {1+}\r\na\r\n"),
    ("UTF8=ACCEPT", "a REPLACE 1 x UTF8 (~{1+}\r\na)\r\n", "a REPLACE 1 UTF8 {1+}\r\na\r\n"),
    ("UTF8=ACCEPT", "a UID REPLACE 1 x (\\Seen) utf8 (~{1+}\r\na)\r\n", "a UID REPLACE 1 x ~{1+}\r\na\r\n"),
    ("X-GM-EXT-1", "a FETCH 1 X-GM-LABELS\r\n", "a FETCH 1 BODY.PEEK[HEADER.FIELDS (X-GM-LABELS)]\r\n"),
    ("X-GM-EXT-1", "a SEARCH X-GM-RAW x\r\n", "a SEARCH SUBJECT X-GM-RAW\r\n"),
    ("X-GM-EXT-1", "a STORE 1 +X-GM-LABELS (x)\r\n", "a STORE 1 +FLAGS (X-GM-LABELS)\r\n"),
    ("XAPPLEPUSHSERVICE", "a XAPPLEPUSHSERVICE aps-version 2\r\n", "a NOOP\r\n"),
    ("METADATA", "a GETMETADATA x /shared/comment\r\n", "a NOOP\r\n"),
    ("METADATA", "a GETMETADATA \"\" /shared/comment\r\n", "a NOOP\r\n"),
    ("METADATA-SERVER", "a GETMETADATA \"\" /shared/comment\r\n", "a GETMETADATA x /shared/comment\r\n"),
    (
        "METADATA-SERVER",
        "a SETMETADATA {0+}\r\n (/shared/comment NIL)\r\n",
        "a SETMETADATA x (/shared/comment NIL)\r\n",
    ),
    ("LITERAL-", "a SELECT {1+}\r\nx\r\n", "a SELECT x\r\n"),
];

/// Those that no command needs: they say how a server answers.
const OF_ANSWERS: &[&str] = &["CHILDREN", "I18NLEVEL=", "QUOTA=RES-", "RIGHTS="];

#[test]
fn a_command_that_needs_a_hidden_capability_is_refused_and_one_that_looks_like_it_is_not() {
    for (name, needs, does_not) in NEEDS {
        assert!(refuses(&[name], needs), "{name}: {needs}");
        assert!(!refuses(&[name], does_not), "{name}: {does_not}");
        // Nothing is refused where another one is hidden.
        assert!(!refuses(&["I18NLEVEL=1"], needs), "{needs}");
    }
    for name in allow::hideable() {
        let is_covered = NEEDS.iter().any(|(covered, _, _)| *covered == name) || OF_ANSWERS.contains(&name);
        assert!(is_covered, "{name}: which commands need it?");
    }
}

#[test]
fn a_tilde_in_a_name_or_a_word_is_no_reason_to_refuse() {
    for command in [
        "a SELECT ~/mail/Sent\r\n",
        "a LIST \"\" ~%\r\n",
        "a LIST ~joe (~/a b)\r\n",
        "a SEARCH FROM ~joe\r\n",
        "a STORE 1 +FLAGS (~later)\r\n",
        "a COPY 1 ~\r\n",
    ] {
        assert!(!refuses(&["WITHIN"], command), "{command}");
    }
}

#[test]
fn no_command_of_a_real_client_is_refused_for_what_it_does_not_use() {
    let other = terms("hide = [\"I18NLEVEL=1\"]", "");
    let none = terms(&format!("hide = {:?}", allow::hideable().collect::<Vec<_>>()), "");
    let (mut commands, mut refused) = (0, 0);
    for (name, text) in CLIENTS {
        for unit in units(Speaker::Client, text.replace('\n', "\r\n").as_bytes()) {
            let Ok(command) = ClientCommand::parse(&unit) else { continue };
            let said = String::from_utf8_lossy(&unit);
            assert_eq!(other.refuses(&command, &unit), None, "{name}: {said}");
            commands += 1;
            let core = [Verb::Login, Verb::Logout, Verb::Noop, Verb::Capability, Verb::Close, Verb::Expunge];
            if core.contains(&command.verb) && !command.uid {
                assert_eq!(none.refuses(&command, &unit), None, "{name}: {said}");
            }
            refused += usize::from(none.refuses(&command, &unit).is_some());
        }
    }
    assert!(commands > 50 && refused > 10, "{refused} of {commands}");
}

#[test]
fn a_literal_of_a_hidden_command_is_not_asked_for_and_the_session_goes_on() {
    let mut dialogue = hiding(&["REPLACE", "LITERAL-"]);
    dialogue.client("a REPLACE 1 x {90000}\r\n");
    let got = dialogue.client_got();
    assert!(got.starts_with("a BAD ") && got.contains("REPLACE, which this gateway hides"), "{got}");
    // It is swallowed where the client did not wait.
    dialogue.client("b LOGIN alice {8+}\r\nc NOOP\r\n\r\n");
    let got = dialogue.client_got();
    assert!(got.starts_with("b BAD ") && !got.contains("\nc "), "{got}");
    assert_eq!(dialogue.server_got(), "");
    dialogue.client("d NOOP\r\n");
    assert_eq!(dialogue.server_got(), "d NOOP\r\n");
}

#[test]
fn mechanisms_that_are_not_listed_are_hidden_and_refused_before_the_password() {
    let mut dialogue = Dialogue::under(terms("mechanisms = [\"scram-sha-256\", \"XOAUTH2\"]", ""));
    dialogue
        .server("* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN AUTH=XOAUTH2 AUTH=SCRAM-SHA-256 AUTH=GSSAPI] hi\r\n");
    let shown = "* OK [CAPABILITY IMAP4rev1 AUTH=XOAUTH2 AUTH=SCRAM-SHA-256 APPENDLIMIT=100000] hi\r\n";
    assert_eq!(dialogue.client_got(), shown);
    for command in
        ["a AUTHENTICATE PLAIN\r\n", "a authenticate plain AGEAYg==\r\n", "a AUTHENTICATE GSSAPI\r\n"]
    {
        dialogue.client(command);
        let got = dialogue.client_got();
        assert!(got.starts_with("a NO ") && !got.contains("\r\n+"), "{command}: {got}");
    }
    assert_eq!(dialogue.server_got(), "");
    dialogue.client("b AUTHENTICATE SCRAM-SHA-256\r\n");
    assert_eq!(dialogue.server_got(), "b AUTHENTICATE SCRAM-SHA-256\r\n");
}

#[test]
fn scram_that_is_listed_stays_hidden_where_the_channel_could_be_bound() {
    let mut dialogue = Dialogue::under(terms("mechanisms = [\"SCRAM-SHA-256\"]", ""));
    dialogue.server("* CAPABILITY IMAP4rev1 AUTH=SCRAM-SHA-256 AUTH=SCRAM-SHA-256-PLUS\r\n");
    assert_eq!(dialogue.client_got(), "* CAPABILITY IMAP4rev1 APPENDLIMIT=100000\r\n");
    dialogue.client("a AUTHENTICATE SCRAM-SHA-256\r\n");
    assert!(dialogue.client_got().starts_with("a NO "));
}

#[test]
fn without_login_clients_are_told_and_no_password_is_asked_for() {
    let mut dialogue = Dialogue::under(terms("login = false", ""));
    dialogue.server("* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] hi\r\n* CAPABILITY IMAP4rev1 LOGINDISABLED\r\n");
    let shown = "* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN APPENDLIMIT=100000 LOGINDISABLED] hi\r\n\
                 * CAPABILITY IMAP4rev1 LOGINDISABLED APPENDLIMIT=100000\r\n";
    assert_eq!(dialogue.client_got(), shown);
    for command in ["a LOGIN alice secret\r\n", "a login {5}\r\n", "a LOGIN {5+}\r\nalice {6+}\r\nsecret\r\n"]
    {
        dialogue.client(command);
        let got = dialogue.client_got();
        assert!(got.starts_with("a NO LOGIN is switched off") && got.matches("\r\n").count() == 1, "{got}");
    }
    assert_eq!(dialogue.server_got(), "");
    dialogue.client("b AUTHENTICATE PLAIN AGEAYg==\r\n");
    assert_eq!(dialogue.server_got(), "b AUTHENTICATE PLAIN AGEAYg==\r\n");
}

#[test]
fn what_a_server_is_does_not_reach_the_client_and_what_people_must_read_does() {
    for (server, client) in [
        (
            "* OK [CAPABILITY IMAP4rev1] Dovecot ready.\r\n",
            "* OK [CAPABILITY IMAP4rev1 APPENDLIMIT=100000] IMAP4rev1 service ready\r\n",
        ),
        ("* OK Dovecot ready.\r\n", "* OK IMAP4rev1 service ready\r\n"),
        ("* OK\r\n", "* OK IMAP4rev1 service ready\r\n"),
        ("* OK [XYZZY 1.2] Dovecot ready.\r\n", "* OK IMAP4rev1 service ready\r\n"),
        ("* PREAUTH Dovecot ready.\r\n", "* PREAUTH IMAP4rev1 service ready\r\n"),
        ("* BYE Courier-IMAP is busy\r\n", "* BYE The session is over\r\n"),
        ("* BYE [UNAVAILABLE] Courier-IMAP is busy\r\n", "* BYE [UNAVAILABLE] The session is over\r\n"),
        ("* OK [ALERT] Read this\r\n", "* OK [ALERT] Read this\r\n"),
    ] {
        assert_eq!(without_banner().server(server).client_got(), client);
    }
    let mut dialogue = without_banner();
    dialogue.server("* OK Dovecot ready.\r\n").client_got();
    dialogue.client("a NOOP\r\n");
    let server = "* ID (\"name\" \"Dovecot\" \"version\" \"2.3\")\r\n* OK [UIDNEXT 7] Predicted\r\n* NO Over quota\r\n\
                  * id (\"name\" {7}\r\nDovecot)\r\na OK [READ-WRITE] Dovecot is done\r\n";
    let client = "* ID NIL\r\n* OK [UIDNEXT 7] Predicted\r\n* NO Over quota\r\n* ID NIL\r\na OK [READ-WRITE] Completed\r\n";
    assert_eq!(dialogue.server(server).client_got(), client);
    dialogue.client("b NOOP\r\nc NOOP\r\nd NOOP\r\n");
    let server =
        "b NO [LIMIT] Too much\r\nc BAD No such thing\r\nd OK [ALERT] Read this\r\n* BYE Dovecot leaves\r\n";
    let client = server.replace("Dovecot leaves", "The session is over");
    assert_eq!(dialogue.server(server).client_got(), client);
}

#[test]
fn the_plus_of_idle_is_neutral_under_a_hidden_banner_and_that_of_a_login_is_not() {
    let mut dialogue = without_banner();
    dialogue.client("a IDLE\r\n").server("+ idling, says Dovecot\r\n* 5 EXISTS\r\n");
    assert_eq!(dialogue.client_got(), "+ Go on\r\n* 5 EXISTS\r\n");
    dialogue.client("DONE\r\n").server("a OK Idle completed.\r\n");
    assert_eq!(dialogue.client_got(), "a OK Completed\r\n");
    dialogue.client("b AUTHENTICATE CRAM-MD5\r\n").server("+ PDE4OTYuNjk3QGRvdmVjb3Q+\r\n");
    assert_eq!(dialogue.client_got(), "+ PDE4OTYuNjk3QGRvdmVjb3Q+\r\n");
    let mut dialogue = Dialogue::new();
    dialogue.client("a IDLE\r\n").server("+ idling\r\n");
    assert_eq!(dialogue.client_got(), "+ idling\r\n");
}

#[test]
fn mail_under_a_hidden_banner_is_what_it_is() {
    let mut dialogue = without_banner();
    dialogue.client("a FETCH 1 (UID BODY[])\r\n");
    let mail = literal("Subject: Dovecot\r\n\r\n* OK Dovecot ready.\r\n");
    dialogue.server(&format!("* 1 FETCH (UID 1 BODY[] {mail})\r\na OK Fetch completed (0.001 secs).\r\n"));
    assert_eq!(dialogue.client_got(), format!("* 1 FETCH (UID 1 BODY[] {mail})\r\na OK Completed\r\n"));
}

#[test]
fn a_narrowed_session_is_the_same_however_it_is_split() {
    let client = "a CAPABILITY\r\nb IDLE\r\nc LOGIN {5+}\r\nalice {6+}\r\nsecret\r\nd ENABLE CONDSTORE UTF8=ACCEPT\r\n\
                  e SEARCH TEXT {5+}\r\nOLDER OLDER 5\r\nf APPEND x UTF8 (~{1+}\r\na)\r\ng NOOP\r\n";
    let server = "* OK [CAPABILITY IMAP4rev1 IDLE] Dovecot ready.\r\n* CAPABILITY IMAP4rev1 IDLE WITHIN\r\na OK done\r\n\
                  * ID (\"name\" {7}\r\nDovecot)\r\n* ENABLED CONDSTORE UTF8=ACCEPT\r\nd OK done\r\n* BYE Dovecot\r\n";
    let imap = terms("hide = [\"IDLE\", \"CONDSTORE\", \"WITHIN\"]\nlogin = false", "hide_banner = true");
    let run = |octets: usize| {
        let mut dialogue = Dialogue::under(imap.clone());
        dialogue.batch_bytes = octets;
        dialogue.client(client).server(server);
        // A command that is refused before it is complete is answered before those that wait.
        let got = dialogue.client_got();
        let mut lines: Vec<&str> = got.split_inclusive("\r\n").collect();
        lines.sort_unstable();
        (lines.concat(), dialogue.server_got())
    };
    let whole = run(4096);
    assert!(
        !whole.0.contains("Dovecot") && !whole.0.contains("rev1 IDLE") && whole.0.contains("b BAD "),
        "{whole:?}"
    );
    assert!(
        !whole.1.contains("OLDER") && !whole.1.contains("IDLE") && !whole.1.contains("alice"),
        "{whole:?}"
    );
    for octets in 1..40 {
        assert_eq!(run(octets), whole, "in pieces of {octets}");
    }
}

#[test]
fn a_command_longer_than_the_policy_lets_through_ends_the_session_and_its_literals_do_not_count() {
    let dialogue = || Dialogue::under(terms("", "line_length = 1000"));
    let line =
        |octets: usize| format!("a SEARCH TEXT {}\r\n", "x".repeat(octets - "a SEARCH TEXT \r\n".len()));
    dialogue().says(Side::Downstream, line(1000).as_bytes()).unwrap();
    for batch_bytes in [1, 7, 4096] {
        let mut dialogue = dialogue();
        dialogue.batch_bytes = batch_bytes;
        let fault = dialogue.says(Side::Downstream, line(1001).as_bytes()).unwrap_err();
        assert_eq!(fault, InspectRefusal::LineTooLong(1000));
        assert_eq!(dialogue.server_got(), "", "no octet of it went on");
    }
    let literal = format!("a SEARCH TEXT {{3000+}}\r\n{} {}\r\n", "y".repeat(3000), "x".repeat(970));
    assert!(literal.len() - 3000 <= 1000);
    let mut taken = dialogue();
    taken.says(Side::Downstream, literal.as_bytes()).unwrap();
    // Behind a literal that was refused, the bound is the same.
    taken.client("b APPEND x {999999}\r\n");
    assert_eq!(taken.says(Side::Downstream, line(1001).as_bytes()), Err(InspectRefusal::LineTooLong(1000)));
    Dialogue::new().says(Side::Downstream, line(65_536).as_bytes()).unwrap();
}
