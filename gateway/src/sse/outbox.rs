//! What waits for one client, and the stream by which hyper takes it.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::task::AtomicWaker;
use gateway_config::SlowConsumer;
use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use super::format::COMMENT;
use crate::engine::command::ConnectionKey;
use crate::engine::{Dropped, Tag};

/// What a waiting event costs beside its bytes.
const EVENT_BYTES: usize = 64;

#[derive(Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    reader: AtomicWaker,
}

#[derive(Default)]
struct Waiting {
    events: VecDeque<(Bytes, Tag)>,
    bytes: usize,
    ended: bool,
    /// The pace of comments has changed.
    quiet: Option<Duration>,
}

impl Waiting {
    /// A single event always fits, as the largest message does in the outbox of a WebSocket.
    fn exceeds(&self, cost: usize, cap: usize) -> bool {
        !self.events.is_empty() && self.bytes + cost > cap
    }

    /// Drops events whose tags are `meant`, oldest first, until no more than `enough` bytes wait.
    fn give_way(&mut self, enough: usize, meant: impl Fn(Tag) -> bool) -> Dropped {
        let mut dropped = Dropped::default();
        let Waiting { events, bytes, .. } = self;
        events.retain(|(event, tag)| {
            let stays = *bytes <= enough || !meant(*tag);
            if !stays {
                *bytes = bytes.saturating_sub(event.len() + EVENT_BYTES);
                dropped.add(*tag, tag.messages.into());
            }
            stays
        });
        dropped
    }
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // Whole after every statement, so a panic elsewhere cannot have broken it.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task's end. The stream ends after what waits when this is dropped.
pub(super) struct Outbox {
    shared: Arc<Shared>,
    cap: usize,
}

/// More waits than the cap allows: the client reads too slowly.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Outbox {
    /// `cap`: bytes that may wait. A comment is sent when nothing else was for `quiet`; `gone` is told `key` when the
    /// stream is dropped, and at most once.
    pub(super) fn new(
        cap: usize,
        quiet: Duration,
        key: ConnectionKey,
        gone: mpsc::UnboundedSender<ConnectionKey>,
    ) -> (Outbox, Stream) {
        let shared = Arc::<Shared>::default();
        let stream = Stream {
            shared: shared.clone(),
            comments: comments(quiet),
            key,
            gone,
        };
        (Outbox { shared, cap }, stream)
    }

    /// As in `new`, from now on.
    pub(super) fn set(&mut self, cap: usize, quiet: Duration) {
        self.cap = cap;
        self.shared.waiting().quiet = Some(quiet);
        self.shared.reader.wake();
    }

    /// What waits of channels whose policy allows it gives way, oldest first, as in the outbox of a WebSocket; of a
    /// channel of which only the latest counts, all that waits.
    pub(super) fn push(&self, event: Bytes, tag: Tag) -> Result<Dropped, Full> {
        let mut waiting = self.shared.waiting();
        let mut dropped = Dropped::default();
        let cost = event.len() + EVENT_BYTES;
        if waiting.exceeds(cost, self.cap) {
            if tag.slow == SlowConsumer::Latest {
                dropped.and(waiting.give_way(0, |other| other == tag));
            }
            // More than is needed, or every further event would walk through all that wait.
            let enough = self.cap.saturating_sub(cost.max(self.cap / 8));
            dropped.and(waiting.give_way(enough, |other| other.slow != SlowConsumer::Disconnect));
        }
        if !waiting.exceeds(cost, self.cap) {
            waiting.bytes += cost;
            waiting.events.push_back((event, tag));
        } else if tag.slow == SlowConsumer::Disconnect {
            return Err(Full);
        } else {
            dropped.add(tag, tag.messages.into());
        }
        drop(waiting);
        self.shared.reader.wake();
        Ok(dropped)
    }

    /// Gives back the memory of what waits.
    pub(super) fn discard(&self) {
        let mut waiting = self.shared.waiting();
        waiting.events = VecDeque::new();
        waiting.bytes = 0;
    }

    /// The last event, for which there is always room.
    pub(super) fn end(self, last: Bytes) {
        self.shared.waiting().events.push_back((last, Tag::KEPT));
    }
}

fn comments(quiet: Duration) -> Interval {
    let mut comments = interval_at(Instant::now() + quiet, quiet);
    comments.set_missed_tick_behavior(MissedTickBehavior::Delay);
    comments
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.shared.waiting().ended = true;
        self.shared.reader.wake();
    }
}

/// The body of an answer.
pub struct Stream {
    shared: Arc<Shared>,
    comments: Interval,
    key: ConnectionKey,
    gone: mpsc::UnboundedSender<ConnectionKey>,
}

