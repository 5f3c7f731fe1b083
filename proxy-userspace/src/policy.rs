//! Policies in force: which proxy action and which TLS profile a connection gets, each with what was made from it once.

/// Sessions that run, under policies that came later.
mod running;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow};

pub(crate) use self::running::{Carriage, CutCause, NegotiatedTls, RunningSession};
use crate::config::{
    Action, Config, HeaderAction, HeaderSettings, ImplicitTls, PolicyRule, PrivacySettings, SessionAlarms,
    Tls, Traffic, UNNAMED_PROFILE,
};
use crate::content::{ContentMaterial, FieldRules, HashList, JUDGEMENT_VERSION, Judge, Rules};
use crate::handshake::Trust;
use crate::inspect::ImapTerms;
use crate::judging::{JudgePool, JudgeTerms, RemoteJudge, SealedRules};
use crate::layer::offload::OffloadTerms;
use crate::vault::RuleGeneration;
use crate::words::Service;

/// The policies of one generation, in the order of the file.
pub(crate) struct Policies(Vec<PolicyInForce>);

/// One policy.
pub(crate) struct PolicyInForce {
    rule: PolicyRule,
    action: Arc<ActionInForce>,
    /// What records say of it where TLS begins at once, and with STARTTLS.
    names: [Arc<AppliedNames>; 2],
}

/// The names of what applies to a connection, for its records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppliedNames {
    /// The policy.
    pub policy: String,
    /// The proxy action; `[action]` where it has no name.
    pub action: String,
    /// The TLS profile; `[tls]` where it has no name.
    pub profile: String,
    /// Events that raise an alarm.
    pub alarms: SessionAlarms,
    /// What records say of people, and whose mail is not judged.
    pub privacy: PrivacySettings,
}

/// A proxy action, and what mail is judged with under it.
pub(crate) struct ActionInForce {
    pub(crate) settings: Action,
    /// What is forbidden in mail, and who judges it.
    judge: Arc<RemoteJudge>,
    /// Header fields that clients do not see.
    pub(crate) headers: Arc<FieldRules>,
    /// These rules, by the name under which verdicts are remembered.
    pub(crate) generation: RuleGeneration,
    /// What it says about IMAP itself.
    pub(crate) imap: Arc<ImapTerms>,
    implicit: Arc<ProfileInForce>,
    starttls: Arc<ProfileInForce>,
}

/// A TLS profile, and what handshakes under it are done with.
pub(crate) struct ProfileInForce {
    pub(crate) settings: Tls,
    pub(crate) trust: Trust,
    pub(crate) layers: OffloadTerms,
}

impl Policies {
    /// From a configuration and what its files say. `trust` makes what handshakes need; `layers` is what was found out about
    /// the kernel.
    ///
    /// # Errors
    /// What a profile or an action cannot be made of.
    pub(crate) fn assemble(
        config: &Config,
        content: &ContentMaterial,
        layers: &OffloadTerms,
        (judges, scanner): (&Arc<JudgePool>, Option<&SealedRules>),
        trust: impl Fn(&str, &Tls) -> Result<Trust>,
    ) -> Result<Self> {
        let mut profiles = BTreeMap::new();
        for (name, profile) in config.profiles_in_use() {
            let layers = OffloadTerms { mode: profile.offload, ..layers.clone() };
            let settings = profile.clone();
            let in_force = ProfileInForce { settings, trust: trust(name, profile)?, layers };
            profiles.insert(name, Arc::new(in_force));
        }
        let mut actions = BTreeMap::new();
        for (name, action) in config.actions_in_use() {
            let judging = (judges, config.limits.judge, scanner);
            let in_force = ActionInForce::assemble(action, content.hashes(name), &profiles, judging)?;
            actions.insert(name, Arc::new(in_force));
        }
        let policy = |rule: &PolicyRule| {
            let action = actions.get(rule.action_name()).ok_or_else(|| missing(rule.action_name()))?;
            Ok(PolicyInForce::new(rule.clone(), Arc::clone(action)))
        };
        Ok(Self(config.policies.iter().map(policy).collect::<Result<_>>()?))
    }

