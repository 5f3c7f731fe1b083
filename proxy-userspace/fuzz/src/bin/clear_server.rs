//! The server's half of the clear-text dialogue: STARTTLS is asked for once, after the first read that ends in
//! Ready; what follows says the same however it is split; nothing but a tagged OK, alone, leads to TLS.
#![no_main]

use libfuzzer_sys::fuzz_target;
use postern::handshake::clear::{ServerDialogue, ServerFault, ServerStep, TAG_BYTES_MAX, VERB_BYTES_MAX};

/// Ends a read in the input.
const READ_END: u8 = 0xff;

fn receive(dialogue: &mut ServerDialogue, input: &[u8]) -> Result<ServerStep, ServerFault> {
    let step = dialogue.receive(input);
    assert!(dialogue.buffered() <= TAG_BYTES_MAX + VERB_BYTES_MAX);
    if let Err(fault) = step {
        assert_eq!(dialogue.receive(b"* OK\r\n"), Err(fault), "a fault is final");
        assert_eq!(dialogue.starttls(), None);
    }
    step
}

/// What came of the greeting and then of the answers to STARTTLS: the last step of each.
fn hear<'a>(
    greeting: &[u8],
    answers: impl Iterator<Item = &'a [u8]>,
) -> Result<(ServerStep, ServerStep), ServerFault> {
    let mut dialogue = ServerDialogue::new();
    let greeted = receive(&mut dialogue, greeting)?;
    assert!(matches!(greeted, ServerStep::More | ServerStep::Ready));
    assert_eq!(dialogue.starttls().is_some(), greeted == ServerStep::Ready);
    let mut last = ServerStep::More;
    for input in answers {
        match receive(&mut dialogue, input)? {
            ServerStep::More => {}
            step => last = step,
        }
    }
    Ok((greeted, last))
}

fuzz_target!(|data: &[u8]| {
    let (greeting, answers) = match data.iter().position(|octet| *octet == READ_END) {
        Some(end) => (&data[..end], &data[end..]),
        None => (data, &[][..]),
    };
    let joined: Vec<u8> = answers.iter().copied().filter(|octet| *octet != READ_END).collect();
    let whole = hear(greeting, std::iter::once(&joined[..]));
    assert_eq!(hear(greeting, joined.chunks(1)), whole);
    assert_eq!(hear(greeting, answers.split(|octet| *octet == READ_END)), whole);
    if let Ok((ServerStep::Ready, ServerStep::Accepted)) = whole {
        let last = joined.split(|octet| *octet == b'\n').rev().nth(1);
        assert!(last.is_some_and(|line| line.get(..5).is_some_and(|ok| ok.eq_ignore_ascii_case(b"P1 OK"))));
        assert!(joined.ends_with(b"\r\n"));
    }
});
