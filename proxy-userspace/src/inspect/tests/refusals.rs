//! What does not pass, and in which words.

use super::*;

/// The only line that the client gets, when the server has got nothing.
fn refused(command: &str) -> String {
    let mut dialogue = Dialogue::new();
    dialogue.client(command);
    assert_eq!(dialogue.server_got(), "", "{command}");
    let got = dialogue.client_got();
    let lines = units(Speaker::Server, got.as_bytes());
    assert_eq!(lines.len(), 1, "{command}: {got}");
    assert!(got.trim_end().split(' ').count() > 3, "words say why: {got}");
    got
}

#[test]
fn what_is_no_command_is_answered_bad_and_never_sent() {
    for (command, begin) in [
        ("DONE\r\n", "DONE BAD "),
        ("done\r\n", "done BAD "),
        ("\r\n", "* BAD "),
        (" a NOOP\r\n", "* BAD "),
        ("+ NOOP\r\n", "* BAD "),
        ("* NOOP\r\n", "* BAD "),
        ("(a NOOP\r\n", "* BAD "),
        ("a\r\n", "a BAD "),
        ("a \r\n", "a BAD "),
        ("a  NOOP\r\n", "a BAD "),
        ("a NOOP x\r\n", "a BAD NOOP "),
        ("a NOOP \r\n", "a BAD NOOP "),
        ("a UID NOOP\r\n", "a BAD NOOP is not let through"),
        ("a UID\r\n", "a BAD "),
        ("a XYZZY\r\n", "a BAD XYZZY is not let through"),
        ("a XYZZY {3+}\r\nabc\r\n", "a BAD XYZZY is not let through"),
        ("a LOGIN \"x{3+}\r\nabc\" y\r\n", "a BAD LOGIN "),
        ("a FETCH 1\r\n", "a BAD FETCH "),
        ("a FETCH 1 ()\r\n", "a BAD FETCH "),
        ("a FETCH 0 FLAGS\r\n", "a BAD FETCH "),
        ("a FETCH 1 (ALL)\r\n", "a BAD the FETCH item ALL "),
        ("a FETCH 1 BODY[]<4>\r\n", "a BAD FETCH "),
        ("a FETCH 1 BODY[]<0.0>\r\n", "a BAD FETCH "),
        ("a FETCH 1 BODY[MIME]\r\n", "a BAD FETCH "),
        ("a FETCH 1 BODY[1.MIME.TEXT]\r\n", "a BAD FETCH "),
        ("a FETCH 1 BODY[99999999999]\r\n", "a BAD FETCH "),
        ("a APPEND INBOX\r\n", "a BAD APPEND "),
        ("a APPEND INBOX \"mail\"\r\n", "a BAD APPEND "),
        ("a APPEND INBOX CATENATE (URL \"/x\")\r\n", "a BAD APPEND "),
        ("a AUTHENTICATE\r\n", "a BAD AUTHENTICATE "),
        ("a SELECT\r\n", "a BAD SELECT "),
        ("a COMPRESS DEFLATE\r\n", "a BAD COMPRESS is not let through"),
        ("a STARTTLS\r\n", "a BAD STARTTLS is not let through"),
        ("a NOTIFY NONE\r\n", "a BAD NOTIFY is not let through"),
        ("a GENURLAUTH \"x\" INTERNAL\r\n", "a BAD GENURLAUTH is not let through"),
        ("a URLFETCH \"x\"\r\n", "a BAD URLFETCH is not let through"),
        ("a CONVERT 1 (\"x\" NIL) BINARY[1]\r\n", "a BAD CONVERT is not let through"),
        ("a UNAUTHENTICATE\r\n", "a BAD UNAUTHENTICATE is not let through"),
        ("a RESETKEY\r\n", "a BAD RESETKEY is not let through"),
        ("a GETJMAPACCESS\r\n", "a BAD GETJMAPACCESS is not let through"),
    ] {
        let got = refused(command);
        assert!(got.starts_with(begin), "{command}: {got}");
    }
}

