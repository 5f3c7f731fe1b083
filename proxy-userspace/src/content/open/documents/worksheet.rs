//! Records of worksheets ([MS-XLS]): whether they are encrypted, and whether one is a sheet of Excel 4.0 macros.

use super::octets::{le16, part};
use crate::content::Condition;

/// Records that are looked at. A record has four octets at least.
const RECORDS_MAX: usize = 4 << 20;

const FILE_PASS: u16 = 0x2f;
const BOUND_SHEET: u16 = 0x85;
/// What a sheet begins with, in each version.
const BEGINS: [u16; 4] = [0x0009, 0x0209, 0x0409, 0x0809];
const MACRO_SHEET: u16 = 0x40;

/// What the records of a stream show.
pub(super) fn conditions(stream: &[u8]) -> Vec<Condition> {
    let mut found = Vec::new();
    let mut at = 0usize;
    let mut is_encrypted = false;
    for _ in 0..RECORDS_MAX {
        let (Some(kind), Some(size)) = (le16(stream, at), le16(stream, at.saturating_add(2))) else { break };
        let content = part(stream, at.saturating_add(4), usize::from(size));
        match kind {
            FILE_PASS if !is_encrypted => {
                is_encrypted = true;
                found.push(Condition::EncryptedFile);
            }
            // The record's octet behind place and visibility says what the sheet is. It is encrypted with the rest.
            BOUND_SHEET if !is_encrypted && content.get(5) == Some(&1) => found.push(Condition::Macro),
            _ if BEGINS.contains(&kind) && le16(content, 2) == Some(MACRO_SHEET) => {
                found.push(Condition::Macro)
            }
            _ => {}
        }
        at = at.saturating_add(4).saturating_add(usize::from(size));
    }
    found
}
