//! The loader of the `sk_lookup` program: it fills the maps that `proxy-ebpf` names, attaches, and reads counters.

use std::fmt;
use std::io;
use std::os::fd::AsFd;

use aya::maps::{self, MapData, MapError, PerCpuArray, SockMap};
use aya::programs::{self, SkLookup, sk_lookup::SkLookupLink};
use aya::{Ebpf, EbpfError, EbpfLoader};
use proxy_ebpf::{
    COUNTERS_MAP, Exit, Family, INGRESS_MAP, INGRESS_MAX, LISTENERS_MAP, STEER_PROGRAM, WORKERS_MAX,
    listener_slot,
};
use rustix::io::Errno;

/// The committed object; `cargo xtask ebpf --check` proves that it is what `proxy-ebpf` compiles to.
static OBJECT: &[u8] = aya::include_bytes_aligned!("postern.bpf.o");

/// The network namespace of this thread, which is the daemon's own.
const NETWORK_NAMESPACE: &str = "/proc/thread-self/ns/net";

/// The steering program in the kernel. Dropping it detaches it: the kernel then delivers as if it had never been.
pub struct Program {
    /// Declared first, so that steering ends before the maps go away.
    link: Option<SkLookupLink>,
    bpf: Ebpf,
    id: Option<u32>,
    listeners: SockMap<MapData>,
    ingress: maps::HashMap<MapData, u32, u32>,
    counters: PerCpuArray<MapData, u64>,
}

impl Program {
    /// Load the embedded object: maps empty, program verified, nothing attached.
    ///
    /// # Errors
    /// [`ProgramError::NotPermitted`] without CAP_BPF and CAP_NET_ADMIN, [`ProgramError::Refused`] or
    /// [`ProgramError::Rejected`] on a kernel that cannot run it.
    pub fn load() -> Result<Self, ProgramError> {
        Self::load_from(OBJECT)
    }

    /// As [`Self::load`], from an object of the caller's, 8-aligned: how a rebuilt object is tested before it is
    /// committed.
    ///
    /// # Errors
    /// As [`Self::load`], and [`ProgramError::Object`] where the object is not Postern's.
    pub fn load_from(object: &[u8]) -> Result<Self, ProgramError> {
        // No kernel BTF: the programs read no kernel structure, and parsing it costs megabytes.
        let mut bpf = EbpfLoader::new().btf(None).load(object).map_err(at(Step::CreateMaps))?;
        let listeners = take(&mut bpf, LISTENERS_MAP)?;
        let ingress = take(&mut bpf, INGRESS_MAP)?;
        let counters = take(&mut bpf, COUNTERS_MAP)?;
        let steer = steer(&mut bpf)?;
        steer.load().map_err(at(Step::LoadProgram))?;
        let id = steer.info().ok().map(|info| info.id());
        Ok(Self { link: None, bpf, id, listeners, ingress, counters })
    }

    /// Give the listener of an ingress (by its number in [`Self::set_ingress`]) to the program. The kernel takes it out of the map when the socket closes.
    ///
    /// # Errors
    /// [`ProgramError::WorkerOutOfRange`], and [`ProgramError::Listener`] for a socket that is not a TCP listener.
    pub fn add_listener(
        &mut self,
        ingress: u32,
        family: Family,
        worker: u32,
        listener: impl AsFd,
    ) -> Result<(), ProgramError> {
        if ingress >= INGRESS_MAX {
            return Err(ProgramError::TooManyInterfaces { count: ingress as usize + 1 });
        }
        if worker >= WORKERS_MAX {
            return Err(ProgramError::WorkerOutOfRange { worker });
        }
        self.listeners.set(listener_slot(ingress, family, worker), &listener.as_fd(), 0).map_err(|error| {
            match at(Step::AddListener)(error) {
                ProgramError::Refused { error, .. } => ProgramError::Listener { family, worker, error },
                other => other,
            }
        })
    }

