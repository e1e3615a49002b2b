//! Carries out what one shard's clients want, as far as the broker lets it.

use std::future::ready;

use super::reads::{Read, Reads};
use super::*;
use crate::engine::command::Purpose;
use crate::history;

/// A part of a log, or why not.
type Found = Result<history::Page, Refusal>;
/// Who wants it, and what for.
type Asker = (ShardId, ConnectionKey, Purpose);

/// Carries out one shard's events.
pub(super) struct ShardTask<B> {
    pub node: Arc<Node<B>>,
    pub wishes: mpsc::Sender<Wish>,
    /// Publishes and questions that may be under way.
    pub calls: usize,
}

impl<B: Broker> ShardTask<B> {
    /// Ends when the shard has.
    pub(super) async fn run(self, mut events: Inbox) {
        let mut calls = FuturesUnordered::new();
        // Bounded by who is asked: what waits too long or in too great a crowd is answered at once.
        let mut lookups = FuturesUnordered::new();
        // At most one for each who asks.
        let mut reads = FuturesUnordered::new();
        let mut asked = Reads::default();
        loop {
            tokio::select! {
                Some((read, found)) = reads.next() => {
                    let (told, next) = tell_all(&mut asked, read, &found);
                    reads.extend(next.into_iter().map(|read| self.read(read)));
                    // Between the other calls' answers: what thousands are told together holds up nobody.
                    calls.extend(told.map(|told| Either::Right(Either::Right(Either::Right(ready(Some(told)))))));
                },
                Some((shard, came)) = lookups.next() => self.tell(shard, came).await,
                Some(answer) = calls.next() => if let Some((shard, answer)) = answer {
                    self.tell(shard, answer).await;
                },
                event = events.recv(), if calls.len() + asked.askers() < self.calls => match event {
                    None => break,
                    Some(Event::Interest { shard, channel, round }) => {
                        self.wish(Wish::Interest { shard, channel, round }).await;
                    }
                    Some(Event::Disinterest { shard, channel }) => {
                        self.wish(Wish::Disinterest { shard, channel }).await;
                    }
                    Some(Event::Drained { shard, round }) => self.drained(shard, round),
                    Some(Event::AwaitKeys { shard, key, token, id }) => {
                        let asked = self.node.keys.ask();
                        lookups.push(async move {
                            asked.await;
                            (shard, Command::KeysCame { key, token, id })
                        }.boxed());
                    }
                    Some(Event::AwaitPlace { shard, key, identity, id, cap }) => {
                        lookups.push(self.place((shard, key), identity, id, cap));
                    }
                    Some(Event::Publish { shard, key, channel, message, id, weight }) => {
                        let (call, metrics) = (self.node.publish(channel, message), self.node.metrics.clone());
                        calls.push(Either::Left(async move {
                            let result = call.await;
                            drop(weight);
                            let frame = published(result, id.as_ref(), &metrics);
                            frame.map(|frame| (shard, Command::Reply { key, frame }))
                        }));
                    }
                    Some(Event::Presence(changed)) => {
                        let told = self.tell_others(changed);
                        calls.extend(told.map(|told| Either::Right(Either::Left(told))));
                    }
                    Some(Event::Told(told)) => if let Some(registry) = &self.node.registry {
                        registry.tell(told);
                    },
                    Some(Event::Held { shard, page }) => lookups.extend(self.held(shard, page)),
                    Some(Event::Members { shard, key, channel, id }) => {
                        let members = self.members((shard, key), channel, id);
                        calls.push(Either::Right(Either::Right(Either::Left(members))));
                    }
                    Some(Event::History { shard, key, channel, range, purpose }) => {
                        let read = asked.ask(channel, range, (shard, key, purpose));
                        reads.extend(read.map(|read| self.read(read)));
                    }
                }
            }
        }
        // Who has left with the shard is told of, too.
        let rest = async { while calls.next().await.is_some() {} };
        if timeout(LAST_CALLS, rest).await.is_err() {
            tracing::warn!(
                "the broker was asked and has not answered: the end does not wait for it"
            );
        }
    }

    fn read(&self, read: Read<Asker>) -> impl Future<Output = (Read<Asker>, Found)> + use<'_, B> {
        let call = self.node.broker.history(read.channel.clone(), read.range);
        async move {
            let found = call.await;
            let found = found.map_err(|error| unread(&read.channel, &error));
            (read, found)
        }
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
