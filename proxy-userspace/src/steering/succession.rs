//! The plan that follows on another one, when a reload changes what is steered: what stays keeps its number in the
//! programs, and what goes is kept for the sessions that use it.
//!
//! An era is the time between two changes of steering. A session belongs to the era in which it was accepted.

use std::collections::{BTreeMap, BTreeSet};

use proxy_ebpf::{INGRESS_MAX, PORTS_MAX};

use super::ports::{IngressPorts, PortPlan};
use crate::config::{InterfaceName, Source, SteeringConfig};

/// Roles that the programs have room for.
const ROLES_MAX: usize = (INGRESS_MAX * PORTS_MAX) as usize;
/// Instead of a last era: the settings to come list it.
const COMING: u64 = u64::MAX;

/// What sessions of an earlier configuration use beside ingresses and their ports, each with the last era in which new
/// sessions did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Leaving {
    /// Interfaces towards servers.
    egress: BTreeMap<InterfaceName, u64>,
    /// Servers see clients' addresses.
    returning: Option<u64>,
}

/// Why a plan cannot follow on another one while the daemon runs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SuccessionFault {
    /// Sessions use an interface in one direction, and new ones would use it in the other.
    #[error(
        "\"{name}\" in steering.{side} means interfaces that sessions still use as {other} (\"{held}\"): an interface changes \
         sides with a restart, or by a reload that takes it out and another one when its sessions have ended"
    )]
    ChangesSides {
        /// The new entry.
        name: String,
        /// Its list.
        side: &'static str,
        /// The other list.
        other: &'static str,
        /// The entry of the other list.
        held: String,
    },
    /// The programs have no number for another ingress.
    #[error(
        "steering.ingress has no room for \"{name}\": {INGRESS_MAX} ingresses are served at most, those included that a reload \
         took out and that still have sessions; reload again when these have ended, or restart"
    )]
    TooManyIngresses {
        /// The new entry.
        name: String,
    },
    /// The programs have no room for so many ports.
    #[error(
        "{count} ports of ingresses are more than {ROLES_MAX}, those included that a reload took out and that still have \
         sessions; reload again when these have ended, or restart"
    )]
    TooManyPorts {
        /// Ports, counted on each ingress.
        count: usize,
    },
}

impl PortPlan {
    /// This plan as what follows on `before`, whose settings and whose era are given. An ingress keeps its number; what
    /// is no longer listed is kept for the sessions of that era and of earlier ones.
    ///
    /// # Errors
    /// The change needs a restart, or the end of some sessions.
    pub fn following(
        mut self,
        before: &Self,
        (was, will): (&SteeringConfig, &SteeringConfig),
        era: u64,
    ) -> Result<Self, SuccessionFault> {
        change_sides(before, was, will)?;
        let mut taken: BTreeSet<u32> = before.ingresses.iter().map(|of| of.number).collect();
        for of in &mut self.ingresses {
            let earlier = before.ingresses.iter().find(|earlier| earlier.ingress == of.ingress);
            of.number = match earlier {
                Some(earlier) => earlier.number,
                None => (0..INGRESS_MAX).find(|number| !taken.contains(number)).ok_or_else(|| {
                    SuccessionFault::TooManyIngresses { name: of.ingress.as_str().to_owned() }
                })?,
            };
            taken.insert(of.number);
            if let Some(earlier) = earlier {
                let guarded: BTreeSet<u16> = of.guarded().collect();
                of.ending = earlier.used(era);
                of.ending.retain(|port, _| !guarded.contains(port));
            }
        }
        for earlier in &before.ingresses {
            let ending = earlier.used(era);
            if self.ingresses.iter().all(|of| of.ingress != earlier.ingress) && !ending.is_empty() {
                let (ingress, number) = (earlier.ingress.clone(), earlier.number);
                let of = IngressPorts { ingress, number, is_listed: false, ports: Vec::new(), ending };
                self.ingresses.push(of);
            }
        }
        self.leaving = before.leaving.following((was, will), era);
        match self.maps().1.len() {
            count if count > ROLES_MAX => Err(SuccessionFault::TooManyPorts { count }),
            _ => Ok(self),
        }
    }

    /// The same, with what sessions of the settings to come use towards servers: programs are there before them.
    #[must_use]
    pub fn awaiting(&self, was: &SteeringConfig, will: &SteeringConfig) -> Self {
        let mut plan = self.clone();
        let new = will.egress.iter().filter(|name| !was.egress.contains(name));
        plan.leaving.egress.extend(new.map(|name| (name.clone(), COMING)));
        if will.source == Source::Client {
            plan.leaving.returning = Some(COMING);
        }
        plan
    }

    /// The same, without what only sessions of eras before this one used.
    #[must_use]
    pub fn released(&self, oldest: u64) -> Self {
        let mut plan = self.clone();
        for of in &mut plan.ingresses {
            of.ending.retain(|_, last| *last >= oldest);
        }
        plan.ingresses.retain(|of| of.is_listed || !of.ending.is_empty());
        plan.leaving.egress.retain(|_, last| *last >= oldest);
        plan.leaving.returning = plan.leaving.returning.filter(|last| *last >= oldest);
        plan
    }

