//! What the rounds came to, in lines and figures.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use e2e::checker::{Breach, Channel, Heard, Outcome};

/// What is wanted from Redis's answering to the first delivery. Reported, and no test: a busy machine takes longer.
const BACK_WITHIN: Duration = Duration::from_secs(3);
/// Shown of the breaches of a channel, and of what was heard before and after each.
const MOST_SHOWN: usize = 10;
const AROUND: usize = 8;

/// Of one kind of fault.
#[derive(Default)]
struct Figures {
    rounds: usize,
    sent: usize,
    accepted: usize,
    heard: usize,
    losses: usize,
    breaches: usize,
    slowest: Option<Duration>,
}

#[derive(Default)]
pub struct Report {
    faults: BTreeMap<String, Figures>,
}

impl Report {
    /// A line about this round, and more of them for each breach: what was heard around it.
    pub fn add(
        &mut self,
        fault: &str,
        channel: &Channel,
        back: Option<Duration>,
        breaches: &[Breach],
    ) -> String {
        let heard = || channel.histories.iter().flat_map(|history| &history.heard);
        let is_accepted = |outcome| matches!(outcome, Outcome::Accepted(_));
        let round = Figures {
            rounds: 1,
            sent: channel.published.len(),
            accepted: channel
                .published
                .iter()
                .filter(|p| is_accepted(p.outcome))
                .count(),
            heard: heard()
                .filter(|h| matches!(h, Heard::Message { .. }))
                .count(),
            losses: heard().filter(|heard| heard.is_loss()).count(),
            breaches: breaches.len(),
            slowest: back,
        };
        let mut line = round.to_string();
        let figures = self.faults.entry(fault.to_owned()).or_default();
        figures.rounds += 1;
        figures.sent += round.sent;
        figures.accepted += round.accepted;
        figures.heard += round.heard;
        figures.losses += round.losses;
        figures.breaches += round.breaches;
        figures.slowest = figures.slowest.max(back);
        if !breaches.is_empty() {
            line += &shown(channel, breaches);
        }
        line
    }

    /// How many there were.
    pub fn breaches(&self) -> usize {
        self.faults.values().map(|figures| figures.breaches).sum()
    }

    /// A line for each kind of fault.
    pub fn table(&self) -> String {
        let rows = self.faults.iter();
        let rows = rows.map(|(fault, figures)| format!("  {fault:<16} {figures}\n"));
        rows.collect()
    }
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} rounds, {} sent, {} accepted, {} heard, {} losses told, {} breaches, back after ",
            self.rounds, self.sent, self.accepted, self.heard, self.losses, self.breaches
        )?;
        match self.slowest {
            None => write!(f, "nobody knows"),
            Some(back) => {
                let missed = if back > BACK_WITHIN {
                    " (too late)"
                } else {
                    ""
                };
                write!(f, "{:.1} s{missed}", back.as_secs_f64())
            }
        }
    }
}

fn shown(channel: &Channel, breaches: &[Breach]) -> String {
    let mut text = String::new();
    for breach in breaches.iter().take(MOST_SHOWN) {
        let _ = write!(text, "\n{breach}");
        let mut histories = channel.histories.iter();
        let history = histories.find(|history| history.name == breach.subscriber);
        let heard = history.map_or(&[][..], |history| &history.heard);
        let first = breach.at.saturating_sub(AROUND);
        for (index, heard) in heard.iter().enumerate().skip(first).take(2 * AROUND) {
            // Writing to a text does not fail.
            let _ = write!(text, "\n    {index}: {heard:?}");
        }
    }
    text
}
