use rustls::{SignatureAlgorithm, SignatureScheme};
use serde::{Deserialize, Serialize};

use super::handshake_rules::HandshakeFault;
use super::keys::KeyFault;
use super::leaf_rules::LeafFault;
use super::link::REQUESTS_IN_FLIGHT_MAX;
use crate::handshake::mint::tbs::Issuer;
use crate::jobs::JOB_WAIT;

/// The supervisor's request; the answer repeats its number.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) number: u64,
    pub(super) what: What,
}

/// What the supervisor wants.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum What {
    /// Keys of this generation follow; those of a load that came to no end are forgotten. Those `in_use` are kept.
    Begin { generation: u64, in_use: [u64; 2], issuer: Issuer },
    /// A key's file comes as a descriptor: the authority's first, then those of `certificates.server` in their order.
    /// The certificate that it belongs to has this `SubjectPublicKeyInfo`.
    Key { public_key: Vec<u8> },
    /// That was all: the generation is good from now on.
    End,
    /// A worker's channel comes as a descriptor, to be served by so many threads.
    Serve { threads: u32 },
    /// Tell the figures.
    Report,
}

/// The answer to an [`Order`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Answer {
    pub(super) number: u64,
    pub(super) done: Done,
}

/// What became of an [`Order`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Done {
    /// It was done.
    Well,
    /// It cannot be done: not in this order, not without a descriptor, or the system refuses.
    Not(String),
    /// What became of a key.
    Key(Result<KeyFacts, KeyFault>),
    Report(SignerReport),
}

/// What the signer counted, and what it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SignerReport {
    /// Leaves signed with an authority's key.
    pub(crate) mints_total: u64,
    /// Leaves refused: by the rules, over the rate, or of an unknown generation.
    pub(crate) mints_refused: u64,
    /// Handshakes signed with configured certificates' keys.
    pub(crate) signatures_total: u64,
    /// Handshakes refused.
    pub(crate) signatures_refused: u64,
    /// The newest generation of keys; 0 before the first.
    pub(crate) generation: u64,
}

/// What can be told of a key without giving it away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeyFacts {
    /// The signatures that it makes, in rustls' order of preference.
    pub(crate) schemes: Vec<u16>,
    /// Its kind, as TLS 1.2 counts them.
    pub(crate) algorithm: u8,
}

impl KeyFacts {
    /// The signatures that the key makes.
    pub(crate) fn schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.iter().copied().map(SignatureScheme::from).collect()
    }

    /// The key's kind.
    pub(crate) fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::from(self.algorithm)
    }
}

/// The worker's request; the reply repeats its id.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SignRequest {
    pub(super) id: u64,
    pub(super) generation: u64,
    pub(super) ask: Ask,
}

/// What is to be signed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Ask {
    /// A `TBSCertificate`, with the authority's key.
    Leaf(Vec<u8>),
    /// A message of a handshake, with the key of this entry of `certificates.server`.
    Handshake { entry: u32, scheme: u16, message: Vec<u8> },
}

/// The answer to a [`SignRequest`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Reply {
    pub(super) id: u64,
    pub(super) answer: Result<Vec<u8>, Refusal>,
}

/// Why nothing was signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// Its keys are not there any more, or not yet.
    #[error("it has no keys of policy {0}, which an older connection or a newer configuration has")]
    UnknownGeneration(u64),
    /// No such entry of `certificates.server`, or one whose key makes no such signature.
    #[error("it has no key that makes this signature")]
    UnknownKey,
    /// A leaf that is none.
    #[error(transparent)]
    Leaf(#[from] LeafFault),
    /// A message that is of no handshake.
    #[error(transparent)]
    Handshake(#[from] HandshakeFault),
    /// More leaves than it mints.
    #[error("more new leaves are asked for than it mints")]
    OverRate,
    /// The cryptographic library, or a panic.
    #[error("the signature could not be made; its log says why")]
    Failed,
}

/// Why a signature did not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignFault {
    /// The signer refuses.
    #[error("the process that holds the private keys refuses to sign: {0}")]
    Refused(Refusal),
    /// [`REQUESTS_IN_FLIGHT_MAX`] wait already.
    #[error(
        "too many signatures are asked for at once ({REQUESTS_IN_FLIGHT_MAX} wait); give the gateway more cores, or \
         lower limits.sessions"
    )]
    Overloaded,
    /// It ended, and this signature is not asked for again.
    #[error("the process that holds the private keys ended; the log says why, and another is started")]
    Gone,
    /// It did not answer in the time that a handshake, or a thread that waits, has.
    #[error(
        "the process that holds the private keys did not answer within {} s or the handshake's time; the log says \
         whether it runs", JOB_WAIT.as_secs()
    )]
    Late,
}

impl SignFault {
    /// The token in records.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Overloaded | Self::Refused(Refusal::OverRate) => "certificates_overloaded",
            Self::Refused(_) => "certificate_not_minted",
            Self::Gone | Self::Late => "signer_unavailable",
        }
    }

    /// Whether there is too much to do, rather than something wrong.
    #[must_use]
    pub const fn is_overload(self) -> bool {
        matches!(self, Self::Overloaded | Self::Refused(Refusal::OverRate))
    }
}
