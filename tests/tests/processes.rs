//! All processes: what each may do, and what becomes of sessions when one of them dies.

use std::fs;
use std::io::ErrorKind;
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use postern_tests::client::Session;
use postern_tests::imap_server::large_message;
use postern_tests::lab::Family;
use postern_tests::pki::Wanted;
use postern_tests::postern::{Policy, Postern};
use postern_tests::scene::{MESSAGE, Scene};
use postern_tests::scripted::read;
use postern_tests::wait::{self, PATIENCE};
use rustix::process::{Pid, Signal, kill_process};
use rustls::ALL_VERSIONS;
use serde_json::Value;

/// Sessions under which processes are killed and the configuration is read again.
const CROWD: usize = 100;
/// What reading from /proc says of a thread that has ended.
const ENOENT: i32 = 2;
const ESRCH: i32 = 3;
/// More than the sockets between server and client hold.
const LARGE_BYTES: usize = 16 << 20;

fn kill(process: u32, signal: Signal) -> Result<()> {
    let pid = i32::try_from(process).ok().and_then(Pid::from_raw).context("no process id")?;
    Ok(kill_process(pid, signal)?)
}

fn is_there(process: u32) -> bool {
    Path::new("/proc").join(process.to_string()).exists()
}

fn is_stopped(process: u32) -> Result<bool> {
    let mut states = Vec::new();
    for task in fs::read_dir(format!("/proc/{process}/task"))? {
        states.push(fs::read_to_string(task?.path().join("status"))?.contains("\nState:\tT"));
    }
    Ok(states.iter().all(|is_stopped| *is_stopped))
}

/// What the status says of a process.
fn of_process(postern: &Postern<'_>, name: &str, key: &str) -> Result<Value> {
    let status = postern.status()?;
    let processes = status.get("processes").and_then(Value::as_array).context("no processes")?;
    let found = processes.iter().find(|process| process["name"] == name);
    Ok(found.with_context(|| format!("no {name} in {status:#}"))?[key].clone())
}

/// Wait until another one of this name serves.
fn replaced(postern: &Postern<'_>, name: &str, killed: u32) -> Result<()> {
    wait::until(&format!("another {name}"), PATIENCE, || {
        Ok(postern.process(name).ok().filter(|pid| *pid != killed).map(drop))
    })
    .with_context(|| postern.log())?;
    ensure!(of_process(postern, name, "restarts")? == 1, "{:#}", postern.status()?);
    Ok(())
}

/// The peer's end of this connection comes, by FIN or reset; mail may come before it.
fn hears_the_end(mut socket: &TcpStream) -> Result<()> {
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut room = vec![0; 64 * 1024];
    loop {
        match read(&mut socket, &mut room) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(()),
            Err(error) => return Err(error).context("the end does not come"),
        }
    }
}

/// A line of `/proc/PID/status`.
fn kernel_says(process: u32, key: &str) -> Result<String> {
    let text = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    Ok(line.with_context(|| format!("no {key}"))?.trim().to_owned())
}

