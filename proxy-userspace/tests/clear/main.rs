//! The clear-text dialogue on port 143: what honest peers see, and what an attacker on the path gets.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test that calls them")]

/// Every prefix, every split, and octets at random.
mod any_input;
mod handing_over;
mod narrowed;

use postern::event_id::EventId;
use postern::handshake::clear::{
    BAD_COMMANDS_MAX, COMMANDS_MAX, ClientDialogue, ClientFault, ClientStep, LINE_BYTES_MAX,
    LITERAL_BYTES_MAX, LineFault, ServerDialogue, ServerFault, ServerStep, StartTlsRefusal, TAG_BYTES_MAX,
    UNTAGGED_BYTES_MAX, UNTAGGED_LINES_MAX, VERB_BYTES_MAX, bye,
};

const HELD_BYTES_MAX: usize = TAG_BYTES_MAX + VERB_BYTES_MAX;
const SECRET: &str = "Hunter2Zq";
const LOGIN_NO: &str = "NO [PRIVACYREQUIRED] Postern: no login in clear text, use STARTTLS first\r\n";
const BAD: &str = "BAD Postern: before TLS only CAPABILITY, NOOP, ID, LOGOUT and STARTTLS, well formed\r\n";
const NOT_A_COMMAND: &str = "* BAD Postern: not a command of IMAP\r\n";

/// All that a client could see and a record could say of a dialogue whose STARTTLS is never answered.
#[derive(Clone, Debug, Default, PartialEq)]
struct Heard {
    output: String,
    starttls: bool,
    ended: Option<Option<ClientFault>>,
}

/// Gives a client's octets to the dialogue as so many reads.
fn client<'a>(dialogue: &mut ClientDialogue, reads: impl IntoIterator<Item = &'a [u8]>) -> Heard {
    let mut heard = Heard::default();
    for mut input in reads {
        while let Some(step) = dialogue.step(&mut input) {
            assert!(heard.ended.is_none(), "a step after the end");
            match step {
                ClientStep::Reply(reply) => heard.output += std::str::from_utf8(&reply).unwrap(),
                ClientStep::StartTls => heard.starttls = true,
                ClientStep::Capability { .. } | ClientStep::HandOver { .. } => {
                    unreachable!("clear text is refused")
                }
                ClientStep::End { reply, fault } => {
                    heard.output += std::str::from_utf8(&reply).unwrap();
                    heard.starttls = false;
                    heard.ended = Some(fault);
                }
            }
        }
        assert!(input.is_empty(), "octets left unread");
        assert!(dialogue.buffered() <= HELD_BYTES_MAX);
    }
    heard
}

fn says(octets: &[u8]) -> Heard {
    client(&mut ClientDialogue::new(), [octets])
}

#[track_caller]
fn answers(command: &str, expected: &str) {
    let heard = says(format!("{command}\r\n").as_bytes());
    assert_eq!(heard, Heard { output: expected.to_owned(), ..Heard::default() }, "for {command:?}");
}

/// Returns all that the client saw.
#[track_caller]
fn ends(octets: &[u8], fault: ClientFault) -> String {
    let heard = says(octets);
    assert_eq!(heard.ended, Some(Some(fault)), "{heard:?}");
    let last = heard.output.lines().last().unwrap_or_default();
    assert!(last.starts_with("* BYE Postern: "), "{last}");
    heard.output
}

/// Gives a server's octets to the dialogue as so many reads, asking for STARTTLS whenever that is possible.
fn server<'a>(reads: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<ServerStep>, ServerFault> {
    let mut dialogue = ServerDialogue::new();
    let mut steps = Vec::new();
    for read in reads {
        let step = dialogue.receive(read)?;
        assert!(dialogue.buffered() <= HELD_BYTES_MAX);
        if step != ServerStep::More {
            steps.push(step);
        }
        if matches!(step, ServerStep::Ready | ServerStep::Refused(_)) {
            assert!(dialogue.starttls().is_some());
        }
    }
    Ok(steps)
}

#[test]
fn greeting_offers_starttls_and_disables_login() {
    assert_eq!(
        std::str::from_utf8(ClientDialogue::GREETING).unwrap(),
        "* OK [CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED ID] Postern ready, STARTTLS required.\r\n"
    );
}

