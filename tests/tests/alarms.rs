//! Who is told: an owner's command that is run for alarms, and the journal with fields of its own.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context as _, Result, ensure};
use postern_tests::corpus::eicar_message;
use postern_tests::imap_server::USER;
use postern_tests::lab::Family;
use postern_tests::pki::Wanted;
use postern_tests::postern::Policy;
use postern_tests::record::Record;
use postern_tests::responder::{NameServer, Reply, Responder};
use postern_tests::scene::Scene;
use postern_tests::wait::{self, PATIENCE};
use rustix::process::{Pid, Signal, kill_process};
use rustls::ALL_VERSIONS;
use serde_json::Value;
use tempfile::TempDir;

/// The user that the command of these tests has.
const NOTIFIED: u32 = 60777;
/// Says on a file of its own what it was given and what it is, and fails where it is told to.
const NOTIFY: &str = r#"#!/bin/sh
out="$1"
json=$(cat)
{
  printf 'argument %s\n' "$@"
  printf 'json %s\n' "$json"
  printf 'user %s\n' "$(id -u) $(id -g) $(id -G)"
  printf 'directory %s\n' "$(pwd)"
  sed -n 's/^CapEff:[[:space:]]*/effective /p; s/^CapBnd:[[:space:]]*/bounding /p' /proc/self/status
  printf 'privileges %s\n' "$(sed -n 's/^NoNewPrivs:[[:space:]]*//p' /proc/self/status)"
  env | sed 's/^/environment /'
  for descriptor in /proc/$$/fd/*; do printf 'descriptor %s\n' "$(readlink "$descriptor")"; done
} > "$out/part.$$"
mv "$out/part.$$" "$out/alarm.$$"
case "$json" in *'"postern.alarm.kind":"test"'*) echo 'no route to the pager' >&2; exit 7;; esac
"#;

/// The command, and where it writes what it was told.
struct Notified {
    directory: TempDir,
}

impl Notified {
    fn new() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("postern-alarms-").tempdir()?;
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755))?;
        let this = Self { directory };
        fs::create_dir(this.out())?;
        chown(this.out(), Some(NOTIFIED), Some(NOTIFIED))?;
        fs::write(this.program(), NOTIFY)?;
        fs::set_permissions(this.program(), Permissions::from_mode(0o755))?;
        Ok(this)
    }

    fn program(&self) -> PathBuf {
        self.directory.path().join("notify")
    }

    fn out(&self) -> PathBuf {
        self.directory.path().join("out")
    }

    /// `[alarm]`: an argument would run a command, if a shell read it.
    fn table(&self) -> String {
        let out = self.out().display().to_string();
        let words = [
            self.program().display().to_string(),
            out.clone(),
            format!("; touch {out}/shell"),
            format!("$(touch {out}/shell)"),
        ];
        format!("[alarm]\ncommand = {words:?}\nuser_id = {NOTIFIED}\n")
    }

    /// What each run so far wrote, by the alarm's kind.
    fn told(&self) -> Result<Vec<Told>> {
        let mut told = Vec::new();
        for entry in fs::read_dir(self.out())? {
            let path = entry?.path();
            if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("alarm.")) {
                told.push(Told::read(&path)?);
            }
        }
        Ok(told)
    }

    fn wait(&self, kind: &str) -> Result<Told> {
        wait::until(&format!("an alarm of kind {kind}"), PATIENCE, || {
            Ok(self.told()?.into_iter().find(|told| told.text("postern.alarm.kind") == kind))
        })
    }
}

/// One run of the command.
struct Told {
    alarm: Value,
    lines: String,
}

impl Told {
    fn read(path: &Path) -> Result<Self> {
        let lines = fs::read_to_string(path)?;
        let json = lines.lines().find_map(|line| line.strip_prefix("json ")).context("no JSON")?;
        Ok(Self { alarm: serde_json::from_str(json).with_context(|| lines.clone())?, lines })
    }

    fn text(&self, name: &str) -> &str {
        self.alarm.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    fn of(&self, what: &str) -> Vec<&str> {
        let begin = format!("{what} ");
        self.lines.lines().filter_map(|line| line.strip_prefix(&begin)).collect()
    }
}

/// It has nothing but its arguments, its input and its user.
fn is_powerless(told: &Told, notified: &Notified) -> Result<()> {
    let out = notified.out().display().to_string();
    let words = [out.clone(), format!("; touch {out}/shell"), format!("$(touch {out}/shell)")];
    assert_eq!(told.of("argument"), words, "{}", told.lines);
    ensure!(!notified.out().join("shell").exists(), "a shell read the arguments");
    assert_eq!(told.of("user"), [format!("{NOTIFIED} {NOTIFIED} {NOTIFIED}")]);
    assert_eq!(told.of("directory"), ["/"]);
    assert_eq!(told.of("effective"), ["0000000000000000"]);
    assert_eq!(told.of("bounding"), ["0000000000000000"]);
    assert_eq!(told.of("privileges"), ["1"]);
    // A shell adds the last two itself.
    let foreign = told.of("environment").into_iter().find(|variable| {
        !["PATH=/usr/local/sbin:", "PWD=/", "_="].iter().any(|known| variable.starts_with(known))
    });
    assert_eq!(foreign, None, "{}", told.lines);
    let known = |target: &&str| {
        *target == "/dev/null"
            || target.starts_with("pipe:")
            || target.contains("/notify")
            || target.contains("/out/")
    };
    let foreign: Vec<_> = told.of("descriptor").into_iter().filter(|target| !known(target)).collect();
    ensure!(foreign.iter().all(|target| target.is_empty()), "{foreign:?}");
    Ok(())
}

#[test]
fn the_owners_command_is_told_of_forbidden_mail_and_of_a_dead_worker_and_has_no_power() -> Result<()> {
    let notified = Notified::new()?;
    let policy = Policy::new().action("inspect = \"full\"").action("alarms = [\"content\"]");
    let scene = Scene::new(&policy.table(&notified.table()))?;
    let check = || scene.installation.command(&scene.lab.gateway, &["check"]);
    let good = format!("ok    alarm command: {}, as user {NOTIFIED}", notified.program().display());
    ensure!(check()?.stdout.contains(&good), "{}", check()?.stdout);
    let postern = scene.start()?;
    let sample = eicar_message();
    let server =
        scene.serve_with(scene.identity.server_config(ALL_VERSIONS)?, vec![sample.octets.clone()])?;
    let mut session = scene.session(Family::V4, 993)?;
    session.enter()?;
    sample.arrived_as(&sample.octets, &session.fetch(1)?)?;
    let told = notified.wait("content")?;
    is_powerless(&told, &notified)?;
    session.logout()?;
    let record = postern.wait_records(1)?.remove(0);
    let verdict = postern.verdicts()?.pop().context("no verdict")?;
    // The alarm is the verdict's line, and leads to the record of the session.
    for (name, value) in verdict.0.as_object().context("no object")? {
        assert_eq!(told.alarm.get(name), Some(value), "{name}: {:#}", told.alarm);
    }
    assert_eq!(told.text("event.kind"), "alert");
    assert_eq!(told.alarm["postern.alarm.suppressed"], 0);
    assert_eq!(told.text("event.id"), record.text("event.id"));
    assert_eq!((record.text("user.name"), told.text("user.name")), (USER, USER), "{record:#?}");
    assert_eq!(record.0["rule.name"], serde_json::json!(["eicar"]), "{record:#?}");
    for line in [&record, &verdict] {
        for name in ["postern.policy", "postern.proxy_action", "postern.tls_profile"] {
            ensure!(!line.text(name).is_empty(), "{name}: {line:#?}");
        }
    }

    let said = scene.installation.command(&scene.lab.gateway, &["alarm", "test"])?;
    ensure!(said.code == Some(0) && said.stdout.contains("on its way"), "{said:?}");
    notified.wait("test")?;
    // Five at once, and then two minutes of none: whoever tries on is told so.
    let mut last = said.stdout;
    for _ in 0..5 {
        last = scene.installation.command(&scene.lab.gateway, &["alarm", "test"])?.stdout;
    }
    ensure!(last.contains("too many trials in this hour"), "{last}");
    postern.wait_log("it ended with exit status: 7: no route to the pager")?;
    let worker = Pid::from_raw(i32::try_from(postern.process("worker")?)?).context("no process")?;
    kill_process(worker, Signal::KILL)?;
    let told = notified.wait("process_died")?;
    ensure!(told.text("message").contains("the worker died"), "{:#}", told.alarm);
    let of_kind = |kind: &str| -> Result<usize> {
        Ok(notified.told()?.iter().filter(|told| told.text("postern.alarm.kind") == kind).count())
    };
    wait::until("five trials", PATIENCE, || Ok((of_kind("test")? == 5).then_some(())))?;
    assert_eq!(notified.told()?.len(), 7, "what no list names raises no alarm, and no sixth trial does");
    drop(server);
    postern.stop()?;
    let said = scene.installation.command(&scene.lab.gateway, &["alarm", "test"])?;
    assert_eq!(said.code, Some(3), "{said:?}");
    fs::set_permissions(notified.program(), Permissions::from_mode(0o777))?;
    let said = check()?;
    ensure!(said.code == Some(64) && said.stdout.contains("fail  alarm command: "), "{}", said.stdout);
    scene.finish()
}

/// What lets somebody post, in the path of the webhook's URL.
const SECRET: &str = "T0SECRET";

/// A policy with this webhook, whose name the lab's name server knows.
fn posting(url: &str) -> Policy {
    let tables =
        format!("[helper]\nname_servers = [\"{}\"]\n[alarm]\nwebhook = \"{url}\"", Family::V4.server());
    Policy::new().action("inspect = \"full\"").action("alarms = [\"content\"]").table(&tables)
}

/// What was posted of this kind.
fn posted(webhook: &Responder, kind: &str) -> Vec<Value> {
    let bodies = webhook.asked();
    let alarms = bodies.iter().filter_map(|body| serde_json::from_slice::<Value>(body).ok());
    alarms.filter(|alarm| alarm["postern.alarm.kind"] == kind).collect()
}

fn wait_posted(webhook: &Responder, kind: &str, count: usize) -> Result<Vec<Value>> {
    wait::until(&format!("{count} alarms of kind {kind}"), PATIENCE, || {
        Ok(Some(posted(webhook, kind)).filter(|posted| posted.len() >= count))
    })
}

#[test]
fn the_owners_webhook_is_told_by_a_helper_that_reaches_nothing_else_and_its_url_stays_secret() -> Result<()> {
    let server = Family::V4.server();
    let over_tls = format!("https://hooks.lab.test:8443/{SECRET}");
    let scene = Scene::new(&posting(&over_tls))?;
    let at = |port| SocketAddr::new(server, port);
    let identity = scene.roots.issue(&Wanted::named("hooks.lab.test"))?;
    let webhook = Responder::secure(&scene.lab.server, at(8443), identity.server_config(ALL_VERSIONS)?)?;
    let plain = Responder::start(&scene.lab.server, &[at(8080)])?;
    let names = NameServer::start(&scene.lab.server, server, &[("hooks.lab.test", server)])?;
    let check = || scene.installation.command(&scene.lab.gateway, &["check"]);
    let said = check()?.stdout;
    ensure!(said.contains("ok    alarm webhook: https://hooks.lab.test:8443, vouched for"), "{said}");
    ensure!(!said.contains(SECRET), "{said}");
    let mut postern = scene.start()?;
    let helper_may = || -> Result<String> {
        let status = postern.status()?;
        let processes = status["processes"].as_array().context("no processes")?;
        let helper = processes.iter().find(|process| process["name"] == "helper").context("no helper")?;
        Ok(helper["landlock"].as_str().unwrap_or_default().to_owned())
    };
    // Kernels before 6.7 have no rights for networks.
    let reaches = |port: u16| -> Result<bool> {
        let may = helper_may()?;
        Ok(!may.contains("TCP") || may.contains(&format!("TCP but to port {port},")))
    };
    ensure!(reaches(8443)?, "{}", helper_may()?);

    // What cannot be taken now is posted again, with the same octets.
    webhook.says(Reply::with("503 Busy", b""));
    let sample = eicar_message();
    let mail = scene.serve_with(scene.identity.server_config(ALL_VERSIONS)?, vec![sample.octets.clone()])?;
    let mut session = scene.session(Family::V4, 993)?;
    session.enter()?;
    sample.arrived_as(&sample.octets, &session.fetch(1)?)?;
    session.logout()?;
    wait_posted(&webhook, "content", 1)?;
    webhook.says(Reply::with("204 No Content", b""));
    let told = wait_posted(&webhook, "content", 2)?;
    assert_eq!(told[0], told[1]);
    let verdict = postern.verdicts()?.pop().context("no verdict")?;
    for (name, value) in verdict.0.as_object().context("no object")? {
        assert_eq!(told[0].get(name), Some(value), "{name}");
    }
    assert_eq!((&told[0]["event.kind"], &told[0]["user.name"]), (&"alert".into(), &USER.into()));

    // Whoever has no certificate for the URL's host hears nothing.
    let reload = |url: &str| -> Result<()> {
        scene.installation.configure(&posting(url))?;
        let said = scene.installation.command(&scene.lab.gateway, &["reload"])?;
        ensure!(said.code == Some(0), "{said:?}");
        Ok(())
    };
    let trial = || -> Result<()> {
        let said = scene.installation.command(&scene.lab.gateway, &["alarm", "test"])?;
        ensure!(said.code == Some(0) && said.stdout.contains("on its way"), "{said:?}");
        Ok(())
    };
    reload(&format!("https://{server}:8443/{SECRET}"))?;
    trial()?;
    postern
        .wait_log(&format!("the webhook at https://{server}:8443: its certificate is not valid for it"))?;
    assert_eq!(posted(&webhook, "test"), Vec::<Value>::new());

    // Another port is another helper's. It tells of its predecessor's death.
    plain.says(Reply::with("200 OK", b""));
    let former = postern.process("helper")?;
    reload(&format!("http://{server}:8080/{SECRET}"))?;
    let said = check()?.stdout;
    ensure!(
        said.contains(&format!("warn  alarm webhook: http://{server}:8080: whoever is on the way")),
        "{said}"
    );
    let helper = wait::until("another helper", PATIENCE, || {
        Ok(postern.process("helper").ok().filter(|helper| *helper != former))
    })?;
    ensure!(reaches(8080)?, "{}", helper_may()?);
    kill_process(Pid::from_raw(i32::try_from(helper)?).context("no process")?, Signal::KILL)?;
    let told = wait_posted(&plain, "process_died", 1)?;
    let message = told[0]["message"].as_str().unwrap_or_default();
    ensure!(message.contains("the helper died") && message.contains("alarms wait"), "{message}");

    // What is raised before the daemon ends arrives, though the other processes are gone before.
    let pid = |name: &str| -> Result<Pid> {
        Pid::from_raw(i32::try_from(postern.process(name)?)?).context("no process")
    };
    let (helper, others) = (pid("helper")?, [pid("worker")?, pid("signer")?]);
    kill_process(helper, Signal::STOP)?;
    trial()?;
    drop(mail);
    postern.signal(Signal::TERM)?;
    let are_gone =
        || others.iter().all(|pid| !Path::new(&format!("/proc/{}", pid.as_raw_nonzero())).exists());
    wait::until("worker and signer to end", PATIENCE, || Ok(are_gone().then_some(())))?;
    kill_process(helper, Signal::CONT)?;
    ensure!(postern.wait(PATIENCE)?.success(), "it did not stop well: {}", postern.log());
    assert_eq!(posted(&plain, "test").len(), 1);
    let log = postern.log();
    drop(postern);
    ensure!(!log.contains(SECRET), "{log}");
    drop((webhook, plain, names));
    scene.finish()
}

type Entry = BTreeMap<String, Vec<String>>;

/// Plays journald: keeps what comes, as systemd's JOURNAL_NATIVE_PROTOCOL says.
struct Journal {
    socket: UnixDatagram,
    entries: Arc<Mutex<Vec<Entry>>>,
    path: PathBuf,
}

impl Journal {
    fn at(path: &Path) -> Result<Self> {
        let socket = UnixDatagram::bind(path)?;
        fs::set_permissions(path, Permissions::from_mode(0o666))?;
        let (entries, reader) = (Arc::<Mutex<Vec<Entry>>>::default(), socket.try_clone()?);
        let kept = Arc::clone(&entries);
        thread::spawn(move || {
            let mut datagram = vec![0; 256 * 1024];
            while let Ok(octets @ 1..) = reader.recv(&mut datagram) {
                let entry = datagram.get(..octets).map(parsed).unwrap_or_default();
                kept.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
            }
        });
        Ok(Self { socket, entries, path: path.to_owned() })
    }

    fn wait(&self, what: &str, fits: impl Fn(&Entry) -> bool) -> Result<Entry> {
        let entries = || self.entries.lock().unwrap_or_else(PoisonError::into_inner).clone();
        wait::until(&format!("an entry: {what}"), PATIENCE, || Ok(entries().into_iter().find(&fits)))
            .with_context(|| format!("{:#?}", entries()))
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        let _ = self.socket.shutdown(Shutdown::Both);
        let _ = fs::remove_file(&self.path);
    }
}

/// A field whose form nobody knows makes an entry that no test finds.
fn parsed(mut datagram: &[u8]) -> Entry {
    let mut entry = Entry::new();
    while let Some(line) = datagram.iter().position(|octet| *octet == b'\n') {
        let (head, rest) =
            (datagram.get(..line).unwrap_or_default(), datagram.get(line + 1..).unwrap_or_default());
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        if let Some((name, value)) = text(head).split_once('=') {
            entry.entry(name.to_owned()).or_default().push(value.to_owned());
            datagram = rest;
        } else {
            let length = rest.first_chunk::<8>().map_or(0, |octets| u64::from_le_bytes(*octets));
            let end = usize::try_from(length).unwrap_or(0).saturating_add(8);
            entry.entry(text(head)).or_default().push(text(rest.get(8..end).unwrap_or_default()));
            datagram = rest.get(end + 1..).unwrap_or_default();
        }
    }
    entry
}

fn field<'e>(entry: &'e Entry, name: &str) -> &'e str {
    entry.get(name).and_then(|values| values.first()).map(String::as_str).unwrap_or_default()
}

#[test]
fn where_systemd_connects_the_streams_with_the_journal_records_and_log_have_its_own_fields() -> Result<()> {
    let scene = Scene::new(&Policy::new().action("inspect = \"full\""))?;
    let run = scene.installation.dir().join("run");
    fs::create_dir_all(run.join("systemd/journal"))?;
    let path = run.join("systemd/journal/socket");
    let journal = Journal::at(&path)?;
    // As systemd does: a stream of its own, whose device and inode the environment names.
    let (stream, _text) = UnixStream::pair()?;
    let seen = rustix::fs::fstat(stream.as_fd())?;
    let script = format!(
        "mount --bind {} /run && export JOURNAL_STREAM={}:{} && exec \"$@\"",
        run.display(),
        seen.st_dev,
        seen.st_ino
    );
    let wrapper = ["unshare", "--mount", "sh", "-c", &script, "sh"];
    let streams = [stream.try_clone()?, stream].map(std::os::fd::OwnedFd::from);
    let [stdout, stderr] = streams;
    let mut postern =
        scene.installation.spawn_onto(&scene.lab.gateway, &wrapper, stdout.into(), stderr.into())?;
    let steers = |entry: &Entry| field(entry, "MESSAGE").contains("steering IMAP");
    let said = journal.wait("that it steers", steers)?;
    for (name, value) in [
        ("PRIORITY", "6"),
        ("SYSLOG_IDENTIFIER", "postern"),
        ("POSTERN_PROCESS", "supervisor"),
        ("POSTERN_LOG_TARGET", "postern::supervisor"),
    ] {
        assert_eq!(field(&said, name), value, "{said:#?}");
    }
    wait::until("Postern to answer", PATIENCE, || Ok(postern.status().ok()))?;
    let sample = eicar_message();
    let server =
        scene.serve_with(scene.identity.server_config(ALL_VERSIONS)?, vec![sample.octets.clone()])?;
    let fetch = || -> Result<()> {
        let mut session = scene.session(Family::V4, 993)?;
        session.enter()?;
        sample.arrived_as(&sample.octets, &session.fetch(1)?)?;
        session.logout()
    };
    fetch()?;
    let of = |action: &'static str| move |entry: &Entry| field(entry, "EVENT_ACTION") == action;
    let [start, end, verdict] = [
        journal.wait("a begin", of("session_start"))?,
        journal.wait("an end", of("session_end"))?,
        journal.wait("a verdict", of("content_verdict"))?,
    ];
    for (name, value) in [
        ("PRIORITY", "6"),
        ("POSTERN_PROCESS", "worker"),
        ("EVENT_REASON", "closed"),
        ("CLIENT_IP", &*Family::V4.client().to_string()),
        ("USER_NAME", USER),
        ("RULE_NAME", "eicar"),
        ("TLS_VERSION", "1.3"),
        ("POSTERN_UPSTREAM_TLS_VERSION", "1.3"),
        ("POSTERN_POLICY", "default"),
    ] {
        assert_eq!(field(&end, name), value, "{name}: {end:#?}");
    }
    ensure!(field(&end, "TLS_CIPHER").starts_with("TLS_"), "{end:#?}");
    ensure!(field(&end, "MESSAGE").ends_with(": both sides closed"), "{end:#?}");
    ensure!(field(&verdict, "PRIORITY") == "4" && field(&verdict, "USER_NAME") == USER, "{verdict:#?}");
    let ids = [&start, &end, &verdict].map(|entry| field(entry, "EVENT_ID"));
    ensure!(!ids[0].is_empty() && ids[0] == ids[1] && ids[1] == ids[2], "{ids:?}");
    let kinds = [&start, &end, &verdict].map(|entry| field(entry, "MESSAGE_ID"));
    ensure!(kinds.iter().all(|id| id.len() == 32) && kinds[0] != kinds[1], "{kinds:?}");
    // What the page says of a record holds of the journal, too.
    for name in end.keys().filter(|name| !name.starts_with("POSTERN_PROCESS")) {
        ensure!(name.len() <= 64 && !name.starts_with('_'), "{name}");
    }

    // Whoever restarts the journal's socket loses what is said meanwhile, and nothing afterwards.
    drop(journal);
    let journal = Journal::at(&path)?;
    fetch()?;
    journal.wait("an end after the restart", of("session_end"))?;
    postern.signal(Signal::HUP)?;
    journal.wait("the log after the restart", |entry| {
        field(entry, "MESSAGE").starts_with("configuration reloaded")
    })?;
    drop(server);
    postern.signal(Signal::TERM)?;
    ensure!(postern.wait(PATIENCE)?.success(), "it did not stop well");
    journal.wait("the stop", |entry| field(entry, "MESSAGE").starts_with("TERM: stopping"))?;
    drop(postern);
    scene.finish()
}

#[test]
fn the_name_of_a_stream_that_is_another_changes_nothing() -> Result<()> {
    let scene = Scene::new(&Policy::new())?;
    let postern = scene.installation.start_with(&scene.lab.gateway, &["env", "JOURNAL_STREAM=1:2"])?;
    let server = scene.serve()?;
    scene.fetches()?;
    ensure!(postern.wait_records(1)?.iter().all(Record::succeeded), "{:#?}", postern.records()?);
    drop(server);
    postern.stop()?;
    scene.finish()
}
