//! Lines for a stream whose reader may be slow, stuck or gone. Whoever writes a line never waits for the reader.
//!
//! Records go to stdout this way, and the log to stderr. A blocked write(2) holds only the thread of its stream. It
//! holds no mail thread, not the control task, and not the end of the process.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// Octets that wait, however few lines they are. Lines about verdicts hold what peers chose, and may be sixteen times as
/// long as others.
const LINES_BYTES_MAX: u64 = 64 << 20;
/// At the end of the process, waiting lines are written for this long. A working reader needs milliseconds, and the
/// stop must end although nobody reads.
pub const FLUSH_TIME_MAX: Duration = Duration::from_secs(2);
/// The pause between two checks of what still waits, at the end of the process.
const FLUSH_POLL: Duration = Duration::from_millis(2);

/// A bounded queue, and a thread that writes what is in it. Cheap to clone.
#[derive(Clone)]
pub struct Lines {
    queue: SyncSender<Vec<u8>>,
    counts: Arc<LineCounts>,
}

#[derive(Default)]
struct LineCounts {
    waiting: AtomicU64,
    octets: AtomicU64,
    lost: AtomicU64,
}

impl Lines {
    /// Write to `out` on a thread of this name. At most `max` lines wait, and 64 MiB of them; more are lost. After a loss, the text that
    /// `confess` makes from the number of lost lines is written before the next line.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn to(
        name: &str,
        mut out: impl Write + Send + 'static,
        max: usize,
        confess: Option<fn(u64) -> Vec<u8>>,
    ) -> io::Result<Self> {
        let (lines, queued) = Self::queue(max);
        let counts = Arc::clone(&lines.counts);
        let write = move || {
            let mut told = 0;
            for line in queued {
                let lost = counts.lost.load(Ordering::Relaxed);
                if let Some(confess) = confess
                    && lost > told
                    && out.write_all(&confess(lost)).is_ok()
                {
                    told = lost;
                }
                if out.write_all(&line).and_then(|()| out.flush()).is_err() {
                    counts.lost.fetch_add(1, Ordering::Relaxed);
                }
                counts.octets.fetch_sub(octets_of(&line), Ordering::Relaxed);
                counts.waiting.fetch_sub(1, Ordering::Release);
            }
        };
        // Nobody joins the thread: a stuck write ends with the process.
        std::thread::Builder::new().name(name.to_owned()).spawn(write)?;
        Ok(lines)
    }

    /// The queue without its thread.
    pub(crate) fn queue(max: usize) -> (Self, Receiver<Vec<u8>>) {
        let (queue, queued) = sync_channel(max);
        (Self { queue, counts: Arc::default() }, queued)
    }

    /// Put a whole line, with its end, in the queue, or count it as lost.
    pub fn push(&self, line: Vec<u8>) {
        let octets = octets_of(&line);
        self.counts.waiting.fetch_add(1, Ordering::Relaxed);
        let before = self.counts.octets.fetch_add(octets, Ordering::Relaxed);
        let has_room = before.saturating_add(octets) <= LINES_BYTES_MAX;
        if !has_room || self.queue.try_send(line).is_err() {
            self.counts.octets.fetch_sub(octets, Ordering::Relaxed);
            self.counts.waiting.fetch_sub(1, Ordering::Relaxed);
            self.counts.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Lines that could not be written.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.counts.lost.load(Ordering::Relaxed)
    }

    /// Wait until everything is written, for [`FLUSH_TIME_MAX`]; returns how many lines still wait, which are lost if
    /// the process ends now.
    #[must_use]
    pub fn flush(&self) -> u64 {
        let end = Instant::now() + FLUSH_TIME_MAX;
        loop {
            let waiting = self.counts.waiting.load(Ordering::Acquire);
            if waiting == 0 || Instant::now() >= end {
                return waiting;
            }
            std::thread::sleep(FLUSH_POLL);
        }
    }
}

fn octets_of(line: &[u8]) -> u64 {
    u64::try_from(line.len()).unwrap_or(u64::MAX)
}

/// For the log: one write is one line.
impl Write for Lines {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.push(octets.to_vec());
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    /// Writes nothing before it is told to, then everything.
    struct Gate {
        open: Receiver<()>,
        written: Sender<Vec<u8>>,
    }

    impl Write for Gate {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            let _closed = self.open.recv();
            let _ = self.written.send(octets.to_vec());
            Ok(octets.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_finds_no_room_is_counted_and_confessed_before_the_next_line_and_nobody_waits() {
        let ((open, gate), (written, read)) = (channel(), channel());
        let gate = Gate { open: gate, written };
        let lines = Lines::to("gate", gate, 1, Some(|lost| format!("{lost} lost\n").into_bytes())).unwrap();
        lines.push(b"first\n".to_vec());
        // At most one line is in the stuck write, and one waits: the others are lost. Which of them come before the
        // confession depends on when the thread takes them.
        while lines.lost() < 2 {
            lines.push(b"more\n".to_vec());
        }
        assert!(Lines::flush(&lines) > 0, "nothing was written, and the end was not awaited for ever");
        drop(open);
        assert_eq!(Lines::flush(&lines), 0);
        lines.push(b"last\n".to_vec());
        assert_eq!(Lines::flush(&lines), 0);
        let all: Vec<String> =
            read.try_iter().map(|line| String::from_utf8_lossy(&line).into_owned()).collect();
        let confession = format!("{} lost\n", lines.lost());
        let at = |line: &str| all.iter().position(|written| written == line);
        assert!(at("first\n").is_some() && at("first\n") < at("last\n"), "{all:?}");
        assert!(at(&confession).is_some() && at(&confession) < at("last\n"), "{all:?}");
    }

    #[test]
    fn long_lines_wait_in_bounded_memory_and_there_is_room_again_when_they_are_written() {
        let ((open, gate), (written, read)) = (channel(), channel());
        let lines = Lines::to("gate", Gate { open: gate, written }, 1000, None).unwrap();
        let long = || vec![b'x'; 8 << 20];
        for _ in 0..20 {
            lines.push(long());
        }
        assert_eq!(lines.lost(), 12, "eight of them are 64 MiB, the one in the stuck write among them");
        drop(open);
        assert_eq!(Lines::flush(&lines), 0);
        lines.push(long());
        assert_eq!((Lines::flush(&lines), lines.lost(), read.try_iter().count()), (0, 12, 9));
    }

    #[test]
    fn a_reader_that_is_gone_is_counted() {
        struct Gone;
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let lines = Lines::to("gone", Gone, 8, None).unwrap();
        lines.push(b"heard by nobody\n".to_vec());
        assert_eq!((Lines::flush(&lines), lines.lost()), (0, 1));
    }
}
