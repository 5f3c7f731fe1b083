//! Many sessions at once, kept open while something happens around them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context as _, Result, bail};

use crate::client::Session;

/// How many sessions are opened or tried at the same time.
const AT_ONCE: usize = 16;

/// Open sessions.
#[derive(Debug)]
pub struct Crowd {
    sessions: Vec<Session>,
}

impl Crowd {
    /// Open so many, some of them at the same time; `open` is told which one it opens.
    ///
    /// # Errors
    /// When one cannot be opened.
    pub fn open(count: usize, open: impl Fn(usize) -> Result<Session> + Sync) -> Result<Self> {
        let share = count.div_ceil(AT_ONCE).max(1);
        let numbers: Vec<usize> = (0..count).collect();
        let opened = thread::scope(|scope| {
            let open = &open;
            let workers: Vec<_> = numbers
                .chunks(share)
                .map(|share| {
                    scope.spawn(move || {
                        let one =
                            |&number| open(number).with_context(|| format!("session {number} of {count}"));
                        share.iter().map(one).collect::<Result<Vec<_>>>()
                    })
                })
                .collect();
            workers.into_iter().map(joined).collect::<Result<Vec<_>>>()
        })?;
        Ok(Self { sessions: opened.into_iter().flatten().collect() })
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// All of them.
    #[must_use]
    pub fn sessions(&self) -> &[Session] {
        &self.sessions
    }

    /// That each of them still works, in both directions.
    ///
    /// # Errors
    /// Says how many do not, and what is wrong with the first of them.
    pub fn prove(&mut self) -> Result<()> {
        let count = self.len();
        let broken = self.broken()?;
        if let Some((number, error)) = broken.into_iter().next() {
            return Err(
                error.context(format!("session {number} of {count}, the first of those that are broken"))
            );
        }
        Ok(())
    }

    /// Those that do not work any more, by number, each with what is wrong.
    ///
    /// # Errors
    /// When a thread panicked.
    pub fn broken(&mut self) -> Result<Vec<(usize, anyhow::Error)>> {
        let share = self.len().div_ceil(AT_ONCE).max(1);
        let broken = thread::scope(|scope| {
            let workers: Vec<_> = (0..)
                .step_by(share)
                .zip(self.sessions.chunks_mut(share))
                .map(|(first, sessions)| {
                    scope.spawn(move || {
                        let one = |(number, session): (usize, &mut Session)| {
                            session.noop().err().map(|error| (number, error))
                        };
                        Ok((first..).zip(sessions).filter_map(one).collect::<Vec<_>>())
                    })
                })
                .collect();
            workers.into_iter().map(joined).collect::<Result<Vec<_>>>()
        })?;
        Ok(broken.into_iter().flatten().collect())
    }

    /// Have each of them work by turns, until `during` is over; `work` is told which turn of a session it is.
    ///
    /// # Errors
    /// Says which session does not work, or what `during` says.
    pub fn work<T>(
        &mut self,
        work: impl Fn(usize, &mut Session) -> Result<()> + Sync,
        during: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let (count, over) = (self.len(), AtomicBool::new(false));
        let share = count.div_ceil(AT_ONCE).max(1);
        thread::scope(|scope| {
            let (work, over) = (&work, &over);
            let workers: Vec<_> = (0..)
                .step_by(share)
                .zip(self.sessions.chunks_mut(share))
                .map(|(first, sessions)| {
                    scope.spawn(move || {
                        for turn in 0.. {
                            for (number, session) in (first..).zip(sessions.iter_mut()) {
                                work(turn, session)
                                    .with_context(|| format!("session {number} of {count}, turn {turn}"))?;
                            }
                            if over.load(Ordering::Relaxed) {
                                break;
                            }
                        }
                        Ok(())
                    })
                })
                .collect();
            let done = during();
            over.store(true, Ordering::Relaxed);
            workers.into_iter().map(joined).collect::<Result<Vec<()>>>()?;
            done
        })
    }

    /// LOGOUT of each.
    ///
    /// # Errors
    /// When one does not end as it should.
    pub fn logout(self) -> Result<()> {
        self.sessions.into_iter().try_for_each(Session::logout)
    }
}

fn joined<T>(worker: thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    worker.join().unwrap_or_else(|_| bail!("a thread of the crowd panicked"))
}
