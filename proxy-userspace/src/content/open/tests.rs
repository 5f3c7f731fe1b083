use std::ops::ControlFlow;
use std::sync::LazyLock;

use proptest::prelude::*;
use sevenz_rust2::EncoderMethod;

use super::super::magic::real_type;
use super::samples::*;
use super::*;

type Found = (Vec<String>, Vec<u8>);

/// The members of a file, and what was found beside them.
fn opened_as(real: RealType, octets: &[u8], limits: OpenLimits) -> (Vec<Found>, Conditions) {
    let mut bounds = OpenBounds::new(limits);
    let mut found = Vec::new();
    let conditions = open(real, octets, &mut bounds, &mut |_, member| {
        found.push((member.names, member.octets.into_owned()));
        ControlFlow::Continue(())
    });
    (found, conditions)
}

fn opened(octets: &[u8]) -> (Vec<Found>, Conditions) {
    opened_as(real_type(octets).unwrap(), octets, OpenLimits::default())
}

fn holds(found: &[Found], name: &str, content: &[u8]) -> bool {
    found.iter().any(|(names, octets)| names.iter().any(|found| found == name) && octets == content)
}

fn text() -> Vec<u8> {
    (0..5_000u32).flat_map(|number| format!("line {}\n", number * number % 7_919).into_bytes()).collect()
}

fn one(condition: Condition) -> Conditions {
    Conditions::from([condition])
}

#[test]
fn each_container_is_known_by_its_octets_and_gives_its_member_once() {
    for content in [text(), b"short".to_vec(), Vec::new()] {
        for (label, real, octets) in containers("a name.txt", &content) {
            assert_eq!(real_type(&octets), Some(real), "{label}");
            let (found, conditions) = opened(&octets);
            assert_eq!(conditions, Conditions::new(), "{label}, {} octets", content.len());
            assert_eq!(found.len(), 1, "{label}: {found:?}");
            assert_eq!(found[0].1, content, "{label}");
            let has_name = !matches!(label, "bzip2" | "xz" | "zstd") && !label.starts_with("lzma");
            assert_eq!(found[0].0, if has_name { vec!["a name.txt"] } else { vec![] }, "{label}");
        }
    }
}

#[test]
fn archives_that_are_not_opened_here_are_named_by_their_type() {
    let disk = |end: &[u8]| [&[7; 1_000], end, &vec![0; 512 - end.len()][..]].concat();
    let mut ace = vec![0; 7];
    ace.extend(b"**ACE**rest");
    let files = [
        (RealType::Rar, b"Rar!\x1a\x07\0\xcf\x90\x73".to_vec()),
        (RealType::Rar, b"Rar!\x1a\x07\x01\0".to_vec()),
        (RealType::Ace, ace),
        (RealType::Arj, vec![0x60, 0xea, 40, 0, 30, 0, 0, 0, 0, 0, 2]),
        (RealType::Lzh, b"\x20\x20-lh5-rest of it   \0\0".to_vec()),
        (RealType::Compress, b"\x1f\x9d\x90rest".to_vec()),
        (RealType::Lzip, b"LZIP\x01\x0c".to_vec()),
        (RealType::Lz4, b"\x04\x22\x4d\x18\x64\x40".to_vec()),
        (RealType::Lz4, b"\x02\x21\x4c\x18".to_vec()),
        (RealType::Xar, b"xar!\0\x1c\0\x01".to_vec()),
        (RealType::Alz, b"ALZ\x01\x0a\0\0\0".to_vec()),
        (RealType::Egg, b"EGGA\0\x01".to_vec()),
        (RealType::DiskImage, b"vhdxfile".to_vec()),
        (RealType::DiskImage, disk(b"conectix")),
        (RealType::DiskImage, disk(b"koly\0\0\0\x04\0\0\x02\0")),
    ];
    for (real, octets) in files {
        assert_eq!(real_type(&octets), Some(real));
        assert_eq!(opened(&octets), (vec![], one(Condition::UnknownArchive)), "{real}");
    }
}

