//! Dovecot, Cyrus and Courier in one lab, each at an address and by a name of its own.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use rustls::ALL_VERSIONS;

use crate::client::{self, Session};
use crate::courier::Courier;
use crate::cyrus::Cyrus;
use crate::dovecot::Dovecot;
use crate::lab::{Family, NAME4, NAME6};
use crate::pki::{self, Wanted};
use crate::scene::Scene;

/// A server as people run it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Server {
    /// Dovecot.
    Dovecot,
    /// Cyrus.
    Cyrus,
    /// Courier.
    Courier,
}

/// How a session reaches its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// From the server's own namespace.
    Direct,
    /// From the client's namespace, through the gateway.
    Through,
}

impl Server {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Dovecot, Self::Cyrus, Self::Courier];

    /// Its address in the lab.
    #[must_use]
    pub const fn address(self) -> IpAddr {
        match self {
            Self::Dovecot => Family::V4.server(),
            Self::Cyrus => Family::V4.other_server(),
            Self::Courier => Family::V6.server(),
        }
    }

    /// Its name in the lab.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dovecot => "dovecot.lab.test",
            Self::Cyrus => "cyrus.lab.test",
            Self::Courier => "courier.lab.test",
        }
    }

    /// What it calls a folder of this name.
    #[must_use]
    pub fn folder(self, name: &str) -> String {
        match self {
            Self::Courier => format!("INBOX.{name}"),
            Self::Dovecot | Self::Cyrus => name.to_owned(),
        }
    }
}

/// The three of them, running.
#[derive(Debug)]
pub struct MailServers {
    _dovecot: Dovecot,
    _cyrus: Cyrus,
    _courier: Courier,
}

impl MailServers {
    /// Start them in the server's namespace; client and server know their names.
    ///
    /// # Errors
    /// When one is not there, or does not come up.
    pub fn start(scene: &Scene) -> Result<Self> {
        let mut names: Vec<String> = Server::ALL.iter().map(|server| server.name().to_owned()).collect();
        names.extend([NAME4.to_owned(), NAME6.to_owned()]);
        let identity = scene.roots.issue(&Wanted { names, ..Wanted::server() })?;
        let mut hosts = format!(
            "127.0.0.1 localhost\n{} {NAME4}\n{} {NAME6}\n",
            Family::V4.server(),
            Family::V6.server()
        );
        for server in Server::ALL {
            hosts.push_str(&format!("{} {}\n", server.address(), server.name()));
        }
        // Dovecot wants its host's full name, and Cyrus the name of whoever connects: nobody else answers here.
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname")?;
        hosts.push_str(&format!("127.0.0.1 {}\n", host.trim()));
        for family in Family::ALL {
            hosts.push_str(&format!("{} gateway.lab.test\n", family.gateway_wan()));
        }
        scene.lab.client.hosts(&hosts)?;
        scene.lab.server.hosts(&hosts)?;
        let inside = &scene.lab.server;
        let listener = inside.listen(SocketAddr::new(Server::Courier.address(), 993))?;
        Ok(Self {
            _dovecot: Dovecot::start_alone_at(inside, &identity, Server::Dovecot.address())?,
            _cyrus: Cyrus::start(inside, &identity, Server::Cyrus.address())?,
            _courier: Courier::start(inside, vec![listener], identity.server_config(ALL_VERSIONS)?)?,
        })
    }
}

impl Scene {
    /// A session with one of the three, logged in.
    ///
    /// # Errors
    /// What the network, TLS or the server says.
    pub fn mail(&self, server: Server, path: Path) -> Result<Session> {
        let (from, roots) = match path {
            Path::Direct => (&self.lab.server, self.roots.pem()),
            Path::Through => (&self.lab.client, self.installation.authority_pem()),
        };
        let config = Arc::new(client::config(pki::trust(roots)?, ALL_VERSIONS));
        let to = SocketAddr::new(server.address(), 993);
        let mut session = Session::open(from, to, server.name(), &config)
            .with_context(|| format!("{server:?}, {path:?}"))?;
        session.log_in().with_context(|| format!("{server:?}, {path:?}"))?;
        Ok(session)
    }
}
