//! The laboratory: three network namespaces with a client, Postern and a mail server in them.
//!
//! Everything waits with a bound, cleans up when it is dropped, and says what it saw when something fails.

/// Bounded waiting.
pub mod wait;
/// Network namespaces, removed when dropped.
pub mod netns;
/// Frames made octet by octet.
pub mod frames;
/// Raw frames on an interface.
pub mod wire;
/// A TCP client that sends its packets in IP fragments.
pub mod frag;
/// Client – gateway – server, on veth pairs, with both address families, and more around them.
pub mod lab;
/// Authorities and certificates, good and faulty.
pub mod pki;
/// The daemon under test: its configuration, process, records and counters.
pub mod postern;
/// What a JSON record says.
pub mod record;
/// A blocking IMAP client over clear text or TLS.
pub mod client;
/// Many sessions at once.
pub mod crowd;
/// A peer that does exactly what a test says.
pub mod scripted;
/// An IMAP server that does what real ones do not.
pub mod imap_script;
/// A stream whose reader is stuck.
pub mod stuck;
/// A small IMAP4rev1 server that needs nothing installed.
pub mod imap_server;
/// A real Dovecot.
pub mod dovecot;
/// Programs that are unpacked, not installed.
pub mod unpacked;
/// A real Cyrus.
pub mod cyrus;
/// A real Courier.
pub mod courier;
/// Dovecot, Cyrus and Courier in one lab.
pub mod mail_server;
/// Messages, clean and hostile.
pub mod corpus;
/// Messages that other programs make and read.
pub mod generated;
/// Responses octet for octet, and what a FETCH response holds.
pub mod fetched;
/// Real clients that fetch a whole folder.
pub mod whole_folder;
/// How clients fetch, replayed.
pub mod transcripts;
/// A lab with Postern that judges everything before the three servers, shared by tests.
pub mod mediated;
/// CPU time of a gateway.
pub mod cost;
/// Real mail clients, as processes in the client's namespace.
pub mod real_client;
/// `openssl s_client` at a keyboard.
pub mod openssl;
/// An authority that answers by HTTP, and a name server.
pub mod responder;
/// What the kernel counts of its TLS, and which halves it should be given.
pub mod kernel_tls;

/// A lab with keys, a configuration and servers: what most tests begin with.
pub mod scene;

/// Debian packages that the lab tests run; `cargo xtask test` installs them.
pub const PACKAGES: &[&str] = &[
    "iproute2",
    "nftables",
    "dovecot-imapd",
    "isync",
    "curl",
    "openssl",
    "python3",
    "python3-pip",
    "util-linux",
];
