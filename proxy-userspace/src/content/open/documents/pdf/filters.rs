//! The filters of PDF's streams (ISO 32000-1 section 7.4), those of images aside.

use super::super::Opening;
use super::super::inflate::inflated;
use super::tokens::{self, all_behind, behind, hexadecimal, name_at, trimmed};
use crate::content::Condition;

/// Filters one after the other.
const FILTERS_MAX: usize = 8;
/// Filters of one dictionary of which each is tried: the first one may be that of a dictionary within.
const CHAINS_MAX: usize = 8;
/// Octets of a row under a predictor.
const ROW_BYTES_MAX: usize = 1 << 20;
/// LZW: codes for "begin anew" and "end", the first code of a table, and the codes of a table.
const LZW_CLEAR: usize = 256;
const LZW_END: usize = 257;
const LZW_CODES: usize = 4_096;

/// A stream behind its filters, as far as they give something; taken out of the bounds. Where the dictionary names filters
/// at several places, it is read behind each of them. None where a filter is unknown here, or gives nothing. `rest` goes on
/// where `body` ends: filters know their own end.
pub(super) fn decoded(
    dictionary: &[u8],
    body: &[u8],
    rest: &[u8],
    opening: &mut Opening<'_, '_>,
) -> Vec<Vec<u8>> {
    let mut chains: Vec<Vec<Vec<u8>>> = Vec::new();
    for from in all_behind(dictionary, b"Filter") {
        let chain = chain(from);
        if chains.contains(&chain) {
            continue;
        }
        if chains.len() >= CHAINS_MAX {
            opening.found(Condition::BrokenFile);
            break;
        }
        chains.push(chain);
    }
    if chains.is_empty() {
        chains.push(Vec::new());
    }
    chains.iter().filter_map(|chain| behind_chain(chain, dictionary, body, rest, opening)).collect()
}

fn behind_chain(
    chain: &[Vec<u8>],
    dictionary: &[u8],
    body: &[u8],
    rest: &[u8],
    opening: &mut Opening<'_, '_>,
) -> Option<Vec<u8>> {
    let mut octets = None;
    for filter in chain.iter().take(FILTERS_MAX) {
        let input = octets.as_deref().unwrap_or(rest);
        octets = Some(filtered(filter, input, opening)?);
    }
    let octets = match octets {
        Some(octets) => octets,
        None if opening.takes(body.len()) => body.to_vec(),
        None => return None,
    };
    (!octets.is_empty()).then(|| unpredicted(dictionary, octets))
}

/// The names of the filters. Where they stand elsewhere, deflate is tried.
fn chain(from: &[u8]) -> Vec<Vec<u8>> {
    let from = trimmed(from);
    match from.first() {
        Some(b'/') => name_at(from, 0).map(|(name, _)| vec![name.into_owned()]).unwrap_or_default(),
        Some(b'[') => {
            let list = from.get(..memchr::memchr(b']', from).unwrap_or(from.len())).unwrap_or_default();
            tokens::names(list).map(std::borrow::Cow::into_owned).collect()
        }
        Some(b'0'..=b'9') => vec![b"FlateDecode".to_vec()],
        _ => Vec::new(),
    }
}

fn filtered(filter: &[u8], input: &[u8], opening: &mut Opening<'_, '_>) -> Option<Vec<u8>> {
    let room = opening.room(input.len());
    let mut octets = match filter {
        b"FlateDecode" | b"Fl" => return inflated(input, opening),
        b"ASCIIHexDecode" | b"AHx" => hexadecimal(input),
        b"ASCII85Decode" | b"A85" => ascii85(input),
        b"LZWDecode" | b"LZW" => lzw(input, room),
        b"RunLengthDecode" | b"RL" => run_length(input, room),
        _ => return None,
    };
    if octets.len() > room {
        opening.found(Condition::ArchiveLimits);
        octets.truncate(room);
    }
    (opening.takes(octets.len()) && !octets.is_empty()).then_some(octets)
}

/// Five characters are four octets; `z` is four zeros; `~` ends it.
fn ascii85(input: &[u8]) -> Vec<u8> {
    let mut octets = Vec::new();
    let (mut value, mut count) = (0u32, 0usize);
    for octet in input.strip_prefix(b"<~").unwrap_or(input) {
        match octet {
            b'~' => break,
            b'z' if count == 0 => octets.extend_from_slice(&[0; 4]),
            b'!'..=b'u' => {
                value = value.wrapping_mul(85).wrapping_add(u32::from(octet - b'!'));
                count += 1;
                if count == 5 {
                    octets.extend_from_slice(&value.to_be_bytes());
                    (value, count) = (0, 0);
                }
            }
            _ => {}
        }
    }
    if count > 1 {
        for _ in count..5 {
            value = value.wrapping_mul(85).wrapping_add(84);
        }
        octets.extend_from_slice(value.to_be_bytes().get(..count - 1).unwrap_or_default());
    }
    octets
}

