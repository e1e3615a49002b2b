//! Counts what was answered, by the code of the refusal.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

/// Every `code` that a [`super::Problem`] of the API can have, and what the document lists.
pub const CODES: [&str; 17] = [
    "bad_body",
    "bad_content_type",
    "bad_field",
    "bad_json",
    "bad_key",
    "bad_query",
    "in_progress",
    "internal",
    "key_reused",
    "no_history",
    "no_presence",
    "too_big",
    "too_many",
    "too_slow",
    "unanswered",
    "unauthorized",
    "unavailable",
];

/// The code of a refusal, on its way out.
#[derive(Debug, Clone, Copy)]
pub struct Code(pub &'static str);

/// `pushcluster_api_answers_total`. Cloning shares it.
#[derive(Clone)]
pub struct Answers {
    good: IntCounter,
    refused: Arc<[IntCounter]>,
    other: IntCounter,
}

impl Answers {
    /// An error means that the name is taken, which is a mistake in the program.
    pub fn register(registry: &Registry) -> prometheus::Result<Answers> {
        let name = "pushcluster_api_answers_total";
        let help = "Answers of the HTTP API: `ok`, or the code of the refusal.";
        let family = IntCounterVec::new(Opts::new(name, help), &["code"])?;
        registry.register(Box::new(family.clone()))?;
        let counter = |code: &str| family.with_label_values(&[code]);
        Ok(Answers {
            good: counter("ok"),
            refused: CODES.iter().map(|code| counter(code)).collect(),
            other: counter("other"),
        })
    }

    fn count(&self, response: &Response) {
        let counter = match response.extensions().get::<Code>() {
            None if response.status().is_success() => &self.good,
            None => &self.other,
            Some(Code(code)) => CODES
                .iter()
                .position(|known| known == code)
                .map_or(&self.other, |index| &self.refused[index]),
        };
        counter.inc();
    }
}

/// The layer around the routes that are counted. What was counted here is not counted among the other refusals.
pub async fn count(State(answers): State<Answers>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    answers.count(&response);
    response.extensions_mut().remove::<Code>();
    response
}
