use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::fault::Reason;
use super::kinds::TextValue;

/// Where systems keep the rules of time zones (tzset(3)).
const ZONES: &str = "/usr/share/zoneinfo";
/// Octets of such a file: the largest has some 4 KiB.
const ZONE_BYTES_MAX: usize = 64 * 1024;
/// Minutes of a day.
const DAY: u16 = 24 * 60;
/// As they are written, in the order of ISO 8601.
const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// Days of the week and a time of day, such as `Mon-Fri 07:00-19:00`. A time that ends before it begins ends on the day
/// after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeekHours {
    text: String,
    /// The bit of each day on which the time begins, Monday's the lowest.
    days: u8,
    /// Minutes since midnight.
    from: u16,
    /// The first minute that is not meant any more.
    to: u16,
}

impl WeekHours {
    /// Whether a moment of the week lies within: the days since Monday and the minutes since midnight.
    fn holds(&self, day: u8, minute: u16) -> bool {
        let begins_on = |day: u8| self.days & (1 << day) != 0;
        if self.from < self.to {
            return begins_on(day) && (self.from..self.to).contains(&minute);
        }
        let yesterday = day.checked_sub(1).unwrap_or(6);
        (begins_on(day) && minute >= self.from) || (begins_on(yesterday) && minute < self.to)
    }
}

impl TextValue for WeekHours {
    type Value = Self;
    const WHAT: &'static str = "days and hours";

    fn parse(text: &str) -> Result<Self, Reason> {
        let read = || {
            let (days, hours) = text.split_once(' ')?;
            let (from, to) = hours.trim().split_once('-')?;
            let (from, to) = (minutes(from)?, minutes(to)?);
            let is_span = from != to && from < DAY;
            is_span.then_some(Self { text: text.to_owned(), days: days_of(days)?, from, to })
        };
        let remedy = "write days and hours such as \"Mon-Fri 07:00-19:00\", \"Sat,Sun 22:00-06:00\" or \"daily 00:00-12:00\"";
        read().ok_or_else(|| Reason::unfit("not days and hours", remedy))
    }

    fn show(value: &Self) -> String {
        value.text.clone()
    }
}

fn days_of(text: &str) -> Option<u8> {
    let day = |text: &str| DAYS.iter().position(|day| day.eq_ignore_ascii_case(text));
    if text.eq_ignore_ascii_case("daily") {
        return Some(0x7f);
    }
    let mut days = 0;
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (day(first)?, day(last)?);
        // Fri-Mon goes on over the end of the week.
        let count = (last + 7 - first) % 7 + 1;
        days |= (first..first + count).fold(0, |days, day| days | 1 << (day % 7));
    }
    Some(days)
}

/// `24:00` is the end of a day.
fn minutes(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let number = |text: &str| (text.len() == 2).then(|| text.parse::<u16>().ok()).flatten();
    let (hour, minute) = (number(hour)?, number(minute)?);
    let minutes = hour * 60 + minute;
    (minute < 60 && minutes <= DAY).then_some(minutes)
}

/// A time zone by its name in the system's database, with the rules that were read there: a process without files has
/// them, too.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedZone {
    name: String,
    /// As the system's file has them (RFC 9636); empty for UTC.
    rules: Vec<u8>,
    zone: TimeZone,
}

impl Eq for NamedZone {}

impl NamedZone {
    pub(super) fn utc() -> Self {
        Self { name: "UTC".to_owned(), rules: Vec::new(), zone: TimeZone::UTC }
    }

    fn with_rules(name: String, rules: Vec<u8>) -> Result<Self, jiff::Error> {
        let zone = if rules.is_empty() { TimeZone::UTC } else { TimeZone::tzif(&name, &rules)? };
        Ok(Self { name, rules, zone })
    }

    /// Whether a moment lies within one of these hours here.
    pub(super) fn holds(&self, hours: &[WeekHours], at: Timestamp) -> bool {
        let local = self.zone.to_datetime(at);
        let day = match local.weekday() {
            Weekday::Monday => 0,
            Weekday::Tuesday => 1,
            Weekday::Wednesday => 2,
            Weekday::Thursday => 3,
            Weekday::Friday => 4,
            Weekday::Saturday => 5,
            Weekday::Sunday => 6,
        };
        let minute = u16::from(local.hour().unsigned_abs()) * 60 + u16::from(local.minute().unsigned_abs());
        hours.iter().any(|hours| hours.holds(day, minute))
    }

    /// The moment as people here read it.
    pub(super) fn words(&self, at: Timestamp) -> String {
        let local = self.zone.to_datetime(at);
        format!("{} in {}", local.strftime("%a %H:%M"), self.name)
    }
}

impl TextValue for NamedZone {
    type Value = Self;
    const WHAT: &'static str = "a time zone";

    fn parse(text: &str) -> Result<Self, Reason> {
        if text == "UTC" {
            return Ok(Self::utc());
        }
        let remedy =
            "write a name such as \"Europe/Berlin\" or \"UTC\"; the system's package tzdata has them";
        let unfit = |what: String| Reason::unfit(what, remedy);
        let is_part = |octet: u8| octet.is_ascii_alphanumeric() || b"+-_/".contains(&octet);
        if text.is_empty() || text.starts_with('/') || !text.bytes().all(is_part) {
            return Err(unfit("not the name of a time zone".to_owned()));
        }
        let path: PathBuf = Path::new(ZONES).join(text);
        let rules = fs::read(&path)
            .map_err(|error| unfit(format!("no such time zone ({}: {error})", path.display())))?;
        if rules.is_empty() || rules.len() > ZONE_BYTES_MAX {
            return Err(unfit(format!("{} holds no time zone", path.display())));
        }
        Self::with_rules(text.to_owned(), rules)
            .map_err(|error| unfit(format!("{} holds no time zone: {error}", path.display())))
    }

    fn show(value: &Self) -> String {
        value.name.clone()
    }
}

impl Serialize for NamedZone {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        (&self.name, &self.rules).serialize(to)
    }
}

impl<'de> Deserialize<'de> for NamedZone {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let (name, rules) = Deserialize::deserialize(from)?;
        Self::with_rules(name, rules).map_err(serde::de::Error::custom)
    }
}