/// Cyrus and others answer these whether or not the client saw a capability.
#[test]
fn items_of_fetch_on_no_list_are_refused_by_name() {
    for item in [
        "BINARY[1]",
        "BINARY.PEEK[1]<0.5>",
        "BINARY.SIZE[1]",
        "PREVIEW",
        "PREVIEW (LAZY)",
        "SNIPPET",
        "SNIPPET (LAZY=FUZZY)",
        "RFC822.PEEK",
        "RFC822.TEXT.PEEK",
        "RFC822.HEADER.LINES (Subject)",
        "DIGEST.SHA1",
        "ANNOTATION (/comment value)",
        "BODY.PEEK",
        "BODYSTRUCTURE[1]",
        "UID[1]",
    ] {
        for command in [format!("a FETCH 1 {item}\r\n"), format!("a UID FETCH 1 (UID {item} FLAGS)\r\n")] {
            let got = refused(&command);
            assert!(got.starts_with("a BAD "), "{command}: {got}");
        }
    }
}

#[test]
fn names_of_a_peer_cannot_leave_the_line_in_which_they_are_repeated() {
    let long = "X".repeat(60_000);
    let got = refused(&format!("a {long}\r\n"));
    assert!(got.len() < 300, "{}", got.len());
    assert_eq!(units(Speaker::Server, refused("a LOGIN {3+}\r\n\r\nx\r\n").as_bytes()).len(), 1);
    let mut dialogue = Dialogue::new();
    dialogue.says(Side::Downstream, b"a \xff\xfe\x01{1}x\r\n").unwrap();
    assert!(dialogue.client_got().is_ascii());
}

#[test]
fn enable_is_filtered_both_ways() {
    let mut dialogue = Dialogue::new();
    dialogue.client("a ENABLE CONDSTORE IMAP4rev2 condstore UIDONLY\r\n");
    assert_eq!(dialogue.server_got(), "a ENABLE CONDSTORE condstore\r\n");
    dialogue.server("* ENABLED CONDSTORE IMAP4rev2\r\na OK done\r\n");
    assert_eq!(dialogue.client_got(), "* ENABLED CONDSTORE\r\na OK done\r\n");
    dialogue.client("b ENABLE IMAP4rev2\r\n");
    assert_eq!(dialogue.server_got(), "");
    let got = dialogue.client_got();
    assert!(got.starts_with("* ENABLED\r\nb OK "), "{got}");
}

const SERVER_LIST: &str = "IMAP4rev1 IMAP4rev2 LITERAL+ COMPRESS=DEFLATE STARTTLS BINARY NOTIFY CATENATE URLAUTH \
    PREVIEW=FUZZY SNIPPET=FUZZY UNAUTHENTICATE UIDONLY PARTIAL XYZZY IDLE AUTH=PLAIN AUTH=GSSAPI AUTH=DIGEST-MD5 \
    AUTH=SCRAM-SHA-256 AUTH=XYZZY APPENDLIMIT=35651584";
const CLIENT_LIST: &str = "IMAP4rev1 LITERAL- IDLE AUTH=PLAIN AUTH=SCRAM-SHA-256 APPENDLIMIT=100000";

#[test]
fn capabilities_are_filtered_wherever_they_stand() {
    for (before, behind) in [
        ("* OK [CAPABILITY ", "] ready\r\n"),
        ("* PREAUTH [CAPABILITY ", "] ready\r\n"),
        ("* CAPABILITY ", "\r\n"),
        ("a OK [CAPABILITY ", "] in\r\n"),
        ("a NO [CAPABILITY ", "] no\r\n"),
        ("* NO [CAPABILITY ", "] no\r\n"),
        ("* BAD [CAPABILITY ", "] no\r\n"),
        ("* BYE [CAPABILITY ", "] no\r\n"),
    ] {
        let mut dialogue = Dialogue::new();
        dialogue.client("a NOOP\r\n");
        dialogue.server(&format!("{before}{SERVER_LIST}{behind}"));
        assert_eq!(dialogue.client_got(), format!("{before}{CLIENT_LIST}{behind}"));
    }
}

#[test]
fn the_lower_limit_of_uploads_is_shown_and_always_one() {
    for (server, client) in [
        ("* CAPABILITY IMAP4rev1\r\n", "* CAPABILITY IMAP4rev1 APPENDLIMIT=100000\r\n"),
        ("* CAPABILITY IMAP4rev1 APPENDLIMIT\r\n", "* CAPABILITY IMAP4rev1 APPENDLIMIT=100000\r\n"),
        ("* CAPABILITY IMAP4rev1 APPENDLIMIT=99\r\n", "* CAPABILITY IMAP4rev1 APPENDLIMIT=99\r\n"),
        ("* CAPABILITY IMAP4rev1 APPENDLIMIT=x\r\n", "* CAPABILITY IMAP4rev1 APPENDLIMIT=100000\r\n"),
    ] {
        assert_eq!(Dialogue::new().server(server).client_got(), client);
    }
}

