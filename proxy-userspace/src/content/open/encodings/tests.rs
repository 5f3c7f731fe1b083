//! What the readers give, of honest files and of others.

use std::ops::ControlFlow;

use proptest::prelude::*;

use super::super::OpenLimits;
use super::samples::*;
use super::*;
use crate::content::samples::{base64_lines, program};

type File = (Vec<String>, Vec<u8>);

fn opened_within(octets: &[u8], limits: OpenLimits) -> (Vec<File>, Conditions) {
    let mut files = Vec::new();
    let found = open(octets, &mut OpenBounds::new(limits), &mut |_, member| {
        files.push((member.names, member.octets.into_owned()));
        ControlFlow::Continue(())
    });
    assert!(files.is_empty() && found.is_empty() || may_hold(octets), "what holds something says so");
    (files, found)
}

fn opened(octets: &[u8]) -> (Vec<File>, Conditions) {
    opened_within(octets, OpenLimits::default())
}

fn named(name: &str, octets: &[u8]) -> File {
    (vec![name.to_owned()], octets.to_vec())
}

fn unnamed(octets: &[u8]) -> File {
    (Vec::new(), octets.to_vec())
}

fn conditions(found: &Conditions) -> Vec<Condition> {
    found.iter().copied().collect()
}

#[test]
fn files_in_uuencode_are_given_with_their_names() {
    let text = format!(
        "Hello,\r\n\r\n{}and\r\n{}",
        uuencoded("one file.exe", &program()),
        uuencoded("b.txt", b"short")
    );
    let (files, found) = opened(text.as_bytes());
    assert_eq!(files, [named("one file.exe", &program()), named("b.txt", b"short")]);
    assert_eq!(conditions(&found), []);
}

#[test]
fn uuencode_is_read_as_tolerant_clients_read_it() {
    let whole = uuencoded("a.exe", &program());
    let spaces = whole.replace('`', " ");
    let table = [
        ("line feeds", whole.replace("\r\n", "\n")),
        ("no end", whole.replace("end\r\n", "")),
        ("spaces for zeros", spaces.clone()),
        ("spaces cut off", spaces.replace(" \r\n", "\r\n").replace(" \r\n", "\r\n").replace(" \r\n", "\r\n")),
        ("blanks behind end", whole.replace("end\r\n", "end \t\r\n")),
        ("checksums", whole.replace("\r\n", "x\r\n").replace("exex", "exe").replace("endx", "end")),
        ("no mode", whole.replace("begin 644 ", "begin  ")),
        ("a long mode", whole.replace("644", "100644")),
        ("tabs", whole.replace("begin 644 ", "begin\t644\t")),
        ("empty lines", whole.replace("\r\n", "\r\n\r\n")),
        ("in base64", format!("begin-base64 644 a.exe\r\n{}\r\n====\r\n", base64_lines(&program()))),
    ];
    for (name, text) in table {
        let (files, found) = opened(text.as_bytes());
        assert!(files.contains(&named("a.exe", &program())), "{name}: {files:?}");
        assert_eq!(conditions(&found), [], "{name}");
    }
}

#[test]
fn a_line_whose_count_is_wrong_is_read_by_count_and_by_characters() {
    let honest = uuencoded("a.exe", &program());
    let (first, rest) = honest.split_once("\r\nM").unwrap();
    let (files, _) = opened(format!("{first}\r\n#{rest}").as_bytes());
    assert!(files.iter().any(|(_, octets)| octets.as_slice() == program()), "by characters");
    assert!(files.iter().any(|(_, octets)| octets.starts_with(&program()[..3])), "by count");
}

#[test]
fn a_second_begin_ends_no_file_for_a_client_that_takes_it_for_data() {
    let lines = uuencoded_lines(&program());
    let (before, after) = lines.split_at(lines.find("\r\n").unwrap() + 2);
    let text = format!("begin 644 a.exe\r\n{before}begin 644 b.txt\r\n{after}end\r\n");
    let (files, _) = opened(text.as_bytes());
    let first = &files.iter().find(|(names, _)| names == &["a.exe"]).unwrap().1;
    assert!(first.starts_with(&program()[..45]) && first.ends_with(&program()[45..]));
    assert!(files.contains(&named("b.txt", &program()[45..])));
    let many = "begin 644 a\r\n#86)C\r\n".repeat(20);
    assert_eq!(conditions(&opened(many.as_bytes()).1), [Condition::MimeLimits]);
}