#[test]
fn text_that_begins_like_a_mark_is_no_archive() {
    let tail = "and so on, line after line, for as long as a letter is. ".repeat(4);
    let begins = [
        "COWDENBEATH 2-1 ",
        "KDMV ",
        "0707012345 ring ",
        "0707071 ",
        "a -lh-- ",
        "at -lha- ",
        "is off **ACE** ",
        "LZIP is ",
        "xar! ",
        "EGGA ",
    ];
    for begin in begins {
        let real = real_type(format!("{begin}{tail}").as_bytes());
        assert!(matches!(real, None | Some(RealType::Text)), "{begin}: {real:?}");
    }
}

#[test]
fn a_package_of_zstandard_is_known_behind_any_number_of_empty_frames() {
    let octets = [b"\x50\x2a\x4d\x18\0\0\0\0".repeat(40), b"\x28\xb5\x2f\xfd".to_vec()].concat();
    assert_eq!(real_type(&octets), Some(RealType::Zstd));
}

#[test]
fn an_archive_behind_the_beginning_of_a_document_is_found() {
    let rar = b"Rar!\x1a\x07\0\xcf\x90\x73".as_slice();
    for front in [b"%PDF-1.4\n".as_slice(), b"{\\rtf1 ", b"ID3\x03\0\0\0\0\0\0"] {
        let octets = [front, rar].concat();
        let found = beside(real_type(&octets), &octets).places;
        assert!(found.iter().any(|beside| beside.real == RealType::Rar), "{front:?}");
    }
    // An entry without a directory, and ends that are none in the comment.
    let mut entry = ZipEntry::new("a", &text(), 0).local();
    entry.extend(b"PK\x05\x06".repeat(20));
    let octets = [b"\x89PNG\r\n\x1a\n".as_slice(), &entry].concat();
    assert_eq!(beside(Some(RealType::Png), &octets).places, vec![Beside { real: RealType::Zip, at: 0 }]);
}

#[test]
fn text_and_zeros_are_no_archives() {
    for octets in [text(), vec![0; 100_000], b"BZh is no archive".to_vec(), b"PK is none".to_vec(), vec![]] {
        assert!(matches!(real_type(&octets), None | Some(RealType::Text)));
        let opens = real_type(&octets).map(|real| opened_as(real, &octets, OpenLimits::default()));
        assert!(opens.is_none_or(|opened| opened == (vec![], Conditions::new())));
        assert_eq!(beside(None, &octets).places, vec![]);
    }
}

#[test]
fn an_entry_that_only_the_directory_or_only_a_header_shows_is_a_member() {
    let (shown, hidden) = (ZipEntry::new("a.txt", b"shown", 8), ZipEntry::new("b.exe", &text(), 8));
    let both = (Some(shown.clone()), Some(shown));
    let (found, _) = opened(&zip_of(&[both, (Some(hidden.clone()), None)]));
    assert!(holds(&found, "a.txt", b"shown") && holds(&found, "b.exe", &text()), "{found:?}");
    // The header is there, but not where a reader from the front looks: a stored entry claims its octets.
    let mut inside = ZipEntry::new("cover", &[hidden.local(), hidden.packed.clone()].concat(), 0);
    inside.name = b"cover".to_vec();
    let at = (30 + inside.name.len()) as u32;
    let mut octets = [inside.local(), inside.packed.clone()].concat();
    let directory_at = octets.len() as u32;
    let directory = hidden.central(at);
    octets.extend(&directory);
    octets.extend(b"PK\x05\x06\0\0\0\0\x01\0\x01\0");
    octets.extend((directory.len() as u32).to_le_bytes());
    octets.extend(directory_at.to_le_bytes());
    octets.extend([0, 0]);
    let (found, _) = opened(&octets);
    assert!(holds(&found, "cover", &inside.packed) && holds(&found, "b.exe", &text()));
}

