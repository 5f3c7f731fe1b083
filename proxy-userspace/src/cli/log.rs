use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt::{self, Write as _};
use std::io::IsTerminal as _;
use std::panic::PanicHookInfo;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, layer};

use crate::journal::{self, JournalEntry, Priority};
use crate::line_limit::LineLimit;
use crate::lines::Lines;

/// Lines of the log that wait for a slow reader of stderr: hours of a quiet gateway, a second of a loud one.
const LOG_LINES_MAX: usize = 4096;

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub(super) enum LogError {
    /// The variable cannot be read.
    #[error("POSTERN_LOG: {0}; use a level such as \"debug\" or \"postern=debug,warn\"")]
    Filter(ParseError),
    /// No thread for it.
    #[error("no thread can be started for the log: {0}; raise the limit on processes (`ulimit -u`)")]
    Thread(std::io::Error),
}

/// The log on stderr. Dropping it writes what still waits, within the bound.
pub(super) struct Log {
    pub(super) lines: Lines,
    is_journal: bool,
}

impl Log {
    /// Why the program ends, as every program says it.
    pub(super) fn say_end(&self, error: &anyhow::Error) {
        let words = format!("postern: {error:#}");
        self.lines.push(if self.is_journal {
            JournalEntry::log(Priority::Error, &words).octets()
        } else {
            format!("{words}\n").into_bytes()
        });
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        // Nobody is left who could be told.
        let _unwritten = Lines::flush(&self.lines);
    }
}

/// Records go to stdout, so everything else goes to stderr; panics, too, because a write to a stderr that nobody reads
/// must not hold a mail thread.
pub(super) fn to_stderr() -> Result<Log, LogError> {
    let wanted = std::env::var_os("POSTERN_LOG").unwrap_or_default();
    let filter = log_filter(&wanted.to_string_lossy()).map_err(LogError::Filter)?;
    let journal = journal::stderr();
    let is_journal = journal.is_some();
    let lines = match journal {
        Some(journal) => Lines::to("log", journal, LOG_LINES_MAX, Some(journal_confession)),
        None => Lines::to("log", std::io::stderr(), LOG_LINES_MAX, Some(confession)),
    };
    let lines = lines.map_err(LogError::Thread)?;
    let to = lines.clone();
    if is_journal {
        tracing_subscriber::registry().with(filter).with(JournalLayer(to)).init();
    } else {
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(move || to.clone())
            .with_ansi(std::io::stderr().is_terminal())
            .init();
    }
    std::panic::set_hook(Box::new(panicked));
    Ok(Log { lines, is_journal })
}

/// Lines of the log as entries of the journal, which has their time and their level itself.
struct JournalLayer(Lines);

impl<S: Subscriber> Layer<S> for JournalLayer {
    fn on_event(&self, event: &Event<'_>, _: layer::Context<'_, S>) {
        let priority = match *event.metadata().level() {
            Level::ERROR => Priority::Error,
            Level::WARN => Priority::Warning,
            Level::INFO => Priority::Info,
            Level::DEBUG | Level::TRACE => Priority::Debug,
        };
        let mut text = EventText::default();
        event.record(&mut text);
        let mut entry = JournalEntry::log(priority, &[text.message, text.fields].concat());
        entry.fields.push(("postern.log.target".to_owned(), event.metadata().target().to_owned()));
        self.0.push(entry.octets());
    }
}

/// The message, and behind it the other fields.
#[derive(Default)]
struct EventText {
    message: String,
    fields: String,
}

impl Visit for EventText {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a text does not fail.
        let _ = if field.name() == "message" {
            write!(self.message, "{value:?}")
        } else {
            write!(self.fields, " {}={value:?}", field.name())
        };
    }
}

/// What rustls has to say is about peers, a line or more for each; records say what matters of it. Who wants to read it
/// names rustls.
fn log_filter(wanted: &str) -> Result<EnvFilter, ParseError> {
    let filter = EnvFilter::builder()
        .with_default_directive(tracing::level_filters::LevelFilter::INFO.into())
        .parse(wanted)?;
    if wanted.contains("rustls") { Ok(filter) } else { Ok(filter.add_directive("rustls=off".parse()?)) }
}

fn confession(lost: u64) -> Vec<u8> {
    format!("postern: {lost} lines of the log were lost so far, because what reads stderr does not keep up\n")
        .into_bytes()
}

fn journal_confession(lost: u64) -> Vec<u8> {
    let words = format!(
        "{lost} lines of the log were lost so far, because the journal does not keep up or is not there"
    );
    JournalEntry::log(Priority::Error, &words).octets()
}

/// A panic ends one connection, and a peer that finds how to cause one can do it again: its lines are limited like any
/// that peers can cause.
fn panicked(panic: &PanicHookInfo<'_>) {
    static PANIC_LINES: LineLimit = LineLimit::new();
    let Some(more) = PANIC_LINES.admit() else { return };
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("without a name");
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let words = panic.payload_as_str().unwrap_or("without words");
    let trace = Backtrace::capture();
    if trace.status() == BacktraceStatus::Captured {
        tracing::error!("thread {name} panicked at {place}: {words}{more}\n{trace}");
    } else {
        tracing::error!("thread {name} panicked at {place}: {words}{more}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rustls_says_about_peers_is_kept_out_of_the_log_unless_it_is_named() {
        let shown = |wanted: &str| log_filter(wanted).unwrap().to_string();
        for wanted in ["", "debug", "postern=debug,warn"] {
            assert!(shown(wanted).contains("rustls=off"), "{wanted}: {}", shown(wanted));
        }
        assert!(!shown("rustls=debug").contains("off"), "{}", shown("rustls=debug"));
        assert!(log_filter("postern=loud").is_err());
    }
}
