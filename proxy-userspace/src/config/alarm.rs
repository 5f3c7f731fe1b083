use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::daemon::{ID_BOUNDS, ID_MAX};
use super::describe::ValueForm;
use super::fault::Reason;
use super::kinds::{Kind, list, number, quoted, seconds, text};
use super::report::Written;
use super::setting::{settings, words};
use super::webhook::{WebhookUrl, webhook};

/// The command's number of user and group where neither the file nor the system names one: of the same range as those of
/// Postern's own processes.
pub(crate) const ALARM_ID_DEFAULT: u32 = 60996;
/// Words of the command, its path among them.
const WORDS_MAX: usize = 64;
/// Octets of one of these words: no path on Linux is longer (`PATH_MAX`, linux/limits.h).
const WORD_BYTES_MAX: usize = 4096;

settings! {
    /// `[alarm]`.
    pub struct AlarmSettings {
        /// The command that is run for each alarm: its absolute path and its arguments. No shell reads them. It gets the alarm
        /// as one JSON object on its standard input ([alarms.md](alarms.md)), and has no power, no other file open, and an
        /// environment that holds `PATH` alone.
        command: Vec<String> = command().default(Vec::new()).such_as(r#"["/usr/local/bin/notify", "--to", "noc"]"#);
        /// The URL to which each alarm is posted, as the same JSON object. The helper posts it, and again up to three
        /// times where the webhook cannot be reached or says that it cannot take the alarm now. Over HTTPS the webhook's
        /// certificate has to come from an authority of the system's or of `tls.roots`. Over HTTP whoever is on the way
        /// reads alarms. The URL's path is often a secret: the log and `postern check` show its host alone.
        webhook: Option<WebhookUrl> = webhook().unset("nothing is posted", r#""https://alerts.example.org/postern""#);
        /// Number of the command's user and group.
        user as "user_id": Option<u32> = number((1, ID_MAX), "", ID_BOUNDS)
            .unset("the system's user `postern-alarm` where it exists, else 60996", "60996");
        /// How long the command may run before it is killed, with what it started.
        run as "run_seconds": Duration = seconds((1, 300), "four commands run at once, and others wait for them")
            .default(Duration::from_secs(30));
        /// Alarms of one kind in an hour; five may follow each other at once. What is left out is counted, and the next alarm of
        /// the kind says how many these were. One kind takes nothing from the others.
        per_hour: u32 = number((1, 3600), "alarms", "each runs a command and is posted").default(30);
        /// Events of the daemon itself that raise an alarm. Events of sessions are chosen in the proxy action (`action.alarms`).
        events: Vec<DaemonAlarm> = list(text::<DaemonAlarm>(), None, None).default(DaemonAlarm::ALL.to_vec());
    }
}

words! {
    /// Events of the daemon that can raise an alarm.
    #[derive(PartialOrd, Ord)]
    pub enum DaemonAlarm as "event of the daemon" {
        /// The worker, the signer or the helper has died, or cannot be started.
        ProcessDied => "process_died",
        /// Steering was disturbed from outside, and was put back or could not be.
        Steering => "steering",
        /// There is no room for new connections, so that `steering.on_exit` decides about them.
        NoRoom => "no_room",
        /// A certificate of Postern's ends soon, or has ended.
        CertificateEnds => "certificate_ends",
        /// A reload found a configuration that cannot be used.
        NotReloaded => "not_reloaded",
    }
}

words! {
    /// Events of sessions that can raise an alarm.
    #[derive(PartialOrd, Ord)]
    pub enum SessionAlarm as "event of a session" {
        /// Forbidden content was removed from a download, or an upload that holds it was refused.
        Content => "content",
        /// Mail was refused because it could not be judged: it is too large, unreadable or incomplete, or there was no room or
        /// no time.
        NotJudged => "not_judged",
        /// A server's certificate has a fault that was not allowed: the session was refused, or its client was shown a
        /// certificate that it does not trust.
        Certificate => "certificate",
        /// A peer did what an attack on STARTTLS does: octets behind STARTTLS or its answer, PREAUTH, a response that nobody
        /// asked for.
        StarttlsAttack => "starttls_attack",
        /// A login in clear text was refused.
        LoginRefused => "login_refused",
        /// The account guard refused the login of an account that may not log in at this server (`guard.tenant`).
        GuardTenant => "guard_tenant",
        /// The account guard refused a login because too many had failed (`guard.failed_logins`).
        GuardGuessing => "guard_guessing",
        /// The account guard kept a message from an account that had fetched its share (`guard.bodies_per_hour`).
        GuardBodies => "guard_bodies",
        /// A server served other octets under a name than those that were judged before.
        ContentChanged => "content_changed",
        /// A fault in Postern ended the session.
        Fault => "fault",
    }
}

/// Which events of sessions raise an alarm: a bit for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionAlarms(u16);

impl SessionAlarms {
    /// Whether this one does.
    #[must_use]
    pub const fn has(self, alarm: SessionAlarm) -> bool {
        self.0 & Self::bit(alarm) != 0
    }

    const fn bit(alarm: SessionAlarm) -> u16 {
        1 << alarm as u16
    }
}

impl FromIterator<SessionAlarm> for SessionAlarms {
    fn from_iter<I: IntoIterator<Item = SessionAlarm>>(alarms: I) -> Self {
        Self(alarms.into_iter().fold(0, |bits, alarm| bits | Self::bit(alarm)))
    }
}

/// A command: an absolute path, and arguments, which may repeat themselves.
fn command() -> Kind<Vec<String>> {
    let read = |written: &mut Written<'_, '_>| {
        let array = written.elements("a list", Some(WORDS_MAX))?;
        let words: Vec<String> =
            written.list(array, &(Box::new(word) as _)).into_iter().map(|(word, _)| word).collect();
        let is_absolute = words.first().is_none_or(|program| Path::new(program).is_absolute());
        let reason = || {
            let remedy =
                "write the path from the root first, such as \"/usr/local/bin/notify\": nobody looks in PATH";
            Reason::unfit("the command is no absolute path", remedy)
        };
        // A wrong word was told.
        let is_whole = words.len() == array.len();
        written.fits((is_absolute || !is_whole).then_some(words), reason)
    };
    let toml = |words: &Vec<String>| {
        let words: Vec<_> = words.iter().map(|word| quoted(word)).collect();
        format!("[{}]", words.join(", "))
    };
    let of = Box::new(ValueForm::Text { what: "a path, then arguments", words: &[] });
    let form = ValueForm::List { of, min: 0, max: Some(WORDS_MAX), differ: false };
    Kind { read: Box::new(read), toml: Box::new(toml), form }
}

/// One word of a command (execve(2)): it ends with a NUL, and so holds none.
fn word(written: &mut Written<'_, '_>) -> Option<String> {
    let text = written.text()?;
    let fits = text.len() <= WORD_BYTES_MAX && !text.contains('\0');
    written.fits(fits.then(|| text.to_owned()), || {
        Reason::unfit("no word of a command", "use at most 4096 octets, and no NUL")
    })
}
