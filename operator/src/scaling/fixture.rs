//! Gateways for tests.

use k8s_openapi::jiff::Timestamp;

use super::{Cause, Fleet, Gateway, Mark, Policy};
use crate::push_cluster::gateways::clients::Node;

/// Connections that each may have.
pub const MAX: u64 = 100;

pub fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + second).unwrap()
}

/// One that takes clients.
pub fn gateway(pod: &str, clients: u64) -> Gateway {
    Gateway {
        pod: pod.into(),
        ready: true,
        ending: false,
        is_old: false,
        serving: Some(true),
        listed: false,
        cordoned: false,
        misbehaves: false,
        node: Some(Node {
            version: "1".into(),
            connections: clients,
            max_connections: MAX,
            draining: false,
            impaired: None,
        }),
        pace: None,
        mark: None,
    }
}

/// The same on a node that is about to be emptied.
pub fn cordoned(gateway: Gateway) -> Gateway {
    Gateway {
        cordoned: true,
        ..gateway
    }
}

/// The same, told to end.
pub fn ending(gateway: Gateway) -> Gateway {
    Gateway {
        ending: true,
        ready: false,
        ..gateway
    }
}

/// What a pod carries that somebody else ends since second 0, with 60 clients, and that no EndpointSlice lists.
pub fn ended(gateway: Gateway) -> Gateway {
    Gateway {
        serving: Some(false),
        mark: Some(Mark {
            cause: Cause::Ended,
            ..mark()
        }),
        ..ending(gateway)
    }
}

pub fn unready(pod: &str, clients: u64) -> Gateway {
    Gateway {
        ready: false,
        ..gateway(pod, clients)
    }
}

/// One that does not answer.
pub fn silent(pod: &str, ready: bool) -> Gateway {
    Gateway {
        ready,
        node: None,
        ..gateway(pod, 0)
    }
}

/// One that drains, whoever began it.
pub fn draining(pod: &str, clients: u64, pace: u32) -> Gateway {
    let mut gateway = unready(pod, clients);
    gateway.pace = Some(pace);
    if let Some(node) = &mut gateway.node {
        node.draining = true;
    }
    gateway
}

/// What a pod carries that goes with a scale-in begun at second 0 with 60 clients, and that no EndpointSlice lists.
pub fn mark() -> Mark {
    Mark {
        cause: Cause::ScaleIn,
        since: at(0),
        clients: 60,
        down_to: 0,
        unlisted: Some(at(0)),
        given_up: None,
    }
}

/// One that was taken out of the Service at second 0, and sends nobody away yet.
pub fn marked(pod: &str, clients: u64) -> Gateway {
    Gateway {
        serving: Some(false),
        mark: Some(mark()),
        ..gateway(pod, clients)
    }
}

/// One that sends its clients away since then.
pub fn leaving(pod: &str, clients: u64, pace: u32) -> Gateway {
    Gateway {
        serving: Some(false),
        mark: Some(mark()),
        ..draining(pod, clients, pace)
    }
}

/// One that is to be deleted, so that there are so many.
pub fn given_up(pod: &str, wished: usize) -> Gateway {
    Gateway {
        mark: Some(Mark {
            given_up: Some(wished),
            ..mark()
        }),
        ..leaving(pod, 0, 5)
    }
}

/// Ten reconnects each second, and a deadline of thirty seconds.
pub fn fleet(wished: usize, size: usize, gateways: Vec<Gateway>) -> Fleet {
    Fleet {
        wished,
        size,
        rolling: false,
        policy: Policy {
            reconnects_per_second: Some(10),
            handshakes_per_second: 0,
            deadline_seconds: 30,
        },
        gateways,
    }
}
