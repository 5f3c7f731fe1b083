//! The types of files that are told by their octets.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a file is, as its octets show it, whatever its name and its declared type say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum RealType {
    /// Windows: PE, and its forerunners NE, LE and LX.
    WindowsProgram,
    /// DOS.
    DosProgram,
    /// Linux, BSD, Android.
    Elf,
    /// macOS, iOS, for one or several processors.
    MachO,
    /// Java.
    JavaClass,
    /// Android's bytecode.
    Dex,
    /// A script with an interpreter line.
    Script,
    /// A Windows shortcut.
    Shortcut,
    /// ZIP.
    Zip,
    /// gzip (RFC 1952).
    Gzip,
    /// bzip2.
    Bzip2,
    /// xz, and its forerunner `.lzma`.
    Xz,
    /// Zstandard (RFC 8878).
    Zstd,
    /// tar.
    Tar,
    /// 7-Zip.
    SevenZip,
    /// RAR.
    Rar,
    /// Microsoft Cabinet.
    Cab,
    /// A disc image: ISO 9660, UDF.
    Iso,
    /// A disk image that a double click mounts: VHD, VHDX, VMDK, DMG.
    DiskImage,
    /// ACE.
    Ace,
    /// ARJ.
    Arj,
    /// LHA.
    Lzh,
    /// compress, `.Z`.
    Compress,
    /// lzip.
    Lzip,
    /// LZ4.
    Lz4,
    /// xar, as macOS packages are.
    Xar,
    /// ALZ.
    Alz,
    /// EGG.
    Egg,
    /// cpio.
    Cpio,
    /// ar, as Debian packages are.
    Ar,
    /// An RPM package.
    Rpm,
    /// A compound file: Office documents until 2003.
    Ole,
    /// A Windows installer package.
    Msi,
    /// An Office Open XML document.
    Ooxml,
    /// An OpenDocument document.
    Odf,
    /// Rich Text Format.
    Rtf,
    /// OneNote.
    OneNote,
    /// PDF.
    Pdf,
    /// HTML.
    Html,
    /// SVG.
    Svg,
    /// XML of another kind.
    Xml,
    /// Compiled help.
    Chm,
    /// A mail (RFC 5322).
    Message,
    /// Outlook's winmail.dat ([MS-OXTNEF]).
    Tnef,
    /// S/MIME (RFC 5652), DER or BER.
    Cms,
    /// OpenPGP (RFC 9580).
    Pgp,
    /// PNG.
    Png,
    /// JPEG.
    Jpeg,
    /// GIF.
    Gif,
    /// WebP.
    Webp,
    /// A Windows bitmap.
    Bmp,
    /// TIFF.
    Tiff,
    /// A Windows icon.
    Icon,
    /// MP3, WAV, Ogg, FLAC.
    Audio,
    /// MP4, Matroska, AVI, MPEG.
    Video,
    /// Text of no other kind.
    Text,
}

impl RealType {
    /// All of them.
    pub const ALL: [Self; 56] = [
        Self::WindowsProgram,
        Self::DosProgram,
        Self::Elf,
        Self::MachO,
        Self::JavaClass,
        Self::Dex,
        Self::Script,
        Self::Shortcut,
        Self::Zip,
        Self::Gzip,
        Self::Bzip2,
        Self::Xz,
        Self::Zstd,
        Self::Tar,
        Self::SevenZip,
        Self::Rar,
        Self::Cab,
        Self::Iso,
        Self::DiskImage,
        Self::Ace,
        Self::Arj,
        Self::Lzh,
        Self::Compress,
        Self::Lzip,
        Self::Lz4,
        Self::Xar,
        Self::Alz,
        Self::Egg,
        Self::Cpio,
        Self::Ar,
        Self::Rpm,
        Self::Ole,
        Self::Msi,
        Self::Ooxml,
        Self::Odf,
        Self::Rtf,
        Self::OneNote,
        Self::Pdf,
        Self::Html,
        Self::Svg,
        Self::Xml,
        Self::Chm,
        Self::Message,
        Self::Tnef,
        Self::Cms,
        Self::Pgp,
        Self::Png,
        Self::Jpeg,
        Self::Gif,
        Self::Webp,
        Self::Bmp,
        Self::Tiff,
        Self::Icon,
        Self::Audio,
        Self::Video,
        Self::Text,
    ];