#[test]
fn worker_signer_and_helper_have_users_of_their_own_and_no_more_than_they_need() -> Result<()> {
    let scene = Scene::new(&Policy::new().tls("ocsp = \"lenient\""))?;
    let postern = scene.start()?;
    let server = scene.serve()?;
    scene.fetches()?;
    let mut users = Vec::new();
    for (name, capabilities) in [("worker", &["CAP_NET_RAW"] as &[&str]), ("signer", &[]), ("helper", &[])] {
        let process = postern.process(name)?;
        assert_eq!(kernel_says(process, "Name")?, format!("postern-{name}"), "as top(1) shows it");
        assert_eq!(of_process(&postern, name, "capabilities")?, serde_json::json!(capabilities), "{name}");
        assert_eq!(of_process(&postern, name, "seccomp")?, true, "{name}");
        ensure!(of_process(&postern, name, "landlock")?.is_string(), "{:#}", postern.status()?);
        ensure!(of_process(&postern, name, "memory")?.as_u64() > Some(1 << 20), "{:#}", postern.status()?);
        for (key, value) in
            [("NoNewPrivs", "1"), ("Seccomp", "2"), ("Groups", ""), ("CapBnd", "0000000000000000")]
        {
            assert_eq!(kernel_says(process, key)?, value, "{name}: {key}");
        }
        // All threads, because most of this belongs to a thread.
        for task in fs::read_dir(format!("/proc/{process}/task"))? {
            let text = match fs::read_to_string(task?.path().join("status")) {
                // A thread that has ended meanwhile.
                Err(error) if [ENOENT, ESRCH].map(Some).contains(&error.raw_os_error()) => continue,
                text => text?,
            };
            ensure!(
                text.contains("\nSeccomp:\t2\n") && text.contains("\nNoNewPrivs:\t1\n"),
                "{name}: {text}"
            );
        }
        let limits = fs::read_to_string(format!("/proc/{process}/limits"))?;
        let cores = limits.lines().find(|line| line.starts_with("Max core file size")).context("no limit")?;
        assert_eq!(cores.split_whitespace().nth(4), Some("0"), "{name}: {cores}");
        let user = kernel_says(process, "Uid")?;
        ensure!(!user.split_whitespace().any(|uid| uid == "0"), "{name} is root: {user}");
        users.push(user);
        // What was open when it gave its powers up stays open: sockets and the two streams, and no key's file.
        let descriptors = fs::read_dir(format!("/proc/{process}/fd"))?
            .filter_map(|descriptor| fs::read_link(descriptor.ok()?.path()).ok())
            .collect::<Vec<_>>();
        ensure!(descriptors.iter().any(|target| target.ends_with("log")), "{name}: {descriptors:?}");
        let secret =
            descriptors.iter().find(|target| target.starts_with(scene.installation.dir().join("ca")));
        ensure!(secret.is_none(), "{name} holds {secret:?}");
    }
    users.sort();
    users.dedup();
    ensure!(users.len() == 3, "one user for two: {users:?}");
    drop(server);
    postern.stop()?;
    scene.finish()
}

#[test]
fn a_worker_that_is_killed_cuts_its_sessions_at_once_and_another_serves() -> Result<()> {
    for on_exit in ["closed", "open"] {
        let scene = Scene::new(&Policy::new().on_exit(on_exit))?;
        let postern = scene.start()?;
        let server = scene.serve()?;
        let held = scene.sessions(CROWD)?;
        wait::until("their first lines", PATIENCE, || Ok((postern.starts()?.len() == CROWD).then_some(())))?;
        let worker = postern.process("worker")?;
        kill(worker, Signal::KILL)?;
        for session in held.sessions() {
            hears_the_end(session.socket())?;
        }
        replaced(&postern, "worker", worker)?;
        wait::until("new connections to be taken", PATIENCE, || {
            Ok((postern.status()?["steering"]["intake"] == "steered").then_some(()))
        })?;
        scene.fetches().with_context(|| postern.log())?;
        postern.wait_records(1)?;
        let (starts, ends) = (postern.starts()?.len(), postern.records()?.len());
        ensure!(starts == CROWD + 1 && ends == 1, "{starts} began and {ends} have a record");
        let meanwhile = if on_exit == "closed" { "connections are dropped" } else { "pass UNINSPECTED" };
        ensure!(postern.log().contains("the worker died (signal: 9"), "{}", postern.log());
        ensure!(postern.log().contains(meanwhile), "{}", postern.log());
        drop((held, server));
        postern.stop()?;
        scene.installation.command(&scene.lab.gateway, &["clear"])?;
        scene.finish()?;
    }
    Ok(())
}

