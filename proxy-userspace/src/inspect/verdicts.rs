//! From the verdict on a leaf to what is written down of it.

use std::borrow::Cow;

use crate::content::{ContentAction, LeafVerdict, RuleName};
use crate::record::{VerdictAction, VerdictRecord, hex_lower};
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
        // Name and hash may be those of a file inside the part, which have no field of their own.
        RuleName::UnmatchedName { name } => Some(Cow::Borrowed(name)),
        RuleName::Hash { sha256 } => Some(Cow::Owned(hex_lower(sha256))),
        RuleName::Eicar | RuleName::Virus { .. } | RuleName::Condition(_) => None,
    }
}

/// The scanner, and its name for what it knows.
fn virus(rule: &RuleName) -> Option<(Cow<'_, str>, Cow<'_, str>)> {
    match rule {
        RuleName::Virus { scanner, signature } => Some((Cow::Borrowed(scanner), Cow::Borrowed(signature))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::Condition;

    #[test]
    fn a_rule_about_a_file_inside_the_part_says_which_file_it_is() {
        for (rule, expected) in [
            (RuleName::Hash { sha256: [0xab; 32] }, Some("ab".repeat(32))),
            (RuleName::UnmatchedName { name: "inner.xyz".to_owned() }, Some("inner.xyz".to_owned())),
            (RuleName::Condition(Condition::Macro), None),
        ] {
            assert_eq!(detail(&rule).map(Cow::into_owned), expected, "{rule:?}");
        }
    }
}
