use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::config::{Config, NAME_SERVERS_MAX, Ocsp, SteeringConfig};

/// Where the system's name servers stand.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// What the helper is told, because it has no files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct HelperTerms {
    /// At most [`NAME_SERVERS_MAX`].
    pub(super) name_servers: Vec<IpAddr>,
    /// `helper.reach`.
    pub(super) reach: Vec<IpNet>,
    /// Which interfaces are egress.
    pub(super) steering: SteeringConfig,
}

impl HelperTerms {
    /// Of a configuration; `None` where nobody is asked. Reads `/etc/resolv.conf` where the configuration names no name
    /// servers.
    pub(crate) fn read(config: &Config) -> Option<Self> {
        if config.profiles_in_use().all(|(_, profile)| profile.ocsp == Ocsp::Disabled) {
            return None;
        }
        let configured = config.helper.name_servers.clone();
        let name_servers = configured.unwrap_or_else(|| system_name_servers(Path::new(RESOLV_CONF)));
        Some(Self { name_servers, reach: config.helper.reach.clone(), steering: config.steering.clone() })
    }
}

fn system_name_servers(file: &Path) -> Vec<IpAddr> {
    let text = fs::read_to_string(file).unwrap_or_else(|error| {
        tracing::warn!(
            "{}: cannot be read ({error}): the name server of this machine is asked; helper.name_servers names another",
            file.display()
        );
        String::new()
    });
    name_servers(&text)
}

/// As resolv.conf(5) says: the first three, and this machine's own where there is none. An address with a scope, such as
/// `fe80::1%eth0`, is passed over: it means nothing without an interface.
fn name_servers(text: &str) -> Vec<IpAddr> {
    let of_line = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()?.parse().ok()).flatten()
    };
    let found: Vec<IpAddr> = text.lines().filter_map(of_line).take(NAME_SERVERS_MAX).collect();
    if found.is_empty() { vec![IpAddr::V4(Ipv4Addr::LOCALHOST)] } else { found }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_read_as_the_c_library_reads_them() {
        let read = |text| name_servers(text).iter().map(IpAddr::to_string).collect::<Vec<_>>();
        assert_eq!(
            read("search lab\nnameserver 192.0.2.1\n\tnameserver  2001:db8::1 # near\n"),
            ["192.0.2.1", "2001:db8::1"]
        );
        assert_eq!(read("# nameserver 192.0.2.1\n;nameserver 192.0.2.1\nnameserver\n"), ["127.0.0.1"]);
        assert_eq!(read("nameserver fe80::1%eth0\nnameserver 192.0.2.1"), ["192.0.2.1"]);
        assert_eq!(read(&"nameserver 192.0.2.1\n".repeat(5)).len(), NAME_SERVERS_MAX);
    }
}
