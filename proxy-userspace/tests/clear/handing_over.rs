//! The dialogues where policy lets clients go on in clear text, or strips STARTTLS.

use postern::config::{ClearText, StartTls};
use postern::handshake::clear::{
    ClientDialogue, ClientStep, LINE_BYTES_MAX, ServerDialogue, ServerFault, ServerStep, capabilities_listed,
};
use postern::inspect::{ImapTerms, shown_capabilities};

const MODES: [StartTls; 3] = [StartTls::Inspect, StartTls::Strip, StartTls::Bypass];

/// The last step that these octets lead to, and what stands behind it.
fn last(starttls: StartTls, cleartext: ClearText, octets: &str) -> (Option<ClientStep>, String) {
    let mut dialogue = ClientDialogue::new().with_settings(starttls, cleartext);
    let (mut last, mut input) = (None, octets.as_bytes());
    while let Some(step) = dialogue.step(&mut input) {
        let is_over = matches!(step, ClientStep::HandOver { .. } | ClientStep::StartTls);
        last = Some(step);
        if is_over {
            break;
        }
    }
    (last, String::from_utf8(input.to_vec()).unwrap())
}

fn handed(octets: &str) -> Option<String> {
    match last(StartTls::Inspect, ClearText::Inspect, octets) {
        (Some(ClientStep::HandOver { begun }), rest) => Some(String::from_utf8(begun).unwrap() + &rest),
        _ => None,
    }
}

#[test]
fn the_first_command_that_is_the_servers_is_handed_over_whole_and_before_its_arguments() {
    for command in [
        "a LOGIN alice secret\r\n",
        "a login {5}\r\nalice {6}\r\nsecret\r\n",
        "a AUTHENTICATE PLAIN AGFsaWNl\r\nb NOOP\r\n",
        "tag.9 SELECT INBOX\r\n",
        "a ENABLE\r\n",
        "x XLIST\r\n",
    ] {
        assert_eq!(handed(command).as_deref(), Some(command));
        let behind = format!("a NOOP\r\nb CAPABILITY\r\nc ID (\"name\" \"x y\")\r\n{command}");
        assert_eq!(handed(&behind).as_deref(), Some(command));
        // However it is split, and without a word of it before its name is complete.
        let mut dialogue = ClientDialogue::new().with_settings(StartTls::Strip, ClearText::Inspect);
        let at = command.bytes().position(|octet| !octet.is_ascii_graphic()).unwrap() + 1;
        let end = at + command[at..].find([' ', '\r']).unwrap();
        for octet in command.as_bytes()[..end].chunks(1) {
            assert_eq!(dialogue.step(&mut &octet[..]), None, "{command:?}");
        }
    }
}

#[test]
fn nothing_is_handed_over_that_the_dialogue_answers_and_nothing_where_clear_text_is_refused() {
    for command in ["a NOOP\r\n", "a CAPABILITY\r\n", "a ID NIL\r\n", "a LOGOUT\r\n", "a STARTTLS\r\n"] {
        assert_eq!(handed(command), None, "{command:?}");
        assert_eq!(handed(&command.replace("\r\n", " x\r\n")), None, "{command:?} with an argument");
    }
    for not in
        ["\r\n", "a\r\n", "secret=\r\n", "a b@c x\r\n", "GET / HTTP/1.1\r\n", "\u{16}\u{3}\u{1}", "a LOGIN\n"]
    {
        assert_eq!(handed(not), None, "{not:?}");
    }
    for starttls in MODES {
        let (step, _) = last(starttls, ClearText::Refuse, "a LOGIN alice secret\r\n");
        let Some(ClientStep::Reply(reply)) = step else { panic!("{step:?}") };
        assert!(reply.starts_with(b"a NO [PRIVACYREQUIRED]"));
    }
}

#[test]
fn starttls_is_shown_in_every_mode_but_strip() {
    for cleartext in [ClearText::Refuse, ClearText::Inspect] {
        for starttls in MODES {
            let dialogue = ClientDialogue::new().with_settings(starttls, cleartext);
            let greeting = String::from_utf8(dialogue.greeting().into_owned()).unwrap();
            assert!(greeting.starts_with("* OK ") && greeting.ends_with("\r\n"));
            let refuses = cleartext == ClearText::Refuse;
            assert_eq!(greeting.contains("STARTTLS"), refuses && starttls != StartTls::Strip, "{greeting}");
            assert_eq!(greeting.contains("LOGINDISABLED"), refuses, "{greeting}");
            let list = match last(starttls, cleartext, "a CAPABILITY\r\n").0 {
                Some(ClientStep::Reply(reply)) => reply,
                Some(ClientStep::Capability { tag }) => {
                    let list = shown_capabilities(
                        b"IMAP4rev1 STARTTLS",
                        7,
                        &ImapTerms::default(),
                        starttls != StartTls::Strip,
                    );
                    capabilities_listed(&tag, &list)
                }
                step => panic!("{step:?}"),
            };
            let list = String::from_utf8(list).unwrap();
            assert!(list.starts_with("* CAPABILITY IMAP4rev1 ") && list.contains("\r\na OK "), "{list}");
            assert_eq!(list.contains("STARTTLS"), starttls != StartTls::Strip, "{list}");
        }
    }
}

