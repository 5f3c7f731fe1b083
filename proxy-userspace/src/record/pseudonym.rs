//! Pseudonyms: keyed hashes that stand in records in place of accounts and of subjects.
//!
//! Who does not have the key cannot try names until one fits. The key comes from the memory of verdicts, whose file outlives
//! the daemon, so that an account has the same pseudonym after a restart.

use std::sync::{Arc, OnceLock};

use super::verdict::{USER_BYTES_MAX, bounded};
use super::{LineFields, Records, SessionIdentity};
use crate::vault::DigestKey;

/// Octets of a pseudonym: no two accounts of one organisation have the same by chance.
const PSEUDONYM_BYTES: usize = 16;

/// What a pseudonym stands for. Equal texts of two kinds have two pseudonyms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PseudonymOf {
    /// An account; case does not count, as servers do not count it.
    Account,
    /// A message's subject.
    Subject,
}

/// The key of a process, as soon as it is known. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Pseudonyms(Arc<OnceLock<Option<DigestKey>>>);

impl Pseudonyms {
    /// Use this key from now on. One that was used before stays.
    pub(crate) fn keep(&self, key: &DigestKey) {
        let _ = self.0.set(Some(key.derive("records")));
    }

    /// The pseudonym, in hexadecimal digits. Where no key was kept, one is made that ends with the process; `None` where there is
    /// no randomness either.
    pub(super) fn of(&self, kind: PseudonymOf, text: &str) -> Option<String> {
        let key = self.0.get_or_init(|| DigestKey::random().ok()).as_ref()?;
        let (kind, text) = match kind {
            PseudonymOf::Account => ("account", text.to_lowercase()),
            PseudonymOf::Subject => ("subject", text.to_owned()),
        };
        let digest: [u8; PSEUDONYM_BYTES] = key.of_fields(&[kind.as_bytes(), text.as_bytes()]);
        Some(super::verdict::hex_lower(&digest))
    }
}

impl Records {
    /// Whether lines of this session call this account by a pseudonym.
    pub(super) fn hides(&self, session: &SessionIdentity, account: Option<&str>) -> bool {
        session.applied.as_ref().is_some_and(|applied| applied.privacy.pseudonymizes(account))
    }
}

impl LineFields {
    /// Whose session it is, by name or by pseudonym.
    pub(super) fn account(&mut self, sink: &Records, session: &SessionIdentity, account: Option<&str>) {
        let Some(name) = account else { return };
        if sink.hides(session, account) {
            self.set_known("user.hash", sink.pseudonyms.of(PseudonymOf::Account, name));
        } else {
            self.set("user.name", bounded(name, USER_BYTES_MAX));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_has_one_pseudonym_under_one_key_and_another_under_another() {
        let key = DigestKey::from_octets([7; 32]);
        let [first, second, other] = [(); 3].map(|()| Pseudonyms::default());
        first.keep(&key);
        second.keep(&key);
        let of = |pseudonyms: &Pseudonyms, kind, text| pseudonyms.of(kind, text).unwrap();
        let anna = of(&first, PseudonymOf::Account, "anna@example.org");
        assert_eq!(anna, of(&second, PseudonymOf::Account, "Anna@Example.org"), "it outlives a restart");
        assert_eq!(anna.len(), 2 * PSEUDONYM_BYTES);
        assert_ne!(anna, of(&first, PseudonymOf::Account, "hanna@example.org"));
        assert_ne!(anna, of(&first, PseudonymOf::Subject, "anna@example.org"));
        // Without a file: a key of the process's own, the same for all of its records.
        let alone = of(&other, PseudonymOf::Account, "anna@example.org");
        assert_ne!(anna, alone);
        assert_eq!(alone, of(&other, PseudonymOf::Account, "anna@example.org"));
    }
}