    /// The token in records.
    #[must_use]
    pub const fn token(self) -> &'static str {
        match self {
            Self::WindowsProgram => "windows_program",
            Self::DosProgram => "dos_program",
            Self::Elf => "elf",
            Self::MachO => "mach_o",
            Self::JavaClass => "java_class",
            Self::Dex => "dex",
            Self::Script => "script",
            Self::Shortcut => "shortcut",
            Self::Zip => "zip",
            Self::Gzip => "gzip",
            Self::Bzip2 => "bzip2",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
            Self::Tar => "tar",
            Self::SevenZip => "seven_zip",
            Self::Rar => "rar",
            Self::Cab => "cab",
            Self::Iso => "iso",
            Self::DiskImage => "disk_image",
            Self::Ace => "ace",
            Self::Arj => "arj",
            Self::Lzh => "lzh",
            Self::Compress => "compress",
            Self::Lzip => "lzip",
            Self::Lz4 => "lz4",
            Self::Xar => "xar",
            Self::Alz => "alz",
            Self::Egg => "egg",
            Self::Cpio => "cpio",
            Self::Ar => "ar",
            Self::Rpm => "rpm",
            Self::Ole => "ole",
            Self::Msi => "msi",
            Self::Ooxml => "ooxml",
            Self::Odf => "odf",
            Self::Rtf => "rtf",
            Self::OneNote => "onenote",
            Self::Pdf => "pdf",
            Self::Html => "html",
            Self::Svg => "svg",
            Self::Xml => "xml",
            Self::Chm => "chm",
            Self::Message => "message",
            Self::Tnef => "tnef",
            Self::Cms => "cms",
            Self::Pgp => "pgp",
            Self::Png => "png",
            Self::Jpeg => "jpeg",
            Self::Gif => "gif",
            Self::Webp => "webp",
            Self::Bmp => "bmp",
            Self::Tiff => "tiff",
            Self::Icon => "icon",
            Self::Audio => "audio",
            Self::Video => "video",
            Self::Text => "text",
        }
    }

    /// The media type, in lower case, with which rules about content types are compared.
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::WindowsProgram => "application/vnd.microsoft.portable-executable",
            Self::DosProgram => "application/x-dosexec",
            Self::Elf => "application/x-elf",
            Self::MachO => "application/x-mach-binary",
            Self::JavaClass => "application/java-vm",
            Self::Dex => "application/vnd.android.dex",
            Self::Script => "text/x-shellscript",
            Self::Shortcut => "application/x-ms-shortcut",
            Self::Zip => "application/zip",
            Self::Gzip => "application/gzip",
            Self::Bzip2 => "application/x-bzip2",
            Self::Xz => "application/x-xz",
            Self::Zstd => "application/zstd",
            Self::Tar => "application/x-tar",
            Self::SevenZip => "application/x-7z-compressed",
            Self::Rar => "application/vnd.rar",
            Self::Cab => "application/vnd.ms-cab-compressed",
            Self::Iso => "application/x-iso9660-image",
            Self::DiskImage => "application/x-disk-image",
            Self::Ace => "application/x-ace-compressed",
            Self::Arj => "application/x-arj",
            Self::Lzh => "application/x-lzh-compressed",
            Self::Compress => "application/x-compress",
            Self::Lzip => "application/lzip",
            Self::Lz4 => "application/x-lz4",
            Self::Xar => "application/x-xar",
            Self::Alz => "application/x-alz-compressed",
            Self::Egg => "application/x-egg",
            Self::Cpio => "application/x-cpio",
            Self::Ar => "application/x-archive",
            Self::Rpm => "application/x-rpm",
            Self::Ole => "application/x-ole-storage",
            Self::Msi => "application/x-msi",
            Self::Ooxml => "application/vnd.openxmlformats-officedocument",
            Self::Odf => "application/vnd.oasis.opendocument",
            Self::Rtf => "application/rtf",
            Self::OneNote => "application/onenote",
            Self::Pdf => "application/pdf",
            Self::Html => "text/html",
            Self::Svg => "image/svg+xml",
            Self::Xml => "text/xml",
            Self::Chm => "application/vnd.ms-htmlhelp",
            Self::Message => "message/rfc822",
            Self::Tnef => "application/ms-tnef",
            Self::Cms => "application/pkcs7-mime",
            Self::Pgp => "application/pgp-encrypted",
            Self::Png => "image/png",
            Self::Jpeg => "image/jpeg",
            Self::Gif => "image/gif",
            Self::Webp => "image/webp",
            Self::Bmp => "image/bmp",
            Self::Tiff => "image/tiff",
            Self::Icon => "image/vnd.microsoft.icon",
            Self::Audio => "audio/unknown",
            Self::Video => "video/unknown",
            Self::Text => "text/plain",
        }
    }

    /// Whether a computer or a phone may run it.
    #[must_use]
    pub const fn is_program(self) -> bool {
        matches!(
            self,
            Self::WindowsProgram
                | Self::DosProgram
                | Self::Elf
                | Self::MachO
                | Self::JavaClass
                | Self::Dex
                | Self::Script
                | Self::Shortcut
        )
    }
}

