use super::Action;
use super::fault::Reason;
use super::kinds::{TextValue, flag, list, text};
use super::report::{Report, nearest};
use super::setting::settings;
use super::{GeneralSettings, HeaderAction, Inspection};
use crate::inspect::allow::{self, Hiding, Mechanism};

/// Each is compared with each capability that a server shows. The allow-list has fewer names.
const HIDDEN_MAX: usize = 64;

settings! {
    /// `[action.capabilities]`: the allow-list of IMAP, narrowed.
    pub struct CapabilitySettings {
        /// Capabilities that are hidden from clients beside those that always are, with what is built on them. Commands that
        /// need them are refused, and no server sees them. A name that ends in `=` or `-`, such as `THREAD=`, stands for all
        /// that begin so.
        hide: Vec<String> = list(text::<CapabilityName>(), Some(HIDDEN_MAX), None).default(Vec::new())
            .such_as(r#"["IDLE", "METADATA", "THREAD="]"#);
        /// SASL mechanisms that may be used. Others are hidden, and AUTHENTICATE with them is refused here: no server sees the
        /// password. A client that sends it unasked, as an initial response, has sent it as far as this gateway.
        mechanisms: Vec<String> = list(text::<MechanismName>(), None, None).default(all_mechanisms());
        /// Whether the command LOGIN may be used. With `false`, clients are shown LOGINDISABLED, and LOGIN is refused here: no
        /// server sees the password. A client that sends it all the same has sent it as far as this gateway, unless it waits to
        /// be asked for it as a literal.
        login: bool = flag().default(true);
    }
}

impl CapabilitySettings {
    /// Whether no client can log in where commands are read.
    #[must_use]
    pub fn bar_logins(&self) -> bool {
        !self.login && self.mechanisms.is_empty()
    }

    /// Whether a client can log in only by mechanisms that are hidden where the server offers to bind the channel.
    #[must_use]
    pub fn need_unbound(&self) -> bool {
        let is_unbound = |name: &String| allow::mechanism(name.as_bytes()) == Mechanism::UnlessPlus;
        !self.login && !self.mechanisms.is_empty() && self.mechanisms.iter().all(is_unbound)
    }

    /// Whether every mechanism passes that can pass.
    #[must_use]
    pub fn pass_all_mechanisms(&self) -> bool {
        all_mechanisms().iter().all(|name| self.mechanisms.contains(name))
    }
}

fn all_mechanisms() -> Vec<String> {
    allow::mechanism_rows()
        .filter(|(_, mechanism)| !matches!(mechanism, Mechanism::Refuse(_)))
        .map(|(name, _)| name.to_owned())
        .collect()
}

/// A capability that can be hidden, in capitals.
struct CapabilityName;

impl TextValue for CapabilityName {
    type Value = String;
    const WHAT: &'static str = "a capability";

    fn parse(text: &str) -> Result<String, Reason> {
        let name = text.to_ascii_uppercase();
        match allow::hiding(&name) {
            Hiding::Possible => Ok(name),
            Hiding::Never { why, remedy } => Err(Reason::unfit(format!("cannot be hidden: {why}"), remedy)),
            Hiding::Already(why) => Err(Reason::unfit(format!("hidden already: {why}"), "remove it")),
            Hiding::Unknown => {
                let remedy = match nearest(&name, allow::hideable()) {
                    Some(nearest) => format!("did you mean \"{nearest}\"?"),
                    None => "remove it".to_owned(),
                };
                Err(Reason::unfit("not in the allow-list, so that it is hidden already", remedy))
            }
        }
    }

    fn show(value: &String) -> String {
        value.clone()
    }
}

/// A SASL mechanism that can pass, in capitals.
struct MechanismName;

impl TextValue for MechanismName {
    type Value = String;
    const WHAT: &'static str = "a SASL mechanism";

    fn parse(text: &str) -> Result<String, Reason> {
        let name = text.to_ascii_uppercase();
        let rows = || allow::mechanism_rows().map(|(name, _)| name);
        match allow::mechanism(name.as_bytes()) {
            Mechanism::Pass | Mechanism::UnlessPlus => Ok(name),
            Mechanism::Refuse(why) if rows().any(|row| row == name) => {
                Err(Reason::unfit(format!("cannot pass: {why}"), "remove it"))
            }
            Mechanism::Refuse(_) => {
                let remedy = match nearest(&name, rows()) {
                    Some(nearest) => format!("did you mean \"{nearest}\"?"),
                    None => format!("use some of {}", all_mechanisms().join(", ")),
                };
                Err(Reason::unfit("not in the allow-list, so that it cannot pass", remedy))
            }
        }
    }

    fn show(value: &String) -> String {
        value.clone()
    }
}

/// Under `inspect = "none"` nobody reads commands, so that nothing of them can be hidden. `path` is that of the action.
pub(super) fn judge(report: &mut Report<'_>, path: &str, action: &Action) {
    if action.inspect == Inspection::Full {
        return;
    }
    let Action { capabilities, general, headers, .. } = action;
    let GeneralSettings { hide_banner, .. } = *general;
    let removing = headers.rules.iter().position(|rule| rule.action == HeaderAction::Remove);
    let rule = format!("headers.rule[{}].action", removing.unwrap_or_default());
    for (key, narrows) in [
        ("general.hide_banner", hide_banner),
        ("capabilities.hide", !capabilities.hide.is_empty()),
        ("capabilities.mechanisms", !capabilities.pass_all_mechanisms()),
        ("capabilities.login", !capabilities.login),
        ("headers.unmatched", headers.unmatched == HeaderAction::Remove),
        (&rule, removing.is_some()),
    ] {
        if narrows {
            let what =
                format!("needs {path}.inspect = \"full\": without it nobody reads commands and responses");
            let remedy = format!("remove the line, or use {path}.inspect = \"full\"");
            report.relate(&format!("{path}.{key}"), 0, Reason::unfit(what, remedy));
        }
    }
}
