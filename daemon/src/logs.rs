//! Logs on standard error: text for people, one JSON object a line for machines.

use std::io::{self, Write};

use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layered, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Text,
    Json,
}

#[derive(Debug, thiserror::Error)]
pub enum LogsError {
    #[error("the log filter {filter:?} cannot be read: {cause}")]
    Filter { filter: String, cause: String },
    #[error("logs are already set up in this process")]
    AlreadySet,
    #[error("logs cannot be changed: {0}")]
    Gone(#[from] reload::Error),
}

type Filtered = Layered<reload::Layer<EnvFilter, Registry>, Registry>;
type Lines = Box<dyn Layer<Filtered> + Send + Sync>;

/// The logs of this process. Cloning shares them.
#[derive(Clone)]
pub struct Logs {
    filter: reload::Handle<EnvFilter, Registry>,
    lines: reload::Handle<Lines, Filtered>,
}

impl Logs {
    /// From the next line on. The filter is one that [`parse_filter`] has read.
    pub fn change(&self, filter: EnvFilter, format: Format) -> Result<(), LogsError> {
        self.lines.reload(lines(format))?;
        Ok(self.filter.reload(filter)?)
    }
}

/// Sends everything `tracing` records to standard error, from now to the end of the process.
///
/// `filter` is a level (`info`) or a list of `target=level` as `tracing_subscriber::EnvFilter` reads it.
pub fn init(filter: &str, format: Format) -> Result<Logs, LogsError> {
    let (filter, filter_handle) = reload::Layer::new(parse_filter(filter)?);
    let (lines, lines_handle) = reload::Layer::new(lines(format));
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init()
        .map_err(|_| LogsError::AlreadySet)?;
    Ok(Logs {
        filter: filter_handle,
        lines: lines_handle,
    })
}

fn lines(format: Format) -> Lines {
    let layer = fmt::layer()
        .with_writer(StandardError)
        // A failed log line must not become another log line, for the same reason as in `Unbreakable`.
        .log_internal_errors(false);
    match format {
        Format::Text => layer
            .with_ansi(io::IsTerminal::is_terminal(&io::stderr()))
            .boxed(),
        Format::Json => layer.json().flatten_event(true).with_ansi(false).boxed(),
    }
}

/// Reads a filter without using it, so that a check of a configuration can refuse it.
pub fn parse_filter(filter: &str) -> Result<EnvFilter, LogsError> {
    EnvFilter::builder()
        .parse(filter)
        .map_err(|e| LogsError::Filter {
            filter: filter.to_owned(),
            cause: e.to_string(),
        })
}

/// Standard error, of which a closed or full end is not an error.
///
/// `gateway 2>&1 | head` closes the pipe while the program lives. A log line must not then end the
/// process by a panic: thousands of sockets matter more than the line.
struct StandardError;

struct Unbreakable<W>(W);

impl<'a> MakeWriter<'a> for StandardError {
    type Writer = Unbreakable<io::StderrLock<'static>>;

    fn make_writer(&'a self) -> Self::Writer {
        Unbreakable(io::stderr().lock())
    }
}

impl<W: Write> Write for Unbreakable<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match self.0.write_all(line) {
            Ok(()) | Err(_) => Ok(line.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        let _ = self.0.flush();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct ClosedPipe;

    impl Write for ClosedPipe {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    }

    #[test]
    fn a_closed_pipe_takes_the_line_silently() {
        let mut writer = Unbreakable(ClosedPipe);
        assert_eq!(writer.write(b"a line\n").unwrap(), 7);
        writer.flush().unwrap();
    }

    #[test]
    fn what_is_not_logged_is_not_even_asked_for() {
        use tracing::level_filters::LevelFilter;
        // For the whole test process, in which nobody else sets logs up.
        let logs = init("info", Format::Json).unwrap();
        assert_eq!(LevelFilter::current(), LevelFilter::INFO);
        assert!(!tracing::enabled!(tracing::Level::DEBUG));
        let debug = parse_filter("debug").unwrap();
        logs.change(debug, Format::Text).unwrap();
        assert_eq!(LevelFilter::current(), LevelFilter::DEBUG);
        assert!(tracing::enabled!(tracing::Level::DEBUG));
        logs.change(parse_filter("warn").unwrap(), Format::Json)
            .unwrap();
        assert_eq!(LevelFilter::current(), LevelFilter::WARN);
        assert!(init("info", Format::Json).is_err());
    }

    #[test]
    fn filters() {
        for (filter, good) in [
            ("info", true),
            ("", true),
            ("info,gateway::broker=debug", true),
            ("gateway=loud", false),
            ("a=b=c", false),
        ] {
            assert_eq!(parse_filter(filter).is_ok(), good, "{filter:?}");
        }
        let error = parse_filter("gateway=loud").unwrap_err().to_string();
        assert!(
            error.starts_with("the log filter \"gateway=loud\" cannot be read: "),
            "{error}"
        );
    }
}
