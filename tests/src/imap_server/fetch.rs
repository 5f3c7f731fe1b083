//! What a FETCH names, and what it brings.

use std::ops::RangeInclusive;

use anyhow::{Result, bail};

use super::parts::Part;

/// Most attributes that one FETCH may name.
const ITEMS_MAX: usize = 64;

/// The messages of a sequence set (RFC 3501 section 9 `sequence-set`), in order; those that do not exist are left out.
pub(crate) fn sequence(set: &str, count: usize) -> Result<Vec<usize>> {
    let mut numbers = Vec::new();
    for part in set.split(',') {
        let (from, to) = part.split_once(':').unwrap_or((part, part));
        let range = ordered(number(from, count)?, number(to, count)?);
        numbers.extend(range.filter(|number| (1..=count).contains(number)));
        numbers.truncate(count);
    }
    Ok(numbers)
}

fn number(text: &str, count: usize) -> Result<usize> {
    match text {
        "*" => Ok(count),
        _ => text.parse().map_err(|_| anyhow::anyhow!("no message number: {text:?}")),
    }
}

const fn ordered(one: usize, other: usize) -> RangeInclusive<usize> {
    if one <= other { one..=other } else { other..=one }
}

/// The attributes that a FETCH asks for, macros spelled out.
pub(crate) fn items(text: &str) -> Result<Vec<String>> {
    let upper = text.to_uppercase();
    let list = match upper.as_str() {
        "ALL" => "FLAGS INTERNALDATE RFC822.SIZE",
        "FAST" => "FLAGS INTERNALDATE RFC822.SIZE",
        _ => upper.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')).unwrap_or(&upper),
    };
    let (mut items, mut item, mut depth) = (Vec::new(), String::new(), 0_u32);
    for letter in list.chars() {
        match letter {
            '[' | '(' => depth += 1,
            ']' | ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if letter == ' ' && depth == 0 {
            items.push(std::mem::take(&mut item));
        } else {
            item.push(letter);
        }
    }
    items.push(item);
    items.retain(|item| !item.is_empty());
    if items.len() > ITEMS_MAX {
        bail!("{} attributes", items.len());
    }
    Ok(items)
}

/// One FETCH response.
pub(crate) fn response(number: usize, message: &[u8], items: &[String], uid: bool) -> Result<Vec<u8>> {
    let mut out = format!("* {number} FETCH (").into_bytes();
    let mut names: Vec<&str> = items.iter().map(String::as_str).collect();
    if uid && !names.contains(&"UID") {
        names.insert(0, "UID");
    }
    for (at, name) in names.iter().enumerate() {
        if at > 0 {
            out.push(b' ');
        }
        attribute(name, number, message, &mut out)?;
    }
    out.extend_from_slice(b")\r\n");
    Ok(out)
}

fn attribute(name: &str, number: usize, message: &[u8], out: &mut Vec<u8>) -> Result<()> {
    match name {
        "UID" => out.extend_from_slice(format!("UID {number}").as_bytes()),
        "FLAGS" => out.extend_from_slice(b"FLAGS ()"),
        "INTERNALDATE" => out.extend_from_slice(b"INTERNALDATE \"24-Nov-2026 08:00:00 +0000\""),
        "RFC822.SIZE" => out.extend_from_slice(format!("RFC822.SIZE {}", message.len()).as_bytes()),
        "RFC822" => literal("RFC822", message, out),
        "RFC822.HEADER" => {
            literal("RFC822.HEADER", Part::of(message).section("HEADER").unwrap_or_default(), out)
        }
        "BODYSTRUCTURE" => {
            out.extend_from_slice(format!("BODYSTRUCTURE {}", Part::of(message).structure()).as_bytes());
        }
        _ => body(name, message, out)?,
    }
    Ok(())
}

/// `BODY[SECTION]<FROM.COUNT>`; the response names the section and the origin, never PEEK or the count.
fn body(name: &str, message: &[u8], out: &mut Vec<u8>) -> Result<()> {
    let rest = name.strip_prefix("BODY.PEEK[").or_else(|| name.strip_prefix("BODY["));
    let Some((section, partial)) = rest.and_then(|rest| rest.rsplit_once(']')) else {
        bail!("no such attribute: {name}");
    };
    // A whole message need not be parsed.
    let content = if section.is_empty() { Some(message) } else { Part::of(message).section(section) };
    let Some(content) = content else {
        // What servers say of a part that is not there.
        out.extend_from_slice(format!("BODY[{section}] NIL").as_bytes());
        return Ok(());
    };
    let range = partial.strip_prefix('<').and_then(|rest| rest.strip_suffix('>'));
    let Some((from, count)) = range.and_then(|range| range.split_once('.')) else {
        literal(&format!("BODY[{section}]"), content, out);
        return Ok(());
    };
    let (from, count): (usize, usize) = (from.parse()?, count.parse()?);
    let piece = content.get(from..from.saturating_add(count).min(content.len())).unwrap_or_default();
    literal(&format!("BODY[{section}]<{from}>"), piece, out);
    Ok(())
}

fn literal(name: &str, content: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("{name} {{{}}}\r\n", content.len()).as_bytes());
    out.extend_from_slice(content);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fetch(text: &str) -> String {
        let message = b"Subject: s\r\n\r\nbody\r\n";
        String::from_utf8(response(3, message, &items(text).unwrap(), false).unwrap()).unwrap()
    }

    #[test]
    fn sections_and_partials() {
        assert_eq!(fetch("BODY.PEEK[]<14.2>"), "* 3 FETCH (BODY[]<14> {2}\r\nbo)\r\n");
        assert_eq!(fetch("(UID RFC822.SIZE)"), "* 3 FETCH (UID 3 RFC822.SIZE 20)\r\n");
        assert_eq!(fetch("body[text]"), "* 3 FETCH (BODY[TEXT] {6}\r\nbody\r\n)\r\n");
        assert_eq!(
            fetch("BODY.PEEK[HEADER.FIELDS (SUBJECT)]"),
            "* 3 FETCH (BODY[HEADER.FIELDS (SUBJECT)] {14}\r\nSubject: s\r\n\r\n)\r\n"
        );
    }

    #[test]
    fn parts_and_the_structure() {
        assert_eq!(fetch("(BODY.PEEK[1] BODY[2])"), "* 3 FETCH (BODY[1] {6}\r\nbody\r\n BODY[2] NIL)\r\n");
        assert_eq!(
            fetch("BODYSTRUCTURE"),
            "* 3 FETCH (BODYSTRUCTURE (\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 6 1 NIL NIL NIL NIL))\r\n"
        );
    }

    #[test]
    fn a_partial_behind_the_end_is_empty() {
        assert_eq!(fetch("BODY[]<99.5>"), "* 3 FETCH (BODY[]<99> {0}\r\n)\r\n");
    }

    #[test]
    fn sets_of_numbers() {
        assert_eq!(sequence("1,3:*", 5).unwrap(), [1, 3, 4, 5]);
        assert_eq!(sequence("*:4", 5).unwrap(), [4, 5]);
        assert_eq!(sequence("9", 5).unwrap(), [0; 0]);
    }
}
