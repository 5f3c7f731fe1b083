//! The configuration: one TOML file, and objects in the files of `conf.d`, parsed into one immutable value.
//!
//! A setting is one line of a `settings!` group, with its key, its kind of value, its default and its purpose. The
//! reading of the file, the reference, the schema and the example come from that line.

/// From a file to [`Config`], or every fault of the file that can be told at once.
mod parse;
/// Tables of a document as they are read, and the faults found so far.
mod report;
/// How a setting is declared.
mod setting;
/// Kinds of values: how each is read, written and described.
mod kinds;
/// Network interfaces, DNS names, networks and file names, as the file spells them.
mod names;
/// `[steering]`: which packets, and where they may go.
mod steering;
/// `[tls]`: the TLS profile.
mod tls;
/// `[certificates]`: keys and certificates that Postern shows.
mod certificates;
/// `[action]`: the proxy action.
mod action;
/// `[action.content]`: rules about parts of mail.
mod content;
/// Media types, hashes and deny messages, as the file spells them.
mod content_text;
/// `[action.general]`: time-outs, the length of lines, and what a session tells.
mod general;
/// `[action.capabilities]`: the allow-list, narrowed.
mod capabilities;
/// `[action.headers]`: header fields that nobody sees.
mod headers;
/// `[action.privacy]`: whose mail nobody looks at, and what records say of people.
mod privacy;
/// `[guard]`: which accounts may do what.
mod guard;
/// `[scanner]`: who says of a file that it is harmful.
mod scanner;
/// `[limits]`: bounds with their units.
mod limits;
/// `[alarm]`: what is run when something happens, and the words for what can happen.
mod alarm;
/// `[records]`, `[state]`, `[admin]` and `[process]`: the daemon itself.
mod daemon;
/// `alarm.webhook`: a URL that is a secret.
mod webhook;
/// `[helper]`: the process that asks strangers for answers.
mod helper;
/// `[[policy]]`: which connections get which proxy action; and the objects that have names.
mod policy;
/// Hours of the week in a time zone.
mod hours;
/// Objects that every configuration has.
mod predefined;
/// Objects with names: where they come from, and how one is shown.
mod objects;
/// `postern action clone` and `postern profile clone`.
mod clone;
/// What settings demand of each other.
mod relations;
/// Settings that a running daemon cannot change.
mod fixed;
/// What is wrong with a file, in an operator's words.
mod fault;
/// Values as a file has them.
mod write;
/// Settings in words, for what is printed about them.
mod describe;
/// `postern config reference`.
mod reference;
/// `postern config schema`.
mod schema;
/// `postern config example`.
mod example;

