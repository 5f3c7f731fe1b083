//! Octets that go on only after a digest of them was taken: GMAC, which is AES-256-GCM with nothing to encrypt.

use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use anyhow::Result;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use postern::layer::{KernelReceive, KernelTransmit, LayerFault, Spliced};
use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice, tee};

/// What a pipe holds.
const PIPE_BYTES: usize = 64 * 1024;

/// A key for digests, and their number.
pub(crate) struct Digest {
    key: LessSafeKey,
    count: u64,
}

impl Digest {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { key: LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &[7; 32])?), count: 0 })
    }

    /// The tag of some octets.
    pub(crate) fn of(&mut self, octets: &[u8]) -> Option<[u8; 16]> {
        self.count += 1;
        let mut nonce = [0; 12];
        for (to, from) in nonce.iter_mut().zip(self.count.to_le_bytes()) {
            *to = from;
        }
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self.key.seal_in_place_separate_tag(nonce, Aad::from(octets), &mut []).ok()?;
        tag.as_ref().try_into().ok()
    }
}

/// Two pipes, what goes through the first being copied to the second.
pub(crate) struct Tee {
    pipe: (OwnedFd, OwnedFd),
    copy: (OwnedFd, OwnedFd),
    room: Vec<u8>,
    digest: Digest,
    /// That went through.
    pub(crate) octets: u64,
}

impl Tee {
    pub(crate) fn new() -> Result<Self> {
        let flags = PipeFlags::CLOEXEC | PipeFlags::NONBLOCK;
        Ok(Self {
            pipe: pipe_with(flags)?,
            copy: pipe_with(flags)?,
            room: vec![0; PIPE_BYTES],
            digest: Digest::new()?,
            octets: 0,
        })
    }

    /// Until something else comes than data.
    pub(crate) async fn data(
        &mut self,
        from: &mut KernelReceive,
        to: &mut KernelTransmit,
    ) -> Result<(), LayerFault> {
        let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
        loop {
            let into = &self.pipe.1;
            let fill = |socket: &tokio::net::TcpStream| {
                Ok::<usize, io::Error>(splice(socket, None, into, None, PIPE_BYTES, flags)?)
            };
            let mut fill = fill;
            let Spliced::Octets(count) = poll_fn(|cx| from.poll_splice(cx, &mut fill)).await? else {
                return Ok(());
            };
            self.digest_copy(count).map_err(|source| LayerFault::System { call: "tee", source })?;
            let (mut left, mut whole) = (count, true);
            poll_fn(|cx| to.poll_splice(cx, self.pipe.0.as_fd(), &mut left, &mut whole)).await?;
            self.octets += count as u64;
        }
    }

    /// Digest a copy of all that is in the first pipe.
    fn digest_copy(&mut self, count: usize) -> io::Result<()> {
        let copied = tee(&self.pipe.0, &self.copy.1, count, SpliceFlags::NONBLOCK)?;
        if copied != count {
            return Err(io::Error::other(format!("tee copied {copied} of {count} octets")));
        }
        let mut filled = 0;
        while filled < count {
            let rest = self.room.get_mut(filled..count).unwrap_or_default();
            filled += rustix::io::read(&self.copy.0, rest)?;
        }
        std::hint::black_box(self.digest.of(self.room.get(..count).unwrap_or_default()));
        Ok(())
    }
}
