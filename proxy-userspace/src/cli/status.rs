use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::{EXIT_CONFIG, EXIT_NOT_RUNNING};
use crate::admin::{
    self, AdminError, HeldStatus, JudgesStatus, ScannerStatus, SpoolStatus, Status, SteeringStatus,
    VerdictsStatus,
};
use crate::steering::forward;
use crate::steering::routing::{self, Held};
use crate::words::Size;

/// Arguments of `postern status`.
#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// Print the JSON document.
    #[arg(long)]
    json: bool,
    /// The daemon's admin socket, instead of the one that the configuration names.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

pub(super) fn status(config: &Path, options: &StatusArgs) -> ExitCode {
    let socket = match &options.socket {
        Some(socket) => socket.clone(),
        None => match crate::config::load(config) {
            Ok(config) => config.admin.socket,
            Err(error) => {
                eprintln!(
                    "{error}\npostern: to ask without a configuration, name the socket with --socket PATH"
                );
                return ExitCode::from(EXIT_CONFIG);
            }
        },
    };
    match admin::ask(&socket) {
        Ok(status) => {
            print(&status, options.json);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("postern: {error}");
            if matches!(error, AdminError::NotRunning { .. }) {
                kernel(options.json)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

/// No daemon answers: what the kernel holds decides about mail, so it is asked.
fn kernel(json: bool) -> ExitCode {
    match routing::installed() {
        Ok(held) => {
            // Who may not look at nftables is told about the rest.
            let forward = forward::held().unwrap_or_default().rules;
            let mail = fate(&held, !forward.is_empty());
            if json {
                let document = serde_json::json!({
                    "pid": null, "mail": mail, "rules": held.rules, "routes": held.routes, "forward": forward,
                });
                show(&format!("{document:#}\n"));
            } else {
                let mut text = format!("no daemon; {mail}\n");
                lines(&mut text, "rules", &held.rules);
                lines(&mut text, "routes", &held.routes);
                lines(&mut text, "forward chain", &forward);
                show(&text);
            }
            ExitCode::from(EXIT_NOT_RUNNING)
        }
        Err(error) => {
            eprintln!("postern: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What becomes of mail by what the kernel holds.
fn fate(held: &Held, forward_drops: bool) -> &'static str {
    match (held.rules.is_empty(), held.local, held.blackhole) {
        (true, ..) if forward_drops => {
            "mail is dropped by an nftables chain of Postern's (on_exit = \"closed\"): start Postern, or let it flow \
             uninspected with `postern clear`"
        }
        (true, ..) => "nothing is installed: mail flows uninspected",
        (false, true, _) => "mail is delivered to a daemon that does not answer at this socket",
        (false, false, true) => {
            "mail is dropped (on_exit = \"closed\"): start Postern, or let it flow uninspected with `postern clear`"
        }
        (false, false, false) if held.rules.iter().any(|rule| rule.contains(" prohibit ")) => {
            "mail flows uninspected (on_exit = \"open\"), but ports that no policy admits are still refused; `postern \
             clear` removes the rules that are left"
        }
        (false, false, false) => {
            "mail flows uninspected (on_exit = \"open\"); `postern clear` removes the rules that are left"
        }
    }
}

fn print(status: &Status, json: bool) {
    show(&if json {
        serde_json::to_string_pretty(status).unwrap_or_default() + "\n"
    } else {
        readable(status)
    });
}

fn show(text: &str) {
    // A reader such as `head` may have gone.
    drop(std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes()));
}

fn readable(status: &Status) -> String {
    let (sessions, memory) = (status.sessions, &status.memory);
    let mut text = format!(
        "postern {}, process {}, since {}\nconfig    {}\non exit   {}: {}\nsource    {}\nnew mail  {}\nkernel TLS {}\nlayer     {}\n\
         sessions  {} of {} now, {} of one client, {} accepted; refused: {} total limit, {} client limit, {} egress, \
         {} implicit TLS denied, {} by no policy, {} made to a listener itself\n\
         handshakes {} of {} now; refused: {} total limit, {} client limit, {} client rate\n\
         memory    {} for sessions ({}), {} for one at most, {} buffers a thread\n\
         held      {}\n\
         verdicts  {}\n\
         spool     {}\n\
         judges    {}\n\
         rules     {}\n\
         guard     refused: {} logins by tenant, {} logins by guessing, {} messages by bodies_per_hour\n\
         records   {} lost; log lines {} lost\n",
        status.version,
        status.pid,
        status.started,
        status.config.display(),
        status.on_exit,
        if status.on_exit == "open" {
            "without a daemon mail flows uninspected"
        } else {
            "without a daemon mail is dropped"
        },
        status.source,
        status.steering.intake,
        status.kernel_tls,
        status.record_layer,
        sessions.active,
        sessions.limit,
        sessions.limit_client,
        sessions.accepted_total,
        sessions.refused_total,
        sessions.refused_client,
        sessions.refused_egress,
        sessions.refused_implicit,
        sessions.refused_policy,
        sessions.refused_local,
        sessions.handshakes,
        sessions.handshakes_limit,
        sessions.refused_handshakes,
        sessions.refused_client_handshakes,
        sessions.refused_client_rate,
        Size(memory.limit),
        memory.origin,
        Size(memory.session),
        memory.buffers_per_thread,
        held(status.held),
        verdicts(status.verdicts, status.spool.limit),
        spool(status.spool),
        judges(status.judges),
        rules(status.scanner.as_ref()),
        status.guard.refused_tenant,
        status.guard.refused_guessing,
        status.guard.refused_bodies,
        status.records_lost,
        status.log_lost,
    );
    table(
        &mut text,
        "processes",
        &["process", "pid", "user", "memory", "restarts", "system calls", "capabilities"],
        &processes(status),
    );
    text.extend(confinement(status).iter().flat_map(|line| ["  ", line, "\n"]));
    table(
        &mut text,
        "threads of the worker",
        &["thread", "cpu", "sessions", "accepted", "restarts", "state"],
        &threads(status),
    );
    table(&mut text, "listeners", &["ingress", "family", "address", "thread"], &listeners(status));
    let SteeringStatus { program_id, hook, device, repairs, counters, classes, .. } = &status.steering;
    text.push_str(&format!(
        "\nsteering program {program_id}, classifier by {hook}, route on {device}, {repairs} repairs\n"
    ));
    let SteeringStatus { alarms, in_front, forward, forward_dropped, .. } = &status.steering;
    let of_certificates = status.certificates.iter().filter_map(|certificate| certificate.alarm.clone());
    let distrusted = status.distrusted.iter().map(distrusted);
    let alarms: Vec<String> = alarms.iter().cloned().chain(of_certificates).chain(distrusted).collect();
    if !alarms.is_empty() {
        lines(&mut text, "ALARMS", &alarms);
    }
    if !in_front.is_empty() {
        lines(&mut text, "RULES OF OTHERS IN FRONT, mail may follow them", in_front);
    }
    table(&mut text, "certificates", &["certificate", "file", "ends", "days"], &certificates(status));
    table(&mut text, "interfaces", &["interface", "side", "index", ""], &interfaces(status));
    table(&mut text, "steering counters", &["exit", "packets"], &counted(counters));
    table(&mut text, "classifier counters", &["exit", "packets"], &counted(classes));
    lines(&mut text, "rules", &status.rules);
    lines(&mut text, "routes", &status.routes);
    lines(&mut text, &format!("forward chain, {forward_dropped} packets dropped"), forward);
    text
}

/// A server that is not trusted any more.
fn distrusted(server: &IpAddr) -> String {
    format!(
        "{server} changed what stands under a UID: all of its mail is compared again; take it out of \
         action.trust_uid_immutability"
    )
}

/// Mail that is held while it is judged.
fn held(held: HeldStatus) -> String {
    let HeldStatus { octets, limit, refused_total, waiting } = held;
    if limit == 0 {
        return "nothing: mail is not judged".to_owned();
    }
    format!(
        "{} of {} now to be judged, out of that memory; {waiting} wait for a thread; refused: {refused_total} without room",
        Size(octets),
        Size(limit)
    )
}

/// What is remembered of mail that was judged; there is no spool either where none was.
fn verdicts(verdicts: VerdictsStatus, spool_limit: u64) -> String {
    let VerdictsStatus { entries, has_file, file_octets, hits_total, misses_total, dropped_total } = verdicts;
    if spool_limit == 0 {
        return "none: mail is not judged".to_owned();
    }
    let file = if has_file {
        format!("{} in the file", Size(file_octets))
    } else {
        "NO FILE, see the log".to_owned()
    };
    format!(
        "{entries} in memory, {file}; {hits_total} known, {misses_total} not known; {dropped_total} not written"
    )
}

/// Processes that judge parts of mail.
fn judges(judges: JudgesStatus) -> String {
    let JudgesStatus {
        wanted,
        alive,
        restarts,
        leaves_total,
        lost_total,
        hung_total,
        cannot_scan_total,
        unavailable_total,
    } = judges;
    if wanted == 0 {
        return "none: mail is not judged".to_owned();
    }
    format!(
        "{alive} of {wanted}, {restarts} restarts; {leaves_total} parts judged, {cannot_scan_total} cannot be scanned, \
         {unavailable_total} had no judge; {lost_total} judges died of a part, {hung_total} hung"
    )
}

/// Copies of mail that was judged.
fn spool(spool: SpoolStatus) -> String {
    let SpoolStatus { octets, in_memory, limit, has_file, refused_total, failed_total } = spool;
    if limit == 0 {
        return "none: mail is not judged".to_owned();
    }
    let file = if has_file { "" } else { "; NO FILE, see the log" };
    format!(
        "{} of {} now, {} of it held in memory{file}; refused: {refused_total} without room, {failed_total} by the disk",
        Size(octets),
        Size(limit),
        Size(in_memory)
    )
}

/// What files in mail are scanned with.
fn rules(scanner: Option<&ScannerStatus>) -> String {
    let Some(ScannerStatus { embedded, own, files, compiled, compile_ms, newest_age_seconds, .. }) = scanner
    else {
        return "none: nothing is scanned".to_owned();
    };
    let brought = match embedded {
        0 => "none of Postern's".to_owned(),
        count => format!("{count} of Postern's"),
    };
    let newest = newest_age_seconds.map(|seconds| format!(", the newest changed {} ago", age(seconds)));
    format!(
        "{brought}, {own} of your own (files: {files}{}); compiled {compiled} in {compile_ms} ms",
        newest.unwrap_or_default()
    )
}

/// A time in the largest unit that it has several of.
fn age(seconds: u64) -> String {
    let (number, unit) = match seconds {
        172_800.. => (seconds / 86_400, "days"),
        7_200.. => (seconds / 3_600, "hours"),
        120.. => (seconds / 60, "minutes"),
        _ => (seconds, "seconds"),
    };
    format!("{number} {unit}")
}

/// More than a process of Postern's needs: a root that nobody narrowed.
const CAPABILITIES_SHOWN_MAX: usize = 8;

fn processes(status: &Status) -> Vec<Vec<String>> {
    let number = |number: Option<u32>, absent: &str| {
        number.map_or_else(|| absent.to_owned(), |number| number.to_string())
    };
    let capabilities = |held: &[String]| match held.len() {
        0 => "none".to_owned(),
        count if count > CAPABILITIES_SHOWN_MAX => format!("{count}, as root has them"),
        _ => held.join(" "),
    };
    let row = |process: &admin::ProcessStatus| {
        let of_living = |cell: String| if process.pid.is_some() { cell } else { "-".to_owned() };
        vec![
            process.name.clone(),
            number(process.pid, "DEAD"),
            number(process.uid, "-"),
            of_living(Size(process.memory).to_string()),
            process.restarts.to_string(),
            of_living(if process.seccomp { "filtered" } else { "all" }.to_owned()),
            of_living(capabilities(&process.capabilities)),
        ]
    };
    status.processes.iter().map(row).collect()
}

/// What else is known of the processes, a line each.
fn confinement(status: &Status) -> Vec<String> {
    let mut lines = Vec::new();
    for process in &status.processes {
        let name = &process.name;
        lines.extend(process.landlock.as_ref().map(|denied| format!("{name}: Landlock denies {denied}")));
        lines
            .extend(process.locked_memory.as_ref().map(|words| format!("{name}: locked in memory: {words}")));
    }
    if status.processes.iter().any(|process| process.name == "helper") {
        let admin::OcspStatus { asked_total, failed_total } = status.ocsp;
        lines.push(format!(
            "helper: authorities were asked {asked_total} times, {failed_total} without an answer"
        ));
    }
    lines.extend(status.signatures.map(|signed| {
        let admin::SignaturesStatus { minted, mints_refused, handshakes, handshakes_refused } = signed;
        format!(
            "signer: {minted} certificates minted, {mints_refused} refused; {handshakes} handshakes signed, \
             {handshakes_refused} refused"
        )
    }));
    lines
}

fn threads(status: &Status) -> Vec<Vec<String>> {
    let row = |thread: &admin::ThreadStatus| {
        vec![
            thread.index.to_string(),
            thread.cpu.map_or_else(|| "-".to_owned(), |cpu| cpu.to_string()),
            thread.sessions.to_string(),
            thread.accepted_total.to_string(),
            thread.restarts.to_string(),
            if thread.alive { "alive" } else { "DEAD" }.to_owned(),
        ]
    };
    status.threads.iter().map(row).collect()
}

fn listeners(status: &Status) -> Vec<Vec<String>> {
    let row = |listener: &admin::ListenerStatus| {
        vec![
            listener.ingress.clone(),
            listener.family.clone(),
            listener.address.to_string(),
            listener.thread.to_string(),
        ]
    };
    status.listeners.iter().map(row).collect()
}

fn certificates(status: &Status) -> Vec<Vec<String>> {
    let row = |certificate: &admin::CertificateStatus| {
        let admin::CertificateStatus { name, file, not_after, days_left, .. } = certificate;
        vec![name.clone(), file.display().to_string(), not_after.clone(), days_left.to_string()]
    };
    status.certificates.iter().map(row).collect()
}

fn interfaces(status: &Status) -> Vec<Vec<String>> {
    let row = |interface: &admin::InterfaceStatus| {
        let index = interface.index.map_or_else(|| "ABSENT".to_owned(), |index| index.to_string());
        let leaving = if interface.leaving { "leaving" } else { "" };
        vec![interface.name.clone(), interface.side.clone(), index, leaving.to_owned()]
    };
    status.steering.interfaces.iter().map(row).collect()
}

fn counted(counters: &BTreeMap<String, u64>) -> Vec<Vec<String>> {
    counters.iter().map(|(exit, packets)| vec![exit.clone(), packets.to_string()]).collect()
}

fn lines(text: &mut String, title: &str, lines: &[String]) {
    text.extend(["\n", title, "\n"]);
    for line in lines {
        text.extend(["  ", line, "\n"]);
    }
    if lines.is_empty() {
        text.push_str("  none\n");
    }
}

/// Columns as wide as their widest cell.
fn table(text: &mut String, title: &str, head: &[&str], rows: &[Vec<String>]) {
    let width = |column: usize, name: &str| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(String::len);
        cells.max().unwrap_or(0).max(name.len())
    };
    let widths: Vec<usize> = head.iter().enumerate().map(|(column, name)| width(column, name)).collect();
    text.extend(["\n", title, "\n"]);
    let mut line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> = cells.zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.extend(["  ", padded.join("  ").trim_end(), "\n"]);
    };
    line(&mut head.iter().copied());
    for row in rows {
        line(&mut row.iter().map(String::as_str));
    }
}
