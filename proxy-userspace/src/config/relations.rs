use super::alarm::ALARM_ID_DEFAULT;
use super::daemon::{HELPER_ID_DEFAULT, JUDGE_ID_DEFAULT, Processes, SIGNER_ID_DEFAULT, WORKER_ID_DEFAULT};
use super::fault::Reason;
use super::limits::{CLIENT_SHARE, HELD_SHARE_MAX, Limits, MEMORY_INSPECTED_MIN, MEMORY_MAX};
use super::names::InterfaceName;
use super::objects::ObjectKind;
use super::report::{Report, nearest};
use super::write::joined;
use super::{Action, ClearText, Config, Inspection, OnExit, SteeringConfig, capabilities, tls};
use crate::words::Size;

const INGRESS: &str = "steering.ingress";
const EGRESS: &str = "steering.egress";
const STARTTLS_PORTS: &str = "steering.starttls_ports";
const IMPLICIT_TLS_PORTS: &str = "steering.implicit_tls_ports";
const SESSIONS: &str = "limits.sessions";
const SESSIONS_PER_CLIENT: &str = "limits.sessions_per_client";
const MEMORY: &str = "limits.memory";
const MESSAGE: &str = "limits.message";
const HELD: &str = "limits.held";
const WORKER: &str = "process.worker_id";
const SIGNER: &str = "process.signer_id";
const HELPER: &str = "process.helper_id";
const JUDGE: &str = "process.judge_id";

pub(super) fn judge(report: &mut Report<'_>, config: &Config) {
    sides(report, &config.steering);
    ports(report, &config.steering);
    for (index, reach) in config.steering.reach.iter().enumerate() {
        let key = |name: &str| format!("steering.reach[{index}].{name}");
        listed(report, &key("ingress"), &reach.ingress, INGRESS, &config.steering.ingress);
        let egress = reach.egress.as_deref().unwrap_or_default();
        listed(report, &key("egress"), egress, EGRESS, &config.steering.egress);
    }
    if config.steering.on_exit == OnExit::Open {
        shares(report, &config.limits);
    }
    policies(report, config);
    let judges_mail = config.judges_mail();
    if judges_mail {
        inspected_memory(report, &config.limits);
    }
    held(report, &config.limits, judges_mail);
    action(report, config, "action", &config.unnamed_action);
    for (name, named) in &config.objects.proxy_actions {
        action(report, config, &joined(ObjectKind::ProxyAction.table(), name), named);
    }
    tls::judge(report, "tls", &config.unnamed_profile);
    for (name, named) in &config.objects.tls_profiles {
        tls::judge(report, &joined(ObjectKind::TlsProfile.table(), name), named);
    }
    users(report, config.processes);
    let Processes { worker, signer, helper, judge } = config.processes;
    let (worker, signer) = ((WORKER, worker, WORKER_ID_DEFAULT), (SIGNER, signer, SIGNER_ID_DEFAULT));
    let helper = (HELPER, helper, HELPER_ID_DEFAULT);
    reader_user(report, "the helper", helper, &[worker, signer]);
    reader_user(report, "a judge", (JUDGE, judge, JUDGE_ID_DEFAULT), &[worker, signer, helper]);
    alarm_user(report, config);
}

/// What policies name has to be there, and each has a name of its own.
fn policies(report: &mut Report<'_>, config: &Config) {
    for (index, policy) in config.policies.iter().enumerate() {
        let key = |name: &str| format!("policy[{index}].{name}");
        let ingress = policy.ingress.as_deref().unwrap_or_default();
        listed(report, &key("ingress"), ingress, INGRESS, &config.steering.ingress);
        let earlier = config.policies.iter().take(index).position(|earlier| earlier.name == policy.name);
        if let Some(earlier) = earlier.filter(|_| report.is_sound(&key("name"))) {
            let first = report.line(&format!("policy[{earlier}].name"), 0);
            report.relate(&key("name"), 0, Reason::Duplicate { first });
        }
        exists(report, config, ObjectKind::ProxyAction, &key("proxy_action"), policy.proxy_action.as_deref());
    }
}

/// What a proxy action names has to be there, and its settings have to go together.
fn action(report: &mut Report<'_>, config: &Config, path: &str, action: &Action) {
    let key = |name: &str| format!("{path}.{name}");
    let Action { tls_profile, starttls_profile, .. } = action;
    exists(report, config, ObjectKind::TlsProfile, &key("tls_profile"), tls_profile.as_deref());
    exists(report, config, ObjectKind::TlsProfile, &key("starttls_profile"), starttls_profile.as_deref());
    if (action.cleartext, action.inspect) == (ClearText::Inspect, Inspection::None) {
        let what = format!(
            "needs {}.inspect = \"full\": without it nobody reads the commands, and a STARTTLS among them would pass",
            path
        );
        let remedy = format!(
            "use \"refuse\", or {path}.inspect = \"full\"; or list destinations to leave alone in {path}.bypass"
        );
        report.relate(&key("cleartext"), 0, Reason::unfit(what, remedy));
    }
    capabilities::judge(report, path, action);
}

