//! The items of a FETCH response.

use super::{ANSWERED_ITEMS_MAX, AnsweredForm, AnsweredItem, AnsweredKind, ItemValue, ResponseFault};
use crate::imap::fetch::{
    ContentForm, FetchItem, Section, is_item_char, plain_item, rfc822_form, skip_label,
};
use crate::imap::grammar::{Grammar, Piece, fit};
use crate::imap::token::{Cursor, Malformed, StringForm};

/// A `BODYSTRUCTURE` or `ENVELOPE` whose strings or lists are not well-formed, as Exchange sends them. It reaches the client as it
/// came, so that it is bounded; a well-formed one is bounded by the text of a response.
pub const MALFORMED_STRUCTURE_BYTES_MAX: usize = 64 * 1024;

/// Items that most responses have.
const ITEMS_USUAL: usize = 4;

/// The list of items, from its parenthesis to its parenthesis.
pub(super) fn items(cursor: &mut Cursor<'_>) -> Result<Vec<AnsweredItem>, ResponseFault> {
    let mut items = Vec::with_capacity(ITEMS_USUAL);
    cursor.expect(b'(')?;
    cursor.odd_spaces();
    if cursor.skip(b')') {
        return Ok(items);
    }
    loop {
        if items.len() == ANSWERED_ITEMS_MAX {
            return Err(ResponseFault::TooManyItems);
        }
        items.push(item(cursor)?);
        if cursor.skip(b')') {
            return Ok(items);
        }
        cursor.space()?;
        cursor.odd_spaces();
        // Some servers send a space before the last parenthesis.
        if cursor.skip(b')') {
            return Ok(items);
        }
    }
}

fn item(cursor: &mut Cursor<'_>) -> Result<AnsweredItem, Malformed> {
    let start = cursor.at();
    let name = cursor.run(is_item_char)?;
    let (kind, value) = match cursor.peek() {
        Some(b'[' | b'<') => labelled(cursor, name)?,
        _ => named(cursor, name)?,
    };
    Ok(AnsweredItem { kind, range: start..cursor.at(), value })
}

/// An item with brackets, and its value.
fn labelled(cursor: &mut Cursor<'_>, name: &[u8]) -> Result<(AnsweredKind, ItemValue), Malformed> {
    let mut ahead = cursor.clone();
    let label = if name.eq_ignore_ascii_case(b"BODY") { label(&mut ahead) } else { Err(ahead.malformed()) };
    let Ok((section, origin)) = label else {
        skip_label(cursor)?;
        cursor.space()?;
        return unknown(cursor);
    };
    *cursor = ahead;
    cursor.space()?;
    content(cursor, AnsweredForm::Body, section, origin)
}

/// The section and the origin, to the space.
fn label(cursor: &mut Cursor<'_>) -> Result<(Section, Option<u32>), Malformed> {
    let section = Section::parse(cursor)?;
    let mut origin = None;
    if cursor.skip(b'<') {
        origin = Some(cursor.number()?);
        cursor.expect(b'>')?;
    }
    if cursor.peek() == Some(b' ') { Ok((section, origin)) } else { Err(cursor.malformed()) }
}

/// A section's octets. A value that is neither a string nor NIL is nothing that anybody asked for.
fn content(
    cursor: &mut Cursor<'_>,
    form: AnsweredForm,
    section: Section,
    origin: Option<u32>,
) -> Result<(AnsweredKind, ItemValue), Malformed> {
    match value(cursor)? {
        value @ ItemValue::Other(_) => Ok((AnsweredKind::Unknown, value)),
        value => Ok((AnsweredKind::Content { form, section, origin }, value)),
    }
}

/// An item without brackets, and its value.
fn named(cursor: &mut Cursor<'_>, name: &[u8]) -> Result<(AnsweredKind, ItemValue), Malformed> {
    cursor.space()?;
    if let Some(form) = rfc822_form(name) {
        let answered = match form {
            ContentForm::Rfc822Header => AnsweredForm::Rfc822Header,
            ContentForm::Rfc822Text => AnsweredForm::Rfc822Text,
            _ => AnsweredForm::Rfc822,
        };
        return content(cursor, answered, form.section(), None);
    }
    let start = cursor.at();
    match plain_item(name) {
        Some(FetchItem::Uid) => {
            let uid = cursor.nz_number()?;
            Ok((AnsweredKind::Uid(uid), ItemValue::Other(start..cursor.at())))
        }
        Some(FetchItem::Structure { extended }) => {
            Ok((AnsweredKind::Structure { extended }, described(cursor)?))
        }
        Some(FetchItem::Envelope) => Ok((AnsweredKind::Envelope, described(cursor)?)),
        item => match item.as_ref().and_then(plain) {
            Some((kind, grammar)) => Ok((kind, value_as(cursor, grammar)?)),
            None => unknown(cursor),
        },
    }
}

