//! What holds for any content.

use proptest::prelude::*;

use super::super::eicar::test_string;
use super::super::samples::*;
use super::super::*;
use super::{BASE64, program_lines};

/// Four megabytes of each kind of trouble: the time must not grow with the square of the octets.
#[test]
fn long_content_takes_linear_time() {
    let started = std::time::Instant::now();
    for unit in [
        "--b\r\n",
        "--bbbbbbbb",
        "\r\n",
        "Content-Type: x; name=\"",
        "=?",
        "=",
        "AAAA\r\n",
        "MZ\r\n",
        "TVqQ\n\n",
        "#!/",
    ] {
        let rest = unit.repeat((1 << 19) / unit.len());
        let message = format!("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n{rest}");
        judged(message.as_bytes(), Shape::Message);
        judged(message.as_bytes(), Shape::Unknown { hints: Vec::new() });
        judged(rest.as_bytes(), Shape::Message);
    }
    let message = mail(BASE64, &base64_lines(&vec![7; 3 << 20]));
    assert_eq!(judged(message.as_bytes(), Shape::Message).0, message.as_bytes());
    let took = started.elapsed();
    assert!(took < std::time::Duration::from_secs(60), "{took:?}");
}

fn pieces_of_mail() -> impl Strategy<Value = String> {
    let words = [
        "\r\n",
        "\r\n\r\n",
        "\n",
        "\r",
        "--b",
        "--bb",
        "--",
        "b",
        "Content-Type: ",
        "multipart/mixed; ",
        "boundary=b\r\n",
        "boundary=bb\r\n",
        "message/rfc822\r\n",
        "text/plain; name=a.exe",
        "Content-Transfer-Encoding: base64\r\n",
        "=",
        "=20",
        "TVqQAAMA",
        "MZ",
        "X-A: b",
        " ",
        "\t",
        "a text",
        "=?utf-8?B?YQ==?=",
        "name*0=",
        "\"",
        ";",
        "#!/bin/sh",
    ];
    prop::collection::vec(prop::sample::select(words.to_vec()), 0..60).prop_map(|words| words.concat())
}

#[test]
fn a_text_that_quotes_a_mail_is_no_encoded_mail() {
    let quoted = mail("Content-Type: text/plain", "a=b").replace("frontier", "inner");
    assert!(removed(&mail("Content-Type: text/plain", &quoted)).is_empty());
    assert!(removed(&mail("Content-Type: message/rfc822", &quoted)).is_empty());
    let encoded = mail("Content-Transfer-Encoding: quoted-printable", &quoted_printable(quoted.as_bytes()));
    assert!(removed(&encoded).is_empty());
}

proptest! {
    #[test]
    fn any_content_keeps_its_length_and_its_lines_and_is_filled_once(message in pieces_of_mail()) {
        for shape in [
            Shape::Message,
            Shape::Header,
            Shape::Unknown { hints: Vec::new() },
            Shape::Body { header: b"Content-Type: multipart/mixed; boundary=b\r\n".to_vec(), hints: Vec::new() },
        ] {
            let (octets, _) = judged(message.as_bytes(), shape.clone());
            assert_same_lines(message.as_bytes(), &octets);
        }
    }

    #[test]
    fn any_octets_are_judged(octets in prop::collection::vec(any::<u8>(), 0..400)) {
        for shape in [Shape::Message, Shape::Header, Shape::Unknown { hints: Vec::new() }] {
            let (after, _) = judged(&octets, shape);
            assert_same_lines(&octets, &after);
        }
    }

    #[test]
    fn a_program_in_any_surroundings_is_found(before in pieces_of_mail(), after in pieces_of_mail()) {
        let lines = program_lines();
        let message = format!("Subject: x\r\n\r\n{before}\r\n\r\n{lines}\r\n{after}");
        let (octets, _) = judged(message.as_bytes(), Shape::Message);
        let first = lines.lines().next().unwrap().as_bytes();
        prop_assert!(!octets.windows(first.len()).any(|window| window == first));
    }

    #[test]
    fn a_judge_sees_the_same_in_every_split(cuts in prop::collection::vec(0usize..400, 0..8), which in 0usize..3) {
        let file = [program(), test_string(), b"#!/bin/sh\n".to_vec()][which].clone();
        let rules = rules();
        let head = LeafHead { path: "1", names: &[], declared_types: &[], encodings: DeclaredEncodings::default(), reading: Reading::Identity, is_beginning: false };
        let mut whole = rules.begin(&head);
        whole.push(&file);
        let mut split = rules.begin(&head);
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut % file.len()).chain([0, file.len()]).collect();
        cuts.sort_unstable();
        for cut in cuts.windows(2) {
            split.push(&file[cut[0]..cut[1]]);
        }
        let decision = split.finish();
        prop_assert!(matches!(decision.outcome, LeafOutcome::Remove(_)));
        prop_assert_eq!(decision, whole.finish());
    }
}