#[test]
fn an_entry_whose_headers_differ_is_opened_in_both_ways_and_has_both_names() {
    let deflated = ZipEntry::new("invoice.txt", b"the content", 8);
    let stored = ZipEntry { name: b"invoice.exe".to_vec(), method: 0, ..deflated.clone() };
    for (local, central) in [(&deflated, &stored), (&stored, &deflated)] {
        let (found, conditions) = opened(&zip_of(&[(Some(local.clone()), Some(central.clone()))]));
        assert_eq!(conditions, Conditions::new());
        assert_eq!(found.len(), 2);
        for name in ["invoice.txt", "invoice.exe"] {
            assert!(holds(&found, name, b"the content") && holds(&found, name, &deflated.packed));
        }
    }
    // A length that ends early for one reader.
    let short = ZipEntry { packed: deflated.packed[..3].to_vec(), ..deflated.clone() };
    let (found, _) = opened(&zip_of(&[(Some(deflated), Some(short))]));
    assert!(holds(&found, "invoice.txt", b"the content"));
}

#[test]
fn an_entry_that_opens_with_a_password_is_said_to_and_its_name_is_judged() {
    let entry = ZipEntry::new("secret.exe", &text(), 8);
    for (flags, method) in [(1, 8), (1 << 6, 8), (0, 99), (1 << 13, 8)] {
        let closed = ZipEntry { flags, method, ..entry.clone() };
        let (found, conditions) = opened(&zip_of(&[(Some(closed.clone()), Some(closed.clone()))]));
        assert_eq!(conditions, one(Condition::EncryptedFile));
        assert_eq!(found, vec![(vec!["secret.exe".to_owned()], vec![])]);
        // A flag that only one reader looks at hides nothing.
        for pair in [(closed.clone(), entry.clone()), (entry.clone(), closed)] {
            let (found, conditions) = opened(&zip_of(&[(Some(pair.0), Some(pair.1))]));
            assert!(conditions.contains(&Condition::EncryptedFile));
            assert!(holds(&found, "secret.exe", &text()));
        }
    }
}

#[test]
fn entries_whose_length_follows_them_are_read_to_their_end() {
    for method in [0, 8, 12] {
        let entry = |name| ZipEntry { flags: 8, ..ZipEntry::new(name, &text(), method) };
        for has_directory in [true, false] {
            let pair = |name| (Some(entry(name)), has_directory.then(|| entry(name)));
            let (found, _) = opened(&zip_of(&[pair("a"), pair("b")]));
            assert_eq!(found.iter().filter(|(_, octets)| *octets == text()).count(), 2, "{method}");
            assert!(holds(&found, "a", &text()) && holds(&found, "b", &text()), "{method}");
        }
    }
}

#[test]
fn zip64_and_octets_around_the_archive_hide_nothing() {
    let entry = ZipEntry::new("a.txt", &text(), 8);
    let long = [
        &[1, 0, 16, 0][..],
        &u64::from(entry.unpacked).to_le_bytes(),
        &(entry.packed.len() as u64).to_le_bytes(),
    ]
    .concat();
    let mut octets = zip_of(&[(
        Some(ZipEntry { extra: long.clone(), ..entry.clone() }),
        Some(ZipEntry { extra: long, ..entry }),
    )]);
    octets[18..26].fill(0xff);
    let central = memchr::memmem::find(&octets, b"PK\x01\x02").unwrap();
    octets[central + 20..central + 28].fill(0xff);
    assert_eq!(opened(&octets).1, Conditions::new());
    for around in [octets.clone(), [b"front matter", octets.as_slice()].concat(), {
        let mut octets = octets.clone();
        octets.extend([0; 100]);
        octets
    }] {
        let (found, conditions) = opened_as(RealType::Zip, &around, OpenLimits::default());
        assert_eq!((found.len(), conditions), (1, Conditions::new()));
        assert!(holds(&found, "a.txt", &text()));
        assert_eq!(beside(None, &around).places, vec![Beside { real: RealType::Zip, at: 0 }]);
    }
}

