//! Lines for a client that waits: first after 3 s, then every 5 s, between responses only.

use super::*;

const LINE: &str = "* OK The mail gateway is inspecting a message\r\n";
const MAIL: &str = "* 1 FETCH (UID 7 BODY[] {5}\r\nhello)\r\n";

/// Seconds from now until the engine wakes up.
fn seconds(dialogue: &Dialogue) -> Option<u64> {
    let due = dialogue.session.wake_at()?;
    Some(due.saturating_duration_since(Instant::now()).as_secs_f64().round() as u64)
}

#[test]
fn a_client_whose_mail_is_judged_hears_of_it_after_3_s_and_then_every_5_s() {
    let (mut dialogue, go_on) = Dialogue::stalled();
    assert_eq!(dialogue.session.wake_at(), None, "nobody waits");
    dialogue.takes(Side::Downstream, "a FETCH 1 (UID BODY[])\r\n").takes(Side::Upstream, MAIL);
    assert_eq!(seconds(&dialogue), Some(3));
    let first = dialogue.session.wake_at().unwrap();
    assert_eq!(dialogue.tick(first - Duration::from_millis(1)).client_got(), "");
    assert_eq!(dialogue.tick(first).client_got(), LINE);
    for nth in 1..4 {
        let due = first + Duration::from_secs(5) * nth;
        assert_eq!(dialogue.session.wake_at(), Some(due));
        assert_eq!(dialogue.tick(due).client_got(), LINE);
    }
    drop(go_on);
    dialogue.settle().unwrap();
    assert_eq!(dialogue.client_got(), MAIL);
    assert_eq!(dialogue.session.wake_at(), None);
}

#[test]
fn what_stands_before_the_mail_in_its_batch_changes_nothing() {
    for before in ["* 5 EXISTS\r\n", "* OK [XYZZY] x\r\n", "* 1 FETCH (PREVIEW \"x\" FLAGS ())\r\n"] {
        let (mut dialogue, _go_on) = Dialogue::stalled();
        dialogue.takes(Side::Upstream, &format!("{before}{MAIL}"));
        dialogue.client_got();
        let due = dialogue.session.wake_at().expect("the client waits");
        assert_eq!(dialogue.tick(due).client_got(), LINE, "{before}");
    }
}

#[test]
fn a_response_that_comes_slowly_is_waited_for_with_words() {
    let mut dialogue = Dialogue::new();
    dialogue.takes(Side::Downstream, "a FETCH 1 (UID BODY[])\r\n");
    dialogue.takes(Side::Upstream, "* 1 FETCH (UID 7 BODY[] {5}\r\nhel");
    assert_eq!(seconds(&dialogue), Some(3));
    let due = dialogue.session.wake_at().unwrap();
    assert_eq!(dialogue.tick(due).client_got(), LINE);
    dialogue.server("lo)\r\n");
    assert_eq!(dialogue.client_got(), MAIL);
    assert_eq!(dialogue.session.wake_at(), None);
}

/// Before the greeting, a line of ours would be taken for it.
#[test]
fn nobody_waits_for_a_response_without_a_command() {
    let mut dialogue = Dialogue::new();
    dialogue.takes(Side::Upstream, "* PREAUTH [CAPABILITY");
    assert_eq!(dialogue.session.wake_at(), None);
}

#[test]
fn no_line_stands_inside_a_response() {
    let (mut dialogue, _go_on) = Dialogue::stalled();
    dialogue.client_reads = false;
    dialogue.takes(Side::Upstream, &format!("* 1 FETCH (PREVIEW \"x\" FLAGS ())\r\n{MAIL}"));
    dialogue.client_reads = true;
    let mut room = [0; 4];
    while dialogue.session.next(Side::Downstream) != Next::Own {}
    assert_eq!(dialogue.session.fill(Side::Downstream, &mut room), 4);
    dialogue.session.tick(Instant::now() + Duration::from_secs(100)).unwrap();
    dialogue.drain(Side::Downstream, &[]);
    assert_eq!(dialogue.client_got(), "FETCH (FLAGS ())\r\n");
}

#[test]
fn an_upload_is_waited_for_every_5_s_until_the_servers_answer() {
    let (mut dialogue, go_on) = Dialogue::stalled();
    dialogue.takes(Side::Downstream, "a APPEND INBOX {5+}\r\nhel");
    assert_eq!(dialogue.session.wake_at(), None, "the client speaks");
    dialogue.takes(Side::Downstream, "lo\r\n");
    assert_eq!(seconds(&dialogue), Some(5));
    let first = dialogue.session.wake_at().unwrap();
    assert_eq!(dialogue.tick(first).client_got(), LINE);
    drop(go_on);
    dialogue.settle().unwrap();
    assert_eq!(dialogue.session.wake_at(), Some(first + Duration::from_secs(5)));
    dialogue.takes(Side::Upstream, "+ go\r\n");
    assert_eq!(dialogue.tick(first + Duration::from_secs(5)).client_got(), LINE, "the server takes its time");
    assert_eq!(dialogue.server("a OK done\r\n").client_got(), "a OK done\r\n");
    assert_eq!(dialogue.session.wake_at(), None);
}
