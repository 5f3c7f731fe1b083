use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::*;
use crate::config::{self, FileHash};
use crate::content::eicar::test_string;
use crate::content::open::OpenLimits;
use crate::content::rules::{FilePlace, RuledFile};
use crate::content::samples::{assert_same_lines, base64_lines, judged_by, mail, program, settings};
use crate::content::scan::{ScanOutcome, ScannedFile, Scanner};
use crate::content::{
    Case, Condition, ContentAction, ContentPiece, Judged, LeafJudge, LeafOutcome, LeafVerdict, RealType,
    RuleName, Shape, judge,
};

/// Counts the files that it is shown, and finds something in each.
struct Suspicious(Arc<AtomicUsize>);

impl Scanner for Suspicious {
    fn name(&self) -> &'static str {
        "suspicious"
    }

    fn scan(&self, _: &ScannedFile<'_>, _: &AtomicBool) -> ScanOutcome {
        self.0.fetch_add(1, Ordering::Relaxed);
        ScanOutcome::Clean
    }
}

struct Judging {
    judge: LeafJudge,
    scanned: Arc<AtomicUsize>,
}

fn judging(lines: &str) -> Judging {
    let settings = settings(lines);
    let hashes = Arc::new(HashList::new(settings.blocked_hashes.clone()));
    let rules = Arc::new(Rules::of(&settings, hashes).unwrap());
    let scanned = Arc::default();
    let scanners: Vec<Arc<dyn Scanner>> = vec![Arc::new(Suspicious(Arc::clone(&scanned)))];
    Judging { judge: LeafJudge::new(rules, scanners, OpenLimits::default()), scanned }
}

impl Judging {
    /// The message afterwards, and the verdicts.
    fn judged(&self, message: &str) -> (String, Vec<LeafVerdict>) {
        let (octets, leaves) = judged_by(&self.judge, message.as_bytes(), Shape::Message);
        assert_same_lines(message.as_bytes(), &octets);
        (String::from_utf8(octets).unwrap(), leaves)
    }

    /// What became of the file with this name and type.
    fn file(&self, name: &str, kind: &str, octets: &[u8]) -> LeafVerdict {
        let mut header = "Content-Transfer-Encoding: base64".to_owned();
        if !kind.is_empty() {
            header.push_str(&format!("\r\nContent-Type: {kind}"));
        }
        if !name.is_empty() {
            header.push_str(&format!("\r\nContent-Disposition: attachment; filename=\"{name}\""));
        }
        let (_, leaves) = self.judged(&mail(&header, &base64_lines(octets)));
        leaves.into_iter().find(|leaf| leaf.path == "2").unwrap()
    }

    fn named(&self, name: &str) -> ContentAction {
        self.file(name, "application/pdf", b"harmless").action
    }

    fn typed(&self, kind: &str, octets: &[u8]) -> ContentAction {
        self.file("", kind, octets).action
    }
}

const ALLOW: ContentAction = ContentAction::Allow;
const REMOVE: ContentAction = ContentAction::Remove;
const DENY: ContentAction = ContentAction::Deny;

fn rule(table: &str, pattern: &str, action: &str) -> String {
    format!("[[action.content.{table}]]\nmatch = \"{pattern}\"\naction = \"{action}\"\n")
}

#[test]
fn exact_names_go_before_patterns_and_written_rules_before_lists_whatever_their_order() {
    let lines = [
        "names = [\"*.exe\"]\nlists = [\"scripts\"]\n".to_owned(),
        rule("name_rule", "*.e?e", "deny"),
        rule("name_rule", "SETUP.exe", "av_scan"),
        rule("name_rule", "signature.js", "av_scan"),
    ];
    let judging = judging(&lines.concat());
    for (name, expected) in [
        ("setup.exe", ALLOW),
        ("other.exe", DENY),
        ("other.eae", DENY),
        ("signature.js", ALLOW),
        ("other.js", REMOVE),
        ("other.pdf", ALLOW),
    ] {
        assert_eq!(judging.named(name), expected, "{name}");
    }
    assert_eq!(judging.file("other.js", "", b"x").rule.unwrap().token(), "lists");
}

