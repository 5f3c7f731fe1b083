//! What both halves of one side share, in either layer.

use std::cell::{Cell, RefCell};

use rustls::{ConnectionTrafficSecrets, ProtocolVersion, SupportedCipherSuite};

use super::LayerFault;
use super::aead::ContentType;
use super::post::{Control, KernelSide, PostHandshake};

/// Records kept back under every key for a KeyUpdate, a last alert and our own words.
pub(super) const RECORDS_RESERVE: u64 = 8;

/// A key and the first sequence number that was not used under it.
pub(super) type Secrets = (u64, ConnectionTrafficSecrets);

/// The state of one side that both halves use. One thread owns it.
pub(super) struct SideState {
    pub(super) kernel: RefCell<KernelSide>,
    pub(super) version: ProtocolVersion,
    pub(super) suite: SupportedCipherSuite,
    /// The peer asked for a KeyUpdate. We send it before the next data (RFC 8446 section 4.6.3).
    pub(super) owes_key_update: Cell<bool>,
}

impl SideState {
    pub(super) fn new(kernel: KernelSide) -> Self {
        let (version, suite) = (kernel.version(), kernel.suite());
        Self { kernel: RefCell::new(kernel), version, suite, owes_key_update: Cell::new(false) }
    }

    /// Handle a record that carries no data, and return what it requires.
    pub(super) fn control(
        &self,
        post: &mut PostHandshake,
        content: ContentType,
        octets: &[u8],
    ) -> Result<Control, LayerFault> {
        post.count()?;
        match content {
            ContentType::Alert => post.alert(octets, self.version),
            ContentType::Handshake => post.handshake(octets, &mut self.kernel.borrow_mut()),
            // An empty record: allowed (RFC 8446 section 5.1), counted above.
            ContentType::ApplicationData => Ok(Control::Done),
            ContentType::ChangeCipherSpec => Err(LayerFault::UnexpectedRecord),
        }
    }
}
