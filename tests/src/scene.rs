//! A lab with keys, a configuration and servers: what most tests begin with.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use anyhow::{Result, ensure};
use rustls::{ALL_VERSIONS, ClientConfig, ServerConfig, SupportedProtocolVersion};

use crate::client::{self, Session};
use crate::crowd::Crowd;
use crate::imap_server::ImapServer;
use crate::lab::{Family, Lab, Shape};
use crate::pki::{self, Authority, Identity, Wanted};
use crate::postern::{Installation, Policy, Postern};

/// The message that lab servers hold, unless a test says otherwise.
pub const MESSAGE: &[u8] = b"From: bob@lab.test\r\nSubject: hello\r\n\r\nHello, Alice.\r\n";

/// Everything around a daemon under test.
pub struct Scene {
    /// The namespaces.
    pub lab: Lab,
    /// The authority that Postern is told to trust.
    pub roots: Authority,
    /// A good certificate for the lab's server.
    pub identity: Identity,
    /// Postern's files.
    pub installation: Installation,
}

impl Scene {
    /// Put it up.
    ///
    /// # Errors
    /// Without root, packages or the binary.
    pub fn new(policy: &Policy) -> Result<Self> {
        Self::shaped(policy, Shape::default())
    }

    /// Put it up in a lab with more around it.
    ///
    /// # Errors
    /// Without root, packages or the binary.
    pub fn shaped(policy: &Policy, shape: Shape) -> Result<Self> {
        let lab = Lab::shaped(shape)?;
        let roots = Authority::new("Lab Root")?;
        let identity = roots.issue(&Wanted::server())?;
        let installation = Installation::new(policy, &roots)?;
        Ok(Self { lab, roots, identity, installation })
    }

