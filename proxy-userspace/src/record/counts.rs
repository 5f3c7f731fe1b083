//! What the engine of a session has done to mail.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use crate::policy::AppliedNames;

/// Rules of a session that its record names; each verdict has its own line.
const RULES_MAX: usize = 8;

/// Counters of one session, and whose it is. The record shares them, as it shares the meter, so that it is right at any
/// moment.
#[derive(Debug, Default)]
pub struct ContentCounts {
    judged: Cell<u64>,
    verified: Cell<u64>,
    trusted: Cell<u64>,
    removed: Cell<u64>,
    refused: Cell<u64>,
    left_out: Cell<u64>,
    commands_refused: Cell<u64>,
    account: RefCell<Option<Rc<str>>>,
    is_exempt: Cell<bool>,
    rules: RefCell<Vec<String>>,
    rules_renewed: Cell<u64>,
    /// Of the rules that were taken last.
    names: RefCell<Option<Arc<AppliedNames>>>,
}

impl ContentCounts {
    /// So many leaves of mail were judged, whatever the verdict.
    pub fn count_judged(&self, leaves: u64) {
        add(&self.judged, leaves);
    }

    /// So many sections were those that had been judged before, octet for octet.
    pub fn count_verified(&self, sections: u64) {
        add(&self.verified, sections);
    }

    /// So many messages went on without a look, because they were judged before and their server is trusted.
    pub fn count_trusted(&self, messages: u64) {
        add(&self.trusted, messages);
    }

    /// So many leaves were overwritten in what the client got.
    pub fn count_removed(&self, leaves: u64) {
        add(&self.removed, leaves);
    }

    /// So many messages were refused as a whole: uploads that are forbidden, and what is larger than may be judged.
    pub fn count_refused(&self, messages: u64) {
        add(&self.refused, messages);
    }

    /// So many responses of the server, or items or codes of one, were left out because they are not let through.
    pub fn count_left_out(&self, items: u64) {
        add(&self.left_out, items);
    }

    /// So many commands were answered here: they were never sent, or the server's own answer did not go on.
    pub fn count_commands_refused(&self, commands: u64) {
        add(&self.commands_refused, commands);
    }

    /// This account has logged in, or one that the client did not name in clear.
    pub fn logged_in(&self, account: Option<Rc<str>>) {
        *self.account.borrow_mut() = account;
    }

    /// Mail of the account that has logged in is not judged.
    pub fn exempt(&self) {
        self.is_exempt.set(true);
    }

    pub(super) const fn is_exempt(&self) -> bool {
        self.is_exempt.get()
    }

    /// This rule has decided about mail.
    pub fn decided(&self, rule: &str) {
        let mut rules = self.rules.borrow_mut();
        if rules.len() < RULES_MAX && !rules.iter().any(|known| known == rule) {
            rules.push(rule.to_owned());
        }
    }

    pub(super) fn account(&self) -> Option<Rc<str>> {
        self.account.borrow().clone()
    }

    pub(super) fn rules(&self) -> Vec<String> {
        self.rules.borrow().clone()
    }

    /// The session took other rules, those of this policy.
    pub fn renewed(&self, names: Option<&Arc<AppliedNames>>) {
        add(&self.rules_renewed, 1);
        *self.names.borrow_mut() = names.cloned();
    }

    pub(super) const fn rules_renewed(&self) -> u64 {
        self.rules_renewed.get()
    }

    pub(super) fn names(&self) -> Option<Arc<AppliedNames>> {
        self.names.borrow().clone()
    }

    pub(super) const fn judged(&self) -> u64 {
        self.judged.get()
    }

    pub(super) const fn verified(&self) -> u64 {
        self.verified.get()
    }

    pub(super) const fn trusted(&self) -> u64 {
        self.trusted.get()
    }

    pub(super) const fn removed(&self) -> u64 {
        self.removed.get()
    }

    pub(super) const fn refused(&self) -> u64 {
        self.refused.get()
    }

    pub(super) const fn left_out(&self) -> u64 {
        self.left_out.get()
    }

    pub(super) const fn commands_refused(&self) -> u64 {
        self.commands_refused.get()
    }
}

fn add(count: &Cell<u64>, more: u64) {
    count.set(count.get().saturating_add(more));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_names_each_rule_once_and_eight_at_most() {
        let counts = ContentCounts::default();
        for rule in 0..1000 {
            counts.decided(&format!("rule {}", rule / 3));
        }
        let first: Vec<_> = (0..8).map(|rule| format!("rule {rule}")).collect();
        assert_eq!(counts.rules(), first);
    }
}