#[test]
fn where_only_some_names_are_allowed_no_form_of_another_name_passes() {
    let judging =
        judging(&format!("names_unmatched = \"remove\"\n{}", rule("name_rule", "*.pdf", "av_scan")));
    for name in ["report.pdf", "REPORT.PDF", "a/report.pdf"] {
        assert_eq!(judging.named(name), ALLOW, "{name}");
    }
    for name in ["report.doc", "evil.exe:report.pdf", "report.pdf.exe", "pdf"] {
        let verdict = judging.file(name, "application/pdf", b"x");
        assert_eq!(verdict.action, REMOVE, "{name}");
        assert_eq!(verdict.rule.unwrap().token(), "names_unmatched");
    }
    assert_eq!(judging.file("", "application/pdf", b"x").action, ALLOW, "a file without a name");
}

#[test]
fn where_only_some_types_are_allowed_another_declaration_helps_nobody() {
    let lines = ["types_unmatched = \"remove\"\ntypes = []\n".to_owned()]
        .into_iter()
        .chain(["text/plain", "application/pdf"].map(|kind| rule("type_rule", kind, "av_scan")));
    let judging = judging(&lines.collect::<String>());
    for (kind, octets, expected) in [
        ("application/pdf", &b"harmless"[..], ALLOW),
        ("Application/PDF; x=y", b"harmless", ALLOW),
        ("", b"a part without a type is text", ALLOW),
        ("application/zip", b"harmless", REMOVE),
        ("application/octet-stream", b"of no known type", REMOVE),
        ("application/pdf", &program(), REMOVE),
        ("application/octet-stream", &program(), REMOVE),
        ("application/pdf\r\nContent-Type: application/zip", b"harmless", REMOVE),
    ] {
        assert_eq!(judging.typed(kind, octets), expected, "{kind}");
    }
}

#[test]
fn the_type_that_octets_show_counts_unless_the_owner_says_otherwise() {
    let lines = rule("type_rule", "application/vnd.microsoft.*", "deny");
    let detecting = judging(&format!("types = []\n{lines}"));
    assert_eq!(detecting.typed("image/png", &program()), DENY);
    let declared_only = judging(&format!("types = []\ndetect_types = false\n{lines}"));
    assert_eq!(declared_only.typed("image/png", &program()), ALLOW);
    assert_eq!(declared_only.typed("application/vnd.microsoft.portable-executable", b"x"), DENY);
    let programs = judging(&format!("detect_types = false\n{lines}"));
    assert_eq!(programs.typed("image/png", &program()), REMOVE, "`types` speaks of octets alone");
}

#[test]
fn the_strictest_of_what_names_and_types_say_counts() {
    let lines =
        |name: &str, kind: &str| rule("name_rule", "*.gif", name) + &rule("type_rule", "image/gif", kind);
    for (name, kind, expected) in [
        ("allow", "remove", REMOVE),
        ("deny", "remove", DENY),
        ("av_scan", "deny", DENY),
        ("remove", "allow", REMOVE),
        ("allow", "allow", ALLOW),
    ] {
        let judging = judging(&lines(name, kind));
        assert_eq!(judging.file("a.gif", "image/gif", b"x").action, expected, "{name} {kind}");
    }
}

#[test]
fn a_file_goes_unscanned_only_where_name_and_type_are_allowed() {
    let name = rule("name_rule", "*.gif", "allow");
    let kind = rule("type_rule", "image/gif", "allow");
    let scans = |lines: &str, name: &str, kind: &str| {
        let judging = judging(lines);
        judging.file(name, kind, b"x");
        let with_it = judging.scanned.swap(0, Ordering::Relaxed);
        // The text before the file is scanned, too.
        judging.judged(&mail("Content-Type: multipart/mixed", ""));
        with_it > judging.scanned.load(Ordering::Relaxed)
    };
    assert!(!scans(&format!("{name}{kind}"), "a.gif", "image/gif"));
    assert!(!scans(&kind, "", "image/gif"), "a file without a name");
    assert!(scans(&name, "a.gif", "image/gif"));
    assert!(scans(&kind, "a.gif", "image/gif"));
    assert!(scans(&format!("{name}{kind}"), "a.gif", "image/png"));
    assert!(scans(&format!("{name}{kind}"), "a.png", "image/gif"));
    assert!(scans(&format!("types = []\n{name}{kind}"), "a.gif", "image/gif\r\nContent-Type: text/html"));
}

