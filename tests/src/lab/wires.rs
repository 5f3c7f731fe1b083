//! Links, addresses and routes.

use std::net::{IpAddr, SocketAddr};

use anyhow::Result;

use super::{EGRESS, ELSEWHERE, Family, GUEST, INGRESS, Lab, NAME4, NAME6, SECOND, Shape};
use crate::netns::Namespace;
use crate::wait::{self, PATIENCE};

/// A router's interface towards the gateway.
const INWARD: &str = "inward";
/// A router's interface away from the gateway.
const OUTWARD: &str = "outward";

/// One end of a link.
type End<'a> = (&'a Namespace, &'a str);

/// Connect everything, and wait until it works.
pub(super) fn lay(lab: &Lab, shape: Shape) -> Result<()> {
    for namespace in lab.namespaces() {
        // Addresses are there at once: nobody else is on these wires.
        namespace.sysctl(&[("ipv6/conf/default/accept_dad", "0"), ("ipv6/conf/all/accept_dad", "0")])?;
    }
    for router in [&lab.gateway].into_iter().chain(&lab.near).chain(&lab.far) {
        router.sysctl(&[("ipv4/ip_forward", "1"), ("ipv6/conf/all/forwarding", "1")])?;
    }
    let (lan, wan) = ((&lab.gateway, INGRESS), (&lab.gateway, EGRESS));
    let before_client = cross(lan, lab.near.as_ref(), (&lab.client, "eth0"))?;
    let before_server = cross(wan, lab.far.as_ref(), (&lab.server, "eth0"))?;
    link((&lab.gateway, ELSEWHERE), (&lab.server, "eth1"))?;
    for family in Family::ALL {
        give((&lab.client, "eth0"), family.client(), family)?;
        give(before_client, family.gateway_lan(), family)?;
        give(before_server, family.gateway_wan(), family)?;
        give((&lab.gateway, ELSEWHERE), family.gateway_elsewhere(), family)?;
        give((&lab.server, "eth0"), family.server(), family)?;
        give((&lab.server, "eth0"), family.other_server(), family)?;
        give((&lab.server, "eth1"), family.elsewhere(), family)?;
        lab.client.ip(&["route", "add", "default", "via", &family.gateway_lan().to_string()])?;
        lab.server.ip(&["route", "add", "default", "via", &family.gateway_wan().to_string()])?;
        let silent = family.silent().to_string();
        before_server.0.ip(&["route", "add", &silent, "via", &family.server().to_string()])?;
        lab.server.ip(&["route", "add", "blackhole", &silent])?;
        route_routers(lab, shape, family)?;
    }
    if let Some(guest) = &lab.guest {
        lay_guest(lab, guest)?;
    }
    if shape.second_lan {
        link((&lab.gateway, SECOND), (&lab.client, "eth1"))?;
        for family in Family::ALL {
            give((&lab.gateway, SECOND), family.gateway_second(), family)?;
            give((&lab.client, "eth1"), family.client_second(), family)?;
        }
    }
    name_the_server(&lab.client)?;
    settle(lab)
}

/// A veth pair, up.
fn link(near: End<'_>, far: End<'_>) -> Result<()> {
    let peer = ["peer", "name", far.1, "netns", far.0.name()];
    near.0.ip(&[&["link", "add", near.1, "type", "veth"][..], &peer].concat())?;
    for (namespace, interface) in [near, far] {
        namespace.ip(&["link", "set", interface, "up"])?;
    }
    Ok(())
}

/// Connect the gateway with an end, through a router if there is one; returns the end's next hop.
fn cross<'a>(gateway: End<'a>, router: Option<&'a Namespace>, end: End<'a>) -> Result<End<'a>> {
    let Some(router) = router else {
        link(gateway, end)?;
        return Ok(gateway);
    };
    let (inward, outward) = ((router, INWARD), (router, OUTWARD));
    link(gateway, inward)?;
    link(outward, end)?;
    for (namespace, interface) in [gateway, inward, outward, end] {
        // Veth would carry 64 KiB at once, and what is too big is measured in packets.
        namespace.ip(&["link", "set", interface, "gso_max_segs", "1"])?;
    }
    Ok(outward)
}

fn give(end: End<'_>, address: IpAddr, family: Family) -> Result<()> {
    let text = format!("{address}/{}", family.bits());
    let mut args = vec!["address", "add", &text, "dev", end.1];
    if family == Family::V6 {
        args.push("nodad");
    }
    end.0.ip(&args).map(drop)
}

/// The routers' routes carry a locked MTU: the kernel then says "too big" on behalf of a link that is not there.
fn route_routers(lab: &Lab, shape: Shape, family: Family) -> Result<()> {
    let [clients, servers] = family.networks();
    let narrow = |router: &Namespace, to: &[&str], mtu: u16| {
        router.ip(&[&["route", "add"][..], to, &["mtu", "lock", &mtu.to_string()]].concat())
    };
    if let (Some(router), Some(mtu)) = (&lab.near, shape.near_mtu) {
        let [gateway, own] = family.near();
        give((&lab.gateway, INGRESS), gateway, family)?;
        give((router, INWARD), own, family)?;
        lab.gateway.ip(&["route", "add", clients, "via", &own.to_string()])?;
        let gateway = gateway.to_string();
        narrow(router, &["default", "via", &gateway], mtu)?;
        narrow(router, &[&gateway, "dev", INWARD], mtu)?;
        narrow(router, &[&family.client().to_string(), "dev", OUTWARD], mtu)?;
    }
    if let (Some(router), Some(mtu)) = (&lab.far, shape.far_mtu) {
        let [gateway, own] = family.far();
        let (own_text, silent) = (own.to_string(), family.silent().to_string());
        give((&lab.gateway, EGRESS), gateway, family)?;
        give((router, INWARD), own, family)?;
        lab.gateway.ip(&["route", "add", servers, "via", &own_text])?;
        lab.gateway.ip(&["route", "add", &silent, "via", &own_text])?;
        let gateway = gateway.to_string();
        narrow(router, &["default", "via", &gateway], mtu)?;
        narrow(router, &[&gateway, "dev", INWARD], mtu)?;
        for server in [family.server(), family.other_server()] {
            narrow(router, &[&server.to_string(), "dev", OUTWARD], mtu)?;
        }
    }
    Ok(())
}

fn lay_guest(lab: &Lab, guest: &Namespace) -> Result<()> {
    link((&lab.gateway, GUEST), (guest, "eth0"))?;
    for family in Family::ALL {
        give((&lab.gateway, GUEST), family.gateway_guest(), family)?;
        give((guest, "eth0"), family.guest(), family)?;
        guest.ip(&["route", "add", "default", "via", &family.gateway_guest().to_string()])?;
    }
    name_the_server(guest)
}

fn name_the_server(namespace: &Namespace) -> Result<()> {
    namespace.hosts(&format!(
        "127.0.0.1 localhost\n::1 localhost\n{} {NAME4}\n{} {NAME6}\n",
        Family::V4.server(),
        Family::V6.server()
    ))
}

/// Veth carriers and IPv6 routes settle asynchronously; a first connection must not race them.
fn settle(lab: &Lab) -> Result<()> {
    for family in Family::ALL {
        let server = SocketAddr::new(family.server(), 9);
        let listener = lab.server.listen(server)?;
        for client in [&lab.client].into_iter().chain(&lab.guest) {
            wait::until("the wires", PATIENCE, || Ok(client.connect(server).ok()))?;
        }
        drop(listener);
    }
    Ok(())
}