#[test]
fn who_stands_in_the_queue_of_a_worker_that_is_killed_is_served_by_the_next() -> Result<()> {
    let scene = Scene::new(&Policy::new().on_exit("closed").steering("threads = 1"))?;
    let postern = scene.start()?;
    let server = scene.serve()?;
    let worker = postern.process("worker")?;
    kill(worker, Signal::STOP)?;
    // Each thread stops when it next leaves the kernel, and could still accept until then.
    wait::until("the worker's threads to stop", PATIENCE, || Ok(is_stopped(worker)?.then_some(())))?;
    let queued = scene.lab.client.connect(scene.server(Family::V4, 143))?;
    kill(worker, Signal::KILL)?;
    let mut session = Session::on(queued, Family::V4.name(), &scene.client()?)?;
    session.enter()?;
    ensure!(session.fetch(1)? == MESSAGE, "another message came");
    session.logout()?;
    replaced(&postern, "worker", worker)?;
    drop(server);
    postern.stop()?;
    scene.installation.command(&scene.lab.gateway, &["clear"])?;
    scene.finish()
}

#[test]
fn a_client_that_reads_slowly_hears_of_a_worker_that_is_killed() -> Result<()> {
    let scene = Scene::new(&Policy::new().on_exit("closed"))?;
    let postern = scene.start()?;
    let tls = scene.identity.server_config(ALL_VERSIONS)?;
    let server = scene.serve_with(tls, vec![large_message(LARGE_BYTES)])?;
    let mut session = scene.session(Family::V6, 993)?;
    session.enter()?;
    session.send_command("FETCH 1 BODY[]")?;
    // The answer has begun, and stands in every socket on the way.
    let begun = session.socket().peek(&mut [0; 1])?;
    ensure!(begun == 1, "nothing came");
    let worker = postern.process("worker")?;
    kill(worker, Signal::KILL)?;
    hears_the_end(session.socket())?;
    replaced(&postern, "worker", worker)?;
    drop((session, server));
    postern.stop()?;
    scene.installation.command(&scene.lab.gateway, &["clear"])?;
    scene.finish()
}

#[test]
fn a_signer_that_is_killed_ends_no_session_and_new_certificates_wait_for_the_next() -> Result<()> {
    let scene = Scene::new(&Policy::new())?;
    let postern = scene.start()?;
    let server = scene.serve()?;
    let first = postern.process("signer")?;
    kill(first, Signal::KILL)?;
    postern.wait_log("the signer died (signal: 9")?;
    // No certificate is there yet, and nobody who signs one.
    scene.fetches().with_context(|| postern.log())?;
    replaced(&postern, "signer", first)?;
    ensure!(postern.log().contains("minted a leaf"), "{}", postern.log());
    let mut held = scene.sessions(CROWD)?;
    let second = postern.process("signer")?;
    kill(second, Signal::KILL)?;
    // The certificate is there.
    scene.fetches()?;
    held.prove()?;
    wait::until("a third signer", PATIENCE, || {
        Ok(postern.process("signer").ok().filter(|pid| *pid != second).map(drop))
    })?;
    held.prove()?;
    held.logout()?;
    drop(server);
    postern.stop()?;
    scene.finish()
}

