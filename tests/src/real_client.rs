//! Real mail clients, as processes in the client's namespace.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::client::Tls;
use crate::imap_server::{PASSWORD, USER};
use crate::lab::Family;
use crate::netns::{self, Namespace};
use crate::wait::PATIENCE;

/// A program that speaks IMAP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Client {
    /// isync's synchroniser.
    Mbsync,
    /// curl with `imap://` and `imaps://`.
    Curl,
    /// `openssl s_client`.
    OpenSsl,
    /// Python's `imaplib`.
    Imaplib,
}

/// One row: client, port, family, the client's TLS version, the server's.
pub type Row = (Client, u16, Family, Tls, Tls);

/// Every pair of values of two columns stands in some row: `real_peers` holds that.
pub const MATRIX: [Row; 8] = [
    (Client::Mbsync, 143, Family::V4, Tls::V12, Tls::V12),
    (Client::Mbsync, 993, Family::V6, Tls::V13, Tls::V13),
    (Client::Curl, 143, Family::V4, Tls::V13, Tls::V13),
    (Client::Curl, 993, Family::V6, Tls::V12, Tls::V12),
    (Client::OpenSsl, 143, Family::V6, Tls::V12, Tls::V13),
    (Client::OpenSsl, 993, Family::V4, Tls::V13, Tls::V12),
    (Client::Imaplib, 143, Family::V6, Tls::V13, Tls::V12),
    (Client::Imaplib, 993, Family::V4, Tls::V12, Tls::V13),
];

/// One errand of a client.
#[derive(Clone, Copy, Debug)]
pub struct Errand<'a> {
    /// Where it runs.
    pub from: &'a Namespace,
    /// Which address of the server.
    pub family: Family,
    /// 143 (STARTTLS is required) or 993.
    pub port: u16,
    /// The only TLS version that the client speaks.
    pub tls: Tls,
    /// The only authority that it trusts.
    pub authority: &'a Path,
    /// A directory for its files.
    pub dir: &'a Path,
}

impl Client {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Mbsync, Self::Curl, Self::OpenSsl, Self::Imaplib];

    /// Log in and fetch the first message of INBOX.
    ///
    /// # Errors
    /// Shows what the client said.
    pub fn fetch(self, errand: &Errand<'_>) -> Result<Vec<u8>> {
        match self {
            Self::Mbsync => errand.mbsync(),
            Self::Curl => errand.curl(),
            Self::OpenSsl => errand.openssl(),
            Self::Imaplib => errand.imaplib(),
        }
        .with_context(|| {
            format!("{self:?} over {:?}, port {}, TLS {}", errand.family, errand.port, errand.tls.text())
        })
    }
}

