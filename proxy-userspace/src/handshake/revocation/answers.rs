//! What authorities said when they were asked, for all handshakes of a worker. Concurrent ones about a certificate share
//! one question.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use quick_cache::unsync::Cache;
use rustls::pki_types::{CertificateDer, UnixTime};
use tokio::sync::watch;
use tokio::time::timeout;

use super::question::OcspQuestion;
use super::{OcspAnswer, OcspSource};
use crate::helper::{FetchFault, HelperLink};

/// How long a handshake waits for an answer: a little longer than the helper takes at most.
const OCSP_WAIT: Duration = Duration::from_millis(2_500);
/// Answers that are kept, of 16 KiB at most: 8 MiB, and in practice less than 1 MiB. A large site's users reach a few
/// hundred servers.
const ANSWERS_MAX: usize = 512;
/// For how long an answer counts whose `nextUpdate` is later: authorities write days, and revoke meanwhile.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(4 * 3_600);
/// For how long nobody is asked again who did not answer, or whose answer says nothing: a responder that is down does not
/// hold each handshake.
const FAILURE_TIME: Duration = Duration::from_secs(60);

/// A certificate, and with it its issuer's key: SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct AskedCertificate([u8; 32]);

impl AskedCertificate {
    pub(crate) fn of(leaf: &CertificateDer<'_>) -> Self {
        Self(digest(&SHA256, leaf).as_ref().try_into().unwrap_or_default())
    }
}

/// What came: octets that nobody has judged, or why none did.
type Came = Result<Arc<[u8]>, FetchFault>;

/// One certificate's.
struct AnswerEntry {
    came: watch::Sender<Option<Came>>,
    /// From then on it is asked anew.
    until: Mutex<Instant>,
}

impl AnswerEntry {
    /// Of a question that is asked now.
    fn new(now: Instant) -> Self {
        Self { came: watch::Sender::new(None), until: Mutex::new(later(now, OCSP_WAIT)) }
    }

    fn is_fresh(&self, now: Instant) -> bool {
        now < *self.until()
    }

    /// Nothing panics under the lock.
    fn until(&self) -> MutexGuard<'_, Instant> {
        self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All who wait hear it. What comes behind [`FetchFault::Late`] is taken, too.
    fn tell(&self, came: Came, now: Instant) {
        let time = match came {
            // That is no word about the responder: the next handshake asks again.
            Err(FetchFault::Gone | FetchFault::Busy) => Duration::ZERO,
            _ => FAILURE_TIME,
        };
        self.came.send_if_modified(|known| {
            let is_open = matches!(known, None | Some(Err(FetchFault::Late)));
            if is_open {
                *self.until() = later(now, time);
                *known = Some(came);
            }
            is_open
        });
    }
}

fn later(now: Instant, time: Duration) -> Instant {
    now.checked_add(time).unwrap_or(now)
}

/// Questions so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct AnswerNumbers {
    /// Asked.
    pub(crate) asked: u64,
    /// Of these, without an answer.
    pub(crate) failed: u64,
}

/// Asks the helper, and remembers what came. Shared by all mail threads.
pub(crate) struct OcspAnswers {
    link: HelperLink,
    entries: Mutex<Cache<AskedCertificate, Arc<AnswerEntry>>>,
    asked: AtomicU64,
    failed: Arc<AtomicU64>,
}

impl OcspAnswers {
    pub(crate) fn new(link: HelperLink) -> Self {
        Self {
            link,
            entries: Mutex::new(Cache::new(ANSWERS_MAX)),
            asked: AtomicU64::new(0),
            failed: Arc::default(),
        }
    }

    /// The way to the helper.
    pub(crate) const fn link(&self) -> &HelperLink {
        &self.link
    }

    /// For `postern status`.
    pub(crate) fn numbers(&self) -> AnswerNumbers {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        AnswerNumbers { asked: of(&self.asked), failed: of(&self.failed) }
    }

    /// What came before and still counts.
    pub(crate) fn known(&self, certificate: AskedCertificate) -> Option<Arc<[u8]>> {
        self.known_at(certificate, Instant::now())
    }

    fn known_at(&self, certificate: AskedCertificate, now: Instant) -> Option<Arc<[u8]>> {
        let entry = self.entries().get(&certificate).filter(|entry| entry.is_fresh(now)).cloned()?;
        let came = entry.came.borrow().clone();
        came?.ok()
    }

