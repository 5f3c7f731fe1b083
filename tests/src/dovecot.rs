//! A real Dovecot in a namespace, with configuration, mail and sockets in a directory of its own.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::Child;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::client::Tls;
use crate::imap_server::PASSWORD;
use crate::lab::Family;
use crate::netns::Namespace;
use crate::pki::Identity;
use crate::wait::{self, PATIENCE};

/// The user that mail is kept as: Debian's `mail`, which always exists. Dovecot refuses root.
const MAIL_USER: u32 = 8;

/// A running Dovecot on 143 and 993 in both families; dropping it stops it.
#[derive(Debug)]
pub struct Dovecot {
    dir: TempDir,
    child: Child,
}

impl Dovecot {
    /// Start it with this certificate, speaking exactly these versions, and wait until it answers.
    ///
    /// # Errors
    /// When it is not installed, or does not come up: its log is shown.
    pub fn start(namespace: &Namespace, identity: &Identity, versions: &[Tls]) -> Result<Self> {
        Self::start_at(namespace, identity, versions, &Family::ALL.map(Family::server), "*, ::")
    }

    /// The same at one address only: others are free for another server.
    ///
    /// # Errors
    /// When it is not installed, or does not come up: its log is shown.
    pub fn start_alone_at(namespace: &Namespace, identity: &Identity, at: IpAddr) -> Result<Self> {
        Self::start_at(namespace, identity, &Tls::ALL, &[at], &at.to_string())
    }