#[test]
fn a_name_is_seen_in_each_form_that_readers_take() {
    let unicode = [&[0x75, 0x70, 5 + 9, 0, 1, 0, 0, 0, 0][..], b"other.scr"].concat();
    let mut entry = ZipEntry { extra: unicode, ..ZipEntry::new("", b"x", 0) };
    entry.name = b"caf\x82.exe\0.txt".to_vec();
    let (found, _) = opened(&zip_of(&[(Some(entry.clone()), Some(entry))]));
    assert_eq!(found[0].0, vec!["café.exe.txt", "café.exe", "other.scr"]);
    let long = format!("{}.exe", "x".repeat(60_000));
    let (found, _) = opened(&zip(&long, b"x", 0));
    assert!(found[0].0[0].ends_with("xxx.exe") && found[0].0[0].len() <= 1_024);
    let names =
        DiscNames { plain: "A.EXE;1", joliet: Some("Rechnung Übersicht.exe"), rock_ridge: Some("unix.sh") };
    let (found, _) = opened(&iso(&names, b"x"));
    let mut shown = found[0].0.clone();
    shown.sort();
    assert_eq!(
        (found.len(), shown),
        (1, ["A.EXE", "A.EXE;1", "Rechnung Übersicht.exe", "unix.sh"].map(str::to_owned).to_vec())
    );
    let long = "d/".repeat(80) + "pax.exe";
    let record = format!(" path={long}\n");
    let record = format!("{}{record}", record.len() + 3);
    let members = [tar_member(b"pax", record.as_bytes(), b'x'), tar_member(b"short", b"x", b'0')].concat();
    assert!(holds(&opened(&members).0, &long, b"x"));
    let members = [tar_member(b"L", long.as_bytes(), b'L'), tar_member(b"short", b"x", b'0')].concat();
    assert!(holds(&opened(&members).0, &long, b"x") && holds(&opened(&members).0, "short", b"x"));
}

#[test]
fn members_behind_the_end_of_a_tar_and_within_what_a_link_claims_are_seen() {
    let hidden = tar_member(b"hidden", b"octets", b'0');
    let (found, _) = opened(&[tar(&[("a", b"x")]), hidden.clone()].concat());
    assert!(holds(&found, "hidden", b"octets"));
    let (found, _) = opened(&tar_member(b"link", &hidden, b'2'));
    assert!(holds(&found, "hidden", b"octets") && holds(&found, "link", &hidden));
    // One reader goes by the length in the pax header, another by the one in its own.
    let record = b"12 size=512\n";
    let octets =
        [tar_member(b"pax", record, b'x'), tar_member(b"a", &[hidden.clone(), hidden].concat(), b'0')];
    let (found, _) = opened(&octets.concat());
    assert!(holds(&found, "hidden", b"octets"));
}

#[test]
fn several_members_of_gzip_are_one_file_and_the_first_is_one_too() {
    let octets = [gzip("a.txt", b"first "), gzip("b.txt", b"second")].concat();
    let (found, conditions) = opened(&octets);
    assert_eq!(conditions, Conditions::new());
    let contents = found.iter().map(|(_, octets)| octets.as_slice()).collect::<Vec<_>>();
    assert_eq!(contents, [&b"first "[..], b"first second"]);
    assert_eq!(found[1].0, ["a.txt", "b.txt"]);
    for (pack, is_zstd) in [(bzip2 as fn(&[u8]) -> Vec<u8>, false), (xz, false), (zstd, true)] {
        let between = if is_zstd { &b"\x50\x2a\x4d\x18\x03\0\0\0abc"[..] } else { b"" };
        let octets = [&pack(b"first "), between, &pack(b"second")].concat();
        assert_eq!(opened(&octets), (vec![(vec![], b"first second".to_vec())], Conditions::new()));
    }
    assert_eq!(
        real_type(&[b"\x5f\x2a\x4d\x18\0\0\0\0", zstd(b"x").as_slice()].concat()),
        Some(RealType::Zstd)
    );
}

#[test]
fn a_wrong_checksum_hides_nothing() {
    for (label, _, octets) in containers("a", &text()) {
        if label != "zip stored" && !label.starts_with("gzip") && !label.starts_with("xz") {
            continue;
        }
        let mut octets = octets;
        let at = if label == "zip stored" { 14 } else { octets.len() - if label == "xz" { 30 } else { 8 } };
        octets[at] ^= 1;
        let (found, _) = opened(&octets);
        assert!(found.iter().any(|(_, octets)| *octets == text()), "{label}");
    }
    let mut octets = seven_zip(&[("a", b"first"), ("b", &text())], EncoderMethod::COPY);
    octets[32] ^= 1;
    let (found, _) = opened(&octets);
    assert!(holds(&found, "b", &text()));
}