#[test]
fn what_ends_no_file_hides_no_rest_of_it() {
    let whole = uuencoded("evil.zip", &program());
    let (begin, lines) = whole.split_once("\r\n").unwrap();
    for line in [" end", "===="] {
        let (files, _) =
            opened(format!("{begin}\r\nbegin-base64 644 b\r\nYWJj\r\n{line}\r\n{lines}").as_bytes());
        let is_there = |(_, octets): &File| memchr::memmem::find(octets, &program()).is_some();
        assert!(files.iter().any(is_there), "{line}");
    }
}

#[test]
fn prose_about_uuencode_holds_no_file_with_a_name() {
    for text in [
        "To send a file, write\r\nbegin 644 setup.exe\r\nand then its lines, each of which says how long it is.\r\nend\r\n",
        "begin with setup.exe and go on from there,\r\nuntil you come to the end.\r\nThen stop.\r\n",
        "  begin 644 setup.exe\r\n#86)C\r\nend\r\n",
        "> begin 644 setup.exe\r\n> #86)C\r\n> end\r\n",
        "We begin 644 setup.exe\r\n",
    ] {
        let (files, found) = opened(text.as_bytes());
        assert!(files.iter().all(|(names, _)| names.is_empty()), "{text}");
        assert_eq!(conditions(&found), [], "{text}");
    }
}

#[test]
fn a_long_text_in_which_a_line_begins_like_a_file_is_within_the_bounds() {
    let limits = OpenLimits { octets: 64 << 10, ..OpenLimits::default() };
    let text = format!("begin with this\r\n{}", "a\r\n".repeat(20_000));
    assert_eq!(opened_within(text.as_bytes(), limits), (vec![], Conditions::new()));
}

#[test]
fn a_file_in_yenc_is_given_with_its_name() {
    let octets: Vec<u8> = (0..=255).cycle().take(1000).collect();
    let text = [b"a text\r\n".to_vec(), yencoded("a file.exe", &octets)].concat();
    assert_eq!(opened(&text).0, [named("a file.exe", &octets)]);
    let cut = text.windows(5).position(|window| window == b"=yend").unwrap();
    assert_eq!(opened(&text[..cut]).0, [named("a file.exe", &octets)], "without its end");
    let part = |octets: &[u8]| {
        let text = yencoded("a.exe", octets);
        let head = text.iter().position(|octet| *octet == b'\n').unwrap() + 1;
        [&text[..head], b"=ypart begin=1 end=2\r\n", &text[head..]].concat()
    };
    let (files, _) = opened(&[part(&octets[..500]), part(&octets[500..])].concat());
    assert!(files.contains(&named("a.exe", &octets)), "parts are joined");
    assert!(files.contains(&named("a.exe", &octets[..500])), "and are files of their own");
}

#[test]
fn attachments_of_outlook_are_given_with_every_name() {
    assert_eq!(opened(&tnef_of("A.EXE", &program())).0, [named("A.EXE", &program())]);
    let long: Vec<u8> = "invoice.exe\0".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let octets = tnef(&[
        attribute(0x0006_9002, &[1; 14]),
        attribute(0x0001_8010, b"INVOIC~1.PDF\0"),
        attribute(0x0006_9005, &props(&[(0x3707_001f, &long), (0x370e_001e, b"Application/X\0")])),
        attribute(0x0006_800f, &program()),
        attribute(0x0006_9002, &[1; 14]),
        attribute(0x0006_9005, &props(&[(0x3704_001e, b"b.txt\0"), (0x3701_0102, b"inside the list")])),
    ]);
    let (files, found) = opened(&octets);
    let names = ["INVOIC~1.PDF", "invoice.exe"].map(str::to_owned).to_vec();
    assert_eq!(files, [(names, program()), named("b.txt", b"inside the list")]);
    assert_eq!(conditions(&found), []);
    let filled = [octets, vec![0; 20]].concat();
    assert_eq!(opened(&filled), (files, found), "zeros at the end");
    let empty = tnef(&[attribute(0x0006_9003, &props(&[(0x1009_0102, &[0; 4])]))]);
    assert_eq!(opened(&empty), (vec![], Conditions::new()), "an empty body");
}

