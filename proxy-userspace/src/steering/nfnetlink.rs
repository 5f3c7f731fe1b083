//! The few messages of nf_tables that Postern needs, encoded here: crates for nf_tables are under the GPL, need a C
//! library, or run `nft`. Attributes are those of linux/netfilter/nf_tables.h and linux/netfilter/nfnetlink.h; numbers
//! in them are big-endian.

use std::io;

use netlink_packet_core::{
    DecodeError, NLA_F_NESTED, NLM_F_ACK, NetlinkDeserializable, NetlinkHeader, NetlinkSerializable,
    NlasIterator,
};
use netlink_sys::protocols::NETLINK_NETFILTER;

use super::netlink::{Netlink, NetlinkProtocol};

/// `NFNL_SUBSYS_NFTABLES`: the upper octet of a message's type.
const SUBSYSTEM: u8 = 10;
/// `NFNL_MSG_BATCH_BEGIN` and `NFNL_MSG_BATCH_END`: what stands between takes effect together or not at all.
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
/// Family, version and resource (`struct nfgenmsg`).
const HEADER_BYTES: usize = 4;
/// An attribute's length and kind (`struct nlattr`).
const ATTRIBUTE_HEADER_BYTES: usize = 4;
/// Attributes start at multiples of this (`NLA_ALIGNTO`).
const ALIGNMENT_BYTES: usize = 4;
/// `NFPROTO_INET`: IPv4 and IPv6.
pub(super) const FAMILY_INET: u8 = 1;

/// `NFT_MSG_*` that are used here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum NftMessageType {
    NewTable = 0,
    GetTable = 1,
    DeleteTable = 2,
    NewChain = 3,
    GetChain = 4,
    NewRule = 6,
    GetRule = 7,
}

/// A message to or from nf_tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NftMessage {
    kind: u16,
    family: u8,
    resource: u16,
    attributes: Vec<u8>,
}

impl NftMessage {
    /// About tables of both families.
    pub(super) fn new(verb: NftMessageType, attributes: Attributes) -> Self {
        let kind = u16::from_be_bytes([SUBSYSTEM, verb as u8]);
        Self { kind, family: FAMILY_INET, resource: 0, attributes: attributes.0 }
    }

    const fn batch(kind: u16) -> Self {
        Self { kind, family: 0, resource: SUBSYSTEM as u16, attributes: Vec::new() }
    }

    pub(super) const fn family(&self) -> u8 {
        self.family
    }

    /// An attribute's value.
    pub(super) fn get(&self, kind: u16) -> Option<&[u8]> {
        attribute(&self.attributes, kind)
    }
}

impl NetlinkSerializable for NftMessage {
    fn message_type(&self) -> u16 {
        self.kind
    }

    fn buffer_len(&self) -> usize {
        HEADER_BYTES + self.attributes.len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        let [high, low] = self.resource.to_be_bytes();
        let octets = [self.family, 0, high, low].into_iter().chain(self.attributes.iter().copied());
        buffer.iter_mut().zip(octets).for_each(|(to, from)| *to = from);
    }
}

impl NetlinkDeserializable for NftMessage {
    type Error = DecodeError;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        let Some((&[family, _version, high, low], attributes)) = payload.split_first_chunk() else {
            return Err(DecodeError::buffer_too_small(payload.len(), HEADER_BYTES));
        };
        let resource = u16::from_be_bytes([high, low]);
        Ok(Self { kind: header.message_type, family, resource, attributes: attributes.to_vec() })
    }
}

impl NetlinkProtocol for NftMessage {
    const PROTOCOL: isize = NETLINK_NETFILTER;
}

impl Netlink<NftMessage> {
    /// Changes all of it at once, or nothing.
    ///
    /// # Errors
    /// The kernel's first errno, or that of the socket.
    pub(super) fn transact(&mut self, messages: Vec<(NftMessage, u16)>) -> io::Result<()> {
        let acknowledged = messages.into_iter().map(|(message, flags)| (message, flags | NLM_F_ACK));
        let mut batch = vec![(NftMessage::batch(BATCH_BEGIN), 0)];
        batch.extend(acknowledged);
        batch.push((NftMessage::batch(BATCH_END), 0));
        self.change_together(batch)
    }
}

/// The attributes of a message that is being built.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Attributes(Vec<u8>);

impl Attributes {
    pub(super) fn octets(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(ATTRIBUTE_HEADER_BYTES + value.len()).unwrap_or(u16::MAX);
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(ALIGNMENT_BYTES), 0);
        self
    }

    pub(super) fn text(self, kind: u16, value: &str) -> Self {
        self.octets(kind, &[value.as_bytes(), &[0]].concat())
    }

    pub(super) fn number(self, kind: u16, value: u32) -> Self {
        self.octets(kind, &value.to_be_bytes())
    }

    pub(super) fn nested(self, kind: u16, value: &Self) -> Self {
        self.octets(kind | NLA_F_NESTED, &value.0)
    }
}

/// The value of the first attribute of a kind.
pub(super) fn attribute(attributes: &[u8], kind: u16) -> Option<&[u8]> {
    all(attributes).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

/// Kinds and values, as far as they can be read.
pub(super) fn all(attributes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    NlasIterator::new(attributes).map_while(Result::ok).filter_map(|attribute| {
        let value = attribute.into_inner().get(ATTRIBUTE_HEADER_BYTES..usize::from(attribute.length()))?;
        Some((attribute.kind(), value))
    })
}

pub(super) fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value.strip_suffix(&[0]).unwrap_or(value)).into_owned()
}

pub(super) fn number(value: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(value.try_into().ok()?))
}
