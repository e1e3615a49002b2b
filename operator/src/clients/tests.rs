use std::sync::Arc;

use axum::body::Body;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use tower::ServiceExt;

use super::*;
use crate::metrics_api::fleets::tests::{api_server, asker, gateway};

async fn ask(router: &Router, path: &str) -> (StatusCode, Value) {
    let request = Request::get(path).body(Body::empty()).unwrap();
    let answer = router.clone().oneshot(request).await.unwrap();
    let code = answer.status();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (code, serde_json::from_slice(&body).unwrap_or_default())
}

#[tokio::test]
async fn the_clients_of_all_gateways_are_told_by_name() {
    let port = gateway(("127.0.0.6", 0), 7).await;
    gateway(("127.0.0.7", port), 5).await;
    let lists = Arc::default();
    let fleets = Fleets::with(api_server(&["127.0.0.6", "127.0.0.7"], lists), asker(port));
    let router = with(fleets, "shop".into());
    let (code, told) = ask(&router, "/clients/shop/demo").await;
    assert_eq!((code, told), (StatusCode::OK, json!({"clients": 12})));
    for path in ["/clients/shop/other", "/clients/elsewhere/demo"] {
        is_nobody(&router, path).await;
    }
}

async fn is_nobody(router: &Router, path: &str) {
    let (code, told) = ask(router, path).await;
    assert_eq!(code, StatusCode::NOT_FOUND, "{path}: {told}");
    let message = told["message"].as_str().unwrap_or_default();
    assert!(message.starts_with("there is no PushCluster"), "{told}");
}

/// It would be another path of the API server's, and this one has a PushCluster at any.
#[tokio::test]
async fn what_is_no_name_is_not_asked_for() {
    let fleets = Fleets::with(api_server(&[], Arc::default()), asker(1));
    let router = with(fleets, String::new());
    let (code, _) = ask(&router, "/clients/shop-1.eu/demo").await;
    assert_eq!(code, StatusCode::OK);
    let long = format!("/clients/{}/demo", "a".repeat(MAX_NAME + 1));
    for path in [
        "/clients/shop%2Fpods/demo",
        "/clients/../demo",
        "/clients/-shop/demo",
        "/clients/Shop/demo",
        "/clients/shop%3Flimit=1/demo",
        &long,
    ] {
        is_nobody(&router, path).await;
    }
}

#[tokio::test]
async fn there_is_no_number_while_a_gateway_is_silent() {
    let port = gateway(("127.0.0.8", 0), 7).await;
    let fleets = Fleets::with(
        api_server(&["127.0.0.8", "127.0.0.9"], Arc::default()),
        asker(port),
    );
    let router = with(fleets, String::new());
    let (code, told) = ask(&router, "/clients/shop/demo").await;
    let why = json!({"message": "1 of 2 gateways did not tell: pod-127.0.0.9"});
    assert_eq!((code, told), (StatusCode::SERVICE_UNAVAILABLE, why));
}

#[tokio::test]
async fn who_asks_for_too_much_at_once_is_refused() {
    let clients = Clients {
        fleets: Arc::new(Fleets::with(api_server(&[], Arc::default()), asker(1))),
        places: Arc::new(Semaphore::new(0)),
        namespace: String::new(),
    };
    let refused = clients.count("shop".into(), "demo".into()).await;
    assert_eq!(refused, Err(Refusal::TooMany));
    clients.places.add_permits(1);
    for _ in 0..2 {
        let told = clients.count("shop".into(), "demo".into()).await;
        assert_eq!(told, Ok(0), "a place is given back");
    }
}
