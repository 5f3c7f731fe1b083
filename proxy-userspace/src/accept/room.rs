//! How many sessions and buffers this machine has room for, and how many of them one client may have.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::memory::{Memory, MemoryLimit};
use super::{Bounds, DESCRIPTORS_PER_SESSION, descriptors_reserved};
use crate::config::{CLIENT_SHARE, Config, HELD_SHARE_MAX, OnExit};
use crate::layer::BUFFER_BYTES;
use crate::words::Size;

/// Octets of a session that waits: 14 KiB of this process (its task, both sides' TLS, its record) and some 10 KiB of
/// the kernel for two sockets were measured; the rest is reserve.
const SESSION_IDLE_BYTES: u64 = 32 * 1024;
/// Octets of a session without its sockets' buffers: each direction holds one buffer at most.
pub(super) const SESSION_OWN_BYTES: u64 = SESSION_IDLE_BYTES + 2 * BUFFER_BYTES as u64;
/// Two sockets, each of which receives and sends.
pub(super) const SOCKET_BUFFERS_PER_SESSION: u64 = 4;
/// Idle sessions may take one part in so many of the memory. The rest is for octets on their way.
const IDLE_SHARE: u64 = 2;
/// Mail that is judged may take one part in so many of the memory, where the owner says nothing.
const HELD_SHARE: u64 = 4;
/// Buffers that a mail thread has at least, however little memory there is: one for each direction of a session.
const BUFFERS_PER_THREAD_MIN: usize = 2;
/// Sessions of one client, where an eighth of all is not less. Mail clients hold up to a dozen connections, and a whole
/// office may sit behind one address.
const SESSIONS_PER_CLIENT_DEFAULT: u64 = 1024;
/// Connections at once between accept and relay, for each mail thread: some 0.1 s of a core's work when all of them
/// are honest, and a bound on what strangers make a mail thread hold.
const HANDSHAKES_PER_THREAD: u64 = 64;

/// What the machine has for sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MachineResources {
    /// The limit on open descriptors; `None` is no limit.
    pub descriptors: Option<u64>,
    /// Its memory.
    pub memory: Memory,
}

/// What there is room for. `run` and `check` ask alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Room {
    /// The limits of admission.
    pub bounds: Bounds,
    /// What all sessions together may take, with [`Self::held`].
    pub memory: MemoryLimit,
    /// Octets of it that are for mail which is held while it is judged; none where mail is not judged. Sessions have the
    /// rest.
    pub held: Size,
    /// The largest message that is judged: `limits.message`, or less where there is no memory for it.
    pub message: Size,
    /// Buffers that the sessions of one mail thread may hold at once, one for each direction in which octets are on their
    /// way: what the memory has room for beside all sessions that wait, if each of these directions also fills its
    /// sockets' buffers.
    pub buffers_per_thread: usize,
    /// Where that is less than the configuration says.
    pub narrowed: Vec<Narrowed>,
}

/// A setting that this machine has no room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Narrowed {
    /// `limits.sessions`, by the limit on open descriptors.
    SessionsByDescriptors {
        /// As configured.
        wanted: u64,
        /// What there is room for.
        sessions: u64,
        /// The limit that would do.
        descriptors: u64,
    },
    /// `limits.sessions`, by memory: idle sessions would take more than half of it.
    SessionsByMemory {
        /// As configured.
        wanted: u64,
        /// What there is room for.
        sessions: u64,
        /// The limit that would do.
        memory: Size,
    },
    /// `limits.memory` is more than the machine has.
    Memory {
        /// As configured.
        wanted: Size,
        /// What the machine has.
        least: Size,
    },
    /// `limits.held`, by memory: sessions need half of it.
    Held {
        /// As configured.
        wanted: Size,
        /// What there is room for.
        held: Size,
        /// The limit that would do.
        memory: Size,
    },
    /// `limits.message`, by the mail that may be held.
    Message {
        /// As configured, or the default.
        wanted: Size,
        /// What there is room for.
        message: Size,
        /// The limit that would do.
        memory: Size,
    },
    /// `limits.sessions_per_client` under `on_exit = "open"`, by the sessions that there is room for.
    ClientByShare {
        /// As configured.
        wanted: u64,
        /// An eighth of all.
        per_client: u64,
        /// All.
        sessions: u64,
    },
}

