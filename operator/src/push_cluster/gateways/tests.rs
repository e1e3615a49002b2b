use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::get;
use gateway_config::parse;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::ask::Asker;
use super::*;
use crate::push_cluster::fixture::{built, observed};
use crate::push_cluster::observe::Observed;

fn of(text: &str) -> Config {
    parse(text, &[]).unwrap_or_else(|problems| panic!("{text}: {problems:?}"))
}

fn with(text: &str, refused: Option<&str>) -> Runs {
    Runs::With {
        config: Box::new(of(text)),
        api_keys: None,
        redis_password: None,
        refused: refused.map(Into::into),
    }
}

fn with_keys(text: &str, keys: usize) -> Runs {
    Runs::With {
        config: Box::new(of(text)),
        api_keys: Some(keys),
        redis_password: None,
        refused: None,
    }
}

#[test]
fn a_gateway_that_does_not_tell_its_password_holds_up_only_who_would_forget_it() {
    for (shown, must_be_told, fits) in [
        (Some("one"), false, true),
        (Some("two"), false, false),
        (None, false, true),
        (None, true, false),
    ] {
        let text = "one".to_owned();
        let print = Print { text, must_be_told };
        assert_eq!(print.fits(shown), fits, "{shown:?} {must_be_told}");
        let answers = Answers {
            wanted: Some(of("")),
            api_keys: 1,
            redis_password: Some(print),
            pods: vec![Answer {
                pod: "g".into(),
                runs: Runs::With {
                    config: Box::new(of("").shown()),
                    api_keys: Some(1),
                    redis_password: shown.map(Into::into),
                    refused: None,
                },
            }],
        };
        let compared = compare(&answers).unwrap();
        assert_eq!(compared.outdated.is_empty(), fits, "{shown:?}");
    }
}

#[test]
fn gateways_are_told_apart_by_what_they_run_with() {
    const WANTED: &str = "limits: {maxConnections: 5}\nauth: {jwksUrl: 'https://keys/?c=d'}";
    let shown = of(WANTED).shown().to_yaml();
    for (runs, expected) in [
        (with(&shown, None), (1, 0, 0, 0)),
        // Of a failure before, or of a file that it will read again in a moment.
        (with(&shown, Some("why")), (1, 0, 0, 0)),
        (
            with(
                &format!("{shown}\n").replace("node:\n  name: ''", "node:\n  name: g"),
                None,
            ),
            (1, 0, 0, 0),
        ),
        (with("", None), (0, 1, 0, 0)),
        (with("", Some("why")), (0, 1, 0, 1)),
        // Needs another process.
        (
            with(&shown.replace("shards: 0", "shards: 7"), None),
            (0, 1, 0, 0),
        ),
        (Runs::WithAnOldKey, (0, 1, 0, 0)),
        (with_keys(&shown, 2), (1, 0, 0, 0)),
        (with_keys(&shown, 3), (0, 1, 0, 0)),
        (Runs::Unknown, (0, 0, 1, 0)),
    ] {
        let what = format!("{runs:?}");
        let answers = Answers {
            wanted: Some(of(WANTED)),
            api_keys: 2,
            redis_password: None,
            pods: vec![Answer {
                pod: "g".into(),
                runs,
            }],
        };
        let Compared {
            current,
            outdated,
            unknown,
            refused,
        } = compare(&answers).unwrap();
        let found = (current, outdated.len(), unknown.len(), refused.len());
        assert_eq!(found, expected, "{what}");
    }
    assert_eq!(compare(&Answers::default()), None);
}

/// A gateway pod at this address of this machine.
fn pod(name: &str, ip: &str) -> Pod {
    let labels = json!({"app.kubernetes.io/component": "gateway"});
    serde_json::from_value(json!({
        "metadata": {"name": name, "labels": labels},
        "status": {"phase": "Running", "podIP": ip},
    }))
    .unwrap()
}

/// What is there once all was applied.
fn applied(pods: Vec<Pod>) -> Observed {
    let mut found = observed(&json!({}));
    let mut config = built(&json!({})).config;
    config.metadata.resource_version = Some("11".into());
    found.live.config = Some(config);
    found.keys.api_key = Some("the-key".into());
    found.pods = pods;
    found
}

async fn answer(request: Request, body: Value) -> impl IntoResponse {
    let key = request.headers().get("x-api-key");
    match key.is_some_and(|key| key == "the-key") {
        true => (StatusCode::OK, Json(body)),
        false => (StatusCode::UNAUTHORIZED, Json(json!({}))),
    }
}

/// One pod answers, one takes the connection and says nothing, one is not there, and one has no address yet.
#[tokio::test]
async fn who_does_not_answer_is_unknown_and_holds_nobody_up() {
    let good = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = good.local_addr().unwrap().port();
    let silent = TcpListener::bind(("127.0.0.2", port)).await.unwrap();
    let mut found = applied(vec![
        pod("silent", "127.0.0.2"),
        pod("gone", "127.0.0.3"),
        pod("good", "127.0.0.1"),
        pod("new", ""),
        pod("ending", "127.0.0.2"),
        pod("starting", "127.0.0.2"),
    ]);
    found.pods[4].metadata.deletion_timestamp =
        serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
    found.pods[5].status.as_mut().unwrap().phase = Some("Pending".into());
    let body = json!({"hash": "x", "config": written(found.live.config.as_ref()).unwrap()});
    let app = axum::Router::new().route("/config", get(async |r: Request| answer(r, body).await));
    let serving = tokio::spawn(axum::serve(good, app).into_future());

    let asker = Asker {
        port,
        connect: Duration::from_secs(2),
        deadline: Duration::from_secs(2),
    };
    let begun = Instant::now();
    let answers = asker.configs(&found).await;
    // At once: three that fail after each other would take longer.
    assert!(begun.elapsed() < Duration::from_secs(4));
    let compared = compare(&answers).unwrap();
    assert_eq!(compared.current, 1, "{answers:?}");
    assert_eq!(compared.unknown, ["gone", "new", "silent"]);

    found.keys.api_key = Some("another".into());
    found.pods.retain(|pod| pod.name_any() == "good");
    let answers = asker.configs(&found).await;
    assert_eq!(compare(&answers).unwrap().outdated, ["good"], "{answers:?}");
    drop(silent);
    serving.abort();
}

#[test]
fn a_kubelet_is_asked_once_for_each_change() {
    let mut found = applied(vec![pod("a", ""), pod("b", ""), pod("c", "")]);
    let compared = Compared {
        current: 1,
        outdated: vec!["a".into(), "b".into()],
        ..Compared::default()
    };
    let asked = |found: &Observed| {
        let (wanted, pods) = nudge::plan(found, &compared);
        let pods: Vec<String> = pods.into_iter().map(ResourceExt::name_any).collect();
        (wanted, pods)
    };
    let (wanted, pods) = asked(&found);
    assert_eq!(
        (wanted.as_str(), &pods[..]),
        ("11.", &["a".to_owned(), "b".into()][..])
    );
    let annotations = found.pods[0].annotations_mut();
    annotations.insert(nudge::ANNOTATION.into(), wanted);
    assert_eq!(asked(&found).1, ["b"]);
    let config = found.live.config.as_mut().unwrap();
    config.metadata.resource_version = Some("12".into());
    assert_eq!(asked(&found).1, ["a", "b"]);
}