impl Errand<'_> {
    fn run(&self, command: &mut Command, input: &str) -> Result<Vec<u8>> {
        let shown = format!("{command:?}");
        let output = netns::run(command, input, PATIENCE)?;
        netns::success(&shown, &output)?;
        Ok(output.stdout)
    }

    fn mbsync(&self) -> Result<Vec<u8>> {
        let dir = tempfile::tempdir_in(self.dir)?;
        let mail = dir.path().join("mail");
        fs::create_dir(&mail)?;
        let config = dir.path().join("mbsyncrc");
        let tls = if self.port == 993 { "IMAPS" } else { "STARTTLS" };
        let version = match self.tls {
            Tls::V12 => "TLSv1.2",
            Tls::V13 => "TLSv1.3",
        };
        let text = format!(
            "IMAPAccount lab\nHost {}\nPort {}\nUser {USER}\nPass {PASSWORD}\nSSLType {tls}\nSSLVersions {version}\n\
             SystemCertificates no\nCertificateFile {}\nAuthMechs LOGIN\n\n\
             IMAPStore far\nAccount lab\n\nMaildirStore near\nInbox {}/INBOX\nPath {}/\n\n\
             Channel lab\nFar :far:\nNear :near:\nPatterns INBOX\nCreate Near\nSync Pull\nSyncState *\n",
            self.family.name(),
            self.port,
            self.authority.display(),
            mail.display(),
            mail.display(),
        );
        fs::write(&config, text)?;
        let mut command = self.from.command("mbsync");
        command.arg("-c").arg(&config).arg("lab");
        self.run(&mut command, "")?;
        let new = mail.join("INBOX/new");
        let cur = mail.join("INBOX/cur");
        let mut files = Vec::new();
        for folder in [new, cur] {
            for entry in fs::read_dir(folder)? {
                files.push(entry?.path());
            }
        }
        files.sort();
        let first = files.first().context("mbsync brought no message")?;
        unfold_mbsync(&fs::read(first)?)
    }

    fn curl(&self) -> Result<Vec<u8>> {
        let scheme = if self.port == 993 { "imaps" } else { "imap" };
        let version = self.tls.text();
        let mut command = self.from.command("curl");
        command.args(["--silent", "--show-error", "--ssl-reqd", "--user", &format!("{USER}:{PASSWORD}")]);
        command.args([&format!("--tlsv{version}"), "--tls-max", version, "--cacert"]).arg(self.authority);
        command.arg(format!("{scheme}://{}:{}/INBOX;MAILINDEX=1", self.family.name(), self.port));
        self.run(&mut command, "")
    }

    /// `s_client` with a script on its standard input; `-ign_eof` keeps it until the server says good-bye.
    fn openssl(&self) -> Result<Vec<u8>> {
        let to = SocketAddr::new(self.family.server(), self.port);
        let version = if self.tls == Tls::V12 { "-tls1_2" } else { "-tls1_3" };
        let mut command = self.from.command("openssl");
        command.args(["s_client", "-quiet", "-ign_eof", "-crlf", "-verify_return_error", version]);
        command.args(["-connect", &to.to_string(), "-servername", self.family.name()]);
        command.args(["-verify_hostname", self.family.name(), "-CAfile"]).arg(self.authority);
        if self.port == 143 {
            command.args(["-starttls", "imap"]);
        }
        let script = format!("a LOGIN {USER} {PASSWORD}\nb SELECT INBOX\nc FETCH 1 BODY.PEEK[]\nd LOGOUT\n");
        literal(&self.run(&mut command, &script)?)
    }

    fn imaplib(&self) -> Result<Vec<u8>> {
        let script = format!(
            "import imaplib, ssl, sys\n\
             context = ssl.create_default_context(cafile={:?})\n\
             context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv{}\n\
             if {port} == 993:\n    mail = imaplib.IMAP4_SSL({name:?}, {port}, ssl_context=context)\n\
             else:\n    mail = imaplib.IMAP4({name:?}, {port})\n    mail.starttls(context)\n\
             mail.login({USER:?}, {PASSWORD:?})\n\
             mail.select('INBOX', readonly=True)\n\
             kind, data = mail.fetch('1', '(BODY.PEEK[])')\n\
             sys.stdout.buffer.write(data[0][1])\n\
             mail.logout()\n",
            self.authority,
            self.tls.text().replace('.', "_"),
            port = self.port,
            name = self.family.name(),
        );
        let mut command = self.from.command("/usr/bin/python3");
        command.args(["-c", &script]);
        self.run(&mut command, "")
    }
}

/// The first literal in a transcript.
fn literal(transcript: &[u8]) -> Result<Vec<u8>> {
    let text = String::from_utf8_lossy(transcript).into_owned();
    let open = text.find("BODY[] {").context(text.clone())?;
    let (digits, _) = text.get(open + 8..).and_then(|rest| rest.split_once('}')).context("no literal")?;
    let octets: usize = digits.parse()?;
    let start = open + 8 + digits.len() + 3;
    let content = transcript.get(start..start + octets).context("the literal is cut off")?;
    Ok(content.to_vec())
}

/// mbsync keeps messages with bare LF and adds a header of its own; CRLF is what IMAP carries.
pub(crate) fn unfold_mbsync(file: &[u8]) -> Result<Vec<u8>> {
    ensure!(!file.is_empty(), "mbsync brought an empty message");
    let mut message = Vec::with_capacity(file.len() + file.len() / 40);
    for line in file.split_inclusive(|&octet| octet == b'\n') {
        if line.starts_with(b"X-TUID: ") {
            continue;
        }
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        message.extend_from_slice(text.strip_suffix(b"\r").unwrap_or(text));
        if text.len() < line.len() {
            message.extend_from_slice(b"\r\n");
        }
    }
    Ok(message)
}
