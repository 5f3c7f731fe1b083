//! A line about something that the account guard refused.

use std::borrow::Cow;
use std::time::SystemTime;

use super::{LineFields, VerdictLines};
use crate::config::SessionAlarm;
use crate::guard::GuardRule;
use crate::words::Side;

/// What was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuardRecord<'a> {
    /// The rule.
    pub rule: GuardRule,
    /// The account, where it can be read.
    pub user: Option<Cow<'a, str>>,
    /// The how-manieth refusal of its kind it is. Not each has a line.
    pub count: u64,
}

impl GuardRecord<'_> {
    /// A kind for each rule, because each kind has its own limit: who makes many foreign logins hides no mass download.
    const fn alarm(&self) -> SessionAlarm {
        match self.rule {
            GuardRule::Tenant => SessionAlarm::GuardTenant,
            GuardRule::Bodies => SessionAlarm::GuardBodies,
            GuardRule::Guessing => SessionAlarm::GuardGuessing,
        }
    }

    const fn message(&self) -> &'static str {
        match self.rule {
            GuardRule::Tenant => {
                "a login was refused: guard.tenant lets no such account log in at this server"
            }
            GuardRule::Bodies => {
                "a message was kept from its account, which has fetched as many as guard.bodies_per_hour lets it; if \
                 nobody expects that, change its password"
            }
            GuardRule::Guessing => {
                "a login was refused and the server not asked: too many have failed (guard.failed_logins)"
            }
        }
    }
}

impl VerdictLines {
    /// Write the line about a refusal of the account guard. Where nobody reads lines it is counted as lost.
    pub fn write_guard(&self, refused: &GuardRecord<'_>) {
        let mut fields = LineFields::default();
        fields.identify(&self.session, SystemTime::now(), "guard_refused");
        fields.tls(Side::Downstream, self.session.downstream);
        fields.tls(Side::Upstream, self.session.upstream);
        fields.account(&self.sink, &self.session, refused.user.as_deref());
        fields.guard(refused);
        self.sink.alarm(&self.session, Some(refused.alarm()), &fields);
        self.sink.write(&fields);
    }
}

impl LineFields {
    fn guard(&mut self, refused: &GuardRecord<'_>) {
        self.set("rule.name", refused.rule.as_str());
        self.set("postern.guard.refused", refused.count);
        self.set("message", refused.message());
    }
}
