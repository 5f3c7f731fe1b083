//! Handshakes, records and alerts, tried by another TLS library: the scripts of `tests/tlslite` on tlslite-ng, as a
//! client and as a server. They hold the cases with their sections of RFC 8446; here each is judged by what the script
//! saw, by what the other peer was told, and by the connection's record, and a session beside it must go on.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::mpsc::{self, Receiver};
use std::{env, fs, thread};

use anyhow::{Context as _, Result, ensure};
use postern_tests::client::Session;
use postern_tests::lab::Family;
use postern_tests::netns::Namespace;
use postern_tests::pki::Wanted;
use postern_tests::postern::{Policy, Postern, Process};
use postern_tests::record::Record;
use postern_tests::scene::Scene;
use postern_tests::wait::{self, PATIENCE};
use serde_json::Value;

/// What `cargo xtask test` installed; it must be what this file says.
const REQUIREMENTS: &str = include_str!("../tlslite/requirements.txt");
/// If set, only cases whose name contains its value are tried, to debug a failure.
const PART: &str = "POSTERN_TLSLITE_CASES";
/// Upstream, every case has a name below this one: the script and the record know it by that.
const ZONE: &str = "tlslite.test";

/// Where the chore has installed tlslite-ng, beside its other tools (`xtask/src/tools.rs`).
fn packages() -> Result<PathBuf> {
    let base = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cache")));
    let dir = base.context("neither XDG_CACHE_HOME nor HOME is set")?.join("postern/tools/tlslite");
    let installed = fs::read_to_string(dir.join("requirements.txt")).unwrap_or_default();
    ensure!(
        installed == REQUIREMENTS,
        "{} does not hold what tests/tlslite/requirements.txt asks for: `cargo xtask test tlslite` installs it",
        dir.display()
    );
    Ok(dir)
}

/// A script in a namespace, and the JSON lines that it prints.
struct Script {
    lines: Receiver<String>,
    errors: thread::JoinHandle<String>,
    process: Process,
}

impl Script {
    fn start(namespace: &Namespace, name: &str, args: &[&str]) -> Result<Self> {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tlslite");
        let mut command = namespace.command("/usr/bin/python3");
        command.arg("-B").arg(dir.join(name)).args(args).env("PYTHONPATH", packages()?);
        command.args(env::var_os(PART));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("cannot start python3")?;
        let (out, err) =
            (child.stdout.take().context("no output")?, child.stderr.take().context("no errors")?);
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            BufReader::new(out).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        let errors = thread::spawn(move || {
            let mut text = String::new();
            let _ = BufReader::new(err).read_to_string(&mut text);
            text
        });
        Ok(Self { lines, errors, process: Process(child) })
    }

    fn next(&self) -> Result<Value> {
        // A script bounds its own waits; what it waits for may itself take as long as that.
        let line = self.lines.recv_timeout(2 * PATIENCE).context("the script said nothing more")?;
        serde_json::from_str(&line).with_context(|| format!("no JSON: {line}"))
    }

    /// That it has ended well.
    fn finish(mut self) -> Result<()> {
        let status = self.process.0.wait()?;
        let errors = self.errors.join().unwrap_or_default();
        ensure!(status.success() && errors.is_empty(), "the script ended with {status}: {errors}");
        Ok(())
    }
}

/// Start it, and read its first line: what it is going to try.
fn start(namespace: &Namespace, name: &str, args: &[&str]) -> Result<(Script, Value)> {
    let script = Script::start(namespace, name, args)?;
    match script.next() {
        Ok(plan) => Ok((script, plan)),
        Err(error) => Err(script.finish().err().unwrap_or(error)),
    }
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn list(value: &Value, key: &str) -> Vec<String> {
    let list = value.get(key).and_then(Value::as_array).into_iter().flatten();
    list.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// What is wrong with a case: with what came back to the peer, or with the record.
fn faults(line: &Value, record: Option<&Record>, side: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let mut hold = |holds: bool, fault: String| {
        if !holds {
            faults.push(fault);
        }
    };
    hold(text(line, "error").is_empty(), text(line, "error").to_owned());
    hold(matches!(text(line, "end"), "closed" | "reset"), "Postern did not end the connection".to_owned());
    let (came, wanted) = (list(line, "came"), list(line, "wanted"));
    hold(came == wanted, format!("alerts {came:?}, wanted {wanted:?}"));
    let reason = text(line, "reason");
    let Some(record) = record else {
        hold(false, "no record".to_owned());
        return faults;
    };
    hold(
        record.text("event.reason") == reason,
        format!(
            "event.reason {:?} ({:?}), wanted {reason:?}",
            record.text("event.reason"),
            record.text("message")
        ),
    );
    let at_fault = if record.succeeded() { "" } else { side };
    hold(record.text("postern.side") == at_fault, format!("postern.side {:?}", record.text("postern.side")));
    faults
}

/// The record of each case, or none where none came.
fn records(
    postern: &Postern<'_>,
    lines: &[Value],
    fits: impl Fn(&Record, &Value) -> bool,
) -> Result<Vec<Option<Record>>> {
    let found = || -> Result<Vec<_>> {
        let records = postern.records()?;
        Ok(lines.iter().map(|line| records.iter().find(|record| fits(record, line)).cloned()).collect())
    };
    let whole = |found: &[Option<Record>]| found.iter().all(Option::is_some);
    // What is missing at the end of the wait is told case by case.
    let waited =
        wait::until("a record of every case", PATIENCE, || Ok(Some(found()?).filter(|all| whole(all))));
    waited.or_else(|_| found())
}

/// Every case was tried, and each as it must be.
fn judge(
    plan: &Value,
    lines: &[Value],
    records: &[Option<Record>],
    mut faults: impl FnMut(&Value, Option<&Record>) -> Vec<String>,
) -> Result<()> {
    let planned = list(plan, "cases");
    let tried: Vec<_> = lines.iter().map(|line| text(line, "case").to_owned()).collect();
    ensure!(!planned.is_empty() && tried == planned, "cases that were not tried: {tried:?} of {planned:?}");
    let mut wrong = Vec::new();
    for (line, record) in lines.iter().zip(records) {
        let faults = faults(line, record.as_ref());
        if !faults.is_empty() {
            wrong.push(format!(
                "{}, {}:\n    {}",
                text(line, "case"),
                text(line, "rule"),
                faults.join("\n    ")
            ));
        }
    }
    ensure!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), lines.len(), wrong.join("\n"));
    Ok(())
}