    /// Ask, or wait with others who asked. Never longer than [`OCSP_WAIT`], whatever the helper does.
    ///
    /// # Errors
    /// Why there is no answer.
    pub(crate) async fn ask(
        &self,
        certificate: AskedCertificate,
        question: OcspQuestion,
    ) -> Result<(Arc<[u8]>, OcspSource), FetchFault> {
        let (entry, is_new) = self.entry(certificate, Instant::now());
        let mut coming = entry.came.subscribe();
        let source = if coming.borrow().is_some() { OcspSource::Cached } else { OcspSource::Fetched };
        if is_new {
            self.asked.fetch_add(1, Ordering::Relaxed);
            let (entry, failed) = (Arc::clone(&entry), Arc::clone(&self.failed));
            self.link.ask(question.url, question.request, move |answer| {
                if answer.is_err() {
                    failed.fetch_add(1, Ordering::Relaxed);
                }
                entry.tell(answer.map(Arc::from), Instant::now());
            });
        }
        let came = match timeout(OCSP_WAIT, coming.wait_for(Option::is_some)).await {
            Ok(Ok(came)) => came.clone(),
            _ => None,
        };
        match came {
            Some(came) => came.map(|octets| (octets, source)),
            None => {
                entry.tell(Err(FetchFault::Late), Instant::now());
                Err(FetchFault::Late)
            }
        }
    }

    /// What was fetched has been judged: an answer that says something counts longer.
    pub(crate) fn judged(&self, certificate: AskedCertificate, answer: OcspAnswer) {
        self.judged_at(certificate, answer, UnixTime::now(), Instant::now());
    }

    fn judged_at(&self, certificate: AskedCertificate, answer: OcspAnswer, time: UnixTime, now: Instant) {
        let counts = match answer {
            OcspAnswer::Good { until } => {
                Duration::from_secs(until.as_secs().saturating_sub(time.as_secs())).min(ANSWER_TIME_MAX)
            }
            OcspAnswer::Revoked => ANSWER_TIME_MAX,
            OcspAnswer::Nothing(_) => return,
        };
        if let Some(entry) = self.entries().get(&certificate) {
            *entry.until() = later(now, counts);
        }
    }

    /// The certificate's entry, and whether it is a new one.
    fn entry(&self, certificate: AskedCertificate, now: Instant) -> (Arc<AnswerEntry>, bool) {
        let mut entries = self.entries();
        if let Some(entry) = entries.get(&certificate).filter(|entry| entry.is_fresh(now)) {
            return (Arc::clone(entry), false);
        }
        let entry = Arc::new(AnswerEntry::new(now));
        entries.insert(certificate, Arc::clone(&entry));
        (entry, true)
    }

    /// Nothing panics under the lock.
    fn entries(&self) -> MutexGuard<'_, Cache<AskedCertificate, Arc<AnswerEntry>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for OcspAnswers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OcspAnswers").field("numbers", &self.numbers()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use super::*;
    use crate::handshake::revocation::NoOcspAnswer;

    const SECOND: Duration = Duration::from_secs(1);

    fn certificate(number: u8) -> AskedCertificate {
        AskedCertificate([number; 32])
    }

    fn question(url: &str) -> OcspQuestion {
        OcspQuestion { url: url.to_owned(), request: Vec::new() }
    }

    /// Answers with a helper that answers with the URL it is asked for, and whom the test hears.
    fn echoing() -> (OcspAnswers, Receiver<String>) {
        let (sender, asked) = channel();
        let link = HelperLink::scripted(move |url| {
            let _ = sender.send(url.clone());
            match url.as_str() {
                "silence" => None,
                "redirect" => Some(Err(FetchFault::Redirect)),
                "busy" => Some(Err(FetchFault::Busy)),
                url => Some(Ok(url.as_bytes().to_vec())),
            }
        });
        (OcspAnswers::new(link), asked)
    }

