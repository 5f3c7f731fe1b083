//! The listeners: one per thread of the worker, ingress and family. They are the supervisor's, so that a worker's
//! successor takes what waits in their queues.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context, Result};
use proxy_ebpf::Family;

use crate::accept::{SocketBuffers, listen};
use crate::admin::ListenerStatus;
use crate::config::{InterfaceName, SteeringConfig};
use crate::ipc::{AsyncChannel, DESCRIPTORS_MAX, IpcError};
use crate::steering::program::Program;
use crate::steering::routing;
use crate::worker::protocol::{ListenerPlace, ToWorker};

/// Both families, as slots, with their words in the status.
const FAMILIES: [(Family, &str); 2] = [(Family::V4, "ipv4"), (Family::V6, "ipv6")];

/// All of them.
pub(super) struct Listeners(Vec<Listener>);

struct Listener {
    place: ListenerPlace,
    family: &'static str,
    address: SocketAddr,
    socket: TcpListener,
}

impl Listeners {
    /// Open all, and give each to its slot of the program.
    ///
    /// # Errors
    /// A listener or a slot cannot be had.
    pub(super) fn open(
        program: &mut Program,
        steering: &SteeringConfig,
        threads: u32,
        buffers: SocketBuffers,
    ) -> Result<Self> {
        let mut listeners = Vec::new();
        for (number, ingress) in (0..).zip(&steering.ingress) {
            for (family, name) in
                FAMILIES.into_iter().filter(|(family, _)| routing::families().contains(family))
            {
                // One reuseport group for each ingress and family.
                let mut port = 0;
                for thread in 0..threads {
                    let socket = open(family, port, buffers, ingress)?;
                    let address = socket.local_addr()?;
                    port = address.port();
                    program.add_listener(number, family, thread, &socket)?;
                    let place = ListenerPlace { ingress: ingress.clone(), thread };
                    listeners.push(Listener { place, family: name, address, socket });
                }
            }
        }
        Ok(Self(listeners))
    }

    /// Pass all of them to a worker.
    ///
    /// # Errors
    /// [`IpcError`].
    pub(super) async fn pass(&self, worker: &AsyncChannel) -> Result<(), IpcError> {
        for some in self.0.chunks(DESCRIPTORS_MAX) {
            let places = some.iter().map(|listener| listener.place.clone()).collect();
            let sockets: Vec<BorrowedFd<'_>> = some.iter().map(|listener| listener.socket.as_fd()).collect();
            worker.send(&ToWorker::Listeners(places), &sockets).await?;
        }
        Ok(())
    }

    /// For `postern status`.
    pub(super) fn status(&self) -> Vec<ListenerStatus> {
        let status = |listener: &Listener| ListenerStatus {
            ingress: listener.place.ingress.as_str().to_owned(),
            family: listener.family.to_owned(),
            address: listener.address,
            thread: listener.place.thread,
        };
        self.0.iter().map(status).collect()
    }
}

fn open(family: Family, port: u16, buffers: SocketBuffers, ingress: &InterfaceName) -> Result<TcpListener> {
    listen(family, port, buffers)
        .with_context(|| format!("opening a listener for {} (needs CAP_NET_ADMIN)", ingress.as_str()))
}