/// Each alert of RFC 8446 section 6 comes back from Postern in some case, or there is a reason why it never does.
fn all_alerts_are_accounted_for(plan: &Value) -> Result<()> {
    let (sent, defined) = (list(plan, "sent"), list(plan, "alerts"));
    let never = plan.get("never").and_then(Value::as_object).context("no alerts that are never sent")?;
    for alert in &defined {
        ensure!(
            sent.contains(alert) != never.contains_key(alert),
            "{alert}: either a case must draw it, or a reason must stand in NEVER, and not both"
        );
    }
    ensure!(
        defined.len() == sent.len() + never.len(),
        "an alert that RFC 8446 does not define: {sent:?} {never:?}"
    );
    Ok(())
}

/// Fail if only a part of the cases was tried.
fn is_whole(lines: &[Value]) -> Result<()> {
    ensure!(env::var_os(PART).is_none(), "{} cases are as they must be; {PART} left others out", lines.len());
    Ok(())
}

#[test]
fn what_a_client_sends_is_answered_as_rfc_8446_says() -> Result<()> {
    let scene = Scene::new(&Policy::new())?;
    let postern = scene.start()?;
    let server = scene.serve()?;
    let mut beside = scene.session(Family::V4, 993)?;
    beside.enter()?;
    let address = Family::V4.server().to_string();
    let (script, plan) = start(&scene.lab.client, "downstream.py", &[&address, Family::V4.name()])?;
    let mut lines = Vec::new();
    for _ in list(&plan, "cases") {
        lines.push(script.next()?);
        beside.noop().with_context(|| format!("the session beside it, after {:?}", lines.last()))?;
    }
    script.finish()?;
    beside.logout()?;
    let port = |line: &Value| line.get("port").and_then(Value::as_u64).unwrap_or_default();
    let records = records(&postern, &lines, |record, line| record.number("client.port") == port(line))?;
    judge(&plan, &lines, &records, |line, record| faults(line, record, "downstream"))?;
    is_whole(&lines)?;
    all_alerts_are_accounted_for(&plan)?;
    drop(server);
    postern.stop()?;
    scene.finish()
}

/// What the client was told of a case: the first line, or why there was none.
fn visit(scene: &Scene, name: &str, goes_on: bool) -> String {
    let told = || -> Result<String> {
        let mut session =
            Session::implicit(&scene.lab.client, scene.server(Family::V4, 993), name, &scene.client()?)?;
        let first = session.line()?;
        if goes_on {
            session.noop()?;
            session.command("LOGOUT")?.ok()?;
        }
        // A goodbye is answered; a session that was cut is not.
        if session.to_end().is_ok() {
            let (connection, mut tcp) = session.parts()?;
            connection.send_close_notify();
            connection.write_tls(&mut tcp)?;
        }
        Ok(first)
    };
    told().unwrap_or_else(|error| format!("{error:#}"))
}

#[test]
fn what_a_server_sends_is_answered_as_rfc_8446_says() -> Result<()> {
    let scene = Scene::new(&Policy::new())?;
    let postern = scene.start()?;
    let other = scene.serve_at(Family::V6)?;
    let mut beside = scene.session(Family::V6, 993)?;
    beside.enter()?;
    let identity = scene.roots.issue(&Wanted::named(&format!("*.{ZONE}")))?;
    let (cert, key) = identity.write(scene.installation.dir(), "tlslite")?;
    let address = Family::V4.server().to_string();
    let (cert, key) = (cert.display().to_string(), key.display().to_string());
    let (script, plan) = start(&scene.lab.server, "upstream.py", &[&address, &cert, &key])?;
    let mut lines = Vec::new();
    let mut told = Vec::new();
    let goes_on = list(&plan, "goes_on");
    for (at, case) in list(&plan, "cases").iter().enumerate() {
        told.push(visit(&scene, &format!("case{at}.{ZONE}"), goes_on.contains(case)));
        lines.push(script.next()?);
        beside.noop().with_context(|| format!("the session beside it, after {:?}", lines.last()))?;
    }
    script.finish()?;
    beside.logout()?;
    let records = records(&postern, &lines, |record, line| {
        record.text("tls.client.server_name") == format!("{}.{ZONE}", text(line, "name"))
    })?;
    let mut told = told.iter();
    judge(&plan, &lines, &records, |line, record| {
        let mut faults = faults(line, record, "upstream");
        // A client whose server failed in the handshake reads why; after it, it had the greeting already.
        let wanted = text(line, "told");
        let told = told.next().map(String::as_str).unwrap_or_default();
        if !told.starts_with(wanted) {
            faults.push(format!("the client was told {told:?}, wanted {wanted:?}"));
        }
        faults
    })?;
    is_whole(&lines)?;
    all_alerts_are_accounted_for(&plan)?;
    drop(other);
    postern.stop()?;
    scene.finish()
}
