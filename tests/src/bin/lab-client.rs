//! A mail client that trusts one authority only: fetches the first message and prints what it saw.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use clap::Parser;
use postern_tests::client::{self, Session};
use postern_tests::imap_server::large_message;
use postern_tests::pki;

/// Fetch the first message of INBOX over STARTTLS (port 143) or implicit TLS (port 993).
#[derive(Parser)]
struct Args {
    /// The server's address and port.
    to: SocketAddr,
    /// The name that is asked for and verified.
    #[arg(long)]
    name: String,
    /// The only authority that is trusted, PEM.
    #[arg(long)]
    authority: PathBuf,
    /// Also upload a message of so many octets and fetch it back.
    #[arg(long)]
    large: Option<usize>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let pem = std::fs::read_to_string(&args.authority)
        .with_context(|| format!("cannot read {}", args.authority.display()))?;
    let config = Arc::new(client::config(pki::trust(&pem)?, rustls::ALL_VERSIONS));
    let stream = client::connect(args.to)?;
    let mut session = Session::on(stream, &args.name, &config)?;
    let shown = session.shown()?;
    let tls = session.tls()?;
    let version = tls.protocol_version().and_then(|version| version.as_str()).unwrap_or("unknown");
    println!("TLS         {version}");
    println!("certificate for {}, issued by {}", args.name, shown.issuer);
    println!("fingerprint {}", shown.fingerprint);
    session.enter()?;
    let message = session.fetch(1)?;
    if let Some(octets) = args.large {
        let large = large_message(octets);
        session.there_and_back(&large)?;
        println!("large       {} octets uploaded, fetched and compared", large.len());
    }
    session.logout()?;
    for line in String::from_utf8_lossy(&message).lines() {
        println!("message     {line}");
    }
    Ok(())
}