#[test]
fn a_helper_that_is_killed_or_hangs_costs_answers_only_and_another_one_comes() -> Result<()> {
    let identity = |scene: &Scene| {
        let responder = Some("http://127.0.0.1/".to_owned());
        scene.roots.issue(&Wanted { responder, ..Wanted::server() })
    };
    let scene = Scene::new(&Policy::new().tls("ocsp = \"lenient\""))?;
    let postern = scene.start()?;
    let first = postern.process("helper")?;
    kill(first, Signal::KILL)?;
    postern.wait_log("the helper died (signal: 9")?;
    let server = scene.serve_with(identity(&scene)?.server_config(ALL_VERSIONS)?, vec![MESSAGE.to_vec()])?;
    let mut held = scene.session(Family::V4, 993)?;
    held.enter()?;
    replaced(&postern, "helper", first)?;
    held.command("NOOP")?.ok()?;
    held.logout()?;
    drop(server);
    // A worker that comes later is led to it, too.
    let worker = postern.process("worker")?;
    kill(worker, Signal::KILL)?;
    replaced(&postern, "worker", worker)?;
    wait::until("new connections to be taken", PATIENCE, || {
        Ok((postern.status()?["steering"]["intake"] == "steered").then_some(()))
    })?;
    // The helper that is there would ask, if that were no address of its own.
    let server = scene.serve_with(identity(&scene)?.server_config(ALL_VERSIONS)?, vec![MESSAGE.to_vec()])?;
    scene.fetches()?;
    drop(server);
    let second = postern.process("helper")?;
    kill(second, Signal::STOP)?;
    wait::until("the helper's threads to stop", PATIENCE, || Ok(is_stopped(second)?.then_some(())))?;
    let server = scene.serve_with(identity(&scene)?.server_config(ALL_VERSIONS)?, vec![MESSAGE.to_vec()])?;
    scene.fetches()?;
    drop(server);
    let records = postern.wait_records(3)?;
    let faults: Vec<_> = records.iter().map(|record| record.text("postern.certificate.ocsp_fault")).collect();
    // The first session may have come so late that the successor was there.
    ensure!(["helper_gone", "address_refused"].contains(&faults[0]), "{faults:?}");
    ensure!(faults[1..] == ["address_refused", "late"], "{faults:?}");
    kill(second, Signal::KILL)?;
    postern.stop()?;
    scene.finish()
}

#[test]
fn a_supervisor_that_is_killed_takes_its_children_along_and_clients_hear_the_end() -> Result<()> {
    for on_exit in ["closed", "open"] {
        let scene = Scene::new(&Policy::new().on_exit(on_exit))?;
        let postern = scene.start()?;
        let server = scene.serve()?;
        let held = scene.sessions(CROWD)?;
        let children = [postern.process("worker")?, postern.process("signer")?];
        postern.kill()?;
        for session in held.sessions() {
            hears_the_end(session.socket())?;
        }
        for child in children {
            wait::until("the end of a child", PATIENCE, || Ok((!is_there(child)).then_some(())))?;
        }
        drop((held, server));
        scene.installation.command(&scene.lab.gateway, &["clear"])?;
        scene.finish()?;
    }
    Ok(())
}

#[test]
fn a_new_configuration_is_taken_by_all_processes_under_sessions() -> Result<()> {
    let scene = Scene::new(&Policy::new())?;
    let postern = scene.start()?;
    let server = scene.serve()?;
    let mut held = scene.sessions(CROWD)?;
    scene.installation.configure(&Policy::new().limits("sessions = 500\nsessions_per_client = 50"))?;
    postern.signal(Signal::HUP)?;
    postern.wait_log("configuration reloaded")?;
    assert_eq!(postern.counter("limit_client")?, 50);
    held.prove()?;
    let refused = scene.session(Family::V4, 143).err().context("over the new limit, and served")?;
    ensure!(format!("{refused:#}").contains("Too many sessions"), "{refused:#}");
    held.logout()?;
    // Under the new policy, with the keys that were read anew.
    wait::until("the sessions to end", PATIENCE, || Ok((postern.counter("active")? == 0).then_some(())))?;
    scene.fetches()?;
    drop(server);
    postern.stop()?;
    scene.finish()
}

#[test]
fn a_start_without_the_capabilities_that_it_needs_names_them() -> Result<()> {
    let scene = Scene::new(&Policy::new())?;
    let wrapper = ["setpriv", "--bounding-set", "-setuid,-net_raw"];
    let mut postern = scene.installation.spawn(&scene.lab.gateway, &wrapper)?;
    let ended = postern.wait(PATIENCE)?;
    ensure!(!ended.success(), "it ran");
    let log = postern.log();
    for words in ["CAP_SETUID", "CAP_NET_RAW", "run as root"] {
        ensure!(log.contains(words), "no {words} in {log}");
    }
    ensure!(!log.contains("CAP_BPF"), "{log}");
    drop(postern);
    scene.finish()
}

