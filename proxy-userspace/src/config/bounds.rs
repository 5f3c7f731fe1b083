//! `[limits]`, judged.

use std::time::Duration;

use super::fault::Reason;
use super::judge::{number, word};
use super::parse::Report;
use super::shape::{self, Number, Text};
use super::{Inspection, Limits, OnExit, names};
use crate::words::Size;

/// Under `on_exit = "open"` one client has this share of all sessions at most: whoever fills the last place lets all new
/// mail pass uninspected, and that must not be one client alone.
pub const CLIENT_SHARE: u32 = 8;
/// One part in so many of the memory may be held for judging at most: sessions need the rest.
pub(crate) const HELD_SHARE_MAX: u64 = 2;
/// Two descriptors a session; no Linux process gets more than 2^30 by default (`fs.nr_open` is 2^20).
const SESSIONS_MAX: i64 = 524_288;
/// Handshakes of one client at once: a mail client opens up to a dozen connections when it starts.
const HANDSHAKES_PER_CLIENT_DEFAULT: u32 = 16;
/// Connections a second of one client: some ten clients behind one address that look for mail all the time.
const HANDSHAKES_PER_SECOND_PER_CLIENT_DEFAULT: u32 = 10;
/// Connections of one client at the same moment: two or three mail clients that start together.
const HANDSHAKE_BURST_PER_CLIENT_DEFAULT: u32 = 32;
/// Sessions with so little are eight at once where each may take [`SESSION_MEMORY_MAX`].
const MEMORY_MIN: Size = Size(16 << 20);
/// Half of it may be held for judging, and the sessions keep [`MEMORY_MIN`].
const MEMORY_INSPECTED_MIN: Size = Size(MEMORY_MIN.0 * HELD_SHARE_MAX);
/// Larger than any gateway.
const MEMORY_MAX: Size = Size(1 << 50);
/// Of it, 1.8 MiB are the sockets' buffers: each window is some 230 KiB, which carries 19 Mbit/s over a round trip of
/// 100 ms.
const SESSION_MEMORY_DEFAULT: Size = Size(2 << 20);
/// The sockets' buffers still hold a full TLS record with the kernel's overhead.
const SESSION_MEMORY_MIN: Size = Size(512 << 10);
/// Each window is some 2 MiB: 160 Mbit/s over a round trip of 100 ms.
const SESSION_MEMORY_MAX: Size = Size(16 << 20);
/// Mail providers take 25 to 50 MB, which base64 makes a third larger.
const MESSAGE_DEFAULT: Size = Size(64 << 20);
/// Below it, mail of text alone would be refused.
const MESSAGE_MIN: Size = Size(64 << 10);
/// A message is judged whole, and its offsets are 32 bits wide in IMAP (RFC 9051 section 9, number).
const MESSAGE_MAX: Size = Size(1 << 30);
/// Sixteen of the largest messages by default.
const SPOOL_DEFAULT: Size = Size(1 << 30);
/// A copy takes blocks of 64 KiB; below this there would be room for hardly any.
const SPOOL_MIN: Size = Size(1 << 20);
/// Larger than any gateway's disk, and within the numbers of the blocks.
const SPOOL_MAX: Size = Size(1 << 46);
/// A handshake costs about a millisecond of a core; no machine finishes more than this in a second.
const HANDSHAKES_PER_SECOND_MAX: i64 = 100_000;

