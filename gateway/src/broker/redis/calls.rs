//! Commands to Redis and their answers: each goes to the master that has its slot, many at a time.
//!
//! One task holds a lane for each master: what waits for it, and one connection with at most one pipeline under way.
//! While one is on its way the next fills, so the busier the node, the larger the batches.
//!
//! **Order.** Commands of one slot are carried out in the order of the calls. What Redis sends elsewhere (`MOVED`, `ASK`,
//! `TRYAGAIN`: it was not carried out) is parked with everything later of its slot, and tried again until its time is over.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use redis_protocol::resp2::types::BytesFrame;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use super::Settings;
use super::connect::{Connection, Wanted};
use super::discover::Map;
use super::topology::{Endpoint, Topology};

mod pipeline;

/// Calls that wait for the task, and for each lane. More are refused.
const CAPACITY: usize = 16_384;
/// Calls of one pipeline.
const BATCH: usize = 512;
/// How often lanes without a connection, and parked calls, are tried again.
const TICK: Duration = Duration::from_millis(50);
/// Between two attempts to connect: doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What its connections are called in `CLIENT LIST`.
const NAME: &str = "pushcluster-publisher";

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// Never left this process; why.
    Unavailable(String),
    /// Redis said no, in its own words.
    Refused(String),
    /// Left, and nobody knows.
    Unanswered,
}

/// Is called with the answer, on the task; dropped when there will be none.
type Answer = Box<dyn FnOnce(Result<BytesFrame, Failure>) + Send>;

struct Call {
    slot: u16,
    command: Bytes,
    answer: Answer,
    deadline: Instant,
    /// With less time left than this leaves, sending would only turn a clear refusal into an uncertain one.
    send_by: Instant,
}

impl Call {
    fn refuse(self, why: &str) {
        self.finish(Err(Failure::Unavailable(why.to_owned())));
    }

    fn finish(self, answer: Result<BytesFrame, Failure>) {
        (self.answer)(answer);
    }
}

/// The way in. When the last clone is dropped the task ends.
#[derive(Clone)]
pub(super) struct Calls {
    queue: mpsc::Sender<Call>,
    timeout: Duration,
    /// Until a call is sent.
    patience: Duration,
}

impl Calls {
    pub(super) fn start(settings: Arc<Settings>, map: Map) -> Calls {
        let (queue, calls) = mpsc::channel(CAPACITY);
        let timeout = settings.timeout;
        let dispatcher = Dispatcher {
            settings,
            map,
            lanes: HashMap::new(),
            parked: BTreeMap::new(),
            jobs: FuturesUnordered::new(),
        };
        tokio::spawn(dispatcher.run(calls));
        Calls {
            queue,
            timeout,
            patience: timeout.mul_f32(0.9),
        }
    }

    /// Takes the call's place in the queue now; the future only waits for the answer, which comes within the timeout.
    pub(super) fn call(
        &self,
        slot: u16,
        command: Bytes,
    ) -> impl Future<Output = Result<BytesFrame, Failure>> + Send + use<> {
        let (answer, answered) = oneshot::channel();
        self.call_then(slot, command, move |result| {
            // Who no longer waits has decided for itself.
            let _ = answer.send(result);
        });
        // A task that ended dropped the call, before or after it sent it.
        async move { answered.await.unwrap_or(Err(Failure::Unanswered)) }
    }

    /// The same; `answer` is called with it, by the task, and must be quick. A task that has ended drops it instead.
    pub(super) fn call_then(
        &self,
        slot: u16,
        command: Bytes,
        answer: impl FnOnce(Result<BytesFrame, Failure>) + Send + 'static,
    ) {
        let now = Instant::now();
        let queued = self.queue.try_send(Call {
            slot,
            command,
            answer: Box::new(answer),
            deadline: now + self.timeout,
            send_by: now + self.patience,
        });
        if let Err(TrySendError::Full(call) | TrySendError::Closed(call)) = queued {
            call.refuse("too much waits for Redis already");
        }
    }
}

struct Lane {
    waiting: VecDeque<Call>,
    state: State,
    /// Before the next attempt to connect.
    pause: Duration,
}

enum State {
    Idle(Connection),
    /// The slots of what is under way.
    Busy(Vec<u16>),
    /// Nothing is taken: why.
    Connecting(String),
    Away {
        cause: String,
        again: Instant,
    },
}

