//! How many clients a PushCluster has, on the admin port: what KEDA asks for (spec.autoscaling.mode Keda, decision 20).
//!
//! ```text
//! GET /clients/shop/demo → 200 {"clients":4711}
//! ```
//! Every replica answers, by asking the gateways, as the metrics API does; and as there, it is no answer as long as a gateway
//! that may have clients does not tell.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::metrics_api::answer::Refusal;
use crate::metrics_api::fleets::Fleets;
use crate::metrics_api::request::{Metric, Of, Question, Version};

/// Where the number is in an answer.
pub const VALUE: &str = "clients";
/// Answers that are looked for at once. Nobody says who they are here, and each may be requests to the API server.
const MAX_AT_ONCE: usize = 32;
/// Longest name of a namespace or an object.
const MAX_NAME: usize = 253;

#[derive(Clone)]
struct Clients {
    /// Their own: what is asked here takes no places from autoscalers that ask the metrics API.
    fleets: Arc<Fleets>,
    places: Arc<Semaphore>,
    /// Empty: every namespace.
    namespace: String,
}

/// `namespace`: the only one that is answered for; empty: all of them.
pub fn router(client: Client, namespace: String) -> Router {
    with(Fleets::new(client), namespace)
}

fn with(fleets: Fleets, namespace: String) -> Router {
    let clients = Clients {
        fleets: Arc::new(fleets),
        places: Arc::new(Semaphore::new(MAX_AT_ONCE)),
        namespace,
    };
    Router::new()
        .route("/clients/{namespace}/{name}", get(answer))
        .with_state(clients)
}

async fn answer(
    State(clients): State<Clients>,
    Path((namespace, name)): Path<(String, String)>,
) -> Response {
    match clients.count(namespace, name).await {
        Ok(count) => Json(json!({VALUE: count})).into_response(),
        Err(refusal) => {
            let message: Value = json!({"message": refusal.message()});
            (refusal.code(), Json(message)).into_response()
        }
    }
}

impl Clients {
    async fn count(&self, namespace: String, name: String) -> Result<u64, Refusal> {
        let ours = self.namespace.is_empty() || self.namespace == namespace;
        if !ours || !is_name(&namespace) || !is_name(&name) {
            return Err(Refusal::NoObject("PushCluster", name));
        }
        let _place = self.places.try_acquire().map_err(|_| Refusal::TooMany)?;
        let question = Question {
            version: Version::V1beta2,
            namespace,
            of: Of::PushCluster(name),
            metric: Metric::ConnectedClients,
        };
        let readings = self.fleets.readings(&question).await?;
        Ok(readings.iter().map(|reading| reading.milli / 1_000).sum())
    }
}

/// What is in a path of the API server's next: nothing but what a name may have.
fn is_name(text: &str) -> bool {
    let allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    let first = text.bytes().next();
    let named = first.is_some_and(|first| first.is_ascii_alphanumeric());
    named && text.len() <= MAX_NAME && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests;
