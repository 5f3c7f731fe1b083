//! uuencode, and its sister in base64 (`begin-base64`), anywhere in a text.
//!
//! Clients differ: some look at the count that begins a line, some at the characters that are there; some let a second
//! `begin` end the file before it, some take it for data. Each of these files is given.

use std::borrow::Cow;

use super::{Opening, next_word};
use crate::content::Condition;
use crate::content::header::line_at;
use crate::content::reading::Base64Decoder;

/// Files that are open at once, since each `begin` begins one and only `end` ends them. More of them hide something.
const OPEN_MAX: usize = 8;
/// Lines that are as long as none of uuencode, after which a text without a mode is taken for prose.
const PROSE_LINES: usize = 16;
/// Digits of a mode.
const MODE_DIGITS_MAX: usize = 12;

pub(super) fn may_hold(octets: &[u8]) -> bool {
    next_begin(octets, 0).is_some()
}

pub(super) fn open(octets: &[u8], opening: &mut Opening<'_, '_>) {
    let mut files: Vec<File<'_>> = Vec::new();
    let mut at = 0;
    while !opening.is_over {
        if files.is_empty() {
            let Some(begin) = next_begin(octets, at) else { return };
            at = begin;
        }
        let Some(line) = line_at(octets, at) else { break };
        at = line.next;
        let text = octets.get(line.range).unwrap_or_default();
        // The end of one kind is data of the other.
        for file in files.extract_if(.., |file| file.is_end(text)) {
            file.give(opening);
        }
        for file in &mut files {
            if !file.line(text, opening) {
                return;
            }
        }
        files.retain(|file| !file.is_prose());
        let Some(file) = File::begun_by(text) else { continue };
        // A sentence that begins with "begin" begins no file in the middle of another one.
        if files.is_empty() || file.has_mode {
            files.push(file);
        }
        if files.len() > OPEN_MAX {
            opening.found(Condition::MimeLimits);
            break;
        }
    }
    files.into_iter().for_each(|file| file.give(opening));
}

/// The next line that begins a file.
fn next_begin(octets: &[u8], at: usize) -> Option<usize> {
    let mut at = at;
    loop {
        let place = next_word(octets, b"begin", at)?;
        let line = line_at(octets, place)?;
        if File::begun_by(octets.get(line.range)?).is_some() {
            return Some(place);
        }
        at = line.next;
    }
}

/// A file in progress.
struct File<'t> {
    name: &'t [u8],
    has_mode: bool,
    base64: Option<Base64Decoder>,
    /// By the counts of the lines.
    counted: Vec<u8>,
    /// By the characters of the lines, where that is something else.
    measured: Option<Vec<u8>>,
    /// Lines that are as long as they say, and others.
    even: usize,
    odd: usize,
}

impl<'t> File<'t> {
    /// `begin MODE NAME`; without a mode for the clients that look at the word alone.
    fn begun_by(line: &'t [u8]) -> Option<Self> {
        let rest = line.strip_prefix(b"begin")?;
        let (rest, is_base64) = rest.strip_prefix(b"-base64").map_or((rest, false), |rest| (rest, true));
        if !matches!(rest, [b' ' | b'\t', ..]) {
            return None;
        }
        let rest = rest.trim_ascii();
        let digits = rest.iter().take_while(|octet| octet.is_ascii_digit()).count();
        let has_mode = (1..=MODE_DIGITS_MAX).contains(&digits)
            && rest.get(digits).is_none_or(|octet| octet.is_ascii_whitespace());
        let name = if has_mode { rest.get(digits..).unwrap_or_default() } else { rest };
        Some(Self {
            name: name.trim_ascii(),
            has_mode: has_mode || is_base64,
            base64: is_base64.then(Base64Decoder::default),
            counted: Vec::new(),
            measured: None,
            even: 0,
            odd: 0,
        })
    }

    fn is_end(&self, line: &[u8]) -> bool {
        match self.base64 {
            Some(_) => line.starts_with(b"===="),
            None => line.trim_ascii_end() == b"end",
        }
    }

    /// One more line. False: no more octets may be made.
    fn line(&mut self, line: &[u8], opening: &mut Opening<'_, '_>) -> bool {
        if let Some(decoder) = &mut self.base64 {
            let is_taken = opening.take(line.len());
            if is_taken {
                decoder.push(line, &mut self.counted);
                self.even = self.even.saturating_add(1);
            }
            return is_taken;
        }
        let Some((first, characters)) = line.split_first() else { return true };
        let count = usize::from(sixbit(*first));
        let needed = count.div_ceil(3).saturating_mul(4);
        let is_odd = characters.len() < needed || characters.len() > needed.saturating_add(1);
        if count == 0 && characters.trim_ascii().len() <= 1 {
            return true;
        }
        let room =
            if is_odd || self.measured.is_some() { count.saturating_add(characters.len()) } else { count };
        if !opening.take(room) {
            return false;
        }
        // Where spaces at the end were cut off, what is left is of the alphabet.
        let may_be_cut = characters.len() < needed && line.iter().all(|octet| matches!(octet, b' '..=b'`'));
        if !is_odd || may_be_cut {
            self.even = self.even.saturating_add(1);
        } else {
            self.odd = self.odd.saturating_add(1);
        }
        if is_odd {
            let measured = self.measured.get_or_insert_with(|| self.counted.clone());
            decode(characters, characters.len() / 4 * 3 + (characters.len() % 4).saturating_sub(1), measured);
        } else if let Some(measured) = &mut self.measured {
            decode(characters, count, measured);
        }
        decode(characters, count, &mut self.counted);
        true
    }

    /// A sentence that begins with "begin", and the text behind it.
    const fn is_prose(&self) -> bool {
        !self.has_mode && self.odd > self.even.saturating_add(PROSE_LINES)
    }

    fn give(mut self, opening: &mut Opening<'_, '_>) {
        if let Some(decoder) = &mut self.base64 {
            decoder.flush(&mut self.counted);
        }
        // Prose that quotes such a line is no file: it has no name, and a sentence that begins with "begin" no octets.
        let is_even = self.even >= self.odd;
        if self.counted.is_empty() && self.measured.as_ref().is_none_or(Vec::is_empty)
            || !self.has_mode && !is_even
        {
            return;
        }
        let names = if is_even { opening.name(self.name) } else { Vec::new() };
        if let Some(measured) = self.measured.filter(|measured| *measured != self.counted) {
            opening.give(names.clone(), Cow::Owned(measured));
        }
        opening.give(names, Cow::Owned(self.counted));
    }
}

/// The value of a character: a backquote is a space, and clients look at six bits only.
const fn sixbit(octet: u8) -> u8 {
    octet.wrapping_sub(b' ') & 63
}

/// So many octets of these characters. Spaces at the end may have been cut off.
fn decode(characters: &[u8], octets: usize, out: &mut Vec<u8>) {
    let end = out.len().saturating_add(octets);
    let mut quanta = characters.chunks(4);
    while out.len() < end {
        let quantum = quanta.next().unwrap_or_default();
        let bits =
            (0..4).fold(0u32, |bits, at| bits << 6 | u32::from(quantum.get(at).map_or(0, |c| sixbit(*c))));
        let [_, a, b, c] = bits.to_be_bytes();
        out.extend([a, b, c].into_iter().take(end.saturating_sub(out.len())));
    }
}
