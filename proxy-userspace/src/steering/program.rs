//! The loader of the BPF object: it fills the maps that `proxy-ebpf` names, attaches, and reads counters.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use aya::maps::{self, Array, MapData, MapError, PerCpuArray, SockMap};
use aya::programs::{self, SkLookup, sk_lookup::SkLookupLink};
use aya::{Ebpf, EbpfError, EbpfLoader};
use proxy_ebpf::{
    CLASSES_MAP, COUNTERS_MAP, Class, Exit, Family, INGRESS_MAX, INTERFACES_MAP, INTERFACES_MAX, Intake,
    LISTENERS_MAP, NOT_INGRESS, PORT_WORDS, PORTS_MAP, PortRole, ROLES_MAP, SETTINGS_MAP, STEER_PROGRAM,
    SYN_EGRESS_MAP, Setting, WORKERS_MAX, listener_slot,
};
use rustix::io::Errno;

use super::classifier::{AttachMethod, AttachPoint, Classifier};
use super::ports::PortPlan;

/// The committed object; `cargo xtask ebpf --check` proves that it is what `proxy-ebpf` compiles to.
static OBJECT: &[u8] = aya::include_bytes_aligned!("postern.bpf.o");

/// How often loading a program is tried. A burst of signals, from children that end, was seen to outlast libbpf's five
/// attempts. An attempt takes some ten milliseconds.
const LOAD_ATTEMPTS_MAX: u32 = 100;

/// The network namespace of this thread, which is the daemon's own.
const NETWORK_NAMESPACE: &str = "/proc/thread-self/ns/net";

/// The programs in the kernel. Dropping this detaches them: the kernel then delivers as if they had never been.
pub struct Program {
    /// Declared first, so that steering ends before the maps go away.
    link: Option<SkLookupLink>,
    classifier: Classifier,
    bpf: Ebpf,
    id: Option<u32>,
    listeners: SockMap<MapData>,
    interfaces: maps::HashMap<MapData, u32, u32>,
    /// A copy of [`Self::interfaces`], so that a check need not read the map entry by entry.
    told: BTreeMap<u32, u32>,
    ports: Array<MapData, u64>,
    /// A copy of [`Self::ports`], without what is 0.
    ports_told: BTreeMap<u32, u64>,
    roles: maps::HashMap<MapData, u32, u32>,
    /// A copy of [`Self::roles`].
    roles_told: BTreeMap<u32, PortRole>,
    settings: Array<MapData, u32>,
    counters: PerCpuArray<MapData, u64>,
    classes: PerCpuArray<MapData, u64>,
    syn_egress: OwnedFd,
}

impl Program {
    /// Load the embedded object: maps empty, program verified, nothing attached.
    ///
    /// # Errors
    /// [`ProgramError::NotPermitted`] without CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN, [`ProgramError::Refused`] or
    /// [`ProgramError::Rejected`] on a kernel that cannot run it.
    pub fn load() -> Result<Self, ProgramError> {
        Self::load_with(AttachMethod::of_this_kernel())
    }

