//! The process that asks authorities whether a certificate was revoked.
//!
//! Whom it asks stands in a stranger's certificate. So it asks at port 80 only, by HTTP, at public addresses, through a
//! configured egress, and follows no redirect. It moves octets and reads no answer: the worker judges the signature. It has
//! no key, no mail, no file and no capability.
//!
//! For the supervisor it posts alarms to the owner's webhook, which may be anywhere.

/// What the processes say to it, and it to them.
mod protocol;
/// The URL in a certificate, and that of a webhook.
mod url;
/// Which addresses may be reached.
mod reach;
/// Addresses of names.
mod dns;
/// HTTP/1.1, as far as an answer needs it.
mod http;
/// One fetch, from the URL to the answer's octets.
mod fetch;
/// One alarm for the webhook.
mod post;
/// Its loop.
mod process;
/// The worker's side.
mod link;
/// The supervisor's side: what it is told.
mod terms;
/// The supervisor's side: alarms to be posted.
mod post_link;

pub(crate) use self::link::HelperLink;
pub(crate) use self::post_link::PostLink;
pub(crate) use self::process::serve;
pub(crate) use self::protocol::{FetchFault, PostFault, ToHelper};
pub(crate) use self::terms::HelperTerms;
pub(crate) use self::url::HttpUrl;
