//! Any octets as content of any shape: judging them and judging the result again, never panics and
//! keeps length and lines.
#![no_main]

use std::sync::LazyLock;
use std::sync::atomic::AtomicBool;

use libfuzzer_sys::fuzz_target;
use postern::content::{Case, ContentPiece, Judged, Rules, Shape, judge};

static RULES: LazyLock<Rules> = LazyLock::new(|| Rules::new(&["*.exe"], &["executable"]).expect("rules"));

fn judged(octets: &[u8], shape: Shape) -> Vec<u8> {
    let pieces = vec![ContentPiece { range: 0..octets.len(), shape }];
    match judge(Case { octets: octets.to_vec(), pieces, describes_allowed: true }, &*RULES, &AtomicBool::new(false)) {
        Judged::Final { octets, .. } => octets,
        Judged::Unavailable { why } => panic!("nobody cancelled: {why:?}"),
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((kind, data)) = data.split_first() else { return };
    let shape = match kind % 4 {
        0 => Shape::Message,
        1 => Shape::Header,
        2 => Shape::Unknown { hints: Vec::new() },
        _ => Shape::Body { header: b"Content-Type: multipart/mixed; boundary=b\r\n".to_vec(), hints: Vec::new() },
    };
    let once = judged(data, shape.clone());
    assert_eq!(once.len(), data.len(), "the length stays");
    for (before, after) in data.iter().zip(&once) {
        let is_end = |octet: &u8| matches!(octet, b'\r' | b'\n');
        assert!(is_end(before) == is_end(after) && (!is_end(before) || before == after), "line ends stay");
    }
    let _ = judged(&once, shape);
});
