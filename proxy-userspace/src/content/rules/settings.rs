//! From `action.content` to compiled rules.

use std::sync::Arc;

use super::lists::contents;
use super::names::{NameEntry, NameRules, Pattern};
use super::types::{TypeEntry, TypeRules};
use super::{HashList, Rules, RulesError};
use crate::config::{ContentList, ContentSettings, ForbiddenType, NameRule, RuleAction, TypeRule};
use crate::content::terms::ContentTerms;

impl Rules {
    /// Compile the settings. `hashes` are those of `blocked_hashes` and of the files of `hash_files`.
    ///
    /// # Errors
    /// A pattern that cannot be used.
    pub fn of(settings: &ContentSettings, hashes: Arc<HashList>) -> Result<Self, RulesError> {
        Ok(Self {
            names: names(settings)?,
            types: Arc::new(types(settings)),
            hashes,
            terms: ContentTerms::of(settings),
        })
    }
}

/// The lists with what becomes of their files, in the order in which they count: written entries, then those for short.
fn lists(settings: &ContentSettings) -> impl Iterator<Item = (ContentList, RuleAction)> {
    let written = settings.list_rule.iter().map(|rule| (rule.list, rule.action));
    written.chain(settings.lists.iter().map(|list| (*list, RuleAction::Remove)))
}

fn names(settings: &ContentSettings) -> Result<NameRules, RulesError> {
    let mut entries = Vec::new();
    for NameRule { pattern, action } in &settings.name_rule {
        let pattern = Pattern::new(pattern.as_str())?;
        entries.push(NameEntry { pattern, list: None, action: *action });
    }
    for pattern in &settings.names {
        let pattern = Pattern::new(pattern.as_str())?;
        entries.push(NameEntry { pattern, list: None, action: RuleAction::Remove });
    }
    for (list, action) in lists(settings) {
        for extension in contents(list).extensions {
            let pattern = Pattern::of_text(&format!("*.{extension}"));
            entries.push(NameEntry { pattern, list: Some(list), action });
        }
    }
    Ok(NameRules::new(entries, settings.names_unmatched))
}

fn types(settings: &ContentSettings) -> TypeRules {
    let entry = |TypeRule { pattern, action }: &TypeRule| TypeEntry {
        pattern: Pattern::of_text(pattern.as_str()),
        action: *action,
    };
    let entries = settings.type_rule.iter().map(entry).collect();
    let mut rules = TypeRules::new(entries, settings.detect_types, settings.types_unmatched);
    rules.executable = settings.types.contains(&ForbiddenType::Executable);
    rules.lists = lists(settings).map(|(list, action)| (list, contents(list).real_types, action)).collect();
    rules
}

#[cfg(test)]
mod tests;
