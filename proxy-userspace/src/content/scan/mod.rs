//! Scanners: whoever says of a file by its content that it is harmful.

/// YARA rules.
pub mod yara;

use std::sync::atomic::AtomicBool;

use super::RealType;

/// A file that is scanned.
#[derive(Clone, Copy, Debug)]
pub struct ScannedFile<'a> {
    /// Its names, without control characters.
    pub names: &'a [String],
    /// What it is by its octets, where that is known.
    pub real_type: Option<RealType>,
    /// Its octets, decoded and decompressed.
    pub octets: &'a [u8],
    /// It is a member of another file, or a part of a document.
    pub is_member: bool,
}

/// What a scanner says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScanOutcome {
    /// Nothing is known against it.
    Clean,
    /// It is harmful: the name of the signature.
    Found(String),
    /// It cannot be scanned, today and tomorrow.
    CannotScan,
    /// It cannot be scanned now.
    Unavailable,
}

/// Scans files.
pub trait Scanner: Send + Sync {
    /// The word in records.
    fn name(&self) -> &'static str;

    /// Scan one file. `cancelled` is looked at where that takes long.
    fn scan(&self, file: &ScannedFile<'_>, cancelled: &AtomicBool) -> ScanOutcome;
}
