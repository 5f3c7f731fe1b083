//! Where alarms go: each kind is limited, and what is left goes to every sink.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use super::alarm_command::AlarmCommand;
use super::alarm_webhook::AlarmWebhook;
use crate::alarm::{Alarm, AlarmKind, AlarmLimits};
use crate::config::{AlarmSettings, DaemonAlarm};
use crate::helper::PostLink;

/// Takes alarms from all tasks of the supervisor's one thread. Nobody waits.
pub(super) struct Alarms {
    terms: RefCell<AlarmTerms>,
    limits: RefCell<AlarmLimits>,
    host: String,
    /// By way of the helper, where there is one.
    posts: PostLink,
}

/// What the configuration says.
struct AlarmTerms {
    events: Vec<DaemonAlarm>,
    per_hour: u32,
    sinks: Vec<AlarmSink>,
}

/// Somebody who is told. Each has a bounded queue of its own, so that one that hangs holds up no other.
enum AlarmSink {
    /// A command.
    Command(AlarmCommand),
    /// A webhook.
    Webhook(AlarmWebhook),
}

impl AlarmSink {
    /// Take one line of JSON; whether there was room.
    fn take(&self, line: &str) -> bool {
        match self {
            Self::Command(command) => command.take(line.into()),
            Self::Webhook(webhook) => webhook.take(line.into()),
        }
    }

    /// Waits until nothing is on its way to it.
    async fn idle(&self) {
        match self {
            Self::Command(command) => command.idle().await,
            Self::Webhook(webhook) => webhook.idle().await,
        }
    }
}

impl AlarmTerms {
    fn of(settings: &AlarmSettings, posts: &PostLink) -> Self {
        let command = AlarmCommand::of(settings).map(AlarmSink::Command);
        let webhook = AlarmWebhook::of(settings, posts).map(AlarmSink::Webhook);
        Self {
            events: settings.events.clone(),
            per_hour: settings.per_hour,
            sinks: command.into_iter().chain(webhook).collect(),
        }
    }
}

impl Alarms {
    pub(super) fn new(settings: &AlarmSettings) -> Self {
        let posts = PostLink::default();
        Self {
            terms: RefCell::new(AlarmTerms::of(settings, &posts)),
            limits: RefCell::default(),
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            posts,
        }
    }

    /// By which alarms are posted: for whoever starts the helper.
    pub(super) const fn posts(&self) -> &PostLink {
        &self.posts
    }

    /// From now on as these settings say. What was raised before still goes where it was sent.
    pub(super) fn renew(&self, settings: &AlarmSettings) {
        *self.terms.borrow_mut() = AlarmTerms::of(settings, &self.posts);
    }

    /// The daemon's own, where `alarm.events` has the kind.
    pub(super) fn say(&self, kind: DaemonAlarm, message: String) {
        if self.terms.borrow().events.contains(&kind) {
            self.raise(&Alarm::of_daemon(AlarmKind::Daemon(kind), message));
        }
    }

    /// Give an alarm to every sink, or count it: the next of its kind tells.
    pub(super) fn raise(&self, alarm: &Alarm) -> bool {
        let terms = self.terms.borrow();
        if terms.sinks.is_empty() {
            return false;
        }
        let mut limits = self.limits.borrow_mut();
        let Some(before) = limits.admit(alarm.kind, terms.per_hour, Instant::now()) else {
            limits.leave_out(alarm.kind, alarm.left_out);
            return false;
        };
        let left_out = before.saturating_add(alarm.left_out);
        let line = alarm.json(&self.host, left_out);
        // Each is asked, whatever the others say.
        let took = terms.sinks.iter().filter(|sink| sink.take(&line)).count();
        if took == 0 {
            limits.leave_out(alarm.kind, left_out.saturating_add(1));
        }
        took > 0
    }

    /// An operator wants to see one; says what becomes of it.
    pub(super) fn test(&self) -> String {
        if self.terms.borrow().sinks.is_empty() {
            return "no alarm is sent: neither alarm.command nor alarm.webhook is set".to_owned();
        }
        let message = "this is a trial: an operator has run `postern alarm test`".to_owned();
        if self.raise(&Alarm::of_daemon(AlarmKind::Test, message)) {
            "an alarm is on its way; the daemon's log says so where it may have reached nobody".to_owned()
        } else {
            "no alarm is sent: too many trials in this hour (alarm.per_hour), or too many alarms wait"
                .to_owned()
        }
    }

    /// Wait for what is on its way, so long at most.
    pub(super) async fn flush(&self, limit: Duration) {
        let sinks = std::mem::take(&mut self.terms.borrow_mut().sinks);
        let end = tokio::time::Instant::now() + limit;
        for sink in sinks {
            drop(tokio::time::timeout_at(end, sink.idle()).await);
        }
    }
}
