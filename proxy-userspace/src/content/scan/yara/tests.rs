use std::sync::atomic::AtomicBool;
use std::time::Duration;

use proptest::prelude::*;

use super::samples::{Sample, harmful, honest, program};
use super::*;
use crate::content::magic::real_type;

fn source(file: &str, text: &str) -> YaraSource {
    YaraSource { file: file.to_owned(), text: text.to_owned() }
}

fn packed(sources: &[YaraSource], embedded: bool) -> Vec<u8> {
    pack(&compile(sources, embedded).unwrap(), sources, embedded).unwrap()
}

fn embedded() -> YaraScanner {
    YaraScanner::load(&packed(&[], true)).unwrap()
}

fn own(sources: &[YaraSource]) -> YaraScanner {
    YaraScanner::load(&packed(sources, false)).unwrap()
}

fn scan(scanner: &YaraScanner, Sample { names, octets, is_member }: &Sample) -> ScanOutcome {
    let real_type = real_type(octets);
    let file = ScannedFile { names, real_type, octets, is_member: *is_member };
    scanner.scan(&file, &AtomicBool::new(false))
}

fn scan_octets(scanner: &YaraScanner, names: &[&str], octets: &[u8]) -> ScanOutcome {
    let names = names.iter().map(ToString::to_string).collect();
    scan(scanner, &Sample { names, octets: octets.to_vec(), is_member: false })
}

fn error(text: &str) -> String {
    compile(&[source("/etc/postern/yara/mine.yar", text)], true).unwrap_err().to_string()
}

#[test]
fn each_embedded_rule_finds_its_samples() {
    let scanner = embedded();
    let mut found = std::collections::BTreeSet::new();
    for (index, (rule, sample)) in harmful().iter().enumerate() {
        let expected = ScanOutcome::Found(format!("postern.{rule}"));
        assert_eq!(scan(&scanner, sample), expected, "sample {index}, {:?}", sample.names);
        found.insert(*rule);
    }
    assert_eq!(found.len(), scanner.facts().embedded as usize, "a rule has no sample");
}

#[test]
fn honest_files_are_clean_under_the_embedded_rules() {
    let scanner = embedded();
    for (what, sample) in honest() {
        assert_eq!(scan(&scanner, &sample), ScanOutcome::Clean, "{what}");
    }
}

#[test]
fn a_rule_of_the_owner_finds_by_content_and_by_what_is_known_of_the_file() {
    let text = r#"
        import "pe"
        import "math"
        private rule helper { condition: filesize > 3 }
        rule marker : tagged { meta: author = "x" strings: $a = "MARKER" condition: helper and $a }
        rule named { meta: signature = "Own.Name" condition: extension == ".xyz" and filename == "b.XYZ" and filepath == "a/b.XYZ" }
        rule typed { condition: real_type == "windows_program" and math.entropy(0, filesize) < 1.0 and not pe.is_pe }
        rule remark : informational { strings: $a = "REMARK" condition: $a }
    "#;
    let scanner = own(&[source("/etc/postern/yara/mine.yar", text)]);
    let found = |name: &str| ScanOutcome::Found(name.to_owned());
    assert_eq!(scan_octets(&scanner, &["a"], b"a MARKER here"), found("mine.marker"));
    assert_eq!(scan_octets(&scanner, &["a/b.XYZ"], b"text"), found("Own.Name"));
    assert_eq!(scan_octets(&scanner, &["a.exe"], &program()), found("mine.typed"));
    assert_eq!(scan_octets(&scanner, &["a"], b"a REMARK here"), ScanOutcome::Clean);
    assert_eq!(scan_octets(&scanner, &[], b"a mail"), ScanOutcome::Clean);
    let facts = scanner.facts();
    assert_eq!((facts.embedded, facts.own, facts.files, facts.ask_for_name), (0, 4, 1, true));
}

