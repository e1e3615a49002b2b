use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, Time};
use k8s_openapi::jiff::Timestamp;

use super::*;
use crate::push_cluster::fixture::{built, live};

const OWNER: &str = "u-1";

/// What the API server has after a plan for an empty namespace was carried out.
fn applied(spec: &Value) -> Live {
    let mut live = live(built(spec));
    for write in plan(built(spec), &Live::default(), OWNER) {
        let Act::Apply { manifest, .. } = write.act else {
            panic!("{} is deleted before it is made", write.name)
        };
        let hash = manifest["metadata"]["annotations"][APPLIED]
            .as_str()
            .unwrap();
        annotate(&mut live, &write.resource.kind, &write.name, hash);
    }
    live
}

fn annotate(live: &mut Live, kind: &str, name: &str, hash: &str) {
    macro_rules! annotate {
        ($($field:ident),*) => {$(
            if let Some(object) = live.$field.as_mut()
                && kind_of(object) == kind
                && object.metadata.name.as_deref() == Some(name)
            {
                object.annotations_mut().insert(APPLIED.into(), hash.into());
            }
        )*};
    }
    annotate!(
        service_account,
        keys,
        config,
        redis,
        redis_service,
        redis_files,
        redis_budget,
        deployment,
        service,
        nodes_service,
        budget,
        autoscaler,
        scaled_object,
        gateway_policy,
        redis_policy
    );
}

fn kind_of<K: Resource<DynamicType = ()>>(_: &K) -> std::borrow::Cow<'static, str> {
    K::kind(&())
}

/// Each write as a line: what is done to which object.
fn lines(writes: &[Write]) -> Vec<String> {
    let line = |write: &Write| {
        let act = match &write.act {
            Act::Apply {
                what: What::Created,
                ..
            } => "create".into(),
            Act::Apply {
                what: What::Changed { path, by },
                ..
            } => format!("{path} by {}", by.as_deref().unwrap_or("us")),
            Act::Apply {
                what: What::Remade { path, .. },
                ..
            } => format!("made anew: {path}"),
            Act::Apply {
                what: What::Deleted,
                ..
            } => panic!("applied, and called deleted"),
            Act::Delete { uid } => format!("delete {uid}"),
        };
        format!("{} {}: {act}", write.resource.kind, write.name)
    };
    writes.iter().map(line).collect()
}

#[test]
fn what_pods_need_is_made_before_them() {
    assert_eq!(
        lines(&plan(built(&json!({})), &Live::default(), OWNER)),
        [
            "ServiceAccount demo-gateway: create",
            "Secret demo-keys: create",
            "ConfigMap demo-config: create",
            "NetworkPolicy demo-redis: create",
            "NetworkPolicy demo-gateway: create",
            "Service demo-redis: create",
            "StatefulSet demo-redis: create",
            "Service demo-nodes: create",
            "Service demo: create",
            "PodDisruptionBudget demo-gateway: create",
            "Deployment demo-gateway: create",
            "HorizontalPodAutoscaler demo: create",
        ]
    );
    let sentinel = plan(
        built(&json!({"redis": {"mode": "Sentinel"}})),
        &Live::default(),
        OWNER,
    );
    assert_eq!(
        lines(&sentinel)[5..9],
        [
            "Service demo-redis: create",
            "Secret demo-redis: create",
            "PodDisruptionBudget demo-redis: create",
            "StatefulSet demo-redis: create",
        ]
    );
}

#[test]
fn what_is_as_built_gets_no_request() {
    for spec in [
        json!({}),
        json!({"autoscaling": {"enabled": false}}),
        json!({"redis": {"mode": "External", "external": {"host": "cache"}}}),
        json!({"redis": {"mode": "Sentinel"}}),
        json!({"redis": {"mode": "Sentinel", "persistence": {}}}),
        json!({"service": {"annotations": {"a": "b"}}}),
        json!({"autoscaling": {"mode": "Keda", "behavior": {"scaleUp": {"selectPolicy": "Max"}}}}),
        json!({"replicas": 0, "autoscaling": {"mode": "Keda"}}),
    ] {
        assert_eq!(plan(built(&spec), &applied(&spec), OWNER), [], "{spec}");
    }
}

#[test]
fn a_changed_spec_writes_what_it_is_about() {
    for (before, after, expected) in [
        (
            json!({}),
            json!({"replicas": 3}),
            &["Deployment demo-gateway: spec.replicas by us"] as &[_],
        ),
        (
            json!({}),
            json!({"service": {"port": 81}}),
            &["Service demo: spec.ports[0] by us"],
        ),
        (
            json!({"service": {"annotations": {"a": "b"}}}),
            json!({}),
            &["Service demo: metadata.annotations.pushcluster.io/applied by us"],
        ),
        (
            json!({}),
            json!({"autoscaling": {"enabled": false}}),
            &["HorizontalPodAutoscaler demo: delete hpa-uid"],
        ),
        (
            json!({}),
            json!({"networkPolicies": {"enabled": false}}),
            &[
                "NetworkPolicy demo-redis: delete ",
                "NetworkPolicy demo-gateway: delete ",
            ],
        ),
        (
            json!({}),
            json!({"gateway": {"limits": {"maxPresenceMembers": 5}}}),
            // Gateways read it again.
            &["ConfigMap demo-config: data.gateway.yaml by us"],
        ),
        (
            json!({"redis": {"mode": "External", "external": {"host": "a"}}}),
            json!({"redis": {"mode": "External", "external": {"host": "b"}}}),
            &[
                "ConfigMap demo-config: data.gateway.yaml by us",
                "Deployment demo-gateway: spec.template.metadata.annotations.pushcluster.io/config-hash by us",
            ],
        ),
    ] {
        let mut live = applied(&before);
        if let Some(autoscaler) = &mut live.autoscaler {
            autoscaler.metadata.uid = Some("hpa-uid".into());
        }
        let writes = plan(built(&after), &live, OWNER);
        assert_eq!(lines(&writes), expected, "{before} to {after}");
    }
}

