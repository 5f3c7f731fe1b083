use serde::{Deserialize, Serialize};

use super::{YaraError, YaraSource};

/// Octets of packed rules: those of the owner's files, and what stands around them.
pub const PACKED_BYTES_MAX: u64 = 80 << 20;
/// Stands before everything else.
const MAGIC: [u8; 8] = *b"pst-yara";
/// Counted up when the form changes, or the variables of rules.
const VERSION: u32 = 1;

/// What is known of compiled rules.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleFacts {
    /// Rules that Postern brings along. Private ones do not count.
    pub embedded: u32,
    /// Rules of the owner's files. Private ones do not count.
    pub own: u32,
    /// The owner's files.
    pub files: u32,
    /// Some rule asks for one name of the file, so that a file with several names is scanned under each.
    pub ask_for_name: bool,
    /// What the engine finds strange in the owner's rules, a line each.
    pub warnings: Vec<String>,
}

/// Why compiled rules cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// They do not begin as compiled rules do.
    #[error("these are no compiled rules")]
    NotRules,
    /// Another version of Postern made them.
    #[error("compiled rules of version {0}, and this version of Postern has {VERSION}; restart Postern")]
    Version(u32),
    /// They could be compiled before, and cannot any more.
    #[error("{0}")]
    Rules(#[from] YaraError),
}

/// Rules as octets: what [`compile`](fn@super::compile) found out about them, the owner's sources, and whether Postern's own are used.
///
/// # Errors
/// They cannot be written.
pub fn pack(facts: &RuleFacts, sources: &[YaraSource], embedded: bool) -> Result<Vec<u8>, YaraError> {
    let mut octets = MAGIC.to_vec();
    octets.extend(VERSION.to_le_bytes());
    let written = postcard::to_extend(facts, octets);
    let written = written.and_then(|octets| postcard::to_extend(&(embedded, sources), octets));
    written.map_err(|error| YaraError::Write(error.to_string()))
}

/// What [`pack`] wrote.
///
/// # Errors
/// [`LoadError`].
pub fn unpack(octets: &[u8]) -> Result<(RuleFacts, Vec<YaraSource>, bool), LoadError> {
    let rest = octets.strip_prefix(&MAGIC).ok_or(LoadError::NotRules)?;
    let (version, rest) = rest.split_first_chunk().ok_or(LoadError::NotRules)?;
    let version = u32::from_le_bytes(*version);
    if version != VERSION {
        return Err(LoadError::Version(version));
    }
    let (facts, (embedded, sources)) = postcard::from_bytes(rest).map_err(|_| LoadError::NotRules)?;
    Ok((facts, sources, embedded))
}
