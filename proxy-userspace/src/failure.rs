//! Why a session failed: at which stage, on which side, and the fault.
//!
//! Five types say how something ends, from the innermost to the outermost:
//!
//! - `StreamEnd`: how one half of a TLS connection ends, with `close_notify` or without.
//!   Record layers return it in `Received::End`; the relay ends our own halves with it.
//! - `DirectionEnd`: how one direction of a relay ended. The two pumps of a session make it.
//! - `Cause`: what ended a handshake or a session otherwise than by the peers' goodbye. It says the stage.
//! - `Failure`: a `Cause` and the `Side` at fault. The handshake makes it, and the relay from its directions' ends.
//! - `record::End`: how a connection ended: closed, by a `Failure`, by a panic, or by a stop. The record makes it.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::net::IpAddr;

use crate::accept::egress::EgressFault;
use crate::config::Source;
use crate::handshake::clear::{ClientFault, ServerFault, StartTlsRefusal};
use crate::handshake::compliance::Deviation;
use crate::handshake::mint::MintError;
use crate::handshake::verify::Faults;
use crate::inspect::InspectRefusal;
use crate::jobs::JobError;
use crate::layer::{Alert, LayerFault};
use crate::policy::CutCause;
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
    /// Accept: the client may not reach the destination.
    #[error(transparent)]
    Egress(EgressFault),
    /// Accept: no policy fits.
    #[error(
        "no policy admits this connection: add one whose `from`, `to`, `sni` and `tls_support` fit (`postern explain`)"
    )]
    NoPolicy,
    /// Accept: policy denies implicit TLS.
    #[error("TLS from the first octet is denied by action.implicit")]
    ImplicitDenied,
    /// Connect: the server cannot be reached.
    #[error("connecting to the server: {0}")]
    Connect(io::Error),
    /// Connect: every local port towards the server is taken, at the gateway's address or at the client's.
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
    /// `limits.handshake_seconds` have passed since accept, and this side has not answered.
    #[error("no answer in time: {0} s have passed since the connection was accepted")]
    Silent(u64),
    /// The socket failed or ended during the handshake.
    #[error("{}", lost(.0))]
    Socket(io::Error),
    /// The client's clear text breaks IMAP or a bound.
    #[error("{0}")]
    ClearClient(ClientFault),
    /// The server's clear text breaks IMAP or a bound.
    #[error("{0}")]
    ClearServer(ServerFault),
    /// The client left before STARTTLS.
    #[error("the client left without STARTTLS")]
    NoStartTls,
    /// The server refused STARTTLS, and the client left.
    #[error("the server refused STARTTLS")]
    StartTlsRefused(StartTlsRefusal),
    /// A record in the handshake that is out of place, or whose header is invalid.
    #[error("{0} in the handshake")]
    Record(LayerFault),
    /// A handshake, or a message of one, over its bound.
    #[error(
        "a TLS handshake over its bound: 64 KiB a message, {} KiB in all",
        crate::handshake::drive::HANDSHAKE_BYTES_MAX / 1024
    )]
    HandshakeTooLong,
    /// ALPN without `imap`.
    #[error("the client's ALPN offers other protocols and not imap")]
    Alpn,
    /// rustls ended the handshake.
    #[error("TLS handshake: {0}")]
    Tls(rustls::Error),
    /// The server asked for a client certificate, got none, and ended TLS with this alert. TLS 1.2 sends the alert
    /// inside the handshake, TLS 1.3 after it.
    #[error(
        "the server asks for a client certificate and refuses to go on without ({0}); no gateway has the client's key: \
         list the server in action.bypass, which leaves its mail uninspected"
    )]
    ClientCertificateWanted(Alert),
    /// The server asked for a client certificate, and policy refuses such servers.
    #[error(
        "the server asks for a client certificate, which tls.client_certificate = \"block\" refuses: use \"none\", or list \
         the server in action.bypass, which leaves its mail uninspected"
    )]
    ClientCertificateBlocked,
    /// A peer deviates from the RFCs of TLS, and policy does not tolerate it.
    #[error(
        "{0} ({rule}), which tls.compliance = \"enforced\" refuses: renew the peer's TLS, or use \"tolerant\"",
        rule = .0.rule()
    )]
    Deviation(Deviation),
    /// No version, cipher or key exchange that both sides speak.
    #[error(
        "the server and Postern have no TLS in common ({0}): the server speaks only versions older than tls.min_version, \
         or only ciphers with CBC, or only DHE or RSA key exchange, or nothing of tls.ciphers and tls.groups; renew its \
         TLS, or list it in action.bypass, which leaves its mail uninspected"
    )]
    TlsIncompatible(rustls::Error),
    /// The server's certificate has faults that policy blocks.
    #[error("the server's certificate is refused: {0}")]
    Certificate(Faults),
    /// No thread of the pool verified or signed in time.
    #[error(transparent)]
    Job(JobError),
    /// No certificate could be shown.
    #[error("no certificate for the client: {0}")]
    Mint(MintError),
    /// A record layer failed after the handshake.
    #[error("{0}")]
    Layer(LayerFault),
    /// A stream ended without `close_notify`, or in clear text without a goodbye in IMAP.
    #[error(
        "the stream ended without a goodbye (close_notify, or in clear text `* BYE`): something may be missing"
    )]
    Truncated,
    /// No octet moved for `limits.idle_seconds`, or for what the action says instead.
    #[error("no octet in either direction for the idle limit")]
    Idle,
    /// `postern reload --cut`: the policies that are in force now would refuse the session.
    #[error("`postern reload --cut` ended it: {0}")]
    CutByReload(CutCause),
    /// The engine of the session ended it.
    #[error("{0}")]
    Refused(InspectRefusal),
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
            Cause::Egress(_) | Cause::NoPolicy | Cause::ImplicitDenied => "accept",
            Cause::Connect(_) | Cause::NoPortsLeft(_) | Cause::ClientLinkLocal { .. } => "connect",
            Cause::ClearClient(_) | Cause::ClearServer(_) | Cause::NoStartTls | Cause::StartTlsRefused(_) => {
                "starttls"
            }
            Cause::Deviation(Deviation::NoCloseNotify) => "relay",
            Cause::Silent(_)
            | Cause::Deviation(_)
            | Cause::Socket(_)
            | Cause::Record(_)
            | Cause::HandshakeTooLong
            | Cause::Alpn
            | Cause::Tls(_)
            | Cause::ClientCertificateWanted(_)
            | Cause::ClientCertificateBlocked
            | Cause::TlsIncompatible(_)
            | Cause::Certificate(_)
            | Cause::Job(_)
            | Cause::Mint(_) => "handshake",
            Cause::Layer(_) | Cause::Truncated | Cause::Idle | Cause::CutByReload(_) => "relay",
            Cause::Refused(_) => "inspect",
        }
    }

    /// The token, in records.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match &self.cause {
            Cause::Egress(fault) => fault.reason(),
            Cause::NoPolicy => "no_policy",
            Cause::ImplicitDenied => "implicit_denied",
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
            Cause::Record(fault) => fault.reason(),
            Cause::HandshakeTooLong => "handshake_too_long",
            Cause::Alpn => "alpn_refused",
            Cause::Tls(_) => "tls_handshake_failed",
            Cause::ClientCertificateWanted(_) => "upstream_wants_client_certificate",
            Cause::ClientCertificateBlocked => "client_certificate_blocked",
            Cause::Deviation(_) => "tls_deviation",
            Cause::TlsIncompatible(_) => "upstream_tls_incompatible",
            Cause::Certificate(_) => "certificate_blocked",
            Cause::Job(error) => error.reason(),
            Cause::Mint(error) => error.reason(),
            Cause::Layer(fault) => fault.reason(),
            Cause::Truncated => "truncated",
            Cause::Idle => "idle",
            Cause::CutByReload(_) => "cut_by_reload",
            Cause::Refused(refusal) => refusal.reason(),
        }
    }

    /// What the client is told: a short reason, which holds nothing that the client could not observe itself.
    /// Interfaces, routes, settings, files and the kernel's words stand only in the record, because anybody may be the
    /// client.
    #[must_use]
    pub fn told(&self) -> Cow<'static, str> {
        let of_side = |upstream: &'static str, downstream: &'static str| match self.side {
            Side::Upstream => upstream,
            Side::Downstream => downstream,
        };
        Cow::Borrowed(match &self.cause {
            Cause::Egress(_) => "the mail server cannot be reached through this gateway",
            Cause::NoPolicy => "no policy of this gateway admits this connection",
            Cause::ImplicitDenied => "this gateway denies implicit TLS",
            Cause::Connect(error) => match error.kind() {
                io::ErrorKind::ConnectionRefused => "the mail server refuses connections",
                io::ErrorKind::TimedOut => "the mail server does not answer",
                _ => "the mail server cannot be reached",
            },
            Cause::NoPortsLeft(_) => "too many sessions with this mail server; try again later",
            Cause::ClientLinkLocal { .. } => {
                "this client has a link-local address, which mail servers cannot answer"
            }
            Cause::Silent(_) => {
                of_side("the mail server did not answer in time", "nothing came from the client in time")
            }
            Cause::Socket(_) | Cause::Truncated => {
                of_side("the connection to the mail server was lost", "the connection was lost")
            }
            Cause::ClearClient(fault) => fault.told(),
            Cause::ClearServer(ServerFault::Bye) => "the mail server turned the connection away",
            Cause::ClearServer(ServerFault::Preauth) => "the mail server rules TLS out",
            Cause::ClearServer(_) => "the mail server broke the rules of IMAP before TLS",
            Cause::NoStartTls => "STARTTLS is required",
            Cause::StartTlsRefused(_) => "the mail server refused STARTTLS",
            Cause::Record(LayerFault::NotTls) => {
                of_side("the mail server does not speak TLS", "TLS is required")
            }
            Cause::HandshakeTooLong | Cause::Alpn | Cause::Tls(_) => {
                of_side("TLS with the mail server failed", "TLS with the client failed")
            }
            Cause::ClientCertificateWanted(_) => {
                "the mail server wants a client certificate, which cannot pass this gateway; ask its operator"
            }
            Cause::ClientCertificateBlocked => {
                "the mail server asks for a client certificate, which this gateway refuses; ask its operator"
            }
            Cause::Deviation(_) => of_side(
                "the mail server deviates from TLS, which this gateway refuses",
                "the client deviates from TLS, which this gateway refuses",
            ),
            Cause::TlsIncompatible(_) => {
                "the mail server speaks only TLS that this gateway refuses, such as outdated TLS; ask its operator"
            }
            // The faults are public: anybody who connects to the server sees them.
            Cause::Certificate(faults) => return Cow::Owned(faults.to_string()),
            Cause::Job(_) => "this gateway has too much to do",
            Cause::Mint(error) if error.is_overload() => "this gateway has too much to do",
            Cause::Mint(_) => "this gateway has no certificate to show for the mail server",
            Cause::Record(fault) | Cause::Layer(fault) => match fault {
                LayerFault::NotOffloaded { .. } | LayerFault::NoKeyChange => {
                    "this gateway cannot carry the connection"
                }
                LayerFault::MemoryShortage => "this gateway is short of memory",
                LayerFault::System { .. } => {
                    of_side("the connection to the mail server was lost", "the connection was lost")
                }
                LayerFault::PeerAlert(_) => of_side("the mail server ended TLS", "the client ended TLS"),
                LayerFault::NotTls
                | LayerFault::BadRecord
                | LayerFault::RecordOverflow
                | LayerFault::UnexpectedRecord
                | LayerFault::Malformed
                | LayerFault::MessageTooLong
                | LayerFault::ControlFlood
                | LayerFault::IllegalParameter
                | LayerFault::Renegotiation => {
                    of_side("the mail server broke the rules of TLS", "the client broke the rules of TLS")
                }
                LayerFault::ConfidentialityLimit
                | LayerFault::Rotation(_)
                | LayerFault::UnknownCipher
                | LayerFault::Unfinished
                | LayerFault::SealFailed => "TLS cannot go on",
            },
            Cause::Idle => "nothing was said for too long",
            Cause::CutByReload(_) => "the policy of this gateway has changed; connect again",
            Cause::Refused(refusal) => refusal.told(),
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.side.peer(), self.side, self.cause)
    }
}