    /// As [`Self::load`], with a hook of the caller's: clsact works on kernels that have tcx, too.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_with(hook: AttachMethod) -> Result<Self, ProgramError> {
        Self::load_from(OBJECT, hook)
    }

    /// As [`Self::load_with`], from an object of the caller's, 8-aligned: how a rebuilt object is tested before it is
    /// committed.
    ///
    /// # Errors
    /// As [`Self::load`], and [`ProgramError::Object`] where the object is not Postern's.
    pub fn load_from(object: &[u8], hook: AttachMethod) -> Result<Self, ProgramError> {
        // No kernel BTF: the programs read no kernel structure, and parsing it costs megabytes.
        let mut bpf = EbpfLoader::new().btf(None).load(object).map_err(at(BpfOperation::CreateMaps))?;
        let listeners = take(&mut bpf, LISTENERS_MAP)?;
        let interfaces = take(&mut bpf, INTERFACES_MAP)?;
        let ports = take(&mut bpf, PORTS_MAP)?;
        let roles = take(&mut bpf, ROLES_MAP)?;
        let settings = take(&mut bpf, SETTINGS_MAP)?;
        let counters = take(&mut bpf, COUNTERS_MAP)?;
        let classes = take(&mut bpf, CLASSES_MAP)?;
        let steer = steer(&mut bpf)?;
        judged(|| steer.load())?;
        let id = steer.info().ok().map(|info| info.id());
        Classifier::load(&mut bpf)?;
        // Loading needs the map's descriptor, which is closed afterwards.
        let syn_egress = share(&mut bpf)?;
        let classifier = Classifier::new(hook);
        Ok(Self {
            link: None,
            classifier,
            bpf,
            id,
            listeners,
            interfaces,
            told: BTreeMap::new(),
            ports,
            ports_told: BTreeMap::new(),
            roles,
            roles_told: BTreeMap::new(),
            settings,
            counters,
            classes,
            syn_egress,
        })
    }

    /// Give the listener of an ingress (by its number in [`Self::set_interfaces`]) to the program. The kernel takes it
    /// out of the map when the socket closes.
    ///
    /// # Errors
    /// [`ProgramError::ThreadOutOfRange`], and [`ProgramError::Listener`] for a socket that is not a TCP listener.
    pub fn add_listener(
        &mut self,
        ingress: u32,
        family: Family,
        thread: u32,
        listener: impl AsFd,
    ) -> Result<(), ProgramError> {
        if ingress >= INGRESS_MAX {
            return Err(ProgramError::TooManyInterfaces { count: ingress as usize + 1 });
        }
        if thread >= WORKERS_MAX {
            return Err(ProgramError::ThreadOutOfRange { thread });
        }
        self.listeners.set(listener_slot(ingress, family, thread), &listener.as_fd(), 0).map_err(|error| {
            match at(BpfOperation::AddListener)(error) {
                ProgramError::Refused { error, .. } => ProgramError::Listener { family, thread, error },
                other => other,
            }
        })
    }

    /// Steer what arrives on the interfaces `ingress` (ifindex, and the ingress's number for [`Self::add_listener`]),
    /// and leave alone what arrives on `others`. Mail from an interface in neither list is dropped, because the daemon
    /// has not classified that interface yet.
    ///
    /// Interfaces that stay are not touched, so their traffic sees no gap.
    ///
    /// # Errors
    /// [`ProgramError::TooManyInterfaces`], or what the kernel says to a map update.
    pub fn set_interfaces(&mut self, ingress: &[(u32, u32)], others: &[u32]) -> Result<(), ProgramError> {
        if let Some((_, number)) = ingress.iter().find(|(_, number)| *number >= INGRESS_MAX) {
            return Err(ProgramError::TooManyInterfaces { count: *number as usize + 1 });
        }
        let room = usize::try_from(INTERFACES_MAX).unwrap_or(0).saturating_sub(ingress.len());
        // A socket lookup without a packet has no interface: index 0.
        let others = std::iter::once(&0).chain(others).take(room).map(|index| (*index, NOT_INGRESS));
        let wanted: BTreeMap<u32, u32> = others.chain(ingress.iter().copied()).collect();
        let gone: Vec<u32> = self.told.keys().filter(|index| !wanted.contains_key(index)).copied().collect();
        for index in gone {
            self.interfaces.remove(&index).map_err(at(BpfOperation::SetInterfaces))?;
            self.told.remove(&index);
        }
        for (index, number) in wanted {
            if self.told.get(&index) != Some(&number) {
                self.interfaces.insert(index, number, 0).map_err(at(BpfOperation::SetInterfaces))?;
                self.told.insert(index, number);
            }
        }
        Ok(())
    }

    /// Set what becomes of mail for each port. The plan's ingresses have the numbers of their places. Until this is set,
    /// no port is steered.
    ///
    /// # Errors
    /// What the kernel says to a map update.
    pub fn set_ports(&mut self, plan: &PortPlan) -> Result<(), ProgramError> {
        let (words, roles) = plan.maps();
        // A port whose role depends on the ingress always finds it.
        for (key, role) in &roles {
            if self.roles_told.get(key) != Some(role) {
                self.roles.insert(key, *role as u32, 0).map_err(at(BpfOperation::SetPorts))?;
                self.roles_told.insert(*key, *role);
            }
        }
        for index in 0..PORT_WORDS {
            let word = words.get(&index).copied();
            if word != self.ports_told.get(&index).copied() {
                self.ports.set(index, word.unwrap_or(0), 0).map_err(at(BpfOperation::SetPorts))?;
                match word {
                    Some(word) => self.ports_told.insert(index, word),
                    None => self.ports_told.remove(&index),
                };
            }
        }
        let gone: Vec<u32> = self.roles_told.keys().filter(|key| !roles.contains_key(key)).copied().collect();
        for key in gone {
            self.roles.remove(&key).map_err(at(BpfOperation::SetPorts))?;
            self.roles_told.remove(&key);
        }
        Ok(())
    }

    /// Attach the classifier to these interfaces and to no other. Returns where it was attached anew. Acts in the
    /// calling thread's network namespace.
    ///
    /// # Errors
    /// The kernel's, for the first interface that refuses. The others are still served.
    pub fn classify(&mut self, places: &[AttachPoint]) -> Result<Vec<AttachPoint>, ProgramError> {
        self.classifier.attach_only_at(&mut self.bpf, places)
    }

    /// Programs of others that the classifier cannot go before, and that may hide packets from it; in words.
    #[must_use]
    pub fn in_front_of_classifier(&self) -> &[String] {
        self.classifier.in_front()
    }

    /// How the classifier is attached.
    #[must_use]
    pub const fn hook(&self) -> AttachMethod {
        self.classifier.hook()
    }

    /// Set what happens to new connections.
    ///
    /// # Errors
    /// What the kernel says to a map update.
    pub fn set_intake(&mut self, intake: Intake) -> Result<(), ProgramError> {
        self.set(Setting::Intake, intake as u32)
    }

    /// Set whether the classifier does a socket lookup for packets from servers (`source = "client"`).
    ///
    /// # Errors
    /// What the kernel says to a map update.
    pub fn set_returning(&mut self, returning: bool) -> Result<(), ProgramError> {
        self.set(Setting::Returning, u32::from(returning))
    }

    fn set(&mut self, setting: Setting, value: u32) -> Result<(), ProgramError> {
        self.settings.set(setting as u32, value, 0).map_err(at(BpfOperation::Set))
    }

    /// Begin to steer in the calling thread's network namespace, behind the programs that are attached already.
    ///
    /// # Errors
    /// [`ProgramError::Namespace`] without `/proc`, or what the kernel says to the link.
    pub fn attach(&mut self) -> Result<(), ProgramError> {
        let namespace = std::fs::File::open(NETWORK_NAMESPACE).map_err(ProgramError::Namespace)?;
        let steer = steer(&mut self.bpf)?;
        let link =
            steer.attach(namespace).and_then(|id| steer.take_link(id)).map_err(at(BpfOperation::Attach))?;
        self.link = Some(link);
        Ok(())
    }

    /// How many packets left the steering program by each exit since it was loaded, in the order of [`Exit::ALL`].
    ///
    /// # Errors
    /// What the kernel says to reading the map.
    pub fn counters(&self) -> Result<[u64; Exit::ALL.len()], ProgramError> {
        sums(&self.counters)
    }

    /// How many packets left the classifier by each exit since it was loaded, in the order of [`Class::ALL`].
    ///
    /// # Errors
    /// What the kernel says to reading the map.
    pub fn classes(&self) -> Result<[u64; Class::ALL.len()], ProgramError> {
        sums(&self.classes)
    }

    /// The array in which the programs that [`Self::classify`] attaches note where SYNs to servers left; to be mapped by
    /// [`SynEgress::map`](super::syn_egress::SynEgress::map), in any process that it is passed to.
    #[must_use]
    pub const fn syn_egress(&self) -> &OwnedFd {
        &self.syn_egress
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

fn sums<const N: usize>(counters: &PerCpuArray<MapData, u64>) -> Result<[u64; N], ProgramError> {
    let mut sums = [0; N];
    for (slot, sum) in (0..).zip(&mut sums) {
        let per_cpu = counters.get(&slot, 0).map_err(at(BpfOperation::ReadCounters))?;
        *sum = per_cpu.iter().fold(0, |total: u64, value| total.wrapping_add(*value));
    }
    Ok(sums)
}

fn steer(bpf: &mut Ebpf) -> Result<&mut SkLookup, ProgramError> {
    bpf.program_mut(STEER_PROGRAM)
        .and_then(|program| program.try_into().ok())
        .ok_or(ProgramError::Object { part: STEER_PROGRAM })
}

fn take<M: TryFrom<maps::Map>>(bpf: &mut Ebpf, part: &'static str) -> Result<M, ProgramError> {
    bpf.take_map(part).and_then(|map| M::try_from(map).ok()).ok_or(ProgramError::Object { part })
}

fn share(bpf: &mut Ebpf) -> Result<OwnedFd, ProgramError> {
    let Some(maps::Map::Array(array)) = bpf.take_map(SYN_EGRESS_MAP) else {
        return Err(ProgramError::Object { part: SYN_EGRESS_MAP });
    };
    let shared = array.fd().as_fd().try_clone_to_owned();
    shared.map_err(|error| at(BpfOperation::ShareMap)(MapError::IoError(error)))
}

/// What the daemon was doing when the kernel refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BpfOperation {
    /// `BPF_MAP_CREATE`.
    CreateMaps,
    /// `dup` of the notes about SYNs.
    ShareMap,
    /// `BPF_PROG_LOAD`.
    LoadProgram,
    /// `BPF_MAP_UPDATE_ELEM` on the socket map.
    AddListener,
    /// `BPF_MAP_UPDATE_ELEM` and `BPF_MAP_DELETE_ELEM` on the map of interfaces.
    SetInterfaces,
    /// `BPF_MAP_UPDATE_ELEM` and `BPF_MAP_DELETE_ELEM` on the maps of ports.
    SetPorts,
    /// `BPF_MAP_UPDATE_ELEM` on the settings.
    Set,
    /// `BPF_LINK_CREATE` on the network namespace.
    Attach,
    /// `BPF_LINK_CREATE` on an interface, or `RTM_NEWQDISC` and `RTM_NEWTFILTER`.
    Classify {
        /// Its name.
        interface: String,
    },
    /// `BPF_MAP_LOOKUP_ELEM` on the counters.
    ReadCounters,
}

