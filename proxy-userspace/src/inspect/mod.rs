//! What may pass: one engine for each session, which sees the plaintext of both sides.
//!
//! An engine does no I/O. The relay gives it what the peers say, and asks it what goes to either side next, whether it
//! wants more, and when to wake it.

/// `inspect = "none"`: everything passes, but for HTTP.
mod plain;
/// `inspect = "full"`: the engine of a session in which mail is judged.
mod session;
/// What an engine needs of its surroundings.
mod terms;
/// What may pass by name.
pub mod allow;
/// The same, as a policy narrows it.
mod imap_terms;
/// Which capabilities a command needs.
mod uses;
/// Rules that change while a session runs.
mod renewal;
/// From octets of the client's to complete commands.
mod client_input;
/// What becomes of one complete command.
mod request;
/// A FETCH as the server is asked it.
mod rewrite;
/// From octets of the server's to complete responses.
mod server_input;
/// What becomes of one complete response that holds no mail.
mod reply;
/// From a server's FETCH response to the client's.
mod answer;
/// Header fields that the owner removes, in a response.
mod overwriting;
/// Sections that were judged and that the client reads in pieces.
mod views;
/// A place in the order of responses, from the verdict to the octets that the client gets.
mod deferred;
/// Mail that was judged before.
mod recall;
/// Known mail streams, group by group.
mod stream;
/// Servers whose known mail goes on without a look.
mod uid_trust;
/// What a message's header says of it, for records.
mod email;
/// From the verdict on a leaf to what is written down of it.
mod verdicts;
/// What goes to one side next, in order.
mod output;
/// Octets that are held until they are judged.
mod held;
/// When a client that waits for mail is told so.
mod comfort;
/// Why commands and responses are refused.
mod refusal;
/// Whole dialogues, for a fuzz target.
#[cfg(fuzzing)]
pub mod fuzzing;
#[cfg(test)]
mod tests;

use std::task::{Context, Poll};
use std::time::Instant;

pub(crate) use answer::message_shape;
pub use imap_terms::ImapTerms;
pub use plain::Plain;
pub use recall::Recollection;
pub use renewal::RulesSource;
pub use reply::shown_capabilities;
pub use session::Session;
pub use terms::MediationTerms;
pub use uid_trust::{TrustedServers, UidTrust};
pub(crate) use verdicts::leaf_record;

use crate::imap::frame::FramingFault;
use crate::layer::{Batch, StreamEnd};
use crate::words::Side;

/// Why STARTTLS is answered NO where policy strips it.
pub const STARTTLS_STRIPPED: &str = "STARTTLS is switched off at this gateway";
/// The same in a session that went on in clear text, where policy does not.
pub const STARTTLS_TOO_LATE: &str = "STARTTLS comes before every other command here: connect again";

/// What goes to a side next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing now. What is left of the batch that was taken is left out.
    Nothing,
    /// So many octets of the batch that was taken last from the other side, from where the last answer ended.
    Pass(usize),
    /// So many octets of the batch are left out.
    Skip(usize),
    /// Octets of the engine's own: [`Engine::fill`] gives them.
    Own,
}

/// What an engine wants of a side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Nothing now: the side is not read, so that its peer has to wait.
    Nothing,
    /// The next octets.
    Octets,
    /// Everything may go on unseen from now on, and the engine never again has octets of its own for the other side.
    /// Where the octets cannot be spliced, they are taken as under [`Want::Octets`].
    Unseen,
    /// So many octets, one at least, may go on unseen now; [`Engine::moved`] then says how many did. Where they cannot be
    /// spliced, they are taken as under [`Want::Octets`].
    Counted(u64),
}

/// Decides about every octet of a session. One task owns it.
///
/// What an engine says may change with every call that changes it (`take`, `next`, `fill`, `moved`, `ended`,
/// `poll_event`, `tick`). The relay asks both sides again after each. After an error, only [`Engine::is_at_boundary`] is called:
/// what it still had for either side is not sent.
pub trait Engine {
    /// Take what came from a side. Each octet is passed on or left out by what [`Engine::next`] then says about the
    /// other side, until that says [`Next::Nothing`]. What the engine keeps for longer, it copies.
    ///
    /// This is only called while it wants octets of this side, and has nothing for the other.
    ///
    /// # Errors
    /// Why the session must end. Nothing of `batch` goes on then.
    fn take(&mut self, from: Side, batch: &Batch) -> Result<(), InspectRefusal>;

    /// What goes to this side next. Every answer is given once, and carried out before the next question.
    fn next(&mut self, to: Side) -> Next;

    /// Copy octets of the engine's own to the front of `room`, after [`Next::Own`]. Returns how many: one at least.
    fn fill(&mut self, to: Side, room: &mut [u8]) -> usize;

