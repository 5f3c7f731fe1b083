//! Mail that was judged before.

use super::*;

/// Mail of more than four groups, which batches of any size cut anywhere.
pub(super) fn long_mail(word: &str) -> String {
    format!("Subject: x\r\n\r\n{}", format!("{word} and so on\r\n").repeat(5_000))
}

pub(super) fn whole(tag: &str, uid: u32, mail: &str) -> String {
    format!("* 1 FETCH (UID {uid} BODY[] {{{}}}\r\n{mail})\r\n{tag} OK done\r\n", mail.len())
}

/// With a memory of its own, and one message in it.
fn knowing(mail: &str) -> (Dialogue, Arc<Vault>) {
    let held = HeldOctets::new(Size(1 << 32));
    let vault = Arc::new(Vault::start(VaultFiles::default(), Size(1 << 30), held).unwrap());
    let mut dialogue = Dialogue::keeping(Arc::clone(&vault));
    dialogue.client("s SELECT INBOX\r\n").server("* OK [UIDVALIDITY 5] v\r\ns OK done\r\n");
    dialogue.client("a UID FETCH 7 (UID BODY.PEEK[])\r\n").server(&whole("a", 7, mail));
    assert!(dialogue.client_got().ends_with(&whole("a", 7, mail)));
    assert_eq!(vault.memory.numbers().entries, 1);
    (dialogue, vault)
}

#[test]
fn known_mail_goes_on_as_it_comes_and_nothing_of_it_is_held() {
    let mail = long_mail("clean");
    for batch_bytes in [1000, 4096, 16_384, 50_000] {
        let (mut dialogue, _vault) = knowing(&mail);
        dialogue.batch_bytes = batch_bytes;
        dialogue.client("b UID FETCH 7 (UID BODY.PEEK[])\r\n").client_got();
        let answer = whole("b", 7, &mail);
        let (first, rest) = answer.split_at(60_000);
        dialogue.server(first);
        let got = dialogue.client_got();
        assert!(got.len() > 60_000 - 16_384 - 100 && first.starts_with(&got), "{} came", got.len());
        assert!(dialogue.held.octets() < 16_384, "{} are held", dialogue.held.octets());
        dialogue.server(rest);
        assert_eq!(got + &dialogue.client_got(), answer);
    }
}

/// Whatever records a batch has: of a message that spans batches, only what waits at the end of one is copied.
#[test]
fn known_mail_is_not_copied_at_the_ends_of_records() {
    let mail = long_mail("clean");
    for (batch_bytes, record_bytes) in [(50_000, 1_000), (50_000, 16_367), (64_000, 16_384), (20_000, 7)] {
        let (mut dialogue, _vault) = knowing(&mail);
        dialogue.batch_bytes = batch_bytes.min(64 * record_bytes);
        dialogue.record_bytes = record_bytes;
        dialogue.client("b UID FETCH 7 (UID BODY.PEEK[])\r\n").client_got();
        let (answer, said) = (whole("b", 7, &mail), dialogue.said);
        assert!(dialogue.server(&answer).client_got() == answer, "it came changed");
        let batches = answer.len() / dialogue.batch_bytes + 1;
        let copied = dialogue.said - said;
        assert!(copied <= batches * 16_384 + 1_000, "{copied} octets of {} were copied", answer.len());
        assert!(record_bytes < 1_000 || copied < answer.len(), "{copied} octets were copied");
        // Another octet in the last group: what was judged goes on, and nothing behind it.
        let (mut dialogue, _vault) = knowing(&mail);
        dialogue.batch_bytes = batch_bytes.min(64 * record_bytes);
        dialogue.record_bytes = record_bytes;
        let at = mail.len() - 1_000;
        let changed = format!("{}{EICAR}{}", &mail[..at], &mail[at + EICAR.len()..]);
        dialogue.client("b UID FETCH 7 (UID BODY.PEEK[])\r\n").client_got();
        let ended = dialogue.says(Side::Upstream, whole("b", 7, &changed).as_bytes());
        assert_eq!(ended, Err(InspectRefusal::ContentChanged));
        let got = dialogue.client_got();
        assert!(answer.starts_with(&got) && !got.contains(EICAR));
    }
}

