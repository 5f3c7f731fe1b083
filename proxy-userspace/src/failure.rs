//! Errors that know their stage, their side and the fault.

use std::fmt;
use std::io;
use std::net::IpAddr;

use crate::accept::egress::EgressFault;
use crate::config::Source;
use crate::handshake::clear::{ClientFault, Refusal as StartTlsRefusal, ServerFault};
use crate::handshake::mint::MintError;
use crate::handshake::verify::Faults;
use crate::inspect::Refusal;
use crate::layer::LayerFault;
use crate::words::Side;

/// Why a session ended otherwise than by the peers' goodbye.
#[derive(Debug)]
pub struct Failure {
    /// Whose fault it was.
    pub side: Side,
    /// What it was; says the stage.
    pub cause: Cause,
}

/// Every cause, by stage.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// Accept: the destination may not be reached.
    #[error(transparent)]
    Egress(EgressFault),
    /// Connect: the server cannot be reached.
    #[error("connecting to the server: {0}")]
    Connect(io::Error),
    /// Connect: every port towards the server is taken, beside the gateway's address or the client's.
    #[error("connecting to the server: no local port is left; {}", port_remedy(*.0))]
    NoPortsLeft(Source),
    /// Connect: the server would see an address that means nothing beyond the client's link (RFC 4291 section 2.5.6,
    /// RFC 3927 section 2.7).
    #[error(
        "the client's address {address} is link-local and no server beyond its link can answer it: give the client a \
         routed address, or set steering.source = \"gateway\""
    )]
    ClientLinkLocal {
        /// The client's address.
        address: IpAddr,
    },
    /// A peer was silent for longer than the stage's bound.
    #[error("no answer within {0} s")]
    Silent(u64),
    /// The socket failed or ended during the handshake.
    #[error("{}", lost(.0))]
    Socket(io::Error),
    /// Clear text from the client.
    #[error("{0}")]
    ClearClient(ClientFault),
    /// Clear text from the server.
    #[error("{0}")]
    ClearServer(ServerFault),
    /// The client left before STARTTLS.
    #[error("the client left without STARTTLS")]
    NoStartTls,
    /// The server refused STARTTLS, and the client left.
    #[error("the server refused STARTTLS")]
    StartTlsRefused(StartTlsRefusal),
    /// Octets on 993 that are no TLS.
    #[error("clear text on a port that speaks TLS from the first octet")]
    NotTls,
    /// A handshake over its bound.
    #[error("a TLS handshake over {} octets", crate::handshake::drive::HANDSHAKE_BYTES_MAX)]
    HandshakeTooLong,
    /// ALPN without `imap`.
    #[error("the client's ALPN offers other protocols and not imap")]
    Alpn,
    /// rustls ended the handshake.
    #[error("TLS handshake: {0}")]
    Tls(rustls::Error),
    /// The server's certificate, and policy says block.
    #[error("the server's certificate is refused: {0}")]
    Certificate(Faults),
    /// No certificate could be shown.
    #[error("no certificate for the client: {0}")]
    Mint(MintError),
    /// Records.
    #[error("{0}")]
    Layer(LayerFault),
    /// No `close_notify`.
    #[error("the stream ended without close_notify: something may be missing")]
    Truncated,
    /// Nothing moved.
    #[error("no octet in either direction for the idle limit")]
    Idle,
    /// An inspector ended it.
    #[error("{0}")]
    Refused(Refusal),
}

const fn port_remedy(source: Source) -> &'static str {
    match source {
        Source::Gateway => "widen net.ipv4.ip_local_port_range",
        Source::Client => {
            "this client's address has too many sessions with this server: lower limits.sessions_per_client"
        }
    }
}

fn lost(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "the connection ended in the middle of the handshake".to_owned(),
        _ => format!("the connection was lost in the handshake: {error}"),
    }
}

impl Failure {
    /// The server's side failed.
    #[must_use]
    pub const fn upstream(cause: Cause) -> Self {
        Self { side: Side::Upstream, cause }
    }

    /// The client's side failed.
    #[must_use]
    pub const fn downstream(cause: Cause) -> Self {
        Self { side: Side::Downstream, cause }
    }

    /// The stage, in records.
    #[must_use]
    pub const fn stage(&self) -> &'static str {
        match self.cause {
            Cause::Egress(EgressFault::DiffersUnlisted { .. } | EgressFault::DiffersForbidden { .. }) => {
                "connect"
            }
            Cause::Egress(_) => "accept",
            Cause::Connect(_) | Cause::NoPortsLeft(_) | Cause::ClientLinkLocal { .. } => "connect",
            Cause::ClearClient(_) | Cause::ClearServer(_) | Cause::NoStartTls | Cause::StartTlsRefused(_) => {
                "starttls"
            }
            Cause::Silent(_)
            | Cause::Socket(_)
            | Cause::NotTls
            | Cause::HandshakeTooLong
            | Cause::Alpn
            | Cause::Tls(_)
            | Cause::Certificate(_)
            | Cause::Mint(_) => "handshake",
            Cause::Layer(_) | Cause::Truncated | Cause::Idle => "relay",
            Cause::Refused(_) => "inspect",
        }
    }

    /// The token, in records.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match &self.cause {
            Cause::Egress(fault) => fault.reason(),
            Cause::Connect(error) => match error.kind() {
                io::ErrorKind::ConnectionRefused => "upstream_refused",
                io::ErrorKind::TimedOut
                | io::ErrorKind::HostUnreachable
                | io::ErrorKind::NetworkUnreachable => "upstream_unreachable",
                _ => "upstream_connect_failed",
            },
            Cause::NoPortsLeft(_) => "no_ports_left",
            Cause::ClientLinkLocal { .. } => "client_address_link_local",
            Cause::Silent(_) => "silent",
            Cause::Socket(_) => "connection_lost",
            Cause::ClearClient(fault) => fault.reason(),
            Cause::ClearServer(fault) => fault.reason(),
            Cause::NoStartTls => "no_starttls",
            Cause::StartTlsRefused(refusal) => refusal.reason(),
            Cause::NotTls => "not_tls",
            Cause::HandshakeTooLong => "handshake_too_long",
            Cause::Alpn => "alpn_refused",
            Cause::Tls(_) => "tls_handshake_failed",
            Cause::Certificate(_) => "certificate_blocked",
            Cause::Mint(_) => "certificate_not_minted",
            Cause::Layer(fault) => fault.reason(),
            Cause::Truncated => "truncated",
            Cause::Idle => "idle",
            Cause::Refused(refusal) => refusal.reason(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.side.peer(), self.side, self.cause)
    }
}
