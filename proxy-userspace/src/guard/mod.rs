//! Which accounts may do what: at which servers they log in, how often a password is guessed, how much mail they fetch.
//! Decisions only. The engine of a session asks, and carries them out.
//!
//! One `Guard` lives as long as the process, whatever policies come and go: its counts outlive a reload. Accounts and
//! messages stand in it as keyed hashes alone, and passwords nowhere.

/// Names of accounts, and what they have in common with others.
mod account;
/// Accounts in the messages of SASL mechanisms.
mod sasl;
/// Which domains of accounts may log in at a server.
mod tenant;
/// Failed logins, and who has to wait.
mod guessing;
/// Messages that accounts fetched within an hour.
mod bodies;
/// Tables that forget what came first.
mod remembered;
/// What one session may do.
mod session;

use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::error::Unspecified;
use serde::{Deserialize, Serialize};
use zeroize::Zeroize as _;

pub(crate) use self::account::{AccountNames, ShownAccount};
use self::bodies::Bodies;
use self::guessing::Guessing;
pub(crate) use self::guessing::LoginOutcome;
pub(crate) use self::sasl::{SaslMechanism, SaslMessage};
pub use self::session::SessionGuard;
pub(crate) use self::session::{GuardRefusal, GuardedLogin, LoginDecision};
pub use self::tenant::server_names;

/// Octets of a keyed hash: who does not have the key can only guess.
const MARK_BYTES: usize = 16;

/// A keyed hash: an account, a client, a message.
pub(crate) type Mark = [u8; MARK_BYTES];

/// What a refusal came of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuardRule {
    /// `guard.tenant`.
    Tenant,
    /// `guard.bodies_per_hour`.
    Bodies,
    /// `guard.failed_logins`.
    Guessing,
}

impl GuardRule {
    /// The token in records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tenant => "guard.tenant",
            Self::Bodies => "guard.bodies",
            Self::Guessing => "guard.guessing",
        }
    }
}

/// Numbers for `postern status`, since the worker started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuardNumbers {
    /// Logins that `guard.tenant` refused.
    pub refused_tenant: u64,
    /// Messages that `guard.bodies_per_hour` kept from their account.
    pub refused_bodies: u64,
    /// Logins that `guard.failed_logins` refused.
    pub refused_guessing: u64,
}

/// What is counted of all accounts and clients. All mail threads share it.
pub struct Guard {
    key: MarkKey,
    /// A login asks it twice; its lock is never taken for mail.
    guessing: Guessing,
    bodies: Bodies,
    refused_tenant: AtomicU64,
    refused_bodies: AtomicU64,
    refused_guessing: AtomicU64,
}

impl Guard {
    /// With nothing counted, under a key that no other process has.
    ///
    /// # Errors
    /// The kernel has no randomness.
    pub fn new() -> Result<Self, Unspecified> {
        Ok(Self {
            key: MarkKey::random()?,
            guessing: Guessing::default(),
            bodies: Bodies::default(),
            refused_tenant: AtomicU64::new(0),
            refused_bodies: AtomicU64::new(0),
            refused_guessing: AtomicU64::new(0),
        })
    }

    /// For `postern status`.
    #[must_use]
    pub fn numbers(&self) -> GuardNumbers {
        GuardNumbers {
            refused_tenant: self.refused_tenant.load(Ordering::Relaxed),
            refused_bodies: self.refused_bodies.load(Ordering::Relaxed),
            refused_guessing: self.refused_guessing.load(Ordering::Relaxed),
        }
    }

    fn count(&self, rule: GuardRule) {
        let count = match rule {
            GuardRule::Tenant => &self.refused_tenant,
            GuardRule::Bodies => &self.refused_bodies,
            GuardRule::Guessing => &self.refused_guessing,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// What a mark is of, so that two kinds never have the same.
#[derive(Clone, Copy, Debug)]
enum MarkOf {
    Account = 1,
    Client = 2,
    Pair = 3,
    Message = 4,
    Server = 5,
    ClientAtServer = 6,
}

/// What marks are made with. Wiped when it is dropped.
struct MarkKey([u8; blake3::KEY_LEN]);

impl MarkKey {
    fn random() -> Result<Self, Unspecified> {
        let mut key = Self([0; blake3::KEY_LEN]);
        aws_lc_rs::rand::fill(&mut key.0)?;
        Ok(key)
    }

    /// The mark of these parts together.
    fn mark(&self, kind: MarkOf, parts: &[&[u8]]) -> Mark {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(&[kind as u8]);
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        let mut mark = [0; MARK_BYTES];
        hasher.finalize_xof().fill(&mut mark);
        hasher.zeroize();
        mark
    }
}

impl Drop for MarkKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}
