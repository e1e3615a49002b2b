//! What the gateway has counted, series by series.

use std::collections::BTreeMap;

use gateway::protocol::close::CloseCode;

use crate::program::{Gateway, get};
use crate::wait::until;

/// Families in which every increment has a cause that a test can name.
const FAMILIES: [&str; 7] = [
    "pushcluster_api_answers_total",
    "pushcluster_connections_closed_total",
    "pushcluster_errors_total",
    "pushcluster_http_refused_total",
    "pushcluster_outbox_evictions_total",
    "pushcluster_refusals_total",
    "pushcluster_tokens_refused_total",
];
/// Honest clients make this one grow.
const HONEST: &str = r#"pushcluster_api_answers_total{code="ok"}"#;

/// One increment: the series.
pub type Count = String;

pub fn closed(code: CloseCode) -> Count {
    let label = code.label();
    format!("pushcluster_connections_closed_total{{code=\"{label}\"}}")
}

pub fn error(code: &str) -> Count {
    format!("pushcluster_errors_total{{code=\"{code}\"}}")
}

pub fn http(code: &str) -> Count {
    format!("pushcluster_http_refused_total{{code=\"{code}\"}}")
}

pub fn api(code: &str) -> Count {
    format!("pushcluster_api_answers_total{{code=\"{code}\"}}")
}

pub fn limit(name: &str) -> Count {
    format!("pushcluster_refusals_total{{limit=\"{name}\"}}")
}

pub fn token(cause: &str) -> Count {
    format!("pushcluster_tokens_refused_total{{cause=\"{cause}\"}}")
}

pub fn evicted() -> Count {
    "pushcluster_outbox_evictions_total".to_owned()
}

pub fn received(kind: &str) -> Count {
    format!("websocket_messages_received_total{{type=\"{kind}\"}}")
}

async fn now(gateway: &Gateway) -> BTreeMap<String, f64> {
    let text = get(gateway.admin, "/metrics").await.body;
    let lines = text.lines().filter_map(|line| line.rsplit_once(' '));
    let named = lines.filter(|(series, _)| {
        let name = series.split('{').next().unwrap_or_default();
        let known = FAMILIES.contains(&name) || name == "websocket_messages_received_total";
        known && *series != HONEST
    });
    named
        .map(|(series, value)| (series.to_owned(), value.parse().unwrap()))
        .collect()
}

/// As many of a series as there are, where only the gateway knows.
pub async fn as_many(gateway: &Gateway, series: &str, count: Count) -> Vec<Count> {
    let value = gateway.metric(series).await.unwrap();
    vec![count; value.to_string().parse().unwrap()]
}

/// Waits until a gateway that had counted nothing has counted just this: what comes a moment later is waited for, and
/// what should not be there is never forgiven.
pub async fn is_just(gateway: &Gateway, counts: &[Count]) {
    let mut expected: BTreeMap<&str, f64> = BTreeMap::new();
    for count in counts {
        *expected.entry(count).or_default() += 1.0;
    }
    until("all is counted once", || async {
        let found = now(gateway).await;
        let missing = expected
            .keys()
            .filter(|series| !found.contains_key(**series));
        let mut wrong: Vec<_> = missing
            .map(|series| format!("no series {series}"))
            .collect();
        for (series, value) in &found {
            let expected = expected.get(series.as_str()).copied().unwrap_or(0.0);
            if *value != expected {
                wrong.push(format!("{series} is {value}, not {expected}"));
            }
        }
        if wrong.is_empty() {
            Ok(())
        } else {
            Err(wrong.join("\n"))
        }
    })
    .await;
}