/// What a future of the task comes back with.
enum Job {
    Opened(Endpoint, Result<Connection, String>),
    Answered(Endpoint, pipeline::Ended),
}

struct Dispatcher {
    settings: Arc<Settings>,
    map: Map,
    lanes: HashMap<Endpoint, Lane>,
    /// By slot; one that is here, also with nothing in it, is not sent to.
    parked: BTreeMap<u16, VecDeque<Call>>,
    jobs: FuturesUnordered<BoxFuture<'static, Job>>,
}

impl Dispatcher {
    async fn run(mut self, mut calls: mpsc::Receiver<Call>) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut batch = Vec::with_capacity(BATCH);
        self.redraw();
        loop {
            tokio::select! {
                taken = calls.recv_many(&mut batch, BATCH) => {
                    if taken == 0 {
                        return;
                    }
                    let topology = self.map.now();
                    for call in batch.drain(..) {
                        self.dispatch(call, &topology);
                    }
                    self.pump();
                }
                Some(job) = self.jobs.next(), if !self.jobs.is_empty() => {
                    self.finish(job);
                    self.pump();
                }
                () = self.map.changed() => {
                    self.redraw();
                    self.pump();
                }
                _ = tick.tick() => {
                    self.look_after();
                    self.pump();
                }
            }
        }
    }

    /// To the lane that has the slot, or to the others of its slot that wait.
    fn dispatch(&mut self, call: Call, topology: &Topology) {
        if let Some(parked) = self.parked.get_mut(&call.slot) {
            if parked.len() < CAPACITY {
                parked.push_back(call);
            } else {
                call.refuse("too much waits for a slot that moves");
            }
            return;
        }
        let lane = topology
            .owner(call.slot)
            .and_then(|owner| self.lanes.get_mut(owner));
        let Some(lane) = lane else {
            call.refuse("no master is known for it");
            return;
        };
        match &lane.state {
            State::Connecting(cause) | State::Away { cause, .. } => call.refuse(cause),
            State::Idle(_) | State::Busy(_) if lane.waiting.len() >= CAPACITY => {
                call.refuse("too much waits for Redis already");
            }
            State::Idle(_) | State::Busy(_) => lane.waiting.push_back(call),
        }
    }

    /// Begins a pipeline on every lane that has calls and none under way.
    fn pump(&mut self) {
        for (endpoint, lane) in &mut self.lanes {
            let State::Idle(connection) = &mut lane.state else {
                continue;
            };
            let now = Instant::now();
            // What waited too long behind a batch without an answer is refused unsent: its caller was promised an
            // answer by now, and a late message is worse than a refused one.
            while lane.waiting.front().is_some_and(|call| call.send_by <= now) {
                if let Some(call) = lane.waiting.pop_front() {
                    call.refuse("Redis answers too slowly");
                }
            }
            if lane.waiting.is_empty() {
                continue;
            }
            if connection.is_closed() {
                fail(endpoint, lane, "closed the connection");
                self.map.look_again(Some(endpoint));
                continue;
            }
            let batch: Vec<Call> = lane
                .waiting
                .drain(..lane.waiting.len().min(BATCH))
                .collect();
            let slots = match self.settings.mode {
                super::Mode::Cluster => batch.iter().map(|call| call.slot).collect(),
                super::Mode::Standalone | super::Mode::Sentinel => vec![0],
            };
            let State::Idle(connection) = std::mem::replace(&mut lane.state, State::Busy(slots))
            else {
                continue;
            };
            let endpoint = endpoint.clone();
            self.jobs.push(Box::pin(async move {
                Job::Answered(endpoint, pipeline::run(connection, batch).await)
            }));
        }
    }

    fn finish(&mut self, job: Job) {
        match job {
            Job::Opened(endpoint, opened) => {
                // A lane that is gone: its master is one no more, and the connection is dropped.
                let Some(lane) = self.lanes.get_mut(&endpoint) else {
                    return;
                };
                match opened {
                    Ok(connection) => {
                        lane.pause = FIRST_PAUSE;
                        lane.state = State::Idle(connection);
                    }
                    Err(cause) => {
                        fail(&endpoint, lane, &cause);
                        self.map.look_again(None);
                    }
                }
            }
            Job::Answered(endpoint, ended) => {
                if !ended.elsewhere.is_empty() || ended.connection.is_err() {
                    self.map.look_again(Some(&endpoint));
                }
                for call in ended.elsewhere.into_iter().rev() {
                    self.parked.entry(call.slot).or_default().push_front(call);
                }
                let Some(lane) = self.lanes.get_mut(&endpoint) else {
                    return;
                };
                match ended.connection {
                    Ok(connection) => lane.state = State::Idle(connection),
                    Err(cause) => fail(&endpoint, lane, &cause),
                }
                // Behind those of their slot that were sent before them.
                let waiting = std::mem::take(&mut lane.waiting);
                for call in waiting {
                    match self.parked.get_mut(&call.slot) {
                        Some(parked) => parked.push_back(call),
                        None => lane.waiting.push_back(call),
                    }
                }
            }
        }
    }

    /// The masters are others, or have other slots.
    fn redraw(&mut self) {
        let topology = self.map.now();
        let mut homeless = Vec::new();
        let settings = &self.settings;
        self.lanes.retain(|endpoint, lane| {
            if let State::Busy(slots) = &lane.state {
                // What is under way may come back: nothing of its slot overtakes it.
                for slot in slots {
                    if topology.owner(*slot) != Some(endpoint) {
                        self.parked.entry(*slot).or_default();
                    }
                }
            }
            let stays = topology.masters().contains(endpoint);
            if stays && settings.mode != super::Mode::Cluster {
                return true;
            }
            homeless.extend(lane.waiting.drain(..));
            stays
        });
        for endpoint in topology.masters() {
            self.lanes.entry(endpoint.clone()).or_insert_with(|| Lane {
                waiting: VecDeque::new(),
                state: State::Away {
                    cause: format!("connecting to {endpoint}"),
                    again: Instant::now(),
                },
                pause: FIRST_PAUSE,
            });
        }
        for call in homeless {
            self.dispatch(call, &topology);
        }
        self.look_after();
    }

    /// Connects lanes that have waited, and tries what is parked.
    fn look_after(&mut self) {
        let now = Instant::now();
        for (endpoint, lane) in &mut self.lanes {
            if let State::Idle(connection) = &mut lane.state
                && connection.is_closed()
            {
                fail(endpoint, lane, "closed the connection");
                self.map.look_again(Some(endpoint));
            }
            let State::Away { cause, again } = &lane.state else {
                continue;
            };
            if *again > now {
                continue;
            }
            lane.state = State::Connecting(cause.clone());
            let (settings, endpoint) = (self.settings.clone(), endpoint.clone());
            self.jobs.push(Box::pin(async move {
                let opened = Connection::open(&settings, &endpoint, Wanted::Master, NAME).await;
                Job::Opened(endpoint, opened.map_err(|e| e.to_string()))
            }));
        }
        self.try_parked(now);
    }

    fn try_parked(&mut self, now: Instant) {
        let under_way = |slot: &u16| {
            let lanes = self.lanes.values();
            lanes
                .filter_map(|lane| match &lane.state {
                    State::Busy(slots) => Some(slots),
                    _ => None,
                })
                .any(|slots| slots.contains(slot))
        };
        let free: Vec<u16> = self
            .parked
            .keys()
            .copied()
            .filter(|slot| !under_way(slot))
            .collect();
        let topology = self.map.now();
        for slot in free {
            for call in self.parked.remove(&slot).unwrap_or_default() {
                if call.send_by <= now {
                    call.refuse("its slot is on its way to another master");
                } else {
                    self.dispatch(call, &topology);
                }
            }
        }
    }
}

/// The lane has no connection any more; what waits for it was never sent.
fn fail(endpoint: &Endpoint, lane: &mut Lane, cause: &str) {
    let cause = format!("Redis at {endpoint} {cause}");
    tracing::debug!("commands: {cause}");
    for call in lane.waiting.drain(..) {
        call.refuse(&cause);
    }
    // Spread, so that the nodes of a cluster do not all come back in the same moment.
    let spread = lane.pause.mul_f64(rand::random_range(0.5..1.0));
    lane.pause = (lane.pause * 2).min(LONGEST_PAUSE);
    lane.state = State::Away {
        cause,
        again: Instant::now() + spread,
    };
}
