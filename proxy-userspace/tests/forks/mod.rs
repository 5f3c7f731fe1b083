//! Mutual exclusion of forks and closes. A child that another test starts holds every descriptor of this process from
//! its fork until after its exec, so that what a test closes meanwhile is not closed yet.

use std::process::{Command, Output, Stdio};
use std::sync::{PoisonError, RwLock};

/// Held for reading while a child begins, for writing while something is closed.
static FORKS: RwLock<()> = RwLock::new(());

/// Start a child in `begin`, and return when it has said something or ended: when it is started, the kernel may still
/// have to close what it holds (`begin_new_exec` in fs/exec.c).
pub(crate) fn starting<T>(begin: impl FnOnce() -> T) -> T {
    let _nothing_is_closed = FORKS.read().unwrap_or_else(PoisonError::into_inner);
    begin()
}

/// What a command prints.
pub(crate) fn output(command: &mut Command) -> std::io::Result<Output> {
    starting(|| command.stdin(Stdio::null()).output())
}

/// Close `held`. On return no child holds it any more.
pub(crate) fn close<T>(held: T) {
    let _no_child_begins = FORKS.write().unwrap_or_else(PoisonError::into_inner);
    drop(held);
}
