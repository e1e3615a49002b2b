//! Carries out what one shard's clients want, as far as the broker lets it.

use std::future::ready;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::timeout;

use super::publishing::{Posted, Publishing};
use super::reads::{Read, Reads};
use super::*;
use crate::engine::command::Purpose;
use crate::history;

/// A part of a log, or why not.
type Found = Result<history::Page, Refusal>;
/// Who wants it, and what for.
type Asker = (ShardId, ConnectionKey, Purpose);

/// Events taken from a shard at once.
const EVENTS_A_TURN: usize = 256;

/// How long the end of a shard waits for the answers to its last calls.
const LAST_CALLS: Duration = Duration::from_secs(1);

/// Carries out one shard's events.
pub(super) struct ShardTask<B> {
    pub(super) node: Arc<Node<B>>,
    pub(super) shard: ShardId,
    pub(super) wishes: mpsc::Sender<Wish>,
    /// Publishes and questions that may be under way.
    pub(super) calls: usize,
}

/// What has been begun for a shard.
struct UnderWay {
    publishing: Publishing,
    calls: FuturesUnordered<BoxFuture<'static, Option<(ShardId, Command)>>>,
    /// Bounded by who is asked: what waits too long or in too great a crowd is answered at once.
    lookups: FuturesUnordered<BoxFuture<'static, (ShardId, Command)>>,
    /// At most one for each who asks.
    reads: FuturesUnordered<BoxFuture<'static, (Read<Asker>, Found)>>,
    asked: Reads<Asker>,
}

impl<B: Broker> ShardTask<B> {
    /// Ends when the shard has.
    pub(super) async fn run(self, mut events: Inbox) {
        let mut work = UnderWay {
            publishing: Publishing::new(),
            calls: FuturesUnordered::new(),
            lookups: FuturesUnordered::new(),
            reads: FuturesUnordered::new(),
            asked: Reads::default(),
        };
        let mut taken = Vec::with_capacity(EVENTS_A_TURN);
        loop {
            let under_way = work.calls.len() + work.asked.askers() + work.publishing.len();
            // An event may become two calls: a leave and a join.
            let room = self.calls.saturating_sub(under_way).div_ceil(2);
            let room = room.min(EVENTS_A_TURN);
            tokio::select! {
                Some((read, found)) = work.reads.next() => {
                    let (told, next) = tell_all(&mut work.asked, read, &found);
                    work.reads.extend(next.into_iter().map(|read| self.read(read)));
                    // Between the other calls' answers: what thousands are told together holds up nobody.
                    work.calls.extend(told.map(|told| ready(Some(told)).boxed()));
                },
                Some((shard, came)) = work.lookups.next() => self.tell(shard, came).await,
                Some(answer) = work.calls.next() => if let Some((shard, answer)) = answer {
                    self.tell(shard, answer).await;
                },
                () = work.publishing.answered(), if work.publishing.len() > 0 => {
                    let replies = work.publishing.replies(&self.node.metrics);
                    if !replies.is_empty() {
                        self.tell(self.shard, Command::Replies(replies)).await;
                    }
                }
                count = events.recv_many(&mut taken, room), if room > 0 => {
                    if count == 0 {
                        break;
                    }
                    for event in taken.drain(..) {
                        self.carry_out(event, &mut work).await;
                    }
                }
            }
        }
        // Who has left with the shard is told of, too.
        let rest = async {
            while work.calls.next().await.is_some() {}
            while work.publishing.len() > 0 {
                work.publishing.answered().await;
                work.publishing.replies(&self.node.metrics);
            }
        };
        if timeout(LAST_CALLS, rest).await.is_err() {
            tracing::warn!(
                "the broker was asked and has not answered: the end does not wait for it"
            );
        }
    }

    async fn carry_out(&self, event: Event, work: &mut UnderWay) {
        match event {
            Event::Publish {
                key,
                channel,
                message,
                id,
                weight,
                ..
            } => {
                let posted = Posted {
                    key,
                    channel,
                    id,
                    weight,
                };
                work.publishing.post(&self.node, posted, message);
            }
            Event::Interest {
                shard,
                channel,
                round,
            } => {
                let wish = Wish::Interest {
                    shard,
                    channel,
                    round,
                };
                self.wish(wish).await;
            }
            Event::Disinterest { shard, channel } => {
                self.wish(Wish::Disinterest { shard, channel }).await;
            }
            Event::Drained { shard, round } => self.drained(shard, round),
            Event::Told(told) => {
                if let Some(registry) = &self.node.registry {
                    registry.tell(told);
                }
            }
            Event::Held { shard, page } => work.lookups.extend(self.held(shard, page)),
            event => self.ask(event, work),
        }
    }

    /// Begins what has an answer.
    fn ask(&self, event: Event, work: &mut UnderWay) {
        match event {
            Event::AwaitKeys {
                shard,
                key,
                token,
                id,
            } => {
                let asked = self.node.keys.ask();
                let came = async move {
                    asked.await;
                    (shard, Command::KeysCame { key, token, id })
                };
                work.lookups.push(came.boxed());
            }
            Event::AwaitPlace {
                shard,
                key,
                identity,
                id,
                cap,
            } => {
                let place = self.place((shard, key), identity, id, cap);
                work.lookups.push(place);
            }
            Event::Presence(changed) => {
                let told = self.tell_others(changed);
                work.calls.extend(told.map(FutureExt::boxed));
            }
            Event::Members {
                shard,
                key,
                channel,
                id,
            } => work.calls.push(self.members((shard, key), channel, id)),
            Event::History {
                shard,
                key,
                channel,
                range,
                purpose,
            } => {
                let read = work.asked.ask(channel, range, (shard, key, purpose));
                work.reads.extend(read.map(|read| self.read(read)));
            }
            Event::Publish { .. }
            | Event::Interest { .. }
            | Event::Disinterest { .. }
            | Event::Drained { .. }
            | Event::Told(_)
            | Event::Held { .. } => unreachable!("carry_out() has these"),
        }
    }

    fn read(&self, read: Read<Asker>) -> BoxFuture<'static, (Read<Asker>, Found)> {
        let call = self.node.broker.history(read.channel.clone(), read.range);
        let read = async move {
            let found = call.await;
            let found = found.map_err(|error| unread(&read.channel, &error));
            (read, found)
        };
        read.boxed()
    }

    fn drained(&self, shard: ShardId, round: u32) {
        self.node.drained.send_modify(|(latest, shards)| {
            if *latest == round {
                shards.insert(shard);
            }
        });
    }

    async fn wish(&self, wish: Wish) {
        if self.wishes.send(wish).await.is_err() {
            tracing::error!("the hub has ended before the shards");
        }
    }

    async fn tell(&self, shard: ShardId, answer: Command) {
        if let Err(error) = self.node.shards.send(shard, answer).await {
            tracing::debug!(%error, "answer dropped");
        }
    }
}

/// What those are told whom this read answers, and what is to be read then.
fn tell_all(
    asked: &mut Reads<Asker>,
    read: Read<Asker>,
    found: &Found,
) -> (impl Iterator<Item = (ShardId, Command)>, Vec<Read<Asker>>) {
    let channel = read.channel.clone();
    let (answers, next) = asked.ended(read, found);
    let told = answers.into_iter().map(move |(asker, found)| {
        let ((shard, key, purpose), channel) = (asker, channel.clone());
        let answer = Command::History {
            key,
            channel,
            purpose,
            found,
        };
        (shard, answer)
    });
    (told, next)
}
