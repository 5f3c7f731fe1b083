//! docs/imap.md says what the tables of the engine say, and names tests that exist.
#![expect(
    clippy::unwrap_used,
    reason = "a test file: helpers stand outside of the test functions that clippy.toml exempts"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use postern::inspect::allow::{
    Mechanism, Treatment, built_on, capability_rows, codes, hideable, mechanism_rows,
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The rows of the page's section, cell by cell.
fn rows(section: &str) -> Vec<Vec<String>> {
    let page = fs::read_to_string(root().join("docs/imap.md")).unwrap();
    let body = page.split("\n## ").find(|body| body.starts_with(section)).unwrap();
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
    body.lines().filter(|line| line.starts_with('|')).skip(2).map(cells).collect()
}

fn code(text: &str) -> String {
    format!("`{text}`")
}

#[test]
fn every_capability_stands_in_the_page_with_what_becomes_of_it() {
    let expected: Vec<Vec<String>> = capability_rows()
        .map(|(name, treatment)| match treatment {
            Treatment::Pass => vec![code(&name), "in".to_owned()],
            Treatment::Hide(why) => vec![code(&name), "out".to_owned(), why.to_owned()],
            Treatment::LiteralMinus => vec![code(&name), "shown as `LITERAL-`".to_owned()],
            Treatment::AppendLimit => vec![code(&name), "lowered".to_owned()],
            Treatment::Mechanism => vec![code(&name), "by mechanism".to_owned()],
        })
        .collect();
    let shown = rows("Extensions");
    assert_eq!(shown.len(), expected.len());
    for (shown, expected) in shown.iter().zip(&expected) {
        assert_eq!(&shown[..expected.len()], expected);
        assert!(!shown[2].is_empty(), "{shown:?} names no document");
    }
}

#[test]
fn every_capability_that_can_be_hidden_stands_in_the_page_with_what_it_hides() {
    let expected: Vec<Vec<String>> = hideable()
        .map(|name| {
            let also: Vec<String> = built_on(name).iter().map(|name| code(name)).collect();
            vec![code(name), also.join(", ")]
        })
        .collect();
    let shown = rows("What a policy hides beside that");
    let end = shown.iter().position(|row| row.len() != 3).unwrap();
    assert_eq!(shown[..end].iter().map(|row| row[..2].to_vec()).collect::<Vec<_>>(), expected);
}

#[test]
fn every_sasl_mechanism_stands_in_the_page_with_what_becomes_of_it() {
    let shown = rows("Logins");
    let expected: Vec<_> = mechanism_rows().collect();
    assert_eq!(shown.len(), expected.len());
    for (shown, (name, mechanism)) in shown.iter().zip(expected) {
        assert_eq!(shown[0], code(name));
        match mechanism {
            Mechanism::Pass => assert_eq!(shown[1], "in"),
            Mechanism::UnlessPlus => assert_eq!(shown[1], "in, where the server offers no `-PLUS` form"),
            Mechanism::Refuse(why) => assert_eq!((shown[1].as_str(), shown[2].as_str()), ("out", why)),
        }
    }
}

#[test]
fn every_response_code_that_passes_stands_in_the_page() {
    let page = fs::read_to_string(root().join("docs/imap.md")).unwrap();
    let body = page.split("\n## ").find(|body| body.starts_with("Response codes")).unwrap();
    let shown: BTreeSet<&str> = body.split('`').skip(1).step_by(2).collect();
    assert_eq!(shown, codes().collect());
}

#[test]
fn every_way_to_mail_names_a_test_that_exists() {
    fn sources(folder: &Path, text: &mut String) {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                sources(&path, text);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                text.push_str(&fs::read_to_string(&path).unwrap());
            }
        }
    }
    let mut text = String::new();
    for folder in ["proxy-userspace/src/inspect", "tests/tests"] {
        sources(&root().join(folder), &mut text);
    }
    let ways = rows("Ways to mail");
    assert!(ways.len() > 10);
    for way in ways {
        for test in way[2].split(", ").map(|test| test.trim_matches('`')) {
            // Those of tests/tests/mediation/ways.rs stand in a table.
            let exists =
                text.contains(&format!("fn {test}(")) || text.contains(&format!("\n    {test}: Lead"));
            assert!(exists, "{} names the test {test}, which does not exist", way[0]);
        }
    }
}
