use std::time::Duration;

use super::kinds::{Kind, number, seconds, size};
use super::setting::settings;
use crate::words::Size;

/// Under `on_exit = "open"` one client has this share of all sessions at most: whoever fills the last place lets all new
/// mail pass uninspected, and that must not be one client alone.
pub const CLIENT_SHARE: u32 = 8;
/// One part in so many of the memory may be held for judging at most: sessions need the rest.
pub(crate) const HELD_SHARE_MAX: u64 = 2;
/// Two descriptors a session; no Linux process gets more than 2^30 by default (`fs.nr_open` is 2^20).
pub(super) const SESSIONS_MAX: i64 = 524_288;
/// Sessions with so little are eight at once where each may take the most.
const MEMORY_MIN: Size = Size(16 << 20);
/// Half of it may be held for judging, and the sessions keep [`MEMORY_MIN`].
pub(super) const MEMORY_INSPECTED_MIN: Size = Size(MEMORY_MIN.0 * HELD_SHARE_MAX);
/// Larger than any gateway.
pub(super) const MEMORY_MAX: Size = Size(1 << 50);
/// The sockets' buffers still hold a full TLS record with the kernel's overhead.
const SESSION_MEMORY_MIN: Size = Size(512 << 10);
/// Each window is some 2 MiB: 160 Mbit/s over a round trip of 100 ms.
const SESSION_MEMORY_MAX: Size = Size(16 << 20);
/// Below it, mail of text alone would be refused.
const MESSAGE_MIN: Size = Size(64 << 10);
/// A message is judged whole, and its offsets are 32 bits wide in IMAP (RFC 9051 section 9, number).
const MESSAGE_MAX: Size = Size(1 << 30);
/// A copy takes blocks of 64 KiB; below this there would be room for hardly any.
const SPOOL_MIN: Size = Size(1 << 20);
/// Larger than any gateway's disk, and within the numbers of the blocks.
const SPOOL_MAX: Size = Size(1 << 46);
/// Below it, no document of some size is unpacked.
const JUDGE_MEMORY_MIN: Size = Size(64 << 20);
/// More than any part of a mail needs.
const JUDGE_MEMORY_MAX: Size = Size(64 << 30);
/// A handshake costs about a millisecond of a core; no machine finishes more than this in a second.
const HANDSHAKES_PER_SECOND_MAX: i64 = 100_000;

const DESCRIPTORS: &str = "two descriptors a session";
const OF_SESSIONS: &str = "a handshake belongs to a session";
const PATIENCE: &str = "clients give up after one to two minutes";

/// What comes before mail may take so long.
pub(super) fn handshake_seconds() -> Kind<Duration> {
    seconds((1, 300), PATIENCE)
}

/// A session without an octet may last so long.
pub(super) fn idle_seconds() -> Kind<Duration> {
    seconds(
        (1860, 604_800),
        "IDLE is renewed every 29 minutes, RFC 9051 section 5.4 forbids less than 30, and two more leave room",
    )
}

