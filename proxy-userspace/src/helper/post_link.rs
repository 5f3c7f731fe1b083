use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::protocol::{POST_TIME_MAX, PostFault, PostReply, PostRequest};
use super::url::HttpUrl;
use crate::ipc::{AsyncChannel, Channel, IpcError};

/// How long the supervisor waits for the helper's word: a little longer than the helper takes at most.
const POST_WAIT: Duration = POST_TIME_MAX.saturating_add(Duration::from_secs(1));

/// The supervisor's way to post an alarm. The helper may end and have a successor. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct PostLink(Arc<Mutex<Option<Arc<PostConnection>>>>);

impl PostLink {
    /// From now on the helper at the other end of `channel` posts. Needs a runtime.
    ///
    /// # Errors
    /// The kernel's, to `epoll_ctl`.
    pub(crate) fn connect(&self, channel: Channel) -> std::io::Result<()> {
        let connection = Arc::new(PostConnection {
            channel: AsyncChannel::new(channel)?,
            waiting: Mutex::new(Some(HashMap::new())),
            next_id: AtomicU64::new(0),
        });
        *self.current() = Some(Arc::clone(&connection));
        let link = self.clone();
        tokio::spawn(async move {
            connection.read().await;
            link.current().take_if(|current| Arc::ptr_eq(current, &connection));
        });
        Ok(())
    }

    /// Have the helper post this JSON object there. One attempt; its time is bounded, whatever the helper does.
    ///
    /// # Errors
    /// [`PostFault`].
    pub(crate) async fn post(&self, url: &HttpUrl, body: &str) -> Result<(), PostFault> {
        let connection = self.current().clone().ok_or(PostFault::Gone)?;
        let id = connection.next_id.fetch_add(1, Ordering::Relaxed);
        let posted = timeout(POST_WAIT, connection.post(id, url, body)).await;
        posted.unwrap_or_else(|_| {
            connection.waiting().as_mut().map(|waiting| waiting.remove(&id));
            Err(PostFault::Late)
        })
    }

    /// Nothing panics under the lock.
    fn current(&self) -> MutexGuard<'_, Option<Arc<PostConnection>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Post by another link's helper.
    #[cfg(test)]
    pub(crate) fn adopt(&self, other: &Self) {
        let helper = other.current().clone();
        *self.current() = helper;
    }

    /// A link to a helper that says this of each post, in turn, and then ends. What was posted is returned.
    #[cfg(test)]
    pub(crate) fn scripted(replies: Vec<Result<(), PostFault>>) -> (Self, Arc<Mutex<Vec<String>>>) {
        let (link, posted) = (Self::default(), Arc::<Mutex<Vec<String>>>::default());
        let (near, far) = Channel::pair().unwrap();
        link.connect(near).unwrap();
        let (far, kept) = (AsyncChannel::new(far).unwrap(), Arc::clone(&posted));
        tokio::spawn(async move {
            for said in replies {
                let Ok((PostRequest { id, url, body }, _)) = far.receive().await else { return };
                kept.lock().unwrap().push(format!("{} {body}", url.text()));
                let _ = far.send(&PostReply { id, posted: said }, &[]).await;
            }
        });
        (link, posted)
    }
}

/// Whom each answer goes to, by the post's id.
type Waiting = HashMap<u64, oneshot::Sender<Result<(), PostFault>>>;

/// One helper.
struct PostConnection {
    channel: AsyncChannel,
    /// As many as the sink for alarms has under way; `None` when it has ended.
    waiting: Mutex<Option<Waiting>>,
    next_id: AtomicU64,
}

