//! Client – gateway – server, on veth pairs, with both address families.
//!
//! Addresses are the same in every lab: the namespaces keep them apart.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::{fs, process};

use anyhow::{Result, bail, ensure};

use crate::netns::{self, Namespace};
use crate::wait::{self, PATIENCE};

/// The gateway's interface towards the clients.
pub const INGRESS: &str = "lan0";
/// The gateway's interface towards the servers.
pub const EGRESS: &str = "wan0";
/// A third interface of the gateway, towards the servers' host too, which no configuration names.
pub const ELSEWHERE: &str = "dmz0";

/// Namespaces of a process that is gone carry this prefix and its id.
const PREFIX: &str = "postern-lab-";

/// Names that the client's namespace knows: the server over IPv4 and over IPv6.
pub const NAME4: &str = "mail4.lab.test";
/// The server over IPv6.
pub const NAME6: &str = "mail6.lab.test";

/// The two address families.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    const fn choose(self, v4: [u8; 4], v6: [u16; 8]) -> IpAddr {
        let [a, b, c, d] = v4;
        let [s, t, u, v, w, x, y, z] = v6;
        match self {
            Self::V4 => IpAddr::V4(Ipv4Addr::new(a, b, c, d)),
            Self::V6 => IpAddr::V6(Ipv6Addr::new(s, t, u, v, w, x, y, z)),
        }
    }

    /// The client's address.
    #[must_use]
    pub const fn client(self) -> IpAddr {
        self.choose([10, 77, 1, 2], [0xfd77, 1, 0, 0, 0, 0, 0, 2])
    }

    /// The gateway's address towards the clients.
    #[must_use]
    pub const fn gateway_lan(self) -> IpAddr {
        self.choose([10, 77, 1, 1], [0xfd77, 1, 0, 0, 0, 0, 0, 1])
    }

    /// The gateway's address towards the servers.
    #[must_use]
    pub const fn gateway_wan(self) -> IpAddr {
        self.choose([10, 77, 2, 1], [0xfd77, 2, 0, 0, 0, 0, 0, 1])
    }

    /// The server's address.
    #[must_use]
    pub const fn server(self) -> IpAddr {
        self.choose([10, 77, 2, 2], [0xfd77, 2, 0, 0, 0, 0, 0, 2])
    }

    /// Another address of the server's host, for policies that tell destinations apart.
    #[must_use]
    pub const fn other_server(self) -> IpAddr {
        self.choose([10, 77, 2, 3], [0xfd77, 2, 0, 0, 0, 0, 0, 3])
    }

    /// An address behind the server that answers nothing at all.
    #[must_use]
    pub const fn silent(self) -> IpAddr {
        self.choose([10, 77, 9, 9], [0xfd77, 9, 0, 0, 0, 0, 0, 9])
    }

    /// The gateway's address on [`ELSEWHERE`].
    #[must_use]
    pub const fn gateway_elsewhere(self) -> IpAddr {
        self.choose([10, 77, 3, 1], [0xfd77, 3, 0, 0, 0, 0, 0, 1])
    }

    /// The server's address that is routed out of [`ELSEWHERE`].
    #[must_use]
    pub const fn elsewhere(self) -> IpAddr {
        self.choose([10, 77, 3, 2], [0xfd77, 3, 0, 0, 0, 0, 0, 2])
    }

    /// The name that the client's namespace has for [`Self::server`].
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::V4 => NAME4,
            Self::V6 => NAME6,
        }
    }

    /// The counter that steering a connection of this family raises.
    #[must_use]
    pub const fn counter(self) -> &'static str {
        match self {
            Self::V4 => "steered_ipv4",
            Self::V6 => "steered_ipv6",
        }
    }

    const fn bits(self) -> u8 {
        match self {
            Self::V4 => 24,
            Self::V6 => 64,
        }
    }
}

/// Three namespaces and the wires between them.
#[derive(Debug)]
pub struct Lab {
    /// Where mail clients run. It knows the server by [`NAME4`] and [`NAME6`].
    pub client: Namespace,
    /// Where Postern runs: forwards both families.
    pub gateway: Namespace,
    /// Where mail servers run.
    pub server: Namespace,
    pristine: String,
}

impl Lab {
    /// Put it up.
    ///
    /// # Errors
    /// Without root, or when the kernel or `ip` refuses.
    pub fn new() -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        need_root()?;
        sweep()?;
        let stem = format!("{PREFIX}{}-{}", process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        Self::named(&format!("{stem}-client"), &format!("{stem}-gateway"), &format!("{stem}-server"))
    }

