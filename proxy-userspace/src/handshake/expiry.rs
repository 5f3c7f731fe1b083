//! Certificates that end: which there are, when, and what is said of it.

use std::fmt;
use std::path::{Path, PathBuf};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Seconds of a day.
const DAY: i64 = 24 * 60 * 60;

/// How near the end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Nearness {
    /// More than 30 days.
    Far,
    /// 30 days or less.
    Month,
    /// 14 days or less.
    Fortnight,
    /// 7 days or less.
    Week,
    /// A day or less.
    Day,
    /// It has ended.
    Expired,
}

/// A certificate of the configuration, with those that clients need beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lifetime {
    /// What it is for.
    pub(crate) of: CertificateUse,
    /// Its file.
    pub(crate) file: PathBuf,
    /// The first `notAfter` of the file's certificates, in seconds since 1970: nobody builds a path longer than that.
    pub(crate) not_after: i64,
}

/// What a certificate is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CertificateUse {
    /// The re-signing authority.
    Authority,
    /// An entry of `certificates.server`, by its names.
    Server(Vec<String>),
    /// The default Proxy Server certificate of `certificates.default`.
    Default,
    /// The default one that Postern makes, and makes anew by itself.
    OwnDefault,
}

impl fmt::Display for CertificateUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Authority => f.write_str("authority certificate"),
            Self::Server(names) => write!(f, "certificate of {}", names.join(", ")),
            Self::Default | Self::OwnDefault => f.write_str("default certificate"),
        }
    }
}

impl Lifetime {
    /// Of this chain; certificates that cannot be read have no end.
    pub(super) fn new(of: CertificateUse, file: &Path, chain: &[Vec<u8>]) -> Self {
        let ends = chain.iter().filter_map(|der| {
            let (_, cert) = X509Certificate::from_der(der).ok()?;
            Some(cert.validity().not_after.timestamp())
        });
        Self { of, file: file.to_owned(), not_after: ends.min().unwrap_or(i64::MAX) }
    }

    /// How near its end is at `now` (seconds since 1970).
    pub(crate) const fn nearness(&self, now: i64) -> Nearness {
        match self.not_after.saturating_sub(now) {
            ..0 => Nearness::Expired,
            0..=DAY => Nearness::Day,
            left if left <= 7 * DAY => Nearness::Week,
            left if left <= 14 * DAY => Nearness::Fortnight,
            left if left <= 30 * DAY => Nearness::Month,
            _ => Nearness::Far,
        }
    }

    /// Whole days until its end at `now`; below zero once it has ended.
    pub(crate) const fn days_left(&self, now: i64) -> i64 {
        self.not_after.saturating_sub(now).div_euclid(DAY)
    }

    /// When it ends (RFC 3339).
    pub(crate) fn ends(&self) -> String {
        let time = OffsetDateTime::from_unix_timestamp(self.not_after).ok();
        time.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_else(|| "never".to_owned())
    }

    /// When it ends, in words.
    pub(crate) fn words(&self, now: i64) -> String {
        let (file, ends) = (self.file.display(), self.ends());
        match self.nearness(now) {
            Nearness::Expired => format!("{file} has EXPIRED on {ends}, clients refuse it"),
            _ => format!("{file} ends on {ends}, in {} days", self.days_left(now)),
        }
    }

    /// What an operator does about it.
    pub(crate) const fn remedy(&self) -> &'static str {
        match self.of {
            CertificateUse::Authority => {
                "renew it with `postern ca renew`, or have it issued again (`postern ca request`, `postern ca import`), and \
                 reload"
            }
            CertificateUse::Server(_) | CertificateUse::Default => "put a new one into the file and reload",
            CertificateUse::OwnDefault => "Postern makes a new one by itself; see the log for why it did not",
        }
    }

    /// What `postern status` and the log say where the end is near.
    pub(crate) fn alarm(&self, now: i64) -> Option<String> {
        let is_near = self.nearness(now) > Nearness::Far;
        is_near.then(|| format!("{}: {}; {}", self.of, self.words(now), self.remedy()))
    }
}

/// What was said in the log already.
#[derive(Debug, Default)]
pub(crate) struct ExpiryTold(Vec<(PathBuf, i64, Nearness)>);

impl ExpiryTold {
    /// What is to be said at `now`: of each certificate once for each [`Nearness`], as long as nothing is forgotten.
    pub(crate) fn news(&mut self, lifetimes: &[Lifetime], now: i64) -> Vec<String> {
        let (mut news, mut told) = (Vec::new(), Vec::new());
        for lifetime in lifetimes {
            let nearness = lifetime.nearness(now);
            let known = self.0.iter().find(|(file, not_after, _)| {
                (file.as_path(), *not_after) == (lifetime.file.as_path(), lifetime.not_after)
            });
            if known.is_none_or(|(_, _, known)| *known < nearness) {
                news.extend(lifetime.alarm(now));
            }
            told.push((lifetime.file.clone(), lifetime.not_after, nearness));
        }
        self.0 = told;
        news
    }

    /// After a reload all is said again.
    pub(crate) fn forget(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn ending_in(seconds: i64) -> Lifetime {
        let of = CertificateUse::Server(vec!["imap.example.org".to_owned()]);
        Lifetime { of, file: "/etc/postern/imap.pem".into(), not_after: NOW + seconds }
    }

    #[test]
    fn an_end_is_near_from_thirty_days_on_and_again_at_fourteen_seven_and_one() {
        for (seconds, nearness, days) in [
            (30 * DAY + 1, Nearness::Far, 30),
            (30 * DAY, Nearness::Month, 30),
            (14 * DAY + 1, Nearness::Month, 14),
            (14 * DAY, Nearness::Fortnight, 14),
            (7 * DAY, Nearness::Week, 7),
            (DAY + 1, Nearness::Week, 1),
            (DAY, Nearness::Day, 1),
            (0, Nearness::Day, 0),
            (-1, Nearness::Expired, -1),
        ] {
            let lifetime = ending_in(seconds);
            assert_eq!((lifetime.nearness(NOW), lifetime.days_left(NOW)), (nearness, days), "{seconds} s");
            assert_eq!(lifetime.alarm(NOW).is_none(), nearness == Nearness::Far, "{seconds} s");
        }
        let told = ending_in(12 * DAY).alarm(NOW).unwrap();
        for part in [
            "certificate of imap.example.org: /etc/postern/imap.pem ends on 2027-01-27T",
            "in 12 days; put a new",
        ] {
            assert!(told.contains(part), "{told}");
        }
        assert!(ending_in(-5).alarm(NOW).unwrap().contains("has EXPIRED on 2027-01-15T07:59:55Z"));
    }

    #[test]
    fn a_running_daemon_says_each_step_once_and_all_of_it_again_after_a_reload() {
        let (mut told, lifetimes) = (ExpiryTold::default(), [ending_in(31 * DAY)]);
        let mut days_told = Vec::new();
        // A look each hour.
        for hour in 0..33 * 24 {
            if !told.news(&lifetimes, NOW + hour * 3600).is_empty() {
                days_told.push(lifetimes[0].days_left(NOW + hour * 3600));
            }
        }
        assert_eq!(days_told, [30, 14, 7, 1, -1]);
        told.forget();
        assert_eq!(told.news(&lifetimes, NOW + 33 * DAY).len(), 1);
        // Another certificate in the same file.
        assert_eq!(told.news(&[ending_in(40 * DAY)], NOW + 33 * DAY).len(), 1);
        assert_eq!(told.news(&[ending_in(400 * DAY)], NOW + 33 * DAY).len(), 0);
    }
}