impl PostConnection {
    /// Nothing panics under the lock.
    fn waiting(&self) -> MutexGuard<'_, Option<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn post(&self, id: u64, url: &HttpUrl, body: &str) -> Result<(), PostFault> {
        let (sender, told) = oneshot::channel();
        self.waiting().as_mut().ok_or(PostFault::Gone)?.insert(id, sender);
        let request = PostRequest { id, url: url.clone(), body: body.to_owned() };
        if let Err(error) = self.channel.send(&request, &[]).await {
            self.waiting().as_mut().map(|waiting| waiting.remove(&id));
            return Err(match error {
                IpcError::TooLarge { .. } => PostFault::TooLarge,
                _ => PostFault::Gone,
            });
        }
        told.await.unwrap_or(Err(PostFault::Gone))
    }

    /// Until the helper ends, or talks nonsense. Whoever waits then hears that it has gone.
    async fn read(&self) {
        loop {
            match self.channel.receive::<PostReply>().await {
                Ok((PostReply { id, posted }, _)) => {
                    let told = self.waiting().as_mut().and_then(|waiting| waiting.remove(&id));
                    // Nobody waits where it took too long.
                    told.map(|told| told.send(posted));
                }
                Err(error) => {
                    if !matches!(error, IpcError::Ended) {
                        tracing::error!("the helper cannot be heard about alarms: {error}");
                    }
                    drop(self.waiting().take());
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url() -> HttpUrl {
        HttpUrl::of_owner("https://alerts.lab.test/hook").unwrap()
    }

    #[tokio::test]
    async fn each_hears_of_its_own_alarm_and_none_waits_for_a_helper_that_is_gone() {
        let link = PostLink::default();
        assert_eq!(link.post(&url(), "{}").await, Err(PostFault::Gone), "there is none yet");
        let (near, far) = Channel::pair().unwrap();
        link.connect(near).unwrap();
        let far = AsyncChannel::new(far).unwrap();
        let helper = async {
            let mut requests = Vec::new();
            for _ in 0..3 {
                requests.push(far.receive::<PostRequest>().await.unwrap().0);
            }
            requests.sort_by(|one, other| one.body.cmp(&other.body));
            let ids: Vec<_> = requests.iter().map(|request| request.id).collect();
            assert!(requests.iter().all(|request| request.url == url()));
            // In another order, and to nobody.
            for (id, posted) in [(99, Ok(())), (ids[1], Ok(())), (ids[1], Err(PostFault::Tls))] {
                far.send(&PostReply { id, posted }, &[]).await.unwrap();
            }
            far.send(&PostReply { id: ids[0], posted: Err(PostFault::Status(400)) }, &[]).await.unwrap();
            drop(far);
        };
        let urls = [url(), url(), url()];
        let (first, second, third, ()) = tokio::join!(
            link.post(&urls[0], "1"),
            link.post(&urls[1], "2"),
            link.post(&urls[2], "3"),
            helper
        );
        assert_eq!((first, second, third), (Err(PostFault::Status(400)), Ok(()), Err(PostFault::Gone)));
        let large = "x".repeat(crate::ipc::MESSAGE_BYTES_MAX);
        let (near, _far) = Channel::pair().unwrap();
        link.connect(near).unwrap();
        assert_eq!(link.post(&url(), &large).await, Err(PostFault::TooLarge));
    }

    #[tokio::test(start_paused = true)]
    async fn a_helper_that_hangs_holds_nobody_up() {
        let link = PostLink::default();
        let (near, _far) = Channel::pair().unwrap();
        link.connect(near).unwrap();
        assert_eq!(link.post(&url(), "{}").await, Err(PostFault::Late));
        let connection = link.current().clone().unwrap();
        assert!(connection.waiting().as_ref().unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_helper_that_talks_nonsense_is_heard_no_more() {
        let link = PostLink::default();
        let (near, far) = Channel::pair().unwrap();
        link.connect(near).unwrap();
        let far = AsyncChannel::new(far).unwrap();
        let nonsense = async {
            far.receive::<PostRequest>().await.unwrap();
            far.send(&"nonsense".to_owned(), &[]).await.unwrap();
        };
        let (url, ()) = (url(), ());
        let (posted, ()) = tokio::join!(link.post(&url, "{}"), nonsense);
        assert_eq!(posted, Err(PostFault::Gone));
    }
}
