//! Files that are also an archive: behind a file of another type, or in a form that leaves its beginning free.
//!
//! A file is opened by its name, and no reader minds that its first octets are those of another type.

use memchr::memmem;

use super::octets::{le16, le32, slice};
use super::{RealType, is_archive, iso, tar, zip};

/// Places at which an archive of one type may begin behind another file. A program that opens archives holds their first
/// octets, too.
const PLACES_MAX: usize = 8;

/// An archive within a file of another type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beside {
    /// The archive's type.
    pub real: RealType,
    /// Where it begins.
    pub at: usize,
}

/// The archives within a file of another type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacesBeside {
    /// Where they begin.
    pub places: Vec<Beside>,
    /// No others may be there.
    pub are_all: bool,
}

/// The archives that a file of this type is as well.
#[must_use]
pub fn beside(real: Option<RealType>, octets: &[u8]) -> PlacesBeside {
    use RealType::{Ar, Cab, Cpio, DiskImage, Iso, Msi, Odf, Ole, Ooxml, Rar, SevenZip, Tar, Zip};

    let (mut found, mut are_all) = (Vec::new(), true);
    let is_zip = matches!(real, Some(Zip | Ooxml | Odf));
    let at_start = [
        (Zip, !is_zip && (zip::is_at_end(octets) || !real.is_some_and(is_archive) && zip::has_entry(octets))),
        (Iso, real != Some(Iso) && iso::is_image(octets)),
        (Tar, real != Some(Tar) && octets.get(..512).is_some_and(tar::is_header)),
        (DiskImage, real != Some(DiskImage) && has_disk_footer(octets)),
    ];
    found.extend(at_start.into_iter().filter(|(_, is)| *is).map(|(real, _)| Beside { real, at: 0 }));
    // The members of these are stored as they are, and come by themselves.
    let stores = matches!(real, Some(Tar | Iso | Cpio | Ar | Ole | Msi));
    if !stores {
        let mut search = |searched, magic: &[u8], is_one: fn(&[u8]) -> bool| {
            // Its own volumes and members hold the mark, too.
            if real == Some(searched) {
                return;
            }
            let places = memmem::find_iter(octets, magic).filter(|at| *at > 0);
            let mut places = places.filter(|at| octets.get(*at..).is_some_and(is_one));
            found.extend(places.by_ref().take(PLACES_MAX).map(|at| Beside { real: searched, at }));
            are_all &= places.next().is_none();
        };
        search(SevenZip, SEVEN_ZIP, is_seven_zip);
        search(Cab, CABINET, is_cabinet);
        search(Rar, RAR, is_rar);
    }
    PlacesBeside { places: found, are_all }
}

pub(in crate::content) const SEVEN_ZIP: &[u8] = b"7z\xbc\xaf\x27\x1c";
pub(in crate::content) const CABINET: &[u8] = b"MSCF\0\0\0\0";
pub(in crate::content) const RAR: &[u8] = b"Rar!\x1a\x07";

/// Whether numbers follow that a 7-Zip archive has: its version, and the checksum of its first header.
fn is_seven_zip(octets: &[u8]) -> bool {
    let Some(start) = slice(octets, 12, 20) else { return false };
    let mut crc = flate2::Crc::new();
    crc.update(start);
    octets.get(6) == Some(&0) && le32(octets, 8) == Some(crc.sum())
}

/// Whether numbers follow that a cabinet has: no reserved octets, files within its length.
fn is_cabinet(octets: &[u8]) -> bool {
    let numbers = || Some((le32(octets, 8)?, le32(octets, 16)?, le32(octets, 12)?, le16(octets, 28)?));
    numbers().is_some_and(|(length, files_at, reserved, files)| {
        files_at < length && reserved == 0 && files > 0 && octets.get(25) == Some(&1)
    })
}

/// Whether the main header of an archive follows: of version 4, or of version 5, also encrypted.
fn is_rar(octets: &[u8]) -> bool {
    match octets.get(6..) {
        Some([0, _, _, 0x73, ..]) => true,
        Some([1, 0, _, _, _, _, _, kind, ..]) => matches!(kind, 1 | 4),
        _ => false,
    }
}

/// Octets of the block at the end of a disk image.
const FOOTER_BYTES: usize = 512;

/// Whether a file is an image of a disk by its end: VHD, DMG.
pub(in crate::content) fn has_disk_footer(octets: &[u8]) -> bool {
    let footer = octets.len().checked_sub(FOOTER_BYTES).and_then(|at| octets.get(at..));
    footer.is_some_and(|footer| {
        footer.starts_with(b"conectix") || footer.starts_with(b"koly\0\0\0\x04\0\0\x02\0")
    })
}
