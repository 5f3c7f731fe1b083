//! `BODY` and `BODYSTRUCTURE` (RFC 9051 section 7.5.2) as a list of parts.

/// Parts of one structure, multiparts included.
pub const STRUCTURE_PARTS_MAX: usize = 10_000;

/// Parts within parts.
pub const STRUCTURE_DEPTH_MAX: usize = 128;

/// What a server says of a message's parts. It is a hint: servers' octet and line counts are wrong at times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Structure {
    /// The parts in the order in which they stand, each before its children.
    pub parts: Vec<StructurePart>,
}

/// One part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StructurePart {
    /// Part numbers. A message that is no multipart is part 1; a message's own multipart has the message's path.
    pub path: Vec<u32>,
    /// Type and subtype, as they stand. A multipart's type is `multipart`.
    pub media: (Vec<u8>, Vec<u8>),
    /// `filename` of the disposition, otherwise `name` of the type: raw, as the server gives it.
    pub name: Option<Vec<u8>>,
    /// The transfer encoding as it stands; empty for a multipart.
    pub encoding: Vec<u8>,
    /// Octets in the transfer encoding, as announced; 0 for a multipart.
    pub octets: u64,
    /// It has parts of its own.
    pub is_multipart: bool,
    /// It is a `message/rfc822` or `message/global` whose own structure follows.
    pub is_message: bool,
}

impl Structure {
    /// Parse the value of the item.
    ///
    /// Returns `None` where it does not parse or exceeds a bound: then it is not believed.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let _ = value;
        None
    }
}
