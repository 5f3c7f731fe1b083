use std::sync::atomic::AtomicUsize;

use super::super::eicar::test_string;
use super::super::open::samples::*;
use super::super::samples::{base64_lines, program};
use super::super::scan::{ScanOutcome, ScannedFile, Scanner};
use super::super::{DeclaredEncodings, RuleName};
use super::*;

/// Counts what it is given.
struct Counter(Arc<AtomicUsize>);

impl Scanner for Counter {
    fn name(&self) -> &'static str {
        "counter"
    }

    fn scan(&self, _: &ScannedFile<'_>, _: &AtomicBool) -> ScanOutcome {
        self.0.fetch_add(1, Ordering::Relaxed);
        ScanOutcome::Clean
    }
}

fn judged_within(octets: &[u8], limits: OpenLimits) -> (LeafDecision, usize) {
    let count = Arc::new(AtomicUsize::new(0));
    let rules = Rules::new(&["*.exe"], &["executable"]).unwrap();
    let judge = LeafJudge::new(Arc::new(rules), vec![Arc::new(Counter(Arc::clone(&count)))], limits);
    let head = LeafHead {
        path: "2",
        names: &["attachment.bin".to_owned()],
        declared_types: &[],
        encodings: DeclaredEncodings::default(),
        reading: Reading::Identity,
        is_beginning: false,
    };
    let decision = judge.leaf(&head, octets, &AtomicBool::new(false));
    (decision, count.load(Ordering::Relaxed))
}

fn judged(octets: &[u8]) -> LeafDecision {
    judged_within(octets, OpenLimits::default()).0
}

fn limits() -> LeafOutcome {
    LeafOutcome::Remove(RuleName::Condition(Condition::ArchiveLimits))
}

#[test]
fn the_test_virus_is_found_in_each_container_within_each_other_one() {
    let clean = containers("readme.txt", b"nothing");
    for (number, (inner, _, octets)) in containers("virus.com", &test_string()).into_iter().enumerate() {
        assert_eq!(judged(&octets).outcome, LeafOutcome::Remove(RuleName::Eicar), "{inner}");
        for (outer, real, octets) in containers("inner.bin", &octets) {
            let decision = judged(base64_lines(&octets).as_bytes());
            assert_eq!(decision.outcome, LeafOutcome::Remove(RuleName::Eicar), "{inner} in {outer}");
            assert_eq!(decision.real_type, Some(real));
        }
        for (outer, _, octets) in containers("inner.bin", &clean[number].2) {
            assert_eq!(judged(&octets).outcome, LeafOutcome::Allow, "{} in {outer}", clean[number].0);
        }
    }
}

#[test]
fn a_decision_says_in_which_member_something_was_found() {
    let nest = tar(&[("clean.txt", b"x"), ("second.zip", &zip("virus.com", &test_string(), 8))]);
    let decision = judged(base64_lines(&gzip("first.tar", &nest)).as_bytes());
    assert_eq!(decision.member.as_deref(), Some("first.tar » second.zip » virus.com"));
    assert_eq!(decision.real_type, Some(RealType::Gzip));
}

#[test]
fn names_and_types_of_members_are_judged() {
    let named = judged(&zip("a/INVOICE.EXE. ", b"text", 8));
    let LeafOutcome::Remove(RuleName::Name { name, pattern }) = named.outcome else { panic!("{named:?}") };
    assert_eq!((name.as_str(), pattern.as_str()), ("a/INVOICE.EXE. ", "*.exe"));
    let typed = judged(&tar(&[("a.txt", &program())]));
    assert_eq!(typed.outcome, LeafOutcome::Remove(RuleName::Type(RealType::WindowsProgram)));
    assert_eq!(typed.member.as_deref(), Some("a.txt"));
}

#[test]
fn files_inside_each_other_end_at_the_depth() {
    let nest = |depth: usize| {
        (0..depth).fold(test_string(), |octets, number| zip(&format!("{number}.zip"), &octets, 8))
    };
    let depth = OpenLimits::default().depth as usize;
    assert_eq!(judged(&nest(depth)).outcome, LeafOutcome::Remove(RuleName::Eicar));
    assert_eq!(judged(&nest(depth + 1)).outcome, limits());
}

/// A gzip file whose content is the file itself, with its checksum: of literals and of repetitions of what they wrote.
const GZIP_OF_ITSELF: &str = concat!(
    "1f8b08080000000000ff612e677a00001400ebff1f8b08080000000000ff612e677a00001400ebff428821c400000500faff",
    "428821c400000500faff000500faff001400ebff428821c400000500faff000500faff001400ebff428821c400001400ebff",
    "428821c400001400ebff428821c400001400ebff428821c400001400ebff428821c400000000ffff000000ffff001400ebff",
    "428821c400000000ffff000000ffff001400ebff428821c400000000ffff03005de85d4cd2000000428821c400000000ffff",
    "03005de85d4cd2000000",
);