impl fmt::Display for RealType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WindowsProgram => "Windows program",
            Self::DosProgram => "DOS program",
            Self::Elf => "Linux program",
            Self::MachO => "macOS program",
            Self::JavaClass => "Java program",
            Self::Dex => "Android program",
            Self::Script => "script",
            Self::Shortcut => "Windows shortcut",
            Self::Zip => "ZIP archive",
            Self::Gzip => "gzip archive",
            Self::Bzip2 => "bzip2 archive",
            Self::Xz => "xz archive",
            Self::Zstd => "Zstandard archive",
            Self::Tar => "tar archive",
            Self::SevenZip => "7-Zip archive",
            Self::Rar => "RAR archive",
            Self::Cab => "Cabinet archive",
            Self::Iso => "disc image",
            Self::DiskImage => "disk image",
            Self::Ace => "ACE archive",
            Self::Arj => "ARJ archive",
            Self::Lzh => "LHA archive",
            Self::Compress => "compress archive",
            Self::Lzip => "lzip archive",
            Self::Lz4 => "LZ4 archive",
            Self::Xar => "xar archive",
            Self::Alz => "ALZ archive",
            Self::Egg => "EGG archive",
            Self::Cpio => "cpio archive",
            Self::Ar => "ar archive",
            Self::Rpm => "RPM package",
            Self::Ole => "Office document",
            Self::Msi => "Windows installer package",
            Self::Ooxml => "Office document",
            Self::Odf => "OpenDocument document",
            Self::Rtf => "RTF document",
            Self::OneNote => "OneNote document",
            Self::Pdf => "PDF document",
            Self::Html => "web page",
            Self::Svg => "SVG drawing",
            Self::Xml => "XML document",
            Self::Chm => "compiled help file",
            Self::Message => "mail",
            Self::Tnef => "Outlook container",
            Self::Cms => "S/MIME container",
            Self::Pgp => "OpenPGP message",
            Self::Png => "PNG image",
            Self::Jpeg => "JPEG image",
            Self::Gif => "GIF image",
            Self::Webp => "WebP image",
            Self::Bmp => "bitmap",
            Self::Tiff => "TIFF image",
            Self::Icon => "icon",
            Self::Audio => "audio file",
            Self::Video => "video",
            Self::Text => "text",
        })
    }
}