    /// The same, as it is without sessions.
    pub(super) fn settled(&self) -> Self {
        Self { leaving: Leaving::default(), ..self.released(u64::MAX) }
    }

    /// Ingresses that a reload took out and that still have sessions.
    pub(super) fn leaving_ingresses(&self) -> impl Iterator<Item = &InterfaceName> {
        self.ingresses.iter().filter(|of| !of.is_listed).map(|of| &of.ingress)
    }

    /// Interfaces towards servers that `steering.egress` does not list, and that sessions use.
    pub(super) fn further_egress(&self) -> impl Iterator<Item = &InterfaceName> {
        self.leaving.egress.keys()
    }

    /// Whether sessions use interfaces that the settings do not list.
    pub(super) fn has_leaving(&self) -> bool {
        self.leaving_ingresses().chain(self.further_egress()).next().is_some()
    }

    /// Whether some sessions have clients' addresses towards servers, whatever `steering.source` says.
    pub(super) const fn has_returning(&self) -> bool {
        self.leaving.returning.is_some()
    }
}

impl IngressPorts {
    /// The number by which the programs know the ingress.
    #[must_use]
    pub const fn number(&self) -> u32 {
        self.number
    }

    /// The ports that may have sessions. Those of new connections have them until this era.
    fn used(&self, era: u64) -> BTreeMap<u16, u64> {
        let mut used = self.ending.clone();
        used.extend(self.guarded().map(|port| (port, era)));
        used
    }
}

impl Leaving {
    fn following(&self, (was, will): (&SteeringConfig, &SteeringConfig), era: u64) -> Self {
        let mut egress = self.egress.clone();
        egress.extend(was.egress.iter().map(|name| (name.clone(), era)));
        egress.retain(|name, _| !will.egress.contains(name));
        let returning = match (was.source, will.source) {
            (_, Source::Client) => None,
            (Source::Client, Source::Gateway) => Some(era),
            (Source::Gateway, Source::Gateway) => self.returning,
        };
        Self { egress, returning }
    }
}

