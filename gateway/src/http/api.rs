//! The HTTP API, for backends. `openapi.json` beside this file describes it to machines, docs/http-api.md to people;
//! a file here for each group of endpoints.

use std::sync::Arc;

use axum::Router;
use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::http::{StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use bytes::Bytes;
use serde::Serialize;

use super::answers::{Answers, Code, count};
use super::{Front, Node, Problem};

pub mod access;
pub mod batch;
pub mod channels;
pub mod disconnect;
pub mod history;
pub mod idempotency;
pub mod info;
pub mod openapi;
pub mod presence;
pub mod publish;
pub mod request;
pub mod subscribe;
pub mod users;

/// Everything under `/api`.
pub fn routes<N: Node>(answers: Answers) -> Router<Arc<Front<N>>> {
    Router::new()
        .route("/api/publish", post(publish::publish::<N>))
        .route("/api/broadcast", post(publish::broadcast::<N>))
        .route("/api/users/{user}/messages", post(publish::to_user::<N>))
        .route(
            "/api/connections/{connection}/messages",
            post(publish::to_connection::<N>),
        )
        .route("/api/batch", post(batch::batch::<N>))
        .route(
            "/api/users/{user}/connections",
            get(users::connections::<N>).delete(disconnect::user::<N>),
        )
        .route("/api/subscribe", post(subscribe::subscribe::<N>))
        .route("/api/unsubscribe", post(subscribe::unsubscribe::<N>))
        .route(
            "/api/connections/{connection}",
            delete(disconnect::connection::<N>),
        )
        .route("/api/channels", get(channels::channels::<N>))
        .route("/api/presence", get(presence::presence::<N>))
        .route("/api/history", get(history::history::<N>))
        .route("/api/info", get(info::info::<N>))
        .route("/api/openapi.json", get(openapi::openapi))
        .layer(middleware::from_fn_with_state(answers, count))
}

/// An answer that can be given again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: StatusCode,
    /// JSON.
    pub body: Bytes,
    /// Of a refusal.
    pub code: Option<&'static str>,
}

impl Answer {
    /// 200 with this body.
    pub fn ok(body: &impl Serialize) -> Answer {
        let body = serde_json::to_vec(body).expect("texts and numbers always serialise");
        Answer {
            status: StatusCode::OK,
            body: body.into(),
            code: None,
        }
    }

    pub fn of(problem: &Problem) -> Answer {
        Answer {
            status: problem.status,
            body: problem.body().into(),
            code: Some(problem.code),
        }
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let json = [(header::CONTENT_TYPE, "application/json")];
        let mut response = (self.status, json, self.body).into_response();
        if let Some(code) = self.code {
            response.extensions_mut().insert(Code(code));
        }
        response
    }
}

/// The variable part of a path.
fn segment(name: &str, segment: Result<Path<String>, PathRejection>) -> Result<String, Problem> {
    // What is not UTF-8 after its percent signs are undone.
    let bad = |_| Problem::field(name, format!("{name} in the path cannot be read"));
    segment.map(|Path(text)| text).map_err(bad)
}