#[test]
fn what_is_allowed_by_name_and_type_is_still_the_test_virus_or_a_blocked_file() {
    let hash = FileHash(LeafHash::of(b"blocked"));
    let allowed = rule("name_rule", "*", "allow") + &rule("type_rule", "*", "allow");
    let digits: String = hash.0.iter().map(|octet| format!("{octet:02x}")).collect();
    let judging = judging(&format!("blocked_hashes = [\"{digits}\"]\n{allowed}"));
    let eicar = test_string();
    assert_eq!(judging.file("a.gif", "image/gif", eicar.as_ref()).action, REMOVE);
    let blocked = judging.file("a.gif", "image/gif", b"blocked");
    assert_eq!((blocked.action, blocked.rule), (REMOVE, Some(RuleName::Hash { sha256: hash.0 })));
    assert_eq!(judging.file("a.gif", "image/gif", b"Blocked").action, ALLOW);
}

/// SHA-256 by another hand than the code's own helper.
struct LeafHash;

impl LeafHash {
    fn of(octets: &[u8]) -> [u8; 32] {
        aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, octets).as_ref().try_into().unwrap()
    }
}

#[test]
fn each_list_forbids_its_names_and_what_files_are_by_their_octets() {
    for list in ContentList::ALL {
        let judging = judging(&format!("types = []\nlists = [\"{}\"]", list.as_str()));
        for extension in contents(list).extensions {
            assert_eq!(judging.named(&format!("a.{extension}")), REMOVE, "{extension}");
            assert_eq!(judging.named(&format!("a{extension}")), ALLOW, "{extension}");
        }
        for real in RealType::ALL {
            let ruling = types(&settings(&format!("types = []\nlists = [\"{}\"]", list.as_str())));
            let is_forbidden = ruling.ruling(&[], Some(real), false).action == RuleAction::Remove;
            assert_eq!(is_forbidden, contents(list).real_types.contains(&real), "{list:?} {real:?}");
        }
    }
    let judging = judging("types = []\nlists = [\"executables\"]");
    assert_eq!(judging.file("a.gif", "image/gif", &program()).action, REMOVE);
}

#[test]
fn the_reference_names_what_lists_hold() {
    let words = config::reference();
    let words: Vec<&str> =
        words.split_whitespace().map(|word| word.trim_end_matches([',', '.', ':'])).collect();
    for list in ContentList::ALL {
        for extension in contents(list).extensions {
            assert!(words.contains(&format!(".{extension}").as_str()), "{list:?} .{extension}");
        }
    }
}

#[test]
fn every_condition_has_the_verdict_that_its_key_says() {
    for condition in Condition::ALL {
        let rule = || RuleName::Condition(condition);
        for (word, expected) in [
            ("allow", LeafOutcome::Note(rule())),
            ("remove", LeafOutcome::Remove(rule())),
            ("deny", LeafOutcome::Deny(rule())),
        ] {
            let lines = format!("[action.content.verdicts]\n{} = \"{word}\"\n", condition.token());
            assert_eq!(ContentTerms::of(&settings(&lines)).found(condition), expected);
        }
    }
    let virus =
        |word: &str| ContentTerms::of(&settings(&format!("[action.content.verdicts]\nvirus = \"{word}\"\n")));
    assert!(matches!(virus("deny").virus("yara", "x".into()), LeafOutcome::Deny(RuleName::Virus { .. })));
    assert!(matches!(virus("allow").virus("yara", "x".into()), LeafOutcome::Note(RuleName::Virus { .. })));
    assert_eq!(virus("allow").eicar(), LeafOutcome::Remove(RuleName::Eicar), "the test virus never passes");
    assert_eq!(virus("deny").eicar(), LeafOutcome::Deny(RuleName::Eicar));
}

fn denying() -> Judging {
    judging(&rule("name_rule", "*.exe", "deny"))
}

