use super::{Default, FORM, IDLE, Row, Unset, row};

const GENERAL: &str = "[action.general]";
const CAPABILITIES: &str = "[action.capabilities]";

pub(super) fn general() -> Vec<Row> {
    let flag = format!("wrong type: a string, expected true or false; {FORM}");
    let handshake = "out of range (clients give up after one to two minutes); use 1 to 300";
    let line = "out of range (RFC 2683 asks clients to stay within 1000, and Postern holds a line until it is complete); \
                use 1000 to 65536";
    vec![
        row(GENERAL, "idle_seconds", Unset, &["1860", "604800"], &[("1859", IDLE), ("604801", IDLE)]),
        row(GENERAL, "handshake_seconds", Unset, &["1", "300"], &[("0", handshake), ("301", handshake)]),
        row(
            GENERAL,
            "line_length",
            Default("65536"),
            &["1000", "8192"],
            &[
                ("999", line),
                ("65537", line),
                ("\"8 KiB\"", &format!("wrong type: a string, expected a whole number; {FORM}")),
            ],
        ),
        row(GENERAL, "hide_banner", Default("false"), &["true"], &[("\"yes\"", &flag)]),
        row(GENERAL, "log_sessions", Default("true"), &["false"], &[("\"no\"", &flag)]),
    ]
}

pub(super) fn capabilities() -> Vec<Row> {
    let flag = format!("wrong type: a string, expected true or false; {FORM}");
    let unknown = "not in the allow-list, so that it is hidden already; ";
    let mechanisms = "PLAIN, LOGIN, XOAUTH2, OAUTHBEARER, CRAM-MD5, NTLM, SCRAM-SHA-1, SCRAM-SHA-256";
    vec![
        row(
            CAPABILITIES,
            "hide",
            Default("[]"),
            &["[\"IDLE\"]", "[\"idle\", \"THREAD=\", \"thread=references\", \"LITERAL-\"]"],
            &[
                ("[\"IDEL\"]", &format!("{unknown}did you mean \"IDLE\"?")),
                ("[\"X-FROM-ANOTHER-WORLD\"]", &format!("{unknown}remove it")),
                ("[\"THREAD=a b\"]", &format!("{unknown}did you mean \"THREAD=\"?")),
                ("[\"\"]", &format!("{unknown}remove it")),
                (
                    "[\"BINARY\"]",
                    "hidden already: shows mail by another name than FETCH's sections; remove it",
                ),
                (
                    "[\"preview=fuzzy\"]",
                    "hidden already: shows mail by another name than FETCH's sections; remove it",
                ),
                (
                    "[\"IMAP4rev1\"]",
                    "cannot be hidden: without it no client speaks with the server; remove it",
                ),
                ("[\"IMAP4\"]", "cannot be hidden: it names the protocol, as IMAP4REV1 does; remove it"),
                (
                    "[\"LOGINDISABLED\"]",
                    "cannot be hidden: without it clients send a password that the server refuses; remove it, and use \
                     action.capabilities.login",
                ),
                (
                    "[\"STARTTLS\"]",
                    "cannot be hidden: action.starttls decides who is shown it; remove it, and use action.starttls",
                ),
                (
                    "[\"LITERAL+\"]",
                    "cannot be hidden: clients are shown LITERAL- in its place; write \"LITERAL-\"",
                ),
                (
                    "[\"APPENDLIMIT=5\"]",
                    "cannot be hidden: it tells what the gateway takes (limits.message); remove it",
                ),
                (
                    "[\"AUTH=PLAIN\"]",
                    "cannot be hidden: action.capabilities.mechanisms says which mechanisms pass; remove it, and use \
                     action.capabilities.mechanisms",
                ),
                ("[\"IDLE\", \"idle\"]", "already given on line 7; remove one of them"),
            ],
        )
        .room(64, |number| format!("\"RIGHTS={number}\"")),
        row(
            CAPABILITIES,
            "mechanisms",
            Default(
                "[\"PLAIN\", \"LOGIN\", \"XOAUTH2\", \"OAUTHBEARER\", \"CRAM-MD5\", \"NTLM\", \"SCRAM-SHA-1\", \
                 \"SCRAM-SHA-256\"]",
            ),
            &["[]", "[\"plain\"]"],
            &[
                (
                    "[\"GSSAPI\"]",
                    "cannot pass: can encrypt the session once more, and the gateway could not read it; remove it",
                ),
                ("[\"PLAN\"]", "not in the allow-list, so that it cannot pass; did you mean \"PLAIN\"?"),
                (
                    "[\"SECURID-OF-OLD\"]",
                    &format!("not in the allow-list, so that it cannot pass; use some of {mechanisms}"),
                ),
            ],
        ),
        row(CAPABILITIES, "login", Default("true"), &["false"], &[("\"no\"", &flag)]),
    ]
}