#[test]
fn nobody_speaks_into_mail_that_goes_on_as_it_comes() {
    let mail = long_mail("clean");
    let (mut dialogue, _vault) = knowing(&mail);
    dialogue.client("b UID FETCH 7 (UID BODY.PEEK[])\r\n").client_got();
    let answer = whole("b", 7, &mail);
    let (first, rest) = answer.split_at(60_000);
    dialogue.server(first).client("c COMPRESS DEFLATE\r\n");
    assert!(!dialogue.session.is_at_boundary(Side::Downstream));
    if let Some(due) = dialogue.session.wake_at() {
        dialogue.session.tick(due).unwrap();
    }
    dialogue.server(rest);
    let got = dialogue.client_got();
    let (begin, end) = got.split_at(got.find("c BAD").unwrap());
    let closed = &answer[..answer.len() - "b OK done\r\n".len()];
    assert!(begin == closed || begin == answer, "between two responses");
    assert!(end.starts_with("c BAD") && dialogue.session.is_at_boundary(Side::Downstream));
}

#[test]
fn other_octets_under_a_known_name_are_judged_if_none_has_gone_on_and_otherwise_the_session_ends() {
    let (clean, hostile) =
        (long_mail("clean"), format!("Subject: x\r\n\r\n{}", format!("{EICAR}\r\n").repeat(1_000)));
    // From the first group on; of another length.
    let changed_at_once = format!("{}{}", &hostile[..20_000], &clean[20_000..]);
    for other in [&changed_at_once, &hostile] {
        let (mut dialogue, _vault) = knowing(&clean);
        dialogue.client("b UID FETCH 7 (UID BODY.PEEK[])\r\n").client_got();
        dialogue.server(&whole("b", 7, other));
        let got = dialogue.client_got();
        assert!(!got.contains(EICAR) && got.ends_with("b OK done\r\n"), "filled");
        assert_eq!(got.len(), whole("b", 7, other).len());
    }
    let (mut dialogue, vault) = knowing(&clean);
    let changed_later = format!("{}{EICAR}{}", &clean[..40_000], &clean[40_000 + EICAR.len()..]);
    dialogue.client("b UID FETCH 7 (UID BODY.PEEK[])\r\n").client_got();
    let ended = dialogue.says(Side::Upstream, whole("b", 7, &changed_later).as_bytes());
    assert_eq!(ended, Err(InspectRefusal::ContentChanged));
    assert!(!dialogue.session.is_at_boundary(Side::Downstream), "the client is cut inside the literal");
    let got = dialogue.client_got();
    assert!(!got.contains(EICAR) && got.len() <= 40_000, "nothing behind the group that changed");
    assert_eq!(vault.memory.numbers().entries, 0, "it is not known any more");
}

#[test]
fn what_stands_behind_known_mail_is_looked_at_too() {
    for mail in [long_mail("clean"), "Subject: x\r\n\r\nhello\r\n".to_owned()] {
        what_stands_behind(&mail);
    }
}

fn what_stands_behind(mail: &str) {
    let (mut dialogue, _vault) = knowing(mail);
    for (tail, passes) in [
        (" FLAGS (\\Seen))\r\n".to_owned(), true),
        (" ENVELOPE (NIL {5}\r\nhello NIL NIL NIL NIL NIL NIL NIL NIL))\r\n".to_owned(), true),
        (" X-GM-LABELS ({5}\r\nhello {3}\r\nabc))\r\n".to_owned(), true),
        (format!(" BODY[TEXT] {{{}}}\r\n{EICAR})\r\n", EICAR.len()), false),
        (" PREVIEW \"x\")\r\n".to_owned(), false),
        (format!(" BODY[TEXT] \"{}\")\r\n", EICAR.replace('\\', r"\\")), false),
    ] {
        dialogue.client("b UID FETCH 7 (UID BODY.PEEK[])\r\n").client_got();
        let answer = format!("* 1 FETCH (UID 7 BODY[] {{{}}}\r\n{mail}{tail}", mail.len());
        let ended = dialogue.says(Side::Upstream, answer.as_bytes());
        let got = dialogue.client_got();
        assert!(!got.contains(&EICAR[..11]) && !got.contains("PREVIEW"));
        assert_eq!(ended.is_ok(), passes, "{tail}");
        if !passes {
            dialogue = knowing(mail).0;
        } else {
            assert_eq!(got, answer);
            dialogue.server("b OK done\r\n");
        }
    }
}

