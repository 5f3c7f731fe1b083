//! Messages in which nothing is forbidden.

use super::Sample;
use super::make::{base64, noise, quoted_printable, zip};

/// The size of the large attachment, before base64.
const LARGE_BYTES: usize = 2 * 1000 * 1000;

fn top(subject: &str) -> String {
    format!(
        "From: Bob <bob@lab.test>\r\nTo: alice@lab.test\r\nDate: Tue, 24 Nov 2026 08:00:00 +0000\r\n\
         Message-ID: <{}@lab.test>\r\nSubject: {subject}\r\nMIME-Version: 1.0\r\n",
        subject.replace(' ', "-")
    )
}

fn message(name: &'static str, rest: &str) -> Sample {
    Sample::clean(name, format!("{}{rest}", top(name)).into_bytes())
}

fn octets(name: &'static str, header: &str, body: &[u8]) -> Sample {
    Sample::clean(name, [format!("{}{header}\r\n\r\n", top(name)).as_bytes(), body].concat())
}

/// All of them; one is large.
#[must_use]
pub fn clean() -> Vec<Sample> {
    let mut all = clean_small();
    let attachment = [
        b"--b\r\nContent-Type: text/plain\r\n\r\nA picture.\r\n--b\r\nContent-Type: image/png; name=\"large.png\"\r\n\
          Content-Transfer-Encoding: base64\r\n\r\n"
            .to_vec(),
        base64(&noise(LARGE_BYTES, 11)),
        b"--b--\r\n".to_vec(),
    ]
    .concat();
    all.push(octets("large", "Content-Type: multipart/mixed; boundary=b", &attachment));
    all
}

fn clean_small() -> Vec<Sample> {
    let many: String =
        (0..40).map(|number| format!("--b\r\nContent-Type: text/plain\r\n\r\nPart {number}.\r\n")).collect();
    let inner =
        "Content-Type: message/rfc822\r\n\r\nFrom: carol@lab.test\r\nSubject: inner\r\n\r\nInner text.\r\n";
    vec![
        message("plain", "Content-Type: text/plain\r\n\r\nHello, Alice.\r\n"),
        message("no type", "\r\nHello, Alice.\r\n{5}\r\n* 1 EXISTS\r\na1 OK done\r\n"),
        message(
            "8bit",
            "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nGrüße.\r\n",
        ),
        message("empty body", "\r\n"),
        message("no line end", "Content-Type: text/plain\r\n\r\nno line end"),
        Sample::clean("header only", b"From: bob@lab.test\r\nSubject: header only\r\n\r\n".to_vec()),
        octets(
            "quoted-printable",
            "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable",
            &quoted_printable("Grüße aus dem Labor, mit einer längeren Zeile.".as_bytes()),
        ),
        octets(
            "single attachment",
            "Content-Type: application/zip; name=\"papers.zip\"\r\nContent-Transfer-Encoding: base64",
            &base64(&zip("papers.bin", &noise(3000, 5))),
        ),
        message(
            "alternative in mixed",
            "Content-Type: multipart/mixed; boundary=outer\r\n\r\nPreamble.\r\n--outer\r\n\
             Content-Type: multipart/alternative; boundary=inner\r\n\r\n--inner\r\n\
             Content-Type: text/plain\r\n\r\nPlain.\r\n--inner\r\nContent-Type: text/html; charset=utf-8\r\n\r\n\
             <p>Plain.</p>\r\n--inner--\r\n--outer\r\nContent-Type: application/pdf; name=\"a b (c).pdf\"\r\n\
             Content-Disposition: attachment; filename*=utf-8''a%20b.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n\
             JVBERi0xLjQKJcOkw7zDtsOfCg==\r\n--outer--\r\nEpilogue.\r\n",
        ),
        message(
            "message in a message",
            &format!("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n{inner}--b--\r\n"),
        ),
        message(
            "digest",
            &format!(
                "Content-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n\r\nSubject: one\r\n\r\nOne.\r\n--b\r\n{inner}--b--\r\n"
            ),
        ),
        message("many parts", &format!("Content-Type: multipart/mixed; boundary=b\r\n\r\n{many}--b--\r\n")),
        message("no end boundary", "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nOpen.\r\n"),
        message("no boundary", "Content-Type: multipart/mixed\r\n\r\n--b\r\n\r\nNone.\r\n--b--\r\n"),
        message(
            "signed",
            "Content-Type: multipart/signed; boundary=b; protocol=\"application/pgp-signature\"\r\n\r\n\
             --b\r\nContent-Type: text/plain\r\n\r\nSigned.\r\n--b\r\n\
             Content-Type: application/pgp-signature\r\n\r\n-----BEGIN PGP SIGNATURE-----\r\n--b--\r\n",
        ),
        octets("long lines", "Content-Type: text/plain", &[vec![b'x'; 20_000], b"\r\n".to_vec()].concat()),
        Sample::clean("no header", b"\r\nOnly a body.\r\n".to_vec()),
    ]
}
