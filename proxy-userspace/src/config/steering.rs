use std::net::IpAddr;

use ipnet::IpNet;

use super::kinds::{Kind, list, number, text};
use super::names::InterfaceName;
use super::setting::{sections, settings, words};
use crate::words::{IMAP_PORT, IMAPS_PORT, Service};

/// Interfaces that the steering program's map has room for; the same bound serves egress.
const INTERFACES_MAX: usize = proxy_ebpf::INGRESS_MAX as usize;
/// Interfaces of a side that are served because patterns match them. Each has routing rules of its own, which the kernel
/// goes through one by one for what it routes, and is looked at every second.
pub(crate) const INTERFACES_MATCHED_MAX: usize = 1024;
/// Entries are looked through one by one for each connection; four for each possible ingress.
const REACH_ENTRIES_MAX: usize = 4 * INTERFACES_MAX;
/// Networks are looked through one by one for each connection.
const NETWORKS_MAX: usize = 4096;
/// Ports of either kind: a routing rule stands for each port, ingress and family.
const PORTS_MAX: usize = proxy_ebpf::PORTS_MAX as usize / 2;

/// See [`list`].
fn ports() -> Kind<Vec<u16>> {
    list(number((1, 65_535), "", "TCP has these ports"), Some(PORTS_MAX), None)
}

/// See [`list`].
pub(super) fn interfaces() -> Kind<Vec<InterfaceName>> {
    list(text::<InterfaceName>(), Some(INTERFACES_MAX), Some("list at least one interface"))
}

/// See [`list`].
pub(super) fn networks(filled: Option<&'static str>) -> Kind<Vec<IpNet>> {
    list(text::<IpNet>(), Some(NETWORKS_MAX), filled)
}