#[test]
fn a_file_that_holds_itself_ends_at_the_depth() {
    let digits = GZIP_OF_ITSELF.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    let file: Vec<u8> = digits.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect();
    let mut content = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(file.as_slice()), &mut content).unwrap();
    assert_eq!(content, file);
    let (decision, count) = judged_within(&file, OpenLimits::default());
    assert_eq!(decision.outcome, limits());
    let levels = OpenLimits::default().depth as usize + 1;
    assert!(count <= levels * Reading::of(&file).count(), "{count}");
}

#[test]
fn archives_of_archives_end_at_the_bounds_of_the_outermost_leaf() {
    let many = |octets: &[u8]| {
        let entry = |number: usize| Some(ZipEntry::new(&format!("{number}.zip"), octets, 8));
        zip_of(&(0..16).map(|number| (entry(number), entry(number))).collect::<Vec<_>>())
    };
    let nest = (0..5).fold(vec![0; 100_000], |octets, _| many(&octets));
    assert!(nest.len() < 100_000);
    let bounds = OpenLimits { octets: 8 << 20, ..OpenLimits::default() };
    let (decision, count) = judged_within(&nest, bounds);
    assert_eq!(decision.outcome, limits());
    assert!(count < 10_000, "{count}");
}

#[test]
fn archives_that_share_their_octets_end_at_the_bounds() {
    // Each entry is stored and holds all that follows, which is such an archive again: 2 to the power of 30 in all.
    const ENTRIES: usize = 30;
    let name = |number: usize| format!("{number:02}");
    let directory_bytes = ENTRIES * (46 + 2);
    let end = ENTRIES * 32 + directory_bytes + 22;
    let (mut octets, mut directory) = (Vec::new(), Vec::new());
    for number in 0..ENTRIES {
        let packed = vec![0; end - (number + 1) * 32];
        let entry = ZipEntry::new(&name(number), &packed, 0);
        directory.extend(entry.central(octets.len() as u32));
        octets.extend(entry.local());
    }
    let at = octets.len() as u32;
    octets.extend(&directory);
    octets.extend(b"PK\x05\x06\0\0\0\0\x1e\0\x1e\0");
    octets.extend((directory.len() as u32).to_le_bytes());
    octets.extend(at.to_le_bytes());
    octets.extend([0, 0]);
    assert_eq!(octets.len(), end);
    let bounds = OpenLimits { members: 500, ..OpenLimits::default() };
    let (decision, count) = judged_within(&octets, bounds);
    assert_eq!(decision.outcome, limits());
    assert!(count > 100 && count <= 500 + Reading::of(&octets).count(), "{count}");
}

#[test]
fn what_a_program_extracts_of_itself_is_judged() {
    let rules = Rules::new::<&str, &str>(&[], &[]).unwrap();
    let judge = LeafJudge::new(Arc::new(rules), vec![], OpenLimits::default());
    let head = LeafHead {
        path: "",
        names: &[],
        declared_types: &[],
        encodings: DeclaredEncodings::default(),
        reading: Reading::Identity,
        is_beginning: false,
    };
    let octets = [program(), zip("virus.com", &test_string(), 8)].concat();
    let decision = judge.leaf(&head, &octets, &AtomicBool::new(false));
    assert_eq!(decision.real_type, Some(RealType::WindowsProgram));
    assert_eq!(decision.outcome, LeafOutcome::Remove(RuleName::Eicar));
    assert_eq!(decision.member.as_deref(), Some("virus.com"));
}

#[test]
fn behind_more_beginnings_of_archives_than_are_opened_nothing_is_hidden() {
    let decoys = b"MSCF\0\0\0\0\xff\0\0\0\0\0\0\0\x24\0\0\0\0\0\0\0\x03\x01\x01\0\x01\0".repeat(8);
    let cabinet = cab(&[("virus.com", &test_string())], CabMethod::MsZip);
    let image = b"\x89PNG\r\n\x1a\n".as_slice();
    let behind = |decoys: &[u8]| judged(&[image, decoys, &cabinet].concat()).outcome;
    let size = decoys.len() / 8;
    assert_eq!(behind(&decoys[..7 * size]), LeafOutcome::Remove(RuleName::Eicar));
    assert_eq!(behind(&decoys), limits());
}

#[test]
fn what_could_not_be_scanned_is_told_before_other_notes() {
    let note = |condition| LeafDecision::from(LeafOutcome::Note(RuleName::Condition(condition)));
    for conditions in [[Condition::Macro, Condition::CannotScan], [Condition::CannotScan, Condition::Macro]] {
        let mut decision = LeafDecision::default();
        conditions.map(note).into_iter().for_each(|note| decision.add(note));
        assert_eq!(decision, note(Condition::CannotScan));
    }
}

#[test]
fn a_cancelled_look_ends() {
    let judge = LeafJudge::new(Arc::new(Rules::default()), vec![], OpenLimits::default());
    let head = LeafHead {
        path: "",
        names: &[],
        declared_types: &[],
        encodings: DeclaredEncodings::default(),
        reading: Reading::Identity,
        is_beginning: false,
    };
    let decision = judge.leaf(&head, &zip("a", b"x", 0), &AtomicBool::new(true));
    assert_eq!(decision.outcome, LeafOutcome::Unavailable(Unavailable::Cancelled));
}

