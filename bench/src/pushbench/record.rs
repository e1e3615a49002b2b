//! What is written each second, a line of JSON each, and how the records of several processes become one. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::histogram::Histogram;
use super::judge::Found;

/// A line of a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    Second(Box<Second>),
    Stage(Stage),
    End(End),
}

/// One second of one process, or of all. Counts are of what happened in it, but where said.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Second {
    /// Since 1970.
    pub unix: u64,
    /// Clients that the profile wants, at its end.
    pub wanted: u64,
    /// Clients that have their `welcome`, at its end.
    pub connected: u64,
    /// The same, by the node that `welcome` named.
    pub nodes: BTreeMap<String, u64>,
    /// Connections that were tried.
    pub attempts: u64,
    /// First `welcome` of a client.
    pub connects: u64,
    /// Every later one.
    pub reconnects: u64,
    /// Attempts that failed, by why.
    pub refused: BTreeMap<String, u64>,
    /// Ends of connections that the client did not want, by code or by what came instead of one.
    pub closes: BTreeMap<String, u64>,
    /// Messages that the API took.
    pub published: u64,
    /// Messages that were due and not taken.
    pub unpublished: u64,
    /// Messages that came live.
    pub deliveries: u64,
    /// Messages that came because a client had missed them.
    pub recovered: u64,
    /// Of live messages, in microseconds from when they were sent.
    pub p50_us: Option<u64>,
    pub p99_us: Option<u64>,
    pub max_us: u64,
    pub latency: Histogram,
    pub lost: u64,
    pub doubled: u64,
    pub reordered: u64,
    /// Losses that were told.
    pub told: u64,
}

impl Second {
    pub fn heard(&mut self, found: Found) {
        self.lost += found.lost;
        self.doubled += found.doubled;
        self.reordered += found.reordered;
        self.told += found.told;
    }

    pub fn delivered(&mut self, micros: Option<u64>) {
        self.deliveries += 1;
        if let Some(micros) = micros {
            self.latency.add(micros);
            self.max_us = self.max_us.max(micros);
        }
    }

    /// What is made of the others.
    pub fn finish(&mut self) {
        self.p50_us = self.latency.quantile(500).map(|us| us.min(self.max_us));
        self.p99_us = self.latency.quantile(990).map(|us| us.min(self.max_us));
    }

    /// Another process's, or another second, if only what happened counts.
    pub fn add(&mut self, other: &Second) {
        self.wanted += other.wanted;
        self.connected += other.connected;
        add_all(&mut self.nodes, &other.nodes);
        self.attempts += other.attempts;
        self.connects += other.connects;
        self.reconnects += other.reconnects;
        add_all(&mut self.refused, &other.refused);
        add_all(&mut self.closes, &other.closes);
        self.published += other.published;
        self.unpublished += other.unpublished;
        self.deliveries += other.deliveries;
        self.recovered += other.recovered;
        self.max_us = self.max_us.max(other.max_us);
        self.latency.merge(&other.latency);
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.reordered += other.reordered;
        self.told += other.told;
        self.finish();
    }
}

fn add_all(to: &mut BTreeMap<String, u64>, from: &BTreeMap<String, u64>) {
    for (key, count) in from {
        *to.entry(key.clone()).or_default() += count;
    }
}

/// How a process ended.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Clients that the profile wanted at its end, and that were not connected.
    pub absent: u64,
    /// Messages that subscribers who were there had still not heard when it ended.
    pub missing: u64,
    /// Clients by how often each came back.
    pub clients_by_reconnects: BTreeMap<u64, u64>,
}

impl End {
    pub fn add(&mut self, other: &End) {
        self.absent += other.absent;
        self.missing += other.missing;
        for (reconnects, clients) in &other.clients_by_reconnects {
            *self.clients_by_reconnects.entry(*reconnects).or_default() += clients;
        }
    }
}

/// What was done to the cluster for a while, and how often each client came back meanwhile.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    pub name: String,
    /// Since 1970: its first second, and the first one after it.
    pub began: u64,
    pub ended: u64,
    pub clients_by_reconnects: BTreeMap<u64, u64>,
}

impl Stage {
    /// Another process's of that name, which may have seen the file a moment later.
    fn add(&mut self, other: &Stage) {
        self.began = self.began.min(other.began);
        self.ended = self.ended.max(other.ended);
        for (reconnects, clients) in &other.clients_by_reconnects {
            *self.clients_by_reconnects.entry(*reconnects).or_default() += clients;
        }
    }
}

