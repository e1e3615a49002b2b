//! What a request asks for: path, query and Accept in, a value out. Pure.

use axum::extract::Query;
use http::Uri;
use serde::Deserialize;

use super::answer::Refusal;

pub const GROUP: &str = "custom.metrics.k8s.io";
/// The one resource beside pods, as the autoscaler's controller writes it.
pub const PUSH_CLUSTERS: &str = "pushclusters.pushcluster.io";
pub const PODS: &str = "pods";

/// They tell the same in other words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    V1beta1,
    V1beta2,
}

impl Version {
    pub const ALL: [Version; 2] = [Version::V1beta1, Version::V1beta2];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Version::V1beta1 => "v1beta1",
            Version::V1beta2 => "v1beta2",
        }
    }

    fn of(text: &str) -> Option<Version> {
        Version::ALL.into_iter().find(|v| v.as_str() == text)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Metric {
    /// Clients, also of gateways that drain.
    ConnectedClients,
    /// Messages to clients, over the time since somebody asked before.
    MessagesSentPerSecond,
    MemoryBytes,
}

impl Metric {
    pub const ALL: [Metric; 3] = [
        Metric::ConnectedClients,
        Metric::MessagesSentPerSecond,
        Metric::MemoryBytes,
    ];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Metric::ConnectedClients => "websocket_connected_clients",
            Metric::MessagesSentPerSecond => "websocket_messages_sent_per_second",
            // As gateways call it themselves.
            Metric::MemoryBytes => "pushcluster_memory_used_bytes",
        }
    }

    fn of(text: &str) -> Option<Metric> {
        Metric::ALL.into_iter().find(|m| m.as_str() == text)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// `/apis`
    Groups,
    /// `/apis/custom.metrics.k8s.io`
    Group,
    /// `/apis/custom.metrics.k8s.io/v1beta2`
    Resources(Version),
    OpenApiV2,
    OpenApiV3,
    OpenApiV3Of(Version),
    Value(Question),
}

