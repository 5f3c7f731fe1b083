//! A server that does what real servers do not, to get forbidden octets to its client or to bring the gateway down. Each
//! test says what the client must see, and what it must not.

/// A client and a scripted server, with Postern between them.
mod against;
/// Bodies that nobody asked for, in pieces, in other clothes.
mod bodies;
/// Which message an answer is about.
mod messages;
/// What nobody knows, and what is no IMAP.
mod language;
/// Too much, too slow.
mod amounts;
/// Uploads, as the server sees them.
mod uploads;
