//! Real clients that fetch everything in a folder, or put messages into one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::imap_server::{PASSWORD, USER};
use crate::mail_server::{self, Server};
use crate::netns::{self, Namespace};
use crate::real_client::unfold_mbsync;
use crate::scene::Scene;
use crate::wait::PATIENCE;

/// A client's place, its server and its files.
#[derive(Debug)]
pub struct Reader<'a> {
    from: &'a Namespace,
    server: Server,
    authority: PathBuf,
    dir: tempfile::TempDir,
}

/// What a command of a client said, and whether it was content.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Whether it ended with success.
    pub success: bool,
    /// Everything it said.
    pub said: String,
}

impl<'a> Reader<'a> {
    /// In the client's namespace, or beside the server.
    ///
    /// # Errors
    /// When its directory cannot be made.
    pub fn new(scene: &'a Scene, server: Server, path: mail_server::Path) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let (from, authority) = match path {
            mail_server::Path::Direct => (&scene.lab.server, scene.roots.pem()),
            mail_server::Path::Through => (&scene.lab.client, scene.installation.authority_pem()),
        };
        let file = dir.path().join("authority.pem");
        fs::write(&file, authority)?;
        Ok(Self { from, server, authority: file, dir })
    }

    fn run(&self, command: &mut Command) -> Result<Vec<u8>> {
        let shown = format!("{command:?}");
        let output = netns::run(command, "", PATIENCE)?;
        netns::success(&shown, &output)?;
        Ok(output.stdout)
    }

    /// mbsync's configuration for one folder; the folder is named without the server's prefix.
    fn mbsync(&self, folder: &str, sync: &str) -> Result<Command> {
        let mail = self.maildir();
        fs::create_dir_all(&mail)?;
        let config = self.dir.path().join("mbsyncrc");
        let text = format!(
            "IMAPAccount lab\nHost {}\nPort 993\nUser {USER}\nPass {PASSWORD}\nSSLType IMAPS\n\
             SystemCertificates no\nCertificateFile {}\nAuthMechs LOGIN\n\nIMAPStore far\nAccount lab\n\n\
             MaildirStore near\nInbox {mail}/INBOX\nPath {mail}/\n\n\
             Channel lab\nFar :far:{folder}\nNear :near:copy\nCreate Near\nSync {sync}\nSyncState *\n",
            self.server.name(),
            self.authority.display(),
            mail = mail.display(),
        );
        fs::write(&config, text)?;
        let mut command = self.from.command("mbsync");
        command.arg("-c").arg(&config).arg("lab");
        Ok(command)
    }

    fn maildir(&self) -> PathBuf {
        self.dir.path().join("mail")
    }

    /// What mbsync has fetched, in the order of its octets; lines end in CRLF again.
    ///
    /// # Errors
    /// Shows what mbsync said.
    pub fn pull(&self, folder: &str) -> Result<Vec<Vec<u8>>> {
        self.run(&mut self.mbsync(folder, "Pull")?)?;
        let mut messages = Vec::new();
        for part in ["new", "cur"] {
            for entry in fs::read_dir(self.maildir().join("copy").join(part))? {
                messages.push(unfold_mbsync(&fs::read(entry?.path())?)?);
            }
        }
        messages.sort();
        Ok(messages)
    }

    /// Let mbsync upload these.
    ///
    /// # Errors
    /// When mbsync cannot be run.
    pub fn push(&self, folder: &str, messages: &[&[u8]]) -> Result<Outcome> {
        let mut command = self.mbsync(folder, "Push")?;
        let copy = self.maildir().join("copy");
        for part in ["cur", "new", "tmp"] {
            fs::create_dir_all(copy.join(part))?;
        }
        for (at, message) in messages.iter().enumerate() {
            let text: Vec<u8> = message.iter().copied().filter(|&octet| octet != b'\r').collect();
            fs::write(copy.join("cur").join(format!("{at}.lab:2,S")), text)?;
        }
        let output = netns::run(&mut command, "", PATIENCE)?;
        let said = [output.stdout, output.stderr].concat();
        Ok(Outcome { success: output.status.success(), said: String::from_utf8_lossy(&said).into_owned() })
    }

    /// One message, by curl.
    ///
    /// # Errors
    /// Shows what curl said.
    pub fn curl(&self, folder: &str, uid: usize) -> Result<Vec<u8>> {
        let mut command = self.from.command("curl");
        command.args(["--silent", "--show-error", "--user", &format!("{USER}:{PASSWORD}"), "--cacert"]);
        command.arg(&self.authority).arg(format!("imaps://{}/{folder};UID={uid}", self.server.name()));
        self.run(&mut command)
    }

    /// All messages, by Python's imaplib, in the order of their UIDs.
    ///
    /// # Errors
    /// Shows what it said.
    pub fn imaplib(&self, folder: &str) -> Result<Vec<Vec<u8>>> {
        let script = format!(
            "import imaplib, ssl, sys\n\
             mail = imaplib.IMAP4_SSL({:?}, 993, ssl_context=ssl.create_default_context(cafile={:?}))\n\
             mail.login({USER:?}, {PASSWORD:?})\n\
             mail.select({folder:?}, readonly=True)\n\
             kind, data = mail.uid('FETCH', '1:*', '(FLAGS BODY.PEEK[])')\n\
             assert kind == 'OK', data\n\
             for part in data:\n    if isinstance(part, tuple):\n        \
             sys.stdout.buffer.write(b'%d\\n' % len(part[1]) + part[1])\n\
             mail.logout()\n",
            self.server.name(),
            Path::new(&self.authority),
        );
        let mut command = self.from.command("/usr/bin/python3");
        command.args(["-c", &script]);
        let said = self.run(&mut command)?;
        let (mut rest, mut messages) = (said.as_slice(), Vec::new());
        while let Some(end) = rest.iter().position(|&octet| octet == b'\n') {
            let (digits, behind) = rest.split_at(end);
            let octets: usize = std::str::from_utf8(digits)?.parse()?;
            let message = behind.get(1..=octets).context("imaplib's output is cut short")?;
            messages.push(message.to_vec());
            rest = behind.get(octets + 1..).unwrap_or_default();
        }
        Ok(messages)
    }
}
