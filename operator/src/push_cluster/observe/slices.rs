//! Which pods a Service sends connections to, as its EndpointSlices say. Pure.

use std::collections::BTreeSet;

use k8s_openapi::api::discovery::v1::EndpointSlice;

/// For a list of EndpointSlices.
pub fn selector(service: &str) -> String {
    format!("kubernetes.io/service-name={service}")
}

/// The names of the pods that are ready there. One whose readiness is not known counts as ready, as the API has it.
pub fn ready(slices: Vec<EndpointSlice>) -> BTreeSet<String> {
    let endpoints = slices.into_iter().flat_map(|slice| slice.endpoints);
    let ready = endpoints.filter(|endpoint| {
        let conditions = endpoint.conditions.as_ref();
        conditions.and_then(|conditions| conditions.ready) != Some(false)
    });
    ready
        .filter_map(|endpoint| endpoint.target_ref?.name)
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn those_that_are_ready_in_any_slice_get_connections() {
        let endpoint = |pod: &str, conditions: Value| {
            json!({
                "addresses": ["192.0.2.1"], "conditions": conditions,
                "targetRef": {"kind": "Pod", "name": pod},
            })
        };
        let slice = |endpoints: Value| -> EndpointSlice {
            serde_json::from_value(json!({
                "addressType": "IPv4", "metadata": {"name": "s"}, "endpoints": endpoints,
            }))
            .unwrap()
        };
        let slices = vec![
            slice(json!([
                endpoint("a", json!({"ready": true})),
                endpoint(
                    "b",
                    json!({"ready": false, "serving": true, "terminating": true})
                ),
            ])),
            slice(json!([endpoint("c", json!({}))])),
            slice(Value::Null),
        ];
        let found: Vec<String> = ready(slices).into_iter().collect();
        assert_eq!(found, ["a", "c"]);
    }
}
