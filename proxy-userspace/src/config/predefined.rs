//! Objects that every configuration has. Nobody edits, deletes or shadows them.

use super::action::{Action, ShownCertificates};
use super::content::{ContentList, ContentSettings};
use super::policy::NamedObjects;
use super::setting::StandIn as _;
use super::tls::Tls;
use super::{Compliance, Ocsp};

/// For clients of this network and servers of others.
pub const CLIENT_ACTION: &str = "IMAP-Client.Standard";
/// For servers of this network and clients of others.
pub const SERVER_ACTION: &str = "IMAP-Server.Standard";
/// The profile of [`CLIENT_ACTION`].
pub const CLIENT_PROFILE: &str = "TLS-Client.Standard";
/// The profile of [`SERVER_ACTION`].
pub const SERVER_PROFILE: &str = "TLS-Server.Standard";
/// A stricter one for servers of others.
pub const CLIENT_STRICT_PROFILE: &str = "TLS-Client.Strict";
/// A stricter one for servers of this network.
pub const SERVER_STRICT_PROFILE: &str = "TLS-Server.Strict";

/// All of them, with every setting. A stand-in has the defaults, because nothing in these groups has to be written.
pub(super) fn objects() -> NamedObjects {
    // What a computer runs, mounts or follows at a double click, and what hardly anybody mails for another reason.
    let lists = vec![
        ContentList::Executables,
        ContentList::Scripts,
        ContentList::DiskImages,
        ContentList::Shortcuts,
        ContentList::RareArchives,
    ];
    let content = ContentSettings { lists, ..ContentSettings::stand_in() };
    let action = |profile: &str| Action {
        tls_profile: Some(profile.to_owned()),
        content: content.clone(),
        ..Action::stand_in()
    };
    let server_action = Action { certificates: ShownCertificates::Server, ..action(SERVER_PROFILE) };
    let actions = [(CLIENT_ACTION, action(CLIENT_PROFILE)), (SERVER_ACTION, server_action)];
    // Servers of others are many and old; an owner's own server meets TLS that keeps to the RFCs.
    let client = Tls { ocsp: Ocsp::Lenient, ..Tls::default() };
    let server = Tls { compliance: Compliance::Enforced, ..Tls::default() };
    let profiles = [
        (CLIENT_STRICT_PROFILE, client.clone().strict()),
        (CLIENT_PROFILE, client),
        (SERVER_STRICT_PROFILE, server.clone().strict()),
        (SERVER_PROFILE, server),
    ];
    NamedObjects {
        proxy_actions: actions.into_iter().map(|(name, action)| (name.to_owned(), action)).collect(),
        tls_profiles: profiles.into_iter().map(|(name, profile)| (name.to_owned(), profile)).collect(),
    }
}