    /// The first policy that fits.
    pub(crate) fn find(&self, traffic: &Traffic<'_>) -> Option<&PolicyInForce> {
        self.0.iter().find(|policy| policy.rule.fits(traffic))
    }
}

fn missing(name: &str) -> anyhow::Error {
    anyhow!("the configuration names {name}, and does not have it; please report it")
}

impl PolicyInForce {
    fn new(rule: PolicyRule, action: Arc<ActionInForce>) -> Self {
        let named = |profile: Option<&str>| {
            Arc::new(AppliedNames {
                policy: rule.name.clone(),
                action: rule.action_name().to_owned(),
                profile: profile.unwrap_or(UNNAMED_PROFILE).to_owned(),
                alarms: action.settings.alarms.iter().copied().collect(),
                privacy: action.settings.privacy.clone(),
            })
        };
        let names = [named(action.settings.implicit_profile()), named(action.settings.starttls_profile())];
        Self { rule, action, names }
    }

    /// Whether the ClientHello's name may lead to another policy.
    pub(crate) const fn depends_on_name(&self) -> bool {
        self.rule.sni.is_some()
    }

    /// What becomes of the connection.
    pub(crate) fn action(&self) -> &ActionInForce {
        &self.action
    }

    /// What records say.
    pub(crate) fn names(&self, service: Service) -> &Arc<AppliedNames> {
        let [implicit, starttls] = &self.names;
        match service {
            Service::ImplicitTls => implicit,
            Service::StartTls => starttls,
        }
    }

    /// The TLS profile of connections that begin so.
    pub(crate) fn profile(&self, service: Service) -> &ProfileInForce {
        let Self { action, .. } = self;
        match service {
            Service::ImplicitTls => &action.implicit,
            Service::StartTls => &action.starttls,
        }
    }

    /// Whether nobody looks into the connection from its first octet on.
    pub(crate) fn leaves_alone(&self, service: Service, client: IpAddr, destination: IpAddr) -> bool {
        let settings = &self.action.settings;
        let is_allowed = service == Service::ImplicitTls && settings.implicit == ImplicitTls::Allow;
        is_allowed || settings.bypasses(client, destination)
    }
}

impl ActionInForce {
    /// Who judges mail under it.
    pub(crate) fn judge(&self) -> Arc<dyn Judge> {
        Arc::<RemoteJudge>::clone(&self.judge)
    }

    fn assemble(
        action: &Action,
        hashes: HashList,
        profiles: &BTreeMap<&str, Arc<ProfileInForce>>,
        (judges, time, scanner): (&Arc<JudgePool>, Duration, Option<&SealedRules>),
    ) -> Result<Self> {
        let profile = |name: Option<&str>| {
            let name = name.unwrap_or(UNNAMED_PROFILE);
            profiles.get(name).cloned().ok_or_else(|| missing(name))
        };
        let hashes = Arc::new(hashes);
        let digest = scanner.map(|scanner| scanner.digest);
        let scanner =
            scanner.map(|scanner| Ok::<_, std::io::Error>((scanner.memory.try_clone()?, scanner.digest.0)));
        let terms = JudgeTerms::new(&action.content, &hashes, scanner.transpose()?)?;
        // Copies that are kept have what header rules remove overwritten.
        let settings = (&action.content, &*hashes, &action.headers, digest);
        let generation = RuleGeneration::of(&settings, JUDGEMENT_VERSION)?;
        let rules = Arc::new(Rules::of(&action.content, hashes)?);
        Ok(Self {
            judge: Arc::new(RemoteJudge::new(Arc::clone(judges), rules, terms, time)),
            headers: Arc::new(field_rules(&action.headers)),
            generation,
            imap: Arc::new(ImapTerms::of(action)),
            implicit: profile(action.implicit_profile())?,
            starttls: profile(action.starttls_profile())?,
            settings: action.clone(),
        })
    }
}

/// Header rules, as they are compiled for a proxy action.
pub(crate) fn field_rules(settings: &HeaderSettings) -> FieldRules {
    let removes = |action| action == HeaderAction::Remove;
    let rules = settings.rules.iter().map(|rule| (rule.field.as_str(), removes(rule.action)));
    FieldRules::new(rules, removes(settings.unmatched))
}
