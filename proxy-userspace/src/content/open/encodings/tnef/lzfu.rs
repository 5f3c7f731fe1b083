//! Compressed RTF ([MS-OXRTFCP]).

/// The window of references.
const WINDOW_BYTES: usize = 4_096;
/// What stands in the window at the beginning.
const PREFILL: &[u8] =
    b"{\\rtf1\\ansi\\mac\\deff0\\deftab720{\\fonttbl;}{\\f0\\fnil \\froman \\fswiss \\fmodern \\fscript \
\\fdecor MS Sans SerifSymbolArialTimes New RomanCourier{\\colortbl\\red0\\green0\\blue0\r\n\\par \
\\pard\\plain\\f0\\fs20\\b\\i\\u\\tab\\tx";
/// Sizes, the kind, and a checksum.
pub(super) const HEADER_BYTES: usize = 16;

/// The RTF, and of a damaged one its beginning. None where it is no such file, or makes more than `room` octets.
pub(super) fn decompressed(octets: &[u8], room: u64) -> Option<Vec<u8>> {
    let body = octets.get(HEADER_BYTES..)?;
    match octets.get(8..12)? {
        b"MELA" => Some(body.to_vec()),
        b"LZFu" => lzfu(body, usize::try_from(room).unwrap_or(usize::MAX)),
        _ => None,
    }
}

fn lzfu(octets: &[u8], room: usize) -> Option<Vec<u8>> {
    let mut window = [0u8; WINDOW_BYTES];
    for (slot, octet) in window.iter_mut().zip(PREFILL) {
        *slot = *octet;
    }
    let mut at = PREFILL.len();
    let mut out = Vec::new();
    let mut put = |octet: u8, window: &mut [u8; WINDOW_BYTES], at: &mut usize| {
        if let Some(slot) = window.get_mut(*at) {
            *slot = octet;
        }
        *at = (*at + 1) % WINDOW_BYTES;
        out.push(octet);
        out.len() <= room
    };
    let mut rest = octets.iter().copied();
    'file: while let Some(control) = rest.next() {
        for bit in 0..8 {
            let Some(first) = rest.next() else { break 'file };
            if control >> bit & 1 == 0 {
                if !put(first, &mut window, &mut at) {
                    return None;
                }
                continue;
            }
            let Some(second) = rest.next() else { break 'file };
            let offset = usize::from(first) << 4 | usize::from(second >> 4);
            if offset == at {
                break 'file;
            }
            for step in 0..usize::from(second & 15) + 2 {
                let octet = window.get((offset + step) % WINDOW_BYTES).copied().unwrap_or_default();
                if !put(octet, &mut window, &mut at) {
                    return None;
                }
            }
        }
    }
    Some(out)
}