#[test]
fn scram_passes_where_the_server_cannot_bind_it() {
    let scram = "a AUTHENTICATE SCRAM-SHA-256\r\n";
    let mut dialogue = Dialogue::new();
    dialogue.server("* OK [CAPABILITY IMAP4rev1 AUTH=SCRAM-SHA-256] ready\r\n");
    assert!(dialogue.client_got().contains("AUTH=SCRAM-SHA-256"));
    assert_eq!(dialogue.client(scram).server_got(), scram);

    let mut dialogue = Dialogue::new();
    dialogue.server(
        "* OK [CAPABILITY IMAP4rev1 AUTH=SCRAM-SHA-256 AUTH=SCRAM-SHA-256-PLUS AUTH=PLAIN] ready\r\n",
    );
    assert!(!dialogue.client_got().contains("SCRAM"));
    assert_eq!(dialogue.client(scram).server_got(), "");
    assert!(dialogue.client_got().starts_with("a NO "), "a client that could bind takes this for an attack");

    // Who never saw the list does not know.
    let mut dialogue = Dialogue::new();
    assert_eq!(dialogue.client(scram).server_got(), "");
    assert!(dialogue.client_got().starts_with("a NO "));
    for mechanism in ["SCRAM-SHA-256-PLUS", "GSSAPI", "DIGEST-MD5", "EXTERNAL", "XYZZY"] {
        dialogue.client(&format!("b AUTHENTICATE {mechanism}\r\n"));
        assert_eq!(dialogue.server_got(), "", "{mechanism}");
        assert!(dialogue.client_got().starts_with("b NO "), "{mechanism}");
    }
}

#[test]
fn in_clear_text_starttls_is_answered_no_and_offered_nowhere() {
    let mut dialogue = Dialogue::in_clear_text("IMAP4rev1 AUTH=SCRAM-SHA-256");
    dialogue.client("a STARTTLS\r\nb starttls\r\n");
    let no = "NO STARTTLS is switched off at this gateway";
    assert_eq!(dialogue.client_got(), format!("a {no}\r\nb {no}\r\n"));
    dialogue.client("c STARTTLS now\r\n");
    assert!(dialogue.client_got().starts_with("c BAD "));
    assert_eq!(dialogue.server_got(), "");
    dialogue.server("* CAPABILITY IMAP4rev1 STARTTLS\r\n* OK [CAPABILITY STARTTLS IMAP4rev1] hi\r\n");
    let shown = dialogue.client_got();
    assert!(shown.contains("IMAP4rev1") && !shown.contains("STARTTLS"), "{shown}");
    // The list that the client was shown before counts.
    let scram = "d AUTHENTICATE SCRAM-SHA-256\r\n";
    assert_eq!(dialogue.client(scram).server_got(), scram);
    let mut dialogue = Dialogue::in_clear_text("IMAP4rev1 AUTH=SCRAM-SHA-256 AUTH=SCRAM-SHA-256-PLUS");
    assert_eq!(dialogue.client(scram).server_got(), "");
    let mut dialogue = Dialogue::in_clear_text("");
    assert_eq!(dialogue.client(scram).server_got(), "");
}

#[test]
fn untagged_data_response_codes_and_answered_items_on_no_list_stay_out() {
    for (server, client) in [
        ("* XYZZY a b\r\n", ""),
        ("* 5 XYZZY\r\n", ""),
        ("* URLFETCH \"x\" {3}\r\nabc\r\n", ""),
        ("* ANNOTATION x\r\n", ""),
        ("* JMAPACCESS \"x\"\r\n", ""),
        ("* GENURLAUTH \"x\"\r\n", ""),
        ("* CONVERTED (TAG \"a\") 1\r\n", ""),
        ("* UIDFETCH 1 (FLAGS ())\r\n", ""),
        ("* 1 UIDFETCH (FLAGS ())\r\n", ""),
        ("* OK [XYZZY 1] text\r\n", "* OK text\r\n"),
        ("* OK [REFERRAL imap://evil/] text\r\n", "* OK text\r\n"),
        ("* 1 FETCH (PREVIEW \"abc\" FLAGS ())\r\n", "* 1 FETCH (FLAGS ())\r\n"),
        ("* 1 FETCH (PREVIEW \"abc\")\r\n", ""),
        ("* 1 FETCH (BINARY[1] {3}\r\nabc UID 5 BINARY.SIZE[1] 5)\r\n", "* 1 FETCH (UID 5)\r\n"),
        ("* 1 FETCH (RFC822.PEEK {3}\r\nabc)\r\n", ""),
        ("* 1 FETCH (BODY[1.XYZZY] {3}\r\nabc)\r\n", ""),
    ] {
        assert_eq!(Dialogue::new().server(server).client_got(), client, "{server}");
    }
}

