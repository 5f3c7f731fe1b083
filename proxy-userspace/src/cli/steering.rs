use super::check::Item;
use crate::config::{Config, OnExit, SteeringConfig, Unmatched};
use crate::steering::forward::{self, ForwardError};
use crate::steering::ports::PortPlan;
use crate::steering::routing::{self, RULE_PREFERENCE};
use crate::steering::upkeep::give_way;

/// Linux takes a connection's own port from here up (`net.ipv4.ip_local_port_range`), other systems from 49152 up (RFC
/// 6335 section 6).
const EPHEMERAL_MIN: u16 = 32_768;

/// What `check` says about the ground that steering stands on.
pub(super) fn items(config: &Config) -> Vec<Item> {
    let settings = &config.steering;
    let mut items = vec![ports(settings)];
    items.extend(ephemeral(settings));
    items.extend(unmatched(settings.unmatched));
    items.extend(precedence(settings, &PortPlan::of_policies(config)));
    items.extend(forward_chain(settings.on_exit));
    items
}

/// Which connections are mail.
fn ports(settings: &SteeringConfig) -> Item {
    let said = |ports: &[u16]| match ports {
        [] => "none".to_owned(),
        ports => ports.iter().map(u16::to_string).collect::<Vec<_>>().join(", "),
    };
    let (starttls, implicit) = (said(&settings.starttls_ports), said(&settings.implicit_tls_ports));
    Item::ok("ports", format!("STARTTLS {starttls}; implicit TLS {implicit}"))
}

/// Rules go by the destination port alone: a client's answers to a connection from such a port would be steered, too.
fn ephemeral(settings: &SteeringConfig) -> Option<Item> {
    let ports: Vec<String> =
        settings.ports().filter(|port| *port >= EPHEMERAL_MIN).map(|port| port.to_string()).collect();
    if ports.is_empty() {
        return None;
    }
    let value = format!(
        "{} lies in the range that systems take their own ports from ({EPHEMERAL_MIN} and up): connections from there \
         into an ingress get no answer",
        ports.join(", ")
    );
    Some(Item::warn("ports", value, "list it only if nothing behind an ingress is reached from outside"))
}

/// What is left alone is said, because it looks like mail that is inspected.
fn unmatched(unmatched: Unmatched) -> Option<Item> {
    match unmatched {
        Unmatched::Refuse => None,
        Unmatched::Pass => Some(Item::warn(
            "unmatched",
            "pass: mail of connections that no policy admits is not inspected (steering.unmatched)",
            "\"refuse\" has them refused",
        )),
    }
}

/// Rules of others that mail could follow before it comes to Postern's.
fn precedence(settings: &SteeringConfig, plan: &PortPlan) -> Vec<Item> {
    const THING: &str = "rules in front";
    let families = match routing::precedence(settings, plan) {
        Ok(families) => families,
        Err(error) => return vec![Item::warn(THING, format!("not read: {error}"), "compare `ip rule`")],
    };
    let mut items: Vec<Item> = families
        .iter()
        .flat_map(|family| &family.unbeatable)
        .map(|rule| {
            let fate = match settings.on_exit {
                OnExit::Closed => "is dropped",
                OnExit::Open => "passes uninspected",
            };
            let value = format!("`{rule}`, and none can stand before it: mail that follows it {fate}");
            Item::fail(THING, value, give_way())
        })
        .collect();
    for family in &families {
        items.extend(family.overtaken().map(|rule| {
            Item::ok(
                THING,
                format!("`{rule}`; `postern run` puts its own before it, at {}", family.preference),
            )
        }));
    }
    if items.is_empty() {
        items.push(Item::ok(THING, format!("none (Postern's stand at {RULE_PREFERENCE} or below)")));
    }
    items
}

/// The second line under `closed`.
fn forward_chain(on_exit: OnExit) -> Option<Item> {
    const THING: &str = "forward chain";
    if on_exit == OnExit::Open {
        return None;
    }
    Some(match forward::held() {
        Ok(guard) if guard.rules.is_empty() => {
            Item::ok(THING, "`postern run` adds one that drops mail on its way past Postern")
        }
        Ok(guard) => Item::ok(THING, format!("in force, {} packets dropped", guard.dropped)),
        Err(error @ ForwardError::Foreign) => Item::fail(
            THING,
            error.to_string(),
            "mail that rules of others lead past Postern would be forwarded",
        ),
        Err(error) => Item::warn(
            THING,
            error.to_string(),
            "mail that rules of others lead past Postern would be forwarded",
        ),
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn settings(lines: &str) -> SteeringConfig {
        let text = format!(
            "[steering]\ningress = [\"lan0\"]\negress = [\"wan0\"]\n{lines}\n[certificates]\n\
             authority = {{ cert = \"a.pem\", key = \"a.key\" }}\n"
        );
        crate::config::parse(&text, Path::new("postern.toml")).expect("config").steering
    }

    #[test]
    fn the_ports_are_told_and_those_that_systems_choose_themselves_are_warned_of() {
        let own = settings("starttls_ports = []\nimplicit_tls_ports = [993, 32768]");
        assert_eq!(ports(&own).to_string(), "ok    ports: STARTTLS none; implicit TLS 993, 32768");
        let said = ephemeral(&own).expect("a warning").to_string();
        assert!(said.starts_with("warn  ports: 32768 lies in the range that systems take"), "{said}");
        assert_eq!(ephemeral(&settings("starttls_ports = [32767]")), None);
    }

    #[test]
    fn mail_that_may_pass_uninspected_is_warned_of() {
        assert_eq!(unmatched(settings("").unmatched), None);
        let said = unmatched(settings("unmatched = \"pass\"").unmatched).expect("a warning").to_string();
        assert!(
            said.starts_with("warn  unmatched: pass: mail of connections that no policy admits is not"),
            "{said}"
        );
    }
}
