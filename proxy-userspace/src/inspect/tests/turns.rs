//! AUTHENTICATE and IDLE: commands that go on behind their first line.

use super::*;

#[test]
fn authenticate_takes_turns() {
    let mut dialogue = Dialogue::new();
    dialogue.client("a AUTHENTICATE LOGIN\r\n");
    assert_eq!(dialogue.server_got(), "a AUTHENTICATE LOGIN\r\n");
    for (challenge, response) in [
        ("+ VXNlcm5hbWU6\r\n", "am9l\r\n"),
        ("+ UGFzc3dvcmQ6\r\n", "c2VjcmV0\r\n"),
        ("+\r\n", "\r\n"),
        ("+ \r\n", "*\r\n"),
    ] {
        assert_eq!(dialogue.server(challenge).client_got(), challenge);
        assert_eq!(dialogue.client(response).server_got(), response);
    }
    assert_eq!(dialogue.server("a NO cancelled\r\n").client_got(), "a NO cancelled\r\n");
    dialogue.client("am9l\r\n");
    assert_eq!(dialogue.server_got(), "", "it is no command any more");
}

#[test]
fn the_account_of_plain_is_known_with_and_without_an_initial_response() {
    for dialogue_of in [
        &[(true, "a AUTHENTICATE PLAIN AGpvZQBzZWNyZXQ=\r\n")][..],
        &[(true, "a authenticate plain\r\n"), (false, "+\r\n"), (true, "AGpvZQBzZWNyZXQ=\r\n")],
        &[(true, "a AUTHENTICATE PLAIN\r\nAGpvZQBzZWNyZXQ=\r\n"), (false, "+\r\n")],
    ] {
        let mut dialogue = Dialogue::new();
        for (is_client, line) in dialogue_of {
            if *is_client {
                dialogue.client(line)
            } else {
                dialogue.server(line)
            };
        }
        dialogue.server("a OK in\r\n").client("b UID FETCH 7 BODY[]\r\n");
        dialogue.server(&format!("* 1 FETCH (BODY[] {})\r\n", literal(EICAR)));
        assert_eq!(dialogue.verdicts()[0]["user.name"], "joe");
    }
}

/// `{30+}` in a SASL response is no literal to a server: it would read what follows as commands that nobody looked at.
#[test]
fn no_command_hides_behind_a_line_of_a_dialogue() {
    let hidden = "b APPEND INBOX {4+}\r\nmail\r\n";
    for begin in [
        "a AUTHENTICATE LOGIN\r\n",
        "a AUTHENTICATE PLAIN\r\n",
        "a AUTHENTICATE PLAIN AGEAYg==\r\n",
        "a IDLE\r\n",
    ] {
        for line in [
            format!("{{{}+}}\r\n{hidden}\r\n", hidden.len()),
            format!("x~{{{}}}\r\n{hidden}\r\n", hidden.len()),
            format!("DONE {{0+}}\r\n{hidden}"),
        ] {
            let mut dialogue = Dialogue::new();
            dialogue.client(begin).server_got();
            dialogue.server("+ go\r\n").client(&line);
            let got = dialogue.server_got();
            assert!(["*\r\n", "DONE\r\n"].contains(&got.as_str()), "{begin}{line}: {got}");
        }
    }
}

#[test]
fn idle_ends_with_done() {
    let mut dialogue = Dialogue::new();
    assert_eq!(dialogue.client("a IDLE\r\n").server_got(), "a IDLE\r\n");
    let said = "+ idling\r\n* 5 EXISTS\r\n* 3 FETCH (FLAGS (\\Seen))\r\n* OK still here\r\n";
    assert_eq!(dialogue.server(said).client_got(), said);
    for done in ["DONE\r\n", "done\r\n", "Done\n"] {
        let mut dialogue = Dialogue::new();
        dialogue.client("a IDLE\r\n").server("+ idling\r\n").server_got();
        assert_eq!(dialogue.client(done).server_got(), "DONE\r\n");
        dialogue.client_got();
        assert_eq!(dialogue.server("a OK done\r\n").client_got(), "a OK done\r\n");
    }
}

#[test]
fn done_before_the_server_idles_waits_for_it() {
    let mut dialogue = Dialogue::new();
    dialogue.client("a IDLE\r\nDONE\r\nb NOOP\r\n");
    assert_eq!(dialogue.server_got(), "a IDLE\r\n");
    assert_eq!(dialogue.server("+ idling\r\n").server_got(), "DONE\r\n");
    assert_eq!(dialogue.server("a OK done\r\n").server_got(), "b NOOP\r\n");
    // Or for its refusal, and then it is a stray one.
    let mut dialogue = Dialogue::new();
    dialogue.client("a IDLE\r\nDONE\r\nb NOOP\r\n").server_got();
    dialogue.server("a BAD no\r\n");
    assert_eq!(dialogue.server_got(), "b NOOP\r\n");
    let got = dialogue.client_got();
    assert!(got.starts_with("a BAD no\r\nDONE BAD "), "{got}");
}

#[test]
fn junk_ends_idle_and_its_command_is_answered_bad() {
    let mut dialogue = Dialogue::new();
    dialogue.client("a IDLE\r\n").server("+ idling\r\n");
    dialogue.server_got();
    dialogue.client_got();
    assert_eq!(dialogue.client("b NOOP\r\n").server_got(), "DONE\r\n");
    let got = dialogue.server("a OK done\r\n").client_got();
    assert!(got.starts_with("a BAD "), "{got}");
    assert_eq!(dialogue.client("c NOOP\r\n").server_got(), "c NOOP\r\n");
    dialogue.server("c OK done\r\n");
    assert_eq!(dialogue.record_of_events().unwrap()["postern.imap.commands_refused"], 1);
    let mut dialogue = Dialogue::new();
    dialogue.client("a IDLE\r\n").server("+ idling\r\n").client("DONE\r\n").server("a OK done\r\n");
    assert_eq!(dialogue.record_of_events(), None);
}

#[test]
fn a_command_whose_completion_cannot_be_read_is_answered_no_and_the_session_has_a_record() {
    let mut dialogue = Dialogue::new();
    dialogue.client("a NOOP\r\n").server("a OKAY it is done\r\n");
    let got = dialogue.client_got();
    assert!(got.starts_with("a NO "), "{got}");
    assert_eq!(dialogue.record_of_events().unwrap()["postern.imap.commands_refused"], 1);
    // A tag that nobody used is no command's answer.
    let mut dialogue = Dialogue::new();
    dialogue.client("a NOOP\r\n").server("b OKAY it is done\r\na OK done\r\n");
    assert_eq!(dialogue.record_of_events(), None);
}

#[test]
fn mail_in_idle_is_judged_and_what_follows_waits() {
    let mut dialogue = Dialogue::new();
    dialogue.client("a IDLE\r\n").server("+ idling\r\n");
    dialogue.client_got();
    dialogue.server(&format!("* 1 FETCH (BODY[] {})\r\n* 2 EXISTS\r\n", literal(EICAR)));
    let got = dialogue.client_got();
    assert!(!got.contains("EICAR-STANDARD") && got.ends_with("* 2 EXISTS\r\n"), "{got}");
}
