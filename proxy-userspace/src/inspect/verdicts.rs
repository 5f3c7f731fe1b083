//! From the verdict on a leaf to what is written down of it.

use std::borrow::Cow;

use crate::content::{ContentAction, LeafVerdict, RuleName};
use crate::record::{VerdictAction, VerdictRecord};
use crate::words::Direction;

/// The record of a leaf that stands at this path in its message. Whose mail it is has to be added.
pub(crate) fn leaf_record<'a>(
    leaf: &'a LeafVerdict,
    part: Cow<'a, str>,
    direction: Direction,
) -> VerdictRecord<'a> {
    let action = match (leaf.action, direction) {
        (ContentAction::Allow, _) => VerdictAction::Allow,
        (ContentAction::Remove, Direction::ServerToClient) => VerdictAction::Remove,
        (ContentAction::Deny, Direction::ServerToClient) => VerdictAction::Deny,
        (ContentAction::Remove | ContentAction::Deny, Direction::ClientToServer) => VerdictAction::Refuse,
    };
    let rule = leaf.rule.as_ref();
    VerdictRecord {
        part,
        file_name: leaf.name.as_deref().map(Cow::Borrowed),
        file_names: &leaf.names,
        declared_type: leaf.declared_type.as_deref().map(Cow::Borrowed),
        declared_types: &leaf.declared_types,
        real_type: leaf.real_type.map(|real| Cow::Borrowed(real.token())),
        octets: leaf.file.map_or(0, |file| file.octets),
        sha256: leaf.file.map(|file| file.sha256),
        member: leaf.member.as_deref().map(Cow::Borrowed),
        rule: Cow::Borrowed(rule.map(RuleName::token).unwrap_or_default()),
        detail: rule.and_then(detail),
        virus: rule.and_then(virus),
        took: Some(leaf.took),
        action,
        direction,
        ..VerdictRecord::of_message()
    }
}

/// What of a rule decided, where its token does not say all.
fn detail(rule: &RuleName) -> Option<Cow<'_, str>> {
    match rule {
        RuleName::Name { pattern, .. } => Some(Cow::Borrowed(pattern)),
        RuleName::Type(real) => Some(Cow::Borrowed(real.token())),
        RuleName::Media { pattern, .. } => Some(Cow::Borrowed(pattern)),
        RuleName::List { list, .. } => Some(Cow::Borrowed(list)),
        RuleName::UnmatchedType { media_type } => Some(Cow::Borrowed(media_type)),
        // The name and the hash have fields of their own.
        RuleName::Eicar
        | RuleName::UnmatchedName { .. }
        | RuleName::Hash { .. }
        | RuleName::Virus { .. }
        | RuleName::Condition(_) => None,
    }
}

/// The scanner, and its name for what it knows.
fn virus(rule: &RuleName) -> Option<(Cow<'_, str>, Cow<'_, str>)> {
    match rule {
        RuleName::Virus { scanner, signature } => Some((Cow::Borrowed(scanner), Cow::Borrowed(signature))),
        _ => None,
    }
}
