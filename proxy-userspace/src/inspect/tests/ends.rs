//! How sessions end.

use super::*;

#[test]
fn a_stream_that_ends_between_units_is_complete() {
    let mut dialogue = Dialogue::new();
    dialogue.client("a NOOP\r\n").server("a OK done\r\n");
    assert_eq!(dialogue.session.ended(Side::Upstream, StreamEnd::Closed), Ok(()));
    assert_eq!(dialogue.session.ended(Side::Downstream, StreamEnd::Closed), Ok(()));
    assert!(dialogue.session.is_drained(Side::Upstream) && dialogue.session.is_drained(Side::Downstream));
}

#[test]
fn a_response_that_is_cut_anywhere_is_never_shown_and_the_server_is_at_fault() {
    let response = "* 1 FETCH (UID 7 BODY[] {5}\r\nhello FLAGS ())\r\n";
    for len in 1..response.len() {
        let mut dialogue = Dialogue::new();
        dialogue.server("* OK ready\r\n").server(&response[..len]);
        assert_eq!(dialogue.client_got(), "* OK ready\r\n");
        for end in [StreamEnd::Closed, StreamEnd::Truncated] {
            assert_eq!(
                dialogue.session.ended(Side::Upstream, end),
                Err(InspectRefusal::ResponseCut),
                "{len}"
            );
        }
        assert!(dialogue.session.is_at_boundary(Side::Downstream), "the client can be told");
    }
}

#[test]
fn a_command_that_is_cut_anywhere_never_reaches_the_server_and_the_client_is_at_fault() {
    let command = "a APPEND INBOX {5+}\r\nhello\r\n";
    for len in 1..command.len() {
        let mut dialogue = Dialogue::new();
        dialogue.client(&command[..len]);
        assert_eq!(dialogue.server_got(), "");
        assert_eq!(
            dialogue.session.ended(Side::Downstream, StreamEnd::Truncated),
            Err(InspectRefusal::CommandCut)
        );
        drop(dialogue.session);
        assert_eq!(dialogue.held.octets(), 0);
    }
}

#[test]
fn what_cannot_be_framed_ends_the_session_at_the_side_at_fault() {
    for (side, octets) in [
        (Side::Downstream, &b"a NO\0OP\r\n"[..]),
        (Side::Downstream, b"a NOOP\rx\r\n"),
        (Side::Downstream, b"a APPEND x {4294967296}\r\n"),
        (Side::Upstream, b"* OK x\n"),
        (Side::Upstream, b"* OK \0\r\n"),
        (Side::Upstream, b"* OK x\ry\r\n"),
        (Side::Upstream, b"* 1 FETCH (BODY[] {5+}\r\n"),
        (Side::Upstream, b"* 1 FETCH (BODY[] {4294967296}\r\n"),
    ] {
        let mut dialogue = Dialogue::new();
        let refusal = dialogue.says(side, octets).unwrap_err();
        assert_eq!(refusal.side(), side, "{octets:?}");
        assert!(matches!(refusal, InspectRefusal::ClientFraming(_) | InspectRefusal::ServerFraming(_)));
        assert_eq!((dialogue.client_got(), dialogue.server_got()), (String::new(), String::new()));
    }
    let mut dialogue = Dialogue::new();
    assert_eq!(dialogue.says(Side::Downstream, b"GET / HTTP/1.1\r\n"), Err(InspectRefusal::Http));
}

#[test]
fn goodbye_announces_the_servers_end_and_an_answered_logout_both() {
    let mut dialogue = Dialogue::new();
    dialogue.server("* OK ready\r\n");
    assert!(!dialogue.session.is_announced(Side::Upstream));
    dialogue.server("* BYE [UNAVAILABLE] later\r\n");
    assert_eq!(dialogue.client_got(), "* OK ready\r\n* BYE [UNAVAILABLE] later\r\n");
    assert!(
        dialogue.session.is_announced(Side::Upstream) && !dialogue.session.is_announced(Side::Downstream)
    );

    let mut dialogue = Dialogue::new();
    dialogue.client("a LOGOUT\r\n").server("a BAD no\r\n").client("a LOGOUT\r\n");
    assert!(!dialogue.session.is_announced(Side::Downstream), "it is not answered");
    dialogue.server("* BYE bye\r\na OK done\r\n");
    assert!(dialogue.session.is_announced(Side::Upstream) && dialogue.session.is_announced(Side::Downstream));
}

#[test]
fn mail_that_is_held_goes_on_after_the_servers_end() {
    let (mut dialogue, go_on) = Dialogue::stalled();
    dialogue.takes(Side::Downstream, "a FETCH 1 BODY[]\r\n");
    dialogue.takes(Side::Upstream, "* 1 FETCH (UID 7 BODY[] {5}\r\nhello)\r\n* BYE x\r\na OK done\r\n");
    assert_eq!(dialogue.session.ended(Side::Upstream, StreamEnd::Closed), Ok(()));
    assert!(!dialogue.session.is_drained(Side::Downstream));
    assert_eq!(dialogue.client_got(), "");
    drop(go_on);
    dialogue.settle().unwrap();
    assert!(dialogue.session.is_drained(Side::Downstream));
    assert_eq!(dialogue.client_got(), "* 1 FETCH (BODY[] {5}\r\nhello)\r\n* BYE x\r\na OK done\r\n");
}

#[test]
fn an_upload_that_is_held_goes_on_after_the_clients_end() {
    let (mut dialogue, go_on) = Dialogue::stalled();
    dialogue.takes(Side::Downstream, "a APPEND INBOX {5+}\r\nhello\r\n");
    assert_eq!(dialogue.session.ended(Side::Downstream, StreamEnd::Closed), Ok(()));
    assert!(!dialogue.session.is_drained(Side::Upstream));
    drop(go_on);
    dialogue.settle().unwrap();
    assert!(!dialogue.session.is_drained(Side::Upstream), "the literal waits for the server");
    dialogue.server("+ go\r\n");
    assert_eq!(dialogue.server_got(), "a APPEND INBOX {5}\r\nhello\r\n");
    assert!(dialogue.session.is_drained(Side::Upstream));
}

/// The server may still have to be asked for the whole.
#[test]
fn a_command_that_may_go_again_keeps_the_servers_side_open() {
    let mut dialogue = Dialogue::new();
    let whole = |mail: &str| format!("* 1 FETCH (UID 7 BODY[] {})\r\na OK done\r\n", literal(mail));
    dialogue.client("a UID FETCH 7 (BODY.PEEK[]<0.5>)\r\n").server(&whole("hello, world"));
    dialogue.client("a UID FETCH 7 (BODY.PEEK[]<5.5>)\r\n");
    dialogue.client_got();
    dialogue.server_got();
    assert_eq!(dialogue.session.ended(Side::Downstream, StreamEnd::Closed), Ok(()));
    assert!(!dialogue.session.is_drained(Side::Upstream));
    dialogue.server("* 1 FETCH (UID 7 BODY[]<0> {1}\r\nx)\r\na OK done\r\n");
    assert_eq!(dialogue.server_got(), "a UID FETCH 7 (BODY.PEEK[])\r\n");
    assert!(dialogue.session.is_drained(Side::Upstream));
    dialogue.server(&whole("other, than"));
    assert_eq!(dialogue.client_got(), "* 1 FETCH (UID 7 BODY[]<5> {5}\r\n, tha)\r\na OK done\r\n");
}