/// A client that trims the text, or that reads what is left, must not find a code that was refused.
#[test]
fn no_response_code_hides_behind_another_or_behind_spaces() {
    for server in [
        "* OK [XYZZY] [REFERRAL imap://evil/] text\r\n",
        "* OK [XYZZY][REFERRAL imap://evil/] text\r\n",
        "* OK [] [REFERRAL imap://evil/] text\r\n",
        "* OK  [REFERRAL imap://evil/] text\r\n",
        "* OK [XYZZY]  [REFERRAL imap://evil/] text\r\n",
        "* OK [XYZZY] [XYZZY] [REFERRAL imap://evil/] text\r\n",
        "* OK [REFERRAL imap://evil/\r\n",
    ] {
        let got = Dialogue::new().server(server).client_got();
        let text = got.strip_prefix("* OK").unwrap_or_else(|| panic!("{server}: {got}"));
        assert!(!text.trim_start().starts_with('['), "{server}: {got}");
    }
}

/// imaplib fails on a completion without words, K-9 on `* OK` without.
#[test]
fn words_are_left_where_a_response_code_stays_out() {
    for server in ["* OK [XYZZY]\r\n", "* NO [XYZZY 5] \r\n", "* OK [XYZZY\r\n"] {
        let got = Dialogue::new().server(server).client_got();
        let words: Vec<_> = got.trim_end().split(' ').collect();
        assert!(words.len() > 2 && !words[2].is_empty(), "{server}: {got}");
    }
}

/// imaplib takes `{3}` at the end of any line for a literal, and then the next line for its octets.
#[test]
fn no_line_but_of_data_ends_like_the_announcement_of_a_literal() {
    for server in [
        "* OK text {3}\r\n",
        "* NO {3}\r\n",
        "* BYE {3}\r\n",
        "a OK {3}\r\n",
        "* OK [ALERT] {3}\r\n",
        "+ {3}\r\n",
    ] {
        let mut dialogue = Dialogue::new();
        dialogue.client("a AUTHENTICATE LOGIN\r\n").server(server);
        let got = dialogue.client_got();
        assert!(!got.is_empty() && !got.contains("{3}\r\n"), "{server}: {got}");
    }
}

/// SEARCH and its like are not bounded as names are: a folder has a million messages. They hold numbers only.
#[test]
fn data_without_a_bound_hold_no_strings() {
    let strings = "x".repeat(90_000);
    for server in [
        format!("* ESEARCH (TAG \"a\") ALL {}\r\n", literal(&strings)),
        format!(
            "* ESEARCH (TAG \"a\") ALL {}\r\n",
            [literal(&strings), literal(&strings), literal(&strings), literal(&strings)].join(" ")
        ),
        format!("* THREAD ({0})({0})({0})({0})\r\n", literal(&strings)),
        format!("* SEARCH {}\r\n", literal("12")),
    ] {
        let got = Dialogue::new().server(&server).client_got();
        assert!(got.len() < 256 * 1024, "{}", &server[..40]);
    }
    let letters = "xyz ".repeat(100_000);
    for server in [
        format!("* ESEARCH (TAG \"a\") ALL {letters}x\r\n"),
        format!("* THREAD ({letters}x)\r\n"),
        format!("* OK [ALERT {letters}] x\r\n"),
    ] {
        assert!(Dialogue::new().server(&server).client_got().len() < 100, "{}", &server[..20]);
    }
    let copied = format!("* OK [COPYUID 5 {0} {0}] x\r\n", vec!["1234567"; 50_000].join(","));
    assert_eq!(Dialogue::new().server(&copied).client_got(), copied);
    let numbers = "* SEARCH".to_owned() + &" 1234567".repeat(100_000) + "\r\n";
    assert_eq!(Dialogue::new().server(&numbers).client_got(), numbers);
}
