//! Which header fields the owner removes, by their names.
//!
//! A name is looked up as it is first, then compared with the patterns in their order, and the first that fits decides. Upper
//! and lower case are the same (RFC 5322 section 1.2.2).

use std::collections::HashMap;

/// Fields that no rule removes: without them a client could not tell what a part is, and would show it as something
/// else.
pub const KEPT_FIELDS: [&str; 4] =
    ["Content-Type", "Content-Transfer-Encoding", "Content-Disposition", "MIME-Version"];
/// Octets of a name that is compared with patterns: a line of RFC 5322 section 2.1.1 holds no longer one.
const NAME_BYTES_MAX: usize = 998;

/// Compiled header rules. By default nothing is removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldRules {
    /// Names in lower case, and whether the field is removed.
    exact: HashMap<Vec<u8>, bool>,
    /// Patterns in lower case, in the owner's order.
    patterns: Vec<(Vec<u8>, bool)>,
    /// A field that no rule names is removed.
    removes_others: bool,
}

impl FieldRules {
    /// From the owner's rules in their order: a name or a pattern, and whether its fields are removed. In a pattern `*` stands
    /// for any characters, `?` for one. `removes_others` says what becomes of fields that no rule names.
    pub fn new<'r>(rules: impl IntoIterator<Item = (&'r str, bool)>, removes_others: bool) -> Self {
        let mut compiled = Self { removes_others, ..Self::default() };
        for (name, removes) in rules {
            let name = name.to_ascii_lowercase().into_bytes();
            if name.iter().any(|octet| matches!(octet, b'*' | b'?')) {
                compiled.patterns.push((name, removes));
            } else {
                // The first rule of a name decides.
                compiled.exact.entry(name).or_insert(removes);
            }
        }
        compiled
    }

    /// Whether some field may be removed.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.removes_others || self.has_pattern() || self.exact.values().any(|removes| *removes)
    }

    fn has_pattern(&self) -> bool {
        self.patterns.iter().any(|(_, removes)| *removes)
    }

    /// Whether fields of this name are removed. A name that is longer than a line may be is none that an owner could name; it
    /// is removed where any pattern removes.
    #[must_use]
    pub fn removes(&self, name: &[u8]) -> bool {
        if name.len() > NAME_BYTES_MAX {
            return self.removes_others || self.has_pattern();
        }
        if KEPT_FIELDS.iter().any(|kept| name.eq_ignore_ascii_case(kept.as_bytes())) {
            return false;
        }
        let name = name.to_ascii_lowercase();
        let exact = self.exact.get(&name).copied();
        exact
            .or_else(|| {
                self.patterns.iter().find(|(pattern, _)| fits(pattern, &name)).map(|(_, removes)| *removes)
            })
            .unwrap_or(self.removes_others)
    }
}

/// Whether a name fits a pattern. Only the last `*` is tried again, so that the time is bounded by the product of both
/// lengths.
fn fits(mut pattern: &[u8], mut name: &[u8]) -> bool {
    let mut again: Option<(&[u8], &[u8])> = None;
    loop {
        match (pattern, name) {
            ([b'*', behind @ ..], _) => {
                again = Some((behind, name));
                pattern = behind;
            }
            ([wanted, behind @ ..], [octet, rest @ ..]) if *wanted == b'?' || wanted == octet => {
                (pattern, name) = (behind, rest);
            }
            ([], []) => return true,
            _ => match again {
                Some((behind, [_, rest @ ..])) => {
                    again = Some((behind, rest));
                    (pattern, name) = (behind, rest);
                }
                _ => return false,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_exact_name_goes_before_every_pattern_and_the_first_pattern_before_the_second() {
        let rules = FieldRules::new(
            [
                ("X-*", true),
                ("X-Spam-*", false),
                ("x-spam-flag", false),
                ("X-Spam-Flag", true),
                ("Received", true),
            ],
            false,
        );
        for (name, removed) in [
            ("X-Spam-Flag", false),
            ("X-SPAM-FLAG", false),
            ("X-Spam-Score", true),
            ("x-", true),
            ("X", false),
            ("Received", true),
            ("Received-SPF", false),
            ("Subject", false),
        ] {
            assert_eq!(rules.removes(name.as_bytes()), removed, "{name}");
        }
    }

    #[test]
    fn fields_without_which_mail_cannot_be_read_stay_whatever_a_pattern_says() {
        let rules = FieldRules::new([("*", true)], true);
        for kept in KEPT_FIELDS {
            assert!(!rules.removes(kept.as_bytes()) && !rules.removes(kept.to_ascii_lowercase().as_bytes()));
        }
        assert!(rules.removes(b"Content-ID") && rules.removes(b"X"));
    }

    #[test]
    fn fields_that_no_rule_names_are_treated_as_the_owner_says() {
        let rules = FieldRules::new([("Subject", false), ("To", false)], true);
        assert!(rules.is_active() && rules.removes(b"X-Tracking") && !rules.removes(b"subject"));
        assert!(!FieldRules::new([("Subject", false), ("X-*", false)], false).is_active());
        assert!(!FieldRules::default().is_active());
    }

    #[test]
    fn a_name_that_is_longer_than_a_line_does_not_escape_a_pattern() {
        let name = [b"X-".as_slice(), &[b'a'; 1_000]].concat();
        assert!(FieldRules::new([("X-*", true)], false).removes(&name));
        assert!(!FieldRules::new([("X-Spam", true)], false).removes(&name));
    }

    /// What `fits` must equal: every way to spread the name over the pattern.
    fn fits_slowly(pattern: &[u8], name: &[u8]) -> bool {
        match pattern {
            [] => name.is_empty(),
            [b'*', behind @ ..] => (0..=name.len()).any(|at| fits_slowly(behind, &name[at..])),
            [wanted, behind @ ..] => {
                !name.is_empty() && (*wanted == b'?' || *wanted == name[0]) && fits_slowly(behind, &name[1..])
            }
        }
    }

    proptest! {
        #[test]
        fn a_pattern_fits_what_some_way_to_read_it_fits(pattern in "[ab*?]{0,8}", name in "[ab]{0,10}") {
            prop_assert_eq!(
                fits(pattern.as_bytes(), name.as_bytes()),
                fits_slowly(pattern.as_bytes(), name.as_bytes())
            );
        }
    }
}
