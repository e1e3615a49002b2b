//! A shard's events on their way to its task. What a client says in one breath is handed over in one piece.
//!
//! Without that the task would wake for the first of many messages, on the same core in place of the shard, and the
//! first would come back to the shard alone: two system calls for every subscriber where one is enough.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use futures::task::AtomicWaker;
use tokio::sync::mpsc;

use super::command::Event;

/// The shard's side.
#[derive(Clone, Default)]
pub struct Gate(Arc<Shared>);

#[derive(Default)]
struct Shared {
    closed: AtomicBool,
    task: AtomicWaker,
}

/// For as long as it lives, the task takes no event.
pub struct Held(Arc<Shared>);

impl Gate {
    /// For moments: what is held is late.
    pub fn hold(&self) -> Held {
        self.0.closed.store(true, Ordering::Release);
        Held(self.0.clone())
    }

    fn poll_open(&self, cx: &Context<'_>) -> Poll<()> {
        // Registered first: a gate that opens after it was found closed wakes us.
        self.0.task.register(cx.waker());
        if self.0.closed.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        Poll::Ready(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.closed.store(false, Ordering::Release);
        self.0.task.wake();
    }
}

/// The task's side.
pub struct Inbox {
    queue: mpsc::Receiver<Event>,
    gate: Gate,
}

impl Inbox {
    pub fn new(queue: mpsc::Receiver<Event>, gate: Gate) -> Inbox {
        Inbox { queue, gate }
    }

    /// The next event; None when the shard has ended. Nothing is lost when it is dropped.
    pub async fn recv(&mut self) -> Option<Event> {
        std::future::poll_fn(|cx| {
            ready!(self.gate.poll_open(cx));
            self.queue.poll_recv(cx)
        })
        .await
    }

    /// Appends the next events, at most `limit`; 0 when the shard has ended. Nothing is lost when it is dropped.
    pub async fn recv_many(&mut self, events: &mut Vec<Event>, limit: usize) -> usize {
        std::future::poll_fn(|cx| {
            ready!(self.gate.poll_open(cx));
            self.queue.poll_recv_many(cx, events, limit)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::engine::command::ShardId;

    fn event(round: u32) -> Event {
        let shard = ShardId(0);
        Event::Drained { shard, round }
    }

    #[tokio::test]
    async fn what_is_sent_behind_a_closed_gate_comes_when_it_opens() {
        let (events, queue) = mpsc::channel(4);
        let gate = Gate::default();
        let mut inbox = Inbox::new(queue, gate.clone());
        let held = gate.hold();
        for round in 0..2 {
            events.try_send(event(round)).unwrap();
        }
        let mut came = Vec::new();
        assert!(
            inbox.recv_many(&mut came, 4).now_or_never().is_none(),
            "held"
        );
        let shard = tokio::spawn(async move {
            drop(held);
            events.send(event(2)).await.unwrap();
        });
        while came.len() < 3 {
            assert_ne!(inbox.recv_many(&mut came, 2).await, 0);
        }
        for (event, expected) in came.drain(..).zip(0..) {
            let Event::Drained { round, .. } = event else {
                panic!("event {expected}")
            };
            assert_eq!(round, expected);
        }
        shard.await.unwrap();
        let ended = inbox.recv_many(&mut came, 1).await;
        assert_eq!(ended, 0, "the shard has ended");
    }
}
