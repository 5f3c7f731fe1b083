//! A judge that misbehaves on demand.
//!
//! Tests show what becomes of mail when a judge aborts, hangs, eats memory or lies. Those need a real judge in a real
//! process. So a judge of a debug build that is started with `POSTERN_JUDGE_FAULT=1` does what the marker in a leaf says,
//! such as `postern-judge-fault:abort`. Release builds do not contain this module.

use std::hint::black_box;
use std::sync::LazyLock;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use super::protocol::JudgeReply;
use crate::ipc::Channel;

/// Stands before the word.
const MARKER: &[u8] = b"postern-judge-fault:";
/// Octets that a hungry judge takes at a time.
const BITE_BYTES: usize = 1 << 20;

static ARMED: LazyLock<bool> =
    LazyLock::new(|| std::env::var_os("POSTERN_JUDGE_FAULT").is_some_and(|value| value == "1"));
/// What the leaf in progress asks of its reply.
static REPLY: Mutex<Option<Lie>> = Mutex::new(None);

/// How a reply is falsified.
#[derive(Clone, Copy)]
enum Lie {
    Garbage,
    Forge,
    Twice,
}

/// Do what the leaf says.
pub(super) fn judge(leaf: &[u8]) {
    if !*ARMED {
        return;
    }
    let word = leaf.windows(MARKER.len()).position(|window| window == MARKER);
    let word = word.and_then(|at| leaf.get(at..)?.get(MARKER.len()..)).unwrap_or_default();
    let length = word.iter().position(|octet| !octet.is_ascii_lowercase()).unwrap_or(word.len());
    match word.get(..length).unwrap_or_default() {
        b"abort" => std::process::abort(),
        b"loop" => loop {
            black_box(());
        },
        b"sleep" => loop {
            std::thread::sleep(Duration::from_secs(1));
        },
        b"memory" => {
            let mut eaten = Vec::new();
            loop {
                eaten.push(vec![1_u8; BITE_BYTES]);
                black_box(&eaten);
            }
        }
        b"garbage" => lie(Lie::Garbage),
        b"forge" => lie(Lie::Forge),
        b"twice" => lie(Lie::Twice),
        _ => {}
    }
}

fn lie(lie: Lie) {
    *REPLY.lock().unwrap_or_else(PoisonError::into_inner) = Some(lie);
}

/// Send, before the true reply, what the leaf asked for.
pub(super) fn reply(channel: &Channel, reply: &JudgeReply) {
    let lie = REPLY.lock().unwrap_or_else(PoisonError::into_inner).take();
    let _ = match lie {
        None => return,
        Some(Lie::Garbage) => channel.send(&u8::MAX, &[]),
        Some(Lie::Forge) => {
            channel.send(&JudgeReply::new(reply.id.wrapping_add(1), reply.decision.clone()), &[])
        }
        Some(Lie::Twice) => channel.send(reply, &[]),
    };
}
