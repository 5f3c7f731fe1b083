use std::time::Duration;

use super::kinds::{flag, number};
use super::limits::{Limits, handshake_seconds, idle_seconds};
use super::setting::settings;
use crate::imap::frame::CLIENT_TEXT_BYTES_MAX;

/// The longest line that may be allowed, in octets.
#[expect(clippy::cast_possible_truncation, reason = "it is 65,536")]
pub const LINE_LENGTH_MAX: u32 = CLIENT_TEXT_BYTES_MAX as u32;
/// RFC 2683 section 3.2.1.5 asks clients to stay within some 1,000 octets.
const LINE_LENGTH_MIN: i64 = 1000;

settings! {
    /// `[action.general]`: how a session goes, whatever its mail holds.
    #[derive(Copy)]
    pub struct GeneralSettings {
        /// A session of this action without an octet in either direction ends after this.
        idle as "idle_seconds": Option<Duration> = idle_seconds().unset("`limits.idle_seconds`", "3600");
        /// Bound on all that comes before mail, as `limits.handshake_seconds`. Where policies have names of servers (`sni`),
        /// the bound is that of the policy that fits before the name is known: it includes the wait for the name.
        handshake as "handshake_seconds": Option<Duration> =
            handshake_seconds().unset("`limits.handshake_seconds`", "30");
        /// The longest command that a client may send, with its line end and without the octets of its literals. A longer
        /// one ends the session. It counts where Postern reads commands: under `inspect = "full"`, and on port 143 before
        /// STARTTLS, where it is 8192 at most. Clients of RFC 7162 send up to 8192 octets, older ones some 1000. A line of
        /// a login with a token (XOAUTH2) counts as well.
        line_length: u32 = number(
            (LINE_LENGTH_MIN, LINE_LENGTH_MAX as i64),
            "octets",
            "RFC 2683 asks clients to stay within 1000, and Postern holds a line until it is complete",
        ).default(LINE_LENGTH_MAX);
        /// Whether it is hidden from clients which software the server is; only with `inspect = "full"`. The text of the
        /// server's greeting, of `* BYE`, of each tagged OK and of the `+` of IDLE is replaced, and the answer to ID is `NIL`.
        /// Response codes stay, and so does what people must read: the text of NO, of BAD, and behind `[ALERT]`. A server is still known by its
        /// habits, such as the order of its capabilities.
        hide_banner: bool = flag().default(false);
        /// Whether records of sessions are written, as Fireware's "Turn on logging for reports". With `false`, a session
        /// without an event has none: one that both sides ended in order, in which no command was refused and no fault of a
        /// certificate was passed over. All others have their record at the end, and verdicts about mail are always written.
        log_sessions: bool = flag().default(true);
    }
}

impl GeneralSettings {
    /// How long a session may go without an octet.
    #[must_use]
    pub fn idle_of(&self, limits: &Limits) -> Duration {
        self.idle.unwrap_or(limits.idle)
    }

    /// How long all that comes before mail may take.
    #[must_use]
    pub fn handshake_of(&self, limits: &Limits) -> Duration {
        self.handshake.unwrap_or(limits.handshake)
    }
}
