//! Octets that the peers of a session sent.

use std::cell::Cell;

use tokio::time::Instant;

use crate::words::{Direction, Side};

/// Octets that the peers sent, and when the last ones moved. The record shares it, so that the record is right at any
/// moment.
///
/// What a peer sent is counted when it was received, or when it was spliced, whatever then becomes of it: the engine may
/// leave octets out, hold them or add its own. Octets of the engine's own are not counted.
#[derive(Debug)]
pub struct Meter {
    client_to_server: DirectionOctets,
    server_to_client: DirectionOctets,
    active: Cell<Instant>,
    spoke_last: Cell<Option<Direction>>,
    /// The client's stream ended without a goodbye; the server's did.
    cut: (Cell<bool>, Cell<bool>),
}

/// Octets of one direction.
#[derive(Debug, Default)]
struct DirectionOctets {
    octets: Cell<u64>,
    spliced: Cell<u64>,
    copied: Cell<u64>,
}

impl Default for Meter {
    fn default() -> Self {
        Self {
            client_to_server: DirectionOctets::default(),
            server_to_client: DirectionOctets::default(),
            active: Cell::new(Instant::now()),
            spoke_last: Cell::new(None),
            cut: (Cell::new(false), Cell::new(false)),
        }
    }
}

impl Meter {
    /// Octets of plaintext (of TCP payload under bypass) that the sender of this direction sent.
    #[must_use]
    pub fn octets(&self, direction: Direction) -> u64 {
        self.flow(direction).octets.get()
    }

    /// Of these, octets that were spliced.
    #[must_use]
    pub fn spliced(&self, direction: Direction) -> u64 {
        self.flow(direction).spliced.get()
    }

    /// Of these, octets that stood in this process's buffers.
    #[must_use]
    pub fn held(&self, direction: Direction) -> u64 {
        self.octets(direction).saturating_sub(self.spliced(direction))
    }

    /// Octets that the record layer moved within this process's memory.
    #[must_use]
    pub fn copied(&self, direction: Direction) -> u64 {
        self.flow(direction).copied.get()
    }

    /// Whether this side's stream was seen to end without a goodbye (`close_notify`, where it has TLS).
    #[must_use]
    pub fn is_cut(&self, side: Side) -> bool {
        self.cut_of(side).get()
    }

    pub(super) fn set_cut(&self, side: Side) {
        self.cut_of(side).set(true);
    }

    const fn cut_of(&self, side: Side) -> &Cell<bool> {
        match side {
            Side::Downstream => &self.cut.0,
            Side::Upstream => &self.cut.1,
        }
    }

    pub(super) fn add_spliced(&self, direction: Direction, octets: u64) {
        let spliced = &self.flow(direction).spliced;
        spliced.set(spliced.get().saturating_add(octets));
        self.add(direction, octets);
    }

    pub(super) fn set_copied(&self, direction: Direction, octets: u64) {
        self.flow(direction).copied.set(octets);
    }

    /// Octets were received, and have gone on.
    pub(super) fn add(&self, direction: Direction, octets: u64) {
        self.received(direction, octets);
        self.delivered(direction);
    }

    /// Octets were received. They need not go on.
    pub(super) fn received(&self, direction: Direction, octets: u64) {
        let received = &self.flow(direction).octets;
        received.set(received.get().saturating_add(octets));
        if direction == Direction::ClientToServer {
            self.spoke_last.set(Some(direction));
        }
        self.moved();
    }

    /// Octets went to the receiver of this direction, a peer's or of our own. A client that was answered so has no
    /// command that is unanswered.
    pub(super) fn delivered(&self, direction: Direction) {
        if direction == Direction::ServerToClient {
            self.spoke_last.set(Some(direction));
        }
        self.moved();
    }

    /// Octets moved, though only a part of what is counted when it is whole.
    pub(super) fn moved(&self) {
        self.active.set(Instant::now());
    }

    /// When octets moved last.
    pub(super) const fn active(&self) -> Instant {
        self.active.get()
    }

    /// Whose octets came last: the client's when they were received, the server's when they reached the client.
    pub(super) const fn spoke_last(&self) -> Option<Direction> {
        self.spoke_last.get()
    }

    const fn flow(&self, direction: Direction) -> &DirectionOctets {
        match direction {
            Direction::ClientToServer => &self.client_to_server,
            Direction::ServerToClient => &self.server_to_client,
        }
    }
}