/// An interface has programs of one side only.
fn change_sides(
    before: &PortPlan,
    was: &SteeringConfig,
    will: &SteeringConfig,
) -> Result<(), SuccessionFault> {
    let ingresses: Vec<_> = before.ingresses.iter().map(|of| &of.ingress).collect();
    let egresses: Vec<_> = was.egress.iter().chain(before.further_egress()).collect();
    for (list, (side, other), held) in
        [(&will.ingress, ("ingress", "egress"), egresses), (&will.egress, ("egress", "ingress"), ingresses)]
    {
        for name in list {
            if let Some(held) = held.iter().find(|held| held.overlaps(name)) {
                let (name, held) = (name.as_str().to_owned(), held.as_str().to_owned());
                return Err(SuccessionFault::ChangesSides { name, side, other, held });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proxy_ebpf::{PortRole, port_role_key};

    use super::*;

    fn settings(ingress: &str, egress: &str, further: &str) -> SteeringConfig {
        let text = format!(
            "[steering]\ningress = [{ingress}]\negress = [{egress}]\n{further}\n[certificates]\n\
             authority = {{ cert = \"a.pem\", key = \"a.key\" }}\n"
        );
        crate::config::parse(&text, Path::new("postern.toml")).expect("config").steering
    }

    /// What follows when these settings, under which everything is steered, are changed in that era.
    fn change(before: &PortPlan, was: &SteeringConfig, will: &SteeringConfig, era: u64) -> PortPlan {
        PortPlan::steering_all(will).following(before, (was, will), era).expect("a plan")
    }

    /// Name, number and ports whose sessions go on.
    fn numbers(plan: &PortPlan) -> Vec<(&str, u32, Vec<u16>)> {
        plan.ingresses
            .iter()
            .map(|of| (of.ingress.as_str(), of.number, of.ending.keys().copied().collect()))
            .collect()
    }

    #[test]
    fn an_ingress_keeps_its_number_and_one_that_goes_keeps_it_until_its_sessions_are_over() {
        let [both, swapped, second] = [r#""lan0", "lan1""#, r#""lan2", "lan1""#, r#""lan1""#]
            .map(|ingress| settings(ingress, r#""wan0""#, ""));
        let first = PortPlan::steering_all(&both);
        let next = change(&first, &both, &swapped, 1);
        assert_eq!(numbers(&next), [("lan2", 2, vec![]), ("lan1", 1, vec![]), ("lan0", 0, vec![143, 993])]);
        // The rules and the chain know nothing of what goes; the programs mark its sessions.
        assert_eq!(next.guarded(), first.guarded());
        assert_eq!(next.maps().1.get(&port_role_key(0, 143)), Some(&PortRole::Refused));
        let last = change(&next, &swapped, &second, 2);
        assert_eq!(
            numbers(&last),
            [("lan1", 1, vec![]), ("lan2", 2, vec![143, 993]), ("lan0", 0, vec![143, 993])]
        );
        assert_eq!(last.released(1), last, "sessions of the first era live");
        assert_eq!(numbers(&last.released(2)), [("lan1", 1, vec![]), ("lan2", 2, vec![143, 993])]);
        let free = last.released(3);
        assert_eq!(numbers(&free), [("lan1", 1, vec![])]);
        // A number that is free is given again.
        assert_eq!(numbers(&change(&free, &second, &both, 3))[0], ("lan0", 0, vec![]));
        // Who comes back before the end has its number, and is listed again.
        assert_eq!(numbers(&change(&last, &second, &both, 3))[0], ("lan0", 0, vec![]));
    }

    #[test]
    fn a_port_that_is_left_alone_or_taken_out_ends_with_its_sessions_and_a_refused_one_is_refused() {
        let [was, fewer, pass] = ["", "implicit_tls_ports = [1993]", "unmatched = \"pass\""]
            .map(|further| settings(r#""lan0""#, r#""wan0""#, further));
        let first = PortPlan::steering_all(&was);
        let next = change(&first, &was, &fewer, 1);
        assert_eq!(numbers(&next), [("lan0", 0, vec![993])]);
        assert!(next.guarded().into_iter().eq([143, 1993]));
        assert!(next.maps().0.values().any(|word| *word != 0));
        let none = |will: &SteeringConfig, before: &PortPlan, was: &SteeringConfig, era| {
            PortPlan::admitting(will, |_, _| false).following(before, (was, will), era).unwrap()
        };
        let refused = none(&was, &first, &was, 1);
        assert_eq!(numbers(&refused), [("lan0", 0, vec![])]);
        // Sessions go on at a port that was refused while they ran.
        let left = none(&pass, &refused, &was, 2);
        assert_eq!(numbers(&left), [("lan0", 0, vec![143, 993])]);
        assert!(left.guarded().is_empty());
        assert_eq!(left.released(3).maps(), (BTreeMap::new(), BTreeMap::new()));
    }

    #[test]
    fn what_leads_to_servers_is_there_before_and_stays_until_its_sessions_are_over() {
        let gateway = settings(r#""lan0""#, r#""wan0""#, "");
        let client = settings(r#""lan0""#, r#""wan1""#, "source = \"client\"");
        let names =
            |plan: &PortPlan| plan.further_egress().map(|name| name.as_str().to_owned()).collect::<Vec<_>>();
        let first = PortPlan::steering_all(&gateway);
        let ahead = first.awaiting(&gateway, &client);
        assert!(ahead.has_returning() && names(&ahead) == ["wan1"]);
        let second = change(&first, &gateway, &client, 1);
        assert!(!second.has_returning() && names(&second) == ["wan0"], "the settings say so themselves");
        let third = change(&second, &client, &gateway, 2);
        assert!(third.has_returning() && names(&third) == ["wan1"]);
        assert!(third.released(2) == third && third.released(3) == first);
    }

    #[test]
    fn an_interface_that_sessions_use_does_not_change_sides() {
        let was = settings(r#""lan0", "ppp*""#, r#""wan0""#, "");
        let first = PortPlan::steering_all(&was);
        let fault = |will: &SteeringConfig| {
            PortPlan::steering_all(will).following(&first, (&was, will), 1).unwrap_err().to_string()
        };
        let said = fault(&settings(r#""lan0""#, r#""wan0", "ppp7""#, ""));
        assert!(
            said.contains("\"ppp7\" in steering.egress") && said.contains("ingress (\"ppp*\")"),
            "{said}"
        );
        let said = fault(&settings(r#""wan0""#, r#""wan1""#, ""));
        assert!(said.contains("\"wan0\" in steering.ingress") && said.contains("restart"), "{said}");
        // When the sessions are over, it does.
        let without = settings(r#""lan0""#, r#""wan0""#, "");
        let next = change(&first, &was, &without, 1);
        let will = settings(r#""lan0""#, r#""wan0", "ppp7""#, "");
        assert!(PortPlan::steering_all(&will).following(&next, (&without, &will), 2).is_err());
        let free = next.released(2);
        assert!(PortPlan::steering_all(&will).following(&free, (&without, &will), 2).is_ok());
    }

    #[test]
    fn more_ingresses_than_the_programs_know_are_refused_with_the_remedy() {
        let many = |from: u32| {
            let names: Vec<String> = (from..from + 40).map(|number| format!("\"lan{number}\"")).collect();
            settings(&names.join(", "), r#""wan0""#, "")
        };
        let (was, will) = (many(0), many(100));
        let first = PortPlan::steering_all(&was);
        let said = PortPlan::steering_all(&will).following(&first, (&was, &will), 1).unwrap_err().to_string();
        assert!(said.contains("no room for \"lan124\"") && said.contains("reload again"), "{said}");
    }
}
