//! The dialogue under a policy that bounds lines and hides capabilities.

use std::path::Path;

use postern::config::{ClearText, StartTls, parse};
use postern::handshake::clear::{ClientDialogue, ClientFault, LINE_BYTES_MAX, LineFault};
use postern::inspect::{ImapTerms, shown_capabilities};

use super::client;

fn terms(tables: &str) -> ImapTerms {
    let text = format!(
        "[steering]\ningress = [\"lan0\"]\negress = [\"wan0\"]\n\
         [certificates]\nauthority = {{ cert = \"a\", key = \"b\" }}\n{tables}\n"
    );
    ImapTerms::of(&parse(&text, Path::new("/postern.toml")).unwrap().unnamed_action)
}

#[test]
fn a_line_longer_than_the_policy_lets_through_ends_the_dialogue() {
    let line = |octets: usize| [b"a LOGIN ", vec![b'x'; octets - 10].as_slice(), b"\r\n"].concat();
    for (length, bound) in [(1000, 1000), (8191, 8191), (65_536, LINE_BYTES_MAX)] {
        let imap = terms(&format!("[action.general]\nline_length = {length}"));
        let says =
            |octets| client(&mut ClientDialogue::new().with_imap_terms(&imap), [line(octets).as_slice()]);
        assert_eq!(says(bound).ended, None);
        let fault = ClientFault::Line(LineFault::TooLong(bound));
        assert_eq!(says(bound + 1).ended, Some(Some(fault)));
        assert!(fault.to_string().contains(&bound.to_string()), "{fault}");
        // The bound holds for each line.
        let second = [line(bound), line(bound + 1)].concat();
        let heard = client(&mut ClientDialogue::new().with_imap_terms(&imap), second.chunks(7));
        assert_eq!(heard.ended, Some(Some(fault)));
    }
}

#[test]
fn a_client_that_must_not_see_id_is_not_offered_it_and_refused() {
    for starttls in [StartTls::Inspect, StartTls::Strip, StartTls::Bypass] {
        for cleartext in [ClearText::Refuse, ClearText::Inspect] {
            let dialogue = |imap: &ImapTerms| {
                ClientDialogue::new().with_settings(starttls, cleartext).with_imap_terms(imap)
            };
            let hidden = terms("[action.capabilities]\nhide = [\"ID\"]");
            let greeting = String::from_utf8(dialogue(&hidden).greeting().into_owned()).unwrap();
            let shown = String::from_utf8(dialogue(&ImapTerms::default()).greeting().into_owned()).unwrap();
            assert_eq!(greeting, shown.replace("LOGINDISABLED ID]", "LOGINDISABLED]"));
            let said = |imap: &ImapTerms, words: &[u8]| client(&mut dialogue(imap), [words]).output;
            let refused = said(&hidden, b"a ID (\"name\" \"x\")\r\n");
            assert!(refused.starts_with("a BAD ") && refused.contains("hides"), "{refused}");
            assert!(said(&ImapTerms::default(), b"a ID NIL\r\n").starts_with("* ID NIL\r\na OK "));
            if cleartext == ClearText::Refuse {
                let list = said(&hidden, b"a CAPABILITY\r\n");
                assert!(list.contains("IMAP4rev1") && list.contains("LOGINDISABLED\r\n"), "{list}");
            }
        }
    }
}

#[test]
fn what_a_server_lists_in_clear_text_is_narrowed() {
    let imap = terms("[action.capabilities]\nhide = [\"IDLE\"]\nmechanisms = [\"CRAM-MD5\"]\nlogin = false");
    let list = b"IMAP4rev1 IDLE ID AUTH=PLAIN AUTH=CRAM-MD5";
    let shown = String::from_utf8(shown_capabilities(list, 7, &imap, true)).unwrap();
    assert_eq!(shown, " IMAP4rev1 ID AUTH=CRAM-MD5 APPENDLIMIT=7 LOGINDISABLED STARTTLS");
}
