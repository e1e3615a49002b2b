//! Whether gateways hear each other: messages really sent through the broker, from a few of them to all. Pure.

use std::fmt;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde::{Deserialize, Serialize};

use super::in_order;
use crate::push_cluster::status::is_of;
use crate::readiness::is_ready;

/// Gateways that publish in a round. Each message goes to every gateway, and who publishes changes with time.
pub const MAX_PUBLISHERS: usize = 4;
/// How long a round is. A message takes milliseconds; a gateway that has other things to do may need longer.
pub const ROUND_SECONDS: u64 = 2;

/// What is asked of each gateway (`POST /probe`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Round {
    pub round: String,
    pub from: Vec<String>,
    pub seconds: u64,
}

/// What one answered.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct Heard {
    pub heard: Vec<String>,
    #[serde(default)]
    pub failed: Option<String>,
}

/// What all answered.
#[derive(Debug, Default)]
pub struct Delivery {
    /// The pods that were to publish.
    pub from: Vec<String>,
    /// None: the pod did not answer, or cannot tell.
    pub pods: Vec<(String, Option<Heard>)>,
}

/// What is made of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivering {
    NoGateway,
    /// Nobody answered.
    Unknown,
    /// This many of so many heard all that was published, and no other could tell.
    Yes {
        heard: usize,
        of: usize,
    },
    /// What is wrong, for each pod.
    No(Vec<Deaf>),
}

/// One that did not hear all that was published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deaf {
    pub pod: String,
    /// Those that it did not hear. Empty: it could not listen, or not publish.
    pub missing: Vec<String>,
    why: String,
}

impl fmt::Display for Deaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl Deaf {
    pub fn to(pod: &str, missing: Vec<String>) -> Deaf {
        let from = missing.join(", ");
        Deaf {
            why: format!("pod {pod} did not hear what was published on {from}"),
            pod: pod.into(),
            missing,
        }
    }

    pub fn failed(pod: &str, why: &str) -> Deaf {
        Deaf {
            why: format!("pod {pod}: {why}"),
            pod: pod.into(),
            missing: Vec::new(),
        }
    }
}

/// Whom to ask: those that take clients. While there is none, those that have begun, for they know why.
pub fn asked(pods: &[Pod]) -> Vec<&Pod> {
    let running = in_order(pods);
    let ready: Vec<&Pod> = running
        .iter()
        .copied()
        .filter(|pod| is_ready(pod) && is_of(pod, "gateway"))
        .collect();
    if ready.is_empty() { running } else { ready }
}

/// `turn`: another number each time, so that with many gateways each publishes now and then.
pub fn publishers(pods: &[&Pod], turn: usize) -> Vec<String> {
    let first = turn.checked_rem(pods.len()).unwrap_or(0);
    let around = pods.iter().cycle().skip(first);
    let many = pods.len().min(MAX_PUBLISHERS);
    around.take(many).map(|pod| pod.name_any()).collect()
}

impl Delivery {
    /// A gateway that did not answer did perhaps not publish either, so nobody is blamed for not hearing it.
    pub fn verdict(&self) -> Delivering {
        let told = |pod: &String| {
            let mut pods = self.pods.iter();
            pods.any(|(name, heard)| name == pod && heard.is_some())
        };
        let published: Vec<&String> = self.from.iter().filter(|pod| told(pod)).collect();
        let mut wrong = Vec::new();
        let mut good = 0;
        for (pod, heard) in &self.pods {
            let Some(heard) = heard else { continue };
            match missing(pod, heard, &published) {
                None => good += 1,
                Some(what) => wrong.push(what),
            }
        }
        match (self.pods.len(), good, wrong.is_empty()) {
            (0, ..) => Delivering::NoGateway,
            (_, _, false) => Delivering::No(wrong),
            (_, 0, true) => Delivering::Unknown,
            // Nobody published of whom anything is known.
            _ if published.is_empty() => Delivering::Unknown,
            (of, heard, true) => Delivering::Yes { heard, of },
        }
    }
}