    /// Put it up under names of one's own.
    ///
    /// # Errors
    /// Without root, when a name is taken, or when the kernel or `ip` refuses.
    pub fn named(client: &str, gateway: &str, server: &str) -> Result<Self> {
        need_root()?;
        let mut lab = Self {
            client: Namespace::new(client)?,
            gateway: Namespace::new(gateway)?,
            server: Namespace::new(server)?,
            pristine: String::new(),
        };
        lab.wire()?;
        lab.pristine = lab.gateway.routing()?;
        Ok(lab)
    }

    fn wire(&self) -> Result<()> {
        for namespace in [&self.client, &self.gateway, &self.server] {
            // Addresses are there at once: nobody else is on these wires.
            namespace.sysctl(&[("ipv6/conf/default/accept_dad", "0"), ("ipv6/conf/all/accept_dad", "0")])?;
        }
        self.gateway.sysctl(&[("ipv4/ip_forward", "1"), ("ipv6/conf/all/forwarding", "1")])?;
        let veth = |near: &str, peer: &Namespace, far: &str| -> Result<()> {
            let name = peer.name();
            self.gateway.ip(&["link", "add", near, "type", "veth", "peer", "name", far, "netns", name])?;
            self.gateway.ip(&["link", "set", near, "up"])?;
            peer.ip(&["link", "set", far, "up"]).map(drop)
        };
        veth(INGRESS, &self.client, "eth0")?;
        veth(EGRESS, &self.server, "eth0")?;
        veth(ELSEWHERE, &self.server, "eth1")?;
        for family in Family::ALL {
            let give = |namespace: &Namespace, address: IpAddr, link: &str| {
                let text = format!("{address}/{}", family.bits());
                let mut args = vec!["address", "add", &text, "dev", link];
                if family == Family::V6 {
                    args.push("nodad");
                }
                namespace.ip(&args)
            };
            give(&self.client, family.client(), "eth0")?;
            give(&self.gateway, family.gateway_lan(), INGRESS)?;
            give(&self.gateway, family.gateway_wan(), EGRESS)?;
            give(&self.gateway, family.gateway_elsewhere(), ELSEWHERE)?;
            give(&self.server, family.server(), "eth0")?;
            give(&self.server, family.other_server(), "eth0")?;
            give(&self.server, family.elsewhere(), "eth1")?;
            self.client.ip(&["route", "add", "default", "via", &family.gateway_lan().to_string()])?;
            self.server.ip(&["route", "add", "default", "via", &family.gateway_wan().to_string()])?;
            let silent = family.silent().to_string();
            self.gateway.ip(&["route", "add", &silent, "via", &family.server().to_string()])?;
            self.server.ip(&["route", "add", "blackhole", &silent])?;
        }
        self.client.hosts(&format!(
            "127.0.0.1 localhost\n::1 localhost\n{} {NAME4}\n{} {NAME6}\n",
            Family::V4.server(),
            Family::V6.server()
        ))?;
        // Veth carriers and IPv6 routes settle asynchronously; a first connection must not race them.
        for family in Family::ALL {
            let server = SocketAddr::new(family.server(), 9);
            let listener = self.server.listen(server)?;
            wait::until("the wires", PATIENCE, || Ok(self.client.connect(server).ok()))?;
            drop(listener);
        }
        Ok(())
    }

    /// That nothing of a stopped daemon is left in the gateway's namespace: rules, routes, links, programs.
    ///
    /// # Errors
    /// Shows what differs.
    pub fn assert_clean(&self) -> Result<()> {
        let seen = wait::until("routing as before", PATIENCE, || {
            let now = self.gateway.routing()?;
            Ok((now == self.pristine).then_some(now))
        });
        if seen.is_err() {
            bail!("left behind.\nbefore:\n{}\nafter:\n{}", self.pristine, self.gateway.routing()?);
        }
        Ok(())
    }

    /// Prove that the daemon left nothing, then delete the namespaces.
    ///
    /// # Errors
    /// Says what was left.
    pub fn finish(self) -> Result<()> {
        self.assert_clean()?;
        self.client.delete()?;
        self.gateway.delete()?;
        self.server.delete()
    }

    /// Leave the namespaces up when this value is dropped.
    pub const fn keep(&mut self) {
        self.client.keep();
        self.gateway.keep();
        self.server.keep();
    }
}

/// A refusal in clear words for whoever runs the lab without root.
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
            // A program may go between the listing and the look at it.
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
