//! Sections that a client reads in pieces.

use super::*;

/// An answer with a whole section.
fn whole(tag: &str, uid: u32, mail: &str) -> String {
    format!("* 1 FETCH (UID {uid} BODY[] {{{}}}\r\n{mail})\r\n{tag} OK done\r\n", mail.len())
}

#[test]
fn a_message_that_is_read_in_pieces_is_fetched_once() {
    let mut dialogue = Dialogue::new();
    let mail = "Subject: x\r\n\r\nhello, world\r\n";
    dialogue.client("a UID FETCH 7 (BODY.PEEK[]<0.10>)\r\n");
    assert_eq!(dialogue.server_got(), "a UID FETCH 7 (BODY.PEEK[])\r\n");
    dialogue.server(&whole("a", 7, mail));
    assert_eq!(dialogue.client_got(), "* 1 FETCH (UID 7 BODY[]<0> {10}\r\nSubject: x)\r\na OK done\r\n");

    dialogue.client("b UID FETCH 7 (BODY.PEEK[]<10.9>)\r\n");
    assert_eq!(dialogue.server_got(), "b UID FETCH 7 (BODY.PEEK[]<0.1>)\r\n");
    dialogue.server("* 1 FETCH (UID 7 BODY[]<0> {1}\r\nS)\r\nb OK done\r\n");
    assert_eq!(dialogue.client_got(), "* 1 FETCH (UID 7 BODY[]<10> {9}\r\n\r\n\r\nhello)\r\nb OK done\r\n");

    // Behind the end there is nothing, under the label that was asked for.
    dialogue.client("c UID FETCH 7 (BODY.PEEK[]<1000.9>)\r\n");
    dialogue.server("* 1 FETCH (UID 7 BODY[]<0> {1}\r\nS)\r\nc OK done\r\n");
    assert_eq!(dialogue.client_got(), "* 1 FETCH (UID 7 BODY[]<1000> {0}\r\n)\r\nc OK done\r\n");
}

#[test]
fn where_the_copy_does_not_fit_the_command_goes_again_and_the_client_hears_one_completion() {
    let mut dialogue = Dialogue::new();
    dialogue.client("a UID FETCH 7 (BODY.PEEK[]<0.10>)\r\n").server(&whole(
        "a",
        7,
        "Subject: x\r\n\r\nhello\r\n",
    ));
    for misfit in ["* 1 FETCH (UID 7 BODY[]<0> {1}\r\nT)\r\n", "* 1 FETCH (UID 8 BODY[]<0> {1}\r\nS)\r\n"] {
        dialogue.client("b UID FETCH 7 (BODY.PEEK[]<0.2>)\r\n");
        dialogue.client_got();
        assert!(dialogue.server_got().ends_with("b UID FETCH 7 (BODY.PEEK[]<0.1>)\r\n"));
        dialogue.server(&format!("{misfit}b OK done\r\n"));
        assert_eq!(dialogue.server_got(), "b UID FETCH 7 (BODY.PEEK[])\r\n");
        assert_eq!(dialogue.client_got(), "");
        dialogue.server(&whole("b", 7, "Subject: y\r\n\r\nother\r\n"));
        assert_eq!(dialogue.client_got(), "* 1 FETCH (UID 7 BODY[]<0> {2}\r\nSu)\r\nb OK done\r\n");
    }
}

#[test]
fn a_copy_is_of_one_mailbox_and_is_gone_after_a_minute_without_a_reader() {
    let mut dialogue = Dialogue::new();
    let mail = &format!("Subject: x\r\n\r\n{}\r\n", "x".repeat(20_000));
    let whole_again = "b UID FETCH 7 (BODY.PEEK[])\r\n";
    dialogue.client("a UID FETCH 7 (BODY.PEEK[]<0.10>)\r\n").server(&whole("a", 7, mail));
    dialogue.client("s SELECT Other\r\n").server("s OK done\r\n").server_got();
    dialogue.client("b UID FETCH 7 (BODY.PEEK[]<0.2>)\r\n");
    assert_eq!(dialogue.server_got(), whole_again);
    dialogue.server(&whole("b", 7, mail));
    assert!(dialogue.held.octets() > 0);
    let due = dialogue.session.wake_at().unwrap();
    dialogue.session.tick(due).unwrap();
    assert_eq!(dialogue.held.octets(), 0);
    dialogue.client("b UID FETCH 7 (BODY.PEEK[]<0.2>)\r\n");
    assert_eq!(dialogue.server_got(), whole_again);
}

/// A vault whose copies all go to a file, with room for so many octets.
fn on_disk(octets: u64) -> Arc<Vault> {
    let files = VaultFiles { spool: Some(tempfile::tempfile().unwrap()), ..VaultFiles::default() };
    Arc::new(Vault::start(files, Size(octets), HeldOctets::new(Size(0))).unwrap())
}

#[test]
fn pieces_come_from_the_disk_and_nothing_is_held_meanwhile() {
    let vault = on_disk(1 << 20);
    let mut dialogue = Dialogue::keeping(Arc::clone(&vault));
    let mail = format!("Subject: x\r\n\r\n{}", "0123456789abcdef\r\n".repeat(4_000));
    dialogue.client("a UID FETCH 7 (BODY.PEEK[]<0.5>)\r\n").server(&whole("a", 7, &mail)).client_got();
    assert_eq!(dialogue.held.octets(), 0);
    assert!(vault.spool.numbers().octets >= mail.len() as u64);
    for (start, octets) in [(0, 10), (60_000, 9_000), (71_990, 100), (30_000, 1)] {
        dialogue.client(&format!("b UID FETCH 7 (BODY.PEEK[]<{start}.{octets}>)\r\n"));
        dialogue.server("* 1 FETCH (UID 7 BODY[]<0> {1}\r\nS)\r\nb OK done\r\n");
        let view = &mail[start..(start + octets).min(mail.len())];
        let expected =
            format!("* 1 FETCH (UID 7 BODY[]<{start}> {{{}}}\r\n{view})\r\nb OK done\r\n", view.len());
        assert_eq!(dialogue.client_got(), expected, "{start}");
    }
    drop(dialogue);
    assert_eq!(vault.spool.numbers().octets, 0, "who leaves takes the copies along");
}

