//! Which interfaces of this machine the entries of `steering.ingress` and `steering.egress` mean.

use super::device::DEVICE;
use super::ports::PortPlan;
use super::routing::{LOOPBACK_INDEX, Link};
use crate::config::{INTERFACES_MATCHED_MAX, InterfaceName, SteeringConfig};
use crate::words::Side;

/// An interface that is served, or an entry that means none that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its own name; the entry's where none exists.
    pub name: InterfaceName,
    /// Downstream for an ingress, upstream for an egress.
    pub side: Side,
    /// The entry's place in its list; of an ingress, in the plan of ports.
    pub place: u32,
    /// Its index, if it exists.
    pub index: Option<u32>,
    /// The entry is a pattern.
    pub is_matched: bool,
    /// The configuration in force lists it. Otherwise a reload took it out, and sessions still use it.
    pub is_listed: bool,
}

/// Every entry by its name, whether its interface exists or not, what patterns match now, and what exists of the interfaces
/// that only sessions of an earlier configuration use.
pub(super) fn interfaces(settings: &SteeringConfig, plan: &PortPlan, links: &[Link]) -> Vec<Interface> {
    let downstream = side(&settings.ingress, Side::Downstream, links);
    let listed = downstream.into_iter().chain(side(&settings.egress, Side::Upstream, links));
    let leaving: Vec<InterfaceName> = plan.leaving_ingresses().cloned().collect();
    let further: Vec<InterfaceName> = plan.further_egress().cloned().collect();
    let mut others = side(&leaving, Side::Downstream, links);
    let before = u32::try_from(settings.ingress.len()).unwrap_or(u32::MAX);
    for interface in &mut others {
        interface.place = interface.place.saturating_add(before);
    }
    others.extend(side(&further, Side::Upstream, links));
    let is_listed = |name: &str| {
        [&settings.ingress, &settings.egress].iter().any(|list| InterfaceName::entry_of(list, name).is_some())
    };
    // What the configuration lists comes first, also where a pattern has taken the place of a name.
    others.retain(|interface| interface.index.is_some() && !is_listed(interface.name.as_str()));
    listed.chain(others.into_iter().map(|one| Interface { is_listed: false, ..one })).collect()
}

/// How many interfaces the patterns of a side match beyond those that are served.
pub(super) fn unserved(settings: &SteeringConfig, links: &[Link]) -> usize {
    let beyond = |list| matched(list, links).count().saturating_sub(INTERFACES_MATCHED_MAX);
    beyond(&settings.ingress) + beyond(&settings.egress)
}

fn side(list: &[InterfaceName], side: Side, links: &[Link]) -> Vec<Interface> {
    let entry = |(place, name): (u32, &InterfaceName)| {
        let is_matched = name.is_pattern();
        let link = links.iter().find(|link| !is_matched && link.name == name.as_str());
        Interface {
            name: name.clone(),
            side,
            place,
            index: link.map(|link| link.index),
            is_matched,
            is_listed: true,
        }
    };
    let of_link = |(place, link): (u32, &Link)| Interface {
        name: InterfaceName(link.name.clone()),
        side,
        place,
        index: Some(link.index),
        is_matched: true,
        is_listed: true,
    };
    let found: Vec<Interface> = matched(list, links).take(INTERFACES_MATCHED_MAX).map(of_link).collect();
    let is_served = |place| found.iter().any(|interface| interface.place == place);
    let entries = (0..).zip(list).filter(|(place, name)| !name.is_pattern() || !is_served(*place)).map(entry);
    entries.chain(found.iter().cloned()).collect()
}

