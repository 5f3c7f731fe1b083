//! The language of IMAP: RFC 3501, RFC 9051 and the extensions that are let through. There is no policy here.
//!
//! `frame` finds where a command or a response ends and where its literals stand. A complete unit is then parsed as
//! a `command` or as a `response`. Whatever a peer sends, parsing takes linear time, does not recurse without
//! bound, and does not panic.

/// Commands and responses as units of octets, and the literals in them.
pub mod frame;
/// A cursor over one complete unit: atoms, strings, numbers, sets, lists.
pub mod token;
/// The pieces that tables of grammar consist of.
mod grammar;
/// What FETCH asks for: items, sections, partials.
pub mod fetch;
/// One complete client command.
pub mod command;
/// One complete server response.
pub mod response;
/// `BODYSTRUCTURE`, as a list of parts.
pub mod structure;
/// Where `ENVELOPE` and `BODYSTRUCTURE` show values of header fields.
pub mod header_values;

pub use command::{
    AppendRequest, Arguments, ClientCommand, CommandFault, LiteralRole, Verb, literal_role, peek,
};
pub use fetch::{ContentForm, ContentItem, FetchItem, FetchRequest, Partial, Section, SectionText};
pub use frame::{Frame, FrameBounds, FrameStep, Framer, FramingFault, LiteralHead, Speaker};
pub use response::{
    AnsweredForm, AnsweredItem, AnsweredKind, Code, Condition, DataName, FetchResponse, ItemValue, Response,
    ResponseFault, StatusText, capabilities, parse,
};
pub use structure::{Structure, StructurePart};
pub use token::{Cursor, Malformed};

#[cfg(test)]
pub(crate) mod tests;