#[test]
fn a_message_inside_of_outlooks_container_and_its_bodies_are_given() {
    // The example of [MS-OXRTFCP] section 4.1.
    let rtf = [
        0x2d, 0, 0, 0, 0x2b, 0, 0, 0, 0x4c, 0x5a, 0x46, 0x75, 0xf1, 0xc5, 0xc7, 0xa7, 0x03, 0, 0x0a, 0, 0x72,
        0x63, 0x70, 0x67, 0x31, 0x32, 0x35, 0x42, 0x32, 0x0a, 0xf3, 0x20, 0x68, 0x65, 0x6c, 0x09, 0, 0x20,
        0x62, 0x77, 0x05, 0xb0, 0x6c, 0x64, 0x7d, 0x0a, 0x80, 0x0f, 0xa0,
    ];
    let inner = [&[7; 16][..], &tnef_of("a.exe", b"x")].concat();
    let octets = tnef(&[
        attribute(0x0006_9003, &props(&[(0x1009_0102, &rtf)])),
        attribute(0x0006_9002, &[1; 14]),
        attribute(0x0006_9005, &props(&[(0x3001_001e, b"a mail\0"), (0x3701_000d, &inner)])),
    ]);
    let (files, found) = opened(&octets);
    let text = b"{\\rtf1\\ansi\\ansicpg1252\\pard hello world}\r\n";
    assert_eq!(files, [unnamed(text), named("a mail", &tnef_of("a.exe", b"x"))]);
    assert_eq!(conditions(&found), []);
}

#[test]
fn a_container_of_outlooks_that_is_cut_gives_what_is_there_and_says_so() {
    let whole = tnef_of("a.exe", &program());
    let (files, found) = opened(&whole[..whole.len() - 100]);
    assert_eq!(files, [named("a.exe", &program()[..program().len() - 98])]);
    assert_eq!(conditions(&found), [Condition::BrokenFile]);
}

#[test]
fn what_is_signed_or_compressed_is_unwrapped_in_der_and_in_ber() {
    let part = b"Content-Type: text/plain\r\n\r\nHello\r\n".repeat(20);
    for octets in [signed(&part), signed_in_ber(&part), compressed(&part)] {
        assert_eq!(opened(&octets), (vec![unnamed(&part)], Conditions::new()));
    }
    let lines = base64_lines(&signed(&part));
    assert_eq!(opened(lines.as_bytes()).0, [unnamed(&signed(&part))], "base64 without a header");
    let pem = format!("text\r\n-----BEGIN PKCS7-----\r\n{lines}\r\n-----END PKCS7-----\r\n");
    assert_eq!(opened(pem.as_bytes()).0, [unnamed(&signed(&part))], "PEM");
    let cut = signed(&part);
    let (files, found) = opened(&cut[..cut.len() - 200]);
    assert!(part.starts_with(&files[0].1));
    assert_eq!(conditions(&found), [Condition::BrokenFile]);
}

#[test]
fn what_is_encrypted_is_a_verdict() {
    for octets in [enveloped(b"x"), encrypted(), armored(&encrypted()).into_bytes()] {
        assert_eq!(opened(&octets), (vec![], Conditions::from([Condition::EncryptedMail])));
    }
    let beside = format!("Hello,\r\n\r\n{}\r\nBye\r\n", armored(&encrypted()));
    assert_eq!(opened(beside.as_bytes()), (vec![], Conditions::from([Condition::EncryptedMail])));
}

#[test]
fn openpgp_that_is_only_signed_or_compressed_is_opened() {
    let file = literal("a.exe", &program());
    let signed = [packet(4, &[3; 13]), file.clone(), packet(2, &[4; 70])].concat();
    let [zip, zlib, bzip2] = compressed_packets(&signed);
    // In partial lengths, as who streams writes.
    let (first, rest) = (&file[6..6 + 256], &file[6 + 256..]);
    let partial = [&[0xcb, 0xe8][..], first, &[u8::try_from(rest.len()).unwrap()], rest].concat();
    let old = [&[0xaf][..], &file[6..]].concat();
    for octets in [file, signed, zip, zlib, bzip2, partial, old] {
        assert_eq!(opened(&octets), (vec![named("a.exe", &program())], Conditions::new()));
        assert_eq!(
            opened(armored(&octets).as_bytes()),
            (vec![named("a.exe", &program())], Conditions::new())
        );
    }
}

