//! `postern explain --message FILE`: what is found in a message under the policy of a connection, and what becomes of it.
//!
//! The judgement is that of the running daemon, by the same rules, scanners and bounds, and its words are those of records. But
//! it runs in this process, with the rights of whoever calls it: it is for mail that its caller would open anyway.
//! `limits.judge_memory` and `limits.judge_seconds` bound judges of the daemon, and do not hold here.

use std::borrow::Cow;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Args;
use serde_json::{Map, Value, json};

use super::super::{EXIT_CONFIG, print};
use super::{Decided, Unjudged};
use crate::config::{Config, PrivacySettings, YaraSettings};
use crate::content::open::OpenLimits;
use crate::content::scan::Scanner;
use crate::content::scan::yara::{YaraScanner, compile, pack};
use crate::content::{
    Case, ContentAction, ContentMaterial, ContentPiece, FieldRules, Judged, LeafJudge, LeafVerdict, Rules,
    judge, redact,
};
use crate::guard::AccountNames;
use crate::inspect::{leaf_record, message_shape};
use crate::policy::field_rules;
use crate::record::escaped;
use crate::supervisor::RuleFiles;
use crate::words::{Direction, Size};

/// The message that is asked about.
#[derive(Debug, Args)]
pub(super) struct MessageArgs {
    /// A file with one message: say what is found in it under the policy of this connection, and what becomes of it. The
    /// file is read and judged by this process, with the rights of whoever calls it, and up to `limits.message`: nothing is sent
    /// anywhere, and no daemon is needed. `limits.judge_memory` and `limits.judge_seconds` do not hold here. A file with the line ends of Unix gets those of mail (CRLF), as servers do it, and
    /// the `From ` line of an mbox is left out.
    #[arg(long, value_name = "FILE")]
    pub(super) message: Option<PathBuf>,
    /// The account that has logged in, for `privacy.exempt_accounts`; without it an account that is not exempt. It is
    /// taken as the name in a login with a password.
    #[arg(long, requires = "message", value_name = "NAME")]
    account: Option<String>,
    /// Print the message on stdout as a client gets it; the explanation is on stderr.
    #[arg(long, requires = "message", conflicts_with = "json")]
    show: bool,
    /// Write the message, as a client gets it, into this file, which must not exist.
    #[arg(long, requires = "message", value_name = "NEW FILE")]
    output: Option<PathBuf>,
    /// Print the explanation as one JSON object, with the fields of records.
    #[arg(long, requires = "message")]
    json: bool,
}

/// Why a message cannot be explained.
#[derive(Debug, thiserror::Error)]
enum ExplainError {
    /// The file cannot be read.
    #[error("--message {}: {source}; name a file with one message that you may read", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Nothing is in it.
    #[error("--message {}: the file is empty; name a file with one message", .path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The daemon would refuse it, too.
    #[error("--message {}: larger than limits.message (\"{max}\"): the gateway answers NO to it (rule message_too_large); \
             raise limits.message, or name a smaller file", .path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit.
        max: Size,
    },
    /// The message cannot be written.
    #[error("--output {}: {source}; name a file that does not exist, in a directory where you may write", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The policy's rules cannot be read or built.
    #[error("{0}")]
    Rules(String),
}

/// A message as a server would have it.
struct MessageFile {
    octets: Vec<u8>,
    /// What was changed to make it one.
    changes: Vec<&'static str>,
}

/// What becomes of the message.
struct Explained {
    /// The word: `allow`, `remove`, `deny`, `unavailable`, `unjudged`.
    verdict: &'static str,
    words: String,
    leaves: Vec<LeafVerdict>,
    /// As a client gets it; nothing where it gets nothing.
    delivered: Option<Vec<u8>>,
}

/// Say what is found in the message, after `connection`, which says what applies.
pub(super) fn explain(
    config: &Config,
    asked: &MessageArgs,
    connection: &str,
    decided: Option<Decided<'_>>,
) -> ExitCode {
    let Some(path) = &asked.message else { return ExitCode::FAILURE };
    match explained(config, asked, path, decided) {
        Ok((message, explained)) => match told(asked, connection, decided, &message, &explained) {
            Ok(code) => code,
            Err(error) => failed(&error),
        },
        Err(error) => failed(&error),
    }
}

fn failed(error: &ExplainError) -> ExitCode {
    eprintln!("{error}");
    match error {
        ExplainError::Rules(_) => ExitCode::from(EXIT_CONFIG),
        _ => ExitCode::FAILURE,
    }
}

