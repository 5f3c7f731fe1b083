//! Faults on demand.
//!
//! That a panic ends one connection, and that a worker's death touches no other worker's sessions, can be shown only by
//! a real panic in the real place; no peer can cause one, or it would be a bug to mend. So debug builds, started with
//! `POSTERN_FAULT=1`, panic for two names that no server can have (RFC 6761 section 6.4). Release builds contain none of
//! this: there the name is a name like any other.

use std::rc::Rc;
use std::sync::LazyLock;

use tokio::sync::Notify;

/// A client that names this server ends its own connection's task.
const CONNECTION: &str = "panic.connection.invalid";
/// A client that names this server ends the worker that serves it.
const WORKER: &str = "panic.worker.invalid";

static ARMED: LazyLock<bool> = LazyLock::new(|| {
    let armed = std::env::var_os("POSTERN_FAULT").is_some_and(|value| value == "1");
    if armed {
        tracing::warn!("POSTERN_FAULT=1: clients that name {CONNECTION} or {WORKER} cause panics");
    }
    armed
});

thread_local! {
    /// Of the worker whose thread this is.
    static WORKER_PANIC: Rc<Notify> = Rc::default();
}

/// Panic if this is the name for it; tell the worker if it is the worker's.
#[expect(clippy::panic, reason = "what this is for")]
pub(crate) fn panic_on_demand(name: Option<&str>) {
    match name {
        Some(CONNECTION) if *ARMED => panic!("a client named {CONNECTION} while POSTERN_FAULT=1"),
        Some(WORKER) if *ARMED => WORKER_PANIC.with(|demanded| demanded.notify_one()),
        _ => {}
    }
}

/// Work that panics when [`panic_on_demand`] says so on this thread.
pub(crate) async fn or_panic_on_demand<T>(work: impl Future<Output = T>) -> T {
    let demanded = WORKER_PANIC.with(Rc::clone);
    LazyLock::force(&ARMED);
    tokio::select! {
        done = work => done,
        () = demanded.notified() => panic_in_worker(),
    }
}

#[expect(clippy::panic, reason = "what this is for")]
fn panic_in_worker() -> ! {
    panic!("a client named {WORKER} while POSTERN_FAULT=1")
}