/// The records of all processes as one.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Run {
    /// In their order; seconds in which nobody wrote are left out.
    pub seconds: Vec<Second>,
    /// In their order; names are said once.
    pub stages: Vec<Stage>,
    pub end: End,
}

impl Run {
    pub fn of(lines: impl IntoIterator<Item = Line>) -> Run {
        let mut seconds: BTreeMap<u64, Second> = BTreeMap::new();
        let (mut stages, mut end) = (Vec::<Stage>::new(), End::default());
        for line in lines {
            match line {
                Line::Second(second) => {
                    let all = seconds.entry(second.unix).or_default();
                    all.unix = second.unix;
                    all.add(&second);
                }
                Line::Stage(one) => match stages.iter_mut().find(|stage| stage.name == one.name) {
                    Some(stage) => stage.add(&one),
                    None => stages.push(one),
                },
                Line::End(one) => end.add(&one),
            }
        }
        Run {
            seconds: seconds.into_values().collect(),
            stages,
            end,
        }
    }

    /// Of everything that happened; what stands at the end of a second (`wanted`, `connected`, `nodes`) means nothing here.
    pub fn total(&self) -> Second {
        let mut total = Second::default();
        for second in &self.seconds {
            total.add(second);
        }
        total
    }

    /// The seconds of a stage.
    pub fn of_stage(&self, stage: &Stage) -> impl Iterator<Item = &Second> {
        let (began, ended) = (stage.began, stage.ended);
        let seconds = self.seconds.iter();
        seconds.filter(move |second| (began..ended).contains(&second.unix))
    }

    /// Whether all that is promised was kept: nothing lost, doubled or reordered, and everybody there at the end.
    pub fn is_good(&self) -> bool {
        let total = self.total();
        total.lost + total.doubled + total.reordered + self.end.absent + self.end.missing == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(unix: u64, node: &str, connected: u64, micros: &[u64]) -> Second {
        let mut second = Second {
            unix,
            connected,
            nodes: BTreeMap::from([(node.to_owned(), connected)]),
            closes: BTreeMap::from([("1012".to_owned(), 2)]),
            ..Second::default()
        };
        for micros in micros {
            second.delivered(Some(*micros));
        }
        second.finish();
        second
    }

    #[test]
    fn records_of_several_processes_are_one() {
        let one = second(7, "a", 10, &[1, 2, 3]);
        let other = second(7, "b", 5, &[60]);
        let later = second(9, "a", 11, &[]);
        let end = |absent, reconnects| End {
            absent,
            missing: 0,
            clients_by_reconnects: BTreeMap::from([(reconnects, 4)]),
        };
        let lines = [
            Line::Second(Box::new(later.clone())),
            Line::Second(Box::new(one)),
            Line::End(end(1, 0)),
            Line::Second(Box::new(other)),
            Line::End(end(0, 1)),
        ];
        let text: Vec<String> = lines
            .iter()
            .map(|line| serde_json::to_string(line).unwrap())
            .collect();
        let read = text.iter().map(|line| serde_json::from_str(line).unwrap());
        let run = Run::of(read);
        assert_eq!(run.seconds.len(), 2);
        let first = &run.seconds[0];
        assert_eq!((first.unix, first.connected, first.deliveries), (7, 15, 4));
        assert_eq!(
            (first.p50_us, first.p99_us, first.max_us),
            (Some(2), Some(60), 60)
        );
        assert_eq!(
            first.nodes,
            BTreeMap::from([("a".into(), 10), ("b".into(), 5)])
        );
        assert_eq!(first.closes["1012"], 4);
        assert_eq!(run.seconds[1], later);
        assert_eq!(
            run.end.clients_by_reconnects,
            BTreeMap::from([(0, 4), (1, 4)])
        );
        assert!(!run.is_good(), "one is absent");
        assert_eq!(run.total().closes["1012"], 6);
    }

    #[test]
    fn what_was_promised_and_not_kept_is_no_good_run() {
        let good = Run::of([Line::Second(Box::new(second(1, "a", 1, &[5])))]);
        assert!(good.is_good());
        for (lost, doubled, reordered, told, is_good) in [
            (1, 0, 0, 0, false),
            (0, 1, 0, 0, false),
            (0, 0, 1, 0, false),
            (0, 0, 0, 1, true),
        ] {
            let mut run = good.clone();
            run.seconds[0].heard(Found {
                lost,
                doubled,
                reordered,
                told,
            });
            assert_eq!(run.is_good(), is_good);
        }
        for end in [(1, 0), (0, 1)] {
            let mut run = good.clone();
            (run.end.absent, run.end.missing) = end;
            assert!(!run.is_good(), "{end:?}");
        }
    }
}