    #[tokio::test]
    async fn handshakes_about_one_certificate_share_a_question_and_its_answer() {
        let (answers, asked) = echoing();
        let ask = |number, url| answers.ask(certificate(number), question(url));
        let (first, second, other) = tokio::join!(ask(1, "a"), ask(1, "a"), ask(2, "b"));
        assert_eq!(first.unwrap().0.as_ref(), b"a");
        assert_eq!(second.unwrap().0.as_ref(), b"a");
        assert_eq!(other.unwrap(), (Arc::from(&b"b"[..]), OcspSource::Fetched));
        assert_eq!(ask(1, "a").await.unwrap().1, OcspSource::Cached);
        assert_eq!(answers.known(certificate(1)).as_deref(), Some(&b"a"[..]));
        assert_eq!(answers.known(certificate(3)), None);
        assert_eq!(ask(4, "redirect").await, Err(FetchFault::Redirect));
        assert_eq!(ask(4, "a").await, Err(FetchFault::Redirect), "it is not asked again so soon");
        // That is none of the responder's doing.
        assert_eq!(ask(5, "busy").await, Err(FetchFault::Busy));
        assert_eq!(ask(5, "c").await.unwrap().0.as_ref(), b"c");
        assert_eq!(asked.try_iter().collect::<Vec<_>>(), ["a", "b", "redirect", "busy", "c"]);
        assert_eq!(answers.numbers(), AnswerNumbers { asked: 5, failed: 2 });
    }

    /// The clock of the runtime runs ahead where nothing else is to be done.
    #[tokio::test(start_paused = true)]
    async fn who_does_not_answer_is_waited_for_once() {
        let (answers, asked) = echoing();
        let ask = || answers.ask(certificate(1), question("silence"));
        let (first, second) = tokio::join!(ask(), ask());
        assert_eq!((first, second), (Err(FetchFault::Late), Err(FetchFault::Late)));
        let began = tokio::time::Instant::now();
        assert_eq!(ask().await, Err(FetchFault::Late));
        assert_eq!(began.elapsed(), Duration::ZERO, "this one did not wait");
        // The helper's thread may be behind.
        assert_eq!(asked.recv_timeout(20 * SECOND).as_deref(), Ok("silence"));
        assert_eq!(asked.try_iter().count(), 0);
    }

    #[test]
    fn an_answer_counts_as_long_as_it_says_and_not_for_days() {
        let (answers, _asked) = echoing();
        let (now, time) = (Instant::now(), UnixTime::since_unix_epoch(1_000_000 * SECOND));
        let counted = |answer: Option<OcspAnswer>| {
            let number = certificate(7);
            let (entry, _) = answers.entry(number, now);
            entry.tell(Ok(Arc::from(&b"answer"[..])), now);
            if let Some(answer) = answer {
                answers.judged_at(number, answer, time, now);
            }
            let is_known =
                |after: u64| answers.known_at(number, now + SECOND * u32::try_from(after).unwrap()).is_some();
            let counts = (0..100_000).find(|after| !is_known(*after));
            // As good as a new certificate.
            *entry.until() = now;
            counts
        };
        let good = |seconds: u64| OcspAnswer::Good {
            until: UnixTime::since_unix_epoch(Duration::from_secs(1_000_000 + seconds)),
        };
        assert_eq!(counted(None), Some(60), "nobody has judged it");
        assert_eq!(counted(Some(good(600))), Some(600));
        assert_eq!(counted(Some(good(7 * 86_400))), Some(4 * 3_600));
        assert_eq!(counted(Some(OcspAnswer::Revoked)), Some(4 * 3_600));
        assert_eq!(counted(Some(OcspAnswer::Nothing(NoOcspAnswer::Unknown))), Some(60));
        let (entry, is_new) = answers.entry(certificate(8), now);
        assert!(is_new && answers.known_at(certificate(8), now).is_none(), "it is only asked");
        entry.tell(Err(FetchFault::Late), now);
        entry.tell(Ok(Arc::from(&b"after all"[..])), now);
        entry.tell(Err(FetchFault::Gone), now);
        assert_eq!(answers.known_at(certificate(8), now).as_deref(), Some(&b"after all"[..]));
        assert!(!answers.entry(certificate(8), now + 59 * SECOND).1);
        assert!(answers.entry(certificate(8), now + 60 * SECOND).1, "it is asked anew");
    }

    #[test]
    fn strangers_certificates_do_not_fill_the_memory() {
        let (answers, _asked) = echoing();
        for number in 0..4 * ANSWERS_MAX {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&number.to_be_bytes());
            answers.entry(AskedCertificate(key), Instant::now());
        }
        assert!(answers.entries().len() <= ANSWERS_MAX, "{}", answers.entries().len());
    }
}
