//! What two public parsers show their users: a forbidden leaf that either of them shows was removed.

use std::path::PathBuf;
use std::process::Command;

use mail_parser::{MessageParser, PartType};
use proptest::prelude::*;

use super::super::eicar::test_string;
use super::super::samples::*;
use super::super::*;
use super::hidden::leaf_judge;

/// Messages inside each other that are followed. `mail-parser` recurses without a bound.
const DEPTH_MAX: u32 = 6;
/// Octets of a message of the collection that is judged, and leaves of one that are replaced.
const MESSAGE_BYTES_MAX: u64 = 64 << 10;
const LEAVES_MAX: usize = 5;

fn leaves_of_mail_parser(message: &[u8]) -> Vec<Vec<u8>> {
    fn collect(message: &mail_parser::Message<'_>, depth: u32, leaves: &mut Vec<Vec<u8>>) {
        for part in &message.parts {
            match &part.body {
                PartType::Text(text) | PartType::Html(text) => leaves.push(text.as_bytes().to_vec()),
                PartType::Binary(octets) | PartType::InlineBinary(octets) => leaves.push(octets.to_vec()),
                PartType::Message(inner) if depth < DEPTH_MAX => collect(inner, depth + 1, leaves),
                PartType::Message(_) | PartType::Multipart(_) => {}
            }
        }
    }
    let mut leaves = Vec::new();
    if let Some(message) = MessageParser::default().parse(message) {
        collect(&message, 0, &mut leaves);
    }
    leaves
}

fn leaves_of_mailparse(message: &[u8]) -> Vec<Vec<u8>> {
    fn collect(part: &mailparse::ParsedMail<'_>, depth: u32, leaves: &mut Vec<Vec<u8>>) {
        let body = part.get_body_raw().unwrap_or_default();
        if part.ctype.mimetype == "message/rfc822" && depth < DEPTH_MAX {
            if let Ok(inner) = mailparse::parse_mail(&body) {
                collect(&inner, depth + 1, leaves);
            }
        } else if part.subparts.is_empty() {
            leaves.push(body);
        }
        part.subparts.iter().filter(|_| depth < DEPTH_MAX).for_each(|part| collect(part, depth + 1, leaves));
    }
    let mut leaves = Vec::new();
    if let Ok(message) = mailparse::parse_mail(message) {
        collect(&message, 0, &mut leaves);
    }
    leaves
}

/// Whether a user is shown a forbidden leaf, by each of the parsers.
fn shows(message: &[u8]) -> [bool; 2] {
    let eicar = test_string();
    let is_forbidden = |leaf: &Vec<u8>| {
        leaf.starts_with(&program()) || leaf.windows(eicar.len()).any(|window| window == eicar)
    };
    [leaves_of_mail_parser(message), leaves_of_mailparse(message)]
        .map(|leaves| leaves.iter().any(is_forbidden))
}

fn judged_whole(message: &[u8]) -> Vec<u8> {
    let (octets, _) = judged_by(&leaf_judge(), message, Shape::Message);
    assert_same_lines(message, &octets);
    octets
}

#[track_caller]
fn assert_hidden(name: &str, message: &[u8]) {
    let after = judged_whole(message);
    assert_eq!(shows(&after), [false; 2], "{name}:\n{}", String::from_utf8_lossy(message));
}

#[test]
fn what_a_public_parser_shows_of_an_odd_message_is_removed() {
    let lines = base64_lines(&program());
    let part = format!(
        "Content-Type: application/x; name=a\r\nContent-Transfer-Encoding: base64\r\n\r\n{lines}\r\n"
    );
    let around = |kind: &str, body: &str| {
        format!("From: a@b\r\nMIME-Version: 1.0\r\nContent-Type: {kind}\r\n\r\n{body}")
    };
    let mixed = |parameter: &str, body: &str| around(&format!("multipart/mixed; {parameter}"), body);
    let qp: String = program().iter().map(|octet| format!("={octet:02X}=\r\n")).collect();
    let dirty: String =
        lines.chars().map(|c| if c == '\r' { " \r".to_owned() } else { c.to_string() }).collect();
    let table = [
        ("plain", mixed("boundary=b", &format!("--b\r\n{part}--b--"))),
        ("no end", mixed("boundary=b", &format!("--b\r\n{part}"))),
        ("line feeds", mixed("boundary=b", &format!("--b\r\n{part}--b--")).replace("\r\n", "\n")),
        ("blanks behind the delimiter", mixed("boundary=b", &format!("--b  \r\n{part}--b--"))),
        ("boundary of RFC 2231", mixed("boundary*0=b; boundary*1=c", &format!("--bc\r\n{part}--bc--"))),
        ("in a mail", around("message/rfc822", &part)),
        (
            "no multipart at all",
            around("text/plain", "x").replace("text/plain\r\n\r\nx", &part["Content-Type: ".len()..]),
        ),
        (
            "quoted-printable of odd lines",
            around("application/x\r\nContent-Transfer-Encoding: quoted-printable", &qp),
        ),
        ("base64 with blanks", around("application/x\r\nContent-Transfer-Encoding: base64", &dirty)),
        ("encoding in capitals", around("application/x\r\nContent-Transfer-Encoding: BASE64", &lines)),
        (
            "two types",
            around("text/plain\r\nContent-Type: multipart/mixed; boundary=b", &format!("--b\r\n{part}--b--")),
        ),
        ("digest", around("multipart/digest; boundary=b", &format!("--b\r\n\r\nSubject: x\r\n{part}--b--"))),
    ];
    let mut shown = [0; 2];
    let mut unseen = Vec::new();
    for (name, message) in &table {
        let before = shows(message.as_bytes());
        shown = [shown[0] + usize::from(before[0]), shown[1] + usize::from(before[1])];
        if before == [false; 2] {
            unseen.push(name);
        }
        assert_hidden(name, message.as_bytes());
    }
    assert!(shown[0] > 5 && shown[1] > 5, "{shown:?}");
    assert!(unseen.is_empty(), "no parser shows these: {unseen:?}");
}

