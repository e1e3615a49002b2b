//! Reads the logs of channels in which something is, or may be, missing. So many at a time: after an outage all
//! channels of all nodes want theirs read in the same moment.

use indexmap::IndexSet;
use serde_json::value::to_raw_value;

use super::track::{Checked, Out, Received, Track};
use super::*;
use crate::broker::{Health, HistoryError, unix_ms};
use crate::history::Page;
use crate::message::{Message, Position};
use crate::metrics::GapFill;

/// Logs that are read at the same time. Each answer is at most `max_history_bytes` of messages.
const READS_AT_ONCE: usize = 32;
/// After a log could not be read, until the next is.
const READ_RETRY: Duration = Duration::from_millis(500);

/// Logs that are to be read.
#[derive(Default)]
pub(super) struct Logs {
    /// Each once, so at most as many as this node has channels.
    wanted: IndexSet<ChannelName>,
    under_way: usize,
    /// Until [`READ_RETRY`] has passed.
    paused: bool,
    last_number: u64,
}

impl<B: Broker, S: Shards> Hub<B, S> {
    /// Subscribes, and asks where the log stands if there is one: whatever comes after that is not missed unseen.
    pub(super) fn subscribe(&mut self, channel: ChannelName) {
        let broker = self.broker.clone();
        let call = broker.subscribe(channel.clone());
        let range = self.rules.load().range(&channel, None);
        // Only where it stands.
        let range = range.map(|range| Range { limit: 0, ..range });
        self.calls.push(Box::pin(async move {
            // The client is told without the cause, which may name hosts.
            if let Err(error) = call.await {
                return Done::Failed(channel, error.cause);
            }
            let Some(range) = range else {
                return Done::Subscribed(channel, None);
            };
            match broker.history(channel.clone(), range).await {
                Ok(page) => Done::Subscribed(channel, Some(page.top)),
                Err(error) => {
                    broker.unsubscribe(channel.clone()).await;
                    Done::Failed(channel, error.cause)
                }
            }
        }));
    }

    /// Why a subscribe failed.
    pub(super) fn tell_once(&mut self, channel: &ChannelName, cause: String) {
        if self.told.as_ref() == Some(&cause) {
            tracing::debug!(%channel, "subscribing at the broker failed: {cause}");
            return;
        }
        tracing::warn!(%channel, "subscribing at the broker failed: {cause}");
        self.told = Some(cause);
    }

    /// A channel was subscribed. While a part of the broker is away, others go on, and its cause stays told.
    pub(super) fn told_no_more(&mut self) {
        if self.told.is_some() && !matches!(self.broker.health(), Health::NotDelivering(_)) {
            self.told = None;
        }
    }

    /// The log of a channel that is being subscribed stood there.
    pub(super) fn stands(&mut self, channel: &ChannelName, top: Position) {
        let Some(track) = self.channels.track_kept(channel) else {
            return;
        };
        track.begin(top);
        if track.wants_log() {
            self.logs.wanted.insert(channel.clone());
        }
    }

    /// A delivery has come: it and what follows from it goes to the shards.
    pub(super) async fn receive(&mut self, delivery: Delivery) {
        let channel = &delivery.channel;
        let track = match delivery.position {
            Some(_) => self.channels.track_kept(channel),
            None => self.channels.track(channel),
        };
        let Some(track) = track else {
            return self.deliver(delivery).await;
        };
        let channel = channel.clone();
        let mut out = std::mem::take(&mut self.out);
        match track.receive(delivery, &mut out) {
            Received::Delivered | Received::Waits => {}
            Received::Duplicate => self.metrics.gaps().duplicate(),
            Received::Overflowed => tracing::debug!(%channel, "left to the log"),
        }
        if track.wants_log() {
            self.logs.wanted.insert(channel.clone());
        }
        self.hand_out(&channel, out).await;
    }

    /// Messages of these may be missed from now on.
    pub(super) fn lost(&mut self, channels: &[ChannelName]) {
        for channel in channels {
            if let Some(track) = self.track_of(channel) {
                track.away();
            }
        }
    }

    /// These are subscribed again: their logs, and no others, tell what was missed.
    pub(super) fn restored(&mut self, channels: &[ChannelName]) {
        for channel in channels {
            let Some(track) = self.track_of(channel) else {
                continue;
            };
            track.back();
            if track.wants_log() {
                self.logs.wanted.insert(channel.clone());
            }
        }
        let (channels, logs) = (channels.len(), self.logs.wanted.len());
        tracing::debug!(channels, logs, "subscribed again; logs are to be read");
    }

