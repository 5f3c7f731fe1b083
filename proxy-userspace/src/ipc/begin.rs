use std::process::ExitCode;

use rustix::thread::set_name;
use serde::{Deserialize, Serialize};

use super::channel::{Channel, inherited};
use crate::confine::{Confinement, Identity, Role, bound_memory, confine};
use crate::journal::{self, JournalStreams};
use crate::sys;

/// The first message to a child process.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Begin {
    /// Who it shall be.
    pub(crate) identity: Identity,
    /// The helper's: where it may connect to.
    pub(crate) ports: Vec<u16>,
    /// A judge's: octets of memory that it may have.
    pub(crate) memory: Option<u64>,
    /// Which of its streams are the journal, with a descriptor for them; none without a journal.
    pub(crate) journal: Option<JournalStreams>,
}

/// The answer.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Began {
    /// It has given its powers up.
    Confined(Confinement),
    /// It could not, and ends; in an operator's words.
    Refused(String),
}

/// What a child process does before anything else, while it has one thread: be told who it is, and give everything else
/// up. Returns the channel to the supervisor.
///
/// # Errors
/// The exit code; the supervisor has been told why, if there is one.
pub(crate) fn begin(role: Role) -> Result<Channel, ExitCode> {
    let told = inherited().ok().and_then(|control| {
        let (begin, descriptors) = control.receive::<Begin>().ok()?;
        Some((control, begin, descriptors))
    });
    let Some((control, Begin { identity, ports, memory, journal }, descriptors)) = told else {
        eprintln!("postern: the {} is started by `postern run` and by nobody else", role.as_str());
        return Err(ExitCode::from(EXIT_USAGE));
    };
    // Executed by way of /proc, it would be called "exe" in top(1). No name is worth a start.
    let _ = set_name(role.process_name());
    if let (Some(streams), Some(end)) = (journal, descriptors.into_iter().next()) {
        journal::inherit(streams, end);
    }
    // systemd and terminals send TERM and INT to every process of a service: only the supervisor decides.
    sys::ignore_stop_signals();
    let bounded = memory.map_or(Ok(()), bound_memory);
    let confined = bounded
        .map_err(|error| format!("bounding its memory: {error}"))
        .and_then(|()| confine(role, identity, &ports).map_err(|error| error.to_string()));
    let (began, is_confined) = match confined {
        Ok(confinement) => (Began::Confined(confinement), true),
        Err(error) => (Began::Refused(error), false),
    };
    match control.send(&began, &[]) {
        Ok(()) if is_confined => Ok(control),
        _ => Err(ExitCode::FAILURE),
    }
}

/// As clap(1) ends for wrong arguments.
const EXIT_USAGE: u8 = 2;
