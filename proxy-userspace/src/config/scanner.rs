use std::path::PathBuf;

use super::kinds::{flag, list, path};
use super::setting::{section, settings};

/// Directories with rules. An owner has few: each may have directories inside.
const DIRECTORIES_MAX: usize = 16;

settings! {
    /// `[scanner]`: who says of a file, by its content, that it is harmful.
    pub struct ScannerSettings {
        /// Rules of YARA. Under `inspect = "full"` every file that is judged is scanned with them, and so is every file inside
        /// of it.
        yara: YaraSettings = section();
    }
}

settings! {
    /// `[scanner.yara]`.
    pub struct YaraSettings {
        /// Whether Postern's own rules are used: EICAR, programs with names of documents, macros and scripts that fetch programs,
        /// HTML smuggling, and shortcuts, OneNote sections, RTF documents and PDFs that run something.
        embedded: bool = flag().default(true);
        /// Directories with rules of your own: each file in them, and in the directories inside, that ends in `.yar` or `.yara`.
        /// They are read when Postern starts and at each reload; a wrong rule keeps the rules before in force. Nobody but root
        /// may write there.
        directories: Vec<PathBuf> = list(path("name a directory"), Some(DIRECTORIES_MAX), None)
            .default(Vec::new()).such_as(r#"["/etc/postern/yara"]"#);
    }
}
