//! A real Cyrus in a namespace, with configuration, mail and sockets in a directory of its own.

use std::fs::{self, File};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Child;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::imap_server::{PASSWORD, USER};
use crate::netns::{self, Namespace};
use crate::pki::Identity;
use crate::unpacked;
use crate::wait::{self, PATIENCE};

/// The user that it runs as: Debian's `mail`, which always exists. Cyrus refuses root.
const MAIL_USER: u32 = 8;
/// The realm of its users.
const REALM: &str = "lab.test";
/// Where its programs are seen. The cache may lie where only root comes: they are mounted here, in the mount namespace
/// that `ip netns exec` makes anyway.
const PROGRAMS: &str = "programs";
/// Mounts the first argument at the second, and runs the others.
const MOUNTED: &str = r#"mount --bind "$1" "$2" && shift 2 && exec env "$@""#;

/// A running Cyrus on 143 and 993 of one address; dropping it stops it.
#[derive(Debug)]
pub struct Cyrus {
    dir: TempDir,
    child: Child,
}

impl Cyrus {
    /// Start it with this certificate at this address, and wait until it answers.
    ///
    /// # Errors
    /// When its packages have not been fetched, or it does not come up: what it said is shown.
    pub fn start(namespace: &Namespace, identity: &Identity, at: IpAddr) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("postern-cyrus-").tempdir()?;
        let home = dir.path();
        identity.write(home, "server")?;
        // Others may pass through, so that the mail user reaches its mail.
        rustix::fs::chmod(home, rustix::fs::Mode::from_raw_mode(0o755))?;
        fs::create_dir(home.join(PROGRAMS))?;
        for part in ["conf", "conf/db", "conf/socket", "conf/sieve", "spool", "proc", "lock"] {
            fs::create_dir(home.join(part))?;
            std::os::unix::fs::chown(home.join(part), Some(MAIL_USER), Some(MAIL_USER))?;
        }
        fs::write(home.join("imapd.conf"), Self::config(home))?;
        fs::write(home.join("cyrus.conf"), Self::services(home, at))?;
        let programs = unpacked::programs("cyrus")?;
        let mut password = Self::command(namespace, home, &programs, "usr/sbin/saslpasswd2");
        password.arg("-f").arg(home.join("sasldb2")).args(["-c", "-p", "-u", REALM, USER]);
        netns::success("saslpasswd2", &netns::run(&mut password, &format!("{PASSWORD}\n"), PATIENCE)?)?;
        for name in ["sasldb2", "server.key"] {
            std::os::unix::fs::chown(home.join(name), Some(MAIL_USER), Some(MAIL_USER))?;
        }
        let log = File::create(home.join("stderr"))?;
        let mut command = Self::command(namespace, home, &programs, "usr/sbin/cyrmaster");
        command.arg("-C").arg(home.join("imapd.conf")).arg("-M").arg(home.join("cyrus.conf"));
        command.arg("-p").arg(home.join("master.pid"));
        // When it ends it signals its process group, which shall not be the test's.
        let command = command.process_group(0).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().context("cannot start Cyrus")?;
        let mut cyrus = Self { dir, child };
        wait::until("Cyrus", PATIENCE, || {
            if let Some(status) = cyrus.child.try_wait()? {
                bail!("Cyrus ended with {status}");
            }
            let answers = [143, 993].iter().all(|&port| namespace.connect(SocketAddr::new(at, port)).is_ok());
            Ok(answers.then_some(()))
        })
        .with_context(|| cyrus.log())?;
        Ok(cyrus)
    }

    fn command(namespace: &Namespace, home: &Path, programs: &Path, program: &str) -> std::process::Command {
        let seen = home.join(PROGRAMS);
        let mut command = namespace.command("sh");
        command.args(["-c", MOUNTED, "sh"]).arg(programs).arg(&seen);
        command.arg(format!("LD_LIBRARY_PATH={}", unpacked::libraries(&seen)));
        command.arg(seen.join(program));
        command
    }

    fn config(home: &Path) -> String {
        let home = home.display();
        format!(
            "configdirectory: {home}/conf\nproc_path: {home}/proc\nmboxname_lockpath: {home}/lock\n\
             defaultpartition: default\npartition-default: {home}/spool\nsievedir: {home}/conf/sieve\n\
             altnamespace: yes\nunixhierarchysep: yes\nservername: {REALM}\ncyrus_user: mail\n\
             sasl_pwcheck_method: auxprop\nsasl_auxprop_plugin: sasldb\nsasl_sasldb_path: {home}/sasldb2\n\
             sasl_mech_list: PLAIN\nallowplaintext: no\nautocreate_quota: 0\nautocreate_post: yes\n\
             tls_server_cert: {home}/server.pem\ntls_server_key: {home}/server.key\nimapidlepoll: 1\n"
        )
    }

    fn services(home: &Path, at: IpAddr) -> String {
        let bin = home.join(PROGRAMS).join("usr/lib/cyrus/bin");
        let (bin, config) = (bin.display(), home.join("imapd.conf"));
        let config = config.display();
        format!(
            "START {{\n recover cmd=\"{bin}/ctl_cyrusdb -C {config} -r\"\n}}\n\
             SERVICES {{\n imap cmd=\"{bin}/imapd -C {config}\" listen=\"{}\" prefork=1\n \
             imaps cmd=\"{bin}/imapd -s -C {config}\" listen=\"{}\" prefork=1\n}}\nEVENTS {{\n}}\n",
            SocketAddr::new(at, 143),
            SocketAddr::new(at, 993),
        )
    }

    /// What it said before it had a log; then it speaks to syslog only.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("stderr")).unwrap_or_default()
    }
}

impl Drop for Cyrus {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let ended = wait::until("the end of Cyrus", PATIENCE, || Ok(self.child.try_wait()?));
        if ended.is_err() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            eprintln!("cyrus said:\n{}", self.log());
        }
    }
}
