//! Any leaf and any text: filling keeps length and lines, writes no markup, and a second time changes nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use postern::content::fill::fill;

fuzz_target!(|data: &[u8]| {
    let (first, leaf) = data.split_at(data.len().min(1));
    let length = first.first().map_or(0, |length| usize::from(*length)).min(leaf.len());
    let (text, leaf) = leaf.split_at(length);
    let text = String::from_utf8_lossy(text);
    let mut once = leaf.to_vec();
    fill(&mut once, &text);
    assert_eq!(once.len(), leaf.len(), "the length stays");
    for (before, after) in leaf.iter().zip(&once) {
        let is_end = |octet: &u8| matches!(octet, b'\r' | b'\n');
        assert!(is_end(before) == is_end(after) && (!is_end(before) || before == after), "line ends stay");
        // The mark of UTF-16 and UTF-32 stays where it stands.
        let is_mark = before == after && matches!(after, 0xfe | 0xff);
        assert!(is_mark || !matches!(after, b'<' | b'>' | b'&' | b'%' | b'"' | b'\\' | 0x80..), "no markup");
        assert!(*after != b'=' || *before == b'=', "no new padding");
    }
    let mut twice = once.clone();
    fill(&mut twice, &text);
    assert_eq!(once, twice, "a second fill changes nothing");
});