#[test]
fn harmless_commands_are_answered_in_any_case() {
    let capability = "* CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED ID\r\na1 OK CAPABILITY completed\r\n";
    answers("a1 CAPABILITY", capability);
    answers("a1 capability", capability);
    answers("A.7] nOOp", "A.7] OK NOOP completed\r\n");
    let id = "* ID NIL\r\n3 OK ID completed\r\n";
    answers("3 ID NIL", id);
    answers(r#"3 id ("name" "Thunder {3} bird" "os" NIL)"#, id);
    answers("3 ID (\"name\" \"Évolution\")", id);
}

#[test]
fn logout_says_bye_and_ok_and_ends_without_fault() {
    let heard = says(b"z9 LogOut\r\nz10 NOOP\r\n");
    assert_eq!(heard.ended, Some(None));
    assert_eq!(heard.output, "* BYE Postern: logging out\r\nz9 OK LOGOUT completed\r\n");
}

#[test]
fn login_in_clear_text_is_refused_and_counted() {
    for command in [
        "LOGIN joe Hunter2Zq",
        "login \"joe\" \"Hunter2Zq {3+}\"",
        "LOGIN joe \"Hünter\"",
        "LOGIN",
        "LOGIN joe {9}",
        "AUTHENTICATE PLAIN",
        "AUTHENTICATE PLAIN AGpvZQBIdW50ZXIyWnE=",
        "authenticate XOAUTH2 {99999999999999999999999999}",
    ] {
        let mut dialogue = ClientDialogue::new();
        let heard = client(&mut dialogue, [format!("t {command}\r\n").as_bytes()]);
        assert_eq!(heard.output, format!("t {LOGIN_NO}"), "for {command:?}");
        assert_eq!(heard.ended, None);
        assert_eq!(dialogue.logins_refused(), 1);
    }
}

#[test]
fn credentials_after_a_refusal_are_never_echoed() {
    let heard = says(b"a AUTHENTICATE PLAIN\r\nAEhJRERFTgBIdW50ZXIyWnE=\r\nb NOOP\r\n");
    assert_eq!(heard.output, format!("a {LOGIN_NO}{NOT_A_COMMAND}b OK NOOP completed\r\n"));
    let heard = says(b"a LOGIN {3}\r\njoe {9}\r\nHunter2Zq\r\nb NOOP\r\n");
    assert_eq!(heard.output, format!("a {LOGIN_NO}{NOT_A_COMMAND}{NOT_A_COMMAND}b OK NOOP completed\r\n"));
}

#[test]
fn other_and_malformed_commands_are_answered_bad() {
    for command in [
        "SELECT INBOX",
        "FETCH 1 BODY[]",
        "XYZZY",
        "STARTTLS ",
        "STARTTLS now",
        "STARTTLS {5}",
        "STARTTLS {8+}\r\nSTARTTLS",
        "NOOP {12}",
        "CAPABILITY ",
        "LOGOUT now",
        "ID",
    ] {
        answers(&format!("a {command}"), &format!("a {BAD}"));
    }
}

#[test]
fn lines_without_tag_and_command_are_answered_untagged() {
    let longest = "t".repeat(TAG_BYTES_MAX);
    answers(&format!("{longest} NOOP"), &format!("{longest} OK NOOP completed\r\n"));
    let overlong_tag = format!("t{longest} NOOP");
    let overlong_verb = format!("a {}", "x".repeat(VERB_BYTES_MAX + 1));
    for line in [
        "",
        " ",
        "a",
        "a ",
        "a  NOOP",
        " NOOP",
        "+ NOOP",
        "* NOOP",
        "a+b NOOP",
        "a{b NOOP",
        "\"a\" NOOP",
        "a\\ NOOP",
        "a <script>",
        "{8+}\r\nSTARTTLS",
        "a {8+}\r\nSTARTTLS",
        &overlong_tag,
        &overlong_verb,
    ] {
        answers(line, NOT_A_COMMAND);
    }
}

#[test]
fn starttls_waits_and_then_is_accepted_with_its_own_tag() {
    let mut dialogue = ClientDialogue::new();
    let heard = client(&mut dialogue, [&b"0 CAPABILITY\r\nx-9 starttls\r\n"[..]]);
    assert!(heard.starttls);
    assert_eq!(dialogue.starttls_ready().unwrap(), b"x-9 OK Begin TLS negotiation now\r\n");
    assert_eq!(ClientDialogue::new().starttls_ready(), None);
}

#[test]
fn starttls_refused_names_the_reason_and_the_dialogue_goes_on() {
    let mut dialogue = ClientDialogue::new();
    assert!(client(&mut dialogue, [&b"a STARTTLS\r\n"[..]]).starttls);
    let reply = dialogue.starttls_refused("the server is\r\nb OK é unreachable").unwrap();
    assert_eq!(std::str::from_utf8(&reply).unwrap(), "a NO Postern: the server is??b OK ? unreachable\r\n");
    assert_eq!(dialogue.starttls_refused("again"), None);
    let heard = client(&mut dialogue, [&b"b LOGIN joe Hunter2Zq\r\nc STARTTLS\r\n"[..]]);
    assert_eq!(heard.output, format!("b {LOGIN_NO}"));
    assert!(heard.starttls);
    assert_eq!(dialogue.starttls_ready().unwrap(), b"c OK Begin TLS negotiation now\r\n");
}

#[test]
fn last_words_to_a_client_at_fault_name_its_record() {
    let id = EventId::at(std::time::SystemTime::now());
    let mut dialogue = ClientDialogue::new().with_reference(id);
    let heard = client(&mut dialogue, [&b"GET / HTTP/1.1\r\n"[..]]);
    assert_eq!(heard.output, format!("* BYE Postern: this is an IMAP port; reference {id}\r\n"));
}

#[test]
fn octets_behind_starttls_end_the_session_in_whatever_segment() {
    let line = &b"a STARTTLS\r\n"[..];
    for injected in [&b"b LOGIN joe Hunter2Zq\r\n"[..], b"x", b"\r\n", b"\n", b"\0", b"\x16\x03\x01"] {
        let output = ends(&[line, injected].concat(), ClientFault::PipelinedAfterStartTls);
        assert_eq!(output, "* BYE Postern: clear text after STARTTLS\r\n");
        let mut dialogue = ClientDialogue::new();
        let heard = client(&mut dialogue, [line, injected]);
        assert_eq!(heard.ended, Some(Some(ClientFault::PipelinedAfterStartTls)));
        assert_eq!(dialogue.starttls_refused("late"), None);
        assert_eq!(dialogue.starttls_ready(), None, "no OK after an injection");
    }
}

#[test]
fn other_protocols_are_recognized_and_nothing_is_echoed() {
    ends(b"\x16\x03\x01\x02\x00\x01", ClientFault::TlsOnClearPort);
    ends(b"a NOOP\r\n\x16", ClientFault::TlsOnClearPort);
    for request in [
        "GET /<script>alert(1)</script> HTTP/1.1\r\n",
        "POST / HTTP/1.1\r\nHost: mail\r\n\r\na STARTTLS\r\n",
        "OPTIONS * HTTP/1.1\r\n",
        "CONNECT mail.example.org:143 HTTP/1.1\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "GET /a/path/that/is/longer/than/any/command HTTP/1.1\r\n",
    ] {
        let output = ends(request.as_bytes(), ClientFault::HttpOnClearPort);
        assert_eq!(output, "* BYE Postern: this is an IMAP port\r\n");
    }
    answers("GET NOOP", "GET OK NOOP completed\r\n");
}

#[test]
fn octets_that_smuggle_line_ends_end_the_session() {
    for (octets, fault) in [
        (&b"a STARTTLS\nb NOOP\r\n"[..], LineFault::BareLf),
        (b"a NOOP \"\n", LineFault::BareLf),
        (b"a STARTTLS\rb NOOP\r\n", LineFault::BareCr),
        (b"a NOOP\r\r\n", LineFault::BareCr),
        (b"a NO\0OP\r\n", LineFault::Nul),
        (b"a LOGIN joe \0\r\n", LineFault::Nul),
        (b"\x80\x2e\x01\x03", LineFault::Binary),
        (b"a N\xc3\xb6\xc3\xb6P\r\n", LineFault::Binary),
        (b"a\tNOOP\r\n", LineFault::Binary),
        (b"\x7fa NOOP\r\n", LineFault::Binary),
    ] {
        ends(octets, ClientFault::Line(fault));
    }
}

#[test]
fn literals_that_do_not_wait_are_swallowed_up_to_the_bound() {
    answers("a LOGIN {3+}\r\njoe {9+}\r\nb STARTT\r", &format!("a {LOGIN_NO}"));
    answers("a LOGIN {0+}\r\n {2+}\r\n\r\n", &format!("a {LOGIN_NO}"));
    answers("a ID (\"x\" {4+}\r\n\0\n\r\u{7f})", "* ID NIL\r\na OK ID completed\r\n");
    let commands = "b NOOP\r\n".repeat(LITERAL_BYTES_MAX as usize / 8);
    answers(&format!("a NOOP {{{LITERAL_BYTES_MAX}+}}\r\n{commands}"), &format!("a {BAD}"));
    for literals in [
        format!("a LOGIN {{{}+}}\r\n", LITERAL_BYTES_MAX + 1),
        format!("a LOGIN {{1+}}\r\nx {{{LITERAL_BYTES_MAX}+}}\r\n"),
        "a LOGIN {18446744073709551617+}\r\n".to_owned(),
    ] {
        ends(literals.as_bytes(), ClientFault::LiteralTooLong);
    }
}

#[test]
fn a_line_is_cut_at_the_bound() {
    let mut line = b"a LOGIN ".to_vec();
    line.resize(LINE_BYTES_MAX - 2, b'x');
    line.extend(b"\r\n");
    assert_eq!(says(&line).output, format!("a {LOGIN_NO}"));
    line.insert(8, b'x');
    assert_eq!(says(&line[..LINE_BYTES_MAX - 2]).ended, None);
    ends(&line, ClientFault::Line(LineFault::TooLong(LINE_BYTES_MAX)));
    let endless = vec![b'x'; LINE_BYTES_MAX];
    ends(&endless, ClientFault::Line(LineFault::TooLong(LINE_BYTES_MAX)));
    let endless = format!("a NOOP {}", "{0+}\r\n".repeat(LINE_BYTES_MAX));
    ends(endless.as_bytes(), ClientFault::Line(LineFault::TooLong(LINE_BYTES_MAX)));
}

#[test]
fn a_hundred_megabytes_without_line_end_are_never_held() {
    let megabyte = vec![b'A'; 1_000_000];
    for start in [&b""[..], b"a ", b"a LOGIN "] {
        let reads = std::iter::once(start).chain(std::iter::repeat_n(megabyte.as_slice(), 100));
        let heard = client(&mut ClientDialogue::new(), reads);
        assert_eq!(heard.ended, Some(Some(ClientFault::Line(LineFault::TooLong(LINE_BYTES_MAX)))));
    }
    let mut dialogue = ServerDialogue::new();
    assert_eq!(dialogue.receive(b"* OK "), Ok(ServerStep::More));
    for _ in 0..100 {
        assert_eq!(dialogue.receive(&megabyte), Err(ServerFault::Line(LineFault::TooLong(LINE_BYTES_MAX))));
        assert!(dialogue.buffered() <= HELD_BYTES_MAX);
    }
}

#[test]
fn commands_are_counted() {
    let most = "a NOOP\r\n".repeat(COMMANDS_MAX as usize);
    assert_eq!(says(most.as_bytes()).ended, None);
    ends(format!("{most}a NOOP\r\n").as_bytes(), ClientFault::TooManyCommands);
    let most = "a SELECT INBOX\r\n\r\n".repeat(BAD_COMMANDS_MAX as usize / 2);
    assert_eq!(says(most.as_bytes()).ended, None);
    ends(format!("{most}\r\n").as_bytes(), ClientFault::TooManyBadCommands);
}

#[test]
fn reasons_cannot_forge_lines() {
    assert_eq!(bye("no\r\na OK \u{0}\u{e9}"), b"* BYE Postern: no??a OK ??\r\n");
    assert!(bye(&"x".repeat(100_000)).len() < 1024);
}

#[test]
fn server_is_asked_for_starttls_whatever_it_lists() {
    for greeting in ["* OK", "* ok ready", "* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] {3}", "* OK Grüße"] {
        let mut dialogue = ServerDialogue::new();
        assert_eq!(dialogue.starttls(), None, "not before the greeting");
        assert_eq!(dialogue.receive(format!("{greeting}\r\n").as_bytes()), Ok(ServerStep::Ready));
        assert_eq!(dialogue.starttls().unwrap(), b"P1 STARTTLS\r\n");
        assert_eq!(dialogue.starttls(), None, "not twice");
        assert_eq!(dialogue.receive(b"* CAPABILITY IMAP4rev1\r\nP1 ok go\r\n"), Ok(ServerStep::Accepted));
        assert_eq!(dialogue.receive(b""), Ok(ServerStep::More));
    }
}

#[test]
fn server_that_refuses_starttls_can_be_asked_again() {
    let mut dialogue = ServerDialogue::new();
    assert_eq!(dialogue.receive(b"* OK hi\r\n"), Ok(ServerStep::Ready));
    assert_eq!(dialogue.starttls().unwrap(), b"P1 STARTTLS\r\n");
    assert_eq!(dialogue.receive(b"P1 NO not today\r\n"), Ok(ServerStep::Refused(StartTlsRefusal::No)));
    assert_eq!(dialogue.starttls().unwrap(), b"P2 STARTTLS\r\n");
    assert_eq!(dialogue.receive(b"P2 BAD what\r\n"), Ok(ServerStep::Refused(StartTlsRefusal::Bad)));
    assert_eq!(dialogue.starttls().unwrap(), b"P3 STARTTLS\r\n");
    assert_eq!(dialogue.receive(b"P3 OK\r\n"), Ok(ServerStep::Accepted));
}

#[test]
fn server_that_breaks_the_protocol_is_not_believed() {
    let greeting = &b"* OK hi\r\n"[..];
    for (reads, fault) in [
        (&[&b"* PREAUTH welcome\r\n"[..]][..], ServerFault::Preauth),
        (&[b"* BYE full\r\n"], ServerFault::Bye),
        (&[greeting, b"* BYE full\r\n"], ServerFault::Bye),
        (&[greeting, b"* PREAUTH\r\n"], ServerFault::Preauth),
        (&[b"* NO\r\n"], ServerFault::NotImap),
        (&[b"SSH-2.0-OpenSSH_9.2\r\n"], ServerFault::NotImap),
        (&[b"220 mail ESMTP\r\n"], ServerFault::NotImap),
        (&[b"+OK POP3\r\n"], ServerFault::NotImap),
        (&[b"SSH-2.0-x\n"], ServerFault::NotImap),
        (&[b"\x15\x03\x01\x00\x02\x02"], ServerFault::NotImap),
        (&[b"* OK hi\n"], ServerFault::Line(LineFault::BareLf)),
        (&[b"* OK hi\rP1 OK\r\n"], ServerFault::Line(LineFault::BareCr)),
        (&[b"* OK \0\r\n"], ServerFault::Line(LineFault::Nul)),
        (&[b"* OK hi\r\nP1 OK early\r\n"], ServerFault::Unsolicited),
        (&[b"* OK hi\r\nP1 OK early", b"\r\n"], ServerFault::Unsolicited),
        (&[b"* OK hi\r\nP", b"1 OK early\r\n"], ServerFault::Unsolicited),
        (&[greeting, b"p1 OK\r\n"], ServerFault::NotAnAnswer),
        (&[greeting, b"P2 OK\r\n"], ServerFault::NotAnAnswer),
        (&[greeting, b"P1 \r\n"], ServerFault::NotAnAnswer),
        (&[greeting, b"P1 OKAY\r\n"], ServerFault::NotAnAnswer),
        (&[greeting, b"P1 PREAUTH x\r\n"], ServerFault::NotAnAnswer),
        (&[greeting, b"+ go on\r\n"], ServerFault::NotAnAnswer),
        (&[greeting, b"* LIST () \"/\" {12}\r\n"], ServerFault::Literal),
        (&[greeting, b"P1 OK\r\n* CAPABILITY IMAP4rev1\r\n"], ServerFault::InjectedAfterStartTls),
        (&[greeting, b"P1 OK\r\n", b"\n"], ServerFault::InjectedAfterStartTls),
        (&[greeting, b"P1 OK\r\n", b"\x16\x03\x03"], ServerFault::InjectedAfterStartTls),
    ] {
        assert_eq!(server(reads.iter().copied()), Err(fault), "for {reads:?}");
    }
}

#[test]
fn untagged_lines_of_a_server_are_dropped_up_to_the_bound() {
    let greeting = &b"* OK hi\r\n"[..];
    let line = &b"* CAPABILITY IMAP4rev1\r\n"[..];
    let most = [greeting, &line.repeat(UNTAGGED_LINES_MAX)].concat();
    assert_eq!(server([&most[..]]), Ok(vec![ServerStep::Ready]));
    assert_eq!(server([&most[..], line]), Err(ServerFault::TooMuchUntagged));
    let long = [&b"* X "[..], &[b'x'; LINE_BYTES_MAX - 6], b"\r\n"].concat();
    let most = long.repeat(UNTAGGED_BYTES_MAX / LINE_BYTES_MAX);
    assert_eq!(server([greeting, &most]), Ok(vec![ServerStep::Ready]));
    assert_eq!(server([greeting, &most, line]), Err(ServerFault::TooMuchUntagged));
}
