//! The task: one connection, the rooms that are followed on it, and what comes there.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use rand::seq::IndexedRandom;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::{Shared, Wish};
use crate::broker::redis::Mode;
use crate::broker::redis::advice::advice;
use crate::broker::redis::calls::Failure;
use crate::broker::redis::connect::ConnectionError;
use crate::broker::redis::foreign::{self, Complaints, Outcome, Place, Source};
use crate::broker::redis::link::{self, LinkId, Said};
use crate::broker::redis::probe::Pulse;
use crate::broker::redis::topology::{Endpoint, SLOTS, Topology};
use crate::broker::redis::wire::{self, Push};
use crate::broker::{Event, unix_ms};
use crate::name::ChannelName;

/// Channels named in one `SUBSCRIBE` after a reconnect.
const CHANNELS_PER_COMMAND: usize = 500;
const TICK: Duration = Duration::from_millis(50);
/// Before the second attempt to connect; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

struct Room {
    name: ChannelName,
    /// Those that are told when Redis has confirmed it.
    waiting: Vec<oneshot::Sender<()>>,
}

struct Link {
    id: LinkId,
    endpoint: Endpoint,
    pulse: Arc<Pulse>,
    task: JoinHandle<()>,
    /// Commands on their way out.
    commands: mpsc::UnboundedSender<Bytes>,
    open: bool,
    /// Whether Redis has confirmed the probe's channel, and so all that was asked for before it.
    settled: bool,
    next_probe: Instant,
}

pub(super) struct Task {
    shared: Shared,
    said: mpsc::Sender<(LinkId, Said)>,
    /// This process's own channel.
    probe: Bytes,
    fixed: HashMap<Bytes, Source>,
    rooms: HashMap<Bytes, Room>,
    link: Option<Link>,
    last_id: LinkId,
    /// At which it failed last: another one is tried next, where there is one.
    failed: Option<Endpoint>,
    pause: Duration,
    /// When the next connection may be opened.
    again: Instant,
    complaints: Complaints,
}

impl Task {
    pub(super) fn new(shared: Shared, said: mpsc::Sender<(LinkId, Said)>) -> Task {
        let listen = &shared.settings.listen;
        let always = listen.sources.iter().filter(|s| **s != Source::Rooms);
        let key = |source: &Source| format!("{}{}", listen.prefix, source.name()).into();
        let secret: u64 = rand::random();
        Task {
            fixed: always.map(|source| (key(source), *source)).collect(),
            probe: format!("{}listen:{secret:016x}", shared.settings.prefix).into(),
            shared,
            said,
            rooms: HashMap::new(),
            link: None,
            last_id: 0,
            failed: None,
            pause: FIRST_PAUSE,
            again: Instant::now(),
            complaints: Complaints::default(),
        }
    }

