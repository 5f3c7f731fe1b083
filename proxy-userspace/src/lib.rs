//! Postern: a transparent IMAP gateway.
//!
//! The modules stand in the order in which a connection meets them.

/// The words that every stage shares: sides, directions, addresses, modes.
pub mod words;
/// The session's identifier, in its records and in what its client is told.
pub mod event_id;
/// Why sessions fail: stage, side and fault; and how things end.
pub mod failure;
/// The configuration: files, parsed into values that cannot be wrong.
pub mod config;
/// Packets: the `sk_lookup` program and the routing that makes transit mail local.
pub mod steering;
/// Sockets: listeners, admission, original destination, egress.
pub mod accept;
/// Which proxy action and TLS profile a connection gets.
mod policy;
/// Threads for work that a peer can make long.
pub mod jobs;
/// TLS on both sides: clear dialogue, ClientHello, upstream first, verification, leaves.
pub mod handshake;
/// TLS records after the handshake: opened and sealed in the buffers in which they arrived.
pub mod layer;
/// The language of IMAP, without policy: units, commands, responses.
pub mod imap;
/// What may pass: one engine for each session.
pub mod inspect;
/// Which accounts may do what: where they log in, how often a password is guessed, how much mail they fetch.
pub mod guard;
/// Content: what a leaf of mail is, what is forbidden, and what becomes of it.
pub mod content;
/// Processes that judge what is inside of leaves, and may die of it.
mod judging;
#[cfg(any(fuzzing, test))]
pub use judging::fuzzing as judging_fuzzing;
/// What was judged: digests, the memory of verdicts, copies.
pub mod vault;
/// The loop around the engine: two directions with backpressure, half-close and no buffer while idle.
pub mod relay;
/// Lines on stdout and stderr, without waiting for their readers.
pub mod lines;
/// The journal's own protocol, for records and the log.
mod journal;
/// One line per connection, written even when its task is dropped.
pub mod record;
/// Something has happened that somebody should know at once.
mod alarm;
/// What the processes of one daemon say to each other.
mod ipc;
/// What a process may still do: user, capabilities, Landlock, system calls.
mod confine;
/// The process that holds private keys, and what others ask of it.
mod signer;
#[cfg(fuzzing)]
pub use signer::fuzzing as signer_fuzzing;
/// The process that asks strangers for answers, and what others ask of it.
mod helper;
/// The process that peers' octets reach; its spine is one connection from accept to record.
mod worker;
/// The process that steers, starts the others and answers the operator.
pub mod supervisor;
/// Panics on demand, for tests of what a panic ends. Not in release builds.
#[cfg(debug_assertions)]
mod fault;
/// The admin socket: what `postern status` and `postern reload` ask of a running daemon.
pub mod admin;
/// The command line.
pub mod cli;
/// Whether the machine's clock can be right.
mod clock;
/// Lines of the log that peers can cause, limited in rate.
mod line_limit;
/// The unsafe calls, all of them.
mod sys;
