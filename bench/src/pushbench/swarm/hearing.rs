//! What clients hear, and what they do about it.

use std::cmp::Reverse;
use std::time::{Duration, Instant, UNIX_EPOCH};

use super::{OVERTIME, Swarm};
use crate::pushbench::client::{Judged, State};
use crate::pushbench::comeback::End;
use crate::pushbench::dialect::Heard;
use crate::pushbench::judge::{Found, Judge, Position};
use crate::pushbench::spoken::{Message, Payload, Said};

impl Swarm {
    /// Everything in the inbox of a client that has shaken hands.
    pub(super) fn hear(&mut self, index: usize) -> Result<(), End> {
        let client = &mut self.clients[index];
        let (State::Greeting(link) | State::There { link, .. }) = &mut client.state else {
            return Ok(());
        };
        let now = Instant::now();
        for heard in client.dialect.take(&mut link.inbox, now) {
            self.hears(index, heard)?;
        }
        Ok(())
    }

    fn hears(&mut self, index: usize, heard: Heard) -> Result<(), End> {
        match heard {
            Heard::Said(said) => self.said(index, said),
            Heard::Asked(answer) => self.send(index, &answer),
            Heard::Ended(end) => {
                if let End::Denied(why) = &end {
                    self.complain(&format!("client {index} is denied: {why}"));
                }
                Err(end)
            }
            Heard::Strange(why) => {
                self.complain(&format!("client {index} does not understand: {why}"));
                Err(End::Strange)
            }
        }
    }

    fn send(&mut self, index: usize, bytes: &[u8]) -> Result<(), End> {
        match &mut self.clients[index].state {
            State::Greeting(link) | State::There { link, .. } => {
                link.send(bytes).map_err(|_| End::Cut)
            }
            _ => Ok(()),
        }
    }

    fn said(&mut self, index: usize, said: Said) -> Result<(), End> {
        match said {
            Said::Welcome {
                node,
                silence,
                is_resumed,
            } => {
                self.welcomed(index, node, silence)?;
                if is_resumed {
                    self.clients[index].resumed();
                    return Ok(());
                }
                self.subscribe(index)
            }
            Said::Subscribed {
                channel,
                at,
                recovered,
                missed,
            } => {
                self.judged(index, &channel, at, |judge| judge.subscribed(at, recovered));
                if let Some(number) = self.channel(&channel)
                    && let Some(subscription) = self.clients[index].on(number)
                {
                    subscription.is_acknowledged = true;
                    // They follow, over WebSocket in the acknowledgement itself.
                    let missed = at.filter(|_| recovered == Some(true));
                    subscription.missed_to = missed.map_or(0, |at| at.offset);
                }
                for message in missed {
                    self.message(index, &channel, message, true);
                }
                Ok(())
            }
            Said::Message { channel, message } => {
                self.message(index, &channel, message, false);
                Ok(())
            }
            Said::Missed { channel, message } => {
                self.message(index, &channel, message, true);
                Ok(())
            }
            Said::Moved {
                channel,
                at,
                recovered,
            } => {
                self.judged(index, &channel, Some(at), |judge| {
                    judge.moved(at, recovered)
                });
                Ok(())
            }
            Said::Reconnect { after_ms } => {
                let due = Instant::now() + Duration::from_millis(after_ms);
                let client = &mut self.clients[index];
                client.advice = Some(due);
                let timer = (due + OVERTIME, index, client.generation);
                self.timers.push(Reverse(timer));
                Ok(())
            }
            Said::Close { code, reason } => Err(End::Closed { code, reason }),
            Said::Error { code, message } => {
                self.complain(&format!("client {index} is told {code}: {message}"));
                Err(End::Error(code))
            }
            Said::Other => Ok(()),
        }
    }

    fn welcomed(&mut self, index: usize, node: String, silence: Duration) -> Result<(), End> {
        let client = &mut self.clients[index];
        let State::Greeting(link) = client.change(State::Absent) else {
            return Err(End::Strange);
        };
        let known = self.nodes.iter().position(|(name, _)| *name == node);
        let node = known.unwrap_or_else(|| {
            self.nodes.push((node, 0));
            self.nodes.len() - 1
        });
        self.nodes[node].1 += 1;
        client.change(State::There {
            link,
            node,
            silence,
        });
        if client.welcomed() {
            self.tally.reconnects += 1;
        } else {
            self.tally.connects += 1;
        }
        Ok(())
    }

    fn subscribe(&mut self, index: usize) -> Result<(), End> {
        let client = &self.clients[index];
        let channels = client.subscriptions.iter().map(|subscription| {
            let channel = &*self.settings.channels[subscription.channel];
            (channel, subscription.judge.position())
        });
        let frames = client.dialect.subscribe(channels);
        self.send(index, &frames)
    }

    fn message(&mut self, index: usize, channel: &str, message: Message, is_missed: bool) {
        let Message { offset, payload } = message;
        let stamp = payload.map(Payload::stamp);
        let at = self.judged(index, channel, None, |judge| judge.message(offset, stamp));
        let Some(number) = self.channel(channel) else {
            return;
        };
        let subscription = self.clients[index].on(number);
        let missed_to = subscription.map_or(0, |subscription| subscription.missed_to);
        if is_missed || offset.is_some_and(|offset| offset <= missed_to) {
            self.tally.recovered += 1;
        } else {
            self.tally
                .delivered(payload.map(|payload| since(payload.sent)));
        }
        if let Some(at) = at {
            self.reached(number, at);
        }
    }

    /// Judges one event of a subscription and counts what was found; `top` is where the log stands. Gives out where the
    /// subscriber stands now.
    fn judged(
        &mut self,
        index: usize,
        channel: &str,
        top: Option<Position>,
        event: impl FnOnce(&mut Judge) -> Found,
    ) -> Option<Position> {
        let number = self.channel(channel)?;
        if let Some(top) = top {
            self.reached(number, top);
        }
        let client = &mut self.clients[index];
        let subscription = client.on(number)?;
        let Judged { found, before } = subscription.judged(event);
        let now = subscription.judge.position();
        self.tally.heard(found);
        if found.is_breach() {
            let (number, node) = (client.number, self.node_of(index));
            self.complain(&format!(
                "client {number} in {channel} at {node}: {found:?} between {before:?} and {now:?}"
            ));
        }
        now
    }

    fn node_of(&self, index: usize) -> String {
        match &self.clients[index].state {
            State::There { node, .. } => self.nodes[*node].0.clone(),
            _ => "nobody".to_owned(),
        }
    }

    fn reached(&mut self, channel: usize, at: Position) {
        let top = &mut self.tops[channel];
        match top {
            Some(top) if top.epoch == at.epoch => top.offset = top.offset.max(at.offset),
            _ => *top = Some(at),
        }
    }

    /// Index of a channel's name, if it is one of ours.
    fn channel(&self, name: &str) -> Option<usize> {
        self.numbers.get(name).copied()
    }
}

/// Microseconds from then to now.
fn since(sent: u64) -> u64 {
    now_micros().saturating_sub(sent)
}

/// Since 1970.
pub fn now_micros() -> u64 {
    let now = UNIX_EPOCH.elapsed().unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}
