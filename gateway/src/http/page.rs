//! The page at `/`: one file, to see in a minute what the gateway does.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::{Front, Node, no_such_path};

const PAGE: &str = include_str!("page.html");

/// The page. Its own script and style carry a number that is new each time, and nothing else may run:
/// what other clients send is shown on it, and must stay text.
pub async fn page<N: Node>(State(front): State<Arc<Front<N>>>) -> Response {
    if !front.running().page {
        return no_such_path().into_response();
    }
    let nonce = format!("{:032x}", rand::random::<u128>());
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; \
         connect-src 'self' ws: wss:; img-src data:; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    );
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, policy.as_str()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, PAGE.replace("NONCE", &nonce)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_loads_nothing_from_elsewhere_and_never_makes_markup_of_text() {
        for forbidden in [
            "http://",
            "https://",
            "innerHTML",
            "document.write",
            "eval(",
            " style=\"",
            " onclick",
        ] {
            assert!(!PAGE.contains(forbidden), "{forbidden}");
        }
        assert_eq!(
            PAGE.matches("nonce=\"NONCE\"").count(),
            2,
            "style and script"
        );
    }
}
