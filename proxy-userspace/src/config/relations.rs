use super::daemon::{Processes, SIGNER_ID_DEFAULT, WORKER_ID_DEFAULT};
use super::fault::Reason;
use super::limits::{CLIENT_SHARE, HELD_SHARE_MAX, Limits, MEMORY_INSPECTED_MIN, MEMORY_MAX};
use super::names::InterfaceName;
use super::report::Report;
use super::{ClearText, Config, Inspection, OnExit, SteeringConfig};
use crate::words::Size;

const CLEARTEXT: &str = "action.cleartext";
const INGRESS: &str = "steering.ingress";
const EGRESS: &str = "steering.egress";
const SESSIONS: &str = "limits.sessions";
const SESSIONS_PER_CLIENT: &str = "limits.sessions_per_client";
const MEMORY: &str = "limits.memory";
const MESSAGE: &str = "limits.message";
const HELD: &str = "limits.held";
const WORKER: &str = "process.worker_id";
const SIGNER: &str = "process.signer_id";

pub(super) fn judge(report: &mut Report<'_>, config: &Config) {
    sides(report, &config.steering);
    for (index, reach) in config.steering.reach.iter().enumerate() {
        let key = |name: &str| format!("steering.reach[{index}].{name}");
        listed(report, &key("ingress"), &reach.ingress, INGRESS, &config.steering.ingress);
        let egress = reach.egress.as_deref().unwrap_or_default();
        listed(report, &key("egress"), egress, EGRESS, &config.steering.egress);
    }
    if config.steering.on_exit == OnExit::Open {
        shares(report, &config.limits);
    }
    if config.action.inspect == Inspection::Full {
        inspected_memory(report, &config.limits);
    }
    held(report, &config.limits, config.action.inspect);
    if (config.action.cleartext, config.action.inspect) == (ClearText::Inspect, Inspection::None) {
        let what = "needs action.inspect = \"full\": without it nobody reads the commands, and a STARTTLS among them \
                    would pass";
        let remedy = "use \"refuse\", or action.inspect = \"full\"; or list destinations to leave alone in action.bypass";
        report.relate(CLEARTEXT, 0, Reason::unfit(what, remedy));
    }
    users(report, config.processes);
}

/// Postern's own connections leave by egress, and must not be steered.
fn sides(report: &mut Report<'_>, steering: &SteeringConfig) {
    for (index, name) in steering.egress.iter().enumerate() {
        if let Some(at) = steering.ingress.iter().position(|ingress| ingress == name) {
            let first = report.line(INGRESS, at);
            let what = format!(
                "also in ingress on line {first}: Postern's own connections to the servers would be steered again"
            );
            report.relate(EGRESS, index, Reason::unfit(what, "list it on one side only"));
        }
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
fn held(report: &mut Report<'_>, limits: &Limits, inspect: Inspection) {
    let Some(held) = limits.held.filter(|_| report.is_sound(MESSAGE)) else { return };
    let memory = limits.memory.filter(|_| inspect == Inspection::Full && report.is_sound(MEMORY));
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