/// The messages with which one of the parsers is tested: its package carries them.
fn collection() -> Vec<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // Packages of other platforms need not be there.
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = Command::new(cargo)
        .args([
            "metadata",
            "--format-version",
            "1",
            "--offline",
            "--filter-platform",
            &platform,
            "--manifest-path",
        ])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .output()
        .unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let package = packages.iter().find(|package| package["name"] == "mail-parser").unwrap();
    let manifest = PathBuf::from(package["manifest_path"].as_str().unwrap());
    let mut folders = vec![manifest.parent().unwrap().join("resources/eml")];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "eml") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

#[test]
fn a_forbidden_leaf_in_any_message_of_a_parsers_collection_is_removed() {
    let payloads = [base64_lines(&program()).into_bytes(), test_string()];
    let mut shown = 0;
    for path in collection() {
        if std::fs::metadata(&path).unwrap().len() > MESSAGE_BYTES_MAX {
            continue;
        }
        let message = std::fs::read(&path).unwrap();
        judged_whole(&message);
        let Some(parsed) = MessageParser::default().parse(&message) else { continue };
        let bodies: Vec<_> =
            parsed.parts.iter().map(|part| part.offset_body as usize..part.offset_end as usize).collect();
        for body in bodies.into_iter().filter(|body| body.start < body.end).take(LEAVES_MAX) {
            for payload in &payloads {
                let (Some(before), Some(behind)) = (message.get(..body.start), message.get(body.end..))
                else {
                    continue;
                };
                let changed = [before, payload, b"\r\n", behind].concat();
                shown += usize::from(shows(&changed).contains(&true));
                assert_hidden(&path.display().to_string(), &changed);
            }
        }
    }
    assert!(shown > 100, "{shown}");
}

/// A part with its header, odd in one way or another.
fn parts() -> impl Strategy<Value = String> {
    let leaf = (0usize..6, prop::sample::select(vec!["", "X: y\r\n", "Content-Type: text/html\r\n", "junk\r\n", " folded\r\n"])).prop_map(
        |(kind, field)| {
            let lines = base64_lines(&program());
            let eicar = String::from_utf8(test_string()).unwrap();
            match kind {
                0 => format!("{field}Content-Transfer-Encoding: base64\r\nContent-Type: application/x\r\n\r\n{lines}\r\n"),
                1 => format!("Content-Type: image/png\r\n{field}Content-Transfer-Encoding:\r\n base64\r\n\r\n{lines}"),
                2 => format!("{field}Content-Type: text/plain\r\n\r\n{eicar}\r\n"),
                3 => format!("{field}Content-Transfer-Encoding: quoted-printable\r\n\r\n{}\r\n", quoted_printable(eicar.as_bytes())),
                4 => format!("{field}Content-Type: text/plain\r\n\r\nHello\r\n"),
                _ => format!("{field}\r\n{}\r\n", base64_lines(&test_string())),
            }
        },
    );
    leaf.prop_recursive(3, 12, 3, |inner| {
        let boundary = prop::sample::select(vec!["b", "bb", "b=_1", "b b", "--b", "b(x)"]);
        let form = 0usize..6;
        let end = prop::sample::select(vec!["--\r\n", "--", "", "-- \r\n--", "\r\n"]);
        let between = prop::sample::select(vec!["", "\r\n", "text\r\n", "\n", "--\r\n", "--bx\r\n"]);
        (boundary, form, end, between, prop::collection::vec(inner, 1..3)).prop_map(
            |(boundary, form, end, between, children)| {
                let kind = match form {
                    0 => format!("multipart/mixed; boundary={boundary}"),
                    1 => format!("multipart/mixed; boundary=\"{boundary}\""),
                    2 => format!("multipart/mixed; boundary=x; boundary=\"{boundary}\""),
                    3 => format!("multipart/alternative;\r\n\tboundary=\"{boundary}\"; charset=x"),
                    4 => format!("multipart/digest; boundary=\"{boundary}\""),
                    _ => return format!("Content-Type: message/rfc822\r\n\r\n{}", children.concat()),
                };
                let body: String =
                    children.iter().map(|child| format!("--{boundary}\r\n{child}{between}\r\n")).collect();
                format!("Content-Type: {kind}\r\n\r\n{between}{body}--{boundary}{end}")
            },
        )
    })
}

proptest! {
    #[test]
    fn what_a_public_parser_shows_of_any_message_is_removed(
        part in parts(),
        cut in any::<prop::sample::Index>(),
        is_cut in any::<bool>(),
        has_line_feeds in any::<bool>(),
    ) {
        let mut message = format!("MIME-Version: 1.0\r\n{part}");
        if is_cut {
            message.truncate(cut.index(message.len()));
        }
        if has_line_feeds {
            message = message.replace("\r\n", "\n");
        }
        assert_hidden("", message.as_bytes());
    }
}
