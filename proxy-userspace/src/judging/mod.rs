//! Judges: processes that read what is inside of leaves, and may die of it.
//!
//! Archives and documents of strangers are read by code of many hands. So each complete leaf goes to a process that has
//! no files, no network and no capability, and whose memory and time are bounded. Only a typed decision comes back: a judge
//! that was taken over can call leaves clean or forbidden, and nothing else. The walk through a message, its rules and its
//! filling stay in the worker.

/// What worker and judge say to each other.
mod protocol;
/// What was used last, by the same rule on both sides.
mod recent;
/// What a judge has to know of a proxy action.
mod terms;
/// Leaves that ended two judges.
mod unscannable;
/// The worker's side: which judges are free, and what becomes of a leaf whose judge dies.
mod pool;
/// One judge, as the worker reaches it.
mod link;
/// A judge of the worker's that has complete leaves judged elsewhere.
mod remote;
/// The judge's main loop.
mod process;
/// A judge that misbehaves on demand, for tests. Not in release builds.
#[cfg(debug_assertions)]
mod misbehaviour;
/// Entry points of fuzz targets.
#[cfg(any(fuzzing, test))]
pub mod fuzzing;

pub(crate) use self::pool::{JudgeFailure, JudgeNumbers, JudgePool};
pub(crate) use self::process::serve;
pub(crate) use self::protocol::{FromJudge, ToJudge};
pub(crate) use self::remote::RemoteJudge;
pub(crate) use self::terms::{JudgeTerms, SealedRules};

/// As many as run at once: one for each core, and a spare while one of them is started again.
pub(crate) fn judge_count(cores: u32) -> u32 {
    cores.saturating_add(1)
}
