//! The process that asks authorities whether a certificate was revoked.
//!
//! Whom it asks stands in a stranger's certificate. So it asks at port 80 only, by HTTP, at public addresses, through a
//! configured egress, and follows no redirect. It moves octets and reads no answer: the worker judges the signature. It has
//! no key, no mail, no file and no capability.

/// What the processes say to it, and it to them.
mod protocol;
/// The URL in a certificate.
mod url;
/// Which addresses may be reached.
mod reach;
/// Addresses of names.
mod dns;
/// HTTP/1.1, as far as an answer needs it.
mod http;
/// One fetch, from the URL to the answer's octets.
mod fetch;
/// Its loop.
mod process;
/// The worker's side.
mod link;
/// The supervisor's side: what it is told.
mod terms;

pub(crate) use self::link::HelperLink;
pub(crate) use self::process::serve;
pub(crate) use self::protocol::{FetchFault, ToHelper};
pub(crate) use self::terms::HelperTerms;
