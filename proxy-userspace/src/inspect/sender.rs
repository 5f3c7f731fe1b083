//! The sender of a message, as its header says. It is for records, and nothing depends on it.

use std::rc::Rc;

/// Octets of a header in which the field is looked for; servers put it near the front.
const LOOKED_AT_BYTES: usize = 64 * 1024;
/// Octets of an address that are kept (RFC 5321 section 4.5.3.1 allows 320).
const ADDRESS_BYTES_MAX: usize = 320;

/// The address in the first `From` field (RFC 5322 section 3.6.2), if it has one that a reader would take for an address.
pub(super) fn sender(message: &[u8]) -> Option<Rc<str>> {
    let header = message.get(..LOOKED_AT_BYTES).unwrap_or(message);
    let mut lines =
        header.split(|octet| *octet == b'\n').map(<[u8]>::trim_ascii_end).take_while(|line| !line.is_empty());
    let first = lines.find(|line| line.get(..5).is_some_and(|name| name.eq_ignore_ascii_case(b"From:")))?;
    let mut value = first.get(5..)?.to_vec();
    for folded in lines.take_while(|line| matches!(line.first(), Some(b' ' | b'\t'))) {
        value.extend_from_slice(folded);
    }
    let address = match value.iter().rposition(|octet| *octet == b'<') {
        Some(at) => value.get(at + 1..)?.split(|octet| *octet == b'>').next()?,
        None => value.as_slice(),
    };
    let address = String::from_utf8_lossy(address.trim_ascii());
    let is_address =
        address.contains('@') && address.len() <= ADDRESS_BYTES_MAX && !address.contains(char::is_control);
    is_address.then(|| Rc::from(&*address))
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
            assert_eq!(sender(header.as_bytes()).as_deref(), found, "{header:?}");
        }
    }
}