fn explained(
    config: &Config,
    asked: &MessageArgs,
    path: &Path,
    decided: Option<Decided<'_>>,
) -> Result<(MessageFile, Explained), ExplainError> {
    let message = read(path, config.limits.message)?;
    let unjudged = |why: &str, octets: Option<&Vec<u8>>| Explained {
        verdict: "unjudged",
        words: why.to_owned(),
        leaves: Vec::new(),
        delivered: octets.cloned(),
    };
    let Some(decided) = decided else {
        return Ok((message, unjudged("no policy admits the connection, so that no mail passes", None)));
    };
    let explained = match decided.unjudged {
        Some(Unjudged::Passes(why)) => unjudged(why, Some(&message.octets)),
        Some(Unjudged::Refused(why)) => unjudged(why, None),
        None if is_exempt(&decided.action.privacy, asked.account.as_deref()) => {
            let why =
                "`privacy.exempt_accounts` lists the account, whose mail passes unjudged and as it came";
            unjudged(why, Some(&message.octets))
        }
        None => {
            let rules = field_rules(&decided.action.headers);
            judged(&message.octets, &explain_judge(config, decided)?, &rules)
        }
    };
    Ok((message, explained))
}

/// Whether this account is exempt, as on the wire: never by a name in which servers may find another one.
fn is_exempt(privacy: &PrivacySettings, account: Option<&str>) -> bool {
    let is_exact = |account: &&str| AccountNames::one(account.as_bytes()).is_exact();
    account.filter(is_exact).is_some_and(|account| privacy.exempts(account))
}

/// What judges mail under this proxy action, as in a judge of the daemon.
fn explain_judge(config: &Config, decided: Decided<'_>) -> Result<LeafJudge, ExplainError> {
    let hashes = ContentMaterial::read(config).map_err(|why| ExplainError::Rules(why.to_string()))?;
    let action = decided.policy.action_name();
    let rules = Rules::of(&decided.action.content, Arc::new(hashes.hashes(action)))
        .map_err(|why| ExplainError::Rules(format!("the proxy action {action}: {why}")))?;
    let scanners = scanners(config).map_err(|why| ExplainError::Rules(why.to_string()))?;
    Ok(LeafJudge::new(Arc::new(rules), scanners, OpenLimits::default()))
}

/// The rules of the scanner, as the daemon would read them now.
fn scanners(config: &Config) -> anyhow::Result<Vec<Arc<dyn Scanner>>> {
    let YaraSettings { embedded, directories } = &config.scanner.yara;
    if !embedded && directories.is_empty() {
        return Ok(Vec::new());
    }
    let files = RuleFiles::read(directories)?;
    let facts = compile(&files.sources, *embedded)?;
    let scanner = YaraScanner::load(&pack(&facts, &files.sources, *embedded)?)?;
    Ok(vec![Arc::new(scanner)])
}

/// By this judge, and behind it by these header rules.
fn judged(octets: &[u8], by: &LeafJudge, rules: &FieldRules) -> Explained {
    let shape = message_shape(octets);
    let pieces = vec![ContentPiece { range: 0..octets.len(), shape: shape.clone() }];
    let case = Case { octets: octets.to_vec(), pieces, describes_allowed: true };
    match judge(case, by, &AtomicBool::new(false)) {
        Judged::Unavailable { why } => Explained {
            verdict: "unavailable",
            words: format!("no verdict now ({}): the client is answered NO [UNAVAILABLE]", why.token()),
            leaves: Vec::new(),
            delivered: None,
        },
        Judged::Final { mut octets, leaves } => {
            let of = |action| leaves.iter().filter(|leaf| leaf.action == action).count();
            let (removed, denied) = (of(ContentAction::Remove), of(ContentAction::Deny));
            let (verdict, words) = if denied > 0 {
                ("deny", "every part of the message is overwritten; an upload of it is refused".to_owned())
            } else if removed > 0 {
                let all = leaves.len();
                ("remove", format!("{removed} of {all} parts are overwritten; an upload of it is refused"))
            } else {
                ("allow", "the message goes on as it is, as an upload, too".to_owned())
            };
            let as_judged = octets.clone();
            redact(&mut octets, &shape, rules);
            let overwritten = match octets == as_judged {
                true => "",
                false => "; for clients, fields that header rules remove are overwritten",
            };
            Explained { verdict, words: words + overwritten, leaves, delivered: Some(octets) }
        }
    }
}

