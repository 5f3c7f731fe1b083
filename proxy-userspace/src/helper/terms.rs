use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::Context as _;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::url::{HTTP_PORT, HttpUrl};
use crate::config::{Config, NAME_SERVERS_MAX, Ocsp, SteeringConfig, WebhookUrl};
use crate::handshake::verify::{RootsError, webhook_roots};
use crate::ipc::seal;

/// Where the system's name servers stand.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// What the helper is told, because it has no files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct HelperTerms {
    /// At most [`NAME_SERVERS_MAX`].
    pub(super) name_servers: Vec<IpAddr>,
    /// Whether a TLS profile in use has authorities asked.
    pub(super) asks_authorities: bool,
    /// `helper.reach`.
    pub(super) reach: Vec<IpNet>,
    /// Which interfaces are egress.
    pub(super) steering: SteeringConfig,
    /// Who vouches for the webhook, each in DER; none where no webhook is spoken to over TLS.
    pub(super) roots: Vec<Vec<u8>>,
    /// The webhook's port, where there is a webhook.
    webhook_port: Option<u16>,
}

impl HelperTerms {
    /// Of a configuration; `None` where nobody is asked and nothing is posted. Reads `/etc/resolv.conf` where the
    /// configuration names no name servers, and roots where the webhook's URL is one of HTTPS.
    ///
    /// # Errors
    /// No root can be read.
    pub(crate) fn read(config: &Config) -> Result<Option<Self>, RootsError> {
        let asks_authorities = config.profiles_in_use().any(|(_, profile)| profile.ocsp != Ocsp::Disabled);
        let webhook = config.alarm.webhook.as_ref().map(WebhookUrl::url);
        if !asks_authorities && webhook.is_none() {
            return Ok(None);
        }
        let roots = match webhook {
            Some(url) if url.is_tls() => webhook_roots(&config.unnamed_profile)?,
            _ => Vec::new(),
        };
        let configured = config.helper.name_servers.clone();
        Ok(Some(Self {
            name_servers: configured.unwrap_or_else(|| system_name_servers(Path::new(RESOLV_CONF))),
            asks_authorities,
            reach: config.helper.reach.clone(),
            steering: config.steering.clone(),
            roots: roots.iter().map(|root| root.to_vec()).collect(),
            webhook_port: webhook.map(HttpUrl::port),
        }))
    }

    /// The ports that it may connect to. They hold for its life.
    pub(crate) fn ports(&self) -> Vec<u16> {
        let of_authorities = self.asks_authorities.then_some(HTTP_PORT);
        let ports: BTreeSet<u16> = of_authorities.into_iter().chain(self.webhook_port).collect();
        ports.into_iter().collect()
    }

    /// What does without a helper, for the log.
    pub(crate) const fn without(&self) -> &'static str {
        match (self.asks_authorities, self.webhook_port) {
            (true, None) => "certificates are judged by what servers staple and by lists",
            (false, _) => "alarms wait for it before they are posted (alarm.webhook)",
            (true, Some(_)) => {
                "certificates are judged by what servers staple and by lists, and alarms wait before they are posted"
            }
        }
    }

    /// For the helper.
    ///
    /// # Errors
    /// The kernel has no memory for it.
    pub(crate) fn sealed(&self) -> anyhow::Result<OwnedFd> {
        let octets = postcard::to_stdvec(self).context("writing what the helper is told")?;
        Ok(seal(&octets)?)
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

    /// Of a configuration with these lines.
    fn terms(lines: &str) -> Option<HelperTerms> {
        let text = format!(
            "[steering]\ningress = [\"lan0\"]\negress = [\"wan0\"]\n[certificates]\n\
             authority = {{ cert = \"a.pem\", key = \"a.key\" }}\n[helper]\nname_servers = [\"192.0.2.1\"]\n{lines}"
        );
        HelperTerms::read(&crate::config::parse(&text, Path::new("/postern.toml")).unwrap()).unwrap()
    }

    #[tokio::test]
    async fn nobody_is_asked_where_the_helper_only_posts() {
        let terms = terms("reach = [\"127.0.0.1/32\"]\n[alarm]\nwebhook = \"http://siem/\"\n").unwrap();
        let fetcher = super::super::fetch::Fetcher::new(terms).unwrap();
        let asked = fetcher.fetch("http://127.0.0.1/", b"").await;
        assert_eq!(asked.unwrap_err().fault, super::super::protocol::FetchFault::Gone);
    }

    #[test]
    fn a_helper_may_connect_where_it_has_something_to_do_and_nowhere_else() {
        const OCSP: &str = "[tls]\nocsp = \"lenient\"\n";
        const PLAIN: &str = "[alarm]\nwebhook = \"http://siem:8080/\"\n";
        assert_eq!(terms(""), None);
        for (lines, ports, has_roots) in [
            (OCSP.to_owned(), &[80][..], false),
            (PLAIN.to_owned(), &[8080], false),
            (format!("{OCSP}{PLAIN}"), &[80, 8080], false),
            (format!("{OCSP}[alarm]\nwebhook = \"http://siem/\"\n"), &[80], false),
            ("[alarm]\nwebhook = \"https://siem/\"\n".to_owned(), &[443], true),
        ] {
            let terms = terms(&lines).unwrap();
            assert_eq!(terms.ports(), ports, "{lines}");
            assert_eq!(!terms.roots.is_empty(), has_roots, "{lines}");
            assert_eq!(terms.without().contains("alarms"), lines.contains("webhook"), "{lines}");
            assert_eq!(terms.without().contains("certificates"), lines.contains("ocsp"), "{lines}");
        }
    }
}