#[test]
fn what_was_made_before_the_damage_is_judged() {
    let marker = b"a marker at the beginning";
    // Several blocks of each compression.
    let content = [marker.as_slice(), &text(), &text(), &text()].concat();
    for (label, _, octets) in containers("a", &content) {
        // These hold their structure at the end, or a block that is whole or not there.
        if label.starts_with("7z") || label.contains("bzip2") {
            continue;
        }
        let is_cut = octets.get(..octets.len() - 2_000).unwrap();
        let real = real_type(&octets).unwrap();
        let (found, conditions) = opened_as(real, is_cut, OpenLimits::default());
        assert!(conditions.contains(&Condition::BrokenFile), "{label}: {conditions:?}");
        assert!(found.iter().any(|(_, octets)| octets.starts_with(marker)), "{label}");
    }
}

#[test]
fn every_prefix_ends_and_makes_no_more_than_the_whole() {
    for (label, real, octets) in SAMPLES.iter() {
        let step = if octets.len() > 4_096 { 211 } else { 1 };
        for end in (0..octets.len()).step_by(step) {
            let (found, _) = opened_as(*real, &octets[..end], OpenLimits::default());
            assert!(found.iter().all(|(_, octets)| octets.len() <= 20_000), "{label} {end}");
            let _ = beside(None, &octets[..end]);
        }
    }
}

#[test]
fn a_bomb_ends_at_its_ratio_in_each_compression() {
    let limits = OpenLimits::default();
    let zeros = vec![0; 16 << 20];
    let bombs = [
        ("zip", zip("a", &zeros, 8)),
        ("gzip", gzip("a", &zeros)),
        ("bzip2", bzip2(&zeros)),
        ("xz", xz(&zeros)),
        ("zstd", zstd(&zeros)),
        ("7z", seven_zip(&[("a", &zeros)], EncoderMethod::LZMA2)),
        ("cab", cab(&[("a", &zeros)], CabMethod::MsZip)),
    ];
    for (label, octets) in bombs {
        let room = (octets.len() as u64 * limits.ratio).max(RATIO_FREE_BYTES);
        assert!(room < zeros.len() as u64 / 2, "{label}: {}", octets.len());
        let (found, conditions) = opened(&octets);
        assert!(conditions.contains(&Condition::ArchiveLimits), "{label}: {conditions:?}");
        assert_eq!(found.len(), 1, "{label}");
        let made = found[0].1.len() as u64;
        assert!(made <= room && made >= room.min(RATIO_FREE_BYTES) - 40_000, "{label}: {made} of {room}");
    }
}

#[test]
fn entries_upon_each_other_take_no_more_than_the_bounds() {
    // Each entry of the directory shows the same octets under a length of its own.
    let entry = ZipEntry::new("a", &vec![7; 100_000], 0);
    let entries = (0..2_000usize).map(|number| {
        let packed = entry.packed[..100_000 - number].to_vec();
        ZipEntry { packed, name: format!("{number}").into_bytes(), ..entry.clone() }
    });
    let mut octets = [entry.local(), entry.packed.clone()].concat();
    let at = octets.len() as u32;
    let directory = entries.flat_map(|entry| entry.central(0)).collect::<Vec<_>>();
    octets.extend(&directory);
    octets.extend(b"PK\x05\x06\0\0\0\0\xd0\x07\xd0\x07");
    octets.extend((directory.len() as u32).to_le_bytes());
    octets.extend(at.to_le_bytes());
    octets.extend([0, 0]);
    let limits = OpenLimits { octets: 3_000_000, ..OpenLimits::default() };
    let (found, conditions) = opened_as(RealType::Zip, &octets, limits);
    assert!(conditions.contains(&Condition::ArchiveLimits));
    assert!(found.iter().map(|(_, octets)| octets.len()).sum::<usize>() <= 3_000_000);
    let limits = OpenLimits { members: 10, ..OpenLimits::default() };
    let (found, conditions) = opened_as(RealType::Zip, &octets, limits);
    assert_eq!((found.len(), conditions.contains(&Condition::ArchiveLimits)), (10, true));
}

