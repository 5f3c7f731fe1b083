//! What the supervisor and the worker say to each other.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::accept::Room;
use crate::admin::{HeldStatus, OcspStatus, SessionsStatus, SpoolStatus, ThreadStatus, VerdictsStatus};
use crate::alarm::Alarm;
use crate::config::{Config, InterfaceName};
use crate::content::ContentMaterial;
use crate::content::scan::yara::RulesDigest;
use crate::guard::GuardNumbers;
use crate::handshake::TrustMaterial;
use crate::judging::{JudgeFailure, JudgeNumbers};
use crate::layer::offload::OffloadMessage;
use crate::signer::KeyFacts;

/// From the supervisor. Until [`Self::Serve`] they say what is served, and from then on what changes.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToWorker {
    /// With the descriptor of the array in which the programs note by which interface a SYN left.
    SynEgress,
    /// With the descriptors of these listeners, in the same order; beside those that it has.
    Listeners(Vec<ListenerPlace>),
    /// The listeners of these ingresses are closed: no session of theirs is left.
    Unlisten(Vec<InterfaceName>),
    /// With an end of a channel to the signer, in place of an earlier one.
    Signer,
    /// With an end of a channel to the helper, in place of an earlier one.
    Helper,
    /// With an end of a channel to the judge of this number.
    Judge(u64),
    /// With the descriptors of these files, once, before the first policy under which mail is judged.
    State(StateTold),
    /// With a [`PolicyMessage`] as sealed memory, and another one with the scanner's rules where there are some; answered by [`FromWorker::Policy`].
    Policy,
    /// Begin to accept; answered by [`FromWorker::Serving`].
    Serve(Serve),
    /// Some peer pads its TLS records, as the kernel's counters say.
    PeersPad,
    /// Sessions that the policy in force would refuse shall end; answered by [`FromWorker::Cut`].
    Cut,
    /// Answered by [`FromWorker::Report`].
    Report,
    /// Cut what is left, write what waits, and end.
    Stop,
}

/// Whose listener it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ListenerPlace {
    /// The interface whose connections it gets.
    pub(crate) ingress: InterfaceName,
    /// The thread that accepts from it.
    pub(crate) thread: u32,
}

/// Files of the state directory that could be opened, in this order.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct StateTold {
    /// The memory of verdicts, by the name that the operator knows.
    pub(crate) verdicts: Option<String>,
    /// The spool's.
    pub(crate) spool: bool,
}

/// What the machine is like, where a process without files cannot look.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Serve {
    /// Threads to run.
    pub(crate) threads: u32,
    /// Cores to run them on.
    pub(crate) cores: u32,
}

/// One policy generation, as the supervisor read it.
#[derive(Serialize, Deserialize)]
pub(crate) struct PolicyMessage {
    /// Counted from 1; the signer knows the keys by it.
    pub(crate) generation: u64,
    /// Another one where steering changes.
    pub(crate) era: u64,
    /// Strict reverse-path filters are set, as far as loopback is concerned.
    pub(crate) strict_reverse_path: bool,
    /// The file.
    pub(crate) config: Config,
    /// Roots and chains.
    pub(crate) material: TrustMaterial,
    /// What content is judged with beside settings.
    pub(crate) content: ContentMaterial,
    /// What the signer can sign.
    pub(crate) keys: Vec<KeyFacts>,
    /// What the kernel's TLS can do, and what it costs.
    pub(crate) offload: OffloadMessage,
    /// What this machine has room for.
    pub(crate) room: Room,
    /// Names the scanner's rules, which come as sealed memory beside this; none where nothing is scanned.
    pub(crate) scanner: Option<RulesDigest>,
}

impl fmt::Debug for PolicyMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PolicyMessage").field("generation", &self.generation).finish_non_exhaustive()
    }
}

/// From the worker.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromWorker {
    /// What became of a policy; connections from now on have it, or the old one.
    Policy {
        /// Which.
        generation: u64,
        /// Or why it cannot be used, in an operator's words.
        taken: Result<(), String>,
    },
    /// Sessions were told to end, because the policy in force would refuse them.
    Cut {
        /// How many.
        sessions: u64,
        /// Mail threads that did not answer in time; how many of their sessions end is not known.
        silent_threads: u32,
    },
    /// All threads run.
    Serving,
    /// No session of this era of steering is left.
    EraOver(u64),
    /// Whether nobody can be served, whenever that changes.
    Full(bool),
    /// Numbers, as they are now.
    Report(Box<WorkerReport>),
    /// A judge is not asked any more: whatever it does, it has to end.
    JudgeFails(JudgeFailure),
    /// Something has happened in a session that `action.alarms` lists.
    Alarm(Alarm),
    /// It cannot go on, in an operator's words; it ends.
    Failed(String),
}

/// Numbers for `postern status`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct WorkerReport {
    pub(crate) threads: Vec<ThreadStatus>,
    pub(crate) sessions: SessionsStatus,
    pub(crate) held: HeldStatus,
    pub(crate) verdicts: VerdictsStatus,
    pub(crate) spool: SpoolStatus,
    pub(crate) judges: JudgeNumbers,
    pub(crate) guard: GuardNumbers,
    pub(crate) ocsp: OcspStatus,
    /// Servers of `action.trust_uid_immutability` whose trust was withdrawn.
    pub(crate) distrusted: Vec<IpAddr>,
    /// Records that could not be written.
    pub(crate) records_lost: u64,
    /// Lines of its log that could not be written.
    pub(crate) log_lost: u64,
}
