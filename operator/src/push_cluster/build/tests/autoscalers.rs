use serde_json::{Value, json};

use crate::push_cluster::fixture::built;

#[test]
fn the_autoscaler_scales_the_push_cluster_and_is_absent_when_off() {
    let objects = built(
        &json!({"autoscaling": {"minReplicas": 3, "maxReplicas": 9, "targetConnectionsPerPod": 700}}),
    );
    let spec = objects.autoscaler.unwrap().spec.unwrap();
    assert_eq!(
        (
            spec.scale_target_ref.kind.as_str(),
            spec.scale_target_ref.name.as_str()
        ),
        ("PushCluster", "demo")
    );
    assert_eq!((spec.min_replicas, spec.max_replicas), (Some(3), 9));
    let metric = spec.metrics.unwrap().remove(0).object.unwrap();
    assert_eq!(metric.metric.name, "websocket_connected_clients");
    assert_eq!(metric.target.average_value.unwrap().0, "700");
    assert!(
        built(&json!({"autoscaling": {"enabled": false}}))
            .autoscaler
            .is_none()
    );
}

#[test]
fn the_autoscaler_moves_as_fast_as_the_spec_says() {
    let behavior = |spec| {
        let spec = built(&json!({"autoscaling": spec}))
            .autoscaler
            .unwrap()
            .spec;
        serde_json::to_value(spec.unwrap().behavior).unwrap()
    };
    assert_eq!(behavior(json!({})), json!(null));
    let all = json!({
        "scaleUp": {"policies": [{"type": "Pods", "value": 3, "periodSeconds": 30}]},
        "scaleDown": {
            "stabilizationWindowSeconds": 0, "selectPolicy": "Min",
            "policies": [
                {"type": "Percent", "value": 10, "periodSeconds": 60},
                {"type": "Pods", "value": 1, "periodSeconds": 60},
            ],
        },
    });
    assert_eq!(behavior(json!({"behavior": all})), all);
    let never = json!({"scaleDown": {"selectPolicy": "Disabled"}});
    assert_eq!(behavior(json!({"behavior": never})), never);
}

#[test]
fn an_autoscaler_that_is_told_nothing_aims_at_half_of_what_a_gateway_may_have() {
    let target = |spec| {
        let spec = built(&spec).autoscaler.unwrap().spec.unwrap();
        let metric = spec.metrics.unwrap().remove(0).object.unwrap();
        metric.target.average_value.unwrap().0
    };
    assert_eq!(target(json!({})), "5000");
    let gateway = json!({"limits": {"maxConnections": 300}});
    assert_eq!(target(json!({"gateway": gateway})), "150");
    assert_eq!(
        target(json!({"gateway": gateway, "autoscaling": {"targetConnectionsPerPod": 200}})),
        "200"
    );
    assert_eq!(
        target(json!({"gateway": {"limits": {"maxConnections": 1}}})),
        "1"
    );
}

/// As KEDA documents it (`metrics-api`), and nothing that it does not know.
#[test]
fn keda_is_told_where_the_number_is_and_what_to_make_of_it() {
    let spec = json!({"autoscaling": {
        "mode": "Keda", "minReplicas": 3, "maxReplicas": 9, "targetConnectionsPerPod": 700,
        "behavior": {"scaleDown": {"stabilizationWindowSeconds": 60}},
    }});
    let object = serde_json::to_value(built(&spec).scaled_object.unwrap()).unwrap();
    let kind = [&object["apiVersion"], &object["kind"]];
    assert_eq!(kind, ["keda.sh/v1alpha1", "ScaledObject"]);
    assert_eq!(object["metadata"]["annotations"], Value::Null);
    let expected = json!({
        "scaleTargetRef": {"apiVersion": "pushcluster.io/v1alpha1", "kind": "PushCluster", "name": "demo"},
        "minReplicaCount": 3,
        "maxReplicaCount": 9,
        "advanced": {"horizontalPodAutoscalerConfig": {"behavior": {"scaleDown": {"stabilizationWindowSeconds": 60}}}},
        "triggers": [{
            "type": "metrics-api",
            "metricType": "AverageValue",
            "metadata": {
                "url": "http://operator.operators.svc:9090/clients/shop/demo",
                "valueLocation": "clients",
                "targetValue": "700",
            },
        }],
    });
    assert_eq!(object["spec"], expected);
    assert_eq!(object.get("status"), None);
}

#[test]
fn a_scaled_object_is_there_with_keda_only_and_rests_at_zero() {
    let of = |spec: &Value| built(spec).scaled_object;
    for spec in [
        json!({}),
        json!({"autoscaling": {"mode": "HorizontalPodAutoscaler"}}),
        json!({"autoscaling": {"mode": "Keda", "enabled": false}}),
    ] {
        assert_eq!(of(&spec), None, "{spec}");
    }
    let keda = of(&json!({"autoscaling": {"mode": "Keda"}})).unwrap();
    assert_eq!(
        (keda.metadata.annotations, keda.spec.advanced),
        (None, None)
    );
    let zero = of(&json!({"replicas": 0, "autoscaling": {"mode": "Keda"}})).unwrap();
    let paused = zero.metadata.annotations.unwrap();
    assert_eq!(paused["autoscaling.keda.sh/paused"], "true");
}
