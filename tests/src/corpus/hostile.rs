//! Messages with something forbidden in them, under the rules `names = ["*.exe"]`, `types = ["executable"]` and EICAR.

use super::make::{base64, eicar, noise, portable_executable, quoted_printable};
use super::{Piece, Sample};

/// The header of a message, up to the fields that a sample adds.
fn top(subject: &str) -> String {
    format!(
        "From: Mallory <mallory@lab.test>\r\nTo: alice@lab.test\r\nDate: Tue, 24 Nov 2026 08:00:00 +0000\r\n\
         Message-ID: <{}@lab.test>\r\nSubject: {subject}\r\nMIME-Version: 1.0\r\n",
        subject.replace(' ', "-")
    )
}

fn text(octets: impl Into<Vec<u8>>) -> Piece {
    Piece::Text(octets.into())
}

/// A multipart/mixed: a text, and a part with this header whose body is one leaf.
fn attached(name: &'static str, header: &str, encoded: Vec<u8>, content: Vec<u8>) -> Sample {
    let before = format!(
        "{}Content-Type: multipart/mixed; boundary=\"cut\"\r\n\r\nThis is MIME.\r\n--cut\r\n\
         Content-Type: text/plain; charset=utf-8\r\n\r\nSee the attachment.\r\n\r\n--cut\r\n{header}\r\n\r\n",
        top(name)
    );
    Sample::of(
        name,
        vec![text(before), Piece::Leaf(encoded, content), text("\r\n--cut--\r\nBehind the last part.\r\n")],
    )
}

/// The line end before a boundary belongs to the boundary.
fn without_last_line_end(mut octets: Vec<u8>) -> Vec<u8> {
    if octets.ends_with(b"\r\n") {
        octets.truncate(octets.len() - 2);
    }
    octets
}

fn encoded(content: &[u8]) -> Vec<u8> {
    without_last_line_end(base64(content))
}

/// A harmless text, forbidden only by the name that it has.
fn harmless() -> Vec<u8> {
    let words =
        (0..20).map(|number| format!("Line {number} of a text that does no harm to anybody at all.\r\n"));
    words.collect::<String>().into_bytes()
}

fn named(name: &'static str, disposition: &str) -> Sample {
    let header = format!(
        "Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n{disposition}"
    );
    attached(name, &header, encoded(&harmless()), harmless())
}

/// A program as an attachment, in base64.
#[must_use]
pub fn pe_message() -> Sample {
    let header = "Content-Type: application/octet-stream; name=\"setup.exe\"\r\n\
                  Content-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename=\"setup.exe\"";
    attached("program", header, encoded(&portable_executable()), portable_executable())
}

/// The test virus as an attachment, in base64. Blanks behind it (up to 128 octets are allowed in all) give the reason
/// for its removal room.
#[must_use]
pub fn eicar_message() -> Sample {
    const BLANKS: usize = 60;
    let header = "Content-Type: application/octet-stream; name=\"eicar.com\"\r\n\
                  Content-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename=\"eicar.com\"";
    let content = [eicar(), vec![b' '; BLANKS]].concat();
    attached("test virus", header, encoded(&content), content)
}

/// All of them, none large.
#[must_use]
pub fn hostile() -> Vec<Sample> {
    let mut all = vec![pe_message()];
    all.extend(contents());
    all.extend(names());
    all.extend(nested());
    all.extend(malformed());
    all
}

fn contents() -> Vec<Sample> {
    let text_part = |encoding: &str| {
        format!("Content-Type: text/plain; name=\"test.txt\"\r\nContent-Transfer-Encoding: {encoding}")
    };
    let picture = "Content-Type: image/jpeg; name=\"photo.jpg\"\r\nContent-Transfer-Encoding: base64";
    let single = format!(
        "{}Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\
         Content-Disposition: attachment; filename=setup.exe\r\n\r\n",
        top("single program")
    );
    let plain = format!("{}Content-Type: text/plain\r\n\r\n", top("single text"));
    vec![
        attached("eicar in clear", &text_part("7bit"), eicar(), eicar()),
        attached("eicar in base64", &text_part("base64"), encoded(&eicar()), eicar()),
        attached(
            "eicar in quoted-printable",
            &text_part("quoted-printable"),
            without_last_line_end(quoted_printable(&eicar())),
            eicar(),
        ),
        attached(
            "encoding with a comment",
            &text_part("(the) BASE64 (encoding)"),
            encoded(&eicar()),
            eicar(),
        ),
        attached(
            "program with the name of a picture",
            picture,
            encoded(&portable_executable()),
            portable_executable(),
        ),
        Sample::of(
            "single program",
            vec![text(single), Piece::Leaf(base64(&portable_executable()), portable_executable())],
        ),
        Sample::of("single text", vec![text(plain), Piece::Leaf(eicar(), eicar()), text("\r\n")]),
    ]
}

fn names() -> Vec<Sample> {
    vec![
        named("name", "Content-Disposition: attachment; filename=\"invoice.EXE\""),
        named("name of RFC 2231", "Content-Disposition: attachment; filename*=utf-8''r%C3%A9sum%C3%A9%2Eexe"),
        named(
            "name of RFC 2231 in pieces",
            "Content-Disposition: attachment;\r\n filename*0=\"inv\";\r\n filename*1=\"oice.e\";\r\n filename*2=xe",
        ),
        named(
            "name of RFC 2047",
            "Content-Disposition: attachment; filename=\"=?utf-8?B?aW52b2ljZS5leGU=?=\"",
        ),
        attached(
            "name in the type",
            "Content-Type: application/octet-stream; name=invoice.exe\r\nContent-Transfer-Encoding: base64",
            encoded(&harmless()),
            harmless(),
        ),
    ]
}