#[test]
fn octets_that_give_nothing_are_not_read_without_end() {
    // Blocks of deflate that are empty, under a length of each entry's own.
    let entry = ZipEntry { packed: [0, 0, 0, 0xff, 0xff].repeat(20_000), ..ZipEntry::new("a", b"", 8) };
    let shorter =
        |number| ZipEntry { packed: entry.packed[..100_000 - 5 * number].to_vec(), ..entry.clone() };
    let mut octets = [entry.local(), entry.packed.clone()].concat();
    let at = octets.len() as u32;
    let directory = (0..1_000usize).flat_map(|number| shorter(number).central(0)).collect::<Vec<_>>();
    octets.extend(&directory);
    octets.extend(b"PK\x05\x06\0\0\0\0\xe8\x03\xe8\x03");
    octets.extend((directory.len() as u32).to_le_bytes());
    octets.extend(at.to_le_bytes());
    octets.extend([0, 0]);
    let limits = OpenLimits { octets: 1_000_000, ..OpenLimits::default() };
    let (_, conditions) = opened_as(RealType::Zip, &octets, limits);
    assert!(conditions.contains(&Condition::ArchiveLimits), "{conditions:?}");
}

#[test]
fn an_archive_behind_or_within_another_file_is_found() {
    let mut program = super::super::samples::program();
    program.resize(4_096, 0x90);
    let image = [b"\x89PNG\r\n\x1a\n".as_slice(), &[5; 500]].concat();
    for front in [program, image] {
        let real = real_type(&front);
        let members: [(RealType, Vec<u8>); 3] = [
            (RealType::Zip, zip("a", &text(), 8)),
            (RealType::SevenZip, seven_zip(&[("a", &text())], EncoderMethod::LZMA2)),
            (RealType::Cab, cab(&[("a", &text())], CabMethod::MsZip)),
        ];
        for (kind, archive) in members {
            let octets = [front.as_slice(), &archive].concat();
            let found = beside(real, &octets).places;
            assert_eq!(found.iter().map(|beside| beside.real).collect::<Vec<_>>(), [kind]);
            let (mut members, mut bounds) = (Vec::new(), OpenBounds::new(OpenLimits::default()));
            let conditions = open_beside(found[0], &octets, &mut bounds, &mut |_, member| {
                members.push((member.names, member.octets.into_owned()));
                ControlFlow::Continue(())
            });
            assert_eq!(conditions, Conditions::new());
            assert!(holds(&members, "a", &text()), "{kind}");
        }
        let octets = [front.as_slice(), b"Rar!\x1a\x07\0\xcf\x90\x73"].concat();
        assert_eq!(beside(real, &octets).places[0].real, RealType::Rar);
        assert_eq!(
            beside(real, &[front.as_slice(), SEVEN_ZIP, b"Rar!\x1a\x07 MSCF\0\0\0\0"].concat()).places,
            vec![]
        );
    }
    let mut disc = iso(&DiscNames { plain: "A.EXE;1", joliet: None, rock_ridge: None }, &text());
    disc[..4].copy_from_slice(b"PK\x03\x04");
    assert_eq!(beside(real_type(&disc), &disc).places, vec![Beside { real: RealType::Iso, at: 0 }]);
    let octets = tar_member(b"\x1f\x8b\x08 name", &text(), b'0');
    assert_eq!(real_type(&octets), Some(RealType::Gzip));
    assert_eq!(beside(Some(RealType::Gzip), &octets).places, vec![Beside { real: RealType::Tar, at: 0 }]);
}