#[test]
fn short_mail_and_parts_are_known_too_and_not_judged_again() {
    let mail = "Subject: x\r\n\r\nhello\r\n";
    let (mut dialogue, vault) = knowing(mail);
    let hits = vault.memory.numbers().hits;
    dialogue.client("b UID FETCH 7 (UID BODY.PEEK[])\r\n").server(&whole("b", 7, mail));
    assert!(dialogue.client_got().ends_with(&whole("b", 7, mail)));
    assert_eq!(vault.memory.numbers().hits, hits + 1);
    let part = |header: &str, body: &str| {
        format!(
            "* 1 FETCH (UID 7 BODY[1] {{{}}}\r\n{body} BODY[1.MIME] {{{}}}\r\n{header})\r\nc OK done\r\n",
            body.len(),
            header.len()
        )
    };
    let plain = "Content-Type: text/plain\r\n\r\n";
    let program = "Content-Type: text/plain; name=a.exe\r\n\r\n";
    for (header, is_clean) in [(plain, true), (plain, true), (program, false), (program, false)] {
        dialogue.client("c UID FETCH 7 (BODY.PEEK[1])\r\n").server(&part(header, "0123456789 harmless\r\n"));
        assert_eq!(
            dialogue.client_got().contains("0123456789 harmless"),
            is_clean,
            "{header}: the header counts"
        );
    }
}

#[test]
fn forbidden_mail_is_never_remembered() {
    let (mut dialogue, vault) = knowing("Subject: x\r\n\r\nhello\r\n");
    let hostile = format!("Subject: x\r\n\r\n{EICAR}\r\n");
    for _ in 0..2 {
        dialogue.client("b UID FETCH 8 (UID BODY.PEEK[])\r\n").server(&whole("b", 8, &hostile));
        assert!(!dialogue.client_got().contains(EICAR));
    }
    assert_eq!(vault.memory.numbers().entries, 1);
}

#[test]
fn known_mail_that_comes_with_other_mail_is_held_as_all_of_the_response_is() {
    let mail = long_mail("clean");
    let (mut dialogue, _vault) = knowing(&mail);
    dialogue.client("b UID FETCH 7 (UID BODY.PEEK[] RFC822.HEADER)\r\n").client_got();
    let answer = format!(
        "* 1 FETCH (UID 7 BODY[] {{{}}}\r\n{mail} RFC822.HEADER {{14}}\r\nSubject: x\r\n\r\n)\r\nb OK done\r\n",
        mail.len()
    );
    assert_eq!(dialogue.server(&answer).client_got(), answer);
}

fn known_messages_that_came_together(mail: &str, all: &str, record_bytes: usize) {
    let (mut dialogue, vault) = knowing(mail);
    dialogue.record_bytes = record_bytes;
    dialogue.client("b UID FETCH 7:9 (UID BODY.PEEK[] FLAGS)\r\n").server(&format!("{all}b OK done\r\n"));
    dialogue.client_got();
    let (hits, said) = (vault.memory.numbers().hits, dialogue.said);
    dialogue.client("c UID FETCH 7:9 (UID BODY.PEEK[] FLAGS)\r\n").server(&format!("{all}c OK done\r\n"));
    assert_eq!(dialogue.client_got(), format!("{all}c OK done\r\n"));
    assert_eq!(vault.memory.numbers().hits - hits, 3);
    // The completion is, where it stands in several records.
    assert!(dialogue.said - said <= "c OK done\r\n".len(), "no message was copied");
}

