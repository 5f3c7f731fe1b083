//! A message's parts (RFC 2045, RFC 2046) as sections and as BODYSTRUCTURE. A message within a message is one leaf.

/// Multiparts within multiparts; deeper ones are leaves.
const DEPTH_MAX: usize = 16;

/// A message, or a part of one.
pub(crate) struct Part<'m> {
    whole: &'m [u8],
    /// With the empty line behind it.
    header: &'m [u8],
    body: &'m [u8],
    media: String,
    /// Of the type: names in lower case.
    parameters: Vec<(String, String)>,
    children: Vec<Part<'m>>,
}

/// A value such as `text/plain; name=x`: the word in front in lower case, and the parameters.
type Parameterized = (String, Vec<(String, String)>);

impl<'m> Part<'m> {
    /// A message.
    pub(crate) fn of(message: &'m [u8]) -> Self {
        Self::at(message, 0)
    }

    fn at(whole: &'m [u8], depth: usize) -> Self {
        let (header, body) = whole.split_at(header_octets(whole));
        let (media, parameters) = field(header, "content-type").map_or_else(
            || ("text/plain".to_owned(), vec![("charset".to_owned(), "us-ascii".to_owned())]),
            |value| parameterized(&value),
        );
        let mut part = Self { whole, header, body, media, parameters, children: Vec::new() };
        let boundary = part.parameters.iter().find(|(name, _)| name == "boundary");
        if let Some((_, boundary)) = boundary.filter(|_| part.media.starts_with("multipart/")) {
            let pieces = if depth < DEPTH_MAX { pieces(body, boundary) } else { Vec::new() };
            part.children = pieces.into_iter().map(|piece| Self::at(piece, depth + 1)).collect();
        }
        part
    }

    /// The octets of a section in capitals, such as `2.MIME`; none where the message has no such part.
    pub(crate) fn section(&self, section: &str) -> Option<&'m [u8]> {
        let mut part = self;
        let mut rest = section;
        while rest.starts_with(|letter: char| letter.is_ascii_digit()) {
            let (number, behind) = rest.split_once('.').unwrap_or((rest, ""));
            let number: usize = number.parse().ok()?;
            // A message that is no multipart is its own part 1.
            let is_own = number == 1 && self.children.is_empty() && std::ptr::eq(part, self);
            part = if is_own { part } else { part.children.get(number.checked_sub(1)?)? };
            rest = behind;
        }
        let is_part = rest.len() < section.len();
        match rest {
            "" => Some(if is_part { part.body } else { part.whole }),
            "MIME" if is_part => Some(part.header),
            "TEXT" if !is_part => Some(part.body),
            _ if rest.starts_with("HEADER") && !is_part => Some(part.header),
            _ => None,
        }
    }

    /// As BODYSTRUCTURE, with the extension data (RFC 9051 section 7.5.2).
    pub(crate) fn structure(&self) -> String {
        let (media, subtype) = self.media.split_once('/').unwrap_or((&self.media, ""));
        let parameters = list(&self.parameters);
        if !self.children.is_empty() {
            let children: String = self.children.iter().map(Self::structure).collect();
            return format!("({children} {} {parameters} NIL NIL NIL)", quoted(subtype));
        }
        let encoding = field(self.header, "content-transfer-encoding").unwrap_or_else(|| "7bit".to_owned());
        let mut leaf = format!(
            "({} {} {parameters} NIL NIL {} {}",
            quoted(media),
            quoted(subtype),
            quoted(&encoding),
            self.body.len()
        );
        if media == "text" {
            leaf.push_str(&format!(" {}", self.body.split(|&octet| octet == b'\n').count() - 1));
        }
        let disposition = field(self.header, "content-disposition").map_or_else(
            || "NIL".to_owned(),
            |value| {
                let (kind, parameters) = parameterized(&value);
                format!("({} {})", quoted(&kind), list(&parameters))
            },
        );
        leaf + &format!(" NIL {disposition} NIL NIL)")
    }
}

/// Octets of the header, with the empty line behind it.
fn header_octets(whole: &[u8]) -> usize {
    if whole.starts_with(b"\r\n") {
        return 2;
    }
    whole.windows(4).position(|four| four == b"\r\n\r\n").map_or(whole.len(), |at| at + 4)
}

/// What stands between the delimiters of a multipart; the line end before a delimiter is a part of it.
fn pieces<'m>(body: &'m [u8], boundary: &str) -> Vec<&'m [u8]> {
    let delimiter = format!("--{boundary}");
    let mut pieces = Vec::new();
    let (mut at, mut begun) = (0, None);
    for line in body.split_inclusive(|&octet| octet == b'\n') {
        let here = at;
        at += line.len();
        let Some(rest) = line.strip_prefix(delimiter.as_bytes()).map(<[u8]>::trim_ascii) else { continue };
        if !rest.is_empty() && rest != b"--" {
            continue;
        }
        if let Some(start) = begun.replace(at) {
            pieces.push(body.get(start..here.saturating_sub(2)).unwrap_or_default());
        }
        if rest == b"--" {
            return pieces;
        }
    }
    pieces.extend(begun.and_then(|start| body.get(start..)));
    pieces
}