/// An item that is known by its name alone, and the grammar of its value: what is not in here is parsed by hand.
fn plain(item: &FetchItem) -> Option<(AnsweredKind, Grammar)> {
    const LABEL: Grammar = &[Piece::Astring];
    const OBJECT: Grammar =
        &[Piece::Either(&[&[Piece::Word(b"NIL")], &[Piece::Octet(b'('), Piece::Atom, Piece::Octet(b')')]])];
    Some(match item {
        FetchItem::Flags => (AnsweredKind::Flags, &[Piece::Flags]),
        FetchItem::InternalDate => (AnsweredKind::InternalDate, &[Piece::NString]),
        FetchItem::Rfc822Size => (AnsweredKind::Rfc822Size, &[Piece::Number64]),
        FetchItem::ModSeq => {
            (AnsweredKind::ModSeq, &[Piece::Octet(b'('), Piece::Number64, Piece::Octet(b')')])
        }
        FetchItem::SaveDate => (AnsweredKind::SaveDate, &[Piece::NString]),
        FetchItem::EmailId => (AnsweredKind::EmailId, OBJECT),
        FetchItem::ThreadId => (AnsweredKind::ThreadId, OBJECT),
        FetchItem::GmMsgId => (AnsweredKind::GmMsgId, &[Piece::Digits]),
        FetchItem::GmThrId => (AnsweredKind::GmThrId, &[Piece::Digits]),
        FetchItem::GmLabels => (AnsweredKind::GmLabels, &[Piece::List(LABEL)]),
        _ => return None,
    })
}

fn unknown(cursor: &mut Cursor<'_>) -> Result<(AnsweredKind, ItemValue), Malformed> {
    Ok((AnsweredKind::Unknown, value(cursor)?))
}

/// Any value.
fn value(cursor: &mut Cursor<'_>) -> Result<ItemValue, Malformed> {
    value_as(cursor, &[Piece::Value])
}

fn value_as(cursor: &mut Cursor<'_>, grammar: Grammar) -> Result<ItemValue, Malformed> {
    let mut ahead = cursor.clone();
    let start = cursor.at();
    fit(cursor, grammar)?;
    let whole = start..cursor.at();
    if whole.len() == b"NIL".len() && ahead.skip_word(b"NIL") {
        return Ok(ItemValue::Nil);
    }
    match ahead.string_token() {
        Ok(token) if ahead.at() == whole.end => Ok(ItemValue::Octets {
            content: token.start..token.end,
            quoted: token.form == StringForm::Quoted,
            binary: token.form == StringForm::Binary,
        }),
        _ => Ok(ItemValue::Other(whole)),
    }
}

/// The list of `ENVELOPE`, `BODY` or `BODYSTRUCTURE`, or NIL. Where its tokens are not well-formed, its end is where its
/// parentheses are balanced outside of what looks like a string.
fn described(cursor: &mut Cursor<'_>) -> Result<ItemValue, Malformed> {
    let start = cursor.at();
    if cursor.skip_word(b"NIL") {
        return Ok(ItemValue::Nil);
    }
    if cursor.peek() != Some(b'(') {
        return Err(cursor.malformed());
    }
    let mut ahead = cursor.clone();
    if ahead.skip_value().is_ok() {
        *cursor = ahead;
    } else {
        let len = balanced(cursor.rest()).ok_or(cursor.malformed())?;
        cursor.advance(len);
    }
    Ok(ItemValue::Other(start..cursor.at()))
}

/// What follows lets a value end: the next item's name or the end of the list.
fn ends_value(rest: &[u8]) -> bool {
    match rest {
        [b' ', name, ..] => name.is_ascii_alphabetic() || *name == b')',
        [b')', behind @ ..] => matches!(behind, [b'\r' | b'\n' | b' ', ..]),
        _ => false,
    }
}

/// Octets of a list with strings that are not well-formed. A string begins behind a space or a parenthesis and ends
/// before one: so `"a "b" c.txt"` is one. There is no line end in it, and so no literal: clients would not agree on it.
fn balanced(octets: &[u8]) -> Option<usize> {
    let octets = octets.get(..MALFORMED_STRUCTURE_BYTES_MAX).unwrap_or(octets);
    let mut depth = 0_usize;
    let mut in_string = false;
    let mut before = b' ';
    for (at, &octet) in octets.iter().enumerate() {
        let next = octets.get(at + 1).copied();
        match octet {
            b'\r' | b'\n' | 0 => return None,
            b'"' if in_string => in_string = !matches!(next, Some(b' ' | b')' | b'(')),
            b'"' => in_string = matches!(before, b' ' | b'('),
            b'(' if !in_string => depth += 1,
            b')' if !in_string => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    let len = at + 1;
                    return octets.get(len..).filter(|rest| ends_value(rest)).map(|_| len);
                }
            }
            _ => {}
        }
        before = octet;
    }
    None
}

#[cfg(test)]
mod tests;