#[test]
fn octets_behind_starttls_end_the_dialogue_in_every_mode() {
    for cleartext in [ClearText::Refuse, ClearText::Inspect] {
        for starttls in MODES {
            let (step, _) = last(starttls, cleartext, "a STARTTLS\r\nb LOGIN alice secret\r\n");
            let Some(ClientStep::End { fault: Some(fault), .. }) = step else { panic!("{step:?}") };
            assert_eq!(fault.reason(), "starttls_pipelined");
        }
    }
}

#[test]
fn what_a_server_lists_is_shown_as_far_as_it_passes() {
    let shown = |list: &str, starttls| {
        String::from_utf8(shown_capabilities(list.as_bytes(), 1000, &ImapTerms::default(), starttls)).unwrap()
    };
    let list = "IMAP4rev1 STARTTLS LOGINDISABLED COMPRESS=DEFLATE AUTH=PLAIN AUTH=GSSAPI SASL-IR";
    let passes = " IMAP4rev1 LOGINDISABLED AUTH=PLAIN SASL-IR APPENDLIMIT=1000";
    assert_eq!(shown(list, false), passes);
    assert_eq!(shown(list, true), format!("{passes} STARTTLS"));
    assert_eq!(shown("", true), " IMAP4rev1 APPENDLIMIT=1000 STARTTLS");
}

fn greeted() -> ServerDialogue {
    let mut dialogue = ServerDialogue::new();
    assert_eq!(dialogue.capability(), None, "not before the greeting");
    assert_eq!(dialogue.receive(b"* OK [CAPABILITY X-GREETED] hi\r\n"), Ok(ServerStep::Ready));
    dialogue
}

#[test]
fn a_server_is_asked_for_its_capabilities_and_then_for_starttls() {
    let answer = b"* CAPABILITY IMAP4rev1 AUTH=PLAIN\r\nP1 OK done\r\n";
    for split in 0..answer.len() {
        let mut dialogue = greeted();
        assert_eq!(dialogue.capability().unwrap(), b"P1 CAPABILITY\r\n");
        assert_eq!((dialogue.capability(), dialogue.starttls()), (None, None), "one at a time");
        let (head, tail) = answer.split_at(split);
        assert_eq!(dialogue.receive(head), Ok(ServerStep::More));
        assert_eq!(dialogue.is_between_lines(), split == 0 || head.ends_with(b"\n"));
        assert_eq!(dialogue.receive(tail), Ok(ServerStep::Listed));
        assert_eq!(dialogue.listed(), b"IMAP4rev1 AUTH=PLAIN");
        assert_eq!(dialogue.starttls().unwrap(), b"P2 STARTTLS\r\n");
        assert_eq!(dialogue.receive(b"* CAPABILITY LATER\r\nP2 OK go\r\n"), Ok(ServerStep::Accepted));
        assert_eq!(dialogue.listed(), b"IMAP4rev1 AUTH=PLAIN");
    }
}

#[test]
fn only_a_list_that_was_asked_for_is_kept_and_it_is_bounded() {
    for (answer, listed) in [
        ("P1 OK nothing\r\n", ""),
        ("P1 BAD what\r\n", ""),
        ("* CAPABILITY\r\nP1 NO\r\n", ""),
        ("* LIST () \"/\" x\r\n* capability A\r\n* CAPABILITY B C \r\nP1 OK\r\n", "B C"),
    ] {
        let mut dialogue = greeted();
        assert_eq!(dialogue.receive(b"* CAPABILITY BEFORE\r\n* CAPABILITY HALF"), Ok(ServerStep::More));
        assert!(dialogue.capability().is_some());
        let answer = format!(" WAY ON\r\n{answer}");
        assert_eq!(dialogue.receive(answer.as_bytes()), Ok(ServerStep::Listed), "{answer:?}");
        assert_eq!(dialogue.listed(), listed.as_bytes(), "{answer:?}");
        assert!(dialogue.buffered() <= 2 * LINE_BYTES_MAX);
    }
    let mut dialogue = greeted();
    assert!(dialogue.capability().is_some());
    let long = [&b"* CAPABILITY "[..], &[b'x'; LINE_BYTES_MAX]].concat();
    assert!(matches!(dialogue.receive(&long), Err(ServerFault::Line(_))));
    for answer in ["P2 OK\r\n", "+ go\r\n", "P1 MAYBE\r\n"] {
        let mut dialogue = greeted();
        assert!(dialogue.capability().is_some());
        assert_eq!(dialogue.receive(answer.as_bytes()), Err(ServerFault::NotAnAnswer), "{answer:?}");
    }
}
