//! Responses as a server sends them: content is where the stream has literals, and a response out of which an item was
//! cut has the others.
#![no_main]

use std::ops::Range;

use libfuzzer_sys::fuzz_target;
use postern::imap::{
    AnsweredKind, FetchResponse, FrameBounds, FrameStep, Framer, ItemValue, Response, Speaker, Structure,
    capabilities, parse,
};

const BOUNDS: FrameBounds = FrameBounds { text: 64 * 1024 };

fn check(unit: &[u8], literals: &[Range<usize>]) {
    match parse(unit) {
        Ok(Response::Fetch(response)) => fetch(unit, literals, &response),
        Ok(Response::Tagged { text, .. } | Response::Status { text, .. }) => {
            assert!(literals.is_empty());
            let _ = (text.ends_like_literal(), text.code.map(|code| code.words().count()));
        }
        Ok(Response::Data { rest, .. }) => drop(capabilities(rest).count()),
        Ok(_) => assert!(literals.is_empty()),
        Err(_) => {}
    }
}

fn fetch(unit: &[u8], literals: &[Range<usize>], response: &FetchResponse) {
    let mut end = 0;
    for item in &response.items {
        assert!(end < item.range.start && item.range.end < unit.len());
        end = item.range.end;
        match &item.value {
            ItemValue::Nil => {}
            ItemValue::Other(value) => {
                assert!(item.range.start < value.start && value.end <= item.range.end);
                if matches!(item.kind, AnsweredKind::Structure { .. }) {
                    let _ = Structure::parse(&unit[value.clone()]);
                }
            }
            ItemValue::Octets { content, quoted, .. } => {
                assert!(item.range.start < content.start && content.end <= item.range.end);
                assert!(*quoted || literals.contains(content));
            }
        }
    }
    // Every literal lies within an item.
    for literal in literals {
        let holds = |item: &Range<usize>| item.start < literal.start && literal.end <= item.end;
        assert!(response.items.iter().any(|item| holds(&item.range)));
    }
    if let [first, second, ..] = response.items.as_slice() {
        let cut = [&unit[..first.range.start], &unit[second.range.start..]].concat();
        let Ok(Response::Fetch(rest)) = parse(&cut) else { panic!("an item less does not parse") };
        let kinds = |response: &FetchResponse| {
            response.items.iter().map(|item| item.kind.clone()).collect::<Vec<_>>()
        };
        assert_eq!(kinds(&rest), kinds(response)[1..]);
    }
}

fuzz_target!(|data: &[u8]| {
    let mut framer = Framer::new(Speaker::Server, BOUNDS);
    let mut literals = Vec::new();
    let (mut start, mut at) = (0, 0);
    while let Some(Ok(frame)) = data.get(at..).filter(|rest| !rest.is_empty()).map(|rest| framer.take(rest)) {
        at += frame.octets;
        match frame.step {
            FrameStep::More => {}
            FrameStep::Literal(head) => literals.push(at - start..at - start + head.octets as usize),
            FrameStep::Whole => {
                check(&data[start..at], &literals);
                literals.clear();
                start = at;
            }
        }
    }
    let _ = (parse(data), Structure::parse(data));
});
