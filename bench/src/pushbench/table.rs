//! What came of a run, to read: a line while it goes on, and a table at its end. Pure.

use std::collections::BTreeMap;
use std::fmt;

use super::record::{Run, Second, Stage};

/// How it goes: counts of the seconds since the last line, and how many are there now.
pub fn progress(at: u64, length: u64, second: &Second) -> String {
    let nodes: Vec<_> = second
        .nodes
        .iter()
        .map(|(node, count)| format!("{node} {count}"))
        .collect();
    let ms = |us: Option<u64>| us.map_or_else(|| "-".to_owned(), millis);
    let mut line = format!(
        "{at:>4} of {length} s  {} of {} there ({})  {} came, {} back  {} delivered, p50 {} p99 {} ms",
        second.connected,
        second.wanted,
        nodes.join(", "),
        second.connects,
        second.reconnects,
        second.deliveries,
        ms(second.p50_us),
        ms(second.p99_us),
    );
    if !second.closes.is_empty() {
        line += &format!("  closed: {}", counts(&second.closes));
    }
    if !second.refused.is_empty() {
        line += &format!("  refused: {}", counts(&second.refused));
    }
    let Second {
        lost,
        doubled,
        reordered,
        told,
        ..
    } = second;
    if lost + doubled + reordered + told > 0 {
        line += &format!("  LOST {lost}, doubled {doubled}, reordered {reordered}, told {told}");
    }
    line
}

fn counts(of: &BTreeMap<String, u64>) -> String {
    if of.is_empty() {
        return "none".to_owned();
    }
    let all: Vec<_> = of
        .iter()
        .map(|(what, count)| format!("{what} × {count}"))
        .collect();
    all.join(", ")
}

fn millis(us: u64) -> String {
    format!("{}.{:01}", us / 1_000, us % 1_000 / 100)
}

/// The whole run, a row each.
pub fn table(run: &Run, budget: Option<f64>) -> String {
    let total = run.total();
    let most = |of: fn(&Second) -> u64| run.seconds.iter().map(of).max().unwrap_or(0);
    let ms = |us: Option<u64>| us.map_or_else(|| "-".to_owned(), |us| millis(us) + " ms");
    let peak = most(|second| second.reconnects);
    let peak = match budget {
        Some(budget) => format!("{peak} in a second (budget {budget})"),
        None => format!("{peak} in a second"),
    };
    let rows = [
        (
            "clients",
            format!(
                "{} at most, {} wanted",
                most(|s| s.connected),
                most(|s| s.wanted)
            ),
        ),
        (
            "came, came back",
            format!("{}, {}", total.connects, total.reconnects),
        ),
        ("reconnects at most", peak),
        (
            "reconnects of a client",
            by_reconnects(&run.end.clients_by_reconnects),
        ),
        ("closed", counts(&total.closes)),
        ("refused", counts(&total.refused)),
        (
            "published, not published",
            format!("{}, {}", total.published, total.unpublished),
        ),
        (
            "delivered, recovered",
            format!("{}, {}", total.deliveries, total.recovered),
        ),
        (
            "latency p50, p99, most",
            format!(
                "{}, {}, {}",
                ms(total.p50_us),
                ms(total.p99_us),
                ms(Some(total.max_us))
            ),
        ),
        (
            "lost, doubled, reordered",
            format!("{}, {}, {}", total.lost, total.doubled, total.reordered),
        ),
        ("losses told", total.told.to_string()),
        (
            "at the end",
            format!("{} absent, {} not heard", run.end.absent, run.end.missing),
        ),
    ];
    let rows = rows.map(|(name, value)| (name.to_owned(), value));
    let stages = run.stages.iter().map(|stage| {
        let figures = of_stage(run, stage);
        (
            format!("{}, {} s", stage.name, figures.seconds),
            figures.to_string(),
        )
    });
    rows.into_iter()
        .chain(stages)
        .map(|(name, value)| format!("{name:<26}{value}").trim_end().to_owned() + "\n")
        .collect()
}

/// What a stage did to the clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfStage {
    pub seconds: u64,
    pub reconnects: u64,
    /// Attempts to connect that failed.
    pub refused: u64,
    /// Reconnects of the second with most of them.
    pub peak: u64,
    /// The most that came back in ten seconds, divided by ten: without the jitter of a busy machine.
    pub peak_of_ten: u64,
    pub p50_us: Option<u64>,
    pub p99_us: Option<u64>,
    pub max_us: u64,
    /// Lost, doubled, reordered, and losses that were told.
    pub breaches: [u64; 4],
    pub clients_by_reconnects: BTreeMap<u64, u64>,
}

