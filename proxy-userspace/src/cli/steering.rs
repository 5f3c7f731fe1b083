use super::check::Item;
use crate::config::{OnExit, SteeringConfig};
use crate::steering::forward::{self, ForwardError};
use crate::steering::routing::{self, RULE_PREFERENCE};
use crate::steering::upkeep::give_way;

/// What `check` says about the ground that steering stands on.
pub(super) fn items(settings: &SteeringConfig) -> Vec<Item> {
    let mut items = precedence(settings);
    items.extend(forward_chain(settings.on_exit));
    items
}

/// Rules of others that mail could follow before it comes to Postern's.
fn precedence(settings: &SteeringConfig) -> Vec<Item> {
    const THING: &str = "rules in front";
    let families = match routing::precedence(settings) {
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
