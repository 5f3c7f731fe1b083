//! Whole dialogues through an engine: what either peer says, and what the other gets of it.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::task::{Context, Waker};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::*;
use crate::accept::HeldOctets;
use crate::content::Rules;
use crate::jobs::{JobPool, JobPurpose};
use crate::record::{Record, Records};
use crate::words::{ClientAddr, OriginalDst, Size};

pub(super) const EICAR: &str = r"X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*";
const MESSAGE_MAX: u64 = 100_000;

/// An engine between two peers, which say what the test says.
pub(super) struct Dialogue {
    pub(super) session: Session,
    pub(super) written: Receiver<Vec<u8>>,
    _record: Record,
    pub(super) held: Arc<HeldOctets>,
    /// Octets of a batch that may be handed over at once.
    pub(super) batch_bytes: usize,
    /// Octets of our own that are taken at once.
    pub(super) room_bytes: usize,
    pub(super) client_got: Vec<u8>,
    pub(super) server_got: Vec<u8>,
}

impl Dialogue {
    pub(super) fn new() -> Self {
        Self::holding(1 << 30)
    }

    pub(super) fn holding(octets: u64) -> Self {
        let (records, written) = Records::to_queue(1000);
        let (client, server) = ("192.0.2.1:40000".parse().unwrap(), "198.51.100.1:993".parse().unwrap());
        let mut record = records.open(ClientAddr(client), OriginalDst(server));
        let held = HeldOctets::new(Size(octets));
        let terms = MediationTerms {
            message_max: MESSAGE_MAX,
            held: Arc::clone(&held),
            jobs: Arc::new(JobPool::start(JobPurpose::Content, 1).unwrap()),
            rules: Arc::new(Rules::new(&["*.exe"], &["executable"]).unwrap()),
            counts: record.content_counts(),
            verdicts: record.verdict_lines(),
        };
        let session = Session::new(Rc::new(terms));
        Self {
            session,
            written,
            _record: record,
            held,
            batch_bytes: 4096,
            room_bytes: 4096,
            client_got: Vec::new(),
            server_got: Vec::new(),
        }
    }

    /// A side says something; then everything that can happen does.
    pub(super) fn says(&mut self, side: Side, octets: &[u8]) -> Result<(), InspectRefusal> {
        for part in octets.chunks(self.batch_bytes) {
            self.settle()?;
            let deadline = Instant::now() + Duration::from_secs(20);
            while self.session.wants(side) == Want::Nothing {
                assert!(Instant::now() < deadline, "{side} is never read again");
                self.settle()?;
            }
            self.session.take(side, &Batch::of(&[part]))?;
            self.drain(side.other(), part);
            self.drain(side, &[]);
        }
        self.settle()
    }

    pub(super) fn client(&mut self, text: &str) -> &mut Self {
        self.says(Side::Downstream, text.as_bytes()).unwrap();
        self
    }

    pub(super) fn server(&mut self, text: &str) -> &mut Self {
        self.says(Side::Upstream, text.as_bytes()).unwrap();
        self
    }

    /// What the client got since the last question.
    pub(super) fn client_got(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.client_got)).into_owned()
    }

    /// What the server got since the last question.
    pub(super) fn server_got(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.server_got)).into_owned()
    }

    /// Verdicts since the last question.
    pub(super) fn verdicts(&self) -> Vec<serde_json::Value> {
        self.written.try_iter().map(|line| serde_json::from_slice(&line).unwrap()).collect()
    }

    fn drain(&mut self, to: Side, mut batch: &[u8]) {
        let got = if to == Side::Downstream { &mut self.client_got } else { &mut self.server_got };
        loop {
            match self.session.next(to) {
                Next::Nothing => return,
                Next::Pass(octets) => {
                    let (now, later) = batch.split_at(octets);
                    got.extend_from_slice(now);
                    batch = later;
                }
                Next::Skip(octets) => batch = &batch[octets..],
                Next::Own => {
                    let mut room = vec![0; self.room_bytes];
                    let count = self.session.fill(to, &mut room);
                    assert!(count > 0, "own octets are promised");
                    got.extend_from_slice(&room[..count]);
                }
            }
        }
    }

    /// Wait for verdicts until there are none to come.
    fn settle(&mut self) -> Result<(), InspectRefusal> {
        let mut cx = Context::from_waker(Waker::noop());
        let mut quiet = 0;
        let deadline = Instant::now() + Duration::from_secs(20);
        while quiet < 2 {
            self.drain(Side::Downstream, &[]);
            self.drain(Side::Upstream, &[]);
            match self.session.poll_event(&mut cx) {
                Poll::Ready(changed) => {
                    changed?;
                    quiet = 0;
                }
                Poll::Pending if self.session.is_judging() => {
                    assert!(Instant::now() < deadline, "a verdict never comes");
                    sleep(Duration::from_micros(100));
                }
                Poll::Pending => quiet += 1,
            }
        }
        Ok(())
    }
}

