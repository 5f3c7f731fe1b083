//! IMAP until STARTTLS, without I/O. Postern speaks for itself in clear text, to both sides.
//!
//! Nothing that a peer says in clear text is passed on, because anybody on the path can write it. The server's lines
//! become a `ServerStep`, the client's a `ClientStep`, and no octet of either reaches the other. Neither dialogue
//! stores arguments: an octet behind the first two words of a line is counted and dropped, so that no password can
//! leak. The one exception is the server's capability list, where it was asked for.
//!
//! The order, for the driver that owns the sockets:
//!
//! 1. Read from the server into `ServerDialogue::receive` until `ServerStep::Ready`.
//! 2. Send `ClientDialogue::greeting`; read from the client and call `ClientDialogue::step` until the input
//!    is used up; send every reply.
//! 3. On `ClientStep::StartTls` send `ServerDialogue::starttls` to the server, even if the server's
//!    capabilities do not list it: the list may have been stripped on the path.
//! 4. On `ServerStep::Accepted` try one more read from each side without waiting, and give what it yields to
//!    `receive` and `step`: whatever either side said in clear text behind its STARTTLS line ends the session.
//! 5. Send `ClientDialogue::starttls_ready`; everything after it is TLS. On `ServerStep::Refused` send
//!    `ClientDialogue::starttls_refused` instead and go on with step 2.
//!
//! Under `cleartext = "inspect"` two more steps exist. `ClientStep::Capability` asks for what the server can do: send
//! `ServerDialogue::capability` once, and show the client what passes of the list. `ClientStep::HandOver` ends both
//! dialogues: what was read of the client's command goes first to whoever reads its commands from then on, and the
//! server's octets go there from its next line on.

/// Lines: two words and a count, one octet at a time.
mod line;
/// What Postern says to a mail client in clear text.
mod client;
/// What Postern asks of a mail server in clear text.
mod server;

pub use client::{
    BAD_COMMANDS_MAX, COMMANDS_MAX, ClientDialogue, ClientFault, ClientStep, LITERAL_BYTES_MAX, bye,
    capabilities_listed,
};
pub use line::{LINE_BYTES_MAX, LineFault, TAG_BYTES_MAX, VERB_BYTES_MAX};
pub use server::{
    ServerDialogue, ServerFault, ServerStep, StartTlsRefusal, UNTAGGED_BYTES_MAX, UNTAGGED_LINES_MAX,
};
