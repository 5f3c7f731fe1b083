//! The listeners: one per thread of the worker, ingress and family. They are the supervisor's, so that a worker's
//! successor takes what waits in their queues.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context, Result};
use proxy_ebpf::Family;

use crate::accept::{SocketBuffers, listen};
use crate::admin::ListenerStatus;
use crate::config::InterfaceName;
use crate::ipc::{AsyncChannel, DESCRIPTORS_MAX, IpcError};
use crate::steering::ports::PortPlan;
use crate::steering::program::ProgramError;
use crate::steering::routing;
use crate::worker::protocol::{ListenerPlace, ToWorker};

/// Both families, as slots, with their words in the status.
const FAMILIES: [(Family, &str); 2] = [(Family::V4, "ipv4"), (Family::V6, "ipv6")];

/// All of them.
pub(super) struct Listeners {
    /// Of each ingress and family.
    threads: u32,
    buffers: SocketBuffers,
    open: Vec<Listener>,
}

struct Listener {
    place: ListenerPlace,
    family: &'static str,
    address: SocketAddr,
    socket: TcpListener,
}

impl Listeners {
    /// None, for so many threads.
    pub(super) const fn none(threads: u32, buffers: SocketBuffers) -> Self {
        Self { threads, buffers, open: Vec::new() }
    }

    /// Open those of the plan's ingresses that have none, and give each to its slot of the program by `add`. Returns the
    /// ingresses that have listeners now and had none.
    ///
    /// # Errors
    /// A listener or a slot cannot be had; those that were opened are closed.
    pub(super) fn open_missing(
        &mut self,
        plan: &PortPlan,
        mut add: impl FnMut(u32, Family, u32, &TcpListener) -> Result<(), ProgramError>,
    ) -> Result<Vec<InterfaceName>> {
        let mut opened = Vec::new();
        for of in plan.ingresses() {
            if self.open.iter().any(|listener| listener.place.ingress == of.ingress) {
                continue;
            }
            opened.push(of.ingress.clone());
            if let Err(error) = self.open_one(&of.ingress, of.number(), &mut add) {
                self.close(&opened);
                return Err(error);
            }
        }
        Ok(opened)
    }

    fn open_one(
        &mut self,
        ingress: &InterfaceName,
        number: u32,
        add: &mut impl FnMut(u32, Family, u32, &TcpListener) -> Result<(), ProgramError>,
    ) -> Result<()> {
        for (family, name) in FAMILIES.into_iter().filter(|(family, _)| routing::families().contains(family))
        {
            // One reuseport group for each ingress and family.
            let mut port = 0;
            for thread in 0..self.threads {
                let socket = open(family, port, self.buffers, ingress)?;
                let address = socket.local_addr()?;
                port = address.port();
                add(number, family, thread, &socket)?;
                let place = ListenerPlace { ingress: ingress.clone(), thread };
                self.open.push(Listener { place, family: name, address, socket });
            }
        }
        Ok(())
    }

    /// Close those of these ingresses.
    pub(super) fn close(&mut self, ingresses: &[InterfaceName]) {
        self.open.retain(|listener| !ingresses.contains(&listener.place.ingress));
    }

    /// Close those of ingresses that the plan does not have. Returns these ingresses.
    pub(super) fn close_beyond(&mut self, plan: &PortPlan) -> Vec<InterfaceName> {
        let mut beyond: Vec<InterfaceName> = Vec::new();
        for Listener { place, .. } in &self.open {
            let is_planned = plan.ingresses().iter().any(|of| of.ingress == place.ingress);
            if !is_planned && !beyond.contains(&place.ingress) {
                beyond.push(place.ingress.clone());
            }
        }
        self.close(&beyond);
        beyond
    }

    /// Pass all of them to a worker.
    ///
    /// # Errors
    /// [`IpcError`].
    pub(super) async fn pass(&self, worker: &AsyncChannel) -> Result<(), IpcError> {
        pass(&self.open.iter().collect::<Vec<_>>(), worker).await
    }

    /// Pass those of these ingresses to a worker.
    ///
    /// # Errors
    /// [`IpcError`].
    pub(super) async fn pass_of(
        &self,
        ingresses: &[InterfaceName],
        worker: &AsyncChannel,
    ) -> Result<(), IpcError> {
        let of = self.open.iter().filter(|listener| ingresses.contains(&listener.place.ingress));
        pass(&of.collect::<Vec<_>>(), worker).await
    }

    /// For `postern status`.
    pub(super) fn status(&self) -> Vec<ListenerStatus> {
        let status = |listener: &Listener| ListenerStatus {
            ingress: listener.place.ingress.as_str().to_owned(),
            family: listener.family.to_owned(),
            address: listener.address,
            thread: listener.place.thread,
        };
        self.open.iter().map(status).collect()
    }
}

async fn pass(listeners: &[&Listener], worker: &AsyncChannel) -> Result<(), IpcError> {
    for some in listeners.chunks(DESCRIPTORS_MAX) {
        let places = some.iter().map(|listener| listener.place.clone()).collect();
        let sockets: Vec<BorrowedFd<'_>> = some.iter().map(|listener| listener.socket.as_fd()).collect();
        worker.send(&ToWorker::Listeners(places), &sockets).await?;
    }
    Ok(())
}

fn open(family: Family, port: u16, buffers: SocketBuffers, ingress: &InterfaceName) -> Result<TcpListener> {
    listen(family, port, buffers)
        .with_context(|| format!("opening a listener for {} (needs CAP_NET_ADMIN)", ingress.as_str()))
}