/// One metric of one object, or of the pods that a selector finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    pub version: Version,
    pub namespace: String,
    pub of: Of,
    pub metric: Metric,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Of {
    PushCluster(String),
    Pod(String),
    /// Gateway pods with these labels; empty: all of them.
    Pods(String),
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Selectors {
    label_selector: String,
    metric_label_selector: String,
}

/// `accept`: the header's value, if there is one.
pub fn asked(uri: &Uri, accept: Option<&str>) -> Result<Asked, Refusal> {
    if !accept.is_none_or(takes_json) {
        return Err(Refusal::NotAcceptable);
    }
    let parts: Vec<&str> = uri.path().trim_matches('/').split('/').collect();
    let version = |text: &str| Version::of(text).ok_or(Refusal::NotFound);
    match parts.as_slice() {
        ["apis"] => Ok(Asked::Groups),
        ["apis", GROUP] => Ok(Asked::Group),
        ["apis", GROUP, of] => version(of).map(Asked::Resources),
        ["openapi", "v2"] => Ok(Asked::OpenApiV2),
        ["openapi", "v3"] => Ok(Asked::OpenApiV3),
        ["openapi", "v3", "apis", GROUP, of] => version(of).map(Asked::OpenApiV3Of),
        [
            "apis",
            GROUP,
            of,
            "namespaces",
            namespace,
            resource,
            name,
            metric,
        ] => {
            let question = Question {
                version: version(of)?,
                namespace: (*namespace).to_owned(),
                of: object(uri, resource, name)?,
                metric: Metric::of(metric).ok_or_else(|| Refusal::NoMetric((*metric).into()))?,
            };
            Ok(Asked::Value(question))
        }
        _ => Err(Refusal::NotFound),
    }
}

fn object(uri: &Uri, resource: &str, name: &str) -> Result<Of, Refusal> {
    let Ok(Query(selectors)) = Query::<Selectors>::try_from_uri(uri) else {
        return Err(Refusal::BadRequest("the query cannot be read".into()));
    };
    if !selectors.metric_label_selector.is_empty() {
        let why = "metricLabelSelector: these metrics have no labels";
        return Err(Refusal::BadRequest(why.into()));
    }
    // The only character of a name that a path may have in another form; the API server writes it so.
    let name = if name.eq_ignore_ascii_case("%2A") {
        "*"
    } else {
        name
    };
    match (resource, name) {
        (PUSH_CLUSTERS, "*") => {
            let why = "PushClusters are asked for by name, and only pods by a selector";
            Err(Refusal::BadRequest(why.into()))
        }
        (PUSH_CLUSTERS, name) => Ok(Of::PushCluster(name.into())),
        (PODS, "*") => Ok(Of::Pods(selectors.label_selector)),
        (PODS, name) => Ok(Of::Pod(name.into())),
        _ => Err(Refusal::NotFound),
    }
}

/// Whether plain JSON is among what is taken. `…;as=APIGroupDiscoveryList` is another form of answer: an API server that
/// hears 406 asks for the groups one by one (kube-aggregator, handler_discovery.go).
fn takes_json(accept: &str) -> bool {
    accept.split(',').any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default();
        let plain = parts.all(|parameter| !parameter.starts_with("as="));
        plain && matches!(media, "" | "*/*" | "application/*" | "application/json")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
                              application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";

    fn value(version: Version, of: Of) -> Result<Asked, Refusal> {
        Ok(Asked::Value(Question {
            version,
            namespace: "shop".into(),
            of,
            metric: Metric::ConnectedClients,
        }))
    }

    #[test]
    fn paths_mean_what_the_autoscaler_asks_for() {
        let bad = |why: &str| Err(Refusal::BadRequest(why.into()));
        for (path, expected) in [
            ("/apis", Ok(Asked::Groups)),
            ("/apis/custom.metrics.k8s.io", Ok(Asked::Group)),
            ("/apis/custom.metrics.k8s.io/", Ok(Asked::Group)),
            (
                "/apis/custom.metrics.k8s.io/v1beta1",
                Ok(Asked::Resources(Version::V1beta1)),
            ),
            (
                "/apis/custom.metrics.k8s.io/v1beta2?timeout=32s",
                Ok(Asked::Resources(Version::V1beta2)),
            ),
            ("/apis/custom.metrics.k8s.io/v1", Err(Refusal::NotFound)),
            ("/apis/metrics.k8s.io", Err(Refusal::NotFound)),
            ("/openapi/v2?timeout=32s", Ok(Asked::OpenApiV2)),
            ("/openapi/v3", Ok(Asked::OpenApiV3)),
            (
                "/openapi/v3/apis/custom.metrics.k8s.io/v1beta2?hash=1",
                Ok(Asked::OpenApiV3Of(Version::V1beta2)),
            ),
            (
                "/apis/custom.metrics.k8s.io/v1beta2/namespaces/shop/pushclusters.pushcluster.io/demo/websocket_connected_clients",
                value(Version::V1beta2, Of::PushCluster("demo".into())),
            ),
            (
                "/apis/custom.metrics.k8s.io/v1beta1/namespaces/shop/pods/demo-1/websocket_connected_clients?metricLabelSelector=",
                value(Version::V1beta1, Of::Pod("demo-1".into())),
            ),
            (
                "/apis/custom.metrics.k8s.io/v1beta2/namespaces/shop/pods/*/websocket_connected_clients?labelSelector=a%3Db%2Cc",
                value(Version::V1beta2, Of::Pods("a=b,c".into())),
            ),
            (
                "/apis/custom.metrics.k8s.io/v1beta2/namespaces/shop/pods/%2A/websocket_connected_clients?labelSelector=a",
                value(Version::V1beta2, Of::Pods("a".into())),
            ),
            (
                "/apis/custom.metrics.k8s.io/v1beta2/namespaces/shop/pods/*/websocket_connected_clients?metricLabelSelector=a",
                bad("metricLabelSelector: these metrics have no labels"),
            ),
            (
                "/apis/custom.metrics.k8s.io/v1beta2/namespaces/shop/pushclusters.pushcluster.io/*/websocket_connected_clients",
                bad("PushClusters are asked for by name, and only pods by a selector"),
            ),
            (
                "/apis/custom.metrics.k8s.io/v1beta2/namespaces/shop/pods/a/cpu",
                Err(Refusal::NoMetric("cpu".into())),
            ),
            (
                "/apis/custom.metrics.k8s.io/v1beta2/namespaces/shop/services/a/websocket_connected_clients",
                Err(Refusal::NotFound),
            ),
            (
                "/apis/custom.metrics.k8s.io/v1beta2/namespaces/shop/metrics/websocket_connected_clients",
                Err(Refusal::NotFound),
            ),
        ] {
            let uri: Uri = path.parse().unwrap();
            assert_eq!(asked(&uri, None), expected, "{path}");
        }
    }

    #[test]
    fn who_does_not_take_plain_json_is_told_so() {
        let uri: Uri = "/apis".parse().unwrap();
        for (accept, expected) in [
            (None, true),
            (Some("application/json"), true),
            (
                Some("application/vnd.kubernetes.protobuf, application/json"),
                true,
            ),
            (Some("application/json;q=0.5"), true),
            (Some("*/*"), true),
            (Some(AGGREGATED), false),
            (Some(&*format!("{AGGREGATED},application/json")), true),
            (Some("application/vnd.kubernetes.protobuf"), false),
        ] {
            let answer = asked(&uri, accept);
            assert_eq!(
                answer != Err(Refusal::NotAcceptable),
                expected,
                "{accept:?}"
            );
        }
    }
}
