//! Client – gateway – server, on veth pairs, with both address families, and on request more around them.
//!
//! Addresses are the same in every lab: the namespaces keep them apart.

/// Addresses and names, by family.
mod family;
/// Links, addresses and routes.
mod wires;

use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::{fs, process};

use anyhow::{Context as _, Result, bail, ensure};

use crate::netns::{self, Namespace};
use crate::wait::{self, PATIENCE};

pub use family::Family;

/// The gateway's interface towards the clients.
pub const INGRESS: &str = "lan0";
/// The gateway's interface towards the servers.
pub const EGRESS: &str = "wan0";
/// A third interface of the gateway, towards the servers' host too, which no configuration names.
pub const ELSEWHERE: &str = "dmz0";

/// The gateway's interface towards guests, in labs that have them.
pub const GUEST: &str = "guest0";
/// The gateway's second interface towards the client, in labs that have it.
pub const SECOND: &str = "lan1";

/// What the names of a lab's namespaces end with.
pub const PARTS: [&str; 6] = ["client", "gateway", "server", "guest", "near", "far"];

/// Namespaces of a process that is gone carry this prefix and its id.
const PREFIX: &str = "postern-lab-";

/// Names that the client's namespace knows: the server over IPv4 and over IPv6.
pub const NAME4: &str = "mail4.lab.test";
/// The server over IPv6.
pub const NAME6: &str = "mail6.lab.test";

/// What a lab has besides client, gateway and server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// A router between client and gateway through which packets of more than so many octets do not fit; every link
    /// has an MTU of 1500, so that only the router's ICMP errors tell. IPv6 needs 1280 at least.
    pub near_mtu: Option<u16>,
    /// The same between gateway and server.
    pub far_mtu: Option<u16>,
    /// A client in a network of its own, on the gateway's interface [`GUEST`].
    pub guest: bool,
    /// A second wire between client and gateway, [`SECOND`], which nothing is routed over at first.
    pub second_lan: bool,
}

/// How TLS begins at a port of the lab's servers: further ports end like the usual ones (1143, 1993).
#[must_use]
pub const fn is_implicit_tls(port: u16) -> bool {
    port % 1000 == 993
}

/// The namespaces and the wires between them.
#[derive(Debug)]
pub struct Lab {
    /// Where mail clients run. It knows the server by [`NAME4`] and [`NAME6`].
    pub client: Namespace,
    /// Where Postern runs: forwards both families.
    pub gateway: Namespace,
    /// Where mail servers run.
    pub server: Namespace,
    /// Clients of another network, if the shape has them.
    guest: Option<Namespace>,
    /// Routers with a narrow hop, if the shape has them.
    near: Option<Namespace>,
    far: Option<Namespace>,
    pristine: String,
}

impl Lab {
    /// Put it up: client – gateway – server.
    ///
    /// # Errors
    /// Without root, or when the kernel or `ip` refuses.
    pub fn new() -> Result<Self> {
        Self::shaped(Shape::default())
    }

    /// Put it up with more around it.
    ///
    /// # Errors
    /// Without root, or when the kernel or `ip` refuses.
    pub fn shaped(shape: Shape) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        need_root()?;
        sweep()?;
        let stem = format!("{PREFIX}{}-{}", process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        Self::named(&stem, shape)
    }

    /// Put it up with namespaces that are called after the stem: `stem-client`, `stem-gateway` and so on.
    ///
    /// # Errors
    /// Without root, when a name is taken, or when the kernel or `ip` refuses.
    pub fn named(stem: &str, shape: Shape) -> Result<Self> {
        need_root()?;
        let make = |part: &str| Namespace::new(&format!("{stem}-{part}"));
        let make_if = |wanted: bool, part: &str| wanted.then(|| make(part)).transpose();
        let [client, gateway, server, guest, near, far] = PARTS;
        let mut lab = Self {
            client: make(client)?,
            gateway: make(gateway)?,
            server: make(server)?,
            guest: make_if(shape.guest, guest)?,
            near: make_if(shape.near_mtu.is_some(), near)?,
            far: make_if(shape.far_mtu.is_some(), far)?,
            pristine: String::new(),
        };
        wires::lay(&lab, shape)?;
        lab.pristine = lab.gateway.networking()?;
        Ok(lab)
    }

    fn namespaces(&self) -> impl Iterator<Item = &Namespace> {
        [&self.client, &self.gateway, &self.server]
            .into_iter()
            .chain(self.guest.iter().chain(&self.near).chain(&self.far))
    }

    /// Where clients of another network run.
    ///
    /// # Errors
    /// When the lab's shape has none.
    pub fn guest(&self) -> Result<&Namespace> {
        self.guest.as_ref().context("this lab has no guest: Shape { guest: true, .. }")
    }

    /// The gateway's own address towards the clients, in every shape.
    #[must_use]
    pub const fn gateway_lan(&self, family: Family) -> IpAddr {
        let [gateway, _] = family.near();
        if self.near.is_some() { gateway } else { family.gateway_lan() }
    }

