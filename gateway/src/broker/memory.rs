//! The broker of a gateway that is alone: messages go round inside the process.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

use super::{
    Answer, Broker, EVENTS_CAPACITY, Event, Events, Health, HistoryError, SubscribeError,
    Unpublished, unix_ms,
};
use crate::history::{Keep, Logs, Page, Range};
use crate::message::{Delivery, Message};
use crate::name::ChannelName;
use crate::slack;

/// See the module. Cloning shares the broker.
#[derive(Clone)]
pub struct Memory {
    /// In the order of the calls to `post`. Bounded: when the node cannot keep up, publishers are
    /// refused instead of the process growing.
    queue: mpsc::Sender<(Delivery, Answer)>,
    state: Arc<Mutex<State>>,
}

struct State {
    /// Of the map only the keys: a set is not known to [`slack`].
    subscribed: HashMap<ChannelName, ()>,
    logs: Logs,
}

impl Memory {
    /// `max_history_bytes`: of all that is kept of all channels. Needs a tokio runtime.
    #[must_use]
    pub fn start(max_history_bytes: usize) -> (Memory, Events) {
        let (queue, mut queued) = mpsc::channel::<(Delivery, Answer)>(EVENTS_CAPACITY);
        let (events, receiver) = mpsc::channel(EVENTS_CAPACITY);
        tokio::spawn(async move {
            while let Some((delivery, answer)) = queued.recv().await {
                let position = delivery.position;
                if events.send(Event::Delivery(delivery)).await.is_err() {
                    // The node is gone; the answers left in the queue are given by being dropped.
                    return;
                }
                // Only now, so that a publisher that awaits goes at the pace of the subscribers.
                answer.send(Ok(position));
            }
        });
        let state = State {
            subscribed: HashMap::new(),
            // Later than that of any process before this one.
            logs: Logs::new(unix_ms(), max_history_bytes),
        };
        let state = Arc::new(Mutex::new(state));
        (Memory { queue, state }, receiver)
    }

    /// As at the start, from now on.
    pub fn set_max_history_bytes(&self, max_history_bytes: usize) {
        self.state()
            .logs
            .set_max_bytes(max_history_bytes, unix_ms());
    }

    /// Never held over an await: it is taken for a few lines at a time.
    fn state(&self) -> MutexGuard<'_, State> {
        // Whole after every statement, so a panic elsewhere cannot have broken it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Broker for Memory {
    fn post(&self, channel: ChannelName, message: Message, keep: Option<Keep>, answer: Answer) {
        // Held from the append to the queue, so that positions are queued in their order.
        let mut state = self.state();
        let wanted = state.subscribed.contains_key(&channel);
        let place = match wanted.then(|| self.queue.try_reserve()) {
            Some(Err(_)) => return answer.send(Err(Unpublished::Unavailable)),
            Some(Ok(place)) => Some(place),
            None => None,
        };
        let position = keep.map(|keep| {
            let logs = &mut state.logs;
            logs.append(&channel, message.clone(), keep, unix_ms())
        });
        let Some(place) = place else {
            // Nobody listens; accepted all the same, as Redis does.
            return answer.send(Ok(position));
        };
        let delivery = Delivery {
            channel,
            message,
            position,
        };
        place.send((delivery, answer));
    }

    fn history(
        &self,
        channel: ChannelName,
        range: Range,
    ) -> impl Future<Output = Result<Page, HistoryError>> + Send + 'static {
        let page = self.state().logs.page(&channel, range, unix_ms());
        std::future::ready(Ok(page))
    }

    fn subscribe(
        &self,
        channel: ChannelName,
    ) -> impl Future<Output = Result<(), SubscribeError>> + Send + 'static {
        let broker = self.clone();
        async move {
            broker.state().subscribed.insert(channel, ());
            Ok(())
        }
    }

    fn unsubscribe(&self, channel: ChannelName) -> impl Future<Output = ()> + Send + 'static {
        let broker = self.clone();
        async move {
            let subscribed = &mut broker.state().subscribed;
            subscribed.remove(&channel);
            slack::release(subscribed);
        }
    }

    fn health(&self) -> Health {
        if self.queue.is_closed() {
            return Health::NotDelivering("nobody takes deliveries on this node".to_owned());
        }
        Health::Delivering
    }
}