impl fmt::Display for BpfOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Classify { interface } => {
                return write!(f, "attach the classifier to {interface} (BPF_LINK_CREATE, RTM_NEWTFILTER)");
            }
            Self::Set => "change a setting of the steering program (BPF_MAP_UPDATE_ELEM)",
            Self::CreateMaps => "create the steering maps (BPF_MAP_CREATE)",
            Self::ShareMap => "share the notes about SYNs with the steering programs (fcntl)",
            Self::LoadProgram => "load the steering program (BPF_PROG_LOAD)",
            Self::AddListener => "give a listener to the steering program (BPF_MAP_UPDATE_ELEM)",
            Self::SetInterfaces => "tell the steering program its interfaces (BPF_MAP_UPDATE_ELEM)",
            Self::SetPorts => "tell the steering program its ports (BPF_MAP_UPDATE_ELEM)",
            Self::Attach => "attach the steering program to the network namespace (BPF_LINK_CREATE)",
            Self::ReadCounters => "read the steering counters (BPF_MAP_LOOKUP_ELEM)",
        })
    }
}

/// Why the BPF programs could not be loaded, attached or set.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// EPERM.
    #[error(
        "not permitted to {step}: this takes CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN in the machine's own user namespace; run \
         postern as root or from its systemd unit, not in a rootless container"
    )]
    NotPermitted {
        /// What was tried.
        step: BpfOperation,
    },
    /// Any other error number.
    #[error(
        "cannot {step} on Linux {release}: {error}; Postern needs Linux 6.1 or later with CONFIG_BPF_SYSCALL and \
         CONFIG_NET"
    )]
    Refused {
        /// What was tried.
        step: BpfOperation,
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
    /// The object lacks a program or map of this build's contract.
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
    /// The maps have no room for this mail thread.
    #[error(
        "thread {thread} has no slot in the steering program: set steering.threads to {WORKERS_MAX} or less"
    )]
    ThreadOutOfRange {
        /// Counted from 0.
        thread: u32,
    },
    /// The maps have no room for these interfaces.
    #[error("{count} ingress interfaces are too many: steering.ingress takes {INGRESS_MAX} at most")]
    TooManyInterfaces {
        /// How many were given.
        count: usize,
    },
    /// The kernel does not take the socket.
    #[error(
        "the steering program cannot take the {family:?} listener of thread {thread}: {error}; it must be a TCP socket that listens"
    )]
    Listener {
        /// The slot's family.
        family: Family,
        /// The slot's mail thread.
        thread: u32,
        /// The kernel's answer.
        error: io::Error,
    },
    /// The network namespace cannot be opened.
    #[error("cannot open {NETWORK_NAMESPACE}: {0}; mount /proc for the daemon")]
    Namespace(io::Error),
}

