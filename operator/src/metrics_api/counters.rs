//! What gateways count, in the text format of Prometheus, and how fast it grows. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

const SENT: &str = "websocket_messages_sent_total";
const MEMORY: &str = "pushcluster_memory_used_bytes";

/// Of one gateway.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Counted {
    pub sent: f64,
    pub memory: f64,
}

/// None: it is not what a gateway says.
#[must_use]
pub fn counted(text: &str) -> Option<Counted> {
    Some(Counted {
        // A kind of message that was never sent has no series yet.
        sent: sum(text, SENT).unwrap_or(0.0),
        memory: sum(text, MEMORY)?,
    })
}

/// Of all series of this name.
fn sum(text: &str, name: &str) -> Option<f64> {
    let values: Vec<f64> = text
        .lines()
        .filter_map(|line| line.strip_prefix(name))
        .filter(|rest| rest.starts_with(['{', ' ']))
        .filter_map(|rest| rest.rsplit(' ').next()?.parse().ok())
        .collect();
    (!values.is_empty()).then(|| values.iter().sum())
}

/// Messages in a second, by the pod's name, in thousandths. A gateway that was not there before has sent all it
/// sent since; one that counts less has begun anew.
#[must_use]
pub fn rates(
    before: &BTreeMap<String, Counted>,
    now: &BTreeMap<String, Counted>,
    between: Duration,
) -> BTreeMap<String, u64> {
    let rate = |(pod, counted): (&String, &Counted)| {
        let sent = before.get(pod).map_or(0.0, |before| before.sent);
        let grown = if counted.sent < sent {
            counted.sent
        } else {
            counted.sent - sent
        };
        (pod.clone(), milli(grown / between.as_secs_f64().max(0.001)))
    };
    now.iter().map(rate).collect()
}

/// What is no number is none.
#[must_use]
pub fn milli(number: f64) -> u64 {
    // A cast from a float stops at the ends of what fits.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it stops at 0 and at the greatest number"
    )]
    let milli = (number * 1_000.0).round() as u64;
    milli
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_gateway_counts_is_read_and_what_it_grows_is_a_rate() {
        let text = "# TYPE websocket_messages_sent_total counter\n\
                    websocket_messages_sent_total{type=\"chat\"} 30\n\
                    websocket_messages_sent_total{type=\"room\"} 12\n\
                    websocket_messages_sent_total_more 1\n\
                    pushcluster_memory_used_bytes 5000\n";
        let read = counted(text);
        assert_eq!(
            read,
            Some(Counted {
                sent: 42.0,
                memory: 5_000.0
            })
        );
        assert_eq!(
            counted("pushcluster_memory_used_bytes 1").map(|c| c.sent),
            Some(0.0)
        );
        assert_eq!(counted("<html>"), None);

        let all = |counts: &[(&str, f64)]| {
            let of = counts.iter();
            of.map(|(pod, sent)| {
                (
                    (*pod).to_owned(),
                    Counted {
                        sent: *sent,
                        memory: 0.0,
                    },
                )
            })
            .collect::<BTreeMap<_, _>>()
        };
        let before = all(&[("a", 10.0), ("b", 100.0), ("gone", 7.0)]);
        let now = all(&[("a", 13.0), ("b", 20.0), ("new", 1.0)]);
        let rates = rates(&before, &now, Duration::from_secs(2));
        let expected = [("a", 1_500), ("b", 10_000), ("new", 500)];
        assert_eq!(
            rates,
            expected.map(|(pod, rate)| (pod.to_owned(), rate)).into()
        );
    }
}