pub use action::{Action, ClearText, ImplicitTls, Inspection, ShownCertificates, StartTls};
pub(crate) use alarm::ALARM_ID_DEFAULT;
pub use alarm::{AlarmSettings, DaemonAlarm, SessionAlarm, SessionAlarms};
pub use capabilities::CapabilitySettings;
pub use certificates::{
    Certificates, DefaultCertificate, KeyFiles, ServerCertificate, ServerPin, own_default,
};
pub use clone::{CloneError, ObjectFile, clone_object};
pub use content::{
    ContentList, ContentSettings, DenyLanguage, ForbiddenType, ListRule, NameRule, RuleAction, SignedMail,
    TypeRule, VerdictChoice, VerdictSettings,
};
pub use content_text::{DenyMessage, FileHash, MediaTypePattern};
pub use daemon::{Admin, Processes, RecordFormat, RecordLines, State};
pub(crate) use daemon::{HELPER_ID_DEFAULT, JUDGE_ID_DEFAULT, SIGNER_ID_DEFAULT, WORKER_ID_DEFAULT};
pub use example::example;
pub use fault::{ConfigError, Fault, Reason};
pub use general::{GeneralSettings, LINE_LENGTH_MAX};
pub(crate) use guard::BODIES_PER_HOUR_MAX;
pub use guard::{AccountDomain, GuardSettings, TenantRule};
pub use headers::{FieldPattern, HeaderAction, HeaderRule, HeaderSettings};
pub use helper::HelperSettings;
pub(crate) use helper::NAME_SERVERS_MAX;
pub use hours::{NamedZone, WeekHours};
pub(crate) use limits::HELD_SHARE_MAX;
pub use limits::{CLIENT_SHARE, Limits};
pub use names::{Fingerprint, InterfaceName, NamePattern};
pub use objects::ObjectKind;
pub use parse::{admin_socket, load, objects_directory, parse};
pub use policy::{
    DEFAULT_POLICY, NamedObjects, PolicyRule, Sni, TlsSupport, Traffic, UNMATCHED, UNNAMED_ACTION,
    UNNAMED_PROFILE,
};
pub use predefined::{
    CLIENT_ACTION, CLIENT_PROFILE, CLIENT_STRICT_PROFILE, SERVER_ACTION, SERVER_PROFILE,
    SERVER_STRICT_PROFILE,
};
pub use privacy::{AccountPattern, PrivacySettings, SubjectForm};
pub use reference::reference;
pub use scanner::{ScannerSettings, YaraSettings};
pub use schema::schema;
pub(crate) use steering::INTERFACES_MATCHED_MAX;
pub use steering::{OnExit, Reach, Source, SteeringConfig, Unmatched};
pub use tls::{
    ClientCertificate, Compliance, ContentInspectionSummary, FaultPolicy, Ocsp, Offload, Pfs, Tls, TlsCipher,
    TlsGroup, TlsVersion, TrustedRoot, Verdict,
};

pub use webhook::WebhookUrl;

use policy::POLICIES_MAX;
use setting::{flatten, section, sections, settings};

settings! {
    /// Everything an owner decides. The supervisor reads it from the file and passes it on to its worker, so what is
    /// read from a message was judged before.
    pub struct Config {
        /// Which packets, and where they may go.
        steering: SteeringConfig = section();
        /// The TLS profile of proxy actions that name none.
        unnamed_profile as "tls": Tls = section();
        /// Keys and certificates that Postern shows.
        certificates: Certificates = section();
        /// The proxy action of policies that name none: what becomes of mail.
        unnamed_action as "action": Action = section();
        /// Proxy actions and TLS profiles with names.
        objects: NamedObjects = flatten();
        /// Which connections get which proxy action. Policies are looked through in the order of the file, and the first
        /// that fits decides. A connection that none fits is treated as `steering.unmatched` says. Without policies all connections get what
        /// `[action]` says.
        policies as "policy": Vec<PolicyRule> = sections(POLICIES_MAX);
        /// Which accounts may log in where, how often a password may be guessed, and how much mail an account may fetch. Without
        /// these settings nothing of it is limited. They hold for sessions under `inspect = "full"`, and count anew
        /// when Postern starts; a reload keeps the counts.
        guard: GuardSettings = section();
        /// Who says of a file in mail, by its content, that it is harmful.
        scanner: ScannerSettings = section();
        /// The process that asks authorities for what servers do not staple, and posts alarms.
        helper: HelperSettings = section();
        /// Bounds with their units.
        limits: Limits = section();
        /// What is written on stdout. A record is written when a session ends.
        records: RecordLines = section();
        /// What is run, and where it is posted, when something happens that somebody should know at once
        /// ([alarms.md](alarms.md)).
        alarm: AlarmSettings = section();
        /// What outlives the daemon.
        state: State = section();
        /// The admin socket.
        admin: Admin = section();
        /// Who the processes run as. `postern run` starts processes that give root up: the worker, which reads what
        /// clients and servers send, the signer, which has the private keys, judges, which read what is inside of parts of
        /// mail, where an action has mail judged, and the helper, which asks authorities and posts alarms, where a profile or
        /// `alarm.webhook` wants that. Each has a user and a group of its own,
        /// with one number for both. Change the numbers where something else on this machine, or in this user
        /// namespace, has them.
        processes as "process": Processes = section();
    }
}
