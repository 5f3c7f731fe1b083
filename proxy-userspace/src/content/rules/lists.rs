//! Lists of names and types that rules can name: what a reader's computer runs, mounts or opens without asking.

use super::super::RealType;
use crate::config::ContentList;

/// What a list holds.
pub(super) struct ListContents {
    /// Ends of file names, behind their last dot.
    pub(super) extensions: &'static [&'static str],
    /// What a file is by its octets.
    pub(super) real_types: &'static [RealType],
}

/// The contents of a list. The configuration's reference has the same in words.
pub(super) const fn contents(list: ContentList) -> ListContents {
    match list {
        ContentList::Executables => ListContents {
            extensions: &[
                "exe",
                "com",
                "scr",
                "pif",
                "cpl",
                "dll",
                "drv",
                "sys",
                "ocx",
                "msi",
                "msp",
                "mst",
                "msix",
                "msixbundle",
                "appx",
                "appxbundle",
                "appinstaller",
                "application",
                "gadget",
                "jar",
                "class",
                "apk",
                "dex",
                "elf",
                "run",
                "deb",
                "rpm",
                "pkg",
                "app",
                "command",
                "xll",
                "wll",
            ],
            real_types: &[
                RealType::WindowsProgram,
                RealType::DosProgram,
                RealType::Elf,
                RealType::MachO,
                RealType::JavaClass,
                RealType::Dex,
                RealType::Msi,
                RealType::Rpm,
            ],
        },
        ContentList::Scripts => ListContents {
            extensions: &[
                "js",
                "jse",
                "vbs",
                "vbe",
                "wsf",
                "wsh",
                "wsc",
                "sct",
                "hta",
                "bat",
                "cmd",
                "btm",
                "ps1",
                "ps1xml",
                "psm1",
                "psd1",
                "psc1",
                "py",
                "pyc",
                "pyw",
                "pyz",
                "pl",
                "rb",
                "sh",
                "ksh",
                "csh",
                "lua",
                "ahk",
                "au3",
                "scpt",
                "scptd",
                "applescript",
                "reg",
                "inf",
                "chm",
                "diagcab",
            ],
            real_types: &[RealType::Script, RealType::Chm],
        },
        ContentList::OfficeMacros => ListContents {
            extensions: &[
                "docm", "dotm", "xlsm", "xltm", "xlsb", "xlam", "xla", "pptm", "potm", "ppsm", "ppam",
                "sldm", "ade", "adp", "accde", "accdr", "mde", "mda", "mdw", "slk", "iqy",
            ],
            real_types: &[],
        },
        ContentList::DiskImages => ListContents {
            extensions: &["iso", "img", "udf", "vhd", "vhdx", "vmdk", "dmg", "wim", "nrg", "mdf"],
            real_types: &[RealType::Iso, RealType::DiskImage],
        },
        ContentList::Shortcuts => ListContents {
            extensions: &[
                "lnk",
                "url",
                "website",
                "scf",
                "desktop",
                "webloc",
                "library-ms",
                "search-ms",
                "searchconnector-ms",
                "settingcontent-ms",
                "rdp",
                "theme",
                "themepack",
                "xnk",
                "mcl",
            ],
            real_types: &[RealType::Shortcut],
        },
        ContentList::OneNote => ListContents {
            extensions: &["one", "onepkg", "onetoc", "onetoc2"],
            real_types: &[RealType::OneNote],
        },
        ContentList::HtmlAttachments => ListContents {
            extensions: &[
                "html", "htm", "shtml", "shtm", "xhtml", "xht", "mht", "mhtml", "svg", "xsl", "xslt",
            ],
            real_types: &[],
        },
        ContentList::RareArchives => ListContents {
            extensions: &["ace", "arj", "lzh", "lha", "r00", "xxe", "z", "arc", "alz", "egg", "lz", "xar"],
            real_types: &[
                RealType::Ace,
                RealType::Arj,
                RealType::Lzh,
                RealType::Compress,
                RealType::Lzip,
                RealType::Xar,
                RealType::Alz,
                RealType::Egg,
            ],
        },
    }
}