/// A field of a header, unfolded.
fn field(header: &[u8], wanted: &str) -> Option<String> {
    let text = String::from_utf8_lossy(header).replace("\r\n ", " ").replace("\r\n\t", " ");
    let of_name = |line: &str| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case(wanted).then(|| value.trim().to_owned())
    };
    text.lines().find_map(of_name)
}

fn parameterized(value: &str) -> Parameterized {
    let mut quoted = false;
    let mut words = value.split(|letter| {
        quoted ^= letter == '"';
        letter == ';' && !quoted
    });
    let first = words.next().unwrap_or_default().trim().to_lowercase();
    let pair = |word: &str| {
        let (name, value) = word.split_once('=')?;
        Some((name.trim().to_lowercase(), value.trim().trim_matches('"').to_owned()))
    };
    (first, words.filter_map(pair).collect())
}

fn list(parameters: &[(String, String)]) -> String {
    if parameters.is_empty() {
        return "NIL".to_owned();
    }
    let words: Vec<String> =
        parameters.iter().map(|(name, value)| format!("{} {}", quoted(name), quoted(value))).collect();
    format!("({})", words.join(" "))
}

fn quoted(word: &str) -> String {
    format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::pe_message;
    use crate::fetched::leaves;

    const NESTED: &[u8] =
        b"Subject: s\r\nContent-Type: multipart/mixed;\r\n boundary=\"o;o\"\r\n\r\nbefore\r\n--o;o\r\n\
        Content-Type: multipart/alternative; boundary=i\r\n\r\n--i\r\n\r\nplain\r\n--i\r\n\
        Content-Type: text/html; charset=utf-8\r\n\r\n<p>\r\n\r\n--i--\r\n--o;o\r\nContent-Type: a/b\r\n\
        Content-Disposition: attachment; filename=\"x y.z\"\r\n\r\n0123\r\n--o;o--\r\nbehind\r\n";

    fn section(message: &'static [u8], section: &str) -> Option<&'static str> {
        Part::of(message).section(section).map(|octets| std::str::from_utf8(octets).unwrap())
    }

    #[test]
    fn sections_are_cut_at_the_delimiters_of_their_own_multipart() {
        assert_eq!(section(NESTED, "1.1"), Some("plain"));
        assert_eq!(section(NESTED, "1.1.MIME"), Some("\r\n"));
        assert_eq!(section(NESTED, "1.2"), Some("<p>\r\n"));
        assert_eq!(section(NESTED, "2"), Some("0123"));
        assert!(section(NESTED, "2.MIME").unwrap().ends_with("\"x y.z\"\r\n\r\n"));
        assert!(section(NESTED, "TEXT").unwrap().starts_with("before\r\n--o;o\r\n"));
        for absent in ["0", "3", "1.3", "2.1", "MIME", "2.TEXT", "2.HEADER"] {
            assert_eq!(section(NESTED, absent), None, "{absent}");
        }
    }

    #[test]
    fn a_message_without_parts_is_its_part_1() {
        assert_eq!(section(b"Subject: s\r\n\r\nbody\r\n", "1"), Some("body\r\n"));
        assert_eq!(section(b"Subject: s\r\n\r\nbody\r\n", "1.MIME"), Some("Subject: s\r\n\r\n"));
        assert_eq!(section(b"Subject: s\r\n\r\nbody\r\n", "1.1"), Some("body\r\n"));
        assert_eq!(section(b"Subject: s\r\n\r\nbody\r\n", "2"), None);
    }

    #[test]
    fn the_structure_names_every_leaf_with_its_size() {
        let found = leaves(Part::of(NESTED).structure().as_bytes()).unwrap();
        let found: Vec<_> =
            found.iter().map(|(at, (media, size))| (at.as_str(), media.as_str(), *size)).collect();
        assert_eq!(found, [("1.1", "text/plain", 5), ("1.2", "text/html", 5), ("2", "a/b", 4)]);
        let sample = pe_message();
        let structure = Part::of(&sample.octets).structure();
        let parsed = postern::imap::structure::Structure::parse(structure.as_bytes());
        let names: Vec<_> = parsed.unwrap().parts.into_iter().map(|part| part.names).collect();
        assert_eq!(names, [vec![], vec![], vec![b"setup.exe".to_vec()]], "{structure}");
    }
}
