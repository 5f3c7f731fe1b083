//! Rules that change while a session runs.
//!
//! What was sent to the server, and mail that is judged, end under the rules under which they began: a command that comes when
//! other rules are in force waits until they have ended, and is the first under the new ones. So one session never has two
//! sets of rules, and no response has to be told by the rules of its command.

use std::rc::Rc;
use std::sync::Arc;

use super::imap_terms::ImapTerms;
use super::session::Session;
use super::terms::MediationTerms;

/// Where a session asks whether other rules are in force.
pub trait RulesSource {
    /// The terms from now on, where other rules are in force than `terms` has. It is asked at the first octet of each command,
    /// and before each is decided, so that no news must cost no more than a load.
    fn renewed(&self, terms: &MediationTerms) -> Option<MediationTerms>;
}

/// What a session knows of later rules.
#[derive(Default)]
pub(super) struct Renewal {
    source: Option<Box<dyn RulesSource>>,
    /// Terms that are in force as soon as all that began before has ended.
    next: Option<Rc<MediationTerms>>,
}

impl Renewal {
    /// Whether other terms wait, these or earlier ones. `terms` are the session's.
    fn look(&mut self, terms: &Rc<MediationTerms>) -> Option<&Rc<MediationTerms>> {
        let source = self.source.as_deref()?;
        if let Some(later) = source.renewed(self.next.as_ref().unwrap_or(terms)) {
            self.next = Some(Rc::new(later));
        }
        self.next.as_ref()
    }

    /// What policy says about IMAP, for a command that begins now; `None` where it is what it was.
    pub(super) fn imap(
        &mut self,
        terms: &Rc<MediationTerms>,
        now: &Arc<ImapTerms>,
    ) -> Option<Arc<ImapTerms>> {
        // They may have been taken since the last command began.
        let latest = self.look(terms).unwrap_or(terms);
        (!Arc::ptr_eq(&latest.imap, now)).then(|| Arc::clone(&latest.imap))
    }
}

impl Session {
    /// The same, with later rules from this source. They count from the next command on.
    #[must_use]
    pub fn with_rules_from(mut self, source: Box<dyn RulesSource>) -> Self {
        self.renewal.source = Some(source);
        self
    }

    /// Take other rules, where they are in force and nothing is left under those before. Whether no command may begin yet.
    pub(super) fn waits_for_rules(&mut self) -> bool {
        if self.renewal.look(&self.terms).is_none() {
            return false;
        }
        if !self.is_settled() {
            return true;
        }
        let Some(mut terms) = self.renewal.next.take() else { return false };
        let is_exempt = self.is_exempt_under(&terms);
        if is_exempt != terms.is_exempt {
            Rc::make_mut(&mut terms).is_exempt = is_exempt;
        }
        if is_exempt {
            terms.counts.exempt();
        }
        if !terms.judges_alike(&self.terms) {
            // What was judged under other rules is shown no more.
            self.copies.leave_mailbox();
        }
        terms.counts.renewed(terms.verdicts.applied());
        self.terms = terms;
        false
    }
}
