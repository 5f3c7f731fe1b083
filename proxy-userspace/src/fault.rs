//! Panics on demand, for tests.
//!
//! Tests show that a panic ends one connection only, and that a dead mail thread takes no other mail thread's sessions. They need
//! a real panic in the real place, and no peer can cause one. So a debug build that is started with `POSTERN_FAULT=1`
//! panics for two names that no server can have (RFC 6761 section 6.4). Release builds do not contain this module.

use std::rc::Rc;
use std::sync::LazyLock;

use tokio::sync::Notify;

/// A client that names this server ends its own connection's task.
const CONNECTION: &str = "panic.connection.invalid";
/// A client that names this server ends the mail thread that serves it.
const THREAD: &str = "panic.thread.invalid";

static ARMED: LazyLock<bool> = LazyLock::new(|| {
    let armed = std::env::var_os("POSTERN_FAULT").is_some_and(|value| value == "1");
    if armed {
        tracing::warn!("POSTERN_FAULT=1: clients that name {CONNECTION} or {THREAD} cause panics");
    }
    armed
});

thread_local! {
    /// Notified when the mail thread on this thread has to panic.
    static THREAD_PANIC: Rc<Notify> = Rc::default();
}

/// Panic if the client named [`CONNECTION`]; make the mail thread on this thread panic if the client named [`THREAD`].
#[expect(clippy::panic, reason = "what this is for")]
pub(crate) fn panic_on_demand(name: Option<&str>) {
    match name {
        Some(CONNECTION) if *ARMED => panic!("a client named {CONNECTION} while POSTERN_FAULT=1"),
        Some(THREAD) if *ARMED => THREAD_PANIC.with(|demanded| demanded.notify_one()),
        _ => {}
    }
}

/// Run a mail thread's `work`, and panic when [`panic_on_demand`] asks for it on this thread.
pub(crate) async fn or_panic_on_demand<T>(work: impl Future<Output = T>) -> T {
    let demanded = THREAD_PANIC.with(Rc::clone);
    LazyLock::force(&ARMED);
    tokio::select! {
        done = work => done,
        () = demanded.notified() => panic_in_thread(),
    }
}

#[expect(clippy::panic, reason = "what this is for")]
fn panic_in_thread() -> ! {
    panic!("a client named {THREAD} while POSTERN_FAULT=1")
}