impl Stream {
    fn poll_event(&self, cx: &Context<'_>) -> Poll<Option<Bytes>> {
        // Registered first: an event that comes in between wakes.
        self.shared.reader.register(cx.waker());
        let mut waiting = self.shared.waiting();
        match waiting.events.pop_front() {
            Some((event, _)) => {
                let cost = event.len() + EVENT_BYTES;
                waiting.bytes = waiting.bytes.saturating_sub(cost);
                Poll::Ready(Some(event))
            }
            None if waiting.ended => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

impl futures::Stream for Stream {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Poll::Ready(event) = self.poll_event(cx) {
            self.comments.reset();
            return Poll::Ready(event.map(Ok));
        }
        let quiet = self.shared.waiting().quiet.take();
        if let Some(quiet) = quiet {
            self.comments = comments(quiet);
        }
        ready!(self.comments.poll_tick(cx));
        Poll::Ready(Some(Ok(Bytes::from_static(COMMENT))))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // A task that has ended needs no telling.
        let _ = self.gone.send(self.key);
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, StreamExt};

    use super::*;

    const KEY: ConnectionKey = ConnectionKey {
        slot: 1,
        generation: 2,
    };

    fn outbox(cap: usize) -> (Outbox, Stream, mpsc::UnboundedReceiver<ConnectionKey>) {
        let (gone, told) = mpsc::unbounded_channel();
        let (outbox, stream) = Outbox::new(cap, Duration::from_secs(30), KEY, gone);
        (outbox, stream, told)
    }

    fn next(stream: &mut Stream) -> Option<Option<Bytes>> {
        let next = stream.next().now_or_never();
        next.map(|event| event.map(|Ok(bytes)| bytes))
    }

    fn push(outbox: &Outbox, event: Bytes) -> Result<(), Full> {
        outbox.push(event, Tag::KEPT).map(|dropped| {
            assert_eq!(dropped, Dropped::default());
        })
    }

    #[tokio::test]
    async fn what_may_be_dropped_gives_way() {
        let tag = |slow, channel| Tag {
            slow,
            messages: 1,
            channel,
        };
        let (oldest, latest) = (SlowConsumer::DropOldest, SlowConsumer::Latest);
        let (outbox, mut stream, _told) = outbox(3 * (EVENT_BYTES + 1));
        let mut all = Dropped::default();
        for (event, tag) in [
            ("k", Tag::KEPT),
            ("a", tag(oldest, 1)),
            ("b", tag(latest, 2)),
            ("c", tag(oldest, 1)),
            ("d", tag(latest, 2)),
            ("l", Tag::KEPT),
            ("m", Tag::KEPT),
        ] {
            let event = Bytes::from_static(event.as_bytes());
            all.and(outbox.push(event, tag).unwrap());
        }
        // Nothing is left that may be dropped, but what comes.
        all.and(
            outbox
                .push(Bytes::from_static(b"e"), tag(oldest, 1))
                .unwrap(),
        );
        assert_eq!(outbox.push(Bytes::from_static(b"n"), Tag::KEPT), Err(Full));
        for expected in ["k", "l", "m"] {
            assert_eq!(
                next(&mut stream),
                Some(Some(Bytes::from_static(expected.as_bytes())))
            );
        }
        assert_eq!(next(&mut stream), None);
        assert_eq!((all.oldest, all.latest), (3, 2));
    }

    #[tokio::test]
    async fn it_takes_so_much_and_no_more() {
        let (outbox, mut stream, _told) = outbox(2 * (EVENT_BYTES + 10));
        let event = Bytes::from_static(b"0123456789");
        assert_eq!(push(&outbox, event.clone()), Ok(()));
        assert_eq!(push(&outbox, event.clone()), Ok(()));
        assert_eq!(push(&outbox, Bytes::from_static(b"x")), Err(Full));
        assert_eq!(next(&mut stream), Some(Some(event.clone())));
        assert_eq!(push(&outbox, event.clone()), Ok(()));
        outbox.end(Bytes::from_static(b"last"));
        assert_eq!(next(&mut stream), Some(Some(event.clone())));
        assert_eq!(next(&mut stream), Some(Some(event)));
        assert_eq!(next(&mut stream), Some(Some(Bytes::from_static(b"last"))));
        assert_eq!(next(&mut stream), Some(None));
    }

    #[tokio::test]
    async fn one_event_always_fits_and_what_waits_can_be_dropped() {
        let (outbox, mut stream, _told) = outbox(10);
        let large = Bytes::from_static(&[0; 1_000]);
        assert_eq!(push(&outbox, large.clone()), Ok(()));
        assert_eq!(push(&outbox, large.clone()), Err(Full));
        outbox.discard();
        assert_eq!(next(&mut stream), None, "nothing waits");
        assert_eq!(push(&outbox, large), Ok(()));
    }

    #[tokio::test]
    async fn who_goes_is_told_of() {
        let (_outbox, stream, mut told) = outbox(10);
        assert!(told.try_recv().is_err());
        drop(stream);
        assert_eq!(told.recv().await, Some(KEY));
    }
}
