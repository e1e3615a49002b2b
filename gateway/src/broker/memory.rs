//! The broker of a gateway that is alone: messages go round inside the process.

use std::collections::HashSet;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, oneshot};

use super::{Broker, EVENTS_CAPACITY, Event, Events, Health, PublishError, SubscribeError};
use crate::message::{Delivery, Message};
use crate::name::ChannelName;

/// See the module. Cloning shares the broker.
#[derive(Clone)]
pub struct Memory {
    /// In the order of the calls to `publish`. Bounded: when the node cannot keep up, publishers are
    /// refused instead of the process growing.
    queue: mpsc::Sender<(Delivery, oneshot::Sender<()>)>,
    subscribed: Arc<Mutex<HashSet<ChannelName>>>,
}

impl Memory {
    /// Needs a tokio runtime.
    #[must_use]
    pub fn start() -> (Memory, Events) {
        let (queue, mut queued) = mpsc::channel::<(Delivery, oneshot::Sender<()>)>(EVENTS_CAPACITY);
        let (events, receiver) = mpsc::channel(EVENTS_CAPACITY);
        tokio::spawn(async move {
            while let Some((delivery, accepted)) = queued.recv().await {
                if events.send(Event::Delivery(delivery)).await.is_err() {
                    // The node is gone; the senders left in the queue answer by being dropped.
                    return;
                }
                // Only now, so that a publisher that awaits goes at the pace of the subscribers.
                let _ = accepted.send(());
            }
        });
        (
            Memory {
                queue,
                subscribed: Arc::default(),
            },
            receiver,
        )
    }

    fn subscribed(&self) -> MutexGuard<'_, HashSet<ChannelName>> {
        // A set of names is whole after every statement, so a panic elsewhere cannot have broken it.
        self.subscribed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Broker for Memory {
    fn publish(
        &self,
        channel: ChannelName,
        message: Message,
    ) -> impl Future<Output = Result<(), PublishError>> + Send + 'static {
        let wanted = self.subscribed().contains(&channel);
        let (accepted, answer) = oneshot::channel();
        let delivery = Delivery {
            channel: channel.clone(),
            message,
            position: None,
        };
        let queued = !wanted || self.queue.try_send((delivery, accepted)).is_ok();
        async move {
            match (wanted, queued) {
                // Nobody listens; accepted all the same, as Redis does.
                (false, _) => Ok(()),
                (true, false) => Err(PublishError::Unavailable { channel }),
                (true, true) => answer
                    .await
                    .map_err(|_| PublishError::Unanswered { channel }),
            }
        }
    }

    fn subscribe(
        &self,
        channel: ChannelName,
    ) -> impl Future<Output = Result<(), SubscribeError>> + Send + 'static {
        let broker = self.clone();
        async move {
            broker.subscribed().insert(channel);
            Ok(())
        }
    }

    fn unsubscribe(&self, channel: ChannelName) -> impl Future<Output = ()> + Send + 'static {
        let broker = self.clone();
        async move {
            broker.subscribed().remove(&channel);
        }
    }

    fn health(&self) -> Health {
        if self.queue.is_closed() {
            return Health::NotDelivering("nobody takes deliveries on this node".to_owned());
        }
        Health::Delivering
    }
}
