use std::collections::BTreeMap;
use std::fmt;

use super::fault::Reason;
use super::policy::{NamedObjects, UNNAMED_ACTION, UNNAMED_PROFILE};
use super::report::Report;
use super::setting::Group;
use super::write::{TableWriter, joined};
use super::{Config, predefined};

/// The two kinds of objects that have names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectKind {
    /// What becomes of mail.
    ProxyAction,
    /// How TLS is spoken.
    TlsProfile,
}

impl ObjectKind {
    const ALL: [Self; 2] = [Self::ProxyAction, Self::TlsProfile];

    /// The table of the file.
    #[must_use]
    pub const fn table(self) -> &'static str {
        match self {
            Self::ProxyAction => "proxy_action",
            Self::TlsProfile => "tls_profile",
        }
    }

    /// The command: `postern action` and `postern profile`.
    #[must_use]
    pub const fn command(self) -> &'static str {
        match self {
            Self::ProxyAction => "action",
            Self::TlsProfile => "profile",
        }
    }

    /// The one that has no name, as records and commands call it: what the table itself says.
    #[must_use]
    pub const fn unnamed(self) -> &'static str {
        match self {
            Self::ProxyAction => UNNAMED_ACTION,
            Self::TlsProfile => UNNAMED_PROFILE,
        }
    }

    fn names(self, objects: &NamedObjects) -> Vec<&str> {
        match self {
            Self::ProxyAction => objects.proxy_actions.keys().map(String::as_str).collect(),
            Self::TlsProfile => objects.tls_profiles.keys().map(String::as_str).collect(),
        }
    }

    /// Whether the name is one of those that every configuration has.
    #[must_use]
    pub fn is_predefined(self, name: &str) -> bool {
        self.names(&predefined::objects()).contains(&name)
    }
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ProxyAction => "proxy action",
            Self::TlsProfile => "TLS profile",
        })
    }
}

/// A predefined object in the file of the owner would be an edit of it.
pub(super) fn refuse_predefined(report: &mut Report<'_>, objects: &NamedObjects) {
    for kind in ObjectKind::ALL {
        for name in kind.names(objects).into_iter().filter(|name| kind.is_predefined(name)) {
            let key = joined(kind.table(), name);
            let what = "predefined, and cannot be edited, deleted or shadowed";
            let remedy = format!(
                "keep the edit in a clone: `postern {} clone {name} NAME --apply {}` makes one, then remove this table",
                kind.command(),
                report.file_of(&key).display()
            );
            report.relate_table(&key, Reason::unfit(what, remedy));
        }
    }
}

/// Adds the objects of a further file. A name that an earlier file has is a fault of the later one.
pub(super) fn join(report: &mut Report<'_>, objects: &mut NamedObjects, further: NamedObjects) {
    refuse_predefined(report, &further);
    insert(report, ObjectKind::ProxyAction, &mut objects.proxy_actions, further.proxy_actions);
    insert(report, ObjectKind::TlsProfile, &mut objects.tls_profiles, further.tls_profiles);
}

fn insert<T>(
    report: &mut Report<'_>,
    kind: ObjectKind,
    objects: &mut BTreeMap<String, T>,
    further: BTreeMap<String, T>,
) {
    for (name, object) in further {
        let key = joined(kind.table(), &name);
        if objects.insert(name, object).is_some() {
            let what = format!("an earlier file has this {kind}, too");
            report.relate_table(&key, Reason::unfit(what, "rename or remove one of them"));
        }
    }
}

/// The predefined ones; what a file has under their names was refused.
pub(super) fn add_predefined(objects: &mut NamedObjects) {
    let NamedObjects { proxy_actions, tls_profiles } = predefined::objects();
    objects.proxy_actions.extend(proxy_actions);
    objects.tls_profiles.extend(tls_profiles);
}

impl Config {
    /// The names of all objects of a kind, the unnamed one first.
    #[must_use]
    pub fn object_names(&self, kind: ObjectKind) -> Vec<&str> {
        let mut names = vec![kind.unnamed()];
        names.extend(kind.names(&self.objects));
        names
    }

    /// An object as the file has it, with every setting. Paths are absolute.
    #[must_use]
    pub fn object_text(&self, kind: ObjectKind, name: &str) -> Option<String> {
        let named = (name != kind.unnamed()).then_some(name);
        let path = match (named, kind) {
            (Some(name), kind) => joined(kind.table(), name),
            (None, ObjectKind::ProxyAction) => "action".to_owned(),
            (None, ObjectKind::TlsProfile) => "tls".to_owned(),
        };
        Some(match kind {
            ObjectKind::ProxyAction => text_of(&path, self.action(named)?),
            ObjectKind::TlsProfile => text_of(&path, self.profile(named)?),
        })
    }
}

impl Config {
    /// What uses an object: policies use actions, actions use profiles.
    #[must_use]
    pub fn users_of(&self, kind: ObjectKind, name: &str) -> Vec<&str> {
        match kind {
            ObjectKind::ProxyAction => {
                let used = self.policies.iter().filter(|policy| policy.action_name() == name);
                used.map(|policy| policy.name.as_str()).collect()
            }
            ObjectKind::TlsProfile => {
                let actions = self.object_names(ObjectKind::ProxyAction).into_iter();
                actions.filter(|action| self.profile_names(action).contains(&name)).collect()
            }
        }
    }

    /// The TLS profiles of a proxy action: where TLS begins at once, and behind STARTTLS.
    fn profile_names(&self, action: &str) -> Vec<&str> {
        let action = self.action((action != UNNAMED_ACTION).then_some(action));
        let names = action.map(|action| [action.implicit_profile(), action.starttls_profile()]);
        names.into_iter().flatten().map(|name| name.unwrap_or(UNNAMED_PROFILE)).collect()
    }

    /// The Content Inspection Summary of each TLS profile that an object has or is, and for what it is used.
    #[must_use]
    pub fn summaries(&self, kind: ObjectKind, name: &str) -> Vec<(String, String)> {
        let summary = |purpose: String, name: &str| {
            let profile = self.profile((name != UNNAMED_PROFILE).then_some(name))?;
            Some((purpose, profile.summary().to_string()))
        };
        match (kind, self.profile_names(name).as_slice()) {
            (ObjectKind::TlsProfile, _) => summary(name.to_owned(), name).into_iter().collect(),
            (ObjectKind::ProxyAction, [implicit, starttls]) if implicit == starttls => {
                summary(format!("TLS profile {implicit}"), implicit).into_iter().collect()
            }
            (ObjectKind::ProxyAction, names) => {
                let purposes = ["implicit TLS", "STARTTLS"].into_iter();
                let told = names
                    .iter()
                    .zip(purposes)
                    .map(|(name, purpose)| (format!("{purpose}, TLS profile {name}"), name));
                told.filter_map(|(purpose, name)| summary(purpose, name)).collect()
            }
        }
    }
}

/// The table with this path.
pub(super) fn text_of(path: &str, object: &impl Group) -> String {
    let mut table = TableWriter::new(path);
    object.write(&mut table);
    table.into_text()
}