#[test]
fn without_room_for_a_copy_no_piece_is_shown_and_the_whole_is() {
    let mut dialogue = Dialogue::keeping(on_disk(64));
    let mail = "Subject: x\r\n\r\n".to_owned() + &"0123456789abcdef\r\n".repeat(100);
    dialogue.client("a UID FETCH 7 (BODY.PEEK[]<0.5>)\r\n").server(&whole("a", 7, &mail));
    let got = dialogue.client_got();
    assert!(got.starts_with("a NO [UNAVAILABLE] ") && got.lines().count() == 1, "{got}");
    assert_eq!(dialogue.verdicts()[0]["rule.name"], "no_room_to_judge");
    dialogue.client("b UID FETCH 7 (BODY.PEEK[])\r\n").server(&whole("b", 7, &mail));
    assert_eq!(dialogue.client_got(), whole("b", 7, &mail));
}

#[test]
fn as_many_sections_are_kept_as_a_client_reads_at_once_and_the_oldest_go_first() {
    let mut dialogue = Dialogue::new();
    let mail = "Subject: x\r\n\r\nhello\r\n";
    let mut asks = |uid: u32| {
        dialogue.client(&format!("b UID FETCH {uid} (BODY.PEEK[]<0.2>)\r\n"));
        let asked = dialogue.server_got();
        if asked.contains("<0.1>") {
            dialogue.server(&format!("* 1 FETCH (UID {uid} BODY[]<0> {{1}}\r\nS)\r\nb OK done\r\n"));
        } else {
            dialogue.server(&whole("b", uid, mail));
        }
        assert!(dialogue.client_got().contains("{2}\r\nSu)"));
        asked.contains("<0.1>")
    };
    assert!((1..=64).all(|uid| !asks(uid)), "new ones");
    assert!((1..=64).all(&mut asks), "all of them are kept");
    assert!(!asks(65), "one more");
    assert!(asks(65) && asks(64) && !asks(1), "the oldest is gone");
}

/// A client may say SELECT before it has its mail: UIDs mean other messages from then on.
#[test]
fn a_copy_that_is_judged_when_another_mailbox_is_selected_is_none_of_that_mailbox() {
    let (mut dialogue, go_on) = Dialogue::stalled();
    dialogue
        .takes(Side::Downstream, "a UID FETCH 7 (BODY.PEEK[]<0.10>)\r\ns SELECT Other\r\n")
        .takes(Side::Upstream, &whole("a", 7, "Subject: first\r\n\r\nhello\r\n"))
        .takes(Side::Upstream, "s OK done\r\n");
    drop(go_on);
    dialogue.settle().unwrap();
    assert!(dialogue.client_got().contains("Subject: f"));
    dialogue.server_got();
    dialogue.client("b UID FETCH 7 (BODY.PEEK[]<0.16>)\r\n");
    assert_eq!(dialogue.server_got(), "b UID FETCH 7 (BODY.PEEK[])\r\n");
    dialogue.server(&whole("b", 7, "Subject: second\r\n\r\nhello\r\n"));
    assert!(dialogue.client_got().contains("Subject: second"));
}

/// JavaMail reads attachments in pieces of 16 KiB, by sequence number.
#[test]
fn a_message_that_is_read_in_pieces_by_its_number_is_fetched_once_and_another_one_there_is_seen() {
    let mut dialogue = Dialogue::new();
    let mail = "Subject: x\r\n\r\nhello, world\r\n";
    dialogue.client("a FETCH 3 (BODY[]<0.10>)\r\n");
    assert_eq!(dialogue.server_got(), "a FETCH 3 (UID BODY[])\r\n");
    dialogue.server(&whole("a", 7, mail).replace("* 1", "* 3"));
    assert_eq!(dialogue.client_got(), "* 3 FETCH (BODY[]<0> {10}\r\nSubject: x)\r\na OK done\r\n");

    dialogue.client("b FETCH 3 (BODY[]<10.9>)\r\n");
    assert_eq!(dialogue.server_got(), "b FETCH 3 (UID BODY[]<0.1>)\r\n");
    dialogue.server("* 3 FETCH (UID 7 BODY[]<0> {1}\r\nS)\r\nb OK done\r\n");
    assert_eq!(dialogue.client_got(), "* 3 FETCH (BODY[]<10> {9}\r\n\r\n\r\nhello)\r\nb OK done\r\n");

    // Message 1 was expunged.
    dialogue.client("c FETCH 3 (BODY[]<9.1>)\r\n");
    assert_eq!(dialogue.server_got(), "c FETCH 3 (UID BODY[]<0.1>)\r\n");
    dialogue.server("* 3 FETCH (UID 8 BODY[]<0> {1}\r\nS)\r\nc OK done\r\n");
    assert_eq!(dialogue.server_got(), "c FETCH 3 (UID BODY[])\r\n");
    dialogue.server(&whole("c", 8, "Subject: y\r\n\r\nother\r\n").replace("* 1", "* 3"));
    assert_eq!(dialogue.client_got(), "* 3 FETCH (BODY[]<9> {1}\r\ny)\r\nc OK done\r\n");
    dialogue.client("d FETCH 2 (BODY[]<0.1>)\r\n");
    assert_eq!(dialogue.server_got(), "d FETCH 2 (UID BODY[])\r\n");
}