fn nested() -> Vec<Sample> {
    let inner = format!(
        "{}Content-Type: multipart/mixed; boundary=inner\r\n\r\n--inner\r\nContent-Type: text/plain\r\n\r\n\
         Inside.\r\n--inner\r\nContent-Type: application/octet-stream; name=setup.exe\r\n\
         Content-Transfer-Encoding: base64\r\n\r\n",
        top("inner")
    );
    let outer = |name: &str| {
        format!(
            "{}Content-Type: multipart/mixed; boundary=outer\r\n\r\n--outer\r\nContent-Type: text/plain\r\n\r\n\
             Outside.\r\n--outer\r\n",
            top(name)
        )
    };
    let program = || Piece::Leaf(encoded(&portable_executable()), portable_executable());
    let whole =
        [inner.clone().into_bytes(), base64(&portable_executable()), b"--inner--\r\n".to_vec()].concat();
    vec![
        Sample::of(
            "program in a message in a message",
            vec![
                text(format!("{}Content-Type: message/rfc822\r\n\r\n{inner}", outer("nested"))),
                program(),
                text("\r\n--inner--\r\n\r\n--outer--\r\n"),
            ],
        ),
        Sample::of(
            "message in base64",
            vec![
                text(format!(
                    "{}Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n",
                    outer("message in base64")
                )),
                Piece::Leaf(encoded(&whole), portable_executable()),
                text("\r\n--outer--\r\n"),
            ],
        ),
        Sample::of(
            "alternative in mixed",
            vec![
                text(format!(
                    "{}Content-Type: multipart/alternative; boundary=alt\r\n\r\n--alt\r\n\
                     Content-Type: text/plain\r\n\r\nPlain.\r\n--alt\r\nContent-Type: text/html\r\n\r\n\
                     <p>Plain.</p>\r\n--alt--\r\n\r\n--outer\r\n\
                     Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n",
                    outer("alternative")
                )),
                program(),
                text("\r\n--outer--\r\n"),
            ],
        ),
    ]
}

/// Servers and clients read these in different ways.
fn malformed() -> Vec<Sample> {
    let part = "Content-Type: application/octet-stream; name=x\r\nContent-Transfer-Encoding: base64\r\n\r\n";
    let program = || Piece::Leaf(encoded(&portable_executable()), portable_executable());
    let doubt = |octets: &str| Piece::Doubt(octets.as_bytes().to_vec());
    vec![
        Sample::of(
            "two types",
            vec![
                text(format!(
                    "{}Content-Type: text/plain\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n",
                    top("two types")
                )),
                doubt(&format!("--b\r\n{part}")),
                program(),
                doubt("\r\n--b--\r\n"),
            ],
        ),
        Sample::of(
            "no end boundary",
            vec![
                text(format!(
                    "{}Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n{part}",
                    top("no end boundary")
                )),
                Piece::Leaf(base64(&portable_executable()), portable_executable()),
            ],
        ),
        Sample::of(
            "part without an empty line",
            vec![
                text(format!(
                    "{}Content-Type: multipart/mixed; boundary=b\r\n\r\n",
                    top("part without an empty line")
                )),
                doubt("--b\r\n"),
                Piece::Leaf(eicar(), eicar()),
                doubt("\r\n--b\r\nContent-Type: text/plain\r\n\r\nNext.\r\n--b--\r\n"),
            ],
        ),
        Sample::of(
            "multipart without MIME-Version",
            vec![
                text(format!(
                    "{}Content-Type: multipart/mixed; boundary=b\r\n\r\n",
                    top("no version").replace("MIME-Version: 1.0\r\n", "")
                )),
                doubt(&format!("--b\r\n{part}")),
                program(),
                doubt("\r\n--b--\r\n"),
            ],
        ),
        Sample::of(
            "boundary that begins like another",
            vec![
                text(format!(
                    "{}Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\
                     Content-Type: multipart/mixed; boundary=bb\r\n\r\n",
                    top("boundaries")
                )),
                doubt(&format!("--bb\r\n{part}")),
                program(),
                doubt("\r\n--bb--\r\n\r\n"),
                text("--b--\r\n"),
            ],
        ),
    ]
}

/// The forbidden part last, behind an attachment of this many octets.
#[must_use]
pub fn hostile_large(octets: usize) -> Sample {
    let before = format!(
        "{}Content-Type: multipart/mixed; boundary=\"cut\"\r\n\r\n--cut\r\n\
         Content-Type: application/octet-stream; name=large.bin\r\nContent-Transfer-Encoding: base64\r\n\r\n",
        top("large")
    );
    let between = "\r\n--cut\r\nContent-Type: application/octet-stream; name=setup.exe\r\n\
                   Content-Transfer-Encoding: base64\r\n\r\n";
    Sample::of(
        "large, the program last",
        vec![
            text([before.into_bytes(), encoded(&noise(octets, 3))].concat()),
            text(between),
            Piece::Leaf(encoded(&portable_executable()), portable_executable()),
            text("\r\n--cut--\r\n"),
        ],
    )
}
