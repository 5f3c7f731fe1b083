//! What a JSON record says, and that docs/records.md has a word for all of it.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// The names and tokens of the page that operators read: whatever stands between backticks there.
static PAGE: LazyLock<BTreeSet<&str>> =
    LazyLock::new(|| include_str!("../../docs/records.md").split('`').skip(1).step_by(2).collect());

/// One line about a connection, or about mail in it.
#[derive(Clone, Debug)]
pub struct Record(pub Value);

impl Record {
    /// A line that the daemon wrote.
    ///
    /// # Errors
    /// No JSON object, or one with a field or an `event.reason` that docs/records.md does not have.
    pub fn read(line: &str) -> Result<Self> {
        let record = Self(serde_json::from_str(line).with_context(|| format!("no JSON: {line}"))?);
        let fields = record.0.as_object().with_context(|| format!("no object: {line}"))?;
        let reason = fields.get("event.reason").and_then(Value::as_str);
        for name in fields.keys().map(String::as_str).chain(reason) {
            ensure!(PAGE.contains(name), "docs/records.md does not have `{name}`: {line}");
        }
        Ok(record)
    }

    /// A text field, empty when absent.
    #[must_use]
    pub fn text(&self, key: &str) -> &str {
        self.0.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    /// A number, zero when absent.
    #[must_use]
    pub fn number(&self, key: &str) -> u64 {
        self.0.get(key).and_then(Value::as_u64).unwrap_or_default()
    }

    /// Whether a flag is set.
    #[must_use]
    pub fn flag(&self, key: &str) -> bool {
        self.0.get(key).and_then(Value::as_bool).unwrap_or_default()
    }

    /// The faults of the server's certificate.
    #[must_use]
    pub fn faults(&self) -> Vec<&str> {
        let list = self.0.get("postern.certificate.faults").and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// Whether the line was written when the session ended.
    #[must_use]
    pub fn is_end(&self) -> bool {
        self.text("event.action") == "session_end"
    }

    /// Whether the line was written when the session began.
    #[must_use]
    pub fn is_start(&self) -> bool {
        self.text("event.action") == "session_start"
    }

    /// Whether the line tells of a part of mail that was removed or refused.
    #[must_use]
    pub fn is_verdict(&self) -> bool {
        self.text("event.action") == "content_verdict"
    }

    /// Whether the line tells of something that the account guard refused.
    #[must_use]
    pub fn is_guard(&self) -> bool {
        self.text("event.action") == "guard_refused"
    }

    /// Whether the session ended as both ends wanted.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        self.text("event.outcome") == "success"
    }
}
