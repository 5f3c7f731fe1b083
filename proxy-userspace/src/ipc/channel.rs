use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::unix::AsyncFd;

use crate::sys;

/// Octets of a message. The kernel takes one whole or not at all, and no more than its send buffer holds
/// (`net.core.wmem_default`, 208 KiB); what is larger travels as sealed memory.
pub(crate) const MESSAGE_BYTES_MAX: usize = 128 * 1024;
/// Descriptors of a message; the kernel takes 253 (`SCM_MAX_FD` in include/net/scm.h).
pub(crate) const DESCRIPTORS_MAX: usize = 64;

/// Behind standard input, output and error.
const FIRST_OTHER_FD: i32 = 3;

/// Why a message did not come, or did not go.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IpcError {
    /// The other process has closed its end, or has ended.
    #[error("the other process has ended")]
    Ended,
    /// The kernel refused.
    #[error("{call}: {source}")]
    System {
        /// What was tried.
        call: &'static str,
        /// What the kernel says.
        source: io::Error,
    },
    /// Over [`MESSAGE_BYTES_MAX`] or [`DESCRIPTORS_MAX`].
    #[error(
        "a message between Postern's processes has {octets} octets and {descriptors} descriptors, more than a message may have; please report it"
    )]
    TooLarge {
        /// Its octets.
        octets: usize,
        /// Its descriptors.
        descriptors: usize,
    },
    /// Not what this end expects: the other process is none of this build, or was taken over.
    #[error("the other process sent what is no message of this version ({0})")]
    Malformed(postcard::Error),
}

impl IpcError {
    fn system(call: &'static str) -> impl FnOnce(Errno) -> Self {
        move |errno| match errno {
            // A peer that is gone resets what it did not read.
            Errno::PIPE | Errno::CONNRESET => Self::Ended,
            errno => Self::System { call, source: errno.into() },
        }
    }

    /// Whether nothing is there, or there is no room, for now.
    pub(crate) fn would_block(&self) -> bool {
        matches!(self, Self::System { source, .. } if source.kind() == io::ErrorKind::WouldBlock)
    }
}

/// One end of a pair of sockets that keep messages apart and in order (`SOCK_SEQPACKET`, unix(7)). Messages are written
/// by postcard, and both ends are the same binary.
#[derive(Debug)]
pub(crate) struct Channel(OwnedFd);

impl Channel {
    /// Both ends; neither outlives an exec.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn pair() -> io::Result<(Self, Self)> {
        let (near, far) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self(near), Self(far)))
    }

    /// Send a message whole, waiting for room.
    ///
    /// # Errors
    /// [`IpcError`].
    pub(crate) fn send(
        &self,
        message: &impl Serialize,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), IpcError> {
        self.send_with(message, descriptors, SendFlags::empty())
    }

    /// Send a message whole, or not: see [`IpcError::would_block`].
    ///
    /// # Errors
    /// [`IpcError`].
    pub(crate) fn send_now(
        &self,
        message: &impl Serialize,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), IpcError> {
        self.send_with(message, descriptors, SendFlags::DONTWAIT)
    }

    fn send_with(
        &self,
        message: &impl Serialize,
        descriptors: &[BorrowedFd<'_>],
        flags: SendFlags,
    ) -> Result<(), IpcError> {
        let octets = postcard::to_stdvec(message).map_err(IpcError::Malformed)?;
        if octets.len() > MESSAGE_BYTES_MAX || descriptors.len() > DESCRIPTORS_MAX {
            return Err(IpcError::TooLarge { octets: octets.len(), descriptors: descriptors.len() });
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(descriptors));
        }
        let sent = sendmsg(&self.0, &[IoSlice::new(&octets)], &mut control, flags | SendFlags::NOSIGNAL);
        sent.map(drop).map_err(IpcError::system("sendmsg"))
    }

    /// The next message with its descriptors, waiting for it.
    ///
    /// # Errors
    /// [`IpcError`]; [`IpcError::Ended`] where no more will come.
    pub(crate) fn receive<T: DeserializeOwned>(&self) -> Result<(T, Vec<OwnedFd>), IpcError> {
        self.receive_with(RecvFlags::empty())
    }

    /// The next message if it is there: see [`IpcError::would_block`].
    ///
    /// # Errors
    /// [`IpcError`].
    pub(crate) fn receive_now<T: DeserializeOwned>(&self) -> Result<(T, Vec<OwnedFd>), IpcError> {
        self.receive_with(RecvFlags::DONTWAIT)
    }

    fn receive_with<T: DeserializeOwned>(&self, flags: RecvFlags) -> Result<(T, Vec<OwnedFd>), IpcError> {
        let mut octets = vec![0; MESSAGE_BYTES_MAX];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = flags | RecvFlags::CMSG_CLOEXEC;
        let received = loop {
            match recvmsg(&self.0, &mut [IoSliceMut::new(&mut octets)], &mut control, flags) {
                Err(Errno::INTR) => {}
                received => break received.map_err(IpcError::system("recvmsg"))?,
            }
        };
        let mut descriptors = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(passed) = message {
                descriptors.extend(passed);
            }
        }
        if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
            return Err(IpcError::TooLarge { octets: received.bytes, descriptors: descriptors.len() });
        }
        // No message is empty, so this is the end.
        if received.bytes == 0 {
            return Err(IpcError::Ended);
        }
        let message = octets.get(..received.bytes).unwrap_or_default();
        Ok((postcard::from_bytes(message).map_err(IpcError::Malformed)?, descriptors))
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// For the runtime's registration.
impl AsRawFd for Channel {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// To be a child's standard input.
impl From<Channel> for OwnedFd {
    fn from(channel: Channel) -> Self {
        channel.0
    }
}

impl From<OwnedFd> for Channel {
    fn from(socket: OwnedFd) -> Self {
        Self(socket)
    }
}

/// The end that this process was executed with, as its standard input.
///
/// # Errors
/// The kernel's, where standard input is closed.
pub(crate) fn inherited() -> io::Result<Channel> {
    let socket = rustix::io::fcntl_dupfd_cloexec(io::stdin().as_fd(), FIRST_OTHER_FD)?;
    Ok(Channel(socket))
}

/// [`Channel`] in a runtime.
#[derive(Debug)]
pub(crate) struct AsyncChannel(AsyncFd<Channel>);

impl AsyncChannel {
    /// # Errors
    /// The kernel's, to `epoll_ctl`.
    pub(crate) fn new(channel: Channel) -> io::Result<Self> {
        sys::register_channel(channel).map(Self)
    }

