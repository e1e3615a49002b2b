//! The fleet's clients, as the status says them.

use crds::ClientsStatus;

use crate::push_cluster::gateways::clients::Clients;

/// Versions that are named: an upgrade has two.
const MAX_VERSIONS: usize = 5;

pub fn status(clients: &Clients) -> ClientsStatus {
    let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    ClientsStatus {
        connected: number(clients.connected),
        capacity_left: number(clients.capacity_left),
        fewest_per_gateway: number(clients.fewest),
        most_per_gateway: number(clients.most),
        silent_gateways: i32::try_from(clients.silent).unwrap_or(i32::MAX),
    }
}

pub fn versions(clients: &Clients) -> Vec<String> {
    clients
        .versions
        .iter()
        .take(MAX_VERSIONS)
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn who_is_silent_is_told_only_when_somebody_is() {
        for (silent, expected) in [
            (
                0,
                json!({"connected": 30, "capacityLeft": 70, "fewestPerGateway": 10, "mostPerGateway": 20}),
            ),
            (
                2,
                json!({
                    "connected": 30, "capacityLeft": 70, "fewestPerGateway": 10, "mostPerGateway": 20,
                    "silentGateways": 2
                }),
            ),
        ] {
            let known = Clients {
                connected: 30,
                capacity_left: 70,
                fewest: 10,
                most: 20,
                versions: (0..9).map(|number| number.to_string()).collect(),
                silent,
            };
            assert_eq!(json!(status(&known)), expected);
            assert_eq!(versions(&known).len(), MAX_VERSIONS);
        }
    }
}
