use std::net::IpAddr;

use ipnet::IpNet;

use super::fault::Reason;
use super::kinds::{list, text};
use super::names::NamePattern;
use super::setting::{section, settings, words};
use super::steering::networks;

/// Each is compared with each file name of each message.
const NAME_PATTERNS_MAX: usize = 1000;
/// Looked through once for each connection. An owner has few servers.
const TRUSTED_SERVERS_MAX: usize = 64;

settings! {
    /// `[action]`.
    pub struct Action {
        /// What becomes of STARTTLS on port 143.
        starttls: StartTlsAction = text::<StartTlsAction>().default(StartTlsAction::Inspect);
        /// What becomes of a login without TLS.
        cleartext: CleartextAction = text::<CleartextAction>().default(CleartextAction::Refuse);
        /// Whether mail is judged.
        inspect: Inspection = text::<Inspection>().default(Inspection::Full);
        /// Destinations that are left alone: addresses and networks.
        bypass: Vec<IpNet> = networks(None).default(Vec::new())
            .such_as(r#"["192.0.2.0/24", "2001:db8:25::/48", "198.51.100.7"]"#);
        /// Mail servers of your own, of which you promise that what stands under a UID never changes. Mail of theirs that was
        /// judged before goes on without a look, but for one message of each sixteen. The first that differs ends the trust,
        /// until Postern starts again.
        trust_uid_immutability: Vec<IpAddr> = list(text::<IpAddr>(), Some(TRUSTED_SERVERS_MAX), None)
            .default(Vec::new()).such_as(r#"["198.51.100.7"]"#);
        /// What is forbidden in mail under `inspect = "full"`. The EICAR test file always is.
        content: ContentSettings = section();
    }
}

impl Action {
    /// Whether policy leaves this destination alone.
    #[must_use]
    pub fn bypasses(&self, destination: IpAddr) -> bool {
        self.bypass.iter().any(|net| net.contains(&destination))
    }
}

settings! {
    /// `[action.content]`: hard rules about parts of mail.
    pub struct ContentSettings {
        /// Forbidden file names, as patterns: `*` stands for any characters, `?` for one.
        names: Vec<NamePattern> = list(text::<NamePattern>(), Some(NAME_PATTERNS_MAX), None).default(Vec::new())
            .such_as(r#"["*.exe", "*.scr", "invoice-??.js"]"#);
        /// Forbidden types, as a part's own octets show them, whatever its name and its declared type say. An empty list
        /// forbids none.
        types: Vec<ForbiddenType> = list(text::<ForbiddenType>(), None, None).default(ForbiddenType::ALL.to_vec());
    }
}

words! {
    /// What becomes of STARTTLS.
    pub enum StartTlsAction as "treatment of STARTTLS" {
        /// It is taken over. This version knows no other treatment.
        Inspect => "inspect",
    }
    refuse "strip" | "bypass" => Reason::NotYet {
        what: "every STARTTLS is taken over; \"strip\" and \"bypass\" come with a later release",
        remedy: "use \"inspect\" or remove the line; list destinations to leave alone in action.bypass",
    };
}

words! {
    /// What becomes of a login without TLS.
    pub enum CleartextAction as "treatment of clear text" {
        /// It is refused before the password leaves this machine. This version knows no other treatment.
        Refuse => "refuse",
    }
    refuse "inspect" => Reason::NotYet {
        what: "logins in clear text are always refused; \"inspect\" comes with a later release",
        remedy: "use \"refuse\" or remove the line",
    };
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

words! {
    /// Types of content that can be forbidden.
    pub enum ForbiddenType as "type of content" {
        /// Programs for any machine.
        Executable => "executable",
    }
}
