//! docs/records.md and the code have the same reasons and fields of a record, in both directions.
//!
//! The code is read as text. So a token must stand in the match of a `fn reason`, and a field's name where it is set.
//! In any other form this test would not find them, and fails.
#![expect(clippy::panic, clippy::expect_used, reason = "helpers of tests stop the test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use postern::words::{Direction, Side};

/// How a function begins that gives `event.reason` or a part of it.
const REASON: &str = "fn reason(";
/// How a function begins that gives `postern.stage`.
const STAGE: &str = "fn stage(";
/// What a field is set with, in record/.
const SETS: [&str; 2] = ["self.set(", "self.set_known("];
/// The line that parts the page's two tables.
const REASONS: &str = "\n## Reasons\n";

fn tree() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A source file without its unit tests, which stand last.
fn code(path: &Path) -> String {
    let text = read(path);
    text.split("\n#[cfg(test)]\nmod tests {\n").next().unwrap_or_default().to_owned()
}

/// Every source file of the daemon.
fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).expect("a directory of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// The fields' and the reasons' part of the page.
fn page() -> [String; 2] {
    let text = read(&tree().join("../docs/records.md"));
    let (fields, reasons) = text.split_once(REASONS).expect("a section of reasons");
    [fields.to_owned(), reasons.split("\n## ").next().unwrap_or_default().to_owned()]
}

/// What stands between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The words in the first cells of a table; each stands there once.
fn first_cells(table: &str) -> BTreeSet<String> {
    let mut words = BTreeSet::new();
    for row in
        table.lines().skip_while(|line| !line.starts_with("|---")).filter(|line| line.starts_with("| `"))
    {
        for word in quoted(row.split(" | ").next().unwrap_or_default()) {
            assert!(words.insert(word.to_owned()), "docs/records.md has two rows for `{word}`");
        }
    }
    words
}

/// The tokens that functions which begin like this give, in one file.
fn tokens(path: &Path, function: &str) -> BTreeSet<String> {
    let text = code(path);
    let mut lines = text.lines();
    let mut tokens = BTreeSet::new();
    while let Some(head) = lines.by_ref().find(|line| line.contains(function)) {
        let indent: String = head.chars().take_while(|letter| *letter == ' ').collect();
        let end = format!("{indent}}}");
        for line in lines.by_ref().take_while(|line| **line != end) {
            let place = format!("{}, {function}…): {}", path.display(), line.trim());
            if let Some((_, value)) = line.split_once("=>") {
                let value = value.trim();
                let is_token = value.starts_with('"') && value.ends_with("\",");
                let goes_on = value.ends_with('{') || value.ends_with(".reason(),");
                assert!(is_token || goes_on, "write the token here, so that it is found: {place}");
            }
            for token in line.split('"').skip(1).step_by(2) {
                let plain =
                    |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_';
                assert!(!token.is_empty() && token.chars().all(plain), "no token of a record: {place}");
                tokens.insert(token.to_owned());
            }
        }
    }
    tokens
}

/// The names that a pattern of `format!` stands for.
fn expanded(pattern: &str) -> Vec<String> {
    let sides = [Side::Downstream, Side::Upstream].map(Side::as_str);
    let directions = [Direction::ClientToServer, Direction::ServerToClient].map(Direction::as_str);
    let holes =
        [("{side}", sides), ("{direction}", directions), ("{prefix}", ["tls", "postern.upstream.tls"])];
    for (hole, words) in holes {
        if pattern.contains(hole) {
            return words.iter().flat_map(|word| expanded(&pattern.replace(hole, word))).collect();
        }
    }
    assert!(!pattern.contains('{'), "tell this test what a hole stands for: {pattern}");
    vec![pattern.to_owned()]
}

/// The names that record/ sets.
fn fields() -> BTreeSet<String> {
    let files = sources(&tree().join("src/record"));
    let text: String = files.iter().map(|path| code(path)).collect();
    assert_eq!(text.matches(".insert(").count(), 1, "fields are set by `LineFields::set` alone");
    // Setters hand a name on that their callers gave them.
    assert_eq!(
        text.matches("self.set(name, value)").count(),
        1,
        "`set_known` alone hands a name on to `set`"
    );
    let text = text.replace("self.set(name, value)", "");
    let mut names = BTreeSet::new();
    for rest in SETS.iter().flat_map(|set| text.split(set).skip(1)) {
        let value = rest.trim_start();
        let value = value.strip_prefix("&format!(").map_or(value, str::trim_start);
        let Some((name, _)) = value.strip_prefix('"').and_then(|value| value.split_once('"')) else {
            panic!("write the field's name where it is set, so that it is found: {rest:.60}…");
        };
        names.extend(expanded(name));
    }
    names
}

/// Both have the same words.
fn assert_same(what: &str, code: &BTreeSet<String>, page: &BTreeSet<String>) {
    let undocumented: Vec<_> = code.difference(page).collect();
    let unwritten: Vec<_> = page.difference(code).collect();
    assert!(
        undocumented.is_empty() && unwritten.is_empty(),
        "{what}: the code has {undocumented:?}, which docs/records.md lacks; docs/records.md has {unwritten:?}, which no \
         code writes"
    );
}

#[test]
fn every_reason_of_the_code_stands_in_the_page_and_every_reason_of_the_page_in_the_code() {
    let mut reasons = BTreeSet::new();
    for path in sources(&tree().join("src")) {
        let found = tokens(&path, REASON);
        assert!(
            !code(&path).contains(REASON) || !found.is_empty(),
            "{} has a `fn reason` without a token",
            path.display()
        );
        reasons.extend(found);
    }
    let [_, page] = page();
    assert_same("reasons", &reasons, &first_cells(&page));
}

#[test]
fn every_field_of_a_record_stands_in_the_page_and_every_field_of_the_page_is_set() {
    let [page, _] = page();
    assert_same("fields", &fields(), &first_cells(&page));
}

#[test]
fn the_stages_and_sides_of_the_page_are_those_of_the_code() {
    let mut words = tokens(&tree().join("src/failure.rs"), STAGE);
    words.extend([Side::Downstream, Side::Upstream].map(|side| side.as_str().to_owned()));
    let [page, _] = page();
    let row = page.lines().find(|line| line.contains("`postern.stage`")).expect("a row of stages");
    let (_, values) = row.trim_start_matches("| ").split_once(" | ").expect("two cells");
    assert_same("stages and sides", &words, &quoted(values).map(str::to_owned).collect());
}
