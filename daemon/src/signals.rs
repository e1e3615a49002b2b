//! SIGTERM and SIGINT: the first asks the process to end politely, the second ends it at once.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Whether the process was asked to end, by a signal or by [`Shutdown::begin`]. Clones share the answer.
#[derive(Debug, Clone)]
pub struct Shutdown {
    asked: watch::Sender<Option<&'static str>>,
}

impl Default for Shutdown {
    /// One that only [`Shutdown::begin`] begins: for tests and for parts of a program.
    fn default() -> Self {
        Shutdown {
            asked: watch::channel(None).0,
        }
    }
}

impl Shutdown {
    /// Takes over SIGTERM and SIGINT for the whole process. Needs a tokio runtime.
    pub fn on_signals() -> io::Result<Shutdown> {
        let shutdown = Shutdown::default();
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let begun = shutdown.clone();
        tokio::spawn(async move {
            let mut received = 0_u32;
            loop {
                let (name, number) = tokio::select! {
                    Some(()) = terminate.recv() => ("SIGTERM", 15),
                    Some(()) = interrupt.recv() => ("SIGINT", 2),
                    else => return,
                };
                received += 1;
                if received > 1 {
                    tracing::warn!("second {name}: ending at once");
                    // As a shell reports a process that the signal killed.
                    std::process::exit(128 + number);
                }
                tracing::info!("{name}: ending politely; a second signal ends at once");
                begun.begin(name);
            }
        });
        Ok(shutdown)
    }

    /// Begins the end. The first reason stays; calling again changes nothing.
    pub fn begin(&self, reason: &'static str) {
        self.asked.send_if_modified(|asked| {
            let first = asked.is_none();
            asked.get_or_insert(reason);
            first
        });
    }

    /// Waits until the end has begun, and says why. Returns at once if it already has.
    pub async fn begun(&self) -> &'static str {
        let mut asked = self.asked.subscribe();
        match asked.wait_for(Option::is_some).await {
            Ok(reason) => reason.unwrap_or("shutdown"),
            // `self` holds a sender, so the channel is open for as long as this future lives.
            Err(_) => unreachable!("the sender lives in self"),
        }
    }

    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.asked.borrow().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_reason_stays_and_late_waiters_hear_it() {
        let shutdown = Shutdown::default();
        assert!(!shutdown.has_begun());
        let waiting = tokio::spawn({
            let shutdown = shutdown.clone();
            async move { shutdown.begun().await }
        });
        shutdown.begin("first");
        shutdown.begin("second");
        assert_eq!(waiting.await.unwrap(), "first");
        assert_eq!(shutdown.begun().await, "first");
        assert!(shutdown.has_begun());
    }
}
