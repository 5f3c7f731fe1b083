//! Commands as a client sends them: messages are where the stream has literals, what is asked for with a literal still
//! to come agrees with what is parsed in the end, and a FETCH that is written anew means the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use postern::imap::{
    Arguments, ClientCommand, CommandFault, FetchItem, FrameBounds, FrameStep, Framer, LiteralRole, Speaker,
    literal_role, peek,
};

const BOUNDS: FrameBounds = FrameBounds { text: 64 * 1024 };

/// A unit, and where its literals begin and end.
#[derive(Default)]
struct Unit<'a> {
    octets: &'a [u8],
    literals: Vec<(usize, usize)>,
}

fn units(stream: &[u8]) -> Vec<Unit<'_>> {
    let mut framer = Framer::new(Speaker::Client, BOUNDS);
    let mut units = Vec::new();
    let mut unit = Unit::default();
    let (mut start, mut at) = (0, 0);
    while let Some(Ok(frame)) = stream.get(at..).filter(|rest| !rest.is_empty()).map(|rest| framer.take(rest))
    {
        at += frame.octets;
        match frame.step {
            FrameStep::More => {}
            FrameStep::Literal(head) => unit.literals.push((at - start, at - start + head.octets as usize)),
            FrameStep::Whole => {
                unit.octets = &stream[start..at];
                units.push(std::mem::take(&mut unit));
                start = at;
            }
        }
    }
    units
}

fn check(unit: &Unit<'_>) {
    let command = match ClientCommand::parse(unit.octets) {
        Ok(command) => command,
        Err(CommandFault::NoTag) => return,
        Err(CommandFault::Malformed { at, .. }) => return assert!(at <= unit.octets.len()),
    };
    assert_eq!(peek(unit.octets), Some((command.tag, command.verb)));
    match &command.arguments {
        Arguments::Append(request) => {
            let messages: Vec<_> = request.messages.iter().map(|range| (range.start, range.end)).collect();
            assert!(messages.iter().all(|message| unit.literals.contains(message)));
            for literal in &unit.literals {
                let is_message = literal_role(&unit.octets[..literal.0]) == LiteralRole::Message;
                assert_eq!(is_message, messages.contains(literal));
            }
        }
        // What is not known is not written whole.
        Arguments::Fetch(request)
            if !request.items.iter().any(|item| matches!(item, FetchItem::Unknown(_))) =>
        {
            let mut written = [command.tag, b" FETCH "].concat();
            request.write(&mut written);
            written.extend_from_slice(b"\r\n");
            let again = ClientCommand::parse(&written).expect("what was written parses");
            let Arguments::Fetch(again) = again.arguments else { panic!("not a FETCH") };
            assert_eq!((again.set, again.modifiers), (request.set, request.modifiers));
            assert_eq!(again.items, request.items);
        }
        _ => {}
    }
}

fuzz_target!(|data: &[u8]| {
    for unit in &units(data) {
        check(unit);
    }
    let _ = (ClientCommand::parse(data), peek(data), literal_role(data));
});
