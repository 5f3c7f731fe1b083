use super::Item;
use crate::config::{Action, Config, ContentSettings, ImplicitTls, Inspection, PolicyRule, StartTls};
use crate::words::Size;

/// Policies under which a server of anybody's can have a session exempt.
pub(super) fn exempt(config: &Config) -> Vec<Item> {
    let exempts = |policy: &&PolicyRule| {
        policy.to.is_none()
            && config.action(policy.proxy_action.as_deref()).is_some_and(|action| {
                action.inspect == Inspection::Full && !action.privacy.exempt_accounts.is_empty()
            })
    };
    let warned = |policy: &PolicyRule| {
        Item::warn(
            format!("exempt accounts under policy {}", policy.name),
            "any server that takes such a name exempts the session (action.privacy.exempt_accounts)",
            "give the policy `to`, or use guard.tenant",
        )
    };
    config.policies.iter().filter(exempts).map(warned).collect()
}

/// How clients may log in, and settings under which none can.
pub(super) fn logins(action: &Action) -> Vec<Item> {
    const THING: &str = "logins";
    const PORT: &str = "action.starttls = \"inspect\" or action.cleartext = \"inspect\" lets them";
    const WAY: &str = "list one in action.capabilities.mechanisms, or action.capabilities.login = true";
    let Action { starttls, cleartext, implicit, capabilities, .. } = action;
    let settings = format!(
        "starttls {}, cleartext {}, implicit {}{}",
        starttls.as_str(),
        cleartext.as_str(),
        implicit.as_str(),
        if capabilities.bar_logins() { ", no mechanism and no LOGIN" } else { "" }
    );
    let remedy = match (action.bars_logins(), capabilities.bar_logins()) {
        (true, true) => format!("{PORT}; and {WAY}"),
        (true, false) => PORT.to_owned(),
        (false, _) => WAY.to_owned(),
    };
    let mut items = vec![match barred(action) {
        Some(barred) => Item::warn(THING, format!("{barred} ({settings})"), remedy),
        None => Item::ok(THING, settings),
    }];
    if capabilities.need_unbound() {
        let value = format!(
            "only by {}, which is hidden where the server offers a -PLUS form of it: nobody can log in there",
            capabilities.mechanisms.join(", ")
        );
        items.push(Item::warn(THING, value, WAY));
    }
    let unjudged = [
        (*starttls == StartTls::Bypass, "behind STARTTLS (action.starttls)"),
        (*implicit == ImplicitTls::Allow, "under implicit TLS (action.implicit)"),
    ];
    let unjudged: Vec<_> = unjudged.into_iter().filter_map(|(is, what)| is.then_some(what)).collect();
    if action.inspect == Inspection::Full && !unjudged.is_empty() {
        let value = format!("mail is not judged {}", unjudged.join(" and "));
        items.push(Item::warn("TLS left alone", value, "\"inspect\" has it judged"));
    }
    items
}

/// Where nobody can log in, in words. Where TLS is left alone, nobody reads how a client logs in.
fn barred(action: &Action) -> Option<&'static str> {
    let inside = action.capabilities.bar_logins();
    let on_143 = action.bars_logins() || (inside && action.starttls != StartTls::Bypass);
    match (on_143, action.implicit) {
        (true, ImplicitTls::Inspect) if !inside => Some("nobody can log in on ports of STARTTLS"),
        (true, ImplicitTls::Allow) => Some("nobody can log in on ports of STARTTLS"),
        (true, ImplicitTls::Inspect | ImplicitTls::Deny) => Some("nobody can log in, on any port"),
        (false, ImplicitTls::Inspect) if inside => Some("nobody can log in under implicit TLS"),
        // Who denies implicit TLS has said so.
        (false, _) => None,
    }
}

/// What rules speak of, in words.
fn forbidden(content: &ContentSettings) -> String {
    let types: Vec<&str> = content.types.iter().map(|forbidden| forbidden.as_str()).collect();
    let types = if types.is_empty() { "no types".to_owned() } else { format!("types {}", types.join(", ")) };
    let mut forbidden = format!("{} patterns of file names, {types}", content.names.len());
    let lists: Vec<&str> = content.lists.iter().map(|list| list.as_str()).collect();
    if !lists.is_empty() {
        forbidden.push_str(&format!(", lists {}", lists.join(", ")));
    }
    let hashes = content.blocked_hashes.len();
    for (count, what) in [
        (content.name_rule.len(), "rules by name"),
        (content.type_rule.len(), "rules by type"),
        (content.list_rule.len(), "rules by list"),
        (hashes, "hashes"),
        (content.hash_files.len(), "files of hashes"),
    ] {
        if count > 0 {
            forbidden.push_str(&format!(", {count} {what}"));
        }
    }
    forbidden
}

/// How many rules are written that forbid something that is not forbidden without them.
fn written_rules(content: &ContentSettings) -> usize {
    let ContentSettings { lists, blocked_hashes, hash_files, name_rule, type_rule, list_rule, .. } = content;
    let rules = name_rule.len() + type_rule.len() + list_rule.len();
    rules + lists.len() + blocked_hashes.len() + hash_files.len()
}

/// Whether mail is judged, and by what.
pub(super) fn judging(action: &Action, held: Size, message: Size) -> Item {
    const THING: &str = "judging";
    let content = &action.content;
    let forbidden = forbidden(content);
    let trusted: Vec<String> = action.trust_uid_immutability.iter().map(ToString::to_string).collect();
    let mail = match trusted.as_slice() {
        [] => "all mail".to_owned(),
        trusted => format!(
            "all mail, but known mail of {} in samples only (action.trust_uid_immutability)",
            trusted.join(", ")
        ),
    };
    match action.inspect {
        Inspection::Full => Item::ok(
            THING,
            format!(
                "{mail}, for EICAR, {forbidden}; messages of {message}, {held} at once, out of the memory"
            ),
        ),
        Inspection::None if content.names.is_empty() && written_rules(content) == 0 => {
            Item::ok(THING, "none, mail is relayed as it is (action.inspect)")
        }
        Inspection::None => Item::warn(
            THING,
            format!("none, though action.content lists {forbidden}"),
            "action.inspect = \"full\" makes them count",
        ),
    }
}