settings! {
    /// `[limits]`.
    #[derive(Copy)]
    pub struct Limits {
        /// Sessions at once. `postern check` shows the number.
        sessions: Option<u32> = number((1, SESSIONS_MAX), "sessions", DESCRIPTORS).unset(
            "what the limit on open descriptors allows, and what `memory` allows: eight times `memory` / \
             `session_memory`, because most sessions only wait",
            "8000",
        );
        /// Sessions at once of one client: an IPv4 address or an IPv6 /64. Under `on_exit = "open"` more than an eighth
        /// of all sessions is an error, because a client that fills all sessions would let all new mail pass
        /// uninspected.
        sessions_per_client: Option<u32> = number((1, SESSIONS_MAX), "sessions", DESCRIPTORS)
            .unset("1024, or an eighth of all sessions where that is less", "1000");
        /// Connections at once between accept and relay, where each costs the most. Over this limit, as over those on
        /// sessions, a client on a port of STARTTLS gets `* BYE`, one on a port of implicit TLS a reset.
        handshakes: Option<u32> = number((1, SESSIONS_MAX), "connections", OF_SESSIONS)
            .unset("64 for each mail thread", "256");
        /// Connections of one client at once between accept and relay; a mail client opens up to a dozen when it starts.
        /// Where many users share one address (an office behind NAT, a terminal server), raise the limits of one client:
        /// to the number of connections that open at the same moment, such as in the morning or after an outage.
        handshakes_per_client: u32 = number((1, SESSIONS_MAX), "connections", OF_SESSIONS).default(16);
        /// Connections a second of one client in the long run. The default is some ten clients behind one address that
        /// look for mail all the time.
        handshakes_per_second_per_client: u32 =
            number((1, HANDSHAKES_PER_SECOND_MAX), "connections a second", "no machine finishes more").default(10);
        /// Connections of one client that may come at the same moment after a pause. The default is two or three mail
        /// clients that start together.
        handshake_burst_per_client: u32 = number((1, SESSIONS_MAX), "connections", OF_SESSIONS).default(32);
        /// Memory of all sessions, the kernel's buffers of their sockets included. Under `inspect = "full"` it is at
        /// least 32 MiB. Where it is used up, sessions wait for each other, and those that hold some of it and do not
        /// move for 10 s are ended.
        memory: Option<Size> =
            size((MEMORY_MIN, MEMORY_MAX), "eight sessions of the largest size need so much").unset(
                "half of what the machine has available, or of the memory limit of Postern's control group where that \
                 is less",
                "\"4 GiB\"",
            );
        /// The most that one session may take of `memory`; changes with a restart only. The windows of its sockets follow
        /// from it: with 2 MiB one transfer gets some 19 Mbit/s over a round trip of 100 ms, and 190 over one of 10 ms.
        session_memory: Size = size(
            (SESSION_MEMORY_MIN, SESSION_MEMORY_MAX),
            "its buffers must hold a TLS record and need not hold more than any path carries",
        ).default(Size(2 << 20));
        /// The largest message that is judged under `inspect = "full"`. It is held whole meanwhile. A larger one is
        /// refused, down and up, with `NO [LIMIT]`; clients see the limit as APPENDLIMIT. Mail providers take 25 to
        /// 50 MB, which base64 makes a third larger.
        message: Size = size((MESSAGE_MIN, MESSAGE_MAX), "a message is held whole while it is judged")
            .default(Size(64 << 20));
        /// Mail that all sessions together may hold while it is judged, at least `message`, at most half of `memory`. It
        /// is taken out of `memory`, so that the sessions have the rest. Where it is used up, what would need it is
        /// answered `NO [UNAVAILABLE]`, and clients come again.
        held: Option<Size> =
            size((MESSAGE_MIN, MEMORY_MAX), "it holds at least one message, and is a part of limits.memory").unset(
                "a quarter of `memory`, but at least one message, and at most half of `memory` where that is less",
                "\"1 GiB\"",
            );
        /// Copies of what was judged, out of which the parts of it that clients ask for one after another are served: in
        /// memory at first, up to a quarter of `held`, then in a file of `state.directory` that has no name, encrypted
        /// under a key that no other process gets. Where it is full, such parts are fetched and judged whole again.
        spool: Size = size((SPOOL_MIN, SPOOL_MAX), "a copy of a part takes some blocks of 64 KiB")
            .default(Size(1 << 30));
        /// Memory of its own that a judge may have, beside the part of a mail that it reads: it ends where it needs more, and
        /// the part cannot be scanned. There is one judge for each core and a spare. It is not taken out of `memory`.
        /// A part is unpacked in it: where `message` is raised, it has to be several times as large. Changes with a restart
        /// only.
        judge_memory: Size = size(
            (JUDGE_MEMORY_MIN, JUDGE_MEMORY_MAX),
            "rules and one part of a mail, unpacked, need some of it",
        ).default(Size(512 << 20));
        /// Time of a processor that a judge may take for one part of a mail: it ends where it needs more, and the part cannot
        /// be scanned.
        judge as "judge_seconds": Duration =
            seconds((1, 600), "a client waits for it").default(Duration::from_secs(30));
        /// Bound on connecting to a server, within `handshake_seconds`.
        connect as "connect_seconds": Duration = seconds((1, 120), PATIENCE).default(Duration::from_secs(10));
        /// Bound on all that comes before mail: from accept to relay, with connecting, the dialogue before STARTTLS and
        /// both TLS handshakes. In clear text a client has to log in within it.
        handshake as "handshake_seconds": Duration = handshake_seconds().default(Duration::from_secs(60));
        /// A session without an octet in either direction ends after this.
        idle as "idle_seconds": Duration = idle_seconds().default(Duration::from_secs(2100));
        /// How long sessions may go on after TERM.
        drain as "drain_seconds": Duration =
            seconds((0, 86_400), "a stop has to end").default(Duration::from_secs(30));
    }
}