#[test]
fn the_leaves_of_a_mail_inside_a_file_share_the_bounds_of_the_file() {
    let judge = LeafJudge::new(Arc::new(Rules::default()), vec![], OpenLimits::default());
    let head = LeafHead {
        path: "",
        names: &[],
        declared_types: &[],
        encodings: DeclaredEncodings::default(),
        reading: Reading::Identity,
        is_beginning: false,
    };
    let bounds = |limits| Mutex::new(OpenBounds::new(limits));
    let leaf = |within: &WithinFile<'_>| within.leaf(&head, b"text", &AtomicBool::new(false)).outcome;
    let few = OpenLimits { members: 2, ..OpenLimits::default() };
    let within = WithinFile { judge: &judge, bounds: bounds(few), depth: 1 };
    assert_eq!(
        [leaf(&within), leaf(&within), leaf(&within)],
        [LeafOutcome::Allow, LeafOutcome::Allow, limits()]
    );
    let small = OpenLimits { octets: 7, ..OpenLimits::default() };
    let within = WithinFile { judge: &judge, bounds: bounds(small), depth: 1 };
    assert_eq!([leaf(&within), leaf(&within)], [LeafOutcome::Allow, limits()]);
    let within = WithinFile { judge: &judge, bounds: bounds(OpenLimits::default()), depth: 16 };
    assert_eq!(leaf(&within), limits());
}

#[test]
fn a_file_is_damaged_by_the_encoding_that_its_header_declares_and_by_no_other_one() {
    // The content is stored as it is, and shorter than its length says where it is read as quoted-printable.
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    std::io::Write::write_all(&mut gzip, b"equals =41=42=43").unwrap();
    let octets = gzip.finish().unwrap();
    let rules = Rules::new::<_, &str>(&["*.exe"], &[]).unwrap();
    let judge = LeafJudge::new(Arc::new(rules), Vec::new(), OpenLimits::default());
    let broken = LeafOutcome::Remove(RuleName::Condition(Condition::BrokenFile));
    for (quoted_printable, expected) in [(false, LeafOutcome::Allow), (true, broken.clone())] {
        let head = LeafHead {
            path: "1",
            names: &[],
            declared_types: &[],
            encodings: DeclaredEncodings { base64: false, quoted_printable },
            reading: Reading::Identity,
            is_beginning: false,
        };
        assert_eq!(judge.leaf(&head, &octets, &AtomicBool::new(false)).outcome, expected);
    }
    let archive = zip("inner.zip", &zip("a.txt", b"equals =41=42=43", 0), 0);
    assert_eq!(judged(&archive).outcome, LeafOutcome::Allow);
    assert_eq!(judged(&archive[..archive.len() - 30]).outcome, broken);
}

#[test]
fn a_broken_file_hides_nothing_that_stands_behind_it() {
    let broken = || LeafDecision::from(LeafOutcome::Remove(RuleName::Condition(Condition::BrokenFile)));
    let mut decision = broken();
    decision.add(LeafOutcome::Remove(RuleName::Eicar).into());
    decision.add(broken());
    assert_eq!(decision.outcome, LeafOutcome::Remove(RuleName::Eicar));
    let cut = zip("a.txt", b"text", 8);
    let files = tar(&[("a.zip", &cut[..cut.len() - 30]), ("b.txt", &program())]);
    assert_eq!(judged(&files).outcome, LeafOutcome::Remove(RuleName::Type(RealType::WindowsProgram)));
}

#[test]
fn a_file_that_is_called_a_page_is_opened_as_one_whatever_it_begins_with() {
    let url = format!(
        "<a href=\"data:application/zip;base64,{}\">",
        base64_lines(&zip("virus.com", &test_string(), 8))
    );
    for begin in ["\0", "GIF89a=1;", "{\\rtf1"] {
        let page = format!("{begin}<script></script>{}", url.replace("\r\n", ""));
        let octets = tar(&[("page.html", page.as_bytes())]);
        assert_eq!(judged(&octets).outcome, LeafOutcome::Remove(RuleName::Eicar), "{begin:?}");
    }
}

#[test]
fn a_file_that_is_whole_once_it_is_decoded_is_not_broken() {
    let of = |real_type, outcome| LeafDecision { real_type, member: None, outcome };
    let pdf = Some(RealType::Pdf);
    let broken = LeafOutcome::Remove(RuleName::Condition(Condition::BrokenFile));
    let (plain, whole) = (of(pdf, broken.clone()), of(pdf, LeafOutcome::Allow));
    assert!(is_whole_decoded(&plain, &whole, b"%PDF-1.5=0D=0A=\r\n"));
    assert!(!is_whole_decoded(&plain, &of(pdf, broken), b"%PDF-1.5=0D=0A=\r\n"));
    assert!(!is_whole_decoded(&plain, &whole, b"%PDF-1.5=\r\n\x80"));
    assert!(!is_whole_decoded(&plain, &whole, &[b"=\r\n".to_vec(), vec![b'a'; 78]].concat()));
}
