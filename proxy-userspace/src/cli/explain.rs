/// `--message`: what is found in a message, and what becomes of it.
mod message;

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use jiff::Timestamp;

use self::message::MessageArgs;
use super::{EXIT_CONFIG, print};
use crate::config::{
    self, Action, ClearText, Config, ImplicitTls, Inspection, InterfaceName, PolicyRule, Sni, StartTls,
    Traffic,
};
use crate::words::Service;

/// A connection that is asked about, and a message in it.
#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    /// The client's address.
    #[arg(long)]
    client: IpAddr,
    /// The server's address and port, such as 198.51.100.7:993 or `[2001:db8::7]:143`.
    #[arg(long)]
    server: SocketAddr,
    /// The client's interface; not needed where there is one ingress.
    #[arg(long)]
    ingress: Option<String>,
    /// When the connection is accepted, such as 2026-12-24T22:30:00+01:00 (RFC 3339); without it, now.
    #[arg(long)]
    at: Option<Timestamp>,
    /// The name in the client's ClientHello; without it the client sends none.
    #[arg(long)]
    sni: Option<String>,
    #[command(flatten)]
    message: MessageArgs,
}

pub(super) fn explain(path: &Path, asked: &ExplainArgs) -> ExitCode {
    let failed = |message: String| {
        eprintln!("{message}");
        ExitCode::from(EXIT_CONFIG)
    };
    let config = match config::load(path) {
        Ok(config) => config,
        Err(error) => return failed(error.to_string()),
    };
    match told(&config, asked) {
        Err(message) => failed(message),
        Ok(Told { text, decided }) => match &asked.message.message {
            None => print(&text),
            Some(_) => message::explain(&config, &asked.message, &text, decided),
        },
    }
}

/// What is said of a connection, and what decides about it.
struct Told<'c> {
    text: String,
    decided: Option<Decided<'c>>,
}

/// The policy that admits the connection.
#[derive(Clone, Copy)]
struct Decided<'c> {
    policy: &'c PolicyRule,
    action: &'c Action,
    /// Why mail of it is not judged, if it is not.
    unjudged: Option<Unjudged>,
}

/// Why mail is not judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unjudged {
    /// It passes as it is.
    Passes(&'static str),
    /// None passes.
    Refused(&'static str),
}

fn told<'c>(config: &'c Config, asked: &ExplainArgs) -> Result<Told<'c>, String> {
    let ingress = ingress(config, asked.ingress.as_deref())?;
    let destination = asked.server.ip();
    let Some(service) = config.steering.service(asked.server.port()) else {
        return Err(format!(
            "--server {}: the port is listed neither in steering.starttls_ports nor in steering.implicit_tls_ports, so that \
             its connections are not taken over",
            asked.server
        ));
    };
    let at = asked.at.unwrap_or_else(Timestamp::now);
    let sni = asked.sni.as_deref().map_or(Sni::Absent, Sni::Name);
    let traffic = |sni| Traffic { ingress: &ingress, client: asked.client, destination, at, service, sni };
    let mut text = String::new();
    let first = config.policy_for(&traffic(Sni::Unread));
    let last = config.policy_for(&traffic(sni));
    // Where the first policy says nothing of names, no ClientHello changes it.
    let depends =
        first.and_then(|index| config.policies.get(index)).is_some_and(|policy| policy.sni.is_some());
    // Under `strip` no ClientHello comes.
    let first_action =
        first.and_then(|index| config.action(config.policies.get(index)?.proxy_action.as_deref()));
    let is_stripped =
        service == Service::StartTls && first_action.is_some_and(|action| action.starttls == StartTls::Strip);
    let depends = depends && !is_stripped;
    let decided = if depends { last } else { first };
    for (index, policy) in config.policies.iter().enumerate() {
        let why = policy.unfit(&traffic(if depends { sni } else { Sni::Unread }));
        let fits = decided == Some(index);
        let verdict = match why {
            Some(why) => why,
            None if fits => "fits, and decides".to_owned(),
            None => "fits, but an earlier one decides".to_owned(),
        };
        text.push_str(&format!("policy {} ({}): {verdict}\n", policy.name, policy.conditions()));
    }
    if depends && service == Service::StartTls {
        let name = first.and_then(|index| config.policies.get(index)).map(|policy| policy.name.as_str());
        text.push_str(&format!(
            "before the ClientHello, policy {} decides about STARTTLS and clear text\n",
            name.unwrap_or_default()
        ));
    }
    let policy = decided.and_then(|index| config.policies.get(index));
    match policy {
        None => text.push_str("refused: no policy admits this connection\n"),
        Some(policy) => text.push_str(&outcome(config, policy, &traffic(sni))),
    }
    let decided = policy.and_then(|policy| {
        let action = config.action(policy.proxy_action.as_deref())?;
        Some(Decided { policy, action, unjudged: unjudged(action, &traffic(sni)) })
    });
    Ok(Told { text, decided })
}

