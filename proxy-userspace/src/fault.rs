//! Panics on demand, for tests.
//!
//! Tests show that a panic ends one connection only, and that a dead worker takes no other worker's sessions. They need
//! a real panic in the real place, and no peer can cause one. So a debug build that is started with `POSTERN_FAULT=1`
//! panics for two names that no server can have (RFC 6761 section 6.4). Release builds do not contain this module.

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
    /// Notified when the worker on this thread has to panic.
    static WORKER_PANIC: Rc<Notify> = Rc::default();
}

/// Panic if the client named [`CONNECTION`]; make the worker on this thread panic if the client named [`WORKER`].
#[expect(clippy::panic, reason = "what this is for")]
pub(crate) fn panic_on_demand(name: Option<&str>) {
    match name {
        Some(CONNECTION) if *ARMED => panic!("a client named {CONNECTION} while POSTERN_FAULT=1"),
        Some(WORKER) if *ARMED => WORKER_PANIC.with(|demanded| demanded.notify_one()),
        _ => {}
    }
}

/// Run a worker's `work`, and panic when [`panic_on_demand`] asks for it on this thread.
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