    /// As [`Channel::send`]. May be dropped while it waits: the message is then not sent.
    ///
    /// # Errors
    /// [`IpcError`].
    pub(crate) async fn send(
        &self,
        message: &impl Serialize,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), IpcError> {
        loop {
            let mut ready =
                self.0.writable().await.map_err(|source| IpcError::System { call: "epoll", source })?;
            match self.0.get_ref().send_now(message, descriptors) {
                Err(error) if error.would_block() => ready.clear_ready(),
                sent => return sent,
            }
        }
    }

    /// As [`Channel::receive`]. May be dropped while it waits: no message is lost.
    ///
    /// # Errors
    /// [`IpcError`].
    pub(crate) async fn receive<T: DeserializeOwned>(&self) -> Result<(T, Vec<OwnedFd>), IpcError> {
        loop {
            let mut ready =
                self.0.readable().await.map_err(|source| IpcError::System { call: "epoll", source })?;
            match self.0.get_ref().receive_now() {
                Err(error) if error.would_block() => ready.clear_ready(),
                received => return received,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn messages_come_whole_in_order_and_with_their_descriptors() {
        let (near, far) = Channel::pair().unwrap();
        let (mut reader, mut writer) = io::pipe().unwrap();
        near.send(&("first", 1_u32), &[writer.as_fd()]).unwrap();
        near.send(&("second", 2_u32), &[]).unwrap();
        let (message, descriptors) = far.receive::<(String, u32)>().unwrap();
        assert_eq!((message, descriptors.len()), (("first".to_owned(), 1), 1));
        writer.write_all(b"a").unwrap();
        drop(writer);
        let passed = descriptors.into_iter().next().unwrap();
        rustix::io::write(&passed, b"b").unwrap();
        drop(passed);
        let mut text = String::new();
        io::Read::read_to_string(&mut reader, &mut text).unwrap();
        assert_eq!(text, "ab", "the passed descriptor is the same pipe");
        assert_eq!(far.receive::<(String, u32)>().unwrap().0, ("second".to_owned(), 2));
        assert!(far.receive_now::<u32>().unwrap_err().would_block());
        drop(near);
        assert!(matches!(far.receive::<u32>(), Err(IpcError::Ended)));
    }

    #[test]
    fn what_is_too_large_or_of_another_kind_is_refused() {
        let (near, far) = Channel::pair().unwrap();
        let large = vec![0_u8; MESSAGE_BYTES_MAX];
        assert!(matches!(near.send(&large, &[]), Err(IpcError::TooLarge { .. })));
        near.send(&7_u8, &[]).unwrap();
        assert!(matches!(far.receive::<String>(), Err(IpcError::Malformed(_))));
    }
}
