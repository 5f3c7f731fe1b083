use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use jiff::Timestamp;

use super::hours::{NamedZone, WeekHours};
use super::kinds::{TextValue as _, list, text};
use super::names::{InterfaceName, ObjectName, ServerName};
use super::setting::{StandIn as _, named, settings, words};
use super::steering::{interfaces, networks};
use super::{Action, Config, Inspection, Offload, Tls, Unmatched};
use crate::words::Service;

/// Each that a policy uses has certificates, sessions and rules of its own.
const OBJECTS_MAX: usize = 256;
/// Looked through one by one for each connection.
pub(super) const POLICIES_MAX: usize = 256;
/// Names of one policy, compared one by one with the client's.
const SNI_PATTERNS_MAX: usize = 256;
/// Entries of `hours` in one policy.
const HOURS_MAX: usize = 64;
/// How records and commands call what `[action]` says.
pub const UNNAMED_ACTION: &str = "[action]";
/// How records and commands call what `[tls]` says.
pub const UNNAMED_PROFILE: &str = "[tls]";
/// The policy, and its action, of what no other policy fits, where that passes.
pub const UNMATCHED: &str = "[unmatched]";
/// The policy of a file without policies.
pub const DEFAULT_POLICY: &str = "default";

settings! {
    /// Objects with names. The files of `conf.d` hold these tables and no others.
    #[derive(Default)]
    pub struct NamedObjects {
        /// Proxy actions, which policies name. `IMAP-Client.Standard` and `IMAP-Server.Standard` are predefined:
        /// `postern action list` shows all, `show` one, and `clone` makes a copy to edit, in a file of `conf.d`.
        proxy_actions as "proxy_action": BTreeMap<String, Action> =
            named(OBJECTS_MAX, "[action]", "IMAP-Client.Office");
        /// TLS profiles, which proxy actions name. `TLS-Client.Standard`, `TLS-Server.Standard` and a `.Strict` of each
        /// are predefined: `postern profile list`, `show` and `clone` as for actions.
        tls_profiles as "tls_profile": BTreeMap<String, Tls> =
            named(OBJECTS_MAX, "[tls]", "TLS-Client.Office");
    }
}

