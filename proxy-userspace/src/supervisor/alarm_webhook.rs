//! The webhook that each alarm is posted to. The helper posts: this process speaks to no peer.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::alarm_turns::AlarmTurns;
use crate::config::{AlarmSettings, WebhookUrl};
use crate::helper::{PostFault, PostLink};

/// Before each further attempt, where one may succeed: a network comes back, a helper has a successor. What takes longer is
/// told in the log.
const PAUSES: [Duration; 3] = [Duration::from_secs(2), Duration::from_secs(10), Duration::from_secs(30)];

/// Where alarms are posted, and the room for more of them.
pub(super) struct AlarmWebhook {
    url: WebhookUrl,
    posts: PostLink,
    turns: AlarmTurns,
}

impl AlarmWebhook {
    /// `None` where no webhook is configured.
    pub(super) fn of(settings: &AlarmSettings, posts: &PostLink) -> Option<Self> {
        let url = settings.webhook.clone()?;
        Some(Self { url, posts: posts.clone(), turns: AlarmTurns::new() })
    }

    /// Post this line when it is its turn; whether there was room.
    pub(super) fn take(&self, line: Arc<str>) -> bool {
        let (url, posts) = (self.url.clone(), self.posts.clone());
        self.turns.take(async move {
            if let Err(fault) = deliver(&posts, &url, &line).await {
                let origin = url.url().origin();
                tracing::error!(
                    "an alarm may have reached nobody: the webhook at {origin}: {fault}; see `postern alarm test`"
                );
            }
        })
    }

    /// Waits until nothing is on its way and nothing waits.
    pub(super) async fn idle(&self) {
        self.turns.idle().await;
    }
}

/// Post it, and again where that may help. Whoever got it without saying so gets it again, with the same octets.
async fn deliver(posts: &PostLink, url: &WebhookUrl, line: &str) -> Result<(), PostFault> {
    let mut pauses = PAUSES.into_iter();
    loop {
        let posted = posts.post(url.url(), line).await;
        let pause = match posted {
            Err(fault) if fault.may_pass() => pauses.next(),
            _ => None,
        };
        match pause {
            Some(pause) => sleep(pause).await,
            None => return posted,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tokio::time::Instant;

    use super::*;

    fn settings() -> AlarmSettings {
        let text = "[steering]\ningress = [\"lan0\"]\negress = [\"wan0\"]\n[certificates]\n\
                    authority = { cert = \"a.pem\", key = \"a.key\" }\n\
                    [alarm]\nwebhook = \"https://alerts.lab.test/hook\"\n";
        crate::config::parse(text, Path::new("/postern.toml")).unwrap().alarm
    }

    #[tokio::test(start_paused = true)]
    async fn an_alarm_is_posted_again_where_that_may_help_and_at_most_four_times() {
        use PostFault::{Certificate, Late, Redirect, Status, Unreachable};
        let url = settings().webhook.unwrap();
        for (replies, expected, attempts, seconds) in [
            (vec![Ok(())], Ok(()), 1, 0),
            (vec![Err(Unreachable), Err(Status(503)), Ok(())], Ok(()), 3, 12),
            (vec![Err(Status(429)), Ok(())], Ok(()), 2, 2),
            (vec![Err(Late); 9], Err(Late), 4, 42),
            (vec![Err(Certificate), Ok(())], Err(Certificate), 1, 0),
            (vec![Err(Status(404)), Ok(())], Err(Status(404)), 1, 0),
            (vec![Err(Redirect(301)), Ok(())], Err(Redirect(301)), 1, 0),
            // The helper ends behind its first word, and has no successor.
            (vec![Err(Unreachable)], Err(PostFault::Gone), 1, 42),
        ] {
            let (posts, posted) = PostLink::scripted(replies.clone());
            let begun = Instant::now();
            assert_eq!(deliver(&posts, &url, "{}\n").await, expected, "{replies:?}");
            assert_eq!(begun.elapsed().as_secs(), seconds, "{replies:?}");
            let posted = posted.lock().unwrap().clone();
            assert_eq!(posted, vec!["https://alerts.lab.test/hook {}\n"; attempts], "{replies:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_alarm_waits_for_a_helper_that_comes_later() {
        let url = settings().webhook.unwrap();
        let posts = PostLink::default();
        let (later, alarm) = (posts.clone(), deliver(&posts, &url, "{}\n"));
        let helper = async {
            sleep(Duration::from_secs(5)).await;
            later.adopt(&PostLink::scripted(vec![Ok(())]).0);
        };
        assert_eq!(tokio::join!(alarm, helper).0, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_webhook_that_takes_nothing_is_full_one_day_and_holds_nobody_up() {
        assert!(
            AlarmWebhook::of(&AlarmSettings { webhook: None, ..settings() }, &PostLink::default()).is_none()
        );
        let webhook = AlarmWebhook::of(&settings(), &PostLink::default()).unwrap();
        let took = (0..100).filter(|_| webhook.take("{}\n".into())).count();
        assert!((64..100).contains(&took), "{took}");
        webhook.idle().await;
        assert!(webhook.take("{}\n".into()), "there is room again");
    }
}
