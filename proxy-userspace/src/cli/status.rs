use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::EXIT_CONFIG;
use crate::admin::{self, Status};

/// Arguments of `postern status`.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// Print the JSON document.
    #[arg(long)]
    json: bool,
    /// The daemon's admin socket, instead of the one that the configuration names.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

pub(super) fn status(config: &Path, options: &Options) -> ExitCode {
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
            ExitCode::FAILURE
        }
    }
}

fn print(status: &Status, json: bool) {
    let text =
        if json { serde_json::to_string_pretty(status).unwrap_or_default() + "\n" } else { readable(status) };
    // A reader such as `head` may have gone.
    drop(std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes()));
}

fn readable(status: &Status) -> String {
    let sessions = status.sessions;
    let mut text = format!(
        "postern {}, process {}, since {}\nconfig    {}\non exit   {}\n\
         sessions  {} of {} now, {} accepted; refused: {} total limit, {} client limit, {} egress\n\
         records   {} lost\n",
        status.version,
        status.pid,
        status.started,
        status.config.display(),
        status.on_exit,
        sessions.active,
        sessions.limit,
        sessions.accepted_total,
        sessions.refused_total,
        sessions.refused_client,
        sessions.refused_egress,
        status.records_lost,
    );
    table(
        &mut text,
        "workers",
        &["worker", "cpu", "sessions", "accepted", "restarts", "state"],
        &workers(status),
    );
    table(&mut text, "listeners", &["family", "address", "worker"], &listeners(status));
    let state = if status.steering.attached { "attached" } else { "NOT ATTACHED" };
    text.push_str(&format!("\nsteering program {}, {state}\n", status.steering.program_id));
    table(&mut text, "ingress", &["interface", "index"], &ingress(status));
    table(&mut text, "counters", &["exit", "packets"], &counters(status));
    lines(&mut text, "rules", &status.rules);
    lines(&mut text, "routes", &status.routes);
    text
}

fn workers(status: &Status) -> Vec<Vec<String>> {
    let row = |worker: &admin::WorkerStatus| {
        vec![
            worker.index.to_string(),
            worker.cpu.map_or_else(|| "-".to_owned(), |cpu| cpu.to_string()),
            worker.sessions.to_string(),
            worker.accepted_total.to_string(),
            worker.restarts.to_string(),
            if worker.alive { "alive" } else { "DEAD" }.to_owned(),
        ]
    };
    status.workers.iter().map(row).collect()
}

fn listeners(status: &Status) -> Vec<Vec<String>> {
    let row = |listener: &admin::ListenerStatus| {
        vec![listener.family.clone(), listener.address.to_string(), listener.worker.to_string()]
    };
    status.listeners.iter().map(row).collect()
}

fn ingress(status: &Status) -> Vec<Vec<String>> {
    status
        .steering
        .ingress
        .iter()
        .map(|interface| vec![interface.name.clone(), interface.index.to_string()])
        .collect()
}

fn counters(status: &Status) -> Vec<Vec<String>> {
    status.steering.counters.iter().map(|(exit, packets)| vec![exit.clone(), packets.to_string()]).collect()
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