    /// Start the daemon.
    ///
    /// # Errors
    /// Shows what it said.
    pub fn start(&self) -> Result<Postern<'_>> {
        self.installation.start(&self.lab.gateway)
    }

    /// The lab's IMAP server at the server's addresses, with the good certificate and one message.
    ///
    /// # Errors
    /// When a port is taken.
    pub fn serve(&self) -> Result<ImapServer> {
        self.serve_with(self.identity.server_config(ALL_VERSIONS)?, vec![MESSAGE.to_vec()])
    }

    /// The same, at the addresses of one family: those of the other are free for another server.
    ///
    /// # Errors
    /// When a port is taken.
    pub fn serve_at(&self, family: Family) -> Result<ImapServer> {
        self.listen(&[family], self.identity.server_config(ALL_VERSIONS)?, vec![MESSAGE.to_vec()])
    }

    /// The lab's IMAP server with this TLS configuration and these messages.
    ///
    /// # Errors
    /// When a port is taken.
    pub fn serve_with(&self, tls: ServerConfig, messages: Vec<Vec<u8>>) -> Result<ImapServer> {
        self.listen(&Family::ALL, tls, messages)
    }

    /// The lab's IMAP server with these messages, which takes logins in clear text, too.
    ///
    /// # Errors
    /// When a port is taken.
    pub fn serve_in_clear(&self, messages: Vec<Vec<u8>>) -> Result<ImapServer> {
        let tls = self.identity.server_config(ALL_VERSIONS)?;
        ImapServer::in_clear(self.listeners(&Family::ALL)?, tls, messages)
    }

    /// The lab's IMAP server at these ports as well, with the good certificate and one message.
    ///
    /// # Errors
    /// When a port is taken.
    pub fn serve_also(&self, further: &[u16]) -> Result<ImapServer> {
        let mut listeners = self.listeners(&Family::ALL)?;
        for family in Family::ALL {
            for port in further {
                listeners.push(self.lab.server.listen(self.server(family, *port))?);
            }
        }
        let tls = self.identity.server_config(ALL_VERSIONS)?;
        ImapServer::start(listeners, tls, vec![MESSAGE.to_vec()], false)
    }

    fn listen(&self, families: &[Family], tls: ServerConfig, messages: Vec<Vec<u8>>) -> Result<ImapServer> {
        ImapServer::start(self.listeners(families)?, tls, messages, false)
    }

    fn listeners(&self, families: &[Family]) -> Result<Vec<TcpListener>> {
        let mut listeners = Vec::new();
        for family in families {
            for address in [family.server(), family.other_server()] {
                for port in [143, 993] {
                    listeners.push(self.lab.server.listen(SocketAddr::new(address, port))?);
                }
            }
        }
        Ok(listeners)
    }

    /// A client that trusts only Postern's authority.
    ///
    /// # Errors
    /// When the authority's file is no certificate.
    pub fn client(&self) -> Result<Arc<ClientConfig>> {
        self.client_with(ALL_VERSIONS)
    }

    /// The same, with these versions only.
    ///
    /// # Errors
    /// When the authority's file is no certificate.
    pub fn client_with(&self, versions: &[&'static SupportedProtocolVersion]) -> Result<Arc<ClientConfig>> {
        Ok(Arc::new(client::config(pki::trust(self.installation.authority_pem())?, versions)))
    }

    /// A session of that client with the server, up to and with the greeting.
    ///
    /// # Errors
    /// What the network, TLS or the server says.
    pub fn session(&self, family: Family, port: u16) -> Result<Session> {
        Session::open(&self.lab.client, self.server(family, port), family.name(), &self.client()?)
    }

    /// The same, logged in and with its mailbox open.
    ///
    /// # Errors
    /// What the network, TLS or the server says.
    pub fn logged_in(&self, family: Family, port: u16) -> Result<Session> {
        let mut session = self.session(family, port)?;
        session.enter()?;
        Ok(session)
    }

    /// A session of that client with the server, behind STARTTLS; nothing is read inside TLS yet.
    ///
    /// # Errors
    /// What the network or TLS says.
    pub fn starttls(&self, family: Family) -> Result<Session> {
        let mut session = Session::clear(self.lab.client.connect(self.server(family, 143))?);
        session.greeting()?;
        session.starttls(family.name(), &self.client()?)
    }

    /// So many sessions of that client, logged in, in both families and on both ports by turns.
    ///
    /// # Errors
    /// When one cannot be opened.
    pub fn sessions(&self, count: usize) -> Result<Crowd> {
        let config = self.client()?;
        Crowd::open(count, |number| {
            let family = if number & 1 == 0 { Family::V4 } else { Family::V6 };
            let to = self.server(family, if number & 2 == 0 { 143 } else { 993 });
            let mut session = Session::open(&self.lab.client, to, family.name(), &config)?;
            session.enter()?;
            Ok(session)
        })
    }

    /// That a client gets its mail.
    ///
    /// # Errors
    /// What the network, TLS or the server says, or that another message came.
    pub fn fetches(&self) -> Result<()> {
        let mut session = self.session(Family::V4, 993)?;
        session.enter()?;
        ensure!(session.fetch(1)? == MESSAGE, "another message came");
        session.logout()
    }

    /// The fingerprint of the certificate that a client with these roots is shown.
    ///
    /// # Errors
    /// What the network, TLS or the server says.
    pub fn shown(&self, to: SocketAddr, roots: &str) -> Result<String> {
        let config = Arc::new(client::config(pki::trust(roots)?, ALL_VERSIONS));
        let session = Session::open(&self.lab.client, to, Family::V4.name(), &config)?;
        let shown = session.shown()?.fingerprint;
        session.logout()?;
        Ok(shown)
    }

    /// The server's other socket address.
    #[must_use]
    pub const fn other(&self, port: u16) -> SocketAddr {
        SocketAddr::new(Family::V4.other_server(), port)
    }

    /// The server's socket address.
    #[must_use]
    pub const fn server(&self, family: Family, port: u16) -> SocketAddr {
        SocketAddr::new(family.server(), port)
    }

    /// Prove that nothing is left behind, and take everything down.
    ///
    /// # Errors
    /// Says what was left.
    pub fn finish(self) -> Result<()> {
        self.lab.finish()
    }
}
