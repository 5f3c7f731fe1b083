//! What a file is, from its first octets.
//!
//! A small table of our own: `infer` knows hundreds of types of which none is needed, takes any text that begins with
//! "MZ" for a program, and any Java class for a Mach-O file.

/// Documents and media.
mod documents;
/// Archives, compressed files and images of disks.
mod archives;
/// Text.
pub(super) mod text;

pub(super) use documents::OLE;

use super::RealType;

/// Octets kept from the beginning: the header of a DOS program (64), and a signature directly behind it.
pub(super) const HEAD_BYTES: usize = 68;
/// Where a DOS header says where the Windows header stands.
const NEW_HEADER_AT: usize = 60;
/// Interpreter lines: blanks between `#!` and the path.
const SCRIPT_BLANKS_MAX: usize = 16;
/// A shortcut's header size and class identifier ([MS-SHLLINK] section 2.1).
const SHORTCUT: [u8; 20] = [0x4c, 0, 0, 0, 1, 0x14, 2, 0, 0, 0, 0, 0, 0xc0, 0, 0, 0, 0, 0, 0, 0x46];
/// Processors of a Mach-O file for several. The same octets of a Java class are its version, from 45 on.
const FAT_ARCHITECTURES_MAX: u32 = 42;

/// Finds the type of octets that arrive in pieces. It keeps the first ones, and looks at four others later: the
/// Windows header may stand anywhere.
#[derive(Clone, Debug, Default)]
pub(super) struct TypeProbe {
    head: Vec<u8>,
    seen: u64,
    signature: [Option<u8>; 4],
}

impl TypeProbe {
    pub(super) fn push(&mut self, octets: &[u8]) {
        let room = HEAD_BYTES.saturating_sub(self.head.len());
        self.head.extend_from_slice(octets.get(..room.min(octets.len())).unwrap_or_default());
        if let Some(at) = self.new_header() {
            for (offset, slot) in (at..).zip(self.signature.iter_mut()) {
                let kept = usize::try_from(offset).ok().and_then(|offset| self.head.get(offset));
                let here = offset
                    .checked_sub(self.seen)
                    .and_then(|offset| usize::try_from(offset).ok())
                    .and_then(|offset| octets.get(offset));
                *slot = slot.or(kept.or(here).copied());
            }
        }
        self.seen += octets.len() as u64;
    }

    fn new_header(&self) -> Option<u64> {
        (is_dos(&self.head)).then(|| le32(&self.head, NEW_HEADER_AT).map(u64::from)).flatten()
    }

    /// The type, when all octets have come.
    pub(super) fn finish(&self) -> Option<RealType> {
        let head = self.head.as_slice();
        match self.signature {
            [Some(b'P'), Some(b'E'), Some(0), Some(0)]
            | [Some(b'N' | b'L'), Some(b'E'), ..]
            | [Some(b'L'), Some(b'X'), ..] => return Some(RealType::WindowsProgram),
            _ => {}
        }
        if is_dos(head) && is_dos_program(head, self.seen) {
            return Some(RealType::DosProgram);
        }
        if head.starts_with(&SHORTCUT) {
            return Some(RealType::Shortcut);
        }
        match head {
            [0x7f, b'E', b'L', b'F', ..] => Some(RealType::Elf),
            [b'd', b'e', b'x', b'\n', a, b, c, 0, ..]
                if [a, b, c].iter().all(|digit| digit.is_ascii_digit()) =>
            {
                Some(RealType::Dex)
            }
            [b'#', b'!', rest @ ..] if is_path(rest) => Some(RealType::Script),
            [0xca, 0xfe, 0xba, 0xbe | 0xbf, a, b, c, d, ..] => match u32::from_be_bytes([*a, *b, *c, *d]) {
                1..=FAT_ARCHITECTURES_MAX => Some(RealType::MachO),
                0 => None,
                _ => Some(RealType::JavaClass),
            },
            // The file's kind, in the file's own order of octets, is a small number.
            [0xfe, 0xed, 0xfa, 0xce | 0xcf, ..] => {
                matches!(head.get(12..16), Some([0, 0, 0, 1..=32])).then_some(RealType::MachO)
            }
            [0xce | 0xcf, 0xfa, 0xed, 0xfe, ..] => {
                matches!(head.get(12..16), Some([1..=32, 0, 0, 0])).then_some(RealType::MachO)
            }
            _ => None,
        }
    }
}

/// The type of a whole file.
pub(super) fn real_type(octets: &[u8]) -> Option<RealType> {
    let mut probe = TypeProbe::default();
    probe.push(octets);
    probe
        .finish()
        .or_else(|| documents::document_type(octets))
        .or_else(|| archives::archive_type(octets))
        .or_else(|| documents::text_type(octets))
}

/// Whether octets may be the beginning of a program. Cheap: four octets decide.
pub(super) fn may_begin(head: &[u8]) -> bool {
    is_dos(head)
        || matches!(
            head,
            [0x7f, b'E', b'L', b'F', ..]
                | [b'd', b'e', b'x', b'\n', ..]
                | [b'#', b'!', b'/' | b' ' | b'\t', ..]
                | [0xca, 0xfe, 0xba, 0xbe | 0xbf, ..]
                | [0xfe, 0xed, 0xfa, 0xce | 0xcf, ..]
                | [0xce | 0xcf, 0xfa, 0xed, 0xfe, ..]
                | [0x4c, 0, 0, 0, ..]
        )
}

/// Whether octets of which [`may_begin`] holds may be a program of so many octets at most. Text is told from DOS programs
/// by their numbers; where too little of the beginning is there, or it is of another kind, they may.
pub(super) fn may_go_on(head: &[u8], octets: usize) -> bool {
    let length = octets as u64;
    let Some(new_header) = le32(head, NEW_HEADER_AT).filter(|_| is_dos(head)) else { return true };
    u64::from(new_header) < length || is_dos_program(head, length)
}

fn is_dos(head: &[u8]) -> bool {
    matches!(head, [b'M', b'Z', ..] | [b'Z', b'M', ..])
}

/// Whether the numbers of a DOS header agree with each other and with the length. Text that begins with "MZ", or that
/// does when it is read as base64, has no such numbers.
fn is_dos_program(head: &[u8], length: u64) -> bool {
    let field = |at| le16(head, at).map(u64::from);
    let (Some(last_page), Some(pages), Some(relocations), Some(paragraphs), Some(table)) =
        (field(2), field(4), field(6), field(8), field(24))
    else {
        return false;
    };
    let header = paragraphs * 16;
    let image = match last_page {
        0 | 512 => pages * 512,
        _ => (pages * 512 + last_page).saturating_sub(512),
    };
    last_page <= 512
        && pages > 0
        && header >= 32
        && header < image
        && image <= length
        && (relocations == 0 || table + relocations * 4 <= header)
}

fn is_path(rest: &[u8]) -> bool {
    rest.iter().take(SCRIPT_BLANKS_MAX).find(|octet| !matches!(octet, b' ' | b'\t')) == Some(&b'/')
}

fn le16(octets: &[u8], at: usize) -> Option<u16> {
    octets.get(at..)?.first_chunk().map(|octets| u16::from_le_bytes(*octets))
}

fn le32(octets: &[u8], at: usize) -> Option<u32> {
    octets.get(at..)?.first_chunk().map(|octets| u32::from_le_bytes(*octets))
}