    /// Steer what arrives on these interfaces (ifindex) and on no other.
    ///
    /// Interfaces that stay are not touched, so their traffic sees no gap.
    ///
    /// # Errors
    /// [`ProgramError::TooManyInterfaces`], or what the kernel says to a map update.
    pub fn set_ingress(&mut self, indexes: &[u32]) -> Result<(), ProgramError> {
        if u32::try_from(indexes.len()).is_ok_and(|count| count > INGRESS_MAX) {
            return Err(ProgramError::TooManyInterfaces { count: indexes.len() });
        }
        let present: Vec<u32> =
            self.ingress.keys().collect::<Result<_, _>>().map_err(at(Step::SetIngress))?;
        for gone in present.iter().filter(|index| !indexes.contains(index)) {
            self.ingress.remove(gone).map_err(at(Step::SetIngress))?;
        }
        for index in indexes {
            self.ingress.insert(index, 1, 0).map_err(at(Step::SetIngress))?;
        }
        Ok(())
    }

    /// Begin to steer in the calling thread's network namespace, after the programs that are attached already.
    ///
    /// # Errors
    /// [`ProgramError::Namespace`] without `/proc`, or what the kernel says to the link.
    pub fn attach(&mut self) -> Result<(), ProgramError> {
        let namespace = std::fs::File::open(NETWORK_NAMESPACE).map_err(ProgramError::Namespace)?;
        let steer = steer(&mut self.bpf)?;
        let link = steer.attach(namespace).and_then(|id| steer.take_link(id)).map_err(at(Step::Attach))?;
        self.link = Some(link);
        Ok(())
    }

    /// How many packets left the program by each exit since it was loaded, in the order of [`Exit::ALL`].
    ///
    /// # Errors
    /// What the kernel says to reading the map.
    pub fn counters(&self) -> Result<[u64; Exit::ALL.len()], ProgramError> {
        let mut sums = [0; Exit::ALL.len()];
        for (sum, exit) in sums.iter_mut().zip(Exit::ALL) {
            let per_cpu = self.counters.get(&(exit as u32), 0).map_err(at(Step::ReadCounters))?;
            *sum = per_cpu.iter().fold(0, |total: u64, value| total.wrapping_add(*value));
        }
        Ok(sums)
    }

    /// The program's number in the kernel, as `bpftool prog` shows it; `None` where the kernel does not tell.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.id
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program")
            .field("id", &self.id)
            .field("attached", &self.link.is_some())
            .finish_non_exhaustive()
    }
}

fn steer(bpf: &mut Ebpf) -> Result<&mut SkLookup, ProgramError> {
    bpf.program_mut(STEER_PROGRAM)
        .and_then(|program| program.try_into().ok())
        .ok_or(ProgramError::Object { part: STEER_PROGRAM })
}

fn take<M: TryFrom<maps::Map>>(bpf: &mut Ebpf, part: &'static str) -> Result<M, ProgramError> {
    bpf.take_map(part).and_then(|map| M::try_from(map).ok()).ok_or(ProgramError::Object { part })
}

/// What the daemon was doing when the kernel refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// `BPF_MAP_CREATE`.
    CreateMaps,
    /// `BPF_PROG_LOAD`.
    LoadProgram,
    /// `BPF_MAP_UPDATE_ELEM` on the socket map.
    AddListener,
    /// `BPF_MAP_UPDATE_ELEM` and `BPF_MAP_DELETE_ELEM` on the ingress map.
    SetIngress,
    /// `BPF_LINK_CREATE` on the network namespace.
    Attach,
    /// `BPF_MAP_LOOKUP_ELEM` on the counters.
    ReadCounters,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CreateMaps => "create the steering maps (BPF_MAP_CREATE)",
            Self::LoadProgram => "load the steering program (BPF_PROG_LOAD)",
            Self::AddListener => "give a listener to the steering program (BPF_MAP_UPDATE_ELEM)",
            Self::SetIngress => "tell the steering program its interfaces (BPF_MAP_UPDATE_ELEM)",
            Self::Attach => "attach the steering program to the network namespace (BPF_LINK_CREATE)",
            Self::ReadCounters => "read the steering counters (BPF_MAP_LOOKUP_ELEM)",
        })
    }
}

