//! The thread of the message path: router, hub and broker run on a runtime of their own, all else that is tokio's on the
//! other one.
//!
//! A runtime gives its tasks their turns one after the other. With one for all, a delivery waited behind every handshake
//! that was ready, three times on its way; between two threads the kernel divides the processor, and who slept most
//! comes first.

use std::io;

use tokio::runtime::{Builder, EnterGuard, Runtime};

/// Ends, with all tasks on it, when dropped.
pub struct MessagePath {
    /// None: only while it is dropped.
    runtime: Option<Runtime>,
}

impl MessagePath {
    /// One thread: hub and broker keep an order, and would only wait for each other on several.
    pub fn start() -> io::Result<MessagePath> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("messages")
            .enable_all()
            .build()?;
        let runtime = Some(runtime);
        Ok(MessagePath { runtime })
    }

    /// What is spawned while the guard lives, and what that spawns later, runs here.
    pub fn enter(&self) -> EnterGuard<'_> {
        let runtime = self.runtime.as_ref().expect("it is there until the drop");
        runtime.enter()
    }
}

impl Drop for MessagePath {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // It may be dropped on a thread of another runtime, which must not be made to wait.
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tasks_and_their_tasks_run_on_its_thread() {
        let name = || std::thread::current().name().map(str::to_owned);
        let path = MessagePath::start().unwrap();
        let task = {
            let _on = path.enter();
            tokio::spawn(
                async move { (name(), tokio::spawn(async move { name() }).await.unwrap()) },
            )
        };
        let messages = Some("messages".to_owned());
        assert_eq!(task.await.unwrap(), (messages.clone(), messages));
        assert_ne!(name(), Some("messages".to_owned()), "it stays here");
    }
}
