//! What a message's header says of it: sender, subject, identifier. It is for records, and nothing depends on it.

use std::rc::Rc;

use crate::content::{Shape, unstructured_text};

/// Octets of a header in which the fields are looked for; servers put them near the front.
const LOOKED_AT_BYTES: usize = 64 * 1024;
/// Octets of a field with its folded lines. A subject of encoded words takes four times its text.
const VALUE_BYTES_MAX: usize = 4 * 1024;
/// Octets of an address that are kept (RFC 5321 section 4.5.3.1 allows 320).
const ADDRESS_BYTES_MAX: usize = 320;
/// Octets of a subject that are kept.
const SUBJECT_BYTES_MAX: usize = 1024;
/// Octets of a message id that are kept; a line has 998 at most (RFC 5322 section 2.1.1).
const MESSAGE_ID_BYTES_MAX: usize = 998;

/// What is known of a message by its header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct EmailFields {
    /// The address in `From` (RFC 5322 section 3.6.2), if it has one that a reader would take for an address.
    pub(super) from: Option<Rc<str>>,
    /// The subject, its encoded words (RFC 2047) decoded.
    pub(super) subject: Option<Rc<str>>,
    /// What stands in `Message-ID`, without the angle brackets.
    pub(super) message_id: Option<Rc<str>>,
}

impl EmailFields {
    /// Of a piece of content of which the header is known.
    pub(super) fn of(shape: &Shape, content: &[u8]) -> Option<Rc<Self>> {
        match shape {
            Shape::Message => Some(Rc::new(Self::read(content))),
            Shape::Body { header, .. } => Some(Rc::new(Self::read(header))),
            Shape::Unknown { .. } | Shape::Header => None,
        }
    }

    /// Of a message, or of its header. Of several fields of one name the first counts, as most clients show it.
    pub(super) fn read(message: &[u8]) -> Self {
        let header = message.get(..LOOKED_AT_BYTES).unwrap_or(message);
        let mut fields = Self::default();
        let (mut has_from, mut has_subject, mut has_id) = (false, false, false);
        let mut lines = header
            .split(|octet| *octet == b'\n')
            .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
            .take_while(|line| !line.is_empty())
            .peekable();
        while let Some(first) = lines.next() {
            let (place, name): (_, &[u8]) = match first.first() {
                Some(b'f' | b'F') => (&mut has_from, b"From:"),
                Some(b's' | b'S') => (&mut has_subject, b"Subject:"),
                Some(b'm' | b'M') => (&mut has_id, b"Message-ID:"),
                _ => continue,
            };
            let Some((begin, value)) = first.split_at_checked(name.len()) else { continue };
            if *place || !begin.eq_ignore_ascii_case(name) {
                continue;
            }
            *place = true;
            let mut value = value.get(..VALUE_BYTES_MAX).unwrap_or(value).to_vec();
            while let Some(folded) = lines.next_if(|line| matches!(line.first(), Some(b' ' | b'\t'))) {
                let room = VALUE_BYTES_MAX.saturating_sub(value.len());
                value.extend_from_slice(folded.get(..room).unwrap_or(folded));
            }
            match name {
                b"From:" => fields.from = sender(&value),
                b"Subject:" => fields.subject = subject(&value),
                _ => fields.message_id = message_id(&value),
            }
        }
        fields
    }
}

fn sender(value: &[u8]) -> Option<Rc<str>> {
    let address = match value.iter().rposition(|octet| *octet == b'<') {
        Some(at) => value.get(at.saturating_add(1)..)?.split(|octet| *octet == b'>').next()?,
        None => value,
    };
    let address = String::from_utf8_lossy(address.trim_ascii());
    let is_address =
        address.contains('@') && address.len() <= ADDRESS_BYTES_MAX && !address.contains(char::is_control);
    is_address.then(|| Rc::from(&*address))
}

fn subject(value: &[u8]) -> Option<Rc<str>> {
    let text = unstructured_text(value.trim_ascii());
    let kept = text.get(..text.floor_char_boundary(SUBJECT_BYTES_MAX)).unwrap_or_default().trim();
    (!kept.is_empty()).then(|| Rc::from(kept))
}

