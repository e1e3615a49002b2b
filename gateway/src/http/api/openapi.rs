//! What the API says of itself.

use axum::http::header;
use axum::response::{IntoResponse, Response};

/// OpenAPI 3.1. `make openapi` asks a running gateway whether it is true.
const DOCUMENT: &str = include_str!("openapi.json");

/// `GET /api/openapi.json`: for everybody, as it holds no secret.
pub async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT).into_response()
}

#[cfg(test)]
#[path = "openapi_tests.rs"]
mod tests;