settings! {
    /// `[steering]`.
    pub struct SteeringConfig {
        /// Interfaces of the mail clients. Only connections that arrive here are taken over. Interfaces are known by
        /// name and may appear later (VLAN, VPN). `ppp*` stands for all whose names begin so, 1024 at most. None may
        /// stand in `egress`, too.
        ingress: Vec<InterfaceName> = interfaces()
            .required("list interface names, such as [\"eth0\"]", r#"["lan0"]"#);
        /// Interfaces towards the mail servers, by name or pattern. A server that is not reached through one of them is
        /// refused.
        egress: Vec<InterfaceName> = interfaces()
            .required("list interface names, such as [\"eth0\"]", r#"["wan0"]"#);
        /// Ports on which IMAP begins in clear text, and STARTTLS follows. What clients send to other ports is left alone.
        starttls_ports: Vec<u16> = ports().default(vec![IMAP_PORT]);
        /// Ports on which TLS begins with the first octet.
        implicit_tls_ports: Vec<u16> = ports().default(vec![IMAPS_PORT]);
        /// What becomes of connections to a listed port that no policy fits.
        unmatched: Unmatched = text::<Unmatched>().default(Unmatched::Refuse);
        /// The address that servers see.
        source: Source = text::<Source>().default(Source::Gateway);
        /// What becomes of new connections while Postern does not run (after a stop, a crash, a kill), drains, or has
        /// no room.
        on_exit: OnExit = text::<OnExit>().default(OnExit::Closed);
        /// Mail threads of the worker. Changes with a restart only; everything else here changes with a reload.
        threads: Option<u16> =
            number((1, i64::from(proxy_ebpf::WORKERS_MAX)), "threads", "one listener per thread, ingress and family")
            .unset("one per core", "4");
        /// Who may reach what. Steered mail does not pass the firewall's FORWARD chain, so a guest network that must
        /// not reach an internal server is told so here. An ingress that no entry names may reach everything behind
        /// every egress. One that is named may reach only what one of its entries allows.
        reach: Vec<Reach> = sections(REACH_ENTRIES_MAX);
    }
}

settings! {
    /// One entry of `steering.reach`: what clients of some ingress interfaces may reach.
    pub struct Reach {
        /// Interfaces of `steering.ingress` whose clients this entry speaks of, as they are written there.
        ingress: Vec<InterfaceName> = interfaces()
            .required("list the ingress interfaces whose clients this entry speaks of", r#"["lan0"]"#);
        /// Interfaces of `steering.egress` through which they may go.
        egress: Option<Vec<InterfaceName>> = interfaces().unset("any of them", r#"["wan0"]"#);
        /// Networks that they may reach.
        networks: Option<Vec<IpNet>> = networks(Some("list networks, or remove the line for any destination"))
            .unset("any", r#"["0.0.0.0/0", "2000::/3"]"#);
        /// Networks that they may not reach, also within `networks`.
        except: Vec<IpNet> = networks(None).default(Vec::new())
            .such_as(r#"["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]"#);
    }
}

impl SteeringConfig {
    /// Every listed port, those of STARTTLS first.
    pub fn ports(&self) -> impl Iterator<Item = u16> {
        self.starttls_ports.iter().chain(&self.implicit_tls_ports).copied()
    }

    /// Whether an entry of ingress or egress is a pattern.
    #[must_use]
    pub fn has_patterns(&self) -> bool {
        self.ingress.iter().chain(&self.egress).any(InterfaceName::is_pattern)
    }

    /// Whether an interface belongs to a pattern, and not to an entry with its name.
    #[must_use]
    pub fn matches(&self, interface: &str) -> bool {
        let entry_of = |list| InterfaceName::entry_of(list, interface);
        let entry = entry_of(&self.ingress).or_else(|| entry_of(&self.egress));
        entry.is_some_and(|(_, entry)| entry.is_pattern())
    }

    /// How TLS begins at a port; `None` for a port that is not listed.
    #[must_use]
    pub fn service(&self, port: u16) -> Option<Service> {
        match port {
            _ if self.implicit_tls_ports.contains(&port) => Some(Service::ImplicitTls),
            _ if self.starttls_ports.contains(&port) => Some(Service::StartTls),
            _ => None,
        }
    }

    /// Whether clients of this ingress may reach this destination through this egress, both as they are listed. An ingress
    /// that no entry names may reach everything.
    #[must_use]
    pub fn may_reach(&self, ingress: &InterfaceName, egress: &InterfaceName, destination: IpAddr) -> bool {
        let mut named = self.reach.iter().filter(|reach| reach.ingress.contains(ingress)).peekable();
        named.peek().is_none() || named.any(|reach| reach.allows(egress, destination))
    }
}

impl Reach {
    fn allows(&self, egress: &InterfaceName, destination: IpAddr) -> bool {
        let within = |networks: &[IpNet]| networks.iter().any(|network| network.contains(&destination));
        self.egress.as_ref().is_none_or(|list| list.contains(egress))
            && self.networks.as_deref().is_none_or(within)
            && !within(&self.except)
    }
}

words! {
    /// The address that upstream sockets are bound to.
    pub enum Source as "source" {
        /// This machine's own; also the choice where the way to the servers is masqueraded.
        Gateway => "gateway",
        /// The client's, with a port of Postern's own (10000 to 32767); for ways that are routed, not masqueraded.
        Client => "client",
    }
}

words! {
    /// What becomes of connections that no policy admits.
    pub enum Unmatched as "behaviour towards unmatched connections" {
        /// They are refused: by a routing rule (`prohibit`) where no policy admits the port on the client's interface, else
        /// by Postern after it accepted them.
        Refuse => "refuse",
        /// They reach the servers uninspected.
        Pass => "pass",
    }
}

words! {
    /// What becomes of new connections while no daemon runs, or while it has no room.
    pub enum OnExit as "behaviour while no daemon runs" {
        /// They are dropped, also by the nftables table `inet postern`; without a daemon, `postern clear` ends that.
        Closed => "closed",
        /// They reach the servers uninspected.
        Open => "open",
    }
}