#[cfg(test)]
mod tests {
    use rustls::Error;

    use super::*;
    use crate::handshake::verify::CertificateFault;
    use crate::signer::SignFault;

    /// Stands in every field of a cause that a client must not see.
    const SECRET: &str = "wan7";

    fn causes() -> Vec<Cause> {
        let destination = IpAddr::from([198, 51, 100, 7]);
        let own = || SECRET.to_owned();
        let io = |kind| io::Error::new(kind, SECRET);
        let (connect, layer) = (|kind| Cause::Connect(io(kind)), Cause::Layer);
        vec![
            Cause::Egress(EgressFault::NotConfigured { destination, interface: own() }),
            Cause::Egress(EgressFault::NotAllowed { ingress: own(), destination, interface: own() }),
            Cause::Egress(EgressFault::DiffersUnlisted { destination, asked: own() }),
            Cause::Egress(EgressFault::Prohibited { destination }),
            Cause::NoPolicy,
            Cause::ImplicitDenied,
            connect(io::ErrorKind::ConnectionRefused),
            connect(io::ErrorKind::TimedOut),
            connect(io::ErrorKind::Other),
            Cause::NoPortsLeft(Source::Client),
            Cause::ClientLinkLocal { address: destination },
            Cause::Silent(30),
            Cause::Socket(io(io::ErrorKind::Other)),
            Cause::ClearServer(ServerFault::NotImap),
            Cause::ClearClient(ClientFault::TlsOnClearPort),
            Cause::NoStartTls,
            Cause::StartTlsRefused(StartTlsRefusal::Bad),
            Cause::Record(LayerFault::NotTls),
            Cause::Alpn,
            Cause::Tls(Error::General(own())),
            Cause::ClientCertificateWanted(Alert::BAD_CERTIFICATE),
            Cause::ClientCertificateBlocked,
            Cause::Deviation(Deviation::NoCloseNotify),
            Cause::TlsIncompatible(Error::General(own())),
            Cause::Certificate(CertificateFault::ALL.into_iter().collect()),
            Cause::Mint(MintError::Tls(Error::General(own()))),
            Cause::Mint(MintError::Sign(SignFault::Late)),
            Cause::Mint(MintError::Sign(SignFault::Overloaded)),
            layer(LayerFault::System { call: SECRET, source: io(io::ErrorKind::Other) }),
            layer(LayerFault::NotOffloaded { why: own() }),
            layer(LayerFault::Rotation(Error::General(own()))),
            layer(LayerFault::PeerAlert(Alert::BAD_CERTIFICATE)),
            Cause::Truncated,
            Cause::Idle,
            Cause::CutByReload(CutCause::ClearText),
            Cause::Refused(InspectRefusal::Http),
        ]
    }

    #[test]
    fn what_a_client_is_told_is_short_and_keeps_what_the_record_says_to_itself() {
        let told = |side| causes().into_iter().map(move |cause| Failure { side, cause });
        for failure in told(Side::Upstream).chain(told(Side::Downstream)) {
            let told = failure.told();
            for inside in [SECRET, "198.51", "steering", "limits.", "tls.", "`", "postern"] {
                assert!(!told.contains(inside), "{told:?} tells {inside}");
            }
            assert!(told.chars().all(|c| matches!(c, ' '..='~')) && !told.is_empty(), "{told:?}");
            let all_faults = matches!(failure.cause, Cause::Certificate(_));
            assert!(told.len() <= if all_faults { 600 } else { 100 }, "{told:?}");
        }
    }
}
