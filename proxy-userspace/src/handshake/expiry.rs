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
    /// When it ends, in seconds since 1970. An authority ends with those above it, too, up to its root.
    pub(crate) not_after: i64,
    /// The first end of those behind it that may matter: a client with another path does without them. Those that issued
    /// themselves never do, because clients have their roots themselves.
    behind: i64,
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
        let end = |der: &Vec<u8>, counts: &dyn Fn(&X509Certificate<'_>) -> bool| {
            let (_, cert) = X509Certificate::from_der(der).ok()?;
            counts(&cert).then(|| cert.validity().not_after.timestamp())
        };
        let is_issued = |cert: &X509Certificate<'_>| cert.subject().as_raw() != cert.issuer().as_raw();
        let first = chain.first().and_then(|der| end(der, &|_| true)).unwrap_or(i64::MAX);
        let behind = chain.iter().skip(1).filter_map(|der| end(der, &is_issued)).min().unwrap_or(i64::MAX);
        let file = file.to_owned();
        if of == CertificateUse::Authority {
            return Self { of, file, not_after: first.min(behind), behind: i64::MAX };
        }
        Self { of, file, not_after: first, behind }
    }

    /// Its end, or that of one behind it: whichever comes first.
    pub(crate) fn first_end(&self) -> i64 {
        self.not_after.min(self.behind)
    }

    /// How near its end is at `now` (seconds since 1970).
    pub(crate) fn nearness(&self, now: i64) -> Nearness {
        Self::nearness_of(self.not_after, now).max(self.nearness_behind(now))
    }

    /// The end of those behind it is told, and is never its own.
    fn nearness_behind(&self, now: i64) -> Nearness {
        Self::nearness_of(self.behind, now).min(Nearness::Day)
    }

    const fn nearness_of(end: i64, now: i64) -> Nearness {
        match end.saturating_sub(now) {
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
        Self::time(self.not_after)
    }

    fn time(end: i64) -> String {
        let time = OffsetDateTime::from_unix_timestamp(end).ok();
        time.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_else(|| "never".to_owned())
    }

    /// When it ends, in words.
    pub(crate) fn words(&self, now: i64) -> String {
        let (file, ends) = (self.file.display(), self.ends());
        match Self::nearness_of(self.not_after, now) {
            own if own < self.nearness_behind(now) => format!(
                "{file} ends on {ends}, but a certificate behind the first one in it does on {}, and clients without \
                 another path refuse it then",
                Self::time(self.behind)
            ),
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
pub(crate) struct ExpiryTold(Vec<(PathBuf, (i64, i64), Nearness)>);

impl ExpiryTold {
    /// What is to be said at `now`: of each certificate once for each [`Nearness`], as long as nothing is forgotten.
    pub(crate) fn news(&mut self, lifetimes: &[Lifetime], now: i64) -> Vec<String> {
        let (mut news, mut told) = (Vec::new(), Vec::new());
        for lifetime in lifetimes {
            let nearness = lifetime.nearness(now);
            let ends = (lifetime.not_after, lifetime.behind);
            let known = self
                .0
                .iter()
                .find(|(file, known, _)| (file.as_path(), *known) == (lifetime.file.as_path(), ends));
            if known.is_none_or(|(_, _, known)| *known < nearness) {
                news.extend(lifetime.alarm(now));
            }
            told.push((lifetime.file.clone(), ends, nearness));
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
        Lifetime { of, file: "/etc/postern/imap.pem".into(), not_after: NOW + seconds, behind: i64::MAX }
    }

    /// Chains of a leaf that lasts a year, with what else the file has, each with its days.
    fn chain(behind: &[(&str, &str, i64)]) -> Vec<Vec<u8>> {
        let cert = |subject: &str, issuer: &str, days: i64| {
            let name = |name: &str| {
                let mut params = rcgen::CertificateParams::default();
                params.distinguished_name = rcgen::DistinguishedName::new();
                params.distinguished_name.push(rcgen::DnType::CommonName, name);
                params.not_after = OffsetDateTime::from_unix_timestamp(NOW + days * DAY).unwrap();
                params
            };
            let key = rcgen::KeyPair::generate().unwrap();
            let issuer = rcgen::Issuer::new(name(issuer), rcgen::KeyPair::generate().unwrap());
            name(subject).signed_by(&key, &issuer).unwrap().der().to_vec()
        };
        let behind = behind.iter().map(|(subject, issuer, days)| cert(subject, issuer, *days));
        std::iter::once(cert("Leaf", "Below", 365)).chain(behind).collect()
    }

    #[test]
    fn what_stands_behind_the_first_certificate_is_told_and_has_not_expired_for_it() {
        let of = |of, behind: &[_]| Lifetime::new(of, Path::new("imap.pem"), &chain(behind));
        let server = |behind: &[_]| of(CertificateUse::Server(vec!["imap.example.org".to_owned()]), behind);
        let (below, root) = (("Below", "Root", 200), ("Root", "Root", -5));
        for lifetime in [server(&[below, root]), of(CertificateUse::Authority, &[below, root])] {
            assert_eq!(lifetime.nearness(NOW), Nearness::Far, "clients have roots themselves: {lifetime:?}");
        }
        let crossed = server(&[below, ("Root", "Older", -5)]);
        assert_eq!(crossed.nearness(NOW), Nearness::Day, "a warning");
        let told = crossed.alarm(NOW).unwrap();
        assert!(
            told.contains("ends on 2028-01-15") && told.contains("first one in it does on 2027-01-10"),
            "{told}"
        );
        assert!(!told.contains("EXPIRED") && crossed.days_left(NOW) == 365, "{told}");
        assert_eq!(server(&[("Below", "Root", 10)]).nearness(NOW), Nearness::Fortnight);
        assert_eq!(of(CertificateUse::Authority, &[("Below", "Root", -5)]).nearness(NOW), Nearness::Expired);
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