fn exists(report: &mut Report<'_>, config: &Config, kind: ObjectKind, key: &str, name: Option<&str>) {
    let known = config.object_names(kind);
    if let Some(name) = name.filter(|name| !known.contains(name) && report.is_sound(key)) {
        let nearest = nearest(name, known.iter().copied());
        let remedy = match nearest {
            Some(nearest) => format!("did you mean {nearest:?}?"),
            None => format!("`postern {} list` shows what there is", kind.command()),
        };
        report.relate(key, 0, Reason::unfit(format!("there is no such {kind}"), remedy));
    }
}

/// Postern's own connections leave by egress, and must not be steered.
fn sides(report: &mut Report<'_>, steering: &SteeringConfig) {
    for (index, name) in steering.egress.iter().enumerate() {
        let overlapping = steering.ingress.iter().enumerate().find(|(_, ingress)| ingress.overlaps(name));
        if let Some((at, ingress)) = overlapping {
            let line = report.line(INGRESS, at);
            let other = if ingress == name {
                format!("also in ingress on line {line}")
            } else {
                format!("means interfaces that \"{}\" in ingress on line {line} means, too", ingress.as_str())
            };
            let what = format!("{other}: Postern's own connections to the servers would be steered again");
            report.relate(EGRESS, index, Reason::unfit(what, "list it on one side only"));
        }
    }
}

/// A port has one kind of service, and there is one port at least. One of the two lists may be the default, which has no
/// place in the file.
fn ports(report: &mut Report<'_>, steering: &SteeringConfig) {
    if !report.is_sound(STARTTLS_PORTS) || !report.is_sound(IMPLICIT_TLS_PORTS) {
        return;
    }
    let lists =
        [(STARTTLS_PORTS, &steering.starttls_ports), (IMPLICIT_TLS_PORTS, &steering.implicit_tls_ports)];
    let [(other, known), (key, ports)] = if report.is_given(IMPLICIT_TLS_PORTS) {
        lists
    } else {
        let [first, second] = lists;
        [second, first]
    };
    for (index, port) in ports.iter().enumerate() {
        let Some(at) = known.iter().position(|known| known == port) else { continue };
        let (place, remedy) = if report.is_given(other) {
            (format!("on line {}", report.line(other, at)), "remove one of them".to_owned())
        } else {
            ("by default".to_owned(), format!("leave it out, or write {other} without it"))
        };
        let what = format!("also in {other} {place}: TLS begins in one way at a port");
        report.relate(key, index, Reason::unfit(what, remedy));
    }
    if ports.is_empty() && known.is_empty() {
        let what = format!("{other} is empty, too, so that no mail would be taken over");
        report.relate(key, 0, Reason::unfit(what, "list at least one port"));
    }
}

/// Interfaces that another list of the file has to have.
fn listed(
    report: &mut Report<'_>,
    key: &str,
    names: &[InterfaceName],
    list: &'static str,
    known: &[InterfaceName],
) {
    if !report.is_sound(list) {
        return;
    }
    for (index, _) in names.iter().enumerate().filter(|(_, name)| !known.contains(name)) {
        let remedy = format!("add it to {list} or correct the name");
        report.relate(key, index, Reason::unfit(format!("not among {list}"), remedy));
    }
}

/// One client must not be able to fill all places.
fn shares(report: &mut Report<'_>, limits: &Limits) {
    let Some(sessions) = limits.sessions else { return };
    let max = sessions / CLIENT_SHARE;
    if sessions < CLIENT_SHARE {
        let what = format!(
            "under steering.on_exit = \"open\" fewer than {CLIENT_SHARE} clients fill all sessions and let all new mail \
             pass uninspected"
        );
        let remedy = format!("use at least {CLIENT_SHARE}, or steering.on_exit = \"closed\"");
        report.relate(SESSIONS, 0, Reason::unfit(what, remedy));
    } else if limits.sessions_per_client.is_some_and(|wanted| wanted > max) {
        let what = format!(
            "over 1/{CLIENT_SHARE} of limits.sessions ({sessions}): under steering.on_exit = \"open\" a client that fills \
             all sessions lets all new mail pass uninspected"
        );
        let remedy = format!("use at most {max}, or raise limits.sessions");
        report.relate(SESSIONS_PER_CLIENT, 0, Reason::unfit(what, remedy));
    }
}

