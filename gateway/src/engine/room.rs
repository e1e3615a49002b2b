//! How a shard waits for room among its events, and how it is woken for that and for its commands.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};

use tokio::sync::mpsc;

use super::command::Event;

/// Wakes a shard's thread, from any other.
#[derive(Debug)]
pub struct Bell {
    waker: mio::Waker,
    /// Since the shard listened last: a burst of commands costs one system call.
    rung: AtomicBool,
}

impl Bell {
    pub fn new(waker: mio::Waker) -> Bell {
        Bell {
            waker,
            rung: AtomicBool::new(false),
        }
    }

    pub fn ring(&self) {
        if !self.rung.swap(true, Ordering::AcqRel)
            && let Err(error) = self.waker.wake()
        {
            // Only a full eventfd counter could do this, and then the shard is about to wake anyway.
            tracing::warn!(%error, "waking a shard failed");
        }
    }

    /// What is rung from here on wakes again. A swap and not a store: a store may become visible only after the queue
    /// was found empty, and the command that came in between would wake nobody.
    pub fn listen(&self) {
        self.rung.swap(false, Ordering::AcqRel);
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}

/// A wait for room in the queue of events: a future that the shard polls, with its bell for a waker.
#[derive(Default)]
pub struct Room(Option<Pin<Box<dyn Future<Output = ()> + Send>>>);

impl Room {
    /// Whether there is some; if not, the bell rings when there is, which is when half of the queue is free: with a
    /// place at a time the thread would be woken for each event. Until then, all that becomes free is held for this.
    pub fn is_there(&mut self, events: &mpsc::Sender<Event>, bell: &Arc<Bell>) -> bool {
        let wait = self.0.get_or_insert_with(|| {
            let events = events.clone();
            Box::pin(async move {
                // An error says that nobody takes events any more, which whoever sends one finds out.
                let _ = events.reserve_many(events.max_capacity() / 2).await;
            })
        });
        let waker = Waker::from(bell.clone());
        let ready = wait
            .as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_ready();
        if ready {
            self.0 = None;
        }
        ready
    }
}
