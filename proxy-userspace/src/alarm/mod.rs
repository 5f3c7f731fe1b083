//! Alarms: something has happened that somebody should know at once.
//!
//! The worker raises those of sessions, and the supervisor its own. All go to the supervisor's `Alarms`, which limits each
//! kind and gives what is left to its sinks.

/// How many alarms of a kind may follow each other.
mod limit;
/// From mail threads to the control task, without waiting.
mod outlet;

use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

pub(crate) use self::limit::AlarmLimits;
pub(crate) use self::outlet::{AlarmInlet, AlarmOutlet};
use crate::config::{DaemonAlarm, SessionAlarm};
use crate::event_id::EventId;

/// What an alarm is about. Each kind has a limit of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum AlarmKind {
    /// A session, as `action.alarms` chooses.
    Session(SessionAlarm),
    /// The daemon, as `alarm.events` chooses.
    Daemon(DaemonAlarm),
    /// An operator's trial (`postern alarm test`).
    Test,
}

impl AlarmKind {
    /// The word in the alarm, which is the one of the configuration.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Session(alarm) => alarm.as_str(),
            Self::Daemon(alarm) => alarm.as_str(),
            Self::Test => "test",
        }
    }
}

/// A value of a field. The forms that fields of records have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum AlarmValue {
    Text(String),
    Number(u64),
    Flag(bool),
    List(Vec<String>),
}

/// One alarm. Its fields are those of a record, by the same names, and whoever chose their texts was a stranger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Alarm {
    /// What it is about.
    pub(crate) kind: AlarmKind,
    /// By name.
    pub(crate) fields: Vec<(String, AlarmValue)>,
    /// Alarms of the kind that had no room before this one.
    pub(crate) left_out: u64,
}

impl Alarm {
    /// With the fields of a record.
    pub(crate) fn of_session(alarm: SessionAlarm, record: &Map<String, Value>) -> Self {
        let field = |(name, value): (&String, &Value)| Some((name.clone(), AlarmValue::of(value)?));
        let fields = record.iter().filter_map(field).collect();
        Self { kind: AlarmKind::Session(alarm), fields, left_out: 0 }
    }

    /// The daemon's own, in an operator's words.
    pub(crate) fn of_daemon(kind: AlarmKind, message: String) -> Self {
        let now = SystemTime::now();
        let at = OffsetDateTime::from(now).format(&Rfc3339).unwrap_or_default();
        let fields = [
            ("@timestamp", at),
            ("event.id", EventId::at(now).to_string()),
            ("event.action", kind.as_str().to_owned()),
            ("message", message),
        ];
        let fields = fields.map(|(name, text)| (name.to_owned(), AlarmValue::Text(text))).into();
        Self { kind, fields, left_out: 0 }
    }

    /// One JSON object with a line end. `host` is this machine's name, and `left_out` the alarms of this kind that nobody was
    /// told of before.
    pub(crate) fn json(&self, host: &str, left_out: u64) -> String {
        let fields = self.fields.iter().map(|(name, value)| (name.clone(), value.to_json()));
        let mut object: Map<String, Value> = fields.collect();
        for (name, value) in [
            ("event.kind", Value::from("alert")),
            ("host.name", Value::from(host)),
            ("postern.alarm.kind", Value::from(self.kind.as_str())),
            ("postern.alarm.suppressed", Value::from(left_out)),
        ] {
            object.insert(name.to_owned(), value);
        }
        let mut line = crate::record::escaped(Value::Object(object).to_string());
        line.push('\n');
        line
    }
}

impl AlarmValue {
    /// `None` for a form that no field of a record has.
    fn of(value: &Value) -> Option<Self> {
        match value {
            Value::String(text) => Some(Self::Text(text.clone())),
            Value::Number(number) => number.as_u64().map(Self::Number),
            Value::Bool(flag) => Some(Self::Flag(*flag)),
            Value::Array(list) => {
                Some(Self::List(list.iter().filter_map(Value::as_str).map(str::to_owned).collect()))
            }
            Value::Null | Value::Object(_) => None,
        }
    }

    fn to_json(&self) -> Value {
        match self {
            Self::Text(text) => text.as_str().into(),
            Self::Number(number) => (*number).into(),
            Self::Flag(flag) => (*flag).into(),
            Self::List(list) => list.clone().into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields() -> Map<String, Value> {
        let text = r#"{"event.id":"7","event.kind":"event","file.name":"a\n\u202eb","email.from.address":["m@e"],"file.size":9,"tls.resumed":true}"#;
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn an_alarm_is_one_line_of_json_with_the_fields_of_its_record() {
        let alarm = Alarm::of_session(SessionAlarm::Content, &fields());
        let passed: Alarm = postcard::from_bytes(&postcard::to_stdvec(&alarm).unwrap()).unwrap();
        let line = passed.json("gate", 3);
        assert!(line.ends_with("}\n") && line.lines().count() == 1 && !line.contains('\u{202e}'), "{line}");
        let read: Value = serde_json::from_str(&line).unwrap();
        for (name, value) in fields().into_iter().filter(|(name, _)| name != "event.kind") {
            assert_eq!(read[&name], value, "{name}");
        }
        assert_eq!(
            (
                &read["event.kind"],
                &read["host.name"],
                &read["postern.alarm.kind"],
                &read["postern.alarm.suppressed"]
            ),
            (&"alert".into(), &"gate".into(), &"content".into(), &3.into())
        );
    }

    #[test]
    fn the_daemons_own_alarms_say_what_happened_and_when() {
        let alarm = Alarm::of_daemon(AlarmKind::Daemon(DaemonAlarm::NoRoom), "no room".to_owned());
        let read: Value = serde_json::from_str(&alarm.json("gate", 0)).unwrap();
        assert_eq!((&read["message"], &read["event.action"]), (&"no room".into(), &"no_room".into()));
        assert!(read["@timestamp"].as_str().unwrap().contains('T') && read["event.id"].is_string(), "{read}");
    }

    #[test]
    fn every_kind_and_every_field_of_an_alarm_stands_in_its_page() {
        let page = include_str!("../../../docs/alarms.md");
        let kinds = SessionAlarm::ALL.map(SessionAlarm::as_str).into_iter();
        let kinds = kinds.chain(DaemonAlarm::ALL.map(DaemonAlarm::as_str)).chain([AlarmKind::Test.as_str()]);
        let fields = ["event.kind", "host.name", "postern.alarm.kind", "postern.alarm.suppressed"];
        for word in kinds.chain(fields) {
            assert!(page.contains(&format!("`{word}`")), "docs/alarms.md does not have `{word}`");
        }
    }
}
