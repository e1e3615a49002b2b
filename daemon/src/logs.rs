//! Logs on standard error: text for people, one JSON object a line for machines.

use std::io::{self, Write};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

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
}

/// Sends everything `tracing` records to standard error, from now to the end of the process.
///
/// `filter` is a level (`info`) or a list of `target=level` as `tracing_subscriber::EnvFilter` reads it.
pub fn init(filter: &str, format: Format) -> Result<(), LogsError> {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(parse_filter(filter)?)
        .with_writer(StandardError)
        // A failed log line must not become another log line, for the same reason as in `Unbreakable`.
        .log_internal_errors(false);
    match format {
        Format::Text => builder
            .with_ansi(io::IsTerminal::is_terminal(&io::stderr()))
            .try_init(),
        Format::Json => builder
            .json()
            .flatten_event(true)
            .with_ansi(false)
            .try_init(),
    }
    .map_err(|_| LogsError::AlreadySet)
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