#[test]
fn an_encrypted_7z_archive_is_told_from_a_damaged_one() {
    // A header that is encoded with AES stands in clear text what it is encoded with.
    let mut octets = seven_zip(&[("a", b"x")], EncoderMethod::COPY);
    let header = b"\x17\x06\x00\x01\x09\x10\x00\x07\x0b\x01\x00\x01\x24\x06\xf1\x07\x01\x00\x0c\x10\x00\x00";
    octets.truncate(32);
    octets.extend([0; 16]);
    octets.extend(header);
    let crc = |octets: &[u8]| {
        let mut crc = flate2::Crc::new();
        crc.update(octets);
        crc.sum().to_le_bytes()
    };
    octets[12..20].copy_from_slice(&16u64.to_le_bytes());
    octets[20..28].copy_from_slice(&(header.len() as u64).to_le_bytes());
    let of_header = crc(header);
    octets[28..32].copy_from_slice(&of_header);
    let of_start = crc(&octets[12..32]);
    octets[8..12].copy_from_slice(&of_start);
    assert_eq!(opened(&octets), (vec![], one(Condition::EncryptedFile)));
    octets[40] ^= 1;
    octets[50] ^= 1;
    assert_eq!(opened(&octets), (vec![], one(Condition::BrokenFile)));
}

#[test]
fn a_package_gives_its_compressed_archive() {
    let octets = rpm("usr/bin/a", &text());
    assert_eq!(real_type(&octets), Some(RealType::Rpm));
    let (found, conditions) = opened(&octets);
    assert_eq!((found.len(), conditions), (1, Conditions::new()));
    assert!(holds(&opened(&opened(&found[0].1).0[0].1).0, "usr/bin/a", &text()));
}

#[test]
fn a_disc_that_has_udf_too_is_not_known_through_and_through() {
    let mut octets = iso(&DiscNames { plain: "A.EXE;1", joliet: None, rock_ridge: None }, b"x");
    octets[18 * 2_048 + 1..18 * 2_048 + 6].copy_from_slice(b"NSR02");
    let (found, conditions) = opened(&octets);
    assert!(holds(&found, "A.EXE", b"x"));
    assert_eq!(conditions, one(Condition::UnknownArchive));
}

#[test]
fn directories_of_a_disc_that_hold_each_other_end() {
    let mut octets = iso(&DiscNames { plain: "A.EXE;1", joliet: None, rock_ridge: None }, b"x");
    // The file's record becomes a directory: the root itself.
    let at = 20 * 2_048 + 34;
    octets[at + 2..at + 6].copy_from_slice(&20u32.to_le_bytes());
    octets[at + 25] = 2;
    assert_eq!(opened(&octets), (vec![], Conditions::new()));
}

static SAMPLES: LazyLock<Vec<(&str, RealType, Vec<u8>)>> =
    LazyLock::new(|| containers("name.txt", b"some content, some content, some content"));

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_change_of_octets_makes_an_opener_panic_or_exceed_its_bounds(
        kind in 0..SAMPLES.len(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let (_, real, mut octets) = SAMPLES[kind].clone();
        for (at, octet) in changes {
            // The structure of an image begins behind 32 KiB.
            let begin = if real == RealType::Iso { 16 * 2_048 } else { 0 };
            let length = octets.len() - begin;
            octets[begin + at.index(length)] = octet;
        }
        let limits = OpenLimits { octets: 4 << 20, members: 100, ..OpenLimits::default() };
        let (found, _) = opened_as(real, &octets, limits);
        prop_assert!(found.iter().map(|(_, octets)| octets.len()).sum::<usize>() <= 4 << 20);
        prop_assert!(found.len() <= 100);
        let _ = beside(real_type(&octets), &octets);
    }

    #[test]
    fn no_octets_behind_a_mark_make_an_opener_panic(
        kind in 0usize..17,
        octets in prop::collection::vec(any::<u8>(), 0..600),
    ) {
        let reals = [
            RealType::Zip, RealType::Gzip, RealType::Bzip2, RealType::Xz, RealType::Zstd, RealType::Tar,
            RealType::SevenZip, RealType::Cab, RealType::Iso, RealType::Cpio, RealType::Ar, RealType::Rpm,
            RealType::Rar, RealType::Zip, RealType::Gzip, RealType::Cab, RealType::SevenZip,
        ];
        let (_, _, whole) = &SAMPLES[kind];
        let front = &whole[..whole.len().min(40)];
        let limits = OpenLimits { octets: 4 << 20, members: 100, ..OpenLimits::default() };
        opened_as(reals[kind], &[front, octets.as_slice()].concat(), limits);
        real_type(&octets);
    }
}