pub(super) fn limits(
    report: &mut Report<'_>,
    file: &shape::LimitsTable,
    on_exit: OnExit,
    inspect: Inspection,
) -> Limits {
    if on_exit == OnExit::Open {
        shares(report, file);
    }
    let sessions = file.sessions.as_ref().map(|sessions| {
        number(report, "limits.sessions", Some(sessions), 1, (1, SESSIONS_MAX), "two descriptors a session")
    });
    let mut count = |key, value: &Option<Number>, default, max, why| {
        number(report, key, value.as_ref(), default, (1, max), why)
    };
    let of_sessions = "a handshake belongs to a session";
    let handshakes = file
        .handshakes
        .as_ref()
        .map(|_| count("limits.handshakes", &file.handshakes, 1, SESSIONS_MAX, of_sessions));
    let sessions_per_client = file.sessions_per_client.as_ref().map(|_| {
        let why = "two descriptors a session";
        count("limits.sessions_per_client", &file.sessions_per_client, 1, SESSIONS_MAX, why)
    });
    let handshakes_per_client = count(
        "limits.handshakes_per_client",
        &file.handshakes_per_client,
        HANDSHAKES_PER_CLIENT_DEFAULT,
        SESSIONS_MAX,
        of_sessions,
    );
    let handshakes_per_second_per_client = count(
        "limits.handshakes_per_second_per_client",
        &file.handshakes_per_second_per_client,
        HANDSHAKES_PER_SECOND_PER_CLIENT_DEFAULT,
        HANDSHAKES_PER_SECOND_MAX,
        "no machine finishes more",
    );
    let handshake_burst_per_client = count(
        "limits.handshake_burst_per_client",
        &file.handshake_burst_per_client,
        HANDSHAKE_BURST_PER_CLIENT_DEFAULT,
        SESSIONS_MAX,
        of_sessions,
    );
    let memory = memory(report, file, inspect);
    let (of_session, why) = (
        (SESSION_MEMORY_MIN, SESSION_MEMORY_MAX),
        "its buffers must hold a TLS record and need not hold more than any path carries",
    );
    let session_memory = file
        .session_memory
        .as_ref()
        .and_then(|text| size_within(report, "limits.session_memory", text, of_session, why))
        .unwrap_or(SESSION_MEMORY_DEFAULT);
    let (of_message, why) = ((MESSAGE_MIN, MESSAGE_MAX), "a message is held whole while it is judged");
    let message = file
        .message
        .as_ref()
        .map_or(Some(MESSAGE_DEFAULT), |text| size_within(report, "limits.message", text, of_message, why));
    let held = held(report, file, message, memory.filter(|_| inspect == Inspection::Full));
    let (of_spool, why) = ((SPOOL_MIN, SPOOL_MAX), "a copy of a part takes some blocks of 64 KiB");
    let spool = file
        .spool
        .as_ref()
        .and_then(|text| size_within(report, "limits.spool", text, of_spool, why))
        .unwrap_or(SPOOL_DEFAULT);
    let mut seconds = |key, value: &Option<Number>, default, range, why| {
        Duration::from_secs(number(report, key, value.as_ref(), default, range, why))
    };
    let patience = "clients give up after one to two minutes";
    let idle = "IDLE is renewed every 29 minutes, RFC 9051 section 5.4 forbids less than 30, and two more leave room";
    Limits {
        sessions,
        sessions_per_client,
        handshakes,
        handshakes_per_client,
        handshakes_per_second_per_client,
        handshake_burst_per_client,
        memory,
        session_memory,
        message: message.unwrap_or(MESSAGE_DEFAULT),
        held,
        spool,
        connect: seconds("limits.connect_seconds", &file.connect_seconds, 10, (1, 120), patience),
        handshake: seconds("limits.handshake_seconds", &file.handshake_seconds, 60, (1, 300), patience),
        idle: seconds("limits.idle_seconds", &file.idle_seconds, 2100, (1860, 604_800), idle),
        drain: seconds("limits.drain_seconds", &file.drain_seconds, 30, (0, 86_400), "a stop has to end"),
    }
}

fn memory(report: &mut Report<'_>, file: &shape::LimitsTable, inspect: Inspection) -> Option<Size> {
    let (min, why) = match inspect {
        Inspection::None => (MEMORY_MIN, "eight sessions of the largest size need so much"),
        Inspection::Full => (
            MEMORY_INSPECTED_MIN,
            "eight sessions of the largest size need half of it, and action.inspect = \"full\" may hold the other half",
        ),
    };
    size_within(report, "limits.memory", file.memory.as_ref()?, (min, MEMORY_MAX), why)
}

/// At least one message, and, of a memory that is known, not so much that sessions have no room. What is wrong itself
/// is not compared.
fn held(
    report: &mut Report<'_>,
    file: &shape::LimitsTable,
    message: Option<Size>,
    memory: Option<Size>,
) -> Option<Size> {
    const KEY: &str = "limits.held";
    let text = file.held.as_ref()?;
    let why = "it holds at least one message, and is a part of limits.memory";
    let held = size_within(report, KEY, text, (MESSAGE_MIN, MEMORY_MAX), why)?;
    let message = message?;
    if held < message {
        report.add(KEY, text.span(), Reason::HeldUnderMessage { message });
    } else if let Some(memory) = memory.filter(|memory| held.0 > memory.0 / HELD_SHARE_MAX) {
        let max = Size((memory.0 / HELD_SHARE_MAX) >> 20 << 20);
        let needed = Size(held.0.saturating_mul(HELD_SHARE_MAX));
        let message = Some(message).filter(|message| *message > max);
        report.add(KEY, text.span(), Reason::HeldOverShare { memory, max, needed, message });
    }
    Some(held)
}

/// The size, if it lies in its range.
fn size_within(
    report: &mut Report<'_>,
    key: &str,
    text: &Text,
    (min, max): (Size, Size),
    why: &'static str,
) -> Option<Size> {
    word(report, key, Some(text), None, |text| {
        let in_range = |size: &Size| (min..=max).contains(size);
        names::size(text)
            .and_then(|size| Some(size).filter(in_range).ok_or(Reason::SizeOutOfRange { min, max, why }))
            .map(Some)
    })
}

/// One client must not be able to fill all places. Numbers out of their range are another fault.
fn shares(report: &mut Report<'_>, file: &shape::LimitsTable) {
    let Some(sessions) = &file.sessions else { return };
    let share = i64::from(CLIENT_SHARE);
    let (max, wanted) = (*sessions.get_ref() / share, file.sessions_per_client.as_ref());
    if (1..share).contains(sessions.get_ref()) {
        report.add("limits.sessions", sessions.span(), Reason::TooFewSessions { min: CLIENT_SHARE });
    } else if let Some(wanted) = wanted.filter(|wanted| (max + 1..=SESSIONS_MAX).contains(wanted.get_ref())) {
        let reason = Reason::OverShare { share: CLIENT_SHARE, sessions: *sessions.get_ref(), max };
        report.add("limits.sessions_per_client", wanted.span(), reason);
    }
}
