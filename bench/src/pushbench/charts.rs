//! A run as pictures: who was where, who came back, how late messages were, what was lost. Pure.

use std::collections::BTreeSet;

use super::record::{Run, Second};
use crate::chart::lines::{Lines, Series};

/// Names of files, without ending, and what they show.
pub fn of(run: &Run, budget: Option<f64>) -> [(&'static str, Lines); 4] {
    let budget = budget.map(|budget| (budget, "budget".to_owned()));
    [
        ("connections", connections(run)),
        (
            "reconnects",
            lines(
                "Reconnects",
                "a second",
                budget,
                vec![
                    series(run, "reconnects", |s| count(s.reconnects)),
                    series(run, "first connects", |s| count(s.connects)),
                    series(run, "closed or cut off", |s| count(s.closes.values().sum())),
                ],
            ),
        ),
        (
            "latency",
            lines(
                "Delivery latency",
                "milliseconds",
                None,
                vec![
                    series(run, "p50", |s| s.p50_us.and_then(millis)),
                    series(run, "p99", |s| s.p99_us.and_then(millis)),
                ],
            ),
        ),
        (
            "losses",
            lines(
                "Messages that subscribers missed",
                "a second",
                None,
                vec![
                    series(run, "lost", |s| count(s.lost)),
                    series(run, "doubled", |s| count(s.doubled)),
                    series(run, "reordered", |s| count(s.reordered)),
                    series(run, "losses told", |s| count(s.told)),
                ],
            ),
        ),
    ]
}

fn connections(run: &Run) -> Lines {
    let nodes: BTreeSet<&String> = run.seconds.iter().flat_map(|s| s.nodes.keys()).collect();
    let mut all = vec![
        series(run, "wanted", |s| count(s.wanted)),
        series(run, "there", |s| count(s.connected)),
    ];
    all.extend(nodes.into_iter().map(|node| {
        let on = |second: &Second| count(second.nodes.get(node).copied().unwrap_or(0));
        series(run, node, on)
    }));
    lines("Connections", "by node", None, all)
}

fn lines(title: &str, unit: &str, bound: Option<(f64, String)>, series: Vec<Series>) -> Lines {
    Lines {
        title: title.to_owned(),
        unit: unit.to_owned(),
        series,
        bound,
        marks: Vec::new(),
    }
}

fn series(run: &Run, name: &str, value: impl Fn(&Second) -> Option<f64>) -> Series {
    let first = run.seconds.first().map_or(0, |second| second.unix);
    let points = run.seconds.iter().map(|second| {
        let at = count(second.unix - first).unwrap_or(0.0);
        (at, value(second))
    });
    Series {
        name: name.to_owned(),
        points: points.collect(),
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a picture has a thousand pixels"
)]
#[expect(clippy::unnecessary_wraps, reason = "as every value of a series")]
fn count(count: u64) -> Option<f64> {
    Some(count as f64)
}

fn millis(us: u64) -> Option<f64> {
    count(us).map(|us| us / 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pushbench::record::Line;

    #[test]
    fn each_node_has_a_line_also_where_it_had_nobody() {
        let second = |unix, node: &str, p50_us| Second {
            unix,
            nodes: [(node.to_owned(), 3)].into(),
            connected: 3,
            reconnects: 2,
            p50_us,
            ..Second::default()
        };
        let seconds = [second(10, "a", None), second(12, "b", None)];
        let run = Run::of(seconds.map(|second| Line::Second(Box::new(second))));
        let charts = of(&run, Some(5.0));
        let [(_, connections), (_, reconnects), (_, latency), _] = &charts;
        let names: Vec<_> = connections.series.iter().map(|s| &*s.name).collect();
        assert_eq!(names, ["wanted", "there", "a", "b"]);
        assert_eq!(
            connections.series[2].points,
            [(0.0, Some(3.0)), (2.0, Some(0.0))]
        );
        assert_eq!(
            reconnects.series[0].points,
            [(0.0, Some(2.0)), (2.0, Some(2.0))]
        );
        assert_eq!(reconnects.bound, Some((5.0, "budget".to_owned())));
        assert_eq!(latency.series[0].points, [(0.0, None), (2.0, None)]);
    }
}
