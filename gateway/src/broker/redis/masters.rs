//! The connections to the masters, one each: opened, opened again, probed, and let go when a master is one no more.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::advice::advice;
use super::connect::ConnectionError;
use super::discover::Map;
use super::link::{self, LinkId, Said};
use super::names::{Names, Place};
use super::probe::Pulse;
use super::publish::{Outcome, Publisher};
use super::pulses::Pulses;
use super::topology::{Endpoint, Topology};
use super::wire::{self, Push};
use super::{Counters, Settings};

/// Before the second attempt to connect; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Names tried until one falls into a slot of a master: enough for a master with a single slot.
const PROBE_NAMES: usize = 300_000;
/// Batches of pushes that wait for the subscriber, of all connections.
const SAID_CAPACITY: usize = 2;

/// How often a Redis is asked whether it can write to its disk.
const LOOK_AT_DISK: Duration = Duration::from_secs(5);

pub(super) struct Masters {
    settings: Arc<Settings>,
    names: Names,
    map: Map,
    pulses: Arc<Pulses>,
    counters: Counters,
    links: HashMap<Endpoint, Link>,
    said: mpsc::Sender<(LinkId, Said)>,
    last_id: LinkId,
}

struct Link {
    id: LinkId,
    pulse: Arc<Pulse>,
    /// None: there is no connection, and none is being opened.
    task: Option<JoinHandle<()>>,
    /// Commands on their way out: at most one for each channel.
    commands: mpsc::UnboundedSender<Bytes>,
    open: bool,
    /// Whether one was in use before.
    was_settled: bool,
    /// This process's own channel there. None: the master has lost the slot of the last one.
    probe: Option<Place>,
    /// Whether Redis has confirmed that channel.
    settled: bool,
    pause: Duration,
    /// When the next connection may be opened.
    again: Instant,
    next_probe: Instant,
    /// When this Redis is asked for its disk again.
    next_look: Instant,
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Masters {
    pub(super) fn new(
        settings: Arc<Settings>,
        names: Names,
        map: Map,
        (pulses, counters): (Arc<Pulses>, Counters),
    ) -> (Masters, mpsc::Receiver<(LinkId, Said)>) {
        let (said, heard) = mpsc::channel(SAID_CAPACITY);
        let masters = Masters {
            settings,
            names,
            map,
            pulses,
            counters,
            links: HashMap::new(),
            said,
            last_id: 0,
        };
        (masters, heard)
    }

    /// Takes in the topology; returns the connections that are gone with their masters.
    pub(super) fn redraw(&mut self, topology: &Topology) -> Vec<LinkId> {
        let mut gone = Vec::new();
        let pulses = &self.pulses;
        self.links.retain(|endpoint, link| {
            let stays = topology.masters().contains(endpoint);
            if !stays {
                pulses.remove(&link.pulse);
                gone.push(link.id);
            }
            stays
        });
        for endpoint in topology.masters() {
            if self.links.contains_key(endpoint) {
                continue;
            }
            let pulse = Arc::new(Pulse::new(self.settings.probe_period, endpoint.to_string()));
            self.pulses.add(pulse.clone());
            let now = Instant::now();
            let link = Link {
                id: 0,
                pulse,
                task: None,
                commands: mpsc::unbounded_channel().0,
                open: false,
                was_settled: false,
                probe: None,
                settled: false,
                pause: FIRST_PAUSE,
                again: now,
                next_probe: now,
                next_look: now,
            };
            self.links.insert(endpoint.clone(), link);
        }
        self.open_due(Instant::now());
        gone
    }

    /// Begins the connections that have waited long enough.
    pub(super) fn open_due(&mut self, now: Instant) {
        for (endpoint, link) in &mut self.links {
            if link.task.is_some() || link.again > now {
                continue;
            }
            self.last_id += 1;
            let (commands, outgoing) = mpsc::unbounded_channel();
            link.id = self.last_id;
            link.commands = commands;
            link.task = Some(tokio::spawn(link::run(
                self.settings.clone(),
                (link.id, endpoint.clone()),
                outgoing,
                self.said.clone(),
            )));
        }
    }

    /// `evicts`: the policy by which this Redis deletes keys when it is full.
    pub(super) fn opened(&mut self, id: LinkId, evicts: Option<String>) {
        if let Some((endpoint, link)) = find(&mut self.links, id) {
            link.open = true;
            link.pulse.subscribed();
            if let Some(told) = link.pulse.evicts(evicts) {
                tracing::warn!("Redis at {endpoint} (broker.redis.url) {told}");
            }
            link.next_probe = Instant::now() + link.pulse.pause();
        }
        self.place_probes();
    }

    /// A probe channel for each connection that has none.
    pub(super) fn place_probes(&mut self) {
        let topology = self.map.now();
        for (endpoint, link) in &mut self.links {
            if !link.open || link.probe.is_some() {
                continue;
            }
            let names = &self.names;
            let mut tried = std::iter::repeat_with(|| names.probe(rand::random()));
            link.probe = tried
                .by_ref()
                .take(PROBE_NAMES)
                .find(|place| topology.owner(place.slot) == Some(endpoint));
            if let Some(probe) = &link.probe {
                let command = wire::command(self.names.subscribe(), &[&probe.channel]);
                let _ = link.commands.send(command);
            }
        }
    }

    /// Another one is opened after a while.
    pub(super) fn ended(&mut self, id: LinkId, cause: &ConnectionError) {
        let Some((endpoint, link)) = find(&mut self.links, id) else {
            return;
        };
        if let Some(task) = link.task.take() {
            task.abort();
        }
        link.settled = false;
        link.open = false;
        link.probe = None;
        // Spread, so that the nodes of a cluster do not all come back in the same moment.
        link.again = Instant::now() + link.pause.mul_f64(rand::random_range(0.5..1.0));
        link.pause = (link.pause * 2).min(LONGEST_PAUSE);
        if link.pulse.down(&cause.to_string()) {
            tracing::warn!(
                "Redis at {endpoint} (broker.redis.url): {cause}; trying until it is there"
            );
        }
        self.map.look_again(None);
    }

    /// Something came on this connection.
    pub(super) fn heard(&mut self, id: LinkId) {
        if let Some((_, link)) = find(&mut self.links, id) {
            link.pulse.flows(Instant::now());
        }
    }

    /// Takes a push that is about the probe's channel; returns whether it was.
    pub(super) fn probe_push(&mut self, id: LinkId, push: &Push) -> bool {
        let Some((_, link)) = find(&mut self.links, id) else {
            return false;
        };
        let about = match push {
            Push::Message { channel, .. }
            | Push::Subscribed { channel }
            | Push::Unsubscribed { channel } => channel,
            Push::Refused(_) | Push::Other => return false,
        };
        if link
            .probe
            .as_ref()
            .is_none_or(|probe| probe.channel != *about)
        {
            return false;
        }
        match push {
            Push::Message { .. } => link.pulse.returned(Instant::now()),
            Push::Subscribed { .. } => {
                if !std::mem::replace(&mut link.settled, true)
                    && std::mem::replace(&mut link.was_settled, true)
                {
                    self.counters.reconnects.inc();
                }
                link.pause = FIRST_PAUSE;
            }
            _ => link.probe = None,
        }
        true
    }

    /// Another master has the slot now.
    pub(super) fn slot_moved(&mut self, id: LinkId, slot: u16) {
        if let Some((endpoint, link)) = find(&mut self.links, id) {
            self.map.look_again(Some(endpoint));
            if link.probe.as_ref().is_some_and(|probe| probe.slot == slot) {
                link.probe = None;
            }
        }
    }

    /// Sends the probes that are due. `heard_all`: nothing that Redis sent waits here. Returns connections that are open
    /// and silent.
    pub(super) fn probe(
        &mut self,
        now: Instant,
        publisher: &Publisher,
        heard_all: bool,
    ) -> Vec<LinkId> {
        let mut silent = Vec::new();
        for (endpoint, link) in &mut self.links {
            let Some(probe) = link.probe.as_ref().filter(|_| link.open) else {
                continue;
            };
            if !heard_all {
                link.pulse.flows(now);
            }
            if link.pulse.is_dead(now) {
                silent.push(link.id);
                continue;
            }
            if link.next_probe > now {
                continue;
            }
            link.next_probe = now + link.pulse.pause();
            let (pulse, answer) = (link.pulse.clone(), publisher.probe(probe));
            tokio::spawn(look_at(pulse, endpoint.clone(), (answer, now)));
            if link.next_look <= now {
                link.next_look = now + LOOK_AT_DISK;
                let unwritten = publisher.unwritten(probe);
                tokio::spawn(look_at_disk(
                    link.pulse.clone(),
                    endpoint.clone(),
                    unwritten,
                ));
            }
        }
        silent
    }

    /// Where commands for a slot of this topology go; None while there is no connection.
    pub(super) fn link(&self, topology: &Topology, slot: u16) -> Option<LinkId> {
        let link = self.links.get(topology.owner(slot)?)?;
        link.open.then_some(link.id)
    }

    /// Writes a command of one name about these channels.
    pub(super) fn write(&self, id: LinkId, command: &str, channels: &[Bytes]) {
        let mut output = BytesMut::new();
        wire::write_command(&mut output, command, channels.iter().map(|key| &key[..]));
        if let Some(link) = self.links.values().find(|link| link.id == id) {
            // A connection that is gone is subscribed to everything anew.
            let _ = link.commands.send(output.freeze());
        }
    }

    /// Whether every master has a connection in use.
    pub(super) fn are_settled(&self) -> bool {
        !self.links.is_empty() && self.links.values().all(|link| link.settled)
    }
}

/// What became of a probe that was sent then.
async fn look_at(
    pulse: Arc<Pulse>,
    endpoint: Endpoint,
    (answer, sent): (impl Future<Output = Outcome>, Instant),
) {
    match answer.await {
        Outcome::Accepted(_) => pulse.accepted(sent, Instant::now()),
        Outcome::Refused(why) => {
            let why = format!("{why}{}", advice(&why));
            if pulse.refused(&why) {
                tracing::warn!("Redis at {endpoint} (broker.redis.url) takes no messages: {why}");
            }
        }
        Outcome::Unavailable | Outcome::Unanswered => {}
    }
}

async fn look_at_disk(
    pulse: Arc<Pulse>,
    endpoint: Endpoint,
    unwritten: impl Future<Output = Option<Option<&'static str>>>,
) {
    let Some(unwritten) = unwritten.await else {
        return;
    };
    if pulse.unwritten(unwritten)
        && let Some(what) = unwritten
    {
        tracing::warn!("Redis at {endpoint} (broker.redis.url) {what}");
    }
}

fn find(links: &mut HashMap<Endpoint, Link>, id: LinkId) -> Option<(&Endpoint, &mut Link)> {
    links.iter_mut().find(|(_, link)| link.id == id)
}
