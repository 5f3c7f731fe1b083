use std::net::IpAddr;

use ipnet::IpNet;

use super::kinds::{list, text};
use super::setting::settings;
use super::steering::networks;

/// Name servers that are asked, one after the other: as many as the C library takes (`MAXNS`, resolv.conf(5)).
pub(crate) const NAME_SERVERS_MAX: usize = 3;

settings! {
    /// `[helper]`: the process that asks authorities whether a certificate was revoked, and posts alarms. It runs where a TLS
    /// profile in use has `ocsp = "lenient"` or `"strict"`, and where `alarm.webhook` is set.
    pub struct HelperSettings {
        /// Whom the helper asks for the addresses of names in certificates, and of the webhook's, at UDP port 53. `/etc/resolv.conf` is read with
        /// the configuration.
        name_servers: Option<Vec<IpAddr>> = list(
            text::<IpAddr>(),
            Some(NAME_SERVERS_MAX),
            Some("list addresses of name servers, or remove the line for those of /etc/resolv.conf"),
        ).unset("those of `/etc/resolv.conf`", r#"["192.0.2.53"]"#);
        /// Networks that the helper may reach by whatever interface their route leads out of, though they are private or
        /// local: for authorities of your own. Elsewhere it reaches public addresses only, and only through `steering.egress`. The webhook (`alarm.webhook`) needs no entry: it may be anywhere.
        reach: Vec<IpNet> = networks(None).default(Vec::new()).such_as(r#"["10.1.2.3/32"]"#);
    }
}