fn message_id(value: &[u8]) -> Option<Rc<str>> {
    let id = value.trim_ascii();
    let id = id.strip_prefix(b"<").unwrap_or(id);
    let id = String::from_utf8_lossy(id.split(|octet| *octet == b'>').next()?.trim_ascii());
    let is_id = !id.is_empty() && id.len() <= MESSAGE_ID_BYTES_MAX && !id.contains(char::is_control);
    is_id.then(|| Rc::from(&*id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sender_is_the_address_of_the_first_from_field_however_it_is_written() {
        for (header, found) in [
            ("From: joe@example.org\r\n\r\n", Some("joe@example.org")),
            ("Subject: x\r\nfrom: \"Joe <j>\" <joe@example.org>\r\n\r\n", Some("joe@example.org")),
            ("From: Joe\r\n <joe@example.org>\r\nFrom: other@example.org\r\n\r\n", Some("joe@example.org")),
            ("From: nobody\r\n\r\n", None),
            ("Subject: x\r\n\r\nFrom: joe@example.org\r\n", None),
            ("From:", None),
            ("", None),
        ] {
            assert_eq!(EmailFields::read(header.as_bytes()).from.as_deref(), found, "{header:?}");
        }
    }

    #[test]
    fn a_subject_is_what_a_reader_sees_and_holds_no_control_characters() {
        for (header, found) in [
            ("Subject: Your invoice\r\n\r\n", Some("Your invoice")),
            ("subject:  folded\r\n  line\r\n\r\n", Some("folded  line")),
            ("Subject: =?UTF-8?B?R3LDvMOfZQ==?=\r\n\r\n", Some("Grüße")),
            (
                "Subject: =?iso-8859-1?Q?Gr=FC=DFe?= =?iso-8859-1?Q?_aus?= Bonn\r\n\r\n",
                Some("Grüße aus Bonn"),
            ),
            // A charset that is not decoded here stays as it was sent.
            ("Subject: =?koi8-r?B?8NLJ18XU?=\r\n\r\n", Some("=?koi8-r?B?8NLJ18XU?=")),
            ("Subject: =?utf-8?q?a=0D=0Ab=1B[2J?=\r\n\r\n", Some("ab[2J")),
            ("Subject: \r\n\r\n", None),
            ("Subject: one\r\nSubject: two\r\n\r\n", Some("one")),
            ("X-Subject: x\r\n\r\nSubject: body\r\n", None),
        ] {
            assert_eq!(EmailFields::read(header.as_bytes()).subject.as_deref(), found, "{header:?}");
        }
    }

    #[test]
    fn a_message_id_stands_without_its_brackets() {
        for (header, found) in [
            ("Message-ID: <1@example.org>\r\n\r\n", Some("1@example.org")),
            ("MESSAGE-id:\r\n <2@example.org> (comment)\r\n\r\n", Some("2@example.org")),
            ("Message-Id: bare\r\n\r\n", Some("bare")),
            ("Message-Id: <>\r\n\r\n", None),
            ("Message-Id: <a\u{1}b>\r\n\r\n", None),
        ] {
            assert_eq!(EmailFields::read(header.as_bytes()).message_id.as_deref(), found, "{header:?}");
        }
    }

    #[test]
    fn fields_without_end_are_read_in_part() {
        let long =
            format!("Subject: {}\r\nMessage-ID: <{}>\r\n\r\n", "é".repeat(100_000), "m".repeat(100_000));
        let fields = EmailFields::read(long.as_bytes());
        assert!(fields.subject.is_some_and(|subject| subject.len() <= SUBJECT_BYTES_MAX));
        assert_eq!(fields.message_id, None);
    }

    proptest::proptest! {
        #[test]
        fn any_octets_are_read_to_an_end(
            begin in "(Subject: |From: |Message-ID: |=\\?utf-8\\?[qb]\\?|\\?=|\r\n |<|>){0,20}",
            octets in proptest::collection::vec(0..=255u8, 0..400),
        ) {
            let fields = EmailFields::read(&[begin.as_bytes(), &octets].concat());
            for text in [fields.from, fields.subject, fields.message_id].into_iter().flatten() {
                proptest::prop_assert!(!text.contains(char::is_control) && !text.is_empty());
            }
        }
    }
}
