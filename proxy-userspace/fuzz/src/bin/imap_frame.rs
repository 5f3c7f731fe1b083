//! A stream of commands or of responses: units and literals are the same however the stream is split, and no octet is
//! lost.
#![no_main]

use libfuzzer_sys::fuzz_target;
use postern::imap::{FrameBounds, FrameStep, Framer, FramingFault, LiteralHead, Speaker};

/// Small, so that it is met.
const BOUNDS: FrameBounds = FrameBounds { text: 512 };

#[derive(Debug, Default, PartialEq)]
struct Read {
    /// Offsets behind each unit.
    ends: Vec<usize>,
    /// Offsets of each literal, and its announcement.
    literals: Vec<(usize, LiteralHead)>,
    fault: Option<FramingFault>,
}

fn read<'a>(speaker: Speaker, pieces: impl Iterator<Item = &'a [u8]>) -> Read {
    let mut framer = Framer::new(speaker, BOUNDS);
    let mut read = Read::default();
    let mut at = 0;
    for mut piece in pieces {
        while !piece.is_empty() {
            let left = framer.literal_left();
            let frame = match framer.take(piece) {
                Ok(frame) => frame,
                Err(fault) => {
                    assert_eq!(framer.take(b"a NOOP\r\n"), Err(fault), "a fault is final");
                    read.fault = Some(fault);
                    return read;
                }
            };
            assert!(frame.octets > 0 && frame.octets <= piece.len());
            assert!(left == 0 || (frame.octets as u64 <= left && frame.step == FrameStep::More));
            at += frame.octets;
            piece = &piece[frame.octets..];
            match frame.step {
                FrameStep::More => {}
                FrameStep::Literal(head) => read.literals.push((at, head)),
                FrameStep::Whole => read.ends.push(at),
            }
            assert_eq!(framer.is_at_boundary(), frame.step == FrameStep::Whole);
        }
    }
    read
}

fuzz_target!(|data: &[u8]| {
    let Some(([speaker, size], stream)) = data.split_first_chunk() else { return };
    let speaker = if speaker % 2 == 0 { Speaker::Client } else { Speaker::Server };
    let whole = read(speaker, std::iter::once(stream));
    assert_eq!(read(speaker, stream.chunks(1)), whole);
    assert_eq!(read(speaker, stream.chunks(usize::from(*size).max(1))), whole);
});
