//! The object that `kubectl apply` of a manifest would leave. Pure.
//!
//! What the manifest has is set, lists as a whole (RFC 7386); what kubectl applied before, and the manifest has no more,
//! is removed; what others set (`kubectl scale`, an autoscaler) stays. kubectl remembers what it applied in an annotation
//! (client-side) or in the managed fields (server-side).

use serde_json::Value;

use crate::owned;

const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Of `kubectl apply --server-side`.
const KUBECTL: &str = "kubectl";

/// `live`: as the API server has it.
pub fn applied(manifest: &Value, live: &Value) -> Value {
    let mut result = live.clone();
    let last = live["metadata"]["annotations"][LAST_APPLIED]
        .as_str()
        .and_then(|text| serde_json::from_str::<Value>(text).ok());
    if let Some(last) = last {
        remove_what_went(&mut result["spec"], &last["spec"], &manifest["spec"]);
    }
    for path in owned::no_longer_applied(live, KUBECTL, manifest) {
        owned::remove(&mut result, &path);
    }
    merge(&mut result["spec"], &manifest["spec"]);
    result
}

fn remove_what_went(result: &mut Value, last: &Value, now: &Value) {
    let (Some(fields), Some(last)) = (result.as_object_mut(), last.as_object()) else {
        return;
    };
    for (key, before) in last {
        match (now.get(key), fields.get_mut(key)) {
            (None, Some(_)) => {
                fields.remove(key);
            }
            (Some(now), Some(field)) => remove_what_went(field, before, now),
            (_, None) => {}
        }
    }
}

fn merge(result: &mut Value, manifest: &Value) {
    let Value::Object(wanted) = manifest else {
        if !manifest.is_null() {
            *result = manifest.clone();
        }
        return;
    };
    if !result.is_object() {
        *result = Value::Object(serde_json::Map::new());
    }
    let Some(fields) = result.as_object_mut() else {
        return;
    };
    for (key, value) in wanted {
        if value.is_null() {
            fields.remove(key);
        } else {
            merge(fields.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_others_set_stays_and_what_the_manifest_lost_goes() {
        // Scaled to 5 by somebody; `drain` and `service.port` were in the manifest once.
        let live = |metadata: Value| {
            json!({"metadata": metadata, "spec": {
                "replicas": 5, "drain": {"deadlineSeconds": 9}, "service": {"port": 81, "type": "NodePort"}
            }})
        };
        let client_side = json!({"annotations": {LAST_APPLIED: json!({
            "spec": {"drain": {"deadlineSeconds": 9}, "service": {"port": 81, "type": "NodePort"}}
        }).to_string()}});
        let server_side = json!({"managedFields": [{"manager": "kubectl", "operation": "Apply", "fieldsV1": {
            "f:spec": {"f:drain": {"f:deadlineSeconds": {}}, "f:service": {"f:port": {}, "f:type": {}}}
        }}]});
        let manifest =
            json!({"spec": {"service": {"type": "NodePort"}, "redis": {"mode": "Sentinel"}}});
        let whole = json!({
            "replicas": 5, "service": {"type": "NodePort"}, "redis": {"mode": "Sentinel"}
        });
        let mut emptied = whole.clone();
        emptied["drain"] = json!({});
        let mut kept = whole.clone();
        kept["drain"] = json!({"deadlineSeconds": 9});
        kept["service"]["port"] = json!(81);
        for (metadata, expected) in [
            (client_side, whole),
            (server_side, emptied),
            // Made by `kubectl create`: nobody knows what was in the manifest.
            (json!({}), kept),
        ] {
            let result = applied(&manifest, &live(metadata.clone()));
            assert_eq!(result["spec"], expected, "{metadata}");
        }
    }

    #[test]
    fn null_is_the_default() {
        let live = json!({"metadata": {}, "spec": {"replicas": 5}});
        let result = applied(&json!({"spec": {"replicas": null}}), &live);
        assert_eq!(result["spec"], json!({}));
    }
}
