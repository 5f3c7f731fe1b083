use std::cell::{Cell, RefCell};
use std::os::fd::OwnedFd;
use std::rc::Rc;

use anyhow::{Context, Result, anyhow};
use tokio::sync::Semaphore;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::timeout;

use super::fetch::{FetchFailure, Fetcher};
use super::post::{PostFailure, Poster};
use super::protocol::{
    ANSWER_BYTES_MAX, FETCH_TIME_MAX, FETCHES_MAX, FETCHES_WAITING_MAX, FetchFault, FetchReply, FetchRequest,
    POST_TIME_MAX, PostFault, PostReply, PostRequest, ToHelper, URL_BYTES_MAX,
};
use super::terms::HelperTerms;
use super::url::HttpUrl;
use crate::ipc::{AsyncChannel, Channel, IpcError, read_sealed};
use crate::line_limit::LineLimit;

/// Serves until the supervisor's end of `control` closes; what it serves ends with it.
///
/// # Errors
/// Why it cannot serve.
pub(crate) fn serve(control: Channel) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let served = LocalSet::new().block_on(&runtime, take_orders(control));
    match served {
        Err(error) if matches!(error.downcast_ref(), Some(IpcError::Ended)) => Ok(()),
        served => served,
    }
}

/// What all tasks share.
struct Helper {
    /// Until the first terms came, nobody is asked.
    fetcher: RefCell<Option<Rc<Fetcher>>>,
    /// Until the first terms came, nothing is posted.
    poster: RefCell<Option<Rc<Poster>>>,
    turns: Semaphore,
    /// Fetches, with those that wait.
    waiting: Cell<usize>,
}

async fn take_orders(control: Channel) -> Result<()> {
    let control = AsyncChannel::new(control)?;
    let helper = Rc::new(Helper {
        fetcher: RefCell::default(),
        poster: RefCell::default(),
        turns: Semaphore::new(FETCHES_MAX),
        waiting: Cell::new(0),
    });
    loop {
        let (order, descriptors) = control.receive::<ToHelper>().await?;
        match order {
            ToHelper::Terms => {
                let octets = read_sealed(only(descriptors)?)?;
                let terms: HelperTerms = postcard::from_bytes(&octets).context("reading the terms")?;
                let poster = Poster::new(&terms).context("TLS with a webhook")?;
                let fetcher = Fetcher::new(terms).context("asking the kernel about routes")?;
                helper.poster.replace(Some(Rc::new(poster)));
                helper.fetcher.replace(Some(Rc::new(fetcher)));
            }
            ToHelper::Serve => {
                let channel = AsyncChannel::new(only(descriptors)?.into())?;
                spawn_local(Rc::clone(&helper).serve_worker(Rc::new(channel)));
            }
            ToHelper::Posts => {
                let channel = AsyncChannel::new(only(descriptors)?.into())?;
                spawn_local(Rc::clone(&helper).serve_supervisor(Rc::new(channel)));
            }
        }
    }
}

fn only(descriptors: Vec<OwnedFd>) -> Result<OwnedFd> {
    let mut descriptors = descriptors.into_iter();
    match (descriptors.next(), descriptors.next()) {
        (Some(only), None) => Ok(only),
        _ => Err(anyhow!("the supervisor sent another number of descriptors than one")),
    }
}

impl Helper {
    /// Until the worker ends. Each request is answered once.
    async fn serve_worker(self: Rc<Self>, channel: Rc<AsyncChannel>) {
        static UNREAD: LineLimit = LineLimit::new();
        loop {
            match channel.receive::<FetchRequest>().await {
                Ok((request, _)) => {
                    self.waiting.set(self.waiting.get().saturating_add(1));
                    let (helper, channel) = (Rc::clone(&self), Rc::clone(&channel));
                    spawn_local(async move {
                        let id = request.id;
                        let answer = helper.answer(request).await;
                        helper.waiting.set(helper.waiting.get().saturating_sub(1));
                        // A worker that is gone needs no answer.
                        let _ = channel.send(&FetchReply { id, answer }, &[]).await;
                    });
                }
                Err(error @ (IpcError::Malformed(_) | IpcError::TooLarge { .. })) => {
                    if let Some(left_out) = UNREAD.admit() {
                        tracing::error!("the worker: {error}{left_out}");
                    }
                }
                Err(IpcError::Ended) => return,
                Err(error) => {
                    tracing::error!("the worker cannot be heard: {error}");
                    return;
                }
            }
        }
    }

    /// Until the supervisor ends. It bounds how many are under way.
    async fn serve_supervisor(self: Rc<Self>, channel: Rc<AsyncChannel>) {
        loop {
            match channel.receive::<PostRequest>().await {
                Ok((PostRequest { id, url, body }, _)) => {
                    let (helper, channel) = (Rc::clone(&self), Rc::clone(&channel));
                    spawn_local(async move {
                        let posted = helper.post(&url, &body).await;
                        // A supervisor that is gone needs no answer.
                        let _ = channel.send(&PostReply { id, posted }, &[]).await;
                    });
                }
                Err(IpcError::Ended) => return,
                Err(error) => {
                    tracing::error!("alarms of the supervisor cannot be heard: {error}");
                    return;
                }
            }
        }
    }

    async fn post(&self, url: &HttpUrl, body: &str) -> Result<(), PostFault> {
        let poster = self.poster.borrow().clone().ok_or(PostFault::Gone)?;
        let posted = match timeout(POST_TIME_MAX, poster.post(url, body.as_bytes())).await {
            Ok(posted) => posted,
            Err(_) => Err(PostFault::Late.into()),
        };
        posted.map_err(|PostFailure { fault, what }| {
            // The path of a webhook's URL is often its secret.
            tracing::warn!("an alarm was not posted to {}: {what}", url.origin());
            fault
        })
    }

    async fn answer(&self, request: FetchRequest) -> Result<Vec<u8>, FetchFault> {
        let fetched = if self.waiting.get() > FETCHES_WAITING_MAX {
            Err(FetchFault::Busy.into())
        } else {
            self.fetch(&request).await
        };
        fetched.map_err(|failure| {
            say_failed(&request.url, &failure);
            failure.fault
        })
    }

    async fn fetch(&self, request: &FetchRequest) -> Result<Vec<u8>, FetchFailure> {
        // Who waits behind others knows nothing of the responder: the worker remembers it as no fault of the responder's.
        let turn = timeout(FETCH_TIME_MAX, self.turns.acquire()).await.map_err(|_| FetchFault::Busy)?;
        let _turn = turn.map_err(|_| FetchFault::Gone)?;
        let fetcher = self.fetcher.borrow().clone().ok_or(FetchFault::Gone)?;
        let fetched = timeout(FETCH_TIME_MAX, fetcher.fetch(&request.url, &request.body)).await;
        let answer = fetched.map_err(|_| FetchFault::Late)??;
        if answer.len() > ANSWER_BYTES_MAX { Err(FetchFault::TooLarge.into()) } else { Ok(answer) }
    }
}

/// A stranger wrote the URL, so that it is shown as a literal and cut.
fn say_failed(url: &str, failure: &FetchFailure) {
    static FAILED: LineLimit = LineLimit::new();
    if let Some(left_out) = FAILED.admit() {
        let shown: String = url.chars().take(URL_BYTES_MAX).collect();
        let (reason, what) = (failure.fault.as_str(), &failure.what);
        tracing::warn!(reason, "no OCSP answer from {shown:?}: {what}{left_out}");
    }
}