/// Why the steering program is not there, or not as told.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// EPERM.
    #[error(
        "not permitted to {step}: this takes CAP_BPF and CAP_NET_ADMIN in the machine's own user namespace; run \
         postern as root or from its systemd unit, not in a rootless container"
    )]
    NotPermitted {
        /// What was tried.
        step: Step,
    },
    /// Any other error number.
    #[error(
        "cannot {step} on Linux {release}: {error}; Postern needs Linux 6.1 or later with CONFIG_BPF_SYSCALL and \
         CONFIG_NET"
    )]
    Refused {
        /// What was tried.
        step: Step,
        /// `uname -r`.
        release: String,
        /// The kernel's answer.
        error: io::Error,
    },
    /// The verifier did not accept the program.
    #[error(
        "the verifier of Linux {release} rejects the steering program: {error}; Postern needs Linux 6.1 or later, \
         and on such a kernel this is a bug to report with this log: {log}"
    )]
    Rejected {
        /// `uname -r`.
        release: String,
        /// The kernel's answer.
        error: io::Error,
        /// The verifier's own words.
        log: String,
    },
    /// The object has not the programs and maps of this build's contract.
    #[error(
        "the steering object has no usable `{part}`: it was built from another version of proxy-ebpf; rebuild it \
         with `cargo xtask ebpf`, or reinstall the package"
    )]
    Object {
        /// The program or map by its name in the contract.
        part: &'static str,
    },
    /// The object is no BPF object at all.
    #[error(
        "cannot read the steering object: {0}; rebuild it with `cargo xtask ebpf`, or reinstall the package"
    )]
    Unreadable(Box<EbpfError>),
    /// The maps have no room for this worker.
    #[error(
        "worker {worker} has no slot in the steering program: set steering.workers to {WORKERS_MAX} or less"
    )]
    WorkerOutOfRange {
        /// Counted from 0.
        worker: u32,
    },
    /// The maps have no room for these interfaces.
    #[error("{count} ingress interfaces are too many: steering.ingress takes {INGRESS_MAX} at most")]
    TooManyInterfaces {
        /// How many were given.
        count: usize,
    },
    /// The kernel does not take the socket.
    #[error(
        "the steering program cannot take the {family:?} listener of worker {worker}: {error}; it must be a TCP socket that listens"
    )]
    Listener {
        /// The slot's family.
        family: Family,
        /// The slot's worker.
        worker: u32,
        /// The kernel's answer.
        error: io::Error,
    },
    /// No handle on the network namespace.
    #[error("cannot open {NETWORK_NAMESPACE}: {0}; mount /proc for the daemon")]
    Namespace(io::Error),
}

/// Sort what aya reports by what an operator can do about it.
fn at<E: Into<EbpfError>>(step: Step) -> impl FnOnce(E) -> ProgramError {
    move |error| {
        let error = error.into();
        let Some(code) = os_error(&error) else { return ProgramError::Unreadable(Box::new(error)) };
        if code == Errno::PERM.raw_os_error() {
            return ProgramError::NotPermitted { step };
        }
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        let reason = io::Error::from_raw_os_error(code);
        match error {
            EbpfError::ProgramError(programs::ProgramError::LoadError { verifier_log, .. }) => {
                ProgramError::Rejected { release, error: reason, log: verifier_log.to_string() }
            }
            _ => ProgramError::Refused { step, release, error: reason },
        }
    }
}

/// The error number under an error of aya's, wherever it keeps it.
fn os_error(error: &EbpfError) -> Option<i32> {
    // The one error that hides its cause: it is transparent, and an I/O error has no source of its own.
    if let EbpfError::MapError(MapError::IoError(error)) = error {
        return error.raw_os_error();
    }
    std::iter::successors(Some(error as &(dyn std::error::Error + 'static)), |error| error.source())
        .find_map(|error| error.downcast_ref::<io::Error>()?.raw_os_error())
}
