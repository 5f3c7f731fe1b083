//! Files that are hidden in the text of a leaf, or in what wraps a mail, and what is said of mail that cannot be read.

use std::sync::Arc;

use super::super::open::OpenLimits;
use super::super::open::encodings::samples::*;
use super::super::samples::*;
use super::super::*;
use super::BASE64;

pub(super) fn leaf_judge() -> LeafJudge {
    LeafJudge::new(Arc::new(rules()), Vec::new(), OpenLimits::default())
}

/// The verdicts of the judge of complete leaves.
fn judged_whole(message: &[u8]) -> (Vec<u8>, Vec<LeafVerdict>) {
    let (octets, leaves) = judged_by(&leaf_judge(), message, Shape::Message);
    assert_same_lines(message, &octets);
    (octets, leaves)
}

/// Tokens of the rules, with what was done.
fn tokens(message: &str) -> Vec<(&'static str, ContentAction)> {
    let (_, leaves) = judged_whole(message.as_bytes());
    leaves.iter().filter_map(|leaf| Some((leaf.rule.as_ref()?.token(), leaf.action))).collect()
}

/// A part of a mail that holds a program, with its header.
fn part() -> Vec<u8> {
    format!(
        "Content-Type: application/octet-stream; name=a.bin\r\n{}\r\n\r\n{}\r\n",
        "Content-Transfer-Encoding: base64",
        base64_lines(&program())
    )
    .into_bytes()
}

fn encoded(octets: &[u8]) -> String {
    mail(BASE64, &base64_lines(octets))
}

#[track_caller]
fn assert_program_removed(name: &str, message: &[u8]) {
    let (octets, leaves) = judged_whole(message);
    let found = leaves.iter().filter(|leaf| leaf.action == ContentAction::Remove);
    let rules: Vec<_> = found.filter_map(|leaf| leaf.rule.clone()).collect();
    assert!(rules.contains(&RuleName::Type(RealType::WindowsProgram)), "{name}: {leaves:?}");
    let again = judged_by(&leaf_judge(), &octets, Shape::Message);
    assert_eq!(again.0, octets, "{name}: what is filled stays as it is");
}