/// Where mail is judged, half of the memory may be held, and the least is twice as much. Who wrote less than the least
/// of any configuration is told this one.
fn inspected_memory(report: &mut Report<'_>, limits: &Limits) {
    const WHY: &str = "eight sessions of the largest size need half of it, and action.inspect = \"full\" may hold the \
                       other half";
    let out_of_range = Reason::size_out_of_range(MEMORY_INSPECTED_MIN, MEMORY_MAX, WHY);
    for reason in report.reasons_mut(MEMORY).filter(|reason| matches!(reason, Reason::OutOfRange { .. })) {
        *reason = out_of_range.clone();
    }
    if limits.memory.is_some_and(|memory| memory < MEMORY_INSPECTED_MIN) {
        report.relate(MEMORY, 0, out_of_range);
    }
}

/// At least one message, and, of a memory that is known, not so much that sessions have no room.
fn held(report: &mut Report<'_>, limits: &Limits, judges_mail: bool) {
    let Some(held) = limits.held.filter(|_| report.is_sound(MESSAGE)) else { return };
    let memory = limits.memory.filter(|_| judges_mail && report.is_sound(MEMORY));
    let message = limits.message;
    if held < message {
        let what = format!(
            "less than one message of limits.message (\"{message}\"), so that none of that size could be judged"
        );
        let remedy = format!("use at least \"{message}\", or lower limits.message");
        report.relate(HELD, 0, Reason::unfit(what, remedy));
    } else if let Some(memory) = memory.filter(|memory| held.0 > memory.0 / HELD_SHARE_MAX) {
        let max = Size((memory.0 / HELD_SHARE_MAX) >> 20 << 20);
        let needed = Size(held.0.saturating_mul(HELD_SHARE_MAX));
        let what = format!(
            "more than half of limits.memory (\"{memory}\"), and the sessions themselves need the rest"
        );
        let remedy = if message > max {
            format!(
                "raise limits.memory to \"{needed}\", or use at most \"{max}\" here and lower limits.message \
                 (\"{message}\") to it"
            )
        } else {
            format!("use at most \"{max}\", or raise limits.memory to \"{needed}\"")
        };
        report.relate(HELD, 0, Reason::unfit(what, remedy));
    }
}

/// Where one of the two numbers is missing, its process may get the default one, and the other must be another.
fn users(report: &mut Report<'_>, processes: Processes) {
    if !report.is_sound(WORKER) || !report.is_sound(SIGNER) {
        return;
    }
    let (key, other) = match (processes.worker, processes.signer) {
        (Some(worker), Some(signer)) if worker == signer => (SIGNER, WORKER),
        (Some(SIGNER_ID_DEFAULT), None) => (WORKER, "the signer's default"),
        (None, Some(WORKER_ID_DEFAULT)) => (SIGNER, "the worker's default"),
        _ => return,
    };
    let what = format!(
        "also {other}: the worker, which reads peers, could then signal the signer, which has the private keys"
    );
    report.relate(key, 0, Reason::unfit(what, "use a number of its own for each"));
}

/// The command for alarms is the owner's program, and may not signal Postern's processes. Without a number it may get the
/// default one.
fn alarm_user(report: &mut Report<'_>, config: &Config) {
    const USER: &str = "alarm.user_id";
    let Processes { worker, signer, helper, judge } = config.processes;
    let remedy = "use a number of its own for each";
    let processes = [
        (WORKER, worker, WORKER_ID_DEFAULT),
        (SIGNER, signer, SIGNER_ID_DEFAULT),
        (HELPER, helper, HELPER_ID_DEFAULT),
        (JUDGE, judge, JUDGE_ID_DEFAULT),
    ];
    for (key, set, default) in processes {
        if config.alarm.user == Some(set.unwrap_or(default)) && report.is_sound(USER) {
            let what =
                format!("also {key}, or its default: the command for alarms could then signal that process");
            report.relate(USER, 0, Reason::unfit(what, remedy));
        }
        if config.alarm.user.is_none() && set == Some(ALARM_ID_DEFAULT) && !config.alarm.command.is_empty() {
            let what =
                format!("also the default of {USER}: the command for alarms could then signal this process");
            report.relate(key, 0, Reason::unfit(what, remedy));
        }
    }
}

/// A process's number: its key, what the file says, and the default.
type ProcessUser = (&'static str, Option<u32>, u32);

/// Helper and judges read strangers, as the worker does, and have neither all mail nor keys.
fn reader_user(
    report: &mut Report<'_>,
    words: &str,
    (own_key, own, own_default): ProcessUser,
    others: &[ProcessUser],
) {
    for (key, other, default) in others.iter().copied() {
        if !report.is_sound(key) || !report.is_sound(own_key) {
            continue;
        }
        let (key, other) = match (other, own) {
            (Some(other), Some(own)) if other == own => (own_key, key.to_owned()),
            (Some(other), None) if other == own_default => (key, format!("{words}'s default")),
            (None, Some(own)) if own == default => (own_key, format!("the default of {key}")),
            _ => continue,
        };
        let what =
            format!("also {other}: {words}, which reads strangers, could then signal the other process");
        report.relate(key, 0, Reason::unfit(what, "use a number of its own for each"));
    }
}
