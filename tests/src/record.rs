//! What a JSON record says.

use serde_json::Value;

/// One line about a connection.
#[derive(Clone, Debug)]
pub struct Record(pub Value);

impl Record {
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

    /// Whether the line was written when the session ended, not when it began.
    #[must_use]
    pub fn is_end(&self) -> bool {
        self.text("event.action") != "session_start"
    }

    /// Whether the session ended as both ends wanted.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        self.text("event.outcome") == "success"
    }
}