    fn start_at(
        namespace: &Namespace,
        identity: &Identity,
        versions: &[Tls],
        addresses: &[IpAddr],
        listen: &str,
    ) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("postern-dovecot-").tempdir()?;
        identity.write(dir.path(), "server")?;
        let mail = dir.path().join("mail");
        for part in ["cur", "new", "tmp"] {
            fs::create_dir_all(mail.join(part))?;
        }
        for path in [&mail, &mail.join("cur"), &mail.join("new"), &mail.join("tmp")] {
            std::os::unix::fs::chown(path, Some(MAIL_USER), Some(MAIL_USER))?;
        }
        // Others may pass through, so that the mail user reaches its mail.
        rustix::fs::chmod(dir.path(), rustix::fs::Mode::from_raw_mode(0o755))?;
        let config = dir.path().join("dovecot.conf");
        fs::write(&config, Self::config(&dir, listen))?;
        fs::write(dir.path().join("openssl.cnf"), Self::openssl_config(versions))?;
        let log = File::create(dir.path().join("stderr"))?;
        let child = namespace
            .command("/usr/sbin/dovecot")
            .args(["-F", "-c"])
            .arg(&config)
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start dovecot; install the Debian package dovecot-imapd")?;
        let mut dovecot = Self { dir, child };
        wait::until("Dovecot", PATIENCE, || {
            if let Some(status) = dovecot.child.try_wait()? {
                bail!("dovecot ended with {status}");
            }
            let answers = addresses.iter().all(|&address| {
                [143, 993].iter().all(|&port| namespace.connect(SocketAddr::new(address, port)).is_ok())
            });
            Ok(answers.then_some(()))
        })
        .with_context(|| dovecot.log())?;
        Ok(dovecot)
    }

    fn config(dir: &TempDir, listen: &str) -> String {
        let dir = dir.path().display();
        format!(
            "protocols = imap\nlisten = {listen}\nbase_dir = {dir}/run\nstate_dir = {dir}/state\n\
             log_path = {dir}/log\nauth_verbose = yes\ndefault_internal_user = dovecot\n\
             mail_location = maildir:{dir}/mail\nmail_uid = {MAIL_USER}\nmail_gid = {MAIL_USER}\n\
             first_valid_uid = {MAIL_USER}\nfirst_valid_gid = {MAIL_USER}\nmail_max_userip_connections = 1000\n\
             disable_plaintext_auth = yes\nauth_mechanisms = plain login\nmaildir_stat_dirs = no\n\
             passdb {{\n driver = static\n args = password={PASSWORD}\n}}\n\
             userdb {{\n driver = static\n args = uid={MAIL_USER} gid={MAIL_USER} home={dir}/mail\n}}\n\
             ssl = required\nssl_cert = <{dir}/server.pem\nssl_key = <{dir}/server.key\n\
             import_environment = TZ OPENSSL_CONF={dir}/openssl.cnf\n\
             service imap-login {{\n client_limit = 1000\n process_limit = 4\n service_count = 0\n process_min_avail = 1\n}}\n\
             service imap {{\n process_limit = 1000\n}}\n\
             auth_failure_delay = 0 secs\n\
             service anvil {{\n client_limit = 3000\n unix_listener anvil-auth-penalty {{\n  mode = 0\n }}\n}}\n\
             service auth {{\n client_limit = 3000\n}}\n\
             default_vsz_limit = 0\nimap_idle_notify_interval = 2 mins\nmailbox_idle_check_interval = 1 secs\n\
             protocol imap {{\n mail_max_userip_connections = 1000\n rawlog_dir = {dir}/rawlog\n}}\n"
        )
    }

    /// Dovecot 2.3 can name the oldest version only; OpenSSL's own file names both ends.
    fn openssl_config(versions: &[Tls]) -> String {
        let name = |version: &Tls| if *version == Tls::V12 { "TLSv1.2" } else { "TLSv1.3" };
        let (oldest, newest) = (versions.iter().min(), versions.iter().max());
        format!(
            "openssl_conf = all\n[all]\nssl_conf = ssl\n[ssl]\nsystem_default = system\n[system]\n\
             MinProtocol = {}\nMaxProtocol = {}\n",
            oldest.map_or("TLSv1.2", name),
            newest.map_or("TLSv1.3", name)
        )
    }

    /// What it logged.
    #[must_use]
    pub fn log(&self) -> String {
        ["stderr", "log"]
            .iter()
            .filter_map(|name| fs::read_to_string(self.dir.path().join(name)).ok())
            .collect()
    }

    /// Log every command behind the login from now on. It does so where the directory exists.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn log_commands(&self) -> Result<()> {
        let dir = self.dir.path().join("rawlog");
        fs::create_dir(&dir)?;
        Ok(std::os::unix::fs::chown(&dir, Some(MAIL_USER), Some(MAIL_USER))?)
    }

    /// What [`Self::log_commands`] made it log, a file for each session: lines with a time in front of them.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn commands(&self) -> Result<BTreeMap<PathBuf, String>> {
        let mut all = BTreeMap::new();
        for entry in fs::read_dir(self.dir.path().join("rawlog"))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "in") {
                let octets = fs::read(&path)?;
                all.insert(path, String::from_utf8_lossy(&octets).into_owned());
            }
        }
        Ok(all)
    }

    fn mail(&self) -> PathBuf {
        self.dir.path().join("mail")
    }

    /// Deliver a message as a mail transfer agent does: written to `tmp`, moved to `new`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn deliver(&self, name: &str, message: &[u8]) -> Result<()> {
        let written = self.mail().join("tmp").join(name);
        fs::write(&written, message)?;
        std::os::unix::fs::chown(&written, Some(MAIL_USER), Some(MAIL_USER))?;
        fs::rename(written, self.mail().join("new").join(name))?;
        Ok(())
    }

    /// The messages that it holds, in no order.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn messages(&self) -> Result<Vec<Vec<u8>>> {
        let mut all = Vec::new();
        for part in ["cur", "new"] {
            for entry in fs::read_dir(self.mail().join(part))? {
                all.push(fs::read(entry?.path())?);
            }
        }
        Ok(all)
    }
}

impl Drop for Dovecot {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let ended = wait::until("the end of Dovecot", PATIENCE, || Ok(self.child.try_wait()?));
        if ended.is_err() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            eprintln!("dovecot said:\n{}", self.log());
        }
    }
}