/// Load a program, with retries. A signal that is pending in this thread interrupts the verifier with EAGAIN
/// (`do_check` in kernel/bpf/verifier.c), which says nothing about the program.
pub(super) fn judged(
    mut load: impl FnMut() -> Result<(), programs::ProgramError>,
) -> Result<(), ProgramError> {
    let mut attempts = 1;
    loop {
        match load().map_err(EbpfError::from) {
            Err(error)
                if attempts < LOAD_ATTEMPTS_MAX && os_error(&error) == Some(Errno::AGAIN.raw_os_error()) =>
            {
                attempts += 1;
            }
            judgement => return judgement.map_err(at(BpfOperation::LoadProgram)),
        }
    }
}

/// aya's error as a [`ProgramError`], by what an operator can do about it.
pub(super) fn at<E: Into<EbpfError>>(step: BpfOperation) -> impl FnOnce(E) -> ProgramError {
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

/// The error number inside an error of aya's.
fn os_error(error: &EbpfError) -> Option<i32> {
    // This error hides its cause: it is transparent, and an I/O error has no source.
    if let EbpfError::MapError(MapError::IoError(error)) = error {
        return error.raw_os_error();
    }
    std::iter::successors(Some(error as &(dyn std::error::Error + 'static)), |error| error.source())
        .find_map(|error| error.downcast_ref::<io::Error>()?.raw_os_error())
}

#[cfg(test)]
mod tests {
    use aya::sys::SyscallError;

    use super::*;

    /// How often a program is loaded that meets these errors, and what comes of it.
    fn loads(errors: &[Errno]) -> (usize, Result<(), ProgramError>) {
        let mut loads = 0;
        let outcome = judged(|| {
            let error = errors.get(loads).copied();
            loads += 1;
            let syscall = |error| SyscallError { call: "bpf_prog_load", io_error: io::Error::from(error) };
            error.map_or(Ok(()), |error| Err(syscall(error).into()))
        });
        (loads, outcome)
    }

    #[test]
    fn a_signal_during_the_judgement_is_none() {
        assert!(matches!(loads(&[Errno::AGAIN; 99]), (100, Ok(()))));
    }

    #[test]
    fn a_refusal_is_final_and_signals_are_not_endured_for_ever() {
        assert!(matches!(loads(&[Errno::PERM]), (1, Err(ProgramError::NotPermitted { .. }))));
        let (loads, outcome) = loads(&[Errno::AGAIN; 200]);
        assert_eq!(loads, 100);
        let said = outcome.unwrap_err().to_string();
        assert!(said.starts_with("cannot load the steering program (BPF_PROG_LOAD)"), "{said}");
    }
}