#[test]
fn a_key_that_the_signer_cannot_use_ends_the_start_with_64_and_names_the_file() -> Result<()> {
    let scene = Scene::new(&Policy::new())?;
    let key = scene.installation.dir().join("ca/authority.key");
    for (text, words) in [
        (scene.identity.key_pem.as_str(), "is not the key of the first certificate in"),
        ("nothing of a key\n", "holds no private key that can be read"),
    ] {
        // Written over, so that the file's mode stays.
        fs::write(&key, text)?;
        let mut postern = scene.installation.spawn(&scene.lab.gateway, &[])?;
        assert_eq!(postern.wait(PATIENCE)?.code(), Some(64), "{}", postern.log());
        ensure!(
            postern.log().contains(words) && postern.log().contains("authority.key"),
            "{}",
            postern.log()
        );
        ensure!(!postern.log().contains("steering IMAP"), "{}", postern.log());
        drop(postern);
        scene.lab.assert_clean()?;
    }
    scene.finish()
}

#[test]
fn nobody_but_run_starts_a_worker_a_signer_a_helper_or_a_judge() -> Result<()> {
    let scene = Scene::new(&Policy::new())?;
    for name in ["worker", "signer", "helper", "judge"] {
        let said = scene.installation.command(&scene.lab.gateway, &[name])?;
        ensure!(said.code == Some(2) && said.stderr.contains("started by `postern run`"), "{said:?}");
    }
    scene.finish()
}

/// Wait until the worker has both files.
fn has_files(postern: &Postern<'_>) -> Result<()> {
    wait::until("files of the state directory", PATIENCE, || {
        let status = postern.status()?;
        let has = |part: &str| status.pointer(&format!("/{part}/has_file")) == Some(&Value::Bool(true));
        Ok((has("verdicts") && has("spool")).then_some(()))
    })
    .with_context(|| postern.log())
}

#[test]
fn the_files_of_what_was_judged_outlive_a_worker_and_the_daemon_and_belong_to_root_alone() -> Result<()> {
    let scene = Scene::new(&Policy::new())?;
    let directory = scene.installation.dir().join("state");
    let verdicts = directory.join("verdicts");
    let postern = scene.start()?;
    ensure!(!directory.exists(), "mail is not judged");
    let full = Policy::new().action("inspect = \"full\"");
    scene.installation.configure(&full)?;
    postern.signal(Signal::HUP)?;
    postern.wait_log("configuration reloaded")?;
    has_files(&postern)?;
    for (path, mode) in [(&directory, 0o40700), (&verdicts, 0o100_600)] {
        let metadata = fs::metadata(path)?;
        ensure!((metadata.mode(), metadata.uid()) == (mode, 0), "{path:?}: {metadata:?}");
    }
    let key = |path: &Path| -> Result<Vec<u8>> { Ok(fs::read(path)?.into_iter().take(64).collect()) };
    let first = key(&verdicts)?;
    let worker = postern.process("worker")?;
    kill(worker, Signal::KILL)?;
    replaced(&postern, "worker", worker)?;
    has_files(&postern)?;
    postern.stop()?;
    let postern = scene.start()?;
    has_files(&postern)?;
    ensure!(key(&verdicts)? == first && fs::read_dir(&directory)?.count() == 1);
    postern.kill()?;
    // Something else with the name, in a directory in which it may stand. Another file, because the worker of the killed
    // daemon may still write to its own.
    fs::remove_file(&verdicts)?;
    fs::write(&verdicts, "a letter")?;
    let postern = scene.start()?;
    has_files(&postern)?;
    postern.wait_log("it was moved to verdicts.aside")?;
    ensure!(fs::read(directory.join("verdicts.aside"))? == b"a letter");
    ensure!(key(&verdicts)? != first);
    postern.stop()?;
    // Mail is judged without a directory, too.
    fs::remove_dir_all(&directory)?;
    fs::write(&directory, "")?;
    let postern = scene.start()?;
    postern.wait_log("make the directory writable")?;
    let status = postern.status()?;
    ensure!(status["spool"]["has_file"] == false && status["spool"]["limit"] == 1 << 30, "{status:#}");
    postern.stop()
}
