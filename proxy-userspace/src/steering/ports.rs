//! What becomes of mail for each listed port, on each ingress.

use std::collections::{BTreeMap, BTreeSet};

use proxy_ebpf::{PortRole, PortUse, port_role_key, port_word, with_port_bits};

use crate::config::{Config, InterfaceName, SteeringConfig, Unmatched};

/// The role of each listed port on each ingress: the one value that rules, chain and programs follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortPlan {
    ingresses: Vec<IngressPorts>,
}

/// The listed ports of one ingress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngressPorts {
    /// As configured.
    pub ingress: InterfaceName,
    /// Each listed port with its role, in the order of the configuration.
    pub ports: Vec<(u16, PortRole)>,
}

impl IngressPorts {
    /// The ports that have this role.
    pub fn with(&self, role: PortRole) -> impl Iterator<Item = u16> {
        self.ports.iter().filter(move |(_, other)| *other == role).map(|(port, _)| *port)
    }

    /// The ports that nothing for is forwarded: what is steered, and what is refused.
    pub fn guarded(&self) -> impl Iterator<Item = u16> {
        self.ports.iter().filter(|(_, role)| *role != PortRole::Left).map(|(port, _)| *port)
    }
}

impl PortPlan {
    /// As the policies of a configuration say.
    #[must_use]
    pub fn of_policies(config: &Config) -> Self {
        Self::admitting(&config.steering, |ingress, port| config.admits(ingress, port))
    }

    /// The same, but a port that `now` steers is not left alone: its sessions go on, and new connections are left alone by
    /// the worker.
    #[must_use]
    pub fn keeping(mut self, now: &Self) -> Self {
        for of in &mut self.ingresses {
            let before = now.ingresses.iter().find(|before| before.ingress == of.ingress);
            let is_steered =
                |port| before.is_some_and(|before| before.with(PortRole::Steered).any(|of| of == port));
            for (port, role) in &mut of.ports {
                if *role == PortRole::Left && is_steered(*port) {
                    *role = PortRole::Steered;
                }
            }
        }
        self
    }

    /// Every listed port is steered on every ingress.
    #[must_use]
    pub fn steering_all(settings: &SteeringConfig) -> Self {
        Self::admitting(settings, |_, _| true)
    }

    /// A port that is admitted on an ingress is steered there. Others are refused or left alone, as `steering.unmatched`
    /// says.
    #[must_use]
    pub fn admitting(settings: &SteeringConfig, admits: impl Fn(&InterfaceName, u16) -> bool) -> Self {
        let otherwise = match settings.unmatched {
            Unmatched::Refuse => PortRole::Refused,
            Unmatched::Pass => PortRole::Left,
        };
        let ports_of = |ingress: &InterfaceName| {
            let role = |port| if admits(ingress, port) { PortRole::Steered } else { otherwise };
            settings.ports().map(|port| (port, role(port))).collect()
        };
        let of =
            |ingress: &InterfaceName| IngressPorts { ingress: ingress.clone(), ports: ports_of(ingress) };
        Self { ingresses: settings.ingress.iter().map(of).collect() }
    }

    /// In the order of `steering.ingress`.
    #[must_use]
    pub fn ingresses(&self) -> &[IngressPorts] {
        &self.ingresses
    }

    /// Of the ingress at this place of the list.
    pub(super) fn of(&self, place: u32) -> Option<&IngressPorts> {
        self.ingresses.get(usize::try_from(place).ok()?)
    }

    /// Every port that is steered or refused on some ingress.
    #[must_use]
    pub fn guarded(&self) -> BTreeSet<u16> {
        self.ingresses.iter().flat_map(IngressPorts::guarded).collect()
    }

    /// The entries of the programs' two maps: words of uses, and the roles that an ingress decides.
    pub(super) fn maps(&self) -> (BTreeMap<u32, u64>, BTreeMap<u32, PortRole>) {
        let (mut words, mut roles) = (BTreeMap::new(), BTreeMap::new());
        for (port, by_ingress) in self.by_port() {
            let all = |role: PortRole| by_ingress.iter().all(|other| *other == role);
            let of = match () {
                () if all(PortRole::Left) => continue,
                () if all(PortRole::Steered) => PortUse::Steered,
                () => PortUse::ByIngress,
            };
            let word = words.entry(port_word(port)).or_insert(0);
            *word = with_port_bits(*word, port, of);
            if of == PortUse::ByIngress {
                roles.extend((0..).zip(by_ingress).map(|(place, role)| (port_role_key(place, port), role)));
            }
        }
        (words, roles)
    }

    /// Every port that is listed, with its roles on the ingresses in their order.
    fn by_port(&self) -> impl Iterator<Item = (u16, Vec<PortRole>)> {
        let listed: BTreeSet<u16> =
            self.ingresses.iter().flat_map(|of| of.ports.iter().map(|(port, _)| *port)).collect();
        listed.into_iter().map(|port| {
            let role = |of: &IngressPorts| {
                of.ports.iter().find(|(other, _)| *other == port).map_or(PortRole::Left, |(_, role)| *role)
            };
            (port, self.ingresses.iter().map(role).collect())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn settings(unmatched: &str) -> SteeringConfig {
        let text = format!(
            "[steering]\ningress = [\"lan0\", \"lan1\"]\negress = [\"wan0\"]\nstarttls_ports = [143, 1143]\n\
             unmatched = \"{unmatched}\"\n[certificates]\nauthority = {{ cert = \"a.pem\", key = \"a.key\" }}\n"
        );
        crate::config::parse(&text, Path::new("postern.toml")).expect("config").steering
    }

    #[test]
    fn what_is_not_admitted_is_refused_or_left_as_the_setting_says_and_per_ingress() {
        let admits = |ingress: &InterfaceName, port| ingress.as_str() == "lan0" || port == 993;
        for (unmatched, role) in [("refuse", PortRole::Refused), ("pass", PortRole::Left)] {
            let plan = PortPlan::admitting(&settings(unmatched), admits);
            let [first, second] = plan.ingresses() else { panic!("two") };
            assert!(first.with(PortRole::Steered).eq([143, 1143, 993]));
            assert!(second.with(PortRole::Steered).eq([993]));
            assert!(second.with(role).eq([143, 1143]), "{unmatched}");
            assert!(plan.by_port().any(|of| of == (143, vec![PortRole::Steered, role])));
            assert_eq!(second.guarded().count(), if unmatched == "pass" { 1 } else { 3 });
        }
    }

    #[test]
    fn a_port_with_sessions_is_not_left_alone_but_may_be_refused() {
        let all = PortPlan::steering_all(&settings("pass"));
        let none = |unmatched| PortPlan::admitting(&settings(unmatched), |_, _| false);
        assert_eq!(none("pass").keeping(&all), all);
        assert_eq!(none("pass").keeping(&none("pass")), none("pass"));
        assert_eq!(none("refuse").keeping(&all), none("refuse"));
    }

    #[test]
    fn a_port_that_is_left_on_every_ingress_is_nobodys() {
        let plan = PortPlan::admitting(&settings("pass"), |_, port| port != 1143);
        assert!(plan.guarded().into_iter().eq([143, 993]));
        assert!(PortPlan::steering_all(&settings("refuse")).guarded().into_iter().eq([143, 993, 1143]));
    }
}