/// As `autoscaling::settle` has it: one of them at a time.
fn by_keda(replicas: i32) -> Objects {
    let spec = json!({"replicas": replicas, "autoscaling": {"mode": "Keda"}});
    Objects {
        autoscaler: None,
        ..built(&spec)
    }
}

#[test]
fn one_autoscaler_goes_before_the_other_comes() {
    let mut before = applied(&json!({}));
    before.autoscaler.as_mut().unwrap().metadata.uid = Some("hpa-uid".into());
    let writes = plan(by_keda(2), &before, OWNER);
    let expected = [
        "HorizontalPodAutoscaler demo: delete hpa-uid",
        "ScaledObject demo: create",
    ];
    assert_eq!(lines(&writes), expected);
    // Its rehearsal would come before the other is gone.
    assert!(!writes[1].has_users_words);

    let mut before = applied(&json!({"autoscaling": {"mode": "Keda"}}));
    before.autoscaler = None;
    before.scaled_object.as_mut().unwrap().metadata.uid = Some("so-uid".into());
    let expected = [
        "ScaledObject demo: delete so-uid",
        "HorizontalPodAutoscaler demo: create",
    ];
    assert_eq!(lines(&plan(built(&json!({})), &before, OWNER)), expected);
}

#[test]
fn what_keda_and_people_write_on_a_scaled_object_stays() {
    let mut live = applied(&json!({"autoscaling": {"mode": "Keda"}}));
    live.autoscaler = None;
    let object = live.scaled_object.as_mut().unwrap();
    object.finalizers_mut().push("finalizer.keda.sh".into());
    for (key, value) in [("autoscaling.keda.sh/paused", "true"), ("a", "b")] {
        object.annotations_mut().insert(key.into(), value.into());
    }
    assert_eq!(plan(by_keda(2), &live, OWNER), []);
    let expected = ["Deployment demo-gateway: spec.replicas by us"];
    // That annotation has the value already, and is the operator's as well from now on.
    let noted = ["ScaledObject demo: metadata.annotations.pushcluster.io/applied by us"];
    let writes = lines(&plan(by_keda(0), &live, OWNER));
    assert_eq!(writes, [expected, noted].concat());
}

#[test]
fn what_others_changed_is_put_back_and_says_who() {
    let entry = |manager: &str, second, subresource: Option<&str>| ManagedFieldsEntry {
        manager: Some(manager.into()),
        subresource: subresource.map(Into::into),
        time: Some(Time(Timestamp::from_second(second).unwrap())),
        ..ManagedFieldsEntry::default()
    };
    let mut live = applied(&json!({}));
    let deployment = live.deployment.as_mut().unwrap();
    deployment.spec.as_mut().unwrap().replicas = Some(9);
    deployment.metadata.managed_fields = Some(vec![
        entry("pushcluster-operator", 1, None),
        entry("kubectl-scale", 2, None),
        entry("kube-controller-manager", 3, Some("status")),
    ]);
    live.config = None;
    assert_eq!(
        lines(&plan(built(&json!({})), &live, OWNER)),
        [
            "ConfigMap demo-config: create",
            "Deployment demo-gateway: spec.replicas by kubectl-scale"
        ]
    );
}

#[test]
fn only_what_is_ours_and_not_going_already_is_deleted() {
    let off = json!({"autoscaling": {"enabled": false}});
    for (owner, going, deleted) in [(OWNER, false, 1), ("u-2", false, 0), (OWNER, true, 0)] {
        let mut live = applied(&json!({}));
        live.autoscaler
            .as_mut()
            .unwrap()
            .metadata
            .deletion_timestamp = going.then_some(Time(Timestamp::UNIX_EPOCH));
        let writes = plan(built(&off), &live, owner);
        assert_eq!(writes.len(), deleted, "{owner}, going: {going}");
    }
}

/// The API server refuses another mode, but not while the definition is one from before that rule.
#[test]
fn nothing_of_redis_is_ever_deleted() {
    let external = json!({"redis": {"mode": "External", "external": {"host": "r"}}});
    for before in [json!({}), json!({"redis": {"mode": "Sentinel"}})] {
        for after in [&json!({}), &external] {
            let writes = plan(built(after), &applied(&before), OWNER);
            let deleted = writes
                .iter()
                .filter(|write| matches!(write.act, Act::Delete { .. }))
                // It holds nothing.
                .filter(|write| write.resource.kind != "NetworkPolicy");
            let deleted: Vec<&str> = deleted.map(|write| write.name.as_str()).collect();
            assert_eq!(deleted, [""; 0], "{before} to {after}");
        }
    }
}
