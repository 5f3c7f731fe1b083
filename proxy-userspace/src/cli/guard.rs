use super::check::Item;
use crate::config::{Action, Config, ImplicitTls, Inspection, StartTls, TenantRule};

/// What the account guard does not see: a line for each proxy action under which some session is not looked into, and for each
/// entry of `guard.tenant` whose servers a client could reach by no name.
pub(super) fn items(config: &Config) -> Vec<Item> {
    if !config.guard.is_on() {
        return Vec::new();
    }
    let of_action = |(name, action): (&str, &Action)| {
        let (what, remedy) = unseen(action)?;
        let value = format!("[guard] has no effect under the proxy action {name}: {what}");
        Some(Item::warn("guard", value, remedy))
    };
    let is_named_alone = |rule: &&TenantRule| !rule.names.is_empty() && rule.servers.is_empty();
    let of_tenant = |rule: &TenantRule| {
        let value = format!(
            "the entry of guard.tenant for {} has names and no servers: it is also for every server that proves no name",
            rule.names.join(", ")
        );
        Item::warn(
            "guard",
            value,
            "add the networks of these servers, and an entry for your own servers without TLS",
        )
    };
    let tenants = config.guard.tenants.iter().filter(is_named_alone).map(of_tenant);
    config.actions_in_use().filter_map(of_action).chain(tenants).collect()
}

/// Why accounts are not seen under an action, and what to do about it.
fn unseen(action: &Action) -> Option<(&'static str, &'static str)> {
    let leaves_alone = !action.bypass.is_empty() || !action.bypass_clients.is_empty();
    if action.inspect == Inspection::None {
        Some(("inspect = \"none\" reads no command", "use inspect = \"full\", or expect no guard there"))
    } else if action.implicit == ImplicitTls::Allow || action.starttls == StartTls::Bypass {
        Some((
            "TLS passes untouched (implicit = \"allow\", starttls = \"bypass\")",
            "use \"inspect\", or expect no guard there",
        ))
    } else if leaves_alone {
        Some((
            "in sessions that bypass or bypass_clients leave alone",
            "shorten the lists, or expect no guard there",
        ))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::parse;

    fn said(text: &str) -> Vec<String> {
        let file = format!(
            "[steering]\ningress = [\"lan0\"]\negress = [\"wan0\"]\n[certificates]\nauthority = {{ cert = \"a\", key = \"b\" \
             }}\n{text}"
        );
        let config = parse(&file, Path::new("/etc/postern/postern.toml")).unwrap();
        items(&config).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn who_names_servers_without_their_networks_is_told_what_else_the_entry_is_for() {
        const NAMED: &str = "[[guard.tenant]]\ndomains = [\"example.com\"]\nnames = [\"imap.example.com\"]\n";
        let said_of = said(NAMED);
        assert!(
            said_of.len() == 1 && said_of[0].contains("guard.tenant for imap.example.com"),
            "{said_of:?}"
        );
        assert_eq!(said(&format!("{NAMED}servers = [\"192.0.2.0/24\"]\n")), Vec::<String>::new());
    }

    #[test]
    fn who_guards_accounts_is_told_where_nobody_reads_commands() {
        const GUARD: &str = "[guard]\nfailed_logins = 10\n";
        assert_eq!(said(GUARD), Vec::<String>::new());
        for (action, word) in [
            ("inspect = \"none\"", "reads no command"),
            ("implicit = \"allow\"", "TLS passes untouched"),
            ("starttls = \"bypass\"", "TLS passes untouched"),
            ("bypass = [\"192.0.2.0/24\"]", "leave alone"),
            ("bypass_clients = [\"192.0.2.7\"]", "leave alone"),
        ] {
            let said_of = said(&format!("[action]\n{action}\n{GUARD}"));
            assert_eq!(said_of.len(), 1, "{action}: {said_of:?}");
            assert!(
                said_of[0].starts_with("warn  guard: [guard] has no effect") && said_of[0].contains(word),
                "{said_of:?}"
            );
            assert_eq!(said(&format!("[action]\n{action}\n")), Vec::<String>::new(), "nothing is guarded");
        }
    }
}
