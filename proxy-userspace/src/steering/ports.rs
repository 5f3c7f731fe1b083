//! What becomes of mail for each listed port, on each ingress.

use std::collections::{BTreeMap, BTreeSet};

use proxy_ebpf::{PortRole, PortUse, port_role_key, port_word, with_port_bits};

use super::succession::Leaving;
use crate::config::{Config, InterfaceName, SteeringConfig, Unmatched};

/// The role of each listed port on each ingress, and what only sessions of an earlier configuration use: the one value
/// that rules, chain and programs follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortPlan {
    /// In the order of `steering.ingress`; behind them those that a reload took out.
    pub(super) ingresses: Vec<IngressPorts>,
    /// What else a reload took out.
    pub(super) leaving: Leaving,
}

/// The listed ports of one ingress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngressPorts {
    /// As configured.
    pub ingress: InterfaceName,
    /// By which the programs know it. It stays the same while the ingress is served.
    pub(super) number: u32,
    /// It stands in `steering.ingress`.
    pub(super) is_listed: bool,
    /// Each listed port with its role, in the order of the configuration.
    pub ports: Vec<(u16, PortRole)>,
    /// Ports that a reload took out or left alone, each with the last era in which new connections were taken. New
    /// connections go where routing sends them; sessions go on.
    pub(super) ending: BTreeMap<u16, u64>,
}

impl IngressPorts {
    /// What the classifier does with a port. Where sessions end, it marks their packets and leaves others to the rules, as
    /// on a port that is refused. There is no rule for it, so that others go where routing sends them.
    fn role_in_programs(&self, port: u16) -> PortRole {
        let listed = self.ports.iter().find(|(other, _)| *other == port).map(|(_, role)| *role);
        match listed {
            Some(PortRole::Left) | None if self.ending.contains_key(&port) => PortRole::Refused,
            listed => listed.unwrap_or(PortRole::Left),
        }
    }

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
        let of = |(number, ingress): (u32, &InterfaceName)| IngressPorts {
            ingress: ingress.clone(),
            number,
            is_listed: true,
            ports: ports_of(ingress),
            ending: BTreeMap::new(),
        };
        Self { ingresses: (0..).zip(&settings.ingress).map(of).collect(), leaving: Leaving::default() }
    }

    /// In the order of `steering.ingress`; behind them those that a reload took out and that still have sessions.
    #[must_use]
    pub fn ingresses(&self) -> &[IngressPorts] {
        &self.ingresses
    }

    /// Of the ingress at this place of [`Self::ingresses`].
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
                let numbers = self.ingresses.iter().map(|of| of.number);
                roles.extend(
                    numbers.zip(by_ingress).map(|(number, role)| (port_role_key(number, port), role)),
                );
            }
        }
        (words, roles)
    }

    /// Every port that programs know, with its roles on the ingresses in their order.
    fn by_port(&self) -> impl Iterator<Item = (u16, Vec<PortRole>)> {
        let of = |of: &IngressPorts| {
            of.ports.iter().map(|(port, _)| *port).chain(of.ending.keys().copied()).collect::<Vec<_>>()
        };
        let known: BTreeSet<u16> = self.ingresses.iter().flat_map(of).collect();
        known.into_iter().map(|port| {
            (port, self.ingresses.iter().map(|of: &IngressPorts| of.role_in_programs(port)).collect())
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
    fn a_port_that_is_left_on_every_ingress_is_nobodys() {
        let plan = PortPlan::admitting(&settings("pass"), |_, port| port != 1143);
        assert!(plan.guarded().into_iter().eq([143, 993]));
        assert!(PortPlan::steering_all(&settings("refuse")).guarded().into_iter().eq([143, 993, 1143]));
    }
}
