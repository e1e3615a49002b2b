//! Answers as the API server passes them on: lists of values, and `metav1.Status` for what cannot be answered. Pure.
//! Shapes: k8s.io/metrics, `custom_metrics/{v1beta1,v1beta2}/types.go`.

use http::StatusCode;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::request::{GROUP, Metric, Version};

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    NotFound,
    NoMetric(String),
    /// Kind and name.
    NoObject(&'static str, String),
    NotAcceptable,
    BadRequest(String),
    MethodNotAllowed,
    /// Not from the API server.
    Unauthorized(&'static str),
    Forbidden(String),
    /// A number would be too small, and an autoscaler would believe it.
    Unknown(String),
    TooMany,
}

impl Refusal {
    #[must_use]
    pub fn code(&self) -> StatusCode {
        self.parts().0
    }

    /// Code, the reason that clients look at (`metav1.StatusReason`), and a message for people.
    fn parts(&self) -> (StatusCode, &'static str, String) {
        match self {
            Refusal::NotFound => (
                StatusCode::NOT_FOUND,
                "NotFound",
                format!("{GROUP} of PushCluster has nothing at this path"),
            ),
            Refusal::NoMetric(name) => {
                let known: Vec<&str> = Metric::ALL.iter().map(|m| m.as_str()).collect();
                (
                    StatusCode::NOT_FOUND,
                    "NotFound",
                    format!("there is no metric {name}; there is {}", known.join(", ")),
                )
            }
            Refusal::NoObject(kind, name) => (
                StatusCode::NOT_FOUND,
                "NotFound",
                format!("there is no {kind} {name}"),
            ),
            Refusal::NotAcceptable => (
                StatusCode::NOT_ACCEPTABLE,
                "NotAcceptable",
                "only application/json is served".into(),
            ),
            Refusal::BadRequest(why) => (StatusCode::BAD_REQUEST, "BadRequest", why.clone()),
            Refusal::MethodNotAllowed => (
                StatusCode::METHOD_NOT_ALLOWED,
                "MethodNotAllowed",
                "metrics are only read".into(),
            ),
            Refusal::Unauthorized(why) => (StatusCode::UNAUTHORIZED, "Unauthorized", (*why).into()),
            Refusal::Forbidden(why) => (StatusCode::FORBIDDEN, "Forbidden", why.clone()),
            Refusal::Unknown(why) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "ServiceUnavailable",
                why.clone(),
            ),
            Refusal::TooMany => (
                StatusCode::TOO_MANY_REQUESTS,
                "TooManyRequests",
                "too many objects are asked for at once".into(),
            ),
        }
    }

    /// For people.
    #[must_use]
    pub fn message(&self) -> String {
        self.parts().2
    }

    #[must_use]
    pub fn status(&self) -> Value {
        let (code, reason, message) = self.parts();
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": message, "reason": reason, "code": code.as_u16(),
        })
    }
}

/// What was measured of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    pub object: Described,
    /// In thousandths.
    pub milli: u64,
    pub at: Timestamp,
    /// Seconds over which it was measured; none for what is so at one moment.
    pub window: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    pub kind: Kind,
    pub namespace: String,
    pub name: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    PushCluster,
    Pod,
}

#[must_use]
pub fn values(version: Version, metric: Metric, readings: &[Reading]) -> Value {
    let items: Vec<Value> = readings
        .iter()
        .map(|reading| value(version, metric, reading))
        .collect();
    json!({
        "kind": "MetricValueList",
        "apiVersion": format!("{GROUP}/{}", version.as_str()),
        "metadata": {},
        "items": items,
    })
}

fn value(version: Version, metric: Metric, reading: &Reading) -> Value {
    let Described {
        kind,
        namespace,
        name,
    } = &reading.object;
    let (kind, api_version) = match kind {
        Kind::PushCluster => ("PushCluster", "pushcluster.io/v1alpha1"),
        Kind::Pod => ("Pod", "v1"),
    };
    let mut value = json!({
        "describedObject": {"kind": kind, "namespace": namespace, "name": name, "apiVersion": api_version},
        "timestamp": seconds(reading.at),
        "value": quantity(reading.milli),
    });
    // What has no window is left out: clients take 0 for a window of no length.
    if let Some(window) = reading.window {
        value["windowSeconds"] = json!(window);
    }
    match version {
        Version::V1beta1 => value["metricName"] = json!(metric.as_str()),
        Version::V1beta2 => value["metric"] = json!({"name": metric.as_str(), "selector": null}),
    }
    value
}

/// `metav1.Time` has no fractions of a second.
fn seconds(at: Timestamp) -> String {
    let whole = Timestamp::from_second(at.as_second()).unwrap_or(at);
    whole.to_string()
}

fn quantity(milli: u64) -> String {
    if milli.is_multiple_of(1_000) {
        (milli / 1_000).to_string()
    } else {
        format!("{milli}m")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(kind: Kind, milli: u64, window: Option<u64>) -> Reading {
        Reading {
            object: Described {
                kind,
                namespace: "shop".into(),
                name: "demo".into(),
            },
            milli,
            at: "2026-01-02T03:04:05.678Z".parse().unwrap(),
            window,
        }
    }

    #[test]
    fn values_have_the_shape_of_their_version() {
        let metric = Metric::ConnectedClients;
        let one = [reading(Kind::PushCluster, 350_000, None)];
        assert_eq!(
            values(Version::V1beta2, metric, &one),
            json!({
                "kind": "MetricValueList", "apiVersion": "custom.metrics.k8s.io/v1beta2", "metadata": {},
                "items": [{
                    "describedObject": {
                        "kind": "PushCluster", "namespace": "shop", "name": "demo", "apiVersion": "pushcluster.io/v1alpha1",
                    },
                    "metric": {"name": "websocket_connected_clients", "selector": null},
                    "timestamp": "2026-01-02T03:04:05Z",
                    "value": "350",
                }],
            })
        );
        let one = [reading(Kind::Pod, 1_500, Some(60))];
        assert_eq!(
            values(Version::V1beta1, metric, &one)["items"][0],
            json!({
                "describedObject": {"kind": "Pod", "namespace": "shop", "name": "demo", "apiVersion": "v1"},
                "metricName": "websocket_connected_clients",
                "timestamp": "2026-01-02T03:04:05Z",
                "windowSeconds": 60,
                "value": "1500m",
            })
        );
        assert_eq!(values(Version::V1beta1, metric, &[])["items"], json!([]));
    }

    #[test]
    fn refusals_are_statuses_that_clients_know() {
        for (refusal, code, reason) in [
            (Refusal::NotFound, 404, "NotFound"),
            (Refusal::NoObject("Pod", "a".into()), 404, "NotFound"),
            (Refusal::NotAcceptable, 406, "NotAcceptable"),
            (Refusal::Unauthorized("x"), 401, "Unauthorized"),
            (Refusal::Forbidden("x".into()), 403, "Forbidden"),
            (Refusal::Unknown("x".into()), 503, "ServiceUnavailable"),
            (Refusal::TooMany, 429, "TooManyRequests"),
            (Refusal::MethodNotAllowed, 405, "MethodNotAllowed"),
        ] {
            let status = refusal.status();
            assert_eq!(refusal.code().as_u16(), code);
            assert_eq!(status["code"], code, "{refusal:?}");
            assert_eq!(status["reason"], reason, "{refusal:?}");
            assert_eq!(status["kind"], "Status");
        }
    }
}