impl fmt::Display for Narrowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SessionsByDescriptors { wanted, sessions, descriptors } => write!(
                f,
                "limits.sessions is {wanted}, and the limit on open descriptors has room for {sessions}: \
                 set LimitNOFILE={descriptors} in the unit"
            ),
            Self::SessionsByMemory { wanted, sessions, memory } => write!(
                f,
                "limits.sessions is {wanted}, and memory has room for {sessions}: give the machine more, or set \
                 limits.memory to {memory} if it has that"
            ),
            Self::Memory { wanted, least } => write!(
                f,
                "limits.memory is {wanted}, and this machine has {least} left: the kernel may end this process when \
                 sessions take more; lower limits.memory or give the machine more"
            ),
            Self::Held { wanted, held, memory } => write!(
                f,
                "limits.held is {wanted}, and half of the memory for sessions is {held}: give the machine more, or set \
                 limits.memory to {memory} if it has that"
            ),
            Self::Message { wanted, message, memory } => write!(
                f,
                "limits.message is {wanted}, and memory has room to judge messages of {message}: larger ones are \
                 refused; give the machine more, or set limits.memory to {memory} if it has that"
            ),
            Self::ClientByShare { wanted, per_client, sessions } => write!(
                f,
                "limits.sessions_per_client is {wanted}, and under on_exit = \"open\" one client gets an eighth of the \
                 {sessions} sessions that there is room for: {per_client}"
            ),
        }
    }
}

impl Room {
    /// The room for this configuration and so many mail threads on this machine.
    #[must_use]
    pub fn new(config: &Config, threads: u32, machine: &MachineResources) -> Self {
        let limits = &config.limits;
        let mut narrowed = Vec::new();
        let memory = memory(config, &machine.memory, &mut narrowed);
        let (held, message) = held(config, memory.size, &mut narrowed);
        let of_sessions = Size(memory.size.0.saturating_sub(held.0));
        let sessions = sessions(config, threads, machine, of_sessions, &mut narrowed);
        let share = (sessions / u64::from(CLIENT_SHARE)).max(1);
        let per_client = match limits.sessions_per_client.map(u64::from) {
            None => share.min(SESSIONS_PER_CLIENT_DEFAULT),
            Some(wanted) if config.steering.on_exit == OnExit::Open && wanted > share => {
                narrowed.push(Narrowed::ClientByShare { wanted, per_client: share, sessions });
                share
            }
            Some(wanted) => wanted,
        };
        let bounds = Bounds {
            sessions,
            sessions_per_client: per_client,
            handshakes: limits.handshakes.map_or(HANDSHAKES_PER_THREAD * u64::from(threads), u64::from),
            handshakes_per_client: u64::from(limits.handshakes_per_client),
            handshakes_per_second_per_client: limits.handshakes_per_second_per_client,
            handshake_burst_per_client: limits.handshake_burst_per_client,
        };
        let for_buffers = of_sessions.0.saturating_sub(sessions.saturating_mul(SESSION_IDLE_BYTES));
        let of_direction = limits.session_memory.0.saturating_sub(SESSION_IDLE_BYTES) / 2;
        let buffers = for_buffers / of_direction.max(1) / u64::from(threads.max(1));
        let buffers_per_thread = usize::try_from(buffers).unwrap_or(usize::MAX).max(BUFFERS_PER_THREAD_MIN);
        Self { bounds, memory, held, message, buffers_per_thread, narrowed }
    }
}