    /// Of a channel with history, also while it is asked where its log stands: the answer may be of before the loss.
    fn track_of(&mut self, channel: &ChannelName) -> Option<&mut Track> {
        let is_kept = || self.rules.load().range(channel, None).is_some();
        if self.channels.is_subscribing(channel) && is_kept() {
            return self.channels.track_kept(channel);
        }
        self.channels.track(channel)
    }

    /// Asks for as many logs as may be read now.
    pub(super) async fn read_logs(&mut self) {
        while !self.logs.paused && self.logs.under_way < READS_AT_ONCE {
            let Some(channel) = self.logs.wanted.pop() else {
                return;
            };
            let Some(track) = self.channels.track(&channel) else {
                continue;
            };
            let number = self.logs.last_number + 1;
            let Some(since) = track.ask(number) else {
                continue;
            };
            self.logs.last_number = number;
            let Some(range) = self.rules.load().range(&channel, Some(since)) else {
                self.untrack(&channel).await;
                continue;
            };
            self.logs.under_way += 1;
            let call = self.broker.history(channel.clone(), range);
            self.calls.push(Box::pin(async move {
                let found = call.await;
                Done::Read(channel, number, found)
            }));
        }
    }

    pub(super) async fn log_read(
        &mut self,
        channel: ChannelName,
        number: u64,
        found: Result<Page, HistoryError>,
    ) {
        self.logs.under_way -= 1;
        let Some(track) = self.channels.track(&channel) else {
            return;
        };
        let mut out = std::mem::take(&mut self.out);
        let fill = match found {
            Ok(page) => match track.answer(number, &page, &mut out) {
                Checked::Whole => Some(GapFill::Whole),
                Checked::Filled => Some(GapFill::Filled),
                Checked::Lost => Some(GapFill::Lost),
                Checked::NewEpoch => Some(GapFill::NewEpoch),
                Checked::Stale => None,
            },
            Err(error) => track.failed(number).then(|| {
                tracing::debug!(%error, "a gap is not filled yet");
                GapFill::Unread
            }),
        };
        if track.wants_log() {
            self.logs.wanted.insert(channel.clone());
        }
        if let Some(fill) = fill {
            self.metrics.gaps().read(fill);
        }
        if fill == Some(GapFill::Unread) && !std::mem::replace(&mut self.logs.paused, true) {
            self.calls.push(Box::pin(async {
                tokio::time::sleep(READ_RETRY).await;
                Done::ReadOn
            }));
        }
        if matches!(fill, Some(GapFill::Lost | GapFill::NewEpoch)) {
            tracing::info!(%channel, "its log does not have all that was missed, or is a new one");
        }
        self.hand_out(&channel, out).await;
    }

    pub(super) fn read_on(&mut self) {
        self.logs.paused = false;
    }

    /// The channel lost its history while something was missing.
    async fn untrack(&mut self, channel: &ChannelName) {
        let Some(mut track) = self.channels.untrack(channel) else {
            return;
        };
        for delivery in track.give_up() {
            self.deliver(delivery).await;
        }
    }

    async fn hand_out(&mut self, channel: &ChannelName, mut out: Vec<Out>) {
        for next in out.drain(..) {
            let delivery = match next {
                Out::Delivery(delivery) => delivery,
                Out::Filled(position, message) => {
                    self.metrics.gaps().filled();
                    Delivery {
                        channel: channel.clone(),
                        message,
                        position: Some(position),
                    }
                }
                Out::Moved {
                    position,
                    recovered,
                } => moved(channel, position, recovered),
            };
            self.deliver(delivery).await;
        }
        // The list keeps its memory for the next time, unless that was much.
        out.shrink_to(DELIVERIES_A_TURN);
        self.out = out;
    }
}

fn moved(channel: &ChannelName, position: Position, recovered: bool) -> Delivery {
    let data = to_raw_value(&recovered).expect("a bool always serialises");
    Delivery {
        channel: channel.clone(),
        message: Message {
            kind: MessageKind::Position,
            data: data.into(),
            from: None,
            timestamp: unix_ms(),
            except: None,
            only: None,
        },
        position: Some(position),
    }
}