/// The message in a file, as a server would serve it.
fn read(path: &Path, max: Size) -> Result<MessageFile, ExplainError> {
    let fault = |source| ExplainError::Read { path: path.to_owned(), source };
    let mut octets = Vec::new();
    // One octet more tells that there is more.
    let file = File::open(path).map_err(fault)?;
    file.take(max.0.saturating_add(1)).read_to_end(&mut octets).map_err(fault)?;
    let message = as_served(octets);
    if message.octets.is_empty() {
        return Err(ExplainError::Empty { path: path.to_owned() });
    }
    if message.octets.len() as u64 > max.0 {
        return Err(ExplainError::TooLarge { path: path.to_owned(), max });
    }
    Ok(message)
}

/// The octets of a file as a server would serve them.
fn as_served(mut octets: Vec<u8>) -> MessageFile {
    let mut changes = Vec::new();
    if octets.starts_with(b"From ") {
        let line =
            octets.iter().position(|octet| *octet == b'\n').map_or(octets.len(), |at| at.saturating_add(1));
        octets.drain(..line);
        changes.push("the `From ` line of an mbox was left out");
    }
    let first_end = octets.iter().position(|octet| *octet == b'\n');
    let before = first_end.and_then(|at| at.checked_sub(1)).and_then(|at| octets.get(at));
    // Where the first line ends with CRLF, a bare LF further down is the sender's, and servers serve it.
    if first_end.is_some() && before != Some(&b'\r') {
        let mut last = 0;
        let mut with_returns = Vec::with_capacity(octets.len().saturating_add(octets.len() / 32));
        for octet in octets {
            if octet == b'\n' && last != b'\r' {
                with_returns.push(b'\r');
            }
            with_returns.push(octet);
            last = octet;
        }
        octets = with_returns;
        changes.push("line ends were LF, and became CRLF");
    }
    MessageFile { octets, changes }
}

