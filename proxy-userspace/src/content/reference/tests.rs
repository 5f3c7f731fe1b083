//! The fast code finds and gives what the slow one does, for any octets in any split.

use proptest::prelude::*;
use proptest::sample::select;

use super::super::eicar::{Eicar, EicarInBase64, test_string};
use super::super::loose::{Candidates, Sweep};
use super::super::reading::{Base64Decoder, QuotedPrintableDecoder};
use super::super::samples::{base64, base64_lines};
use super::*;

/// Stretches of octets that meet at every kind of place: parts of the test file in clear and in base64, padding, junk,
/// and runs that are long enough for the search in the middle.
fn stretches() -> impl Strategy<Value = Vec<u8>> {
    let text = test_string();
    let part = (0..=text.len(), 0..=text.len()).prop_map(move |(a, b)| text[a.min(b)..a.max(b)].to_vec());
    let whole = Just(test_string());
    let clear = prop_oneof![part.clone(), whole.clone()];
    let encoded =
        (prop::collection::vec(any::<u8>(), 0..4), prop_oneof![part, whole.clone(), whole], 0usize..3)
            .prop_map(|(mut before, text, strip)| {
                before.extend(text);
                let encoded = base64(&before);
                let unpadded = encoded.trim_end_matches('=');
                [encoded.as_str(), unpadded, &unpadded[..unpadded.len().saturating_sub(1)]][strip]
                    .as_bytes()
                    .to_vec()
            });
    let run = (0usize..3_000, any::<u8>()).prop_map(|(length, first)| {
        let octets: Vec<u8> = (0..length).map(|at| (at * at / 7 + usize::from(first)) as u8).collect();
        base64_lines(&octets).into_bytes()
    });
    let small = select(vec![
        "=", "==", "A", "A=", "WA==", "\r\n", " ", "!-", "= \r\n", "=58", "=5", "X", "X5O", "+/",
    ]);
    let small = small.prop_map(|text| text.as_bytes().to_vec());
    let any = prop::collection::vec(any::<u8>(), 0..200);
    let one = prop_oneof![clear, encoded, run, small.clone(), small, any];
    prop::collection::vec(one, 0..24).prop_map(|stretches| stretches.concat())
}

/// The encoded test file with something between its characters.
fn interrupted() -> impl Strategy<Value = Vec<u8>> {
    // Padding that is skipped; padding that ends a quantum; sections that hold no octet.
    let skipped = select(vec!["", "", "", "", "", "", "\r\n", "=", "=="]);
    let any = select(vec!["", "", "", "", "\r\n", "=", "==", "A=", "A==", "-", "="]);
    let between = prop_oneof![prop::collection::vec(skipped, 92), prop::collection::vec(any, 92)];
    let before = (0usize..2_000).prop_map(|length| "Ab3".repeat(length / 3));
    (before, between, 0usize..3, proptest::bool::ANY).prop_map(|(before, between, shift, is_long)| {
        let encoded = base64(&[vec![b'-'; shift], test_string()].concat());
        let mut text = before;
        for (character, between) in encoded.chars().zip(between) {
            text.push(character);
            text.push_str(between);
        }
        if is_long {
            text.push_str(&"zZ9".repeat(300));
        }
        text.into_bytes()
    })
}

/// The test file in quoted-printable: some octets as they stand, some as triples, some behind soft line breaks.
fn quoted() -> impl Strategy<Value = Vec<u8>> {
    let forms = prop::collection::vec(0usize..12, EICAR_BYTES);
    (forms, 0usize..200, 0usize..200).prop_map(|(forms, before, behind)| {
        let mut text = "a text ".repeat(before / 7);
        for (octet, form) in test_string().into_iter().zip(forms) {
            match form {
                0 | 1 => text.push_str(&format!("={octet:02x}")),
                2 => text.push_str("= \r\n"),
                3 => text.push_str("=\n"),
                _ => {}
            }
            if form > 1 {
                text.push(char::from(octet));
            }
        }
        (text + &" a text".repeat(behind / 7)).into_bytes()
    })
}

/// The test file in pieces, each encoded for itself.
fn pieced() -> impl Strategy<Value = Vec<u8>> {
    let cuts = prop::collection::vec(0usize..68, 0..6);
    (cuts, prop::collection::vec(0usize..400, 7), 0usize..2_000).prop_map(|(mut cuts, fills, before)| {
        let text = test_string();
        cuts.extend([0, text.len()]);
        cuts.sort_unstable();
        let mut out = "q8x".repeat(before / 3);
        for (pair, fill) in cuts.windows(2).zip(fills) {
            let encoded = base64(&text[pair[0]..pair[1]]);
            out.push_str(&encoded);
            if !encoded.ends_with('=') && fill % 3 == 0 {
                out.push('=');
            }
            // Sections of one character hold no octet, and the string goes on behind them.
            if encoded.ends_with('=') && fill % 5 == 0 {
                out.push_str(&"A=".repeat(fill));
            }
        }
        out.push_str(&"q8x".repeat(before / 5));
        out.into_bytes()
    })
}