fn run_length(input: &[u8], room: usize) -> Vec<u8> {
    let mut octets = Vec::new();
    let mut rest = input;
    while let Some((length, behind)) = rest.split_first() {
        if *length == 128 || octets.len() > room {
            break;
        }
        if *length < 128 {
            let run = behind.get(..usize::from(*length) + 1).unwrap_or(behind);
            octets.extend_from_slice(run);
            rest = behind.get(run.len()..).unwrap_or_default();
        } else {
            let Some((octet, behind)) = behind.split_first() else { break };
            octets.resize(octets.len().saturating_add(257 - usize::from(*length)), *octet);
            rest = behind;
        }
    }
    octets
}

/// Codes of nine to twelve bits. An entry of the table is where its octets stand in what was made.
fn lzw(input: &[u8], room: usize) -> Vec<u8> {
    let mut octets: Vec<u8> = Vec::new();
    let mut table: Vec<(usize, usize)> = Vec::new();
    let (mut bits, mut held, mut width) = (0u32, 0u32, 9u32);
    let mut last: Option<(usize, usize)> = None;
    for octet in input {
        bits = bits << 8 | u32::from(*octet);
        held += 8;
        if held < width || octets.len() > room {
            continue;
        }
        held -= width;
        let code = usize::try_from(bits >> held & ((1 << width) - 1)).unwrap_or(LZW_END);
        match code {
            LZW_END => break,
            LZW_CLEAR => {
                table.clear();
                (width, last) = (9, None);
                continue;
            }
            _ => {}
        }
        let begin = octets.len();
        match code.checked_sub(LZW_END + 1) {
            None => octets.push(u8::try_from(code).unwrap_or_default()),
            Some(entry) => {
                // A code that is just being made repeats the last one and its first octet.
                let made = table.get(entry).copied();
                let Some((at, length)) = made.or(last.map(|(at, length)| (at, length + 1))) else { break };
                for offset in 0..length {
                    let octet = octets.get(at + offset).copied().unwrap_or_default();
                    octets.push(octet);
                }
            }
        }
        if let Some((at, length)) = last
            && table.len() < LZW_CODES - LZW_END
        {
            table.push((at, length + 1));
        }
        last = Some((begin, octets.len() - begin));
        // The width grows one code early, as PDF has it by default.
        width = match table.len() + LZW_END + 2 {
            ..511 => 9,
            511..1023 => 10,
            1023..2047 => 11,
            _ => 12,
        };
    }
    octets
}

/// Rows without their predictor (ISO 32000-1 section 7.4.4.4), where the dictionary names one of PNG's.
fn unpredicted(dictionary: &[u8], octets: Vec<u8>) -> Vec<u8> {
    let number = |name| behind(dictionary, name).and_then(tokens::number).map(|(number, _)| number as usize);
    if number(b"Predictor").is_none_or(|predictor| predictor < 10) {
        return octets;
    }
    let pixel = number(b"Colors").unwrap_or(1).saturating_mul(number(b"BitsPerComponent").unwrap_or(8));
    let row_bytes = number(b"Columns").unwrap_or(1).saturating_mul(pixel).div_ceil(8).clamp(1, ROW_BYTES_MAX);
    let pixel_bytes = pixel.div_ceil(8).clamp(1, row_bytes);
    let mut plain: Vec<u8> = Vec::with_capacity(octets.len());
    for row in octets.chunks(row_bytes + 1) {
        let Some((filter, row)) = row.split_first() else { break };
        let begin = plain.len();
        for (column, octet) in row.iter().enumerate() {
            let back = |from: usize, by: usize| {
                from.checked_sub(by).and_then(|at| plain.get(at)).copied().unwrap_or(0)
            };
            let at = begin + column;
            let left = if column < pixel_bytes { 0 } else { back(at, pixel_bytes) };
            let above = back(at, row_bytes);
            let corner = if column < pixel_bytes { 0 } else { back(at, row_bytes + pixel_bytes) };
            let predicted = match filter {
                1 => left,
                2 => above,
                3 => u8::midpoint(left, above),
                4 => paeth(left, above, corner),
                _ => 0,
            };
            plain.push(octet.wrapping_add(predicted));
        }
    }
    plain
}

fn paeth(left: u8, above: u8, corner: u8) -> u8 {
    let guess = i32::from(left) + i32::from(above) - i32::from(corner);
    let distance = |other: u8| (guess - i32::from(other)).abs();
    if distance(left) <= distance(above) && distance(left) <= distance(corner) {
        left
    } else if distance(above) <= distance(corner) {
        above
    } else {
        corner
    }
}
