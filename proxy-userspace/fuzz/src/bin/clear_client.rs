//! The client's half of the clear-text dialogue: a STARTTLS is refused, so that the dialogue goes on; octets say
//! the same however they are split; every answer is printable lines. What is handed over is what came.
#![no_main]

use libfuzzer_sys::fuzz_target;
use postern::config::{ClearText, StartTls};
use postern::handshake::clear::{
    BAD_COMMANDS_MAX, COMMANDS_MAX, ClientDialogue, ClientFault, ClientStep, TAG_BYTES_MAX, VERB_BYTES_MAX,
};

/// Ends a read in the input; no line of IMAP has it.
const READ_END: u8 = 0xff;

/// The longest answer to one command: tag, status, words.
const REPLY_BYTES_MAX: usize = TAG_BYTES_MAX + 512;

#[derive(Debug, Default, PartialEq)]
struct Heard {
    output: Vec<u8>,
    steps: usize,
    starttls_waits: bool,
    fault: Option<ClientFault>,
    ended: bool,
}

impl Heard {
    fn reply(&mut self, reply: &[u8]) {
        assert!(reply.len() <= REPLY_BYTES_MAX && reply.ends_with(b"\r\n"));
        let text = std::str::from_utf8(reply).expect("answers are ASCII");
        for line in text.trim_end_matches("\r\n").split("\r\n") {
            assert!(line.bytes().all(|octet| matches!(octet, b' '..=b'~')), "{line:?}");
            assert!(line.split(' ').count() > 2 || line == "* ID NIL", "{line:?}");
        }
        self.output.extend_from_slice(reply);
        self.steps += 1;
    }
}

fn read(dialogue: &mut ClientDialogue, heard: &mut Heard, mut input: &[u8], refuse: bool) {
    while let Some(step) = dialogue.step(&mut input) {
        assert!(!heard.ended, "a step after the end");
        match step {
            ClientStep::Reply(reply) => heard.reply(&reply),
            ClientStep::StartTls if refuse => {
                let reply = dialogue.starttls_refused("no").expect("a STARTTLS waits");
                heard.reply(&reply);
            }
            ClientStep::StartTls => heard.starttls_waits = true,
            ClientStep::Capability { .. } | ClientStep::HandOver { .. } => panic!("clear text is refused"),
            ClientStep::End { reply, fault } => {
                heard.reply(&reply);
                heard.fault = fault;
                heard.ended = true;
                heard.starttls_waits = false;
            }
        }
    }
    assert!(input.is_empty());
    assert!(dialogue.buffered() <= TAG_BYTES_MAX + VERB_BYTES_MAX);
    assert!(heard.steps <= (COMMANDS_MAX + BAD_COMMANDS_MAX) as usize);
}

fn hear<'a>(reads: impl Iterator<Item = &'a [u8]>, refuse: bool) -> Heard {
    let mut dialogue = ClientDialogue::new();
    let mut heard = Heard::default();
    for input in reads {
        read(&mut dialogue, &mut heard, input, refuse);
    }
    assert!(!(refuse && heard.starttls_waits));
    if !refuse {
        assert_eq!(dialogue.starttls_ready().is_some(), heard.starttls_waits);
    }
    heard
}

/// Where clients may go on in clear text: the octets behind the answered commands, from the command that is handed over
/// on, and how many commands were for Postern.
fn handed_over<'a>(reads: impl Iterator<Item = &'a [u8]>) -> (Option<Vec<u8>>, usize) {
    let mut dialogue = ClientDialogue::new().with_settings(StartTls::Strip, ClearText::Inspect);
    let (mut handed, mut steps) = (None, 0);
    for mut input in reads {
        if let Some(handed) = &mut handed {
            Vec::extend_from_slice(handed, input);
            continue;
        }
        while let Some(step) = dialogue.step(&mut input) {
            match step {
                ClientStep::HandOver { begun } => {
                    assert!(begun.len() <= TAG_BYTES_MAX + VERB_BYTES_MAX + 3);
                    handed = Some([&begun, input].concat());
                    break;
                }
                ClientStep::StartTls => drop(dialogue.starttls_refused("no").expect("a STARTTLS waits")),
                ClientStep::Capability { tag } => assert!(tag.len() <= TAG_BYTES_MAX),
                ClientStep::Reply(_) | ClientStep::End { .. } => {}
            }
            steps += 1;
        }
    }
    (handed, steps)
}

fuzz_target!(|data: &[u8]| {
    hear(data.split(|octet| *octet == READ_END), true);
    let joined: Vec<u8> = data.iter().copied().filter(|octet| *octet != READ_END).collect();
    let whole = hear(std::iter::once(&joined[..]), false);
    assert_eq!(hear(joined.chunks(1), false), whole);
    assert_eq!(hear(data.split(|octet| *octet == READ_END), false), whole);
    let (handed, steps) = handed_over(std::iter::once(&joined[..]));
    if let Some(handed) = &handed {
        assert!(joined.ends_with(handed), "other octets were handed over than came");
        // STARTTLS says the same only where nothing stands behind it in its read.
        if !joined.to_ascii_uppercase().windows(8).any(|word| word == b"STARTTLS") {
            assert_eq!(handed_over(joined.chunks(1)), (Some(handed.clone()), steps));
        }
    }
});