fn any_content() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![stretches(), stretches(), interrupted(), pieced(), quoted()]
}

/// Lines that nearly begin a program, or nearly are base64.
fn lines() -> impl Strategy<Value = Vec<u8>> {
    let words = select(vec![
        "\r\n",
        "\r\n",
        "\n",
        "\r",
        "MZ",
        "TVqQ",
        "TVo=",
        "TV",
        "qQ",
        "A=",
        "=4D",
        "=4DZ",
        "=",
        "=\r\n",
        "#!/bin/sh",
        "IyEv",
        "Iw==IS9i",
        " ",
        "\t",
        "/",
        "+/",
        "-",
        "f0VM",
        "RgAA",
        "yv66vg",
        "\u{7f}ELF",
        "dex\n",
        "L\0\0\0",
        "word",
        "AbCdEfGhIjKlMnOpQrStUvWxYz/+",
        "AbCdEfGhIjKlMnOpQrStUvWxYz/-",
        "0123456789012345",
    ]);
    let octets = prop::collection::vec(any::<u8>(), 1..4);
    let one = prop_oneof![9 => words.prop_map(|word| word.as_bytes().to_vec()), 1 => octets];
    prop::collection::vec(one, 0..40).prop_map(|words| words.concat())
}

fn split(octets: &[u8], cuts: &[usize]) -> Vec<Vec<u8>> {
    let mut cuts: Vec<usize> =
        cuts.iter().map(|cut| cut % (octets.len() + 1)).chain([0, octets.len()]).collect();
    cuts.sort_unstable();
    cuts.windows(2).map(|cut| octets[cut[0]..cut[1]].to_vec()).collect()
}

fn cuts() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(any::<usize>(), 0..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_test_file_is_found_in_the_same_pushes(octets in any_content(), cuts in cuts()) {
        let (mut fast, mut slow) = (Eicar::default(), SlowEicar::default());
        for octets in split(&octets, &cuts) {
            fast.push(&octets);
            slow.push(&octets);
            prop_assert_eq!(fast.take_found(), std::mem::take(&mut slow.found));
        }
    }

    #[test]
    fn the_test_file_in_base64_is_found_in_the_same_pushes(octets in any_content(), cuts in cuts()) {
        let (mut fast, mut slow) = (EicarInBase64::default(), SlowEicarInBase64::default());
        for octets in split(&octets, &cuts) {
            fast.push(&octets);
            slow.push(&octets);
            prop_assert_eq!(fast.take_found(), std::mem::take(&mut slow.found));
        }
        fast.padding();
        slow.padding();
        prop_assert_eq!(fast.take_found(), slow.found);
    }

    #[test]
    fn base64_decodes_to_the_same(octets in any_content(), cuts in cuts()) {
        let (mut fast, mut slow) = (Base64Decoder::default(), SlowBase64Decoder::default());
        let (mut out, mut expected) = (Vec::new(), Vec::new());
        for octets in split(&octets, &cuts) {
            fast.push(&octets, &mut out);
            slow.push(&octets, &mut expected);
            prop_assert_eq!(&out, &expected);
        }
        fast.flush(&mut out);
        slow.flush(&mut expected);
        prop_assert_eq!(&out, &expected);
    }

    #[test]
    fn quoted_printable_decodes_to_the_same(octets in any_content(), cuts in cuts()) {
        let (mut fast, mut slow) = (QuotedPrintableDecoder::default(), SlowQuotedPrintableDecoder::default());
        let (mut out, mut expected) = (Vec::new(), Vec::new());
        for octets in split(&octets, &cuts) {
            fast.push(&octets, &mut out);
            slow.push(&octets, &mut expected);
            prop_assert_eq!(&out, &expected);
        }
        fast.flush(&mut out);
        slow.flush(&mut expected);
        prop_assert_eq!(&out, &expected);
    }

    #[test]
    fn the_sweep_finds_the_same_places(octets in any_content(), cuts in cuts()) {
        let mut sweep = Sweep::default();
        let (mut found, mut at) = (Vec::new(), 0);
        for octets in split(&octets, &cuts) {
            sweep.push(&octets, at, &mut found);
            at += octets.len();
        }
        sweep.finish(at, &mut found);
        prop_assert_eq!(found, slow_sweep(&octets));
    }

    #[test]
    fn programs_may_begin_at_the_same_lines(lines in lines()) {
        let mut candidates = Candidates::new(&lines, 0);
        let mut found = Vec::new();
        while let Some(here) = candidates.next() {
            found.extend(here);
        }
        prop_assert_eq!(found, slow_candidates(&lines));
    }
}
