//! The lab's IMAP server on the standard ports of the namespace it is started in; prints what it sees.

use std::iter;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use clap::Parser;
use postern_tests::imap_server::{ImapServer, attached_message, large_message};
use postern_tests::pki::Identity;
use rustls::server::NoServerSessionStorage;
use socket2::{Domain, Socket, Type};

/// Octets of a small message.
const SMALL_BYTES: usize = 10 * 1000;

/// A small IMAP4rev1 server: 143 with STARTTLS, 993 with implicit TLS, both families.
#[derive(Parser)]
struct Args {
    /// Certificate chain, PEM.
    #[arg(long)]
    cert: PathBuf,
    /// Private key, PEM.
    #[arg(long)]
    key: PathBuf,
    /// Octets of a further, large message.
    #[arg(long)]
    large: Option<usize>,
    /// Octets of a further message that is mostly an attachment.
    #[arg(long)]
    attached: Option<usize>,
    /// Under how many UIDs each of these two is found.
    #[arg(long, default_value_t = 1)]
    copies: usize,
    /// How many further messages of some 10 KB, each with another attachment.
    #[arg(long, default_value_t = 0)]
    small: u64,
    /// Resume nothing: every session is a full handshake.
    #[arg(long)]
    no_resumption: bool,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let read = |path: &PathBuf| {
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
    };
    let identity = Identity { cert_pem: read(&args.cert)?, key_pem: read(&args.key)? };
    let mut listeners = Vec::new();
    for address in [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)] {
        for port in [143, 993] {
            listeners.push(listen(SocketAddr::new(address, port))?);
        }
    }
    let mut messages = vec![Arc::new(
        b"From: Bob <bob@lab.test>\r\nTo: Alice <alice@lab.test>\r\nSubject: A small gate in a fortress wall\r\n\r\n\
          Dear Alice,\r\nthis message went through Postern.\r\nBob\r\n"
            .to_vec(),
    )];
    let large = args.large.map(large_message);
    let attached = args.attached.map(|octets| attached_message(octets, 0));
    for message in [large, attached].into_iter().flatten() {
        messages.extend(iter::repeat_n(Arc::new(message), args.copies));
    }
    messages.extend((1..=args.small).map(|seed| Arc::new(attached_message(SMALL_BYTES, seed))));
    let mut tls = identity.server_config(rustls::ALL_VERSIONS)?;
    if args.no_resumption {
        tls.session_storage = Arc::new(NoServerSessionStorage {});
        tls.send_tls13_tickets = 0;
    }
    let server = ImapServer::start(listeners, tls, messages, true)?;
    println!("ready");
    server.join()
}

fn listen(at: SocketAddr) -> Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, None)?;
    if at.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&at.into()).with_context(|| format!("cannot listen on {at}"))?;
    socket.listen(1024)?;
    Ok(socket.into())
}
