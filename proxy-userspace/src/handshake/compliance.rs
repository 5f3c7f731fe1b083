//! Deviations from the RFCs of TLS that do no harm by themselves: peers that deviate so are common, and owners decide
//! about them (`tls.compliance`). Everything else that is no TLS is refused under every policy.

use std::fmt;

use crate::config::Compliance;
use crate::failure::Cause;
use crate::layer::Alert;

/// One of them. docs/tls.md lists all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deviation {
    /// The client's server name is an IP address.
    SniAddress,
    /// The client's server name ends in a dot.
    SniTrailingDot,
    /// The client signals that it speaks an older version than it could, and TLS 1.3 is spoken here.
    Fallback,
    /// A record of a handshake under another version than the one that records have.
    RecordVersion,
    /// An alert in clear text, of warning level, in a handshake of TLS 1.3, which went on.
    WarningAlert,
    /// The stream ended without `close_notify`.
    NoCloseNotify,
}

impl Deviation {
    /// All of them, in the order in which they are told.
    pub const ALL: [Self; 6] = [
        Self::SniAddress,
        Self::SniTrailingDot,
        Self::Fallback,
        Self::RecordVersion,
        Self::WarningAlert,
        Self::NoCloseNotify,
    ];

    /// The word in records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SniAddress => "sni_address",
            Self::SniTrailingDot => "sni_trailing_dot",
            Self::Fallback => "fallback",
            Self::RecordVersion => "record_version",
            Self::WarningAlert => "warning_alert",
            Self::NoCloseNotify => "no_close_notify",
        }
    }

    /// What it deviates from.
    #[must_use]
    pub const fn rule(self) -> &'static str {
        match self {
            Self::SniAddress | Self::SniTrailingDot => "RFC 6066 section 3",
            Self::Fallback => "RFC 7507 section 3",
            Self::RecordVersion => "RFC 8446 section 5.1, RFC 5246 section 6.2.1",
            Self::WarningAlert => "RFC 8446 section 6",
            Self::NoCloseNotify => "RFC 8446 section 6.1, RFC 5246 section 7.2.1",
        }
    }

    /// What the peer is told where it is refused; nothing after the end of its stream.
    #[must_use]
    pub const fn alert(self) -> Option<Alert> {
        match self {
            Self::SniAddress | Self::SniTrailingDot | Self::RecordVersion => Some(Alert::ILLEGAL_PARAMETER),
            Self::Fallback => Some(Alert::INAPPROPRIATE_FALLBACK),
            Self::WarningAlert => Some(Alert::UNEXPECTED_MESSAGE),
            Self::NoCloseNotify => None,
        }
    }

    const fn bit(self) -> u8 {
        match self {
            Self::SniAddress => 1,
            Self::SniTrailingDot => 1 << 1,
            Self::Fallback => 1 << 2,
            Self::RecordVersion => 1 << 3,
            Self::WarningAlert => 1 << 4,
            Self::NoCloseNotify => 1 << 5,
        }
    }
}

impl fmt::Display for Deviation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SniAddress => "an IP address in place of the server's name",
            Self::SniTrailingDot => "a dot at the end of the server's name",
            Self::Fallback => "a connection in an older version than both sides speak (TLS_FALLBACK_SCSV)",
            Self::RecordVersion => "a record of another version in the handshake",
            Self::WarningAlert => "a warning in a handshake of TLS 1.3",
            Self::NoCloseNotify => "an end without close_notify",
        })
    }
}

/// A set of [`Deviation`]s.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Deviations(u8);

impl Deviations {
    /// Adds one.
    pub const fn insert(&mut self, deviation: Deviation) {
        self.0 |= deviation.bit();
    }

    /// Takes one away.
    pub const fn remove(&mut self, deviation: Deviation) {
        self.0 &= !deviation.bit();
    }

    /// Adds those of the other set.
    pub const fn join(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// In the order of [`Deviation::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Deviation> {
        Deviation::ALL.into_iter().filter(move |deviation| self.0 & deviation.bit() != 0)
    }
}

impl From<Deviation> for Deviations {
    fn from(deviation: Deviation) -> Self {
        Self(deviation.bit())
    }
}

impl fmt::Debug for Deviations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// What one peer did so far, and whether policy tolerates it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Conduct {
    compliance: Compliance,
    noted: Deviations,
}

impl Conduct {
    pub(super) const fn under(compliance: Compliance) -> Self {
        Self { compliance, noted: Deviations(0) }
    }

    /// Note a deviation.
    ///
    /// # Errors
    /// Policy does not tolerate it.
    pub(super) fn note(&mut self, deviation: Deviation) -> Result<(), Cause> {
        self.noted.insert(deviation);
        match self.compliance {
            Compliance::Tolerant => Ok(()),
            Compliance::Enforced => Err(Cause::Deviation(deviation)),
        }
    }

    /// Note them all.
    ///
    /// # Errors
    /// Policy does not tolerate the first of them.
    pub(super) fn note_all(&mut self, deviations: Deviations) -> Result<(), Cause> {
        self.noted.join(deviations);
        deviations.iter().try_for_each(|deviation| self.note(deviation))
    }

    /// All that was noted.
    pub(super) const fn deviations(self) -> Deviations {
        self.noted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_deviation_is_told_by_its_own_word_and_has_a_row_in_the_documents() {
        const PAGE: &str = include_str!("../../../docs/tls.md");
        for deviation in Deviation::ALL {
            let mut set = Deviations::default();
            set.insert(deviation);
            assert_eq!(set.iter().collect::<Vec<_>>(), [deviation]);
            let row = format!("| `{}` | ", deviation.as_str());
            let line = PAGE.lines().find(|line| line.starts_with(&row)).unwrap_or_default();
            for rule in deviation.rule().split(", ") {
                assert!(line.contains(rule), "docs/tls.md: {row}{rule}: {line:?}");
            }
            let alert = deviation.alert().map_or("none".to_owned(), |alert| format!("({})", alert.octet()));
            assert!(line.contains(&alert), "docs/tls.md: {alert}: {line:?}");
        }
        let rows = PAGE.lines().filter(|line| line.contains("| RFC ")).count();
        assert_eq!(rows, Deviation::ALL.len(), "docs/tls.md has a row for a deviation that does not exist");
    }

    #[test]
    fn what_is_tolerated_is_noted_and_what_is_enforced_ends_the_handshake_at_the_first() {
        let mut both = Deviations::default();
        both.insert(Deviation::RecordVersion);
        both.insert(Deviation::SniAddress);
        let mut tolerant = Conduct::under(Compliance::Tolerant);
        tolerant.note_all(both).unwrap();
        assert_eq!(tolerant.deviations(), both);
        let mut enforced = Conduct::under(Compliance::Enforced);
        let ended = enforced.note_all(both).unwrap_err();
        assert!(matches!(ended, Cause::Deviation(Deviation::SniAddress)), "{ended}");
        assert_eq!(enforced.deviations(), both, "the record names both");
    }
}
