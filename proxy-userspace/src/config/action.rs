use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::alarm::SessionAlarm;
use super::capabilities::CapabilitySettings;
use super::content::ContentSettings;
use super::general::GeneralSettings;
use super::headers::HeaderSettings;
use super::kinds::{list, text};
use super::names::ObjectName;
use super::privacy::PrivacySettings;
use super::setting::{StandIn as _, section, settings, words};
use super::steering::networks;

/// Looked through once for each connection. An owner has few servers.
const TRUSTED_SERVERS_MAX: usize = 64;

settings! {
    /// `[action]` and `[proxy_action."NAME"]`.
    pub struct Action {
        /// What becomes of STARTTLS, on the ports of `steering.starttls_ports`.
        starttls: StartTls = text::<StartTls>().default(StartTls::Inspect);
        /// What becomes of mail without TLS on the ports of `steering.starttls_ports`.
        cleartext: ClearText = text::<ClearText>().default(ClearText::Refuse);
        /// What becomes of connections to the ports of `steering.implicit_tls_ports`, where TLS begins at once.
        implicit: ImplicitTls = text::<ImplicitTls>().default(ImplicitTls::Inspect);
        /// The TLS profile of connections where TLS begins at once.
        tls_profile: Option<String> = text::<ObjectName>().unset("what `[tls]` says", r#""TLS-Client.Standard""#);
        /// The TLS profile of connections that begin with STARTTLS.
        starttls_profile: Option<String> = text::<ObjectName>()
            .unset("the one of `tls_profile`", r#""TLS-Client.Strict""#);
        /// Which certificates clients are shown.
        certificates: ShownCertificates = text::<ShownCertificates>().default(ShownCertificates::Authority);
        /// Whether mail is judged.
        inspect: Inspection = text::<Inspection>().default(Inspection::Full);
        /// Destinations that are left alone, whatever the other settings say: addresses and networks.
        bypass: Vec<IpNet> = networks(None).default(Vec::new())
            .such_as(r#"["192.0.2.0/24", "2001:db8:25::/48", "198.51.100.7"]"#);
        /// Clients that are left alone, wherever they go: addresses and networks.
        bypass_clients: Vec<IpNet> = networks(None).default(Vec::new())
            .such_as(r#"["192.0.2.25", "2001:db8:1::/64"]"#);
        /// Mail servers of your own, of which you promise that what stands under a UID never changes. Mail of theirs that was
        /// judged before goes on without a look, but for one message of each sixteen. The first that differs ends the trust,
        /// until Postern starts again.
        trust_uid_immutability: Vec<IpAddr> = list(text::<IpAddr>(), Some(TRUSTED_SERVERS_MAX), None)
            .default(Vec::new()).such_as(r#"["198.51.100.7"]"#);
        /// How long a session may last, its lines, and what it tells.
        general: GeneralSettings = section();
        /// What clients may use of IMAP under `inspect = "full"`: the allow-list of docs/imap.md, narrowed. Nothing can be added
        /// to it. All that can be judged passes without these settings, and what cannot be judged never passes.
        capabilities: CapabilitySettings = section();
        /// Events of sessions that raise an alarm, as `[alarm]` says how. An alarm has the fields
        /// of the line that records have of the event.
        alarms: Vec<SessionAlarm> = list(text::<SessionAlarm>(), None, None).default(Vec::new())
            .such_as(r#"["content", "certificate"]"#);
        /// What is forbidden in mail under `inspect = "full"`. The EICAR test file always is.
        content: ContentSettings = section();
        /// Header fields that clients do not see, under `inspect = "full"`.
        headers: HeaderSettings = section();
        /// Whose mail nobody looks at under `inspect = "full"`, and what records say of people.
        privacy: PrivacySettings = section();
    }
}

impl Action {
    /// Nobody looks at anything.
    pub(super) fn leaving_alone() -> Self {
        let everything = [IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())];
        Self { inspect: Inspection::None, bypass: everything.to_vec(), ..Self::stand_in() }
    }

    /// Whether policy leaves this client alone, or this destination.
    #[must_use]
    pub fn bypasses(&self, client: IpAddr, destination: IpAddr) -> bool {
        let within = |networks: &[IpNet], address| networks.iter().any(|network| network.contains(&address));
        within(&self.bypass, destination) || within(&self.bypass_clients, client)
    }

    /// Whether known mail of this server goes on in samples only.
    #[must_use]
    pub fn trusts_uids_of(&self, server: IpAddr) -> bool {
        self.trust_uid_immutability.contains(&server)
    }

    /// The name of the TLS profile where TLS begins at once; without one it is what `[tls]` says.
    #[must_use]
    pub fn implicit_profile(&self) -> Option<&str> {
        self.tls_profile.as_deref()
    }

    /// The same behind STARTTLS.
    #[must_use]
    pub fn starttls_profile(&self) -> Option<&str> {
        self.starttls_profile.as_deref().or(self.implicit_profile())
    }

    /// Whether nobody can log in on ports of STARTTLS: without it, and not in clear text either.
    #[must_use]
    pub fn bars_logins(&self) -> bool {
        (self.starttls, self.cleartext) == (StartTls::Strip, ClearText::Refuse)
    }
}

words! {
    /// What becomes of STARTTLS, on the ports of `steering.starttls_ports`.
    pub enum StartTls as "treatment of STARTTLS" {
        /// TLS is ended on both sides, and mail is judged as `inspect` says.
        Inspect => "inspect",
        /// It is hidden from clients, and a client that asks for it all the same is answered NO; `cleartext` decides about
        /// mail without TLS.
        Strip => "strip",
        /// Client and server have TLS with each other, and nobody looks inside; what comes before is Postern's.
        Bypass => "bypass",
    }
}

words! {
    /// What becomes of mail without TLS on the ports of `steering.starttls_ports`.
    pub enum ClearText as "treatment of clear text" {
        /// A login is refused before the password leaves this machine.
        Refuse => "refuse",
        /// Clear text passes on both sides, and is judged; only with `inspect = "full"`. Whoever is on the path reads and
        /// changes it. With `starttls = "inspect"` or `"bypass"` the client chooses between TLS and clear text.
        Inspect => "inspect",
    }
}

words! {
    /// What becomes of connections to the ports of `steering.implicit_tls_ports`, where TLS begins at once.
    pub enum ImplicitTls as "treatment of implicit TLS" {
        /// TLS is ended on both sides, and mail is judged as `inspect` says.
        Inspect => "inspect",
        /// Client and server have TLS with each other, and nobody looks inside.
        Allow => "allow",
        /// They are refused: the client's handshake is finished and `* BYE` tells the reason.
        Deny => "deny",
    }
}

words! {
    /// Which certificates clients are shown.
    pub enum ShownCertificates as "source of certificates" {
        /// One of `certificates.server` where one has the name that the client asks for, and otherwise a copy of the
        /// server's, signed by `certificates.authority`.
        Authority => "authority",
        /// One of `certificates.server`, and otherwise the default Proxy Server certificate (`certificates.default`), never
        /// a copy. For servers of your own: clients need not trust the authority. The verdict `mirror` on a server's
        /// certificate then means `block`.
        Server => "server",
    }
}

words! {
    /// How deep mail is looked into.
    pub enum Inspection as "depth of inspection" {
        /// It is relayed without being judged.
        None => "none",
        /// Every part of every message is judged before the client gets it (downloads) or the server (uploads). A
        /// forbidden part is overwritten, in a download, and the message is refused, in an upload; a record tells it.
        Full => "full",
    }
}