#[test]
fn a_program_is_found_wherever_the_structure_of_a_mail_hides_it() {
    let uu = uuencoded("a.bin", &program());
    let text = format!("Hello,\r\n\r\n{uu}\r\nBye\r\n");
    let uuencoded_mail = |octets: &str| uuencoded("mail", octets.as_bytes());
    let inner = mail(BASE64, &base64_lines(&program())).replace("frontier", "inner");
    let of_outlook = tnef(&[
        attribute(0x0006_9002, &[1; 14]),
        attribute(
            0x0006_9005,
            &props(&[(0x3701_000d, &[&[7; 16][..], &tnef_of("a.bin", &program())].concat())]),
        ),
    ]);
    let in_pgp = [packet(4, &[3; 13]), literal("a.bin", &program()), packet(2, &[4; 70])].concat();
    let [zip, _, bzip2] = compressed_packets(&in_pgp);
    let table = [
        ("uuencode in a text", mail("Content-Type: text/plain", &text)),
        ("uuencode by name", mail("Content-Transfer-Encoding: x-uuencode", &uu)),
        (
            "uuencode in quoted-printable",
            mail(
                "Content-Type: text/plain\r\nContent-Transfer-Encoding: quoted-printable",
                &quoted_printable(text.as_bytes()),
            ),
        ),
        ("uuencode in base64", encoded(text.as_bytes())),
        ("uuencode in uuencode", mail("Content-Type: text/plain", &uuencoded_mail(&text))),
        (
            "uuencode in a mail in base64",
            mail(
                "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64",
                &base64_lines(mail("Content-Type: text/plain", &text).as_bytes()),
            ),
        ),
        (
            "uuencode in a mail that is declared a file",
            mail("Content-Type: application/octet-stream", &format!("Subject: x\r\n\r\n{text}")),
        ),
        (
            "a mail in uuencode",
            mail(
                "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: x-uuencode",
                &uuencoded_mail(&inner),
            ),
        ),
        (
            "a multipart in uuencode",
            mail(
                "Content-Type: multipart/mixed; boundary=inner\r\nContent-Transfer-Encoding: uuencode",
                &uuencoded_mail(&inner),
            ),
        ),
        ("winmail.dat", encoded(&tnef_of("a.bin", &program()))),
        ("winmail.dat in winmail.dat", encoded(&of_outlook)),
        ("opaque S/MIME", encoded(&signed(&part()))),
        ("opaque S/MIME in BER", encoded(&signed_in_ber(&part()))),
        (
            "S/MIME, signed twice",
            encoded(&signed(
                &[
                    b"Content-Type: application/pkcs7-mime\r\nContent-Transfer-Encoding: base64\r\n\r\n",
                    base64_lines(&signed(&part())).as_bytes(),
                ]
                .concat(),
            )),
        ),
        ("S/MIME, compressed", encoded(&compressed(&part()))),
        ("S/MIME behind a line that is no field", encoded(&signed(&[b"x\r\n".to_vec(), part()].concat()))),
        (
            "S/MIME in a text",
            mail(
                "Content-Type: text/plain",
                &format!(
                    "-----BEGIN PKCS7-----\r\n{}\r\n-----END PKCS7-----",
                    base64_lines(&signed(&part()))
                ),
            ),
        ),
        ("a program alone in S/MIME", encoded(&signed(&program()))),
        ("OpenPGP, signed", encoded(&in_pgp)),
        ("OpenPGP, armored", mail("Content-Type: text/plain", &armored(&zip))),
        ("OpenPGP, bzip2", mail("Content-Type: text/plain", &format!("Hello\r\n{}", armored(&bzip2)))),
        ("a mail in OpenPGP", mail("Content-Type: text/plain", &armored(&literal("", inner.as_bytes())))),
    ];
    for (name, message) in table {
        assert_program_removed(name, message.as_bytes());
    }
    let [before, behind] = ["text/plain\r\n\r\n", "\r\n--frontier--"];
    let yenc = yencoded("a.bin", &program());
    let whole = [format!("Content-Type: {before}").as_bytes(), &yenc, behind.as_bytes()].concat();
    assert_program_removed("yEnc in a text", &whole);
}

#[test]
fn a_file_in_a_text_is_forbidden_by_its_name_and_costs_its_leaf_only() {
    let message = mail("Content-Type: text/plain", &uuencoded("invoice1.js", b"harmless, but for its name"));
    let (octets, leaves) = judged_whole(message.as_bytes());
    let removed: Vec<_> = leaves.iter().filter(|leaf| leaf.action == ContentAction::Remove).collect();
    assert_eq!(removed.len(), 1);
    assert_eq!((removed[0].path.as_str(), removed[0].member.as_deref()), ("2", Some("invoice1.js")));
    assert!(String::from_utf8_lossy(&octets).contains("Hello, see the file."));
}

#[test]
fn mail_that_nobody_here_can_read_is_a_verdict_of_its_own() {
    use ContentAction::{Allow, Remove};
    let table = [
        ("message/partial; id=a; number=1; total=2", "partial_message", Remove),
        ("Message/Partial", "partial_message", Remove),
        ("text/plain\r\nContent-Type: message/partial", "partial_message", Remove),
        ("message/external-body; access-type=URL; URL=\"http://example.org/\"", "external_body", Remove),
        ("multipart/encrypted; protocol=\"application/pgp-encrypted\"; boundary=x", "encrypted_mail", Allow),
        ("application/pgp-encrypted", "encrypted_mail", Allow),
        ("application/pkcs7-mime; smime-type=enveloped-data", "encrypted_mail", Allow),
        ("application/x-pkcs7-mime; name=smime.p7m; SMIME-type=\"Enveloped-Data\"", "encrypted_mail", Allow),
    ];
    for (kind, token, action) in table {
        let message = mail(&format!("Content-Type: {kind}"), "Content-Type: text/plain\r\n\r\nHello");
        assert!(tokens(&message).contains(&(token, action)), "{kind}: {:?}", tokens(&message));
    }
    for octets in [encrypted(), enveloped(b"x")] {
        assert_eq!(tokens(&encoded(&octets)), [("encrypted_mail", Allow)]);
    }
    let beside = mail("Content-Type: text/plain", &format!("Hello\r\n\r\n{}", armored(&encrypted())));
    assert_eq!(tokens(&beside), [("encrypted_mail", Allow)]);
}

