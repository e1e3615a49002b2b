//! Counts what was refused on the clients' port without becoming a connection, by the code of the refusal. What was
//! refused under `/api` is counted with the other answers there.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

use super::answers::Code;

/// Codes of [`super::Problem`]s, and what is wrong with a head, which hyper answers by itself.
pub(crate) const CODES: [&str; 18] = [
    "bad_field",
    "bad_handshake",
    "bad_head",
    "bad_method",
    "bad_origin",
    "bad_query",
    "bad_version",
    "denied",
    "head_cut",
    "head_timeout",
    "head_too_large",
    "not_found",
    "too_many_channels",
    "too_many_connections",
    "unauthorized",
    "unavailable",
    "upgrade_required",
    "other",
];

/// `pushcluster_http_refused_total`. Cloning shares it.
#[derive(Clone)]
pub struct Refusals(Arc<[IntCounter]>);

impl Refusals {
    /// Every series at 0 from the start. An error means that the name is taken, which is a mistake in the program.
    pub fn register(registry: &Registry) -> prometheus::Result<Refusals> {
        let name = "pushcluster_http_refused_total";
        let help = "Requests outside of /api that were refused, by code, and connections on which no whole request \
                    head came: in time (head_timeout), before the end (head_cut), or that could be read (bad_head, \
                    head_too_large).";
        let family = IntCounterVec::new(Opts::new(name, help), &["code"])?;
        registry.register(Box::new(family.clone()))?;
        let counters = CODES.iter().map(|code| family.with_label_values(&[code]));
        Ok(Refusals(counters.collect()))
    }

    fn count(&self, code: &str) {
        let known = CODES.iter().position(|known| *known == code);
        self.0[known.unwrap_or(CODES.len() - 1)].inc();
    }

    /// An HTTP connection ended badly. `asked`: there has been a request on it, so that it may end or be idle as it likes.
    pub fn ended(&self, error: &hyper::Error, asked: bool) {
        let code = if error.is_parse_too_large() {
            "head_too_large"
        } else if error.is_parse() {
            "bad_head"
        } else if asked {
            return;
        } else if error.is_timeout() {
            "head_timeout"
        } else if error.is_incomplete_message() {
            "head_cut"
        } else {
            // The network's doing.
            return;
        };
        self.count(code);
    }
}

/// The layer around all routes.
pub async fn count(State(refusals): State<Refusals>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    if let Some(Code(code)) = response.extensions().get() {
        refusals.count(code);
    }
    response
}