settings! {
    /// One entry of `policy`.
    pub struct PolicyRule {
        /// The name in records and in what `postern explain` prints.
        name: String = text::<ObjectName>().required("give the policy a name", r#""office""#);
        /// Interfaces of the clients: entries of `steering.ingress`, as they are written there. An interface with an entry of
        /// its own does not belong to a pattern beside it.
        ingress: Option<Vec<InterfaceName>> = interfaces().unset("any of `steering.ingress`", r#"["lan0"]"#);
        /// Addresses and networks of the clients.
        from: Option<Vec<IpNet>> = networks(Some("list networks of clients, or remove the line for any"))
            .unset("any", r#"["192.0.2.0/24"]"#);
        /// Addresses and networks of the servers.
        to: Option<Vec<IpNet>> = networks(Some("list networks of servers, or remove the line for any"))
            .unset("any", r#"["198.51.100.7"]"#);
        /// Names that the client asks for in its ClientHello (SNI), exact or with `*.` for the first label. A client may
        /// claim any name: only under `implicit = "inspect"` and `starttls = "inspect"` is it compared with the server's
        /// certificate. Before STARTTLS the first policy that fits without its names decides, but nothing is left alone; with
        /// the ClientHello all are looked through again, over what TLS and judging need.
        sni: Option<Vec<String>> = list(text::<ServerName>(), Some(SNI_PATTERNS_MAX), Some("list at least one name"))
            .unset("any, and none", r#"["imap.example.org", "*.mail.example.org"]"#);
        /// Days of the week and hours, in `time_zone`, at which the connection is accepted. Sessions last longer.
        hours: Option<Vec<WeekHours>> = list(text::<WeekHours>(), Some(HOURS_MAX), Some("list days and hours, or remove the line for any time"))
            .unset("at any time", r#"["Mon-Fri 07:00-19:00", "Sat 08:00-12:00"]"#);
        /// The time zone of `hours`, by its name in the system's database.
        time_zone: NamedZone = text::<NamedZone>().default(NamedZone::utc()).such_as(r#""Europe/Berlin""#);
        /// On which ports.
        tls_support: TlsSupport = text::<TlsSupport>().default(TlsSupport::Enabled);
        /// What becomes of the connection.
        proxy_action: Option<String> = text::<ObjectName>()
            .unset("what `[action]` says", r#""IMAP-Client.Standard""#);
    }
}

words! {
    /// Which ports a policy admits.
    pub enum TlsSupport as "TLS support" {
        /// Only those where a session begins in clear text (143).
        Disabled => "disabled",
        /// Both.
        Enabled => "enabled",
        /// Only those where TLS begins at once (993).
        Required => "required",
    }
}

/// What is known of a connection when policies are looked through.
#[derive(Clone, Copy, Debug)]
pub struct Traffic<'a> {
    /// The client's interface.
    pub ingress: &'a InterfaceName,
    /// The client.
    pub client: IpAddr,
    /// Where it meant to go.
    pub destination: IpAddr,
    /// When it was accepted.
    pub at: Timestamp,
    /// How TLS begins on the port.
    pub service: Service,
    /// The ClientHello's name.
    pub sni: Sni<'a>,
}

/// The name in the ClientHello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sni<'a> {
    /// No ClientHello was read: what policies say of names does not count.
    Unread,
    /// It has none.
    Absent,
    /// It has this one, in lower case.
    Name(&'a str),
}

impl Sni<'_> {
    /// Whether no ClientHello was read.
    #[must_use]
    pub const fn is_unread(self) -> bool {
        matches!(self, Self::Unread)
    }
}

impl PolicyRule {
    /// The policy of a file that has none: everything, as `[action]` says.
    pub(super) fn of_everything() -> Self {
        Self {
            name: DEFAULT_POLICY.to_owned(),
            ingress: None,
            from: None,
            to: None,
            sni: None,
            hours: None,
            time_zone: NamedZone::utc(),
            tls_support: TlsSupport::Enabled,
            proxy_action: None,
        }
    }

    /// Whether this policy may say something of the port: TLS begins there at once, or with STARTTLS.
    #[must_use]
    pub fn admits(&self, ingress: &InterfaceName, service: Service) -> bool {
        self.admits_service(service) && self.ingress.as_ref().is_none_or(|list| list.contains(ingress))
    }

    const fn admits_service(&self, service: Service) -> bool {
        match self.tls_support {
            TlsSupport::Disabled => matches!(service, Service::StartTls),
            TlsSupport::Enabled => true,
            TlsSupport::Required => matches!(service, Service::ImplicitTls),
        }
    }

    /// Whether this policy decides about a connection, if none before it does.
    #[must_use]
    pub fn fits(&self, traffic: &Traffic<'_>) -> bool {
        let within = |networks: &Option<Vec<IpNet>>, address: IpAddr| {
            networks.as_ref().is_none_or(|list| list.iter().any(|network| network.contains(&address)))
        };
        self.admits(traffic.ingress, traffic.service)
            && within(&self.from, traffic.client)
            && within(&self.to, traffic.destination)
            && self.is_in_time(traffic.at)
            && self.fits_name(traffic.sni)
    }

    /// Why this policy does not fit, in words; `None` where it does.
    #[must_use]
    pub fn unfit(&self, traffic: &Traffic<'_>) -> Option<String> {
        if self.fits(traffic) {
            return None;
        }
        let ingress = self.ingress.as_ref().is_some_and(|list| !list.contains(traffic.ingress));
        let outside = |networks: &Option<Vec<IpNet>>, address: IpAddr| {
            networks.as_ref().is_some_and(|list| !list.iter().any(|network| network.contains(&address)))
        };
        let port = if traffic.service == Service::ImplicitTls {
            "TLS begins at once there"
        } else {
            "a session begins in clear text there"
        };
        let reasons = [
            ingress.then(|| format!("ingress is {}", traffic.ingress.as_str())),
            outside(&self.from, traffic.client).then(|| format!("the client is {}", traffic.client)),
            outside(&self.to, traffic.destination).then(|| format!("the server is {}", traffic.destination)),
            (!self.is_in_time(traffic.at)).then(|| format!("it is {}", self.time_zone.words(traffic.at))),
            (!self.admits_service(traffic.service)).then(|| port.to_owned()),
            (!self.fits_name(traffic.sni)).then(|| match traffic.sni {
                Sni::Name(name) => format!("SNI is {name}"),
                Sni::Absent | Sni::Unread => "the client sends no SNI".to_owned(),
            }),
        ];
        Some(format!("does not fit: {}", reasons.into_iter().flatten().collect::<Vec<_>>().join(", ")))
    }

    fn fits_name(&self, sni: Sni<'_>) -> bool {
        match (&self.sni, sni) {
            (None, _) | (_, Sni::Unread) => true,
            (Some(_), Sni::Absent) => false,
            (Some(patterns), Sni::Name(name)) => patterns.iter().any(|pattern| covers(pattern, name)),
        }
    }

    fn is_in_time(&self, at: Timestamp) -> bool {
        self.hours.as_ref().is_none_or(|hours| self.time_zone.holds(hours, at))
    }

    /// The policy of what no other fits, under `unmatched = "pass"`.
    pub(super) fn of_the_unmatched() -> Self {
        let name = UNMATCHED.to_owned();
        Self { name: name.clone(), proxy_action: Some(name), ..Self::of_everything() }
    }

    /// Whether this is the policy of a file that has none.
    #[must_use]
    pub fn is_of_everything(&self) -> bool {
        *self == Self::of_everything()
    }

    /// What has to be so for this policy to fit, in words.
    #[must_use]
    pub fn conditions(&self) -> String {
        let listed = |word: &str, list: Option<Vec<String>>| Some(format!("{word} {}", list?.join(", ")));
        let texts = |networks: &Option<Vec<IpNet>>| {
            networks.as_ref().map(|list| list.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        let ingress = self.ingress.as_ref();
        let ingress = ingress.map(|list| list.iter().map(|name| name.as_str().to_owned()).collect());
        let hours = self.hours.as_ref();
        let hours = hours.map(|list| list.iter().map(WeekHours::show).collect());
        let conditions = [
            listed("ingress", ingress),
            listed("from", texts(&self.from)),
            listed("to", texts(&self.to)),
            listed("SNI", self.sni.clone()),
            listed("hours", hours),
            Some(format!("TLS support {}", self.tls_support.as_str())),
        ];
        conditions.into_iter().flatten().collect::<Vec<_>>().join("; ")
    }

    /// Whether the policy has no condition but the ports.
    #[must_use]
    pub const fn is_unconditional(&self) -> bool {
        self.ingress.is_none()
            && self.from.is_none()
            && self.to.is_none()
            && self.sni.is_none()
            && self.hours.is_none()
    }

    /// The proxy action's name, as records show it.
    #[must_use]
    pub fn action_name(&self) -> &str {
        self.proxy_action.as_deref().unwrap_or(UNNAMED_ACTION)
    }
}

/// `*` stands for exactly one label (RFC 6125 section 6.4.3). The name may be absolute.
pub(super) fn covers(pattern: &str, name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    match pattern.strip_prefix("*.") {
        Some(parent) => name
            .split_once('.')
            .is_some_and(|(label, rest)| !label.is_empty() && rest.eq_ignore_ascii_case(parent)),
        None => name.eq_ignore_ascii_case(pattern),
    }
}

impl Config {
    /// The place of the first policy that fits; `None` where none does.
    #[must_use]
    pub fn policy_for(&self, traffic: &Traffic<'_>) -> Option<usize> {
        self.policies.iter().position(|policy| policy.fits(traffic))
    }

    /// What holds although nobody wrote it: the policy of a file without policies, and that of what no other fits.
    pub(super) fn complete(&mut self) {
        if self.policies.is_empty() {
            self.policies.push(PolicyRule::of_everything());
        } else if self.steering.unmatched == Unmatched::Pass {
            self.policies.push(PolicyRule::of_the_unmatched());
            self.objects.proxy_actions.insert(UNMATCHED.to_owned(), Action::leaving_alone());
        }
    }

    /// Whether some policy may fit connections to this port on this ingress. Other ports are treated as
    /// `steering.unmatched` says, before they are accepted.
    #[must_use]
    pub fn admits(&self, ingress: &InterfaceName, port: u16) -> bool {
        let mut written = self.policies.iter().filter(|policy| policy.name != UNMATCHED);
        self.steering
            .service(port)
            .is_some_and(|service| written.any(|policy| policy.admits(ingress, service)))
    }

    /// The proxy action of this name; without one, what `[action]` says.
    #[must_use]
    pub fn action(&self, name: Option<&str>) -> Option<&Action> {
        match name {
            None => Some(&self.unnamed_action),
            Some(name) => self.objects.proxy_actions.get(name),
        }
    }

    /// The TLS profile of this name; without one, what `[tls]` says.
    #[must_use]
    pub fn profile(&self, name: Option<&str>) -> Option<&Tls> {
        match name {
            None => Some(&self.unnamed_profile),
            Some(name) => self.objects.tls_profiles.get(name),
        }
    }

    /// The proxy actions that policies use, by the names of records, each once.
    pub fn actions_in_use(&self) -> impl Iterator<Item = (&str, &Action)> {
        let used: BTreeMap<&str, &Action> = self
            .policies
            .iter()
            .filter_map(|policy| Some((policy.action_name(), self.action(policy.proxy_action.as_deref())?)))
            .collect();
        used.into_iter()
    }

    /// The TLS profiles of those actions, by the names of records, each once.
    pub fn profiles_in_use(&self) -> impl Iterator<Item = (&str, &Tls)> {
        let used: BTreeMap<&str, &Tls> = self
            .actions_in_use()
            .flat_map(|(_, action)| [action.implicit_profile(), action.starttls_profile()])
            .filter_map(|name| Some((name.unwrap_or(UNNAMED_PROFILE), self.profile(name)?)))
            .collect();
        used.into_iter()
    }

    /// Whether `[action]` says something else than the defaults.
    #[must_use]
    pub fn has_unnamed_action(&self) -> bool {
        self.unnamed_action != Action::stand_in()
    }

    /// What some profile in use asks of the kernel, the most demanding first: measuring, then using.
    #[must_use]
    pub fn offload(&self) -> Offload {
        let asks = |mode| self.profiles_in_use().any(|(_, profile)| profile.offload == mode);
        [Offload::Auto, Offload::Always].into_iter().find(|mode| asks(*mode)).unwrap_or(Offload::Never)
    }

    /// Whether mail is judged under some policy.
    #[must_use]
    pub fn judges_mail(&self) -> bool {
        self.actions_in_use().any(|(_, action)| action.inspect == Inspection::Full)
    }
}
