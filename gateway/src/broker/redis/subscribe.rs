//! The subscriber task: owns the list of channels, and has a connection to each master that reads them.
//!
//! A connection goes to every master, also without a channel there: it carries the probe, and the node is ready when each
//! master passes messages on. Channels are subscribed at the one that has their slot, and nowhere else.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::channels::{Channels, Confirmed};
use super::connect::ConnectionError;
use super::discover::Map;
use super::link::{LinkId, Said};
use super::masters::Masters;
use super::names::Names;
use super::publish::Publisher;
use super::topology::moved_slot;
use super::wire::Push;
use super::{Counters, log};
use crate::broker::Event;
use crate::message::{Delivery, Message};
use crate::name::ChannelName;

/// What [`super::Redis`] asks of the task.
pub(super) enum Command {
    Subscribe {
        channel: ChannelName,
        /// Answered when Redis has confirmed, or with the cause when it has not by the deadline.
        live: oneshot::Sender<Result<(), String>>,
        deadline: Instant,
    },
    Unsubscribe {
        channel: ChannelName,
        done: oneshot::Sender<()>,
    },
}

/// Channels named in one `SUBSCRIBE` after a reconnect: keeps one command well under Redis's limits.
const CHANNELS_PER_COMMAND: usize = 500;
/// How often what waits is looked after: probes, connections to open, subscribes that waited too long.
const TICK: Duration = Duration::from_millis(50);

pub(super) struct Subscriber {
    pub(super) names: Names,
    pub(super) map: Map,
    pub(super) masters: Masters,
    pub(super) channels: Channels,
    pub(super) publisher: Arc<Publisher>,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) counters: Counters,
    /// Decoded and not yet taken by the node. Nothing more is taken from Redis while something is here.
    pub(super) ready: VecDeque<Event>,
    /// Whether every master has a connection in use, and nothing that was live is missing.
    pub(super) whole: bool,
}