#[test]
fn a_file_with_several_names_is_scanned_under_each() {
    let scanner = own(&[source("a.yar", r#"rule a { condition: extension == ".xyz" }"#)]);
    let found = ScanOutcome::Found("a.a".to_owned());
    assert_eq!(scan_octets(&scanner, &["a.txt", "b.xyz"], b"x"), found);
    assert_eq!(scan_octets(&scanner, &["a.txt", "b.xyz. "], b"x"), found, "as Windows keeps it");
    assert_eq!(scan_octets(&scanner, &["a.txt", "b.xyz.txt"], b"x"), ScanOutcome::Clean);
}

#[test]
fn two_files_may_have_rules_of_one_name() {
    let rule = |text: &str| format!("rule same {{ strings: $a = \"{text}\" condition: $a }}");
    let scanner = own(&[
        source("a/x.yar", &rule("ONE")),
        source("b/x.yar", &rule("TWO")),
        source("postern.yar", &rule("THREE")),
    ]);
    let of = |octets: &[u8]| scan_octets(&scanner, &[], octets);
    assert_eq!(of(b"ONE"), ScanOutcome::Found("x.same".to_owned()));
    assert_eq!(of(b"TWO"), ScanOutcome::Found("x_2.same".to_owned()));
    assert_eq!(
        of(b"THREE"),
        ScanOutcome::Found("postern_2.same".to_owned()),
        "postern is the name of embedded rules"
    );
}

#[test]
fn a_set_of_thousands_of_rules_in_one_file_is_whole_behind_its_octets() {
    let terms = (0..1500)
        .map(|number| format!("filesize != {}", 1_000_000 + number))
        .collect::<Vec<_>>()
        .join(" and ");
    let mut text: String = (0..3000)
        .map(|number| format!("rule r{number} {{ strings: $a = \"marker{number};\" condition: $a }}\n"))
        .collect();
    text += &format!("rule long {{ strings: $a = \"LONG\" condition: $a and {terms} }}\n");
    let scanner = own(&[source("big.yar", &text)]);
    assert_eq!(scanner.facts().own, 3001);
    assert_eq!(scan_octets(&scanner, &[], b"marker2999;"), ScanOutcome::Found("big.r2999".to_owned()));
    assert_eq!(scan_octets(&scanner, &[], b"LONG"), ScanOutcome::Found("big.long".to_owned()));
    assert_eq!(scan_octets(&scanner, &[], b"marker3000;"), ScanOutcome::Clean);
}

#[test]
fn the_embedded_rules_can_be_left_out() {
    let scanner = own(&[]);
    assert!(harmful().iter().all(|(_, sample)| scan(&scanner, sample) == ScanOutcome::Clean));
    assert_eq!(*scanner.facts(), RuleFacts::default());
}

#[test]
fn a_wrong_rule_is_told_with_its_place_and_the_remedy() {
    let head = "/etc/postern/yara/mine.yar";
    for (text, told) in [
        (
            "rule good { condition: true }\n\nrule bad {\n  condition:\n    unknown_thing\n}\n",
            "5:5: rule bad: unknown identifier \"unknown_thing\"; external variables are filename, filepath, extension, \
             names, real_type, is_member, and rules that a rule names stand before it in the same file",
        ),
        (
            "private rule bad { strings: $a = \"x\" condition: $b }",
            "1:49: rule bad: unknown variable $b; correct the rule, or take it out",
        ),
        ("rule a { condition: true", "1:25: rule a: syntax error; correct the rule, or take it out"),
        (
            "import \"time\"\nrule a { condition: time.now() > 0 }",
            "1:1: unknown import time; rules have pe, elf, macho, dotnet, dex, math and string; take the rule out",
        ),
        (
            "include \"other.yar\"\n",
            "1:1: includes are not allowed; take the line out: every file of the directories is compiled, in a namespace of \
             its own",
        ),
        (
            "rule a { condition: true }\nrule a { condition: false }",
            "2:6: rule a: rule `a` is already declared in this namespace; correct the rule, or take it out",
        ),
    ] {
        assert_eq!(error(text), format!("{head}:{told}"));
    }
}

#[test]
fn what_is_strange_in_a_rule_is_a_warning() {
    let text = "rule a { strings: $a = /a\\y/ condition: $a }";
    let facts = compile(&[source("a.yar", text)], false).unwrap();
    assert_eq!(facts.warnings.len(), 1, "{facts:?}");
    assert!(facts.warnings[0].starts_with("a.yar:1:"), "{facts:?}");
}

/// With rules that never end for these octets.
fn endless() -> Vec<(YaraScanner, Vec<u8>)> {
    let condition = "rule a { condition: for all i in (0..1000000000000) : (i >= 0) }";
    let expression = "rule a { strings: $a = /a[ab]{1,500}(a|b)[ab]{1,500}c/ condition: #a > 100000 }";
    let scanner =
        |text| YaraScanner { time_max: Duration::from_millis(100), ..own(&[source("a.yar", text)]) };
    vec![(scanner(condition), vec![b'a'; 64]), (scanner(expression), b"ab".repeat(4 << 20))]
}

#[test]
fn a_file_that_costs_too_much_cannot_be_scanned() {
    for (scanner, octets) in endless() {
        let scanner = YaraScanner { costly_time: Duration::ZERO, ..scanner };
        assert_eq!(scan_octets(&scanner, &[], &octets), ScanOutcome::CannotScan);
    }
}

#[test]
fn a_file_that_waited_for_a_processor_is_not_scanned_now() {
    for (scanner, octets) in endless() {
        let scanner = YaraScanner { costly_time: Duration::MAX, ..scanner };
        assert_eq!(scan_octets(&scanner, &[], &octets), ScanOutcome::Unavailable);
    }
}

#[test]
fn octets_that_are_no_compiled_rules_are_refused() {
    let good = packed(&[source("a.yar", "rule a { condition: true }")], true);
    assert!(matches!(YaraScanner::load(b"rule a { condition: true }"), Err(LoadError::NotRules)));
    let mut other = good.clone();
    other[8] = 99;
    assert!(matches!(YaraScanner::load(&other), Err(LoadError::Version(99))));
    for end in 0..good.len() {
        assert!(YaraScanner::load(&good[..end]).is_err(), "{end}");
    }
}

#[test]
fn every_prefix_of_each_sample_is_scanned() {
    let scanner = embedded();
    for (_, sample) in harmful() {
        for end in 0..sample.octets.len() {
            let octets = sample.octets[..end].to_vec();
            let outcome = scan(&scanner, &Sample { octets, ..sample.clone() });
            assert!(matches!(outcome, ScanOutcome::Clean | ScanOutcome::Found(_)), "{outcome:?}");
        }
    }
}

proptest! {
    #[test]
    fn changed_samples_are_scanned(
        index in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let samples = harmful();
        let (_, mut sample) = samples[index.index(samples.len())].clone();
        for (at, octet) in changes {
            let at = at.index(sample.octets.len());
            sample.octets[at] = octet;
        }
        let outcome = scan(&SCANNER, &sample);
        prop_assert!(matches!(outcome, ScanOutcome::Clean | ScanOutcome::Found(_)));
    }
}

static SCANNER: std::sync::LazyLock<YaraScanner> = std::sync::LazyLock::new(embedded);