#[test]
fn honest_signatures_keys_and_pictures_are_left_alone() {
    let png = [b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".as_slice(), &[0; 400]].concat();
    let jpeg = [b"\xff\xd8\xff\xe0\0\x10JFIF\0".as_slice(), &[0; 400]].concat();
    let clear = "-----BEGIN PGP SIGNED MESSAGE-----\r\nHash: SHA256\r\n\r\nHello\r\n-----BEGIN PGP SIGNATURE-----\r\n\r\n\
                 wsBcBAABCAAGBQJ\r\n=abcd\r\n-----END PGP SIGNATURE-----\r\n";
    let prose = "Copy all from\r\n-----BEGIN PGP MESSAGE-----\r\nto the end.\r\n";
    for octets in [
        &png,
        &jpeg,
        clear.as_bytes(),
        prose.as_bytes(),
        &detached(),
        &packet(2, &[4; 70]),
        "école, œuvre, ÄÖÜ".as_bytes(),
    ] {
        assert_eq!(opened(octets), (vec![], Conditions::new()), "{}", String::from_utf8_lossy(octets));
    }
}

#[test]
fn a_bomb_ends_at_the_bounds() {
    let limits = OpenLimits { octets: 1 << 20, ..OpenLimits::default() };
    let zeros = vec![0; 8 << 20];
    let [zip, zlib, bzip2] = compressed_packets(&literal("", &zeros));
    for octets in [compressed(&zeros), zip, zlib, bzip2] {
        let (files, found) = opened_within(&octets, limits);
        assert!(files.iter().all(|(_, octets)| octets.len() <= 1 << 20));
        assert_eq!(conditions(&found), [Condition::ArchiveLimits]);
    }
    let many = uuencoded("a", b"abc").repeat(100);
    let (files, found) = opened_within(many.as_bytes(), OpenLimits { members: 10, ..OpenLimits::default() });
    assert_eq!((files.len(), conditions(&found)), (10, vec![Condition::ArchiveLimits]));
}

#[test]
fn a_name_too_long_to_be_compared_is_a_verdict() {
    let name = format!("{}.exe", "a".repeat(5_000));
    let (_, found) = opened(uuencoded(&name, b"abc").as_bytes());
    assert_eq!(conditions(&found), [Condition::MimeLimits]);
}

fn samples() -> Vec<Vec<u8>> {
    let part = b"Content-Type: text/plain\r\n\r\nHello\r\n".repeat(8);
    let rtf = [&[0; 8][..], b"LZFu", &[0; 4], &[0x0f; 60]].concat();
    let mut samples = vec![
        uuencoded("a.exe", &program()).into_bytes(),
        yencoded("a.exe", &program()),
        tnef_of("a.exe", &part),
        tnef(&[attribute(
            0x0006_9003,
            &props(&[(0x1009_0102, &rtf), (0x8001_001e, b"x"), (0x3007_0040, b"")]),
        )]),
        signed(&part),
        signed_in_ber(&part),
        compressed(&part),
        enveloped(&part),
        armored(&encrypted()).into_bytes(),
        encrypted(),
        literal("a.exe", &part),
    ];
    samples.extend(compressed_packets(&literal("a", &part)));
    samples
}

#[test]
fn every_prefix_of_every_kind_is_read() {
    for sample in samples() {
        (0..sample.len()).for_each(|length| drop(opened(&sample[..length])));
    }
}

proptest! {
    #[test]
    fn octets_that_are_changed_anywhere_are_read(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let samples = samples();
        let mut sample = samples[which.index(samples.len())].clone();
        for (at, octet) in changes {
            let at = at.index(sample.len());
            sample[at] = octet;
        }
        opened(&sample);
        opened(&sample[cut.index(sample.len())..]);
    }

    #[test]
    fn any_file_comes_back_as_it_was(octets in prop::collection::vec(any::<u8>(), 1..700)) {
        prop_assert_eq!(opened(uuencoded("a", &octets).as_bytes()).0, [named("a", &octets)]);
        prop_assert_eq!(opened(&yencoded("a", &octets)).0, [named("a", &octets)]);
        for wrapped in [signed(&octets), signed_in_ber(&octets), compressed(&octets)] {
            prop_assert!(opened(&wrapped).0.contains(&unnamed(&octets)));
        }
        prop_assert!(opened(&literal("a", &octets)).0.contains(&named("a", &octets)));
        prop_assert!(opened(&tnef_of("a", &octets)).0.contains(&named("a", &octets)));
    }
}
