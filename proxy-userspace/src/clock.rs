use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

/// When this program was built, in seconds since 1970 (build.rs).
const BUILT: &str = env!("POSTERN_BUILT");
/// How far the clock of the machine that built it may have been ahead, in seconds.
const AHEAD_SECONDS: i64 = 86_400;

/// The machine's clock says a time before this program existed. Certificates, OCSP responses and lists of revoked
/// certificates are then judged at a wrong time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WrongClock {
    now: Timestamp,
    built: Timestamp,
}

impl fmt::Display for WrongClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { now, built } = self;
        write!(
            f,
            "the machine's clock is wrong: it says {now:.0}, and this program was built {built:.0}; certificates are \
             judged at a wrong time until it is set (`timedatectl set-ntp true`, or `date --set`)"
        )
    }
}

/// Looks at the machine's clock; `None` where nothing speaks against it.
pub(crate) fn look() -> Option<WrongClock> {
    let built = BUILT.parse().unwrap_or(0);
    let now = match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_secs()).map_or(i64::MIN, |seconds| -seconds),
    };
    judge(now, built)
}

/// Says in the log that the clock is wrong, where it is.
pub(crate) fn say() {
    if let Some(wrong) = look() {
        tracing::error!("{wrong}");
    }
}

fn judge(now: i64, built: i64) -> Option<WrongClock> {
    let moment = |seconds: i64| Timestamp::from_second(seconds).unwrap_or(Timestamp::MIN);
    (now < built.saturating_sub(AHEAD_SECONDS)).then(|| WrongClock { now: moment(now), built: moment(built) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_before_the_build_is_wrong_and_every_later_one_is_not() {
        let built = 1_790_000_000;
        for good in [built - AHEAD_SECONDS, built, built + 1_000_000_000] {
            assert_eq!(judge(good, built), None);
        }
        let wrong = judge(5, built).unwrap().to_string();
        assert!(wrong.contains("it says 1970-01-01T00:00:05Z"), "{wrong}");
        assert!(wrong.contains("built 2026-09-21T14:13:20Z") && wrong.contains("timedatectl"), "{wrong}");
        assert!(judge(built - AHEAD_SECONDS - 1, built).is_some());
    }

    #[test]
    fn the_date_of_this_build_is_known_and_not_ahead() {
        assert!(BUILT.parse::<i64>().unwrap() > 1_700_000_000);
        assert_eq!(look(), None);
    }
}
