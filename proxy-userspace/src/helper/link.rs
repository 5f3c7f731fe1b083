//! The worker's side: requests go out from any thread, a thread of its own brings the answers.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;

use rustix::net::{Shutdown, shutdown};

use super::protocol::{ANSWER_BYTES_MAX, FETCHES_WAITING_MAX, FetchFault, FetchReply, FetchRequest};
use crate::ipc::{Channel, IpcError};
use crate::line_limit::LineLimit;

/// Who is told what came. It is called once, on the thread that hears the helper, and must not wait.
type Told = Box<dyn FnOnce(Result<Vec<u8>, FetchFault>) + Send>;

/// The way to the helper, for all threads of a worker. The helper may end and have a successor.
#[derive(Clone, Default)]
pub(crate) struct HelperLink(Arc<Mutex<Option<Arc<HelperConnection>>>>);

impl HelperLink {
    /// From now on a helper is asked at the other end of `channel`. What waits for an earlier one is told that it is gone.
    pub(crate) fn connect(&self, channel: Channel) {
        let connection = Arc::new(HelperConnection {
            channel,
            waiting: Mutex::new(Some(HashMap::new())),
            next_id: AtomicU64::new(0),
        });
        let (reader, link) = (Arc::clone(&connection), self.clone());
        let read = move || {
            reader.read();
            link.forget(&reader);
        };
        // Known before the thread begins, so that its end finds it.
        let former = self.current().replace(Arc::clone(&connection));
        if let Some(former) = former {
            former.end();
        }
        if let Err(error) = Builder::new().name("helper".to_owned()).spawn(read) {
            tracing::error!("no thread for the helper's answers: {error}");
            self.forget(&connection);
        }
    }

    /// Have the helper post these octets there. `told` hears what came, at once where nobody can be asked.
    pub(crate) fn ask(
        &self,
        url: String,
        body: Vec<u8>,
        told: impl FnOnce(Result<Vec<u8>, FetchFault>) + Send + 'static,
    ) {
        let current = self.current().clone();
        match current {
            Some(connection) => connection.ask(url, body, Box::new(told)),
            None => told(Err(FetchFault::Gone)),
        }
    }

    /// A link to a helper that answers a URL so, or not at all.
    #[cfg(test)]
    pub(crate) fn scripted(
        answer: impl Fn(String) -> Option<Result<Vec<u8>, FetchFault>> + Send + 'static,
    ) -> Self {
        let link = Self::default();
        let Ok((near, far)) = Channel::pair() else { return link };
        link.connect(near);
        std::thread::spawn(move || {
            while let Ok((FetchRequest { id, url, .. }, _)) = far.receive() {
                if let Some(answer) = answer(url) {
                    let _ = far.send(&FetchReply { id, answer }, &[]);
                }
            }
        });
        link
    }

    fn forget(&self, connection: &Arc<HelperConnection>) {
        self.current().take_if(|current| Arc::ptr_eq(current, connection));
        connection.end();
    }

    /// Nothing panics under the lock.
    fn current(&self) -> MutexGuard<'_, Option<Arc<HelperConnection>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for HelperLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HelperLink").field("connected", &self.current().is_some()).finish()
    }
}

/// One helper.
struct HelperConnection {
    channel: Channel,
    /// By the request's id, at most [`FETCHES_WAITING_MAX`]; `None` when it has ended.
    waiting: Mutex<Option<HashMap<u64, Told>>>,
    next_id: AtomicU64,
}