#[test]
fn a_session_without_mail_passes_as_it_is() {
    let mut dialogue = Dialogue::new();
    let greeting = "* OK ready\r\n";
    assert_eq!(dialogue.server(greeting).client_got(), greeting);
    for (command, answer) in [
        ("a NOOP\r\n", "a OK done\r\n"),
        ("b LOGIN joe secret\r\n", "b OK in\r\n"),
        ("c LIST \"\" *\r\n", "* LIST (\\HasNoChildren) \"/\" INBOX\r\nc OK done\r\n"),
        ("d SELECT INBOX\r\n", "* 3 EXISTS\r\n* OK [UIDVALIDITY 5] fine\r\nd OK [READ-WRITE] done\r\n"),
        ("e FETCH 1:* (FLAGS UID)\r\n", "* 1 FETCH (FLAGS (\\Seen) UID 7)\r\ne OK done\r\n"),
    ] {
        assert_eq!(dialogue.client(command).server_got(), command);
        assert_eq!(dialogue.server(answer).client_got(), answer);
    }
}

#[test]
fn mail_is_judged_before_the_client_sees_an_octet() {
    let mut dialogue = Dialogue::new();
    dialogue.client("a LOGIN joe secret\r\n").server("a OK in\r\n").client("b SELECT INBOX\r\n");
    dialogue.server("b OK done\r\n").client("c UID FETCH 7 (UID BODY.PEEK[])\r\n");
    assert!(dialogue.server_got().ends_with("c UID FETCH 7 (UID BODY.PEEK[])\r\n"));
    dialogue.client_got();
    let clean = "Subject: x\r\n\r\nhello\r\n";
    let answer =
        |mail: &str| format!("* 1 FETCH (UID 7 BODY[] {{{}}}\r\n{mail})\r\nc OK done\r\n", mail.len());
    assert_eq!(dialogue.server(&answer(clean)).client_got(), answer(clean));
    let hostile = format!("Subject: x\r\n\r\n{EICAR}\r\n");
    dialogue.client("c UID FETCH 7 (UID BODY.PEEK[])\r\n").server(&answer(&hostile));
    let got = dialogue.client_got();
    assert_eq!(got.len(), answer(&hostile).len());
    assert!(
        !got.contains("EICAR") && got.contains("Subject: x\r\n\r\n") && got.ends_with("c OK done\r\n"),
        "{got}"
    );
    let verdict = &dialogue.verdicts()[0];
    assert_eq!(
        ["user.name", "postern.mailbox", "postern.direction"].map(|field| verdict[field].as_str()),
        [Some("joe"), Some("INBOX"), Some("server_to_client")]
    );
    assert_eq!(verdict["postern.uid"], 7);
}

#[test]
fn a_partial_is_cut_from_the_whole_and_what_was_added_stays_out() {
    let mut dialogue = Dialogue::new();
    dialogue.client("a FETCH 1 (BODY.PEEK[1]<2.3> FLAGS)\r\n");
    assert_eq!(
        dialogue.server_got(),
        "a FETCH 1 (UID BODY.PEEK[1] FLAGS BODY.PEEK[1.MIME] BODYSTRUCTURE)\r\n"
    );
    dialogue.server(
        "* 1 FETCH (UID 7 FLAGS () BODY[1] {7}\r\nhello\r\n BODY[1.MIME] {26}\r\nContent-Type: text/plain\r\n BODYSTRUCTURE \
         (\"text\" \"plain\" NIL NIL NIL \"7bit\" 7 1))\r\na OK done\r\n",
    );
    assert_eq!(dialogue.client_got(), "* 1 FETCH (FLAGS () BODY[1]<2> {3}\r\nllo)\r\na OK done\r\n");
}

#[test]
fn a_command_that_was_changed_is_alone() {
    let mut dialogue = Dialogue::new();
    dialogue.client("a NOOP\r\nb UID FETCH 1 (BODY[]<0.5>)\r\nc NOOP\r\n");
    assert_eq!(dialogue.server_got(), "a NOOP\r\n");
    assert_eq!(dialogue.server("a OK done\r\n").server_got(), "b UID FETCH 1 (BODY[])\r\n");
    assert_eq!(dialogue.server("b OK done\r\n").server_got(), "c NOOP\r\n");
}

#[test]
fn an_upload_is_judged_before_the_server_hears_of_it() {
    let mut dialogue = Dialogue::new();
    let mail = format!("Subject: x\r\n\r\n{EICAR}\r\n");
    let append = |mail: &str| format!("a APPEND INBOX (\\Seen) {{{}}}\r\n", mail.len());
    assert_eq!(dialogue.client(&append(&mail)).client_got(), "+ Go on\r\n");
    dialogue.client(&format!("{mail}\r\n"));
    let got = dialogue.client_got();
    assert!(got.starts_with("a NO [CANNOT] "), "{got}");
    assert_eq!(dialogue.server_got(), "");

    let mail = "Subject: x\r\n\r\nhello\r\n";
    dialogue.client(&append(mail)).client(&format!("{mail}\r\n"));
    assert_eq!(dialogue.client_got(), "+ Go on\r\n");
    assert_eq!(dialogue.server_got(), append(mail));
    dialogue.server("+ send it\r\n");
    assert_eq!((dialogue.server_got(), dialogue.client_got()), (format!("{mail}\r\n"), String::new()));
    assert_eq!(dialogue.server("a OK stored\r\n").client_got(), "a OK stored\r\n");
}

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
    let mail = "Subject: x\r\n\r\nhello\r\n";
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
