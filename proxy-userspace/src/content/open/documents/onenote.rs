//! OneNote: embedded files stand in it as they are, behind an identifier ([MS-ONESTORE] section 2.6.13).

use memchr::memmem;

use super::Opening;
use super::octets::{le64, part};
use crate::content::Condition;
use crate::content::RealType;
use crate::content::magic::real_type;

/// What begins an embedded file: {BDE316E7-2665-4511-A4C4-8D4D0B7A9EAC}.
const FILE: [u8; 16] =
    [0xe7, 0x16, 0xe3, 0xbd, 0x65, 0x26, 0x11, 0x45, 0xa4, 0xc4, 0x8d, 0x4d, 0x0b, 0x7a, 0x9e, 0xac];
/// Octets between the beginning and the file: the identifier, the length, and what is reserved.
const HEAD_BYTES: usize = 36;

/// Give the embedded files. Pictures of a page stand in it in the same way, and are nothing that a click runs.
pub(super) fn open(octets: &[u8], opening: &mut Opening<'_, '_>) {
    for (number, at) in memmem::find_iter(octets, &FILE).enumerate() {
        if opening.is_ended() {
            return;
        }
        let size = le64(octets, at.saturating_add(16)).unwrap_or_default();
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let file = part(octets, at.saturating_add(HEAD_BYTES), size);
        let is_picture = matches!(
            real_type(file),
            Some(
                RealType::Png
                    | RealType::Jpeg
                    | RealType::Gif
                    | RealType::Webp
                    | RealType::Bmp
                    | RealType::Tiff
                    | RealType::Icon
            )
        );
        if !is_picture && !file.is_empty() {
            opening.found(Condition::ActiveContent);
        }
        opening.member(&[&format!("file-{}", number.saturating_add(1))], file);
    }
}