pub fn of_stage(run: &Run, stage: &Stage) -> OfStage {
    let mut all = Second::default();
    let mut peak = 0;
    for second in run.of_stage(stage) {
        all.add(second);
        peak = peak.max(second.reconnects);
    }
    let ten = |first: u64| {
        let seconds = run
            .of_stage(stage)
            .filter(|s| (first..first + 10).contains(&s.unix));
        seconds.map(|s| s.reconnects).sum::<u64>() / 10
    };
    OfStage {
        seconds: stage.ended - stage.began,
        reconnects: all.reconnects,
        refused: all.refused.values().sum(),
        peak,
        peak_of_ten: (stage.began..stage.ended).map(ten).max().unwrap_or(0),
        p50_us: all.p50_us,
        p99_us: all.p99_us,
        max_us: all.max_us,
        breaches: [all.lost, all.doubled, all.reordered, all.told],
        clients_by_reconnects: stage.clients_by_reconnects.clone(),
    }
}

impl fmt::Display for OfStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |us: Option<u64>| us.map_or_else(|| "-".to_owned(), |us| millis(us) + " ms");
        let [lost, doubled, reordered, told] = self.breaches;
        write!(
            f,
            "{} back, {} in a second, {} a second over ten; p50 {}, p99 {}; {lost} lost, {doubled} doubled, \
             {reordered} reordered, {told} told; {}",
            self.reconnects,
            self.peak,
            self.peak_of_ten,
            ms(self.p50_us),
            ms(self.p99_us),
            by_reconnects(&self.clients_by_reconnects),
        )
    }
}

fn by_reconnects(clients: &BTreeMap<u64, u64>) -> String {
    let all: Vec<_> = clients
        .iter()
        .map(|(reconnects, clients)| format!("{reconnects} × for {clients}"))
        .collect();
    all.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pushbench::record::{End, Line};

    fn second() -> Second {
        let mut second = Second {
            unix: 1,
            wanted: 5,
            connected: 4,
            nodes: BTreeMap::from([("a".to_owned(), 3), ("b".to_owned(), 1)]),
            connects: 2,
            reconnects: 3,
            closes: BTreeMap::from([("1012".to_owned(), 3)]),
            ..Second::default()
        };
        second.delivered(Some(1_500));
        second.finish();
        second
    }

    #[test]
    fn a_line_says_how_it_goes() {
        let mut second = second();
        assert_eq!(
            progress(7, 60, &second),
            "   7 of 60 s  4 of 5 there (a 3, b 1)  2 came, 3 back  1 delivered, p50 1.5 p99 1.5 ms  \
             closed: 1012 × 3"
        );
        second.told = 1;
        assert!(progress(7, 60, &second).ends_with("LOST 0, doubled 0, reordered 0, told 1"));
    }

    #[test]
    fn a_table_has_all_that_is_asked_of_a_run() {
        let end = End {
            absent: 1,
            missing: 2,
            clients_by_reconnects: BTreeMap::from([(0, 2), (1, 3)]),
        };
        let stage = |clients| {
            Line::Stage(Stage {
                name: "rollout".to_owned(),
                began: 1,
                ended: 3,
                clients_by_reconnects: BTreeMap::from([(1, clients)]),
            })
        };
        let run = Run::of([
            Line::Second(Box::new(second())),
            stage(2),
            stage(1),
            Line::End(end),
        ]);
        let expected = "\
clients                   4 at most, 5 wanted
came, came back           2, 3
reconnects at most        3 in a second (budget 100)
reconnects of a client    0 × for 2, 1 × for 3
closed                    1012 × 3
refused                   none
published, not published  0, 0
delivered, recovered      1, 0
latency p50, p99, most    1.5 ms, 1.5 ms, 1.5 ms
lost, doubled, reordered  0, 0, 0
losses told               0
at the end                1 absent, 2 not heard
rollout, 2 s              3 back, 3 in a second, 0 a second over ten; p50 1.5 ms, p99 1.5 ms; 0 lost, 0 doubled, \
0 reordered, 0 told; 1 × for 3
";
        assert_eq!(table(&run, Some(100.0)), expected);
    }
}