impl Subscriber {
    /// Until nobody holds the broker, or nobody takes its events.
    pub(super) async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        mut heard: mpsc::Receiver<(LinkId, Said)>,
    ) {
        let events = self.events.clone();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        self.redraw();
        loop {
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.take(command),
                    None => return,
                },
                room = events.reserve(), if !self.ready.is_empty() => match room {
                    Ok(room) => self.hand_over(room),
                    Err(_) => return,
                },
                Some((link, said)) = heard.recv(), if self.ready.is_empty() => self.hear(link, said),
                () = self.map.changed() => self.redraw(),
                _ = tick.tick() => {
                    let heard_all = self.ready.is_empty() && heard.is_empty();
                    self.look_after(heard_all);
                }
            }
            let missing = i64::try_from(self.channels.missing()).unwrap_or(i64::MAX);
            self.counters.missing.set(missing);
        }
    }

    fn hand_over(&mut self, room: mpsc::Permit<'_, Event>) {
        if let Some(event) = self.ready.pop_front() {
            room.send(event);
        }
        while let Some(event) = self.ready.pop_front() {
            if let Err(mpsc::error::TrySendError::Full(event)) = self.events.try_send(event) {
                self.ready.push_front(event);
                return;
            }
        }
    }

    fn look_after(&mut self, heard_all: bool) {
        let now = Instant::now();
        let topology = self.map.now();
        let masters = topology.masters();
        let names: Vec<_> = masters.iter().map(ToString::to_string).collect();
        let cause = format!("Redis at {} did not confirm it", names.join(", "));
        self.channels.sweep(now, &cause);
        for link in self.masters.probe(now, &self.publisher, heard_all) {
            self.ended(link, &ConnectionError::Silent);
        }
        self.masters.open_due(now);
        self.masters.place_probes();
        self.place_all();
    }

    /// The masters are others, or have other slots. What has moved, its old master says itself.
    fn redraw(&mut self) {
        let topology = self.map.now();
        self.whole = false;
        for link in self.masters.redraw(&topology) {
            self.lose_all_of(link);
        }
        self.place_all();
    }

    fn hear(&mut self, link: LinkId, said: Said) {
        match said {
            Said::Open { evicts } => {
                self.masters.opened(link, evicts);
                self.place_all();
            }
            Said::Pushed(pushes) => {
                self.masters.heard(link);
                for push in pushes {
                    self.pushed(link, push);
                }
            }
            Said::Ended(cause) => self.ended(link, &cause),
        }
    }

    fn ended(&mut self, link: LinkId, cause: &ConnectionError) {
        self.masters.ended(link, cause);
        self.whole = false;
        self.lose_all_of(link);
    }

    fn lose_all_of(&mut self, link: LinkId) {
        let channels = self.channels.link_ended(link);
        if !channels.is_empty() {
            tracing::warn!(
                channels = channels.len(),
                "subscriptions at Redis lost: messages may be missed until they are there again"
            );
        }
        self.lose(channels);
    }

    /// Says it after what was already read: those messages did arrive.
    fn lose(&mut self, channels: Vec<ChannelName>) {
        if channels.is_empty() {
            return;
        }
        self.whole = false;
        if self.channels.missing() == channels.len() {
            self.counters.losses.inc();
        }
        match self.ready.back_mut() {
            Some(Event::Lost(last)) => last.extend(channels),
            _ => self.ready.push_back(Event::Lost(channels)),
        }
    }

    /// Before what comes of it now.
    fn restore(&mut self, channel: ChannelName) {
        match self.ready.back_mut() {
            Some(Event::Restored(last)) => last.push(channel),
            _ => self.ready.push_back(Event::Restored(vec![channel])),
        }
    }

    fn pushed(&mut self, link: LinkId, push: Push) {
        if self.masters.probe_push(link, &push) {
            self.tell_if_whole();
            return;
        }
        match push {
            Push::Message { channel, payload } => self.deliver(link, &channel, &payload),
            Push::Subscribed { channel } => {
                match self.channels.confirmed(&channel, link) {
                    Confirmed::Unwanted => {
                        let unsubscribe = self.names.unsubscribe();
                        self.masters.write(link, unsubscribe, &[channel]);
                    }
                    Confirmed::Restored(channel) => self.restore(channel),
                    Confirmed::First | Confirmed::Stale => {}
                }
                self.tell_if_whole();
            }
            Push::Unsubscribed { channel } => {
                if let Some(name) = self.channels.unsubscribed(&channel, link) {
                    let slot = self.channels.slot(&channel);
                    self.masters.slot_moved(link, slot);
                    self.lose(vec![name]);
                }
            }
            Push::Refused(reason) => match moved_slot(&reason) {
                Some(slot) => {
                    self.masters.slot_moved(link, slot);
                    let channels = self.channels.slot_moved(slot, link);
                    self.lose(channels);
                }
                None => {
                    let command = "SUBSCRIBE";
                    self.ended(link, &ConnectionError::Refused { command, reason });
                }
            },
            Push::Other => {}
        }
    }

    fn deliver(&mut self, link: LinkId, channel: &Bytes, payload: &[u8]) {
        let Some(name) = self.channels.receiver(channel, link) else {
            return;
        };
        let (position, json) = log::published(payload);
        match serde_json::from_slice::<Message>(json) {
            Ok(message) => self.ready.push_back(Event::Delivery(Delivery {
                channel: name.clone(),
                message,
                position,
            })),
            Err(e) => {
                self.counters.bad_payloads.inc();
                tracing::debug!(
                    channel = name.as_str(),
                    "dropped a message that no gateway wrote: {e}"
                );
            }
        }
    }

    fn tell_if_whole(&mut self) {
        if self.whole || self.channels.missing() > 0 || !self.masters.are_settled() {
            return;
        }
        self.whole = true;
        tracing::info!(channels = self.channels.len(), "subscribed at Redis");
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Subscribe {
                channel,
                live,
                deadline,
            } => {
                if let Some(key) = self.channels.subscribe(channel, (live, deadline)) {
                    let topology = self.map.now();
                    let link = self.masters.link(&topology, self.channels.slot(&key));
                    if let Some(link) = link
                        && self.channels.place(&key, Some(link))
                    {
                        self.masters.write(link, self.names.subscribe(), &[key]);
                    }
                }
            }
            Command::Unsubscribe { channel, done } => {
                if let Some((link, key)) = self.channels.unsubscribe(&channel) {
                    self.masters.write(link, self.names.unsubscribe(), &[key]);
                }
                let _ = done.send(());
                // It may have been the last one that was waited for.
                self.tell_if_whole();
            }
        }
    }

    /// Subscribes what is nowhere at the master that has its slot, in few commands.
    fn place_all(&mut self) {
        let topology = self.map.now();
        let mut placed: HashMap<(LinkId, u16), Vec<Bytes>> = HashMap::new();
        for key in self.channels.take_homeless() {
            let slot = self.channels.slot(&key);
            let link = self.masters.link(&topology, slot);
            if self.channels.place(&key, link)
                && let Some(link) = link
            {
                placed.entry((link, slot)).or_default().push(key);
            }
        }
        for ((link, _), keys) in placed {
            for chunk in keys.chunks(CHANNELS_PER_COMMAND) {
                self.masters.write(link, self.names.subscribe(), chunk);
            }
        }
    }
}