/// Interfaces that belong to a pattern, with its place, in the kernel's order. Neither loopback nor Postern's own device is
/// anybody's side.
fn matched<'a>(list: &'a [InterfaceName], links: &'a [Link]) -> impl Iterator<Item = (u32, &'a Link)> {
    let has_pattern = list.iter().any(InterfaceName::is_pattern);
    links.iter().filter(move |_| has_pattern).filter_map(|link| {
        let (place, entry) = InterfaceName::entry_of(list, &link.name)?;
        let is_own = link.index == LOOPBACK_INDEX || link.name == DEVICE;
        (entry.is_pattern() && !is_own).then_some((place, link))
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn settings(ingress: &str, egress: &str) -> SteeringConfig {
        let text = format!(
            "[steering]\ningress = [{ingress}]\negress = [{egress}]\n[certificates]\n\
             authority = {{ cert = \"a.pem\", key = \"a.key\" }}\n"
        );
        crate::config::parse(&text, Path::new("postern.toml")).expect("config").steering
    }

    fn links(names: &[&str]) -> Vec<Link> {
        let link = |(index, name): (u32, &&str)| Link { name: (*name).to_owned(), index, is_up: true };
        (1..).zip(names).map(link).collect()
    }

    /// Name, place and index of what is served, or waited for, on the clients' side.
    fn downstream(settings: &SteeringConfig, links: &[Link]) -> Vec<(String, u32, Option<u32>)> {
        let plan = PortPlan::steering_all(settings);
        let all = interfaces(settings, &plan, links).into_iter().filter(|one| one.side == Side::Downstream);
        all.map(|one| (one.name.as_str().to_owned(), one.place, one.index)).collect()
    }

    #[test]
    fn an_interface_belongs_to_its_name_or_to_the_longest_pattern() {
        let settings = settings(r#""p*", "ppp*", "ppp7", "wg*""#, r#""wan0""#);
        let links = links(&["lo", "ppp1", "ppp7", "pan0", "postern0", "eth0"]);
        let of = |name: &str, place, index| (name.to_owned(), place, index);
        assert_eq!(
            downstream(&settings, &links),
            [of("ppp7", 2, Some(3)), of("wg*", 3, None), of("ppp1", 1, Some(2)), of("pan0", 0, Some(4)),]
        );
        assert!(downstream(&settings, &[]).iter().all(|(_, _, index)| index.is_none()));
    }

    #[test]
    fn an_interface_that_a_pattern_took_over_is_the_patterns_and_not_what_a_reload_took_out() {
        let (was, will) = (settings(r#""ppp1", "ppp2""#, r#""wan0""#), settings(r#""ppp*""#, r#""wan0""#));
        let plan = PortPlan::steering_all(&will);
        let plan = plan.following(&PortPlan::steering_all(&was), (&was, &will), 1).expect("a plan");
        let here = links(&["lo", "ppp1", "eth0"]);
        let shown = |settings: &SteeringConfig, plan: &PortPlan| -> Vec<(String, u32, bool)> {
            let all =
                interfaces(settings, plan, &here).into_iter().filter(|one| one.side == Side::Downstream);
            all.map(|one| (one.name.as_str().to_owned(), one.place, one.is_listed)).collect()
        };
        assert_eq!(shown(&will, &plan), [("ppp1".to_owned(), 0, true)]);
        // The other way round, what the pattern means beside the name is leaving.
        let (was, will) = (will, settings(r#""eth0""#, r#""wan0""#));
        let next = PortPlan::steering_all(&will).following(&plan, (&was, &will), 2).expect("a plan");
        let (eth, ppp) = (("eth0".to_owned(), 0, true), ("ppp1".to_owned(), 2, false));
        assert_eq!(shown(&will, &next), [eth, ppp], "the name is better than the pattern");
    }

    #[test]
    fn what_patterns_match_beyond_the_limit_is_told() {
        let settings = settings(r#""ppp*""#, r#""wan0""#);
        let ppp = (0..INTERFACES_MATCHED_MAX + 2).map(|number| format!("ppp{number}"));
        let names: Vec<String> = std::iter::once("lo".to_owned()).chain(ppp).collect();
        let links = links(&names.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(downstream(&settings, &links).len(), INTERFACES_MATCHED_MAX);
        assert_eq!(unserved(&settings, &links), 2);
    }
}