fn missing(pod: &str, heard: &Heard, published: &[&String]) -> Option<Deaf> {
    if let Some(why) = &heard.failed {
        return Some(Deaf::failed(pod, why));
    }
    let missing = published.iter().filter(|from| !heard.heard.contains(from));
    let missing: Vec<String> = missing.map(|from| (*from).clone()).collect();
    (!missing.is_empty()).then(|| Deaf::to(pod, missing))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, ready: bool) -> Pod {
        let ready = if ready { "True" } else { "False" };
        serde_json::from_value(json!({
            "metadata": {"name": name, "labels": {"app.kubernetes.io/component": "gateway"}},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]},
        }))
        .unwrap()
    }

    #[test]
    fn those_who_take_clients_are_asked_and_otherwise_those_who_know_why_not() {
        for (pods, expected) in [
            (vec![], &[][..]),
            (vec![pod("b", true), pod("a", true)], &["a", "b"]),
            (vec![pod("b", true), pod("a", false)], &["b"]),
            (vec![pod("b", false), pod("a", false)], &["a", "b"]),
        ] {
            let names: Vec<String> = asked(&pods).into_iter().map(|pod| pod.name_any()).collect();
            assert_eq!(names, expected);
        }
    }

    #[test]
    fn everybody_publishes_in_turn() {
        let pods: Vec<Pod> = ["a", "b", "c", "d", "e"].map(|name| pod(name, true)).into();
        let pods: Vec<&Pod> = pods.iter().collect();
        for (count, turn, expected) in [
            (0, 7, &[][..]),
            (1, 7, &["a"]),
            (3, 1, &["b", "c", "a"]),
            (5, 0, &["a", "b", "c", "d"]),
            (5, 9, &["e", "a", "b", "c"]),
        ] {
            assert_eq!(publishers(&pods[..count], turn), expected, "{count} {turn}");
        }
    }

    #[test]
    fn what_answers_come_to() {
        let heard = |names: &[&str]| {
            Some(Heard {
                heard: names.iter().map(|&name| name.into()).collect(),
                failed: None,
            })
        };
        let failed = Some(Heard {
            failed: Some("connect: refused".into()),
            ..Heard::default()
        });
        let all = || heard(&["b", "a"]);
        let no = |what: &[&str]| {
            Err::<Delivering, Vec<String>>(what.iter().map(|&what| what.into()).collect())
        };
        let yes = |heard, of| Ok(Delivering::Yes { heard, of });
        for (answers, expected) in [
            (vec![], Ok(Delivering::NoGateway)),
            (vec![all(), all(), all()], yes(3, 3)),
            (vec![heard(&["a"])], yes(1, 1)),
            // One cannot tell, and nobody is blamed for not hearing it.
            (vec![all(), all(), None], yes(2, 3)),
            (vec![heard(&["a"]), None, heard(&["a"])], yes(2, 3)),
            (vec![None, None], Ok(Delivering::Unknown)),
            (vec![None, None, heard(&[])], Ok(Delivering::Unknown)),
            (
                vec![all(), all(), heard(&["a"])],
                no(&["pod c did not hear what was published on b"]),
            ),
            (
                vec![heard(&["a"]), heard(&["b"])],
                no(&[
                    "pod a did not hear what was published on b",
                    "pod b did not hear what was published on a",
                ]),
            ),
            (
                vec![heard(&[]), all()],
                no(&["pod a did not hear what was published on a, b"]),
            ),
            (vec![all(), all(), failed], no(&["pod c: connect: refused"])),
        ] {
            let names = ["a", "b", "c"].map(String::from);
            let delivery = Delivery {
                from: names[..2].to_vec(),
                pods: names.into_iter().zip(answers).collect(),
            };
            let found = match delivery.verdict() {
                Delivering::No(wrong) => Err(wrong.iter().map(Deaf::to_string).collect()),
                verdict => Ok(verdict),
            };
            assert_eq!(found, expected, "{delivery:?}");
        }
    }
}
