//! The rules of a session in which mail is judged: those of its policy, and later ones.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Policy;
use super::roster::Standing;
use super::thread::Local;
use crate::inspect::{MediationTerms, Recollection, RulesSource, UidTrust};
use crate::policy::{ActionInForce, PolicyInForce};
use crate::record::Record;
use crate::vault::Vault;
use crate::words::OriginalDst;

/// What its engine needs, without the account guard. A server that did not prove its name may be anybody, and is not trusted.
pub(super) fn mediation_terms(
    local: &Local,
    policy: &Policy,
    action: &ActionInForce,
    (server, verified): (OriginalDst, bool),
    record: &mut Record,
) -> MediationTerms {
    let vault = local.shared.vault.get().cloned();
    MediationTerms {
        message_max: policy.room.message.0,
        imap: Arc::clone(&action.imap),
        held: Arc::clone(&local.shared.held),
        jobs: Arc::clone(&local.shared.content_jobs),
        judge: action.judge(),
        headers: Arc::clone(&action.headers),
        counts: record.content_counts(),
        verdicts: record.verdict_lines(),
        clean_verdicts: policy.config.records.clean_verdicts,
        // Nobody has logged in yet.
        is_exempt: false,
        recollection: recollection(vault.clone(), action),
        uid_trust: uid_trust(policy, action, server, verified),
        guard: None,
        server: server.to_string().into(),
        vault,
    }
}

fn recollection(vault: Option<Arc<Vault>>, action: &ActionInForce) -> Option<Recollection> {
    vault.map(|vault| Recollection::new(vault, action.generation))
}

fn uid_trust(
    policy: &Policy,
    action: &ActionInForce,
    server: OriginalDst,
    verified: bool,
) -> Option<UidTrust> {
    let is_trusted = verified && action.settings.trusts_uids_of(server.ip());
    is_trusted.then(|| policy.trusted_servers.trust(server.ip())).flatten()
}

/// Later rules for a session. It holds no policy: those that nobody needs any more are freed, however long it lasts.
pub(super) struct LaterRules {
    local: Rc<Local>,
    standing: Rc<Standing>,
    server: OriginalDst,
    verified: bool,
    /// The generation of the policy that was looked at last.
    seen: Cell<u64>,
}

impl LaterRules {
    /// For a session that began under a policy of this generation.
    pub(super) fn new(
        local: Rc<Local>,
        standing: Rc<Standing>,
        (server, verified): (OriginalDst, bool),
        generation: u64,
    ) -> Self {
        Self { local, standing, server, verified, seen: Cell::new(generation) }
    }

    /// The terms under another policy, where they differ. The largest message stays: the client was told of it.
    fn under(
        &self,
        policy: &Policy,
        applied: &PolicyInForce,
        terms: &MediationTerms,
    ) -> Option<MediationTerms> {
        let action = applied.action();
        let later = MediationTerms {
            imap: if action.imap == terms.imap { Arc::clone(&terms.imap) } else { Arc::clone(&action.imap) },
            judge: action.judge(),
            headers: Arc::clone(&action.headers),
            verdicts: terms.verdicts.under(applied.names(self.standing.service())),
            clean_verdicts: policy.config.records.clean_verdicts,
            recollection: recollection(terms.vault.clone(), action),
            uid_trust: uid_trust(policy, action, self.server, self.verified),
            ..terms.clone()
        };
        (!is_alike(&later, terms, action)).then_some(later)
    }
}

/// Whether nothing changes: a generation may have brought certificates, or rules for others.
fn is_alike(later: &MediationTerms, terms: &MediationTerms, action: &ActionInForce) -> bool {
    let is_judged_alike =
        terms.recollection.as_ref().is_some_and(|before| before.generation() == action.generation);
    let is_trust_alike = match (&later.uid_trust, &terms.uid_trust) {
        (None, None) => true,
        (Some(later), Some(before)) => later.is(before),
        _ => false,
    };
    is_judged_alike
        && is_trust_alike
        && Arc::ptr_eq(&later.imap, &terms.imap)
        && later.clean_verdicts == terms.clean_verdicts
        && later.verdicts.applied() == terms.verdicts.applied()
}

impl RulesSource for LaterRules {
    fn renewed(&self, terms: &MediationTerms) -> Option<MediationTerms> {
        let shared = &self.local.shared;
        if shared.generation.load(Ordering::Acquire) == self.seen.get() {
            return None;
        }
        let policy = shared.policy.load();
        self.seen.set(policy.generation);
        self.under(&policy, self.standing.judged_by(&policy)?, terms)
    }
}
