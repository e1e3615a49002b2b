use k8s_openapi::api::autoscaling::v2::{
    HorizontalPodAutoscaler, HorizontalPodAutoscalerCondition,
};
use kube::ResourceExt;

use super::{Holds, Verdict};
use crate::autoscale::mode::Scaler;
use crate::metrics_api::registration::Registration;
use crate::metrics_api::request::GROUP;
use crate::push_cluster::autoscaling::Autoscaling;
use crate::push_cluster::observe::Observed;
use crate::reason::Reason;

const KIND: &str = "AutoscalerActive";

/// Whether somebody follows the connected clients, and who.
pub(super) fn active(observed: &Observed, autoscaling: &Autoscaling) -> Verdict {
    let spec = &observed.cluster.spec;
    let no = |reason, message: String| Verdict::new(KIND, Holds::No, reason, message);
    if !autoscaling.foreign.is_empty() {
        let foreign = autoscaling.foreign.join("; ");
        let advice = match spec.autoscaling.enabled {
            true => {
                "delete it, or set spec.autoscaling.enabled to false and have it scale the PushCluster"
            }
            false => "it can scale the PushCluster instead",
        };
        return no(
            Reason::ForeignAutoscaler,
            format!("{foreign}, whose size is not decided by two: {advice}"),
        );
    }
    match &autoscaling.scaler {
        Scaler::Off => no(Reason::Disabled, "spec.autoscaling.enabled is false".into()),
        Scaler::Undecided => Verdict::new(
            KIND,
            Holds::Unknown,
            Reason::Creating,
            format!("whether the operator serves {GROUP} is not known yet"),
        ),
        Scaler::HorizontalPodAutoscaler => of_kubernetes(
            observed.live.autoscaler.as_ref(),
            "the HorizontalPodAutoscaler",
        ),
        Scaler::Builtin(_) | Scaler::Keda if spec.replicas == 0 => no(
            Reason::Resting,
            "spec.replicas is 0, which is left as it is".into(),
        ),
        Scaler::Keda => of_keda(observed),
        Scaler::Builtin(because) => match &autoscaling.clients {
            Ok(_) => Verdict::new(
                KIND,
                Holds::Yes,
                Reason::Scaling,
                format!(
                    "the operator follows the connected clients{}",
                    why(because.as_ref())
                ),
            ),
            Err(silent) => no(
                Reason::MetricUnavailable,
                format!(
                    "there are {} gateways until it is known how many clients there are: {silent}",
                    spec.replicas
                ),
            ),
        },
    }
}

fn of_keda(observed: &Observed) -> Verdict {
    let no = |reason, message: String| Verdict::new(KIND, Holds::No, reason, message);
    let not_yet = || {
        let message = "KEDA has not looked at the ScaledObject yet";
        Verdict::new(KIND, Holds::Unknown, Reason::Creating, message)
    };
    if observed.keda.is_missing {
        return no(
            Reason::KedaMissing,
            format!(
                "there are {} gateways until KEDA is installed, or spec.autoscaling.mode is another: this cluster has no kind \
                 ScaledObject (keda.sh/v1alpha1)",
                observed.cluster.spec.replicas
            ),
        );
    }
    let Some(object) = &observed.live.scaled_object else {
        return not_yet();
    };
    let name = object.name_any();
    if object
        .condition("Paused")
        .is_some_and(|one| one.status == "True")
    {
        return no(
            Reason::Paused,
            format!("ScaledObject {name} is paused by an annotation of its own"),
        );
    }
    match object.condition("Ready") {
        Some(ready) if ready.status == "True" => of_kubernetes(
            observed.keda.autoscaler.as_ref(),
            "the HorizontalPodAutoscaler of KEDA",
        ),
        Some(ready) if ready.status == "False" => no(
            Reason::KedaNotReady,
            format!("ScaledObject {name}: {}: {}", ready.reason, ready.message),
        ),
        _ => not_yet(),
    }
}

/// Why it is the operator, if the manifest does not ask for that.
fn why(because: Option<&Registration>) -> String {
    match because {
        Some(Registration::Foreign { name, by }) => {
            format!(" itself, since APIService {name} is served by {by}")
        }
        Some(Registration::OneNamespace) => {
            format!(" itself, since it looks after one namespace and does not serve {GROUP}")
        }
        Some(_) => format!(" itself, since it does not serve {GROUP} (metricsApi.enabled)"),
        None => String::new(),
    }
}

