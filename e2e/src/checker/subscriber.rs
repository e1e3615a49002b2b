//! One that listens to the channel, wherever it gets a connection, and recovers from where it was.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rand::Rng;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::run::{Fleet, PACE, RECOVERS, connect, number, position};
use super::{End, Heard, Position};

/// Longest life of a roaming subscriber's connection before it goes by itself, in milliseconds.
const LONGEST_STAY_MS: u64 = 1_500;

#[derive(Debug, Clone, Copy)]
pub(super) enum Stay {
    Roaming,
    /// With the gateway in this place.
    At(usize),
}

pub(super) struct Subscriber {
    channel: String,
    fleet: Fleet,
    stay: Stay,
    random: StdRng,
    at: Option<Position>,
    heard: Vec<Heard>,
}

impl Subscriber {
    pub(super) fn new(channel: &str, fleet: Fleet, stay: Stay, random: StdRng) -> Subscriber {
        Subscriber {
            channel: channel.to_owned(),
            fleet,
            stay,
            random,
            at: None,
            heard: Vec::new(),
        }
    }

    /// Listens until it has come to the end, or there is one and its patience is over. `here` counts who was
    /// acknowledged.
    pub(super) async fn run(
        mut self,
        finished: watch::Receiver<Option<End>>,
        here: Arc<AtomicUsize>,
    ) -> Vec<Heard> {
        let mut end = finished.clone();
        let patience = async {
            // The sender is there as long as anybody listens.
            let _ = end.wait_for(Option::is_some).await;
            timeout(RECOVERS, std::future::pending::<()>()).await
        };
        // Who does not come there is found by the judge.
        tokio::select! {
            () = self.come_and_go(finished, &here) => {}
            _ = patience => {}
        }
        self.heard
    }

    async fn come_and_go(
        &mut self,
        mut finished: watch::Receiver<Option<End>>,
        here: &AtomicUsize,
    ) {
        let mut pace = interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            pace.tick().await;
            let until_end = finished.borrow().is_some();
            let stay = match self.stay {
                Stay::Roaming if !until_end => self.random.random_range(1..LONGEST_STAY_MS),
                _ => u64::MAX,
            };
            let listening = self.listen(&mut finished, here);
            if let Ok(Ok(())) = timeout(Duration::from_millis(stay), listening).await {
                return;
            }
            self.heard.push(Heard::Ended);
        }
    }

    /// One connection, until it ends (an error) or the end has been heard.
    async fn listen(
        &mut self,
        finished: &mut watch::Receiver<Option<End>>,
        here: &AtomicUsize,
    ) -> Result<()> {
        let address = match self.stay {
            Stay::Roaming => self.fleet.any(&mut self.random),
            Stay::At(place) => self.fleet.at(place),
        };
        let mut client = connect(address.context("no gateway")?).await?;
        let mut request = json!({"type": "subscribe", "channel": self.channel});
        if let Some(Position { epoch, offset }) = self.at {
            request["recover"] = json!({"epoch": epoch, "offset": offset});
        }
        client.send(&request).await?;
        let mut subscribed = false;
        let mut ended = false;
        loop {
            let end = *finished.borrow_and_update();
            if subscribed && end.is_some_and(|end| self.has_come_to(end)) {
                return Ok(());
            }
            let message = tokio::select! {
                message = client.next() => message?,
                changed = finished.changed(), if !ended => {
                    ended = changed.is_ok();
                    continue;
                }
            };
            match message["type"].as_str() {
                Some("subscribed") => {
                    ensure!(!subscribed, "subscribed twice: {message}");
                    subscribed = true;
                    self.subscribed(&message, here)?;
                }
                Some("chat") => {
                    self.message(&message)?;
                    if let Stay::At(place) = self.stay {
                        self.fleet.hears(place);
                    }
                }
                Some("position") => self.moved(&message)?,
                Some("pong") => {}
                _ => bail!("the gateway says {message}"),
            }
        }
    }

    fn has_come_to(&self, end: End) -> bool {
        let is_end =
            |heard: &Heard| matches!(heard, Heard::Message { number, .. } if *number == end.number);
        // The last messages may come behind it.
        self.at.is_some_and(|at| end.is_before(at)) || self.heard.iter().rev().take(100).any(is_end)
    }

    fn subscribed(&mut self, message: &Value, here: &AtomicUsize) -> Result<()> {
        let at = position(message)?;
        let recovered = message["recovered"].as_bool();
        self.heard.push(Heard::Subscribed { at, recovered });
        if self.at.is_none() {
            here.fetch_add(1, Ordering::Relaxed);
        }
        // What was missed follows, and its offsets with it; the epoch may be a new one.
        let was = self.at.filter(|_| recovered == Some(true));
        let offset = was.map_or(at.offset, |was| was.offset);
        self.at = Some(Position { offset, ..at });
        for missed in message["messages"].as_array().into_iter().flatten() {
            self.message(missed)?;
        }
        Ok(())
    }

    fn moved(&mut self, message: &Value) -> Result<()> {
        let at = position(message)?;
        let recovered = message["recovered"] == true;
        self.heard.push(Heard::Moved { at, recovered });
        self.at = Some(at);
        Ok(())
    }

    fn message(&mut self, message: &Value) -> Result<()> {
        let offset = message["offset"].as_u64().context("an offset")?;
        let number = number(&message["message"])?;
        self.heard.push(Heard::Message { offset, number });
        if let Some(at) = &mut self.at {
            at.offset = offset;
        }
        Ok(())
    }
}
