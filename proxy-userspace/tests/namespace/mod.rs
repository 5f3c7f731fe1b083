//! A network namespace of a test's own.

use rustix::thread::UnshareFlags;

/// Move this thread into a new network namespace, which ends with the thread and what it has opened.
#[expect(
    deprecated,
    reason = "the successor is unsafe because of CLONE_FILES; CLONE_NEWNET alone changes only this thread"
)]
pub(crate) fn enter_new() {
    assert!(rustix::process::geteuid().is_root(), "these tests make network namespaces: run them as root");
    rustix::thread::unshare(UnshareFlags::NEWNET).expect("a new network namespace");
}
