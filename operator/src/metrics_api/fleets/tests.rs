use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Json;
use axum::routing::get;
use http::{Request, Response};
use kube::client::Body;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::*;
use crate::metrics_api::request::Version;

/// An API server with one PushCluster `demo`, whose pods have these addresses. Counts the lists of pods.
pub(crate) fn api_server(addresses: &'static [&'static str], lists: Arc<AtomicUsize>) -> Client {
    let service = tower::service_fn(move |request: Request<Body>| {
        let uri = request.uri().to_string();
        let body = if uri.contains("/pushclusters") {
            let named = uri.contains("metadata.name%3Ddemo");
            let found = [json!({"metadata": {"name": "demo"}})];
            let found: &[Value] = if named { &found } else { &[] };
            list("PartialObjectMetadataList", found)
        } else {
            lists.fetch_add(1, Ordering::Relaxed);
            let pods: Vec<Value> = addresses.iter().map(|ip| pod(ip)).collect();
            list("PodList", &pods)
        };
        async move { Ok::<_, Infallible>(Response::new(Body::from(body.to_string().into_bytes()))) }
    });
    Client::new(service, "default")
}

fn list(kind: &str, items: &[Value]) -> Value {
    json!({"kind": kind, "apiVersion": "v1", "metadata": {}, "items": items})
}

fn pod(ip: &str) -> Value {
    json!({
        "metadata": {"name": format!("pod-{ip}"), "labels": {"app.kubernetes.io/component": "gateway"}},
        "status": {
            "phase": "Running", "podIP": ip,
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{
                "name": "gateway", "ready": true, "restartCount": 0, "image": "", "imageID": "",
                "state": {"running": {"startedAt": "2026-01-01T00:00:05Z"}},
            }],
        },
    })
}

fn question(of: Of) -> Question {
    Question {
        version: Version::V1beta2,
        namespace: "shop".into(),
        of,
        metric: Metric::ConnectedClients,
    }
}

/// A gateway with so many clients at this address and port; port 0 chooses one.
pub(crate) async fn gateway(address: (&str, u16), connections: u64) -> u16 {
    let listener = TcpListener::bind(address).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let node = json!({"version": "1", "connections": connections, "maxConnections": 100, "draining": false});
    let asked = Arc::new(AtomicUsize::new(0));
    let counters = move || {
        // Five messages more with each look.
        let sent = 5 * asked.fetch_add(1, Ordering::Relaxed);
        async move {
            format!(
                "websocket_messages_sent_total{{type=\"chat\"}} {sent}\npushcluster_memory_used_bytes 700\n"
            )
        }
    };
    let routes = axum::Router::new()
        .route("/node", get(|| async { Json(node) }))
        .route("/metrics", get(counters));
    tokio::spawn(axum::serve(listener, routes).into_future());
    port
}

pub(crate) fn asker(port: u16) -> Asker {
    Asker {
        port,
        connect: Duration::from_millis(500),
        deadline: Duration::from_millis(500),
    }
}

#[tokio::test]
async fn gateways_are_added_up_and_asked_once_for_many_that_want_to_know() {
    let port = gateway(("127.0.0.1", 0), 7).await;
    gateway(("127.0.0.2", port), 5).await;
    let lists = Arc::new(AtomicUsize::new(0));
    let client = api_server(&["127.0.0.1", "127.0.0.2"], lists.clone());
    let fleets = Fleets::with(client, asker(port));
    let all = question(Of::PushCluster("demo".into()));
    let asks = (0..50).map(|_| fleets.readings(&all));
    for readings in futures::future::join_all(asks).await {
        assert_eq!(readings.unwrap()[0].milli, 12_000);
    }
    assert_eq!(lists.load(Ordering::Relaxed), 1);

    let one = question(Of::Pod("pod-127.0.0.2".into()));
    assert_eq!(fleets.readings(&one).await.unwrap()[0].milli, 5_000);
    let pods = question(Of::Pods("a=b".into()));
    assert_eq!(fleets.readings(&pods).await.unwrap().len(), 2);
    for (of, refusal) in [
        (
            Of::PushCluster("other".into()),
            Refusal::NoObject("PushCluster", "other".into()),
        ),
        (
            Of::Pod("x".into()),
            Refusal::NoObject("gateway", "x".into()),
        ),
    ] {
        assert_eq!(fleets.readings(&question(of)).await, Err(refusal));
    }
}

#[tokio::test]
async fn what_gateways_count_is_told_as_well() {
    let port = gateway(("127.0.0.5", 0), 7).await;
    let fleets = Fleets::with(api_server(&["127.0.0.5"], Arc::default()), asker(port));
    let of = |metric| Question {
        metric,
        ..question(Of::PushCluster("demo".into()))
    };
    let memory = fleets.readings(&of(Metric::MemoryBytes)).await.unwrap();
    assert_eq!((memory[0].milli, memory[0].window), (700_000, None));
    let begun = Instant::now();
    let sent = fleets
        .readings(&of(Metric::MessagesSentPerSecond))
        .await
        .unwrap();
    // Five messages between two looks that are a second apart, or more on a busy machine.
    let slowest = 5_000_000 / u64::try_from(begun.elapsed().as_millis()).unwrap();
    assert!((slowest..=5_000).contains(&sent[0].milli), "{sent:?}");
    assert!(sent[0].window.is_some_and(|window| window >= 1));
}

#[tokio::test]
async fn with_one_gateway_silent_there_is_no_total_and_the_others_are_told() {
    let port = gateway(("127.0.0.3", 0), 7).await;
    let client = api_server(&["127.0.0.3", "127.0.0.4"], Arc::default());
    let fleets = Fleets::with(client, asker(port));
    let all = question(Of::PushCluster("demo".into()));
    let total = fleets.readings(&all);
    let why = "1 of 2 gateways did not tell: pod-127.0.0.4";
    assert_eq!(total.await, Err(Refusal::Unknown(why.into())));
    let pods = fleets.readings(&question(Of::Pods(String::new()))).await;
    assert_eq!(pods.unwrap().len(), 1);
    let silent = question(Of::Pod("pod-127.0.0.4".into()));
    assert!(matches!(
        fleets.readings(&silent).await,
        Err(Refusal::Unknown(_))
    ));
}

#[tokio::test]
async fn what_nobody_waits_for_takes_no_place() {
    let fleets = Fleets::with(api_server(&[], Arc::default()), asker(1));
    let whom = |number: usize| Whom {
        namespace: number.to_string(),
        push_cluster: None,
        selector: String::new(),
        metric: Metric::ConnectedClients,
    };
    let waited_for: Vec<Slot> = (0..MAX_ROUNDS)
        .map(|number| fleets.slot(&whom(number)).unwrap())
        .collect();
    assert_eq!(fleets.slot(&whom(MAX_ROUNDS)).err(), Some(Refusal::TooMany));
    assert!(fleets.slot(&whom(0)).is_ok());
    drop(waited_for);
    fleets.slot(&whom(MAX_ROUNDS)).unwrap();
    assert_eq!(fleets.rounds.lock().unwrap().len(), 1);
}