#[test]
fn honest_signed_mail_and_prose_about_encodings_are_not_touched() {
    let pgp_signature =
        "-----BEGIN PGP SIGNATURE-----\r\n\r\nwsBcBAABCAAGBQJ\r\n=abcd\r\n-----END PGP SIGNATURE-----";
    let clear = format!("-----BEGIN PGP SIGNED MESSAGE-----\r\nHash: SHA256\r\n\r\nHello\r\n{pgp_signature}");
    let smime =
        "Content-Type: application/pkcs7-signature; name=smime.p7s\r\nContent-Transfer-Encoding: base64";
    for message in [
        mail("Content-Type: application/pgp-signature; name=signature.asc", pgp_signature),
        mail("Content-Type: text/plain", &clear),
        mail(smime, &base64_lines(&detached())),
        encoded(&signed(b"Content-Type: text/plain\r\n\r\nHello\r\n")),
        encoded(&tnef_of("a.txt", b"a text")),
        mail(
            "Content-Type: text/plain",
            "Write\r\nbegin 644 setup.exe\r\nand then the lines of the file.\r\nend",
        ),
        mail("Content-Type: text/plain", "It\r\nbegins, and we\r\nbegin with setup.exe\r\nand go on."),
        mail("Content-Type: text/plain", "From: someone\r\nSubject: setup\r\n\r\nwrote: begin 644 setup.exe"),
    ] {
        let (octets, leaves) = judged_whole(message.as_bytes());
        assert_eq!(octets, message.as_bytes());
        assert!(leaves.iter().all(|leaf| leaf.rule.is_none()), "{leaves:?}");
    }
}

/// Rules by whose word mail passes whose structure is beyond the limits.
fn lenient() -> Rules {
    Rules::of(&settings("verdicts.mime_limits = \"allow\"\n"), Arc::default()).unwrap()
}

#[test]
fn a_mail_beyond_the_limits_passes_where_the_configuration_says_so_and_is_recorded() {
    let name = "a".repeat(20_000);
    let message = mail(&format!("Content-Type: text/plain; name={name}"), "x");
    assert_eq!(tokens(&message), [("mime_limits", ContentAction::Remove)]);
    let (octets, leaves) = judged_by(&lenient(), message.as_bytes(), Shape::Message);
    assert_eq!(octets, message.as_bytes());
    assert_eq!(leaves.len(), 1);
    assert_eq!(leaves[0].rule, Some(RuleName::Condition(Condition::MimeLimits)));
    assert_eq!(leaves[0].action, ContentAction::Allow);
}

#[test]
fn mail_within_mail_in_text_is_judged_in_bounds() {
    // Each line begins a header for a reader who begins there.
    let texts = ["Subject: x\r\n\r\n".repeat(20_000), "Content-Type: text/plain\r\n\r\n".repeat(2_000)];
    for text in &texts {
        for message in [
            mail("Content-Type: text/plain", text),
            encoded(text.as_bytes()),
            encoded(&signed(text.as_bytes())),
        ] {
            let found = tokens(&message);
            assert!(found.contains(&("mime_limits", ContentAction::Remove)), "{found:?}");
        }
    }
    let mut text = "Hello".to_owned();
    for _ in 0..20 {
        text = uuencoded("a", text.as_bytes());
    }
    assert_eq!(tokens(&mail("Content-Type: text/plain", &text)), [("archive_limits", ContentAction::Remove)]);
}
