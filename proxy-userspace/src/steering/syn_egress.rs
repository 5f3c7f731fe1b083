//! The interface that the SYN of a connection left by, as noted by the program on the interfaces towards the servers.

use std::io;
use std::sync::Arc;

use proxy_ebpf::{SYN_EGRESS_SLOTS, syn_egress_interface, syn_egress_slot};
use rustix::fd::AsFd;
use rustix::net::sockopt::socket_cookie;

use crate::sys::SharedWords;

/// The program's notes, shared by all threads.
#[derive(Clone, Debug)]
pub struct SynEgress(Arc<SharedWords>);

impl SynEgress {
    /// Map the array that the programs fill. Reading it then takes neither the array's descriptor nor a capability.
    ///
    /// # Errors
    /// The kernel's.
    pub fn map(array: impl AsFd) -> io::Result<Self> {
        let slots = usize::try_from(SYN_EGRESS_SLOTS).map_err(io::Error::other)?;
        Ok(Self(Arc::new(SharedWords::map(array, slots)?)))
    }

    /// The index of the interface towards the servers that the last SYN of this socket left by; `None` where it left by
    /// an interface without the program. For a connected socket with the mark of sockets to servers.
    ///
    /// # Errors
    /// The kernel's, to `SO_COOKIE`.
    pub fn interface(&self, socket: impl AsFd) -> io::Result<Option<u32>> {
        let cookie = socket_cookie(socket)?;
        let word = usize::try_from(syn_egress_slot(cookie)).ok().and_then(|slot| self.0.get(slot));
        Ok(word.and_then(|word| syn_egress_interface(word, cookie)))
    }
}
