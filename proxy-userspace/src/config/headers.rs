use serde::{Deserialize, Serialize};

use super::fault::Reason;
use super::kinds::{TextValue, text};
use super::setting::{StandIn, sections, settings, words};
use crate::content::KEPT_FIELDS;

/// Rules of one proxy action. The name of each field of each header is compared with each pattern.
const RULES_MAX: usize = 100;
/// Octets of a name or pattern. The longest registered name of a field has 40.
const FIELD_PATTERN_BYTES_MAX: usize = 128;

settings! {
    /// `[action.headers]`: header fields that nobody sees.
    pub struct HeaderSettings {
        /// What becomes of fields that no rule names.
        unmatched: HeaderAction = text::<HeaderAction>().default(HeaderAction::Allow);
        /// Header rules. A rule with the exact name of a field goes before every pattern; of patterns that fit, the first
        /// decides. They hold for the header of a message, of each of its parts, and of each message in it. Content is judged
        /// before: a rule hides no file name from the judgement.
        rules as "rule": Vec<HeaderRule> = sections(RULES_MAX);
    }
}

settings! {
    /// One entry of `action.headers.rule`.
    pub struct HeaderRule {
        /// The name of a header field, or a pattern: `*` stands for any characters, `?` for one. Upper and lower case are the
        /// same. `Content-Type`, `Content-Transfer-Encoding`, `Content-Disposition` and `MIME-Version` are never removed, and no
        /// pattern fits them.
        field as "match": FieldPattern = text::<FieldPattern>().required(
            "write the name of a header field, such as \"X-Spam-Flag\", or a pattern such as \"X-Spam-*\"",
            r#""X-Spam-*""#,
        );
        /// What becomes of it.
        action: HeaderAction = text::<HeaderAction>().required(
            "use \"allow\" or \"remove\"",
            r#""remove""#,
        );
    }
}

words! {
    /// What becomes of a header field.
    pub enum HeaderAction as "action of a header rule" {
        /// Clients see it as the server has it.
        Allow => "allow",
        /// Its value is overwritten in every view that shows it, ENVELOPE included: on each line the first character becomes
        /// `x`, and the others spaces. Its name, its length and its lines stay. The server keeps the original, by which
        /// it searches and sorts; messages that clients upload are not changed.
        Remove => "remove",
    }
}

/// The name of a header field, or a pattern: 1 to 128 characters of RFC 5322 section 3.6.8.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FieldPattern(String);

impl FieldPattern {
    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl StandIn for FieldPattern {
    fn stand_in() -> Self {
        Self(String::new())
    }
}

impl StandIn for HeaderAction {
    fn stand_in() -> Self {
        Self::Allow
    }
}

impl TextValue for FieldPattern {
    type Value = Self;
    const WHAT: &'static str = "the name of a header field, or a pattern";

    fn parse(text: &str) -> Result<Self, Reason> {
        let remedy =
            "write the name of a header field, such as \"X-Spam-Flag\", or a pattern such as \"X-Spam-*\"";
        let refuse = |why: &str| Err(Reason::unfit(format!("not the name of a header field: {why}"), remedy));
        if text.is_empty() {
            return Err(Reason::Empty { remedy });
        }
        if text.len() > FIELD_PATTERN_BYTES_MAX {
            return refuse("longer than 128 octets");
        }
        if text.contains(':') {
            return refuse("the colon is none of it");
        }
        if !text.bytes().all(|octet| octet.is_ascii_graphic()) {
            return refuse("only visible characters of ASCII stand in it");
        }
        if KEPT_FIELDS.iter().any(|kept| text.eq_ignore_ascii_case(kept)) {
            let what = "never removed: without it no client could read the mail";
            return Err(Reason::unfit(what, "remove the rule: the field passes without one"));
        }
        Ok(Self(text.to_owned()))
    }

    fn show(value: &Self) -> String {
        value.0.clone()
    }
}