impl HelperConnection {
    /// Nothing panics under the lock.
    fn waiting(&self) -> MutexGuard<'_, Option<HashMap<u64, Told>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask(&self, url: String, body: Vec<u8>, told: Told) {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let refused = match self.waiting().as_mut() {
            None => Some((told, FetchFault::Gone)),
            Some(waiting) if waiting.len() >= FETCHES_WAITING_MAX => Some((told, FetchFault::Busy)),
            Some(waiting) => {
                waiting.insert(id, told);
                None
            }
        };
        if let Some((told, fault)) = refused {
            return told(Err(fault));
        }
        static UNSENT: LineLimit = LineLimit::new();
        match self.channel.send_now(&FetchRequest { id, url, body }, &[]) {
            // When it has gone, whoever reads finds out.
            Ok(()) | Err(IpcError::Ended) => {}
            Err(error) => {
                // A helper that takes nothing off the channel hangs.
                let fault = if error.would_block() { FetchFault::Busy } else { FetchFault::Gone };
                if let Some(left_out) = UNSENT.admit() {
                    tracing::error!("the helper cannot be asked: {error}{left_out}");
                }
                self.tell(id, Err(fault));
            }
        }
    }

    fn tell(&self, id: u64, answer: Result<Vec<u8>, FetchFault>) {
        let told = self.waiting().as_mut().and_then(|waiting| waiting.remove(&id));
        if let Some(told) = told {
            told(answer);
        }
    }

    /// Until the helper ends.
    fn read(&self) {
        static UNREAD: LineLimit = LineLimit::new();
        loop {
            match self.channel.receive::<FetchReply>() {
                Ok((FetchReply { answer: Ok(octets), id }, _)) if octets.len() > ANSWER_BYTES_MAX => {
                    self.tell(id, Err(FetchFault::TooLarge));
                }
                Ok((FetchReply { id, answer }, _)) => self.tell(id, answer),
                // A message is whole or not there: the next one is good.
                Err(error @ (IpcError::Malformed(_) | IpcError::TooLarge { .. })) => {
                    if let Some(left_out) = UNREAD.admit() {
                        tracing::error!("the helper: {error}{left_out}");
                    }
                }
                Err(IpcError::Ended) => return,
                Err(error) => {
                    tracing::error!("the helper cannot be heard: {error}");
                    return;
                }
            }
        }
    }

    /// All who wait hear that it has gone; its reader ends, and so does the helper's task for it.
    fn end(&self) {
        let waiting = self.waiting().take();
        let _ = shutdown(&self.channel, Shutdown::Both);
        for told in waiting.into_iter().flatten().map(|(_, told)| told) {
            told(Err(FetchFault::Gone));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};
    use std::time::Duration;

    use super::*;

    /// What takes longer never ends.
    const PATIENCE: Duration = Duration::from_secs(20);

    fn ask(link: &HelperLink) -> Receiver<Result<Vec<u8>, FetchFault>> {
        let (sender, told) = channel();
        link.ask("http://ocsp.lab.test/".to_owned(), b"asked".to_vec(), move |answer| {
            let _ = sender.send(answer);
        });
        told
    }

    fn hear(told: &Receiver<Result<Vec<u8>, FetchFault>>) -> Result<Vec<u8>, FetchFault> {
        told.recv_timeout(PATIENCE).unwrap()
    }

    #[test]
    fn each_hears_its_own_answer_and_none_is_waited_for_when_the_helper_is_gone() {
        let link = HelperLink::default();
        assert_eq!(hear(&ask(&link)), Err(FetchFault::Gone), "there is none yet");
        let (near, far) = Channel::pair().unwrap();
        link.connect(near);
        let (first, second, third) = (ask(&link), ask(&link), ask(&link));
        let ids = [(); 3].map(|()| far.receive::<FetchRequest>().unwrap().0.id);
        // In another order, to nobody, no message at all, and more than was agreed on.
        far.send(&7_u8, &[]).unwrap();
        far.send(&FetchReply { id: 99, answer: Ok(b"nobody's".to_vec()) }, &[]).unwrap();
        far.send(&FetchReply { id: ids[1], answer: Ok(b"second".to_vec()) }, &[]).unwrap();
        far.send(&FetchReply { id: ids[1], answer: Ok(b"again".to_vec()) }, &[]).unwrap();
        far.send(&FetchReply { id: ids[0], answer: Ok(vec![0; ANSWER_BYTES_MAX + 1]) }, &[]).unwrap();
        assert_eq!(hear(&second), Ok(b"second".to_vec()));
        assert_eq!(hear(&first), Err(FetchFault::TooLarge));
        drop(far);
        assert_eq!(hear(&third), Err(FetchFault::Gone));
        let (near, far) = Channel::pair().unwrap();
        link.connect(near);
        let fourth = ask(&link);
        let (request, _) = far.receive::<FetchRequest>().unwrap();
        assert_eq!((request.url.as_str(), request.body.as_slice()), ("http://ocsp.lab.test/", &b"asked"[..]));
        far.send(&FetchReply { id: request.id, answer: Err(FetchFault::Redirect) }, &[]).unwrap();
        assert_eq!(hear(&fourth), Err(FetchFault::Redirect));
    }

    #[test]
    fn a_helper_that_hangs_is_asked_for_no_more_than_it_may_owe() {
        let link = HelperLink::default();
        let (near, _far) = Channel::pair().unwrap();
        link.connect(near);
        let owed: Vec<_> = (0..FETCHES_WAITING_MAX).map(|_| ask(&link)).collect();
        assert_eq!(hear(&ask(&link)), Err(FetchFault::Busy));
        assert!(owed.iter().all(|told| told.try_recv().is_err()));
        let (near, _far) = Channel::pair().unwrap();
        link.connect(near);
        assert!(owed.iter().all(|told| hear(told) == Err(FetchFault::Gone)), "a successor frees them");
    }
}