fn told(
    asked: &MessageArgs,
    connection: &str,
    decided: Option<Decided<'_>>,
    message: &MessageFile,
    explained: &Explained,
) -> Result<ExitCode, ExplainError> {
    if let (Some(path), Some(octets)) = (&asked.output, &explained.delivered) {
        let mut file = OpenOptions::new().write(true).create_new(true).open(path);
        let written = file
            .as_mut()
            .map_err(|error| io::Error::from(error.kind()))
            .and_then(|file| file.write_all(octets));
        written.map_err(|source| ExplainError::Write { path: path.clone(), source })?;
    }
    if asked.json {
        let object = as_json(decided, message, explained);
        return Ok(print(&(serde_json::to_string_pretty(&object).unwrap_or_default() + "\n")));
    }
    let text = connection.to_owned() + &as_text(message, explained);
    if !asked.show {
        return Ok(print(&text));
    }
    eprint!("{text}");
    let delivered = explained.delivered.as_deref().unwrap_or_default();
    match io::stdout().write_all(delivered).and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("postern: writing to stdout: {error}");
            Ok(ExitCode::FAILURE)
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// The fields of a part's record, but for those that stand elsewhere.
fn fields(leaf: &LeafVerdict) -> Map<String, Value> {
    let part = Cow::Borrowed(leaf.path.as_str());
    let mut fields = leaf_record(leaf, part, Direction::ServerToClient).part_fields();
    for left_out in ["message", "postern.direction", "event.duration"] {
        fields.remove(left_out);
    }
    fields
}

fn as_json(decided: Option<Decided<'_>>, message: &MessageFile, explained: &Explained) -> Value {
    json!({
        "postern.policy": decided.map(|decided| decided.policy.name.as_str()),
        "postern.proxy_action": decided.map(|decided| decided.policy.action_name()),
        "verdict": explained.verdict,
        "message": explained.words,
        "size": message.octets.len(),
        "changes": message.changes,
        "parts": explained.leaves.iter().map(fields).collect::<Vec<_>>(),
    })
}

/// Names that a sender chose stand in it, so that no character of theirs may end a line or command a terminal.
fn as_text(message: &MessageFile, explained: &Explained) -> String {
    let mut lines = vec![format!("message       {} octets", message.octets.len())];
    lines.extend(message.changes.iter().map(|change| format!("              {change}")));
    lines.push(format!("verdict       {}: {}", explained.verdict, explained.words));
    for leaf in &explained.leaves {
        let path = if leaf.path.is_empty() { "(the message itself)" } else { leaf.path.as_str() };
        lines.push(format!("part {path:<9}{}", leaf.action.token()));
        for (name, value) in fields(leaf) {
            if matches!(name.as_str(), "postern.part" | "postern.action") {
                continue;
            }
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            lines.push(format!("  {name:<28}{value}"));
        }
    }
    lines.into_iter().map(|line| escaped(line) + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::super::unjudged;
    use super::*;
    use crate::config::{self, Sni, Traffic};
    use crate::words::Service;

    /// What becomes of a message for this account, under a proxy action with these settings.
    fn explained_under(settings: &str, account: Option<&str>, service: Service) -> Explained {
        let text = format!(
            "[steering]\ningress = [\"lan0\"]\negress = [\"wan0\"]\n[scanner.yara]\nembedded = false\n\
             [certificates]\nauthority = {{ cert = \"a\", key = \"b\" }}\n[action]\n{settings}\n"
        );
        let config = config::parse(&text, Path::new("/postern.toml")).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let message = directory.path().join("mail");
        std::fs::write(&message, MAIL).unwrap();
        let account = account.map(str::to_owned);
        let asked = MessageArgs { message: None, account, show: false, output: None, json: false };
        let traffic = Traffic {
            ingress: &config.steering.ingress[0],
            client: "192.0.2.1".parse().unwrap(),
            destination: "198.51.100.1".parse().unwrap(),
            at: jiff::Timestamp::UNIX_EPOCH,
            service,
            sni: Sni::Absent,
        };
        let policy = &config.policies[0];
        let action = config.action(policy.proxy_action.as_deref()).unwrap();
        let decided = Decided { policy, action, unjudged: unjudged(action, &traffic) };
        explained(&config, &asked, &message, Some(decided)).unwrap().1
    }

    const MAIL: &str = "Subject: abc\r\nX-Secret: abc\r\n\r\nhello\r\n";

    #[test]
    fn a_message_is_shown_as_a_client_of_the_account_gets_it() {
        let rules = "[action.privacy]\nexempt_accounts = [\"boss@example.org\", \"*@council.example\"]\n\
                     [[action.headers.rule]]\nmatch = \"X-Secret\"\naction = \"remove\"";
        for (account, is_exempt) in [
            (None, false),
            (Some("joe@example.org"), false),
            (Some("boss@example.org"), true),
            (Some("joe*boss@council.example"), false),
        ] {
            let explained = explained_under(rules, account, Service::ImplicitTls);
            let shown = explained.delivered.unwrap();
            let expected = if is_exempt { MAIL } else { "Subject: abc\r\nX-Secret: x  \r\n\r\nhello\r\n" };
            assert_eq!(String::from_utf8_lossy(&shown), expected, "{account:?}");
            assert_eq!(explained.words.contains("header rules remove"), !is_exempt, "{}", explained.words);
        }
        let unchanged = explained_under("", None, Service::ImplicitTls);
        assert!(!unchanged.words.contains("header rules") && unchanged.verdict == "allow");
    }

    #[test]
    fn nothing_is_shown_of_a_message_where_the_connection_is_refused() {
        for (settings, service, is_delivered) in [
            ("implicit = \"deny\"", Service::ImplicitTls, false),
            ("starttls = \"strip\"\ncleartext = \"refuse\"", Service::StartTls, false),
            ("implicit = \"allow\"", Service::ImplicitTls, true),
        ] {
            let explained = explained_under(settings, None, service);
            assert_eq!(
                (explained.verdict, explained.delivered.is_some()),
                ("unjudged", is_delivered),
                "{settings}"
            );
        }
    }

    #[test]
    fn a_file_becomes_what_a_server_serves() {
        for (file, served, changes) in [
            ("A: b\r\n\r\nc\r\n", "A: b\r\n\r\nc\r\n", 0),
            ("A: b\n\nc\n", "A: b\r\n\r\nc\r\n", 1),
            // A line end of the sender's choice.
            ("A: b\r\n\r\nc\nd\r\n", "A: b\r\n\r\nc\nd\r\n", 0),
            ("A: b\n\nc\r\n", "A: b\r\n\r\nc\r\n", 1),
            ("From joe Mon Jan  1\nA: b\n\nFrom x\n", "A: b\r\n\r\nFrom x\r\n", 2),
            ("From joe Mon Jan  1\r\nA: b\r\n", "A: b\r\n", 1),
            ("From: joe\r\n", "From: joe\r\n", 0),
            ("From joe", "", 1),
            ("\n", "\r\n", 1),
            ("", "", 0),
        ] {
            let message = as_served(file.as_bytes().to_vec());
            assert_eq!(String::from_utf8_lossy(&message.octets), served, "{file:?}");
            assert_eq!(message.changes.len(), changes, "{file:?}");
        }
    }
}
