use super::check::Item;
use crate::config::{Config, InterfaceName, Source, SteeringConfig};
use crate::steering::firewall::{
    Certainty, FirewallError, MailPaths, Obstacle, Ruleset, mark_wipers, masquerades, obstacles,
};

const THING: &str = "firewall";
/// Between a line of the report and the commands that follow it.
const INDENT: &str = "\n  ";

/// What `check` says about the rules around the steering.
pub(super) fn items(
    config: &Config,
    ruleset: Result<Ruleset, FirewallError>,
    legacy: &[String],
) -> Vec<Item> {
    let mut items = match ruleset {
        Ok(ruleset) => judged(config, &ruleset),
        Err(error) => vec![unread(&error)],
    };
    if !legacy.is_empty() {
        items.push(Item::warn(
            THING,
            format!("rules of {} are in force and cannot be read", legacy.join(", ")),
            "let the packets pass that README names under \"Firewall\", or move to nftables",
        ));
    }
    items
}

fn unread(error: &FirewallError) -> Item {
    let remedy = match error {
        FirewallError::NoNft => "install nftables",
        FirewallError::Refused { .. } | FirewallError::Run { .. } => "run as root",
        _ => "try `nft -j list ruleset`",
    };
    Item::warn(
        THING,
        format!("not read: {error}"),
        format!("{remedy}, or compare your rules with those in README under \"Firewall\""),
    )
}

fn judged(config: &Config, ruleset: &Ruleset) -> Vec<Item> {
    let paths = MailPaths::from(&config.steering);
    let mut items: Vec<_> = obstacles(ruleset, &paths).iter().map(obstacle).collect();
    if items.is_empty() {
        let value = if ruleset.is_out_of_the_way() { "no rules in the way" } else { "steered mail passes" };
        items.push(Item::ok(THING, value));
    }
    items.extend(mark_wipers(ruleset, &paths).iter().map(|place| wiper(place)));
    let source = |egress| source(&config.steering, ruleset, egress);
    items.extend(config.steering.egress.iter().map(source));
    items
}

fn obstacle(obstacle: &Obstacle) -> Item {
    let Obstacle { certainty, words, commands, note } = obstacle;
    let commands = commands.iter().map(|command| format!("{INDENT}{command}")).collect::<String>();
    let remedy = |advice: &str| match (commands.is_empty(), note.is_empty()) {
        (false, _) => {
            format!("{advice} (README tells where to keep it when the rules are loaded again):{commands}")
        }
        (true, false) => note.clone(),
        (true, true) => "the rules above let it pass too".to_owned(),
    };
    match certainty {
        Certainty::Dropped => Item::fail(THING, words, remedy("insert")),
        Certainty::DroppedUnless => Item::warn(THING, words, remedy("to be sure, insert")),
        Certainty::PassesUnless => {
            Item::warn(THING, words, "cannot tell; look at the rule with `nft -a list ruleset`")
        }
    }
}

fn wiper(place: &str) -> Item {
    let bit = format!("{:#x}", proxy_ebpf::DELIVER_MARK);
    Item::warn(
        THING,
        format!("{place} sets the whole mark and may wipe {bit}, by which packets find Postern"),
        format!("put `meta mark and {bit} == 0` before its `meta mark set`"),
    )
}

/// Replies to a client's address are translated back behind the classifier and the rules, where nobody looks.
fn source(settings: &SteeringConfig, ruleset: &Ruleset, egress: &InterfaceName) -> Item {
    let thing = format!("source address on {}", egress.as_str());
    let ports: Vec<u16> = settings.ports().collect();
    let masquerades = masquerades(ruleset, &ports, egress);
    let Some(found) = masquerades.iter().max_by_key(|found| found.is_certain) else {
        return Item::ok(thing, "not masqueraded");
    };
    let verb = if found.is_certain { "masqueraded" } else { "may be masqueraded" };
    let value = format!("{verb} by {}", found.place);
    if settings.source == Source::Gateway {
        return Item::ok(thing, value);
    }
    let commands = masquerades.iter().filter_map(|found| found.command.as_deref());
    let commands = commands.map(|command| format!("{INDENT}{command}")).collect::<String>();
    let value = format!("{value}: answers are translated back behind the classifier, and none would arrive");
    let mut remedy = "set steering.source = \"gateway\"".to_owned();
    if !commands.is_empty() {
        remedy = format!("{remedy}, or exempt Postern's connections:{commands}");
    }
    if found.is_certain { Item::fail(thing, value, remedy) } else { Item::warn(thing, value, remedy) }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn said(ruleset: Result<Ruleset, FirewallError>, legacy: &[&str]) -> Vec<String> {
        let text = "[steering]\ningress = [\"lan0\"]\negress = [\"wan0\"]\n[certificates]\n\
                    authority = { cert = \"a.pem\", key = \"a.key\" }\n";
        let config = crate::config::parse(text, Path::new("postern.toml")).expect("config");
        let legacy: Vec<_> = legacy.iter().map(ToString::to_string).collect();
        items(&config, ruleset, &legacy).iter().map(Item::to_string).collect()
    }

    #[test]
    fn rules_that_cannot_be_read_are_a_warning_with_a_remedy() {
        let said = said(Err(FirewallError::NoNft), &[]);
        assert_eq!(said.len(), 1);
        assert!(
            said[0].starts_with("warn  firewall: not read: nft is not installed — install nftables"),
            "{said:?}"
        );
        assert!(said[0].contains("README"), "{said:?}");
    }

    #[test]
    fn rules_that_nft_does_not_show_are_not_taken_for_none() {
        let said = said(Ruleset::parse(b"{\"nftables\": []}"), &["iptables-legacy filter"]);
        assert!(said[0].starts_with("ok    firewall: no rules in the way"), "{said:?}");
        assert!(said.iter().any(|line| line.starts_with("warn  firewall: rules of iptables-legacy filter")));
    }
}