fn memory(config: &Config, memory: &Memory, narrowed: &mut Vec<Narrowed>) -> MemoryLimit {
    let Some(wanted) = config.limits.memory else { return memory.default_limit() };
    if let Some((least, _)) = memory.least()
        && wanted > least
    {
        narrowed.push(Narrowed::Memory { wanted, least });
    }
    MemoryLimit { size: wanted, origin: "limits.memory".to_owned() }
}

/// What may be held for judging, and the largest message: as configured, or a share of the memory that has room for one
/// message at least, and never so much that sessions do not keep their part.
fn held(config: &Config, memory: Size, narrowed: &mut Vec<Narrowed>) -> (Size, Size) {
    let limits = &config.limits;
    if !config.judges_mail() {
        return (Size(0), limits.message);
    }
    let most = Size(memory.0 / HELD_SHARE_MAX);
    let share = Size(memory.0 / HELD_SHARE).max(limits.message);
    let held = limits.held.unwrap_or(share).min(most);
    let needed = |held: Size| Size(held.0.saturating_mul(HELD_SHARE_MAX));
    if let Some(wanted) = limits.held.filter(|wanted| *wanted > held) {
        narrowed.push(Narrowed::Held { wanted, held, memory: needed(wanted) });
    }
    let (wanted, message) = (limits.message, limits.message.min(held));
    if message < wanted {
        narrowed.push(Narrowed::Message { wanted, message, memory: needed(wanted) });
    }
    (held, message)
}

/// The limit on all sessions: as configured, or a default from their memory. Under the default, one client with its
/// eighth of the sessions, each as large as a session gets, fills the memory and no more. A default for which all
/// sessions were that large at once would turn clients away from an idle machine, because sessions are mostly idle. The
/// limit is never more than the descriptors, and the memory of idle sessions, allow.
fn sessions(
    config: &Config,
    threads: u32,
    machine: &MachineResources,
    memory: Size,
    narrowed: &mut Vec<Narrowed>,
) -> u64 {
    let limits = &config.limits;
    let reserved = descriptors_reserved(&config.steering, threads);
    let within = |descriptors| sessions_within(descriptors, reserved);
    let by_descriptors = machine.descriptors.map_or(u64::MAX, within);
    let Some(wanted) = limits.sessions.map(u64::from) else {
        let by_memory = memory.0.saturating_mul(u64::from(CLIENT_SHARE)) / limits.session_memory.0.max(1);
        return by_memory.min(by_descriptors);
    };
    let by_memory = memory.0 / IDLE_SHARE / SESSION_IDLE_BYTES;
    let sessions = wanted.min(by_descriptors).min(by_memory);
    if by_descriptors < wanted {
        let descriptors = descriptors_for(wanted, reserved);
        narrowed.push(Narrowed::SessionsByDescriptors { wanted, sessions: by_descriptors, descriptors });
    }
    if by_memory < wanted {
        let memory = all_memory(config, wanted.saturating_mul(SESSION_IDLE_BYTES).saturating_mul(IDLE_SHARE));
        narrowed.push(Narrowed::SessionsByMemory { wanted, sessions: by_memory, memory });
    }
    sessions
}

/// The `limits.memory` of which sessions have so many octets, beside what is then held for judging.
fn all_memory(config: &Config, of_sessions: u64) -> Size {
    let limits = &config.limits;
    let held = match (config.judges_mail(), limits.held) {
        (false, _) => 0,
        (true, Some(held)) => held.0,
        // Of the whole, of_sessions are all parts but one.
        (true, None) => (of_sessions / (HELD_SHARE - 1)).max(limits.message.0),
    };
    Size(of_sessions.saturating_add(held))
}

/// Sessions that a limit on open descriptors has room for beside `reserved` others.
#[must_use]
pub const fn sessions_within(descriptors: u64, reserved: u64) -> u64 {
    descriptors.saturating_sub(reserved) / DESCRIPTORS_PER_SESSION
}

