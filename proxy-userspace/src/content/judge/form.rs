use super::super::header::{field, is_content_field, line_at};

/// Octets that are decoded to see whether they begin a message.
pub(super) const GLANCE_BYTES: usize = 4 << 10;

/// Whether octets are a mail, or a part of one with its header: what S/MIME and archives hold, and what is read as one.
pub(in crate::content) fn is_mail(octets: &[u8]) -> bool {
    is_message(octets) || is_text(octets.get(..GLANCE_BYTES).unwrap_or(octets)) && has_parts(octets)
}

/// Whether octets may be text. Messages are; files that are none need not be decoded to look for parts.
pub(super) fn is_text(octets: &[u8]) -> bool {
    !octets
        .iter()
        .any(|octet| *octet == 0x7f || *octet < 32 && !octet.is_ascii_whitespace() && *octet != 0x1b)
}

/// Whether somewhere a field called `Content-…` follows a line that begins like a delimiter.
pub(super) fn has_parts(octets: &[u8]) -> bool {
    let mut at = 0;
    let mut is_behind = false;
    while let Some(line) = line_at(octets, at) {
        at = line.next;
        let text = octets.get(line.range).unwrap_or_default();
        if is_behind && is_content_field(text) {
            return true;
        }
        is_behind = text.starts_with(b"--");
    }
    false
}

/// Whether octets begin like a message or a multipart. Some clients pass over a first line that is no field: so a field
/// called `Content-…` behind it counts.
pub(super) fn is_message(octets: &[u8]) -> bool {
    begins_message(octets) == Some(true)
}

/// Whether a line is a field of which one is enough.
fn is_message_field(text: &[u8]) -> bool {
    const KNOWN: [&[u8]; 8] =
        [b"MIME-Version", b"From", b"To", b"Date", b"Received", b"Return-Path", b"Message-ID", b"Subject"];
    field(text).is_some_and(|(name, _)| KNOWN.iter().any(|known| name.eq_ignore_ascii_case(known)))
}

/// [`is_message`], of the beginning of octets. None: all of its whole lines may be fields of a message, and more may follow.
pub(super) fn begins_message(octets: &[u8]) -> Option<bool> {
    let mut at = 0;
    let mut begins_oddly = false;
    let mut is_first = true;
    while let Some(line) = line_at(octets, at) {
        at = line.next;
        let is_cut = at >= octets.len();
        let text = octets.get(line.range).unwrap_or_default();
        if is_message_field(text) && !begins_oddly || is_content_field(text) {
            return Some(true);
        }
        if is_cut {
            break;
        }
        let is_expected = is_first
            && (text.is_empty() || text.starts_with(b"--") || text.starts_with(b"From "))
            || field(text).is_some()
            || matches!(text, [b' ' | b'\t', ..]);
        if !is_expected && !is_first {
            return Some(false);
        }
        begins_oddly |= !is_expected;
        is_first = false;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_character_and_many_fields_hide_no_message() {
        let fields = "X-A: b\r\n".repeat(1_000);
        let mail = format!("X-B: \u{1}\r\n{fields}Subject: x\r\n\r\ntext");
        assert!(is_mail(mail.as_bytes()));
        assert_eq!(begins_message(&mail.as_bytes()[..GLANCE_BYTES]), None);
        assert!(!is_mail(fields.as_bytes()));
        assert_eq!(begins_message(b"GIF89a\nno field\nSubject: x\n"), Some(false));
    }
}