#[test]
fn known_messages_that_came_together_go_on_together_as_they_came() {
    let mail = "Subject: x\r\n\r\nhello\r\n";
    let answer = |uid: u32, mail: &str, tail: &str| {
        format!("* {uid} FETCH (UID {uid} BODY[] {{{}}}\r\n{mail}{tail})\r\n", mail.len())
    };
    let all: String = (7..=9).map(|uid| answer(uid, mail, " FLAGS ()")).collect();
    for record_bytes in [usize::MAX, 1_000, 100, 70, 3] {
        known_messages_that_came_together(mail, &all, record_bytes);
    }
    // One of them has changed, and is no longer than it was.
    let mail = format!("Subject: x\r\n\r\n{EICAR}\r\n");
    let clean = mail.replace(EICAR, &"x".repeat(EICAR.len()));
    let (mut dialogue, vault) = knowing(&clean);
    let all = format!("{}{}d OK done\r\n", answer(7, &clean, ""), answer(8, &mail, ""));
    dialogue.client("d UID FETCH 7:8 (UID BODY.PEEK[])\r\n").server(&all);
    let got = dialogue.client_got();
    assert!(got.starts_with(&answer(7, &clean, "")) && got.ends_with("d OK done\r\n"));
    assert!(!got.contains(EICAR) && got.len() == all.len(), "{got}");
    let known = vault.memory.numbers().entries;
    dialogue
        .client("e UID FETCH 7 (UID BODY.PEEK[])\r\n")
        .server(&format!("{}e OK done\r\n", answer(7, &mail, "")));
    assert!(!dialogue.client_got().contains(EICAR));
    assert!(vault.memory.numbers().entries < known, "what changed is forgotten");
}

/// Answers of our own wait until the message is complete, so that the server has to be read on.
#[test]
fn a_client_that_only_talks_does_not_stop_known_mail() {
    let mail = long_mail("clean");
    let (mut dialogue, _vault) = knowing(&mail);
    dialogue.client("b UID FETCH 7 (UID BODY.PEEK[])\r\n").client_got();
    let answer = whole("b", 7, &mail);
    let (first, rest) = answer.split_at(60_000);
    dialogue.server(first);
    let mut said = 0;
    while dialogue.session.wants(Side::Downstream) == Want::Octets {
        dialogue.client(&"c XYZZY\r\n".repeat(100));
        said += 100;
    }
    dialogue.server(rest);
    let got = dialogue.client_got();
    let (begin, end) = got.split_at(got.find("c BAD").unwrap());
    assert!(answer.starts_with(begin) && got.contains("b OK done\r\n"));
    assert_eq!(end.matches("c BAD").count(), said);
    assert_eq!(dialogue.session.wants(Side::Downstream), Want::Octets);
}

/// Says of each leaf that this was found, and that the policy allows it.
struct Notes(crate::content::Condition);

impl crate::content::Judge for Notes {
    fn begin(&self, leaf: &crate::content::LeafHead<'_>) -> Box<dyn crate::content::Examination + Send> {
        RULES.begin(leaf)
    }

    fn leaf(
        &self,
        _: &crate::content::LeafHead<'_>,
        _: &[u8],
        _: &std::sync::atomic::AtomicBool,
    ) -> crate::content::LeafDecision {
        crate::content::LeafOutcome::Note(crate::content::RuleName::Condition(self.0)).into()
    }
}

#[test]
fn mail_that_could_not_be_scanned_is_not_remembered_as_clean() {
    for (found, is_remembered) in
        [(crate::content::Condition::Macro, true), (crate::content::Condition::CannotScan, false)]
    {
        let held = HeldOctets::new(Size(1 << 32));
        let vault = Arc::new(Vault::start(VaultFiles::default(), Size(1 << 30), held).unwrap());
        let mut dialogue = Dialogue::keeping(Arc::clone(&vault));
        Rc::make_mut(&mut dialogue.session.terms).judge = Arc::new(Notes(found));
        dialogue.client("s SELECT INBOX\r\n").server("* OK [UIDVALIDITY 5] v\r\ns OK done\r\n").client_got();
        let mail = long_mail("clean");
        dialogue.client("a UID FETCH 7 (UID BODY.PEEK[])\r\n").server(&whole("a", 7, &mail));
        assert_eq!(dialogue.client_got(), whole("a", 7, &mail));
        assert_eq!(vault.memory.numbers().entries, u64::from(is_remembered), "{found:?}");
    }
}