/// Why mail of such a connection is not judged, if it is not.
fn unjudged(action: &Action, traffic: &Traffic<'_>) -> Option<Unjudged> {
    use Unjudged::{Passes, Refused};
    if action.bypasses(traffic.client, traffic.destination) {
        return Some(Passes("`bypass` or `bypass_clients` leaves the connection alone"));
    }
    let is_clear = action.cleartext == ClearText::Inspect;
    match (traffic.service, action.implicit, action.starttls) {
        (Service::ImplicitTls, ImplicitTls::Allow, _) => {
            Some(Passes("`implicit = \"allow\"` leaves the connection alone"))
        }
        (Service::ImplicitTls, ImplicitTls::Deny, _) => {
            Some(Refused("`implicit = \"deny\"` refuses the connection"))
        }
        (Service::StartTls, _, StartTls::Bypass) if !is_clear => {
            Some(Passes("`starttls = \"bypass\"` leaves the connection alone from STARTTLS on"))
        }
        _ if action.bars_logins() && traffic.service == Service::StartTls => {
            Some(Refused("nobody can log in: `starttls = \"strip\"` and `cleartext = \"refuse\"`"))
        }
        _ if action.inspect == Inspection::None => {
            Some(Passes("`inspect = \"none\"` has mail relayed unjudged"))
        }
        _ => None,
    }
}

fn ingress(config: &Config, named: Option<&str>) -> Result<InterfaceName, String> {
    let known = &config.steering.ingress;
    let names = || known.iter().map(InterfaceName::as_str).collect::<Vec<_>>().join(", ");
    match (named, known.as_slice()) {
        (Some(named), _) => {
            InterfaceName::entry_of(known, named).map(|(_, entry)| entry.clone()).ok_or_else(|| {
                format!(
                    "--ingress {named}: not among steering.ingress ({}): its mail is not taken over",
                    names()
                )
            })
        }
        (None, [only]) => Ok(only.clone()),
        (None, _) => Err(format!("--ingress is needed: one of {}", names())),
    }
}

/// What applies, in the words of records.
fn outcome(config: &Config, policy: &PolicyRule, traffic: &Traffic<'_>) -> String {
    let Some(action) = config.action(policy.proxy_action.as_deref()) else { return String::new() };
    let profile = match traffic.service {
        Service::ImplicitTls => action.implicit_profile(),
        Service::StartTls => action.starttls_profile(),
    };
    let mut text = format!(
        "policy        {}\nproxy action  {}\nTLS profile   {}\n",
        policy.name,
        policy.action_name(),
        profile.unwrap_or(config::UNNAMED_PROFILE)
    );
    let treatment = if action.bypasses(traffic.client, traffic.destination) {
        "left alone: `bypass` lists the destination, or `bypass_clients` the client".to_owned()
    } else if traffic.service == Service::ImplicitTls {
        format!("implicit = {:?}, inspect = {:?}", action.implicit.as_str(), action.inspect.as_str())
    } else {
        format!(
            "starttls = {:?}, cleartext = {:?}, inspect = {:?}",
            action.starttls.as_str(),
            action.cleartext.as_str(),
            action.inspect.as_str()
        )
    };
    text.push_str(&format!("treatment     {treatment}\n"));
    text
}
