//! What there is room for on this machine, and what one client may have of it.

use std::fmt;

use super::{Bounds, DESCRIPTORS_PER_SESSION, descriptors_reserved};
use crate::config::{CLIENT_SHARE, Config, OnExit};

/// Sessions when no limit on descriptors is set.
const SESSIONS_UNLIMITED: u64 = 100_000;
/// Sessions of one client, where an eighth of all is not less. Mail clients hold up to a dozen connections, and a whole
/// office may sit behind one address.
const SESSIONS_PER_CLIENT_DEFAULT: u64 = 1024;
/// Connections at once between accept and relay, for each worker thread: some 0.1 s of a core's work when all of them
/// are honest, and a bound on what strangers make a worker hold.
const HANDSHAKES_PER_WORKER: u64 = 64;

/// What there is room for. `run` and `check` ask alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// What is admitted.
    pub bounds: Bounds,
    /// Where that is less than the configuration says.
    pub narrowed: Vec<Narrowed>,
}

/// A setting that this machine has no room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
            Self::ClientByShare { wanted, per_client, sessions } => write!(
                f,
                "limits.sessions_per_client is {wanted}, and under on_exit = \"open\" one client gets an eighth of the \
                 {sessions} sessions that there is room for: {per_client}"
            ),
        }
    }
}

impl Room {
    /// With this configuration, so many workers, and so many descriptors (`None`: no limit).
    #[must_use]
    pub fn new(config: &Config, workers: u32, descriptors: Option<u64>) -> Self {
        let limits = &config.limits;
        let mut narrowed = Vec::new();
        let reserved = descriptors_reserved(&config.steering, workers);
        let by_descriptors = descriptors.map(|descriptors| sessions_within(descriptors, reserved));
        let wanted = limits.sessions.map_or(SESSIONS_UNLIMITED, u64::from);
        let sessions = by_descriptors.map_or(wanted, |most| match limits.sessions {
            Some(_) => wanted.min(most),
            None => most,
        });
        if limits.sessions.is_some() && sessions < wanted {
            let descriptors = descriptors_for(wanted, reserved);
            narrowed.push(Narrowed::SessionsByDescriptors { wanted, sessions, descriptors });
        }
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
            handshakes: limits.handshakes.map_or(HANDSHAKES_PER_WORKER * u64::from(workers), u64::from),
            handshakes_per_client: u64::from(limits.handshakes_per_client),
            handshakes_per_second_per_client: limits.handshakes_per_second_per_client,
            handshake_burst_per_client: limits.handshake_burst_per_client,
        };
        Self { bounds, narrowed }
    }
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

    /// Descriptors beside sessions, with two interfaces and two workers.
    const RESERVED: u64 = 88;

    fn room(on_exit: &str, limits: &str, descriptors: Option<u64>) -> Room {
        let text = format!(
            "[steering]\ningress = [\"lan0\"]\negress = [\"wan0\"]\non_exit = \"{on_exit}\"\n\
             [certificates]\nauthority = {{ cert = \"a\", key = \"k\" }}\n[limits]\n{limits}\n"
        );
        let config = crate::config::parse(&text, std::path::Path::new("postern.toml")).unwrap();
        Room::new(&config, 2, descriptors)
    }

    #[test]
    fn one_client_gets_an_eighth_of_all_sessions_or_1024() {
        for (limits, descriptors, expected) in [
            ("sessions = 80", None, (80, 10)),
            ("sessions = 8", None, (8, 1)),
            ("sessions = 100000", None, (100_000, 1024)),
            ("", Some(2 * 800 + RESERVED), (800, 100)),
            ("", None, (100_000, 1024)),
        ] {
            for on_exit in ["open", "closed"] {
                let Room { bounds, narrowed } = room(on_exit, limits, descriptors);
                assert_eq!((bounds.sessions, bounds.sessions_per_client), expected, "{limits} {on_exit}");
                assert_eq!(narrowed, []);
            }
        }
        assert_eq!(room("closed", "sessions = 4", None).bounds.sessions_per_client, 1);
    }

    #[test]
    fn what_this_machine_has_no_room_for_is_narrowed_and_told() {
        let limits = "sessions = 8000\nsessions_per_client = 1000";
        let open = room("open", limits, Some(2 * 800 + RESERVED));
        assert_eq!((open.bounds.sessions, open.bounds.sessions_per_client), (800, 100));
        let told: Vec<_> = open.narrowed.iter().map(Narrowed::to_string).collect();
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].contains("room for 800: set LimitNOFILE=16088"), "{told:?}");
        assert!(told[1].contains("limits.sessions_per_client is 1000"), "{told:?}");
        // Nobody passes uninspected under `closed`: there a client's limit is the owner's alone.
        assert_eq!(room("closed", limits, Some(2 * 800 + RESERVED)).bounds.sessions_per_client, 1000);
    }

    #[test]
    fn handshakes_are_64_for_each_worker() {
        assert_eq!(room("open", "", None).bounds.handshakes, 128);
        assert_eq!(room("open", "handshakes = 7", None).bounds.handshakes, 7);
    }
}