/// `which`: how it is called.
fn of_kubernetes(found: Option<&HorizontalPodAutoscaler>, which: &str) -> Verdict {
    let conditions = found.and_then(|found| found.status.as_ref()?.conditions.as_ref());
    let mut conditions = conditions.into_iter().flatten();
    match conditions.find(|condition| condition.type_ == "ScalingActive") {
        Some(active) if active.status == "True" => Verdict::new(
            KIND,
            Holds::Yes,
            Reason::Scaling,
            format!("{which} follows the connected clients"),
        ),
        Some(inactive) => inactive_because(inactive),
        None => Verdict::new(
            KIND,
            Holds::Unknown,
            Reason::Creating,
            format!("{which} has not looked yet"),
        ),
    }
}

fn inactive_because(inactive: &HorizontalPodAutoscalerCondition) -> Verdict {
    let why = inactive.reason.as_deref().unwrap_or_default();
    let message = inactive.message.as_deref().unwrap_or_default();
    let reason = match why {
        // At zero gateways the autoscaler rests on purpose.
        "ScalingDisabled" => Reason::Resting,
        // Kubernetes has found several for the same pods, and none of them scales.
        "AmbiguousSelector" => Reason::ForeignAutoscaler,
        _ => Reason::MetricUnavailable,
    };
    let message = format!("HorizontalPodAutoscaler: {why}: {message}");
    Verdict::new(KIND, Holds::No, reason, message)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::push_cluster::fixture;
    use crate::push_cluster::observe::Keda;

    fn hpa(reason: &str, status: &str) -> Value {
        json!({
            "metadata": {"name": "demo"},
            "status": {"conditions": [
                {"type": "ScalingActive", "status": status, "reason": reason, "message": "m"},
            ]},
        })
    }

    fn said(spec: &Value, autoscaler: Option<Value>, autoscaling: &Autoscaling) -> String {
        let mut observed = fixture::observed(spec);
        observed.live.autoscaler = autoscaler.map(|hpa| serde_json::from_value(hpa).unwrap());
        let verdict = active(&observed, autoscaling);
        format!(
            "{:?} {}: {}",
            verdict.holds,
            verdict.reason.as_str(),
            verdict.message
        )
    }

    fn by(scaler: Scaler) -> Autoscaling {
        Autoscaling {
            scaler,
            ..Autoscaling::default()
        }
    }

    #[test]
    fn what_an_autoscaler_of_kubernetes_says_is_passed_on() {
        let decides = by(Scaler::HorizontalPodAutoscaler);
        let not_yet = "Unknown Creating: the HorizontalPodAutoscaler has not looked yet";
        assert_eq!(said(&json!({}), None, &decides), not_yet);
        for (reason, status, expected) in [
            (
                "ValidMetricFound",
                "True",
                "Yes Scaling: the HorizontalPodAutoscaler follows the connected clients",
            ),
            (
                "FailedGetObjectMetric",
                "False",
                "No MetricUnavailable: HorizontalPodAutoscaler: FailedGetObjectMetric: m",
            ),
            (
                "ScalingDisabled",
                "False",
                "No Resting: HorizontalPodAutoscaler: ScalingDisabled: m",
            ),
            (
                "AmbiguousSelector",
                "False",
                "No ForeignAutoscaler: HorizontalPodAutoscaler: AmbiguousSelector: m",
            ),
        ] {
            let found = Some(hpa(reason, status));
            assert_eq!(said(&json!({}), found, &decides), expected);
        }
    }

    #[test]
    fn who_decides_the_size_and_why_is_said() {
        let adapter = Registration::Foreign {
            name: "v1beta1.custom.metrics.k8s.io".into(),
            by: "Service monitoring/adapter".into(),
        };
        for (scaler, expected) in [
            (
                Scaler::Off,
                "No Disabled: spec.autoscaling.enabled is false",
            ),
            (
                Scaler::Undecided,
                "Unknown Creating: whether the operator serves custom.metrics.k8s.io is not known yet",
            ),
            (
                Scaler::Builtin(None),
                "Yes Scaling: the operator follows the connected clients",
            ),
            (
                Scaler::Builtin(Some(adapter)),
                "Yes Scaling: the operator follows the connected clients itself, since APIService \
                 v1beta1.custom.metrics.k8s.io is served by Service monitoring/adapter",
            ),
            (
                Scaler::Builtin(Some(Registration::OneNamespace)),
                "Yes Scaling: the operator follows the connected clients itself, since it looks after one namespace and does \
                 not serve custom.metrics.k8s.io",
            ),
            (
                Scaler::Builtin(Some(Registration::Disabled)),
                "Yes Scaling: the operator follows the connected clients itself, since it does not serve \
                 custom.metrics.k8s.io (metricsApi.enabled)",
            ),
        ] {
            assert_eq!(said(&json!({}), None, &by(scaler)), expected);
        }
    }

    #[test]
    fn what_keda_says_is_passed_on() {
        let said = |spec: Value, conditions: Value, autoscaler: Option<Value>, is_missing| {
            let mut observed = fixture::observed(&spec);
            observed.live.scaled_object = Some(
                serde_json::from_value(json!({
                    "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": {"name": "demo"},
                    "spec": {}, "status": {"conditions": conditions},
                }))
                .unwrap(),
            );
            observed.keda = Keda {
                is_missing,
                autoscaler: autoscaler.map(|hpa| serde_json::from_value(hpa).unwrap()),
            };
            let verdict = active(&observed, &by(Scaler::Keda));
            let (reason, message) = (verdict.reason.as_str(), verdict.message);
            format!("{:?} {reason}: {message}", verdict.holds)
        };
        let ready = |status: &str| json!({"type": "Ready", "status": status, "reason": "TriggerError", "message": "m"});
        let follows = || Some(hpa("ValidMetricFound", "True"));
        for (conditions, autoscaler, expected) in [
            (
                json!([ready("True"), {"type": "Paused", "status": "False"}]),
                follows(),
                "Yes Scaling: the HorizontalPodAutoscaler of KEDA follows the connected clients",
            ),
            (
                json!([ready("True")]),
                Some(hpa("FailedGetExternalMetric", "False")),
                "No MetricUnavailable: HorizontalPodAutoscaler: FailedGetExternalMetric: m",
            ),
            (
                json!([ready("True")]),
                None,
                "Unknown Creating: the HorizontalPodAutoscaler of KEDA has not looked yet",
            ),
            (
                json!([ready("False")]),
                follows(),
                "No KedaNotReady: ScaledObject demo: TriggerError: m",
            ),
            (
                json!([{"type": "Ready", "status": "Unknown"}]),
                None,
                "Unknown Creating: KEDA has not looked at the ScaledObject yet",
            ),
            (
                json!([ready("True"), {"type": "Paused", "status": "True"}]),
                None,
                "No Paused: ScaledObject demo is paused by an annotation of its own",
            ),
        ] {
            let said = said(json!({}), conditions.clone(), autoscaler, false);
            assert_eq!(said, expected, "{conditions}");
        }
        let missing = said(json!({}), json!([]), None, true);
        let expected = "No KedaMissing: there are 2 gateways until KEDA is installed";
        assert!(missing.starts_with(expected), "{missing}");
        // Paused by us, then.
        let zero = said(
            json!({"replicas": 0}),
            json!([{"type": "Paused", "status": "True"}]),
            None,
            false,
        );
        assert_eq!(
            zero,
            "No Resting: spec.replicas is 0, which is left as it is"
        );
    }

    #[test]
    fn what_keeps_the_operator_from_deciding_is_named() {
        let zero = json!({"replicas": 0});
        let rests = "No Resting: spec.replicas is 0, which is left as it is";
        assert_eq!(said(&zero, None, &by(Scaler::Builtin(None))), rests);
        let silent = Autoscaling {
            clients: Err("1 of 2 gateways did not tell: a".into()),
            ..by(Scaler::Builtin(None))
        };
        assert_eq!(
            said(&json!({}), None, &silent),
            "No MetricUnavailable: there are 2 gateways until it is known how many clients there are: 1 of 2 gateways did not \
             tell: a"
        );
        for (enabled, scaler, advice) in [
            (
                true,
                Scaler::Builtin(None),
                "delete it, or set spec.autoscaling.enabled to false and have it scale the PushCluster",
            ),
            (false, Scaler::Off, "it can scale the PushCluster instead"),
        ] {
            let foreign = "HorizontalPodAutoscaler mine scales Deployment demo-gateway";
            let autoscaling = Autoscaling {
                foreign: vec![foreign.into()],
                ..by(scaler)
            };
            let spec = json!({"autoscaling": {"enabled": enabled}});
            let expected = format!(
                "No ForeignAutoscaler: {foreign}, whose size is not decided by two: {advice}"
            );
            assert_eq!(said(&spec, None, &autoscaling), expected);
        }
    }
}