    /// Until nobody holds the broker, or nobody takes its events.
    pub(super) async fn run(
        mut self,
        mut wishes: mpsc::Receiver<Wish>,
        mut heard: mpsc::Receiver<(LinkId, Said)>,
    ) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut map = self.shared.map.clone();
        loop {
            tokio::select! {
                wish = wishes.recv() => match wish {
                    Some(wish) => self.wish(wish),
                    None => break,
                },
                Some((id, said)) = heard.recv() => {
                    if self.link.as_ref().is_some_and(|link| link.id == id)
                        && self.hear(said).await.is_err()
                    {
                        break;
                    }
                }
                () = map.changed() => self.redraw(),
                _ = tick.tick() => self.look_after(heard.is_empty()),
            }
        }
        self.hang_up();
    }

    fn wish(&mut self, wish: Wish) {
        let open = self.link.as_ref().is_some_and(|link| link.open);
        match wish {
            Wish::Room { key, room, heard } => {
                let entry = self.rooms.entry(key.clone()).or_insert_with(|| Room {
                    name: room,
                    waiting: Vec::new(),
                });
                if open {
                    entry.waiting.push(heard);
                    self.write("SUBSCRIBE", std::slice::from_ref(&key));
                }
            }
            Wish::Leave(key) => {
                if self.rooms.remove(&key).is_some() && open {
                    self.write("UNSUBSCRIBE", std::slice::from_ref(&key));
                }
            }
        }
    }

    fn write(&self, command: &str, channels: &[Bytes]) {
        let mut output = BytesMut::new();
        wire::write_command(&mut output, command, channels.iter().map(|key| &key[..]));
        if let Some(link) = &self.link {
            // A connection that is gone is subscribed to everything anew.
            let _ = link.commands.send(output.freeze());
        }
    }

    /// The error: nobody takes events any more.
    async fn hear(&mut self, said: Said) -> Result<(), ()> {
        match said {
            Said::Open { .. } => self.opened(),
            Said::Ended(cause) => self.ended(&cause),
            Said::Pushed(pushes) => {
                if let Some(link) = &self.link {
                    link.pulse.flows(Instant::now());
                }
                for push in pushes {
                    self.pushed(push).await?;
                }
            }
        }
        Ok(())
    }

    fn opened(&mut self) {
        let Some(link) = &mut self.link else { return };
        link.open = true;
        let mut all: Vec<Bytes> = self.fixed.keys().cloned().collect();
        all.extend(self.rooms.keys().cloned());
        // Confirmed after the others.
        all.push(self.probe.clone());
        for chunk in all.chunks(CHANNELS_PER_COMMAND) {
            self.write("SUBSCRIBE", chunk);
        }
    }

    async fn pushed(&mut self, push: Push) -> Result<(), ()> {
        match push {
            Push::Message { channel, .. } if channel == self.probe => {
                if let Some(link) = &self.link {
                    link.pulse.returned(Instant::now());
                }
            }
            Push::Message { channel, payload } => return self.take(&channel, &payload).await,
            Push::Subscribed { channel } if channel == self.probe => self.settled(),
            Push::Subscribed { channel } => {
                if let Some(room) = self.rooms.get_mut(&channel) {
                    for waiting in room.waiting.drain(..) {
                        let _ = waiting.send(());
                    }
                }
            }
            Push::Refused(reason) => {
                let command = "SUBSCRIBE";
                self.ended(&ConnectionError::Refused { command, reason });
            }
            Push::Unsubscribed { .. } | Push::Other => {}
        }
        Ok(())
    }

    fn settled(&mut self) {
        if let Some(link) = self.link.as_mut().filter(|link| link.open) {
            link.settled = true;
            // Only now: what a refusal said before stays until it is over, and is told once.
            link.pulse.subscribed();
            link.next_probe = Instant::now() + link.pulse.pause();
            self.pause = FIRST_PAUSE;
            self.failed = None;
            let (rooms, endpoint) = (self.rooms.len(), &link.endpoint);
            tracing::info!(rooms, "hears what backends publish at Redis {endpoint}");
        }
    }

    /// A record of a backend.
    async fn take(&mut self, key: &Bytes, payload: &[u8]) -> Result<(), ()> {
        let place = match (self.fixed.get(key), self.rooms.get(key)) {
            (Some(source), _) => Place {
                source: *source,
                room: None,
            },
            (None, Some(room)) => Place {
                source: Source::Rooms,
                room: Some(&room.name),
            },
            // It was left meanwhile.
            (None, None) => return Ok(()),
        };
        let source = place.source;
        let max = self
            .shared
            .settings
            .listen
            .max_message_bytes
            .load(Ordering::Relaxed);
        match foreign::read(place, payload, max, unix_ms()) {
            Ok(deliveries) => {
                self.shared
                    .counters
                    .foreign
                    .count(source, Outcome::Accepted);
                for delivery in deliveries {
                    let event = Event::Delivery(delivery);
                    self.shared.events.send(event).await.map_err(|_| ())?;
                }
            }
            Err(fault) => {
                self.shared.counters.foreign.count(source, fault.outcome);
                if self
                    .complaints
                    .is_news(source, fault.outcome, Instant::now())
                {
                    tracing::warn!(
                        channel = %String::from_utf8_lossy(key),
                        "a record that a backend published into Redis was dropped: {}; \
                         told again in a minute if it goes on",
                        fault.what
                    );
                }
            }
        }
        Ok(())
    }

    fn ended(&mut self, cause: &ConnectionError) {
        let Some(link) = &self.link else { return };
        if link.pulse.down(&cause.to_string()) {
            tracing::warn!(
                "Redis at {} (broker.redis.listen): {cause}; trying until it is there",
                link.endpoint
            );
        }
        self.failed = Some(link.endpoint.clone());
        self.shared.map.look_again(None);
        self.lost();
        // Spread, so that the nodes of a cluster do not all come back in the same moment.
        self.again = Instant::now() + self.pause.mul_f64(rand::random_range(0.5..1.0));
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }

    /// The connection is over; its pulse stays until another one begins, so that the node is not ready without any.
    fn lost(&mut self) {
        let Some(link) = &mut self.link else { return };
        link.task.abort();
        link.open = false;
        if std::mem::take(&mut link.settled) {
            self.shared.counters.losses.inc();
        }
        // What came of it before is not heard any more.
        link.id = 0;
        for room in self.rooms.values_mut() {
            room.waiting.clear();
        }
    }

    /// The master at which we listen may be one no more.
    fn redraw(&mut self) {
        let topology = self.shared.map.now();
        let gone = self
            .link
            .as_ref()
            .is_some_and(|link| link.id != 0 && !topology.masters().contains(&link.endpoint));
        if gone {
            self.lost();
            self.again = Instant::now();
        }
        self.open_due(&topology);
    }

    fn look_after(&mut self, heard_all: bool) {
        let now = Instant::now();
        if let Some(link) = &mut self.link
            && link.settled
            && link.next_probe <= now
        {
            if !heard_all {
                link.pulse.flows(now);
            }
            if link.pulse.is_dead(now) {
                return self.ended(&ConnectionError::Silent);
            }
            link.next_probe = now + link.pulse.pause();
            let pulse = link.pulse.clone();
            self.send_probe(pulse, now);
        }
        let topology = self.shared.map.now();
        self.open_due(&topology);
    }

    fn send_probe(&self, pulse: Arc<Pulse>, now: Instant) {
        let slot = match self.shared.settings.mode {
            Mode::Cluster => rand::random_range(0..SLOTS),
            Mode::Standalone | Mode::Sentinel => 0,
        };
        let command = wire::command("PUBLISH", &[&self.probe, b""]);
        let answer = self
            .shared
            .calls
            .call(u16::try_from(slot).unwrap_or_default(), command);
        tokio::spawn(async move {
            match answer.await {
                Ok(_) => pulse.accepted(now, Instant::now()),
                Err(Failure::Refused(why)) => {
                    let why = format!("{why}{}", advice(&why));
                    if pulse.refused(&why) {
                        tracing::warn!("Redis (broker.redis.listen) takes no messages: {why}");
                    }
                }
                Err(Failure::Unavailable(_) | Failure::Unanswered) => {}
            }
        });
    }

    /// Begins a connection when there is none and it has been waited for long enough.
    fn open_due(&mut self, topology: &Topology) {
        let busy = self.link.as_ref().is_some_and(|link| link.id != 0);
        let now = Instant::now();
        if busy || self.again > now {
            return;
        }
        let Some(endpoint) = self.choose(topology.masters()) else {
            return;
        };
        self.last_id += 1;
        let (commands, outgoing) = mpsc::unbounded_channel();
        let task = tokio::spawn(link::run(
            self.shared.settings.clone(),
            (self.last_id, endpoint.clone()),
            outgoing,
            self.said.clone(),
        ));
        let pulse = self.pulse_for(&endpoint);
        self.link = Some(Link {
            id: self.last_id,
            endpoint,
            pulse,
            task,
            commands,
            open: false,
            settled: false,
            next_probe: now,
        });
    }

    /// Any master will do, but not again the one at which it has just failed.
    fn choose(&self, masters: &[Endpoint]) -> Option<Endpoint> {
        let others: Vec<&Endpoint> = masters
            .iter()
            .filter(|endpoint| Some(*endpoint) != self.failed.as_ref())
            .collect();
        let chosen = others.choose(&mut rand::rng()).copied();
        chosen.or(masters.first()).cloned()
    }

    /// The one that there is, if it is of the same Redis: it knows what was said already.
    fn pulse_for(&mut self, endpoint: &Endpoint) -> Arc<Pulse> {
        if let Some(before) = &self.link {
            if before.endpoint == *endpoint {
                return before.pulse.clone();
            }
            self.shared.pulses.remove(&before.pulse);
        }
        let address = format!("{endpoint} (broker.redis.listen)");
        let pulse = Arc::new(Pulse::new(self.shared.settings.probe_period, address));
        self.shared.pulses.add(pulse.clone());
        pulse
    }

    fn hang_up(&mut self) {
        if let Some(link) = self.link.take() {
            link.task.abort();
            self.shared.pulses.remove(&link.pulse);
        }
    }
}
