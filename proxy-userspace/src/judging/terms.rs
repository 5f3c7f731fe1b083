use std::os::fd::AsFd as _;
use std::os::fd::{BorrowedFd, OwnedFd};

use anyhow::{Context as _, Result};

use super::protocol::TermsId;
use crate::config::ContentSettings;
use crate::content::scan::yara::RulesDigest;
use crate::content::{HashList, JUDGEMENT_VERSION};
use crate::ipc::seal;

/// What a judge needs to judge under a proxy action: made once, and passed to each judge that is asked to judge by it.
#[derive(Debug)]
pub(crate) struct JudgeTerms {
    pub(super) id: TermsId,
    /// [`ContentSettings`] and the hashes that are blocked, in sealed memory.
    settings: OwnedFd,
    /// Compiled rules of the scanner, in sealed memory.
    scanner: Option<OwnedFd>,
}

/// The scanner's rules, in sealed memory.
#[derive(Debug)]
pub(crate) struct SealedRules {
    /// [`pack`](crate::content::scan::yara::pack)ed.
    pub(crate) memory: OwnedFd,
    /// What they are known by.
    pub(crate) digest: RulesDigest,
}

impl JudgeTerms {
    /// Of these settings. `scanner` is sealed memory with compiled rules, and the digest of what it holds.
    ///
    /// # Errors
    /// The kernel has no memory for it.
    pub(crate) fn new(
        content: &ContentSettings,
        hashes: &HashList,
        scanner: Option<(OwnedFd, [u8; 32])>,
    ) -> Result<Self> {
        let octets = postcard::to_stdvec(&(content, hashes)).context("writing the rules for judges")?;
        let mut hasher = blake3::Hasher::new();
        hasher.update(&JUDGEMENT_VERSION.to_le_bytes());
        hasher.update(&scanner.as_ref().map_or([0; 32], |(_, digest)| *digest)).update(&octets);
        let digest = hasher.finalize();
        let (half, _) = digest.as_bytes().split_first_chunk().unwrap_or((&[0; 16], &[]));
        Ok(Self { id: TermsId(*half), settings: seal(&octets)?, scanner: scanner.map(|(memory, _)| memory) })
    }

    /// What travels with them: the settings, and the scanner where there is one.
    pub(super) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        std::iter::once(self.settings.as_fd())
            .chain(self.scanner.as_ref().map(|scanner| scanner.as_fd()))
            .collect()
    }

    /// Whether a scanner has rules.
    pub(super) const fn has_scanner(&self) -> bool {
        self.scanner.is_some()
    }
}
