//! Complete mediation before Dovecot, Cyrus and Courier: what is clean arrives octet for octet, and what is forbidden
//! arrives by no way that IMAP has.

/// Clean mailboxes.
mod clean;
/// Hostile mailboxes: everything but the removed leaves.
mod hostile;
/// Random FETCHes on twin mailboxes.
mod random;
/// Uploads.
mod uploads;
/// Each way to content, one test each.
mod ways;
/// How a way is tried: directly and through Postern.
mod attempt;
