//! The grammar of what follows the name of a command or of a datum, as tables spell it.

use super::token::{Cursor, Malformed};

/// One piece of a grammar. Pieces that take several ways take the first that fits and do not come back to the others, so
/// that matching is linear.
#[derive(Clone, Copy, Debug)]
pub(super) enum Piece {
    /// A space.
    Space,
    /// This word, in any case.
    Word(&'static [u8]),
    /// This octet.
    Octet(u8),
    Atom,
    Astring,
    /// A string in quotes or a literal.
    String,
    /// A string or NIL.
    NString,
    /// A mailbox name with wildcards.
    Pattern,
    /// A number of 32 bits.
    Number,
    /// A number of 63 bits: a mod-sequence, a quota.
    Number64,
    /// Digits: a number of 64 bits.
    Digits,
    /// A sequence set or `$`.
    Set,
    Flag,
    /// Flags in parentheses.
    Flags,
    /// Any value.
    Value,
    /// A list of any values.
    AnyList,
    /// Any values with one space between two, one at least.
    Values,
    /// All of these or nothing.
    Maybe(Grammar),
    /// The first of these that fits.
    Either(&'static [Grammar]),
    /// These again and again, or not at all.
    Repeat(Grammar),
    /// A list of such items, which may be empty.
    List(Grammar),
}

/// Pieces in their order.
pub(super) type Grammar = &'static [Piece];

/// Take what keeps this grammar.
pub(super) fn fit(cursor: &mut Cursor<'_>, grammar: Grammar) -> Result<(), Malformed> {
    grammar.iter().try_for_each(|piece| fit_piece(cursor, piece))
}

/// Recurses as deep as the tables do.
fn fit_piece(cursor: &mut Cursor<'_>, piece: &Piece) -> Result<(), Malformed> {
    match *piece {
        Piece::Space => cursor.space(),
        Piece::Word(word) => cursor.skip_word(word).then_some(()).ok_or(cursor.malformed()),
        Piece::Octet(octet) => cursor.expect(octet),
        Piece::Atom => cursor.atom().map(drop),
        Piece::Astring => cursor.astring().map(drop),
        Piece::String => cursor.string().map(drop),
        Piece::NString => cursor.nstring().map(drop),
        Piece::Pattern => cursor.list_mailbox().map(drop),
        Piece::Number => cursor.number().map(drop),
        Piece::Number64 => cursor.number64().map(drop),
        Piece::Digits => cursor.run(|octet| octet.is_ascii_digit()).map(drop),
        Piece::Set => cursor.sequence_set().map(drop),
        Piece::Flag => cursor.flag().map(drop),
        Piece::Flags => cursor.flag_list().map(drop),
        Piece::Value => cursor.skip_value(),
        Piece::AnyList if cursor.peek() == Some(b'(') => cursor.skip_value(),
        Piece::AnyList => Err(cursor.malformed()),
        Piece::Values => {
            cursor.skip_value()?;
            while attempt(cursor, &[Piece::Space, Piece::Value]).is_ok() {}
            Ok(())
        }
        Piece::Maybe(grammar) => {
            let _ = attempt(cursor, grammar);
            Ok(())
        }
        Piece::Either(ways) => {
            let mut furthest = cursor.malformed();
            for grammar in ways {
                match attempt(cursor, grammar) {
                    Ok(()) => return Ok(()),
                    Err(malformed) if malformed.at > furthest.at => furthest = malformed,
                    Err(_) => {}
                }
            }
            Err(furthest)
        }
        Piece::Repeat(grammar) => {
            while attempt(cursor, grammar).is_ok() {}
            Ok(())
        }
        Piece::List(grammar) => cursor.list(|cursor| fit(cursor, grammar)),
    }
}

/// As `fit`, but the cursor stays where the grammar is not kept.
fn attempt(cursor: &mut Cursor<'_>, grammar: Grammar) -> Result<(), Malformed> {
    let before = cursor.clone();
    let fitted = fit(cursor, grammar);
    if fitted.is_err() {
        *cursor = before;
    }
    fitted
}