#[test]
fn a_denied_mail_keeps_its_skeleton_and_nothing_else() {
    let message =
        mail("Content-Disposition: attachment; filename=a.exe", "the file, which is long enough to be seen");
    let (after, leaves) = denying().judged(&message);
    assert!(!after.contains("Hello") && !after.contains("the file"), "{after}");
    for kept in ["From: a@example.org", "filename=a.exe", "--frontier--"] {
        assert!(after.contains(kept), "{after}");
    }
    assert!(leaves.iter().all(|leaf| leaf.action == DENY && leaf.file.is_some()), "{leaves:?}");
    let again = denying().judged(&after).0;
    assert_eq!(again, after, "what is filled stays as it is");
}

#[test]
fn what_denies_one_piece_of_a_response_denies_the_others() {
    let first = "Hello, this is the text of the mail.";
    let second = "the file";
    let octets = format!("{first}{second}");
    let header = b"Content-Disposition: attachment; filename=a.exe\r\n\r\n".to_vec();
    let pieces = |names: &[u8]| {
        vec![
            ContentPiece {
                range: 0..first.len(),
                shape: Shape::Body {
                    header: b"Content-Type: text/plain\r\n\r\n".to_vec(),
                    hints: Vec::new(),
                },
            },
            ContentPiece {
                range: first.len()..octets.len(),
                shape: Shape::Body { header: names.to_vec(), hints: Vec::new() },
            },
        ]
    };
    let judged = |header: &[u8]| {
        let case =
            Case { octets: octets.clone().into_bytes(), pieces: pieces(header), describes_allowed: false };
        match judge(case, &denying().judge, &AtomicBool::new(false)) {
            Judged::Final { octets, leaves } => (String::from_utf8(octets).unwrap(), leaves),
            Judged::Unavailable { why } => panic!("{why:?}"),
        }
    };
    let (after, leaves) = judged(&header);
    assert!(after.starts_with("[This attachment was removed by the ") && !after.contains("file"), "{after}");
    assert_eq!(
        leaves.iter().map(|leaf| (leaf.piece, leaf.action)).collect::<Vec<_>>(),
        [(0, DENY), (1, DENY)]
    );
    assert!(leaves[0].file.is_some(), "records name what went with it");
    let (after, leaves) = judged(b"Content-Type: text/plain\r\n\r\n");
    assert_eq!(after, octets);
    assert!(leaves.iter().all(|leaf| leaf.action == ALLOW));
}

#[test]
fn what_denies_an_encoded_message_denies_the_mail_around_it() {
    let inside = mail("Content-Disposition: attachment; filename=a.exe", "x");
    let header = "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64";
    let (after, leaves) = denying().judged(&mail(header, &base64_lines(inside.as_bytes())));
    assert!(!after.contains("Hello"), "{after}");
    assert!(leaves.iter().all(|leaf| leaf.action == DENY), "{leaves:?}");
}

#[test]
fn a_signed_mail_of_which_a_part_is_removed_goes_as_the_owner_says() {
    let signed = mail("Content-Disposition: attachment; filename=a.exe", "the file")
        .replace("multipart/mixed", "multipart/signed");
    for (word, is_denied) in [("remove", false), ("deny", true)] {
        let judging = judging(&format!("names = [\"*.exe\"]\nsigned = \"{word}\""));
        assert_eq!(!judging.judged(&signed).0.contains("Hello"), is_denied, "{word}");
        let plain = signed.replace("multipart/signed", "multipart/mixed ");
        assert!(judging.judged(&plain).0.contains("Hello"), "a mail that is not signed");
        assert!(
            judging.judged(&signed.replace("a.exe", "a.txt")).0.contains("the file"),
            "nothing is removed"
        );
    }
}

#[test]
fn mail_beyond_the_limits_goes_as_the_owner_says() {
    let mut message = "Content-Type: multipart/mixed; boundary=b\r\n\r\n".to_owned();
    message.push_str(&"--b\r\n\r\nx\r\n".repeat(crate::content::limits::BLOCKS_MAX + 1));
    for (word, expected) in [("allow", ALLOW), ("remove", REMOVE), ("deny", DENY)] {
        let judging = judging(&format!("[action.content.verdicts]\nmime_limits = \"{word}\"\n"));
        let (after, leaves) = judging.judged(&message);
        assert_eq!(after == message, expected == ALLOW, "{word}");
        assert_eq!(leaves[0].action, expected);
        assert_eq!(leaves[0].rule, Some(RuleName::Condition(Condition::MimeLimits)));
    }
}