/// The limit on open descriptors that has room for so many sessions beside `reserved` others.
#[must_use]
pub const fn descriptors_for(sessions: u64, reserved: u64) -> u64 {
    sessions.saturating_mul(DESCRIPTORS_PER_SESSION).saturating_add(reserved)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Descriptors beside sessions, with two interfaces and two mail threads.
    const RESERVED: u64 = 104;

    fn machine(descriptors: Option<u64>, mebibytes: u64) -> MachineResources {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("proc")).unwrap();
        let meminfo = format!("MemAvailable: {} kB\n", mebibytes * 1024);
        std::fs::write(root.path().join("proc/meminfo"), meminfo).unwrap();
        MachineResources { descriptors, memory: Memory::read(root.path()) }
    }

    fn room(on_exit: &str, limits: &str, machine: &MachineResources) -> Room {
        let action = if limits.contains("[action]") { "" } else { "[action]\ninspect = \"none\"" };
        let text = format!(
            "[steering]\ningress = [\"lan0\"]\negress = [\"wan0\"]\non_exit = \"{on_exit}\"\n\
             [certificates]\nauthority = {{ cert = \"a\", key = \"k\" }}\n[limits]\n{limits}\n{action}\n"
        );
        let config = crate::config::parse(&text, std::path::Path::new("postern.toml")).unwrap();
        Room::new(&config, 2, machine)
    }

    fn told(room: &Room) -> Vec<String> {
        room.narrowed.iter().map(Narrowed::to_string).collect()
    }

    /// So much memory that nothing depends on it.
    const PLENTY: u64 = 1 << 20;

    #[test]
    fn one_client_gets_an_eighth_of_all_sessions_or_1024() {
        for (limits, descriptors, expected) in [
            ("sessions = 80", None, (80, 10)),
            ("sessions = 8", None, (8, 1)),
            ("sessions = 100000", None, (100_000, 1024)),
            ("", Some(2 * 800 + RESERVED), (800, 100)),
        ] {
            for on_exit in ["open", "closed"] {
                let room = room(on_exit, limits, &machine(descriptors, PLENTY));
                let bounds = room.bounds;
                assert_eq!((bounds.sessions, bounds.sessions_per_client), expected, "{limits} {on_exit}");
                assert_eq!(told(&room), Vec::<String>::new());
            }
        }
        assert_eq!(room("closed", "sessions = 4", &machine(None, PLENTY)).bounds.sessions_per_client, 1);
    }

    #[test]
    fn what_this_machine_has_no_room_for_is_narrowed_and_told() {
        let limits = "sessions = 8000\nsessions_per_client = 1000";
        let lean = machine(Some(2 * 800 + RESERVED), PLENTY);
        let open = room("open", limits, &lean);
        assert_eq!((open.bounds.sessions, open.bounds.sessions_per_client), (800, 100));
        let words = told(&open);
        assert_eq!(words.len(), 2, "{words:?}");
        assert!(words[0].contains("room for 800: set LimitNOFILE=16104"), "{words:?}");
        assert!(words[1].contains("limits.sessions_per_client is 1000"), "{words:?}");
        // Under `closed` no mail passes uninspected, so that only the owner limits a client's share.
        assert_eq!(room("closed", limits, &lean).bounds.sessions_per_client, 1000);
        let small = room("closed", limits, &machine(None, 512));
        assert_eq!(small.bounds.sessions, 256 * 1024 / 2 / 32);
        assert!(
            told(&small)[0].contains("room for 4096") && told(&small)[0].contains("500 MiB"),
            "{small:?}"
        );
        let beyond = room("closed", "memory = \"2 GiB\"", &machine(None, 1024));
        assert!(
            told(&beyond)[0].contains("limits.memory is 2 GiB, and this machine has 1 GiB"),
            "{beyond:?}"
        );
    }

    #[test]
    fn one_client_that_takes_all_it_may_have_takes_no_more_than_the_memory() {
        for (limits, available) in [
            ("", 300),
            ("", 4096),
            ("", 64 * 1024),
            ("session_memory = \"16 MiB\"", 1024),
            ("memory = \"16 MiB\"\nsession_memory = \"512 KiB\"", 4096),
        ] {
            // At most 1,024 sessions for one client, so that this compares the eighth.
            let machine = machine(Some(2 * 8000 + RESERVED), available);
            let room = room("open", limits, &machine);
            let session = crate::config::parse(
                &format!(
                    "[steering]\ningress = [\"a\"]\negress = [\"b\"]\n[certificates]\n\
                     authority = {{ cert = \"a\", key = \"k\" }}\n[limits]\n{limits}\n\
                     [action]\ninspect = \"none\"\n"
                ),
                std::path::Path::new("postern.toml"),
            );
            let session = session.unwrap().limits.session_memory.0;
            let bounds = room.bounds;
            assert!(bounds.sessions >= 8, "{limits}: {bounds:?}");
            assert!(bounds.sessions_per_client * session <= room.memory.size.0, "{limits}: {room:?}");
            let buffers = u64::try_from(room.buffers_per_thread).unwrap() * 2;
            let all = bounds.sessions * SESSION_IDLE_BYTES + buffers * (session - SESSION_IDLE_BYTES) / 2;
            assert!(all <= room.memory.size.0, "{limits}: {all} of {room:?}");
        }
    }

    fn judging(limits: &str, machine: &MachineResources) -> Room {
        room("closed", &format!("{limits}\n[action]\ninspect = \"full\""), machine)
    }

    #[test]
    fn what_is_held_for_judging_is_taken_from_the_sessions_and_only_where_mail_is_judged() {
        let large = machine(None, 8 << 10);
        for (limits, held) in [("", 1 << 30), ("held = \"2 GiB\"", 2 << 30), ("held = \"64 MiB\"", 64 << 20)]
        {
            let (judged, relayed) = (judging(limits, &large), room("closed", limits, &large));
            assert_eq!((judged.held, relayed.held), (Size(held), Size(0)), "{limits}");
            assert_eq!(judged.memory, relayed.memory);
            let rest = format!("memory = \"{} MiB\"", (judged.memory.size.0 - held) >> 20);
            let like = room("closed", &rest, &large);
            assert_eq!(judged.bounds, like.bounds, "{limits}");
            assert_eq!(judged.buffers_per_thread, like.buffers_per_thread, "{limits}");
            assert_eq!((judged.message, told(&judged)), (Size(64 << 20), Vec::new()));
        }
        let wanted = told(&judging("sessions = 100000", &large));
        assert!(wanted[0].contains("room for 49152") && wanted[0].contains("8.1 GiB"), "{wanted:?}");
        let enough = judging("sessions = 100000\nmemory = \"8400 MiB\"", &machine(None, 64 << 10));
        assert_eq!((enough.bounds.sessions, told(&enough)), (100_000, Vec::new()));
    }

    #[test]
    fn a_small_machine_holds_one_message_at_least_and_never_more_than_half_of_its_memory() {
        // Half of this is for sessions.
        for (mebibytes, held) in [(512, 64), (256, 64), (128, 32), (16, 4)] {
            let room = judging("", &machine(None, mebibytes));
            assert_eq!(
                (room.held, room.message),
                (Size(held << 20), Size(held.min(64) << 20)),
                "{mebibytes}"
            );
        }
        let small = told(&judging("", &machine(None, 128)));
        let said = "limits.message is 64 MiB, and memory has room to judge messages of 32 MiB";
        assert!(small[0].contains(said) && small[0].contains("limits.memory to 128 MiB"), "{small:?}");
        let told = told(&judging("message = \"1 MiB\"\nheld = \"64 MiB\"", &machine(None, 128)));
        assert_eq!(told.len(), 1, "a message has room: {told:?}");
        assert!(told[0].contains("limits.held is 64 MiB, and half of the memory"), "{told:?}");
    }

    #[test]
    fn handshakes_are_64_for_each_worker() {
        assert_eq!(room("open", "", &machine(None, PLENTY)).bounds.handshakes, 128);
        assert_eq!(room("open", "handshakes = 7", &machine(None, PLENTY)).bounds.handshakes, 7);
    }
}