    /// Whether octets of this side are wanted. A side that is not read is not seen to leave, either.
    fn wants(&self, from: Side) -> Want;

    /// So many octets of this side went on to the other unseen, under [`Want::Counted`].
    fn moved(&mut self, _from: Side, _octets: u64) {}

    /// This side's stream has ended. Octets that are held may still go on afterwards, until [`Engine::is_drained`].
    ///
    /// # Errors
    /// Why the session must end.
    fn ended(&mut self, from: Side, end: StreamEnd) -> Result<(), InspectRefusal>;

    /// Whether nothing more will come for this side. It is asked after the other side has ended, and while
    /// [`Engine::next`] says [`Next::Nothing`]; our half is then closed.
    fn is_drained(&self, to: Side) -> bool;

    /// Whether this side has announced its end. A stream that then ends without `close_notify` is complete.
    fn is_announced(&self, from: Side) -> bool;

    /// Whether the session is over: the client logged out, and was answered. Nothing is missing then, however the peers
    /// leave.
    fn is_over(&self) -> bool {
        false
    }

    /// Whether all that was given to this side ends between two responses (commands). Only there can it be told
    /// something in IMAP: inside a literal, words would be read as mail.
    fn is_at_boundary(&self, to: Side) -> bool;

    /// Ready when something may have changed that no call to the engine changed: a verdict, or room. It is called again
    /// at once then, until it is pending.
    ///
    /// # Errors
    /// Why the session must end.
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), InspectRefusal>>;

    /// When [`Engine::tick`] must be called. `None`: never.
    fn wake_at(&self) -> Option<Instant>;

    /// The moment that [`Engine::wake_at`] named has come. It must name a later one, or none.
    ///
    /// # Errors
    /// Why the session must end.
    fn tick(&mut self, now: Instant) -> Result<(), InspectRefusal>;
}

/// Why an engine ends a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InspectRefusal {
    /// The client speaks HTTP.
    #[error("the client sent an HTTP request on an IMAP port")]
    Http,
    /// A command of the client's is longer than the policy lets through.
    #[error(
        "the client sent a command of more than {0} octets, literals not counted (action.general.line_length)"
    )]
    LineTooLong(usize),
    /// The client's octets cannot be divided into commands.
    #[error("the client's commands cannot be told apart: {0}")]
    ClientFraming(FramingFault),
    /// The server's octets cannot be divided into responses.
    #[error("the server's responses cannot be told apart: {0}")]
    ServerFraming(FramingFault),
    /// The client's stream ended inside a command.
    #[error("the client's stream ended in the middle of a command")]
    CommandCut,
    /// The server's stream ended inside a response, which nobody has seen.
    #[error("the server's stream ended in the middle of a response")]
    ResponseCut,
    /// A message was known, and a part of it has gone on, when other octets came than those that were judged.
    #[error("the server began a message that was judged before, and went on with other octets")]
    ContentChanged,
}

impl InspectRefusal {
    /// The token in records.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Http => "http_request",
            Self::LineTooLong(_) => "line_too_long",
            Self::ClientFraming(_) => "command_framing",
            Self::ServerFraming(_) => "response_framing",
            Self::CommandCut => "command_cut",
            Self::ResponseCut => "response_cut",
            Self::ContentChanged => "content_changed",
        }
    }

    /// The side at fault.
    #[must_use]
    pub const fn side(self) -> Side {
        match self {
            Self::Http | Self::LineTooLong(_) | Self::ClientFraming(_) | Self::CommandCut => Side::Downstream,
            Self::ServerFraming(_) | Self::ResponseCut | Self::ContentChanged => Side::Upstream,
        }
    }

    /// How our half towards the client ends where the client cannot be told why. Without `close_notify`, a mail client
    /// sees that a literal was cut.
    #[must_use]
    pub const fn end(self) -> StreamEnd {
        match self {
            // No mail client.
            Self::Http => StreamEnd::Closed,
            Self::LineTooLong(_)
            | Self::ClientFraming(_)
            | Self::CommandCut
            | Self::ServerFraming(_)
            | Self::ResponseCut
            | Self::ContentChanged => StreamEnd::Truncated,
        }
    }

    /// What the client is told.
    #[must_use]
    pub const fn told(self) -> &'static str {
        match self {
            Self::Http => "this is an IMAP port",
            Self::LineTooLong(_) => "a command is longer than this gateway lets through",
            Self::ClientFraming(_) | Self::CommandCut => "the client broke the rules of IMAP",
            Self::ServerFraming(_) | Self::ResponseCut => "the mail server broke the rules of IMAP",
            Self::ContentChanged => "the mail server changed a message while it was read",
        }
    }
}