    /// The gateway's own address towards the servers, in every shape.
    #[must_use]
    pub const fn gateway_wan(&self, family: Family) -> IpAddr {
        let [gateway, _] = family.far();
        if self.far.is_some() { gateway } else { family.gateway_wan() }
    }

    /// The gateway's packets to the servers carry its own address, as most gateways to the Internet do it.
    ///
    /// # Errors
    /// What `nft` says.
    pub fn masquerade(&self) -> Result<()> {
        let rule = format!("oifname {EGRESS} masquerade");
        self.gateway.nft_chain("nat", "nat hook postrouting priority srcnat", &rule)
    }

    /// The narrow hops no longer send ICMP errors about packets that are too big.
    ///
    /// # Errors
    /// What `nft` says, or when the lab's shape has no narrow hop.
    pub fn block_icmp_errors(&self) -> Result<()> {
        ensure!(
            self.near.is_some() || self.far.is_some(),
            "this lab has no narrow hop: Shape {{ near_mtu, .. }}"
        );
        for router in self.near.iter().chain(&self.far) {
            router.nft_chain(
                "silence",
                "filter hook output priority filter",
                "icmp type destination-unreachable counter drop\nicmpv6 type packet-too-big counter drop",
            )?;
        }
        Ok(())
    }

    /// The server's answers to the client arrive at the gateway on [`ELSEWHERE`], not where the client's packets left.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn server_answers_elsewhere(&self) -> Result<()> {
        for family in Family::ALL {
            let ([clients, _], hop) = (family.networks(), family.gateway_elsewhere().to_string());
            self.server.ip(&["route", "replace", clients, "via", &hop, "dev", "eth1"])?;
        }
        Ok(())
    }

    /// The client's packets to the server, under its usual address, arrive at the gateway on [`SECOND`]; what the
    /// gateway sends to the client still leaves by [`INGRESS`].
    ///
    /// # Errors
    /// What `ip` says, or when the lab's shape has no second wire.
    pub fn client_sends_by_second(&self) -> Result<()> {
        for family in Family::ALL {
            let ([_, servers], hop) = (family.networks(), family.gateway_second().to_string());
            let from = family.client().to_string();
            self.client
                .ip(&["route", "replace", servers, "via", &hop, "dev", "eth1", "src", &from])
                .context("Shape { second_lan: true, .. } lays the second wire")?;
        }
        Ok(())
    }

    /// Take the gateway's present state as what [`Self::assert_clean`] expects later, for tests that change the gateway
    /// themselves, such as by making an interface anew.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn take_as_clean(&mut self) -> Result<()> {
        self.pristine = self.gateway.networking()?;
        Ok(())
    }

    /// That nothing of a stopped daemon is left in the gateway's namespace: rules, routes, links, sysctls, queueing
    /// disciplines, programs on interfaces.
    ///
    /// # Errors
    /// Shows what differs.
    pub fn assert_clean(&self) -> Result<()> {
        let seen = wait::until("the gateway as before", PATIENCE, || {
            let now = self.gateway.networking()?;
            Ok((now == self.pristine).then_some(now))
        });
        if seen.is_err() {
            bail!("left behind.\nbefore:\n{}\nafter:\n{}", self.pristine, self.gateway.networking()?);
        }
        Ok(())
    }

    /// Prove that the daemon left nothing, then delete the namespaces.
    ///
    /// # Errors
    /// Says what was left.
    pub fn finish(self) -> Result<()> {
        self.assert_clean()?;
        let Self { client, gateway, server, guest, near, far, pristine: _ } = self;
        [client, gateway, server]
            .into_iter()
            .chain(guest)
            .chain(near)
            .chain(far)
            .try_for_each(Namespace::delete)
    }
}

/// Refuse, in clear words, to run the lab without root.
///
/// # Errors
/// Without root.
pub fn need_root() -> Result<()> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "the lab makes network namespaces and loads BPF programs, which needs root: run it with sudo"
    );
    Ok(())
}

/// Remove the namespaces of a lab whose process was killed.
fn sweep() -> Result<()> {
    for name in netns::all()? {
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()).map(str::to_owned);
        if let Some(pid) = owner
            && !Path::new("/proc").join(pid).exists()
        {
            // Another lab may sweep at the same time.
            let _ = netns::remove(&name);
        }
    }
    Ok(())
}

/// Ids of the loaded BPF programs, on the whole machine.
///
/// # Errors
/// What the kernel says.
pub fn loaded_programs() -> Result<Vec<u32>> {
    aya::programs::loaded_programs()
        .filter_map(|program| match program {
            Ok(program) => Some(Ok(program.id())),
            // A program may end between the listing and the question about it.
            Err(error) if error.to_string().contains("ENOENT") => None,
            Err(error) => Some(Err(error.into())),
        })
        .collect()
}

/// Read a file of the lab.
///
/// # Errors
/// Names the file.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|error| anyhow::anyhow!("cannot read {}: {error}", path.display()))
}