#[test]
fn the_reader_is_told_in_the_words_of_the_owner() {
    let judging = judging(
        "names = [\"*.exe\"]\ndeny_language = \"fr\"\ndeny_message = \"%(filename)% %(action)%. %(reason)%. Tél. 4711\"",
    );
    let body = "a line that is wide enough for any word that is written here\r\n".repeat(5);
    let (after, _) =
        judging.judged(&mail("Content-Disposition: attachment; filename=\"caf\u{e9}.exe\"", &body));
    let words: Vec<&str> = after.split_ascii_whitespace().collect();
    let said =
        "cafe.exe supprime. les fichiers dont le nom ressemble a *.exe ne sont pas autorises. Tel. 4711";
    assert!(words.join(" ").contains(said), "{after}");
}

#[test]
fn settings_that_change_verdicts_or_words_change_the_generation() {
    use crate::vault::RuleGeneration;
    let of = |lines: &str| RuleGeneration::of(&settings(lines), 1).unwrap();
    let all = [
        "",
        "detect_types = false",
        "types_unmatched = \"deny\"",
        "names_unmatched = \"deny\"",
        "signed = \"deny\"",
        "deny_language = \"de\"",
        "deny_message = \"x\"",
        "lists = [\"scripts\"]",
        "[action.content.verdicts]\nmacro = \"deny\"",
        "[[action.content.list_rule]]\nlist = \"scripts\"\naction = \"deny\"",
    ];
    for (index, lines) in all.iter().enumerate() {
        for other in all.get(..index).unwrap() {
            assert_ne!(of(lines), of(other), "{lines:?} {other:?}");
        }
    }
}

fn action_of(rules: &Rules, name: &str, place: FilePlace) -> LeafOutcome {
    let names = [name.to_owned()];
    rules
        .file(&RuledFile { names: &names, declared_types: &[], real_type: None, octets: b"x", place })
        .outcome
}

#[test]
fn an_exact_name_is_an_exception_also_in_a_folder_of_an_archive() {
    let lines = "lists = [\"executables\"]\nname_rule = [{ match = \"setup.jar\", action = \"allow\" }]\n";
    let rules = Rules::of(&settings(lines), Arc::default()).unwrap();
    for name in ["setup.jar", "app/setup.jar", "app\\setup.jar"] {
        assert_eq!(action_of(&rules, name, FilePlace::Inside), LeafOutcome::Allow, "{name}");
    }
    assert!(matches!(action_of(&rules, "app/other.jar", FilePlace::Inside), LeafOutcome::Remove(_)));
}

#[test]
fn what_no_entry_fits_is_forbidden_as_a_part_and_scanned_inside_another_file() {
    let lines = "names_unmatched = \"remove\"\ntypes_unmatched = \"remove\"\n\
                 name_rule = [{ match = \"*.docx\", action = \"av_scan\" }]\n";
    let rules = Rules::of(&settings(lines), Arc::default()).unwrap();
    assert!(matches!(action_of(&rules, "document.xml", FilePlace::Part), LeafOutcome::Remove(_)));
    for place in [FilePlace::Inside, FilePlace::InDocument] {
        assert_eq!(action_of(&rules, "word/document.xml", place), LeafOutcome::Allow);
    }
}

#[test]
fn a_picture_of_a_document_is_no_page_that_somebody_attached() {
    let rules =
        Rules::of(&settings("lists = [\"html_attachments\", \"scripts\"]\n"), Arc::default()).unwrap();
    let name = "word/media/image1.svg";
    assert_eq!(action_of(&rules, name, FilePlace::InDocument), LeafOutcome::Allow);
    assert!(matches!(action_of(&rules, name, FilePlace::Inside), LeafOutcome::Remove(_)));
    assert!(matches!(action_of(&rules, "word/a.js", FilePlace::InDocument), LeafOutcome::Remove(_)));
}
