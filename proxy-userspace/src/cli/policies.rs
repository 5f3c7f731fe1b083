use proxy_ebpf::PortRole;

use super::check::Item;
use crate::config::{Config, PolicyRule, TlsSupport, UNNAMED_ACTION, Unmatched};
use crate::steering::ports::PortPlan;

/// A line for each policy, and what is wrong with their order. A file without policies has none to speak of.
pub(super) fn items(config: &Config) -> Vec<Item> {
    let is_written = config.policies.iter().any(|policy| !policy.is_of_everything());
    let mut items = Vec::new();
    for (index, policy) in config.policies.iter().enumerate().filter(|_| is_written) {
        let thing = format!("policy {}", policy.name);
        let value = format!("{}, proxy action {}", policy.conditions(), policy.action_name());
        let earlier = config.policies.iter().take(index).find(|earlier| hides(earlier, policy));
        items.push(match earlier {
            Some(earlier) => {
                let remedy = format!(
                    "policy {} before it takes all that it would: put it first, or remove it",
                    earlier.name
                );
                Item::warn(thing, format!("never reached ({value})"), remedy)
            }
            None => Item::ok(thing, value),
        });
    }
    for of_ingress in PortPlan::of_policies(config).ingresses() {
        let refused: Vec<String> = of_ingress.with(PortRole::Refused).map(|port| port.to_string()).collect();
        if !refused.is_empty() {
            let thing = format!("ports on {}", of_ingress.ingress.as_str());
            items.push(Item::ok(
                thing,
                format!("{} refused: no policy admits them there", refused.join(", ")),
            ));
        }
    }
    let ends_open = config.policies.last().is_some_and(|last| !last.is_unconditional());
    if is_written && ends_open && config.steering.unmatched == Unmatched::Refuse {
        items.push(Item::ok("unmatched", "refuse: connections that no policy fits (steering.unmatched)"));
    }
    let is_used = config.actions_in_use().any(|(name, _)| name == UNNAMED_ACTION);
    if is_written && !is_used && config.has_unnamed_action() {
        let remedy = "name no proxy_action in a policy that shall have it, or remove the table";
        items.push(Item::warn("[action]", "no policy uses it", remedy));
    }
    items
}

/// Whether everything that fits the later policy fits the earlier one.
fn hides(earlier: &PolicyRule, later: &PolicyRule) -> bool {
    let ports = earlier.tls_support == TlsSupport::Enabled || earlier.tls_support == later.tls_support;
    ports && earlier.is_unconditional()
}
