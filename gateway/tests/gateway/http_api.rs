//! Publishing from a backend.

use serde_json::json;

use crate::program::{API_KEY, Gateway, request};

#[tokio::test]
async fn publish_reaches_subscribers() {
    let gateway = Gateway::start(&[]).await;
    let (mut ann, mut bob) = (gateway.user("ann").await, gateway.client().await);
    ann.subscribe("news").await;
    bob.join("lobby").await;
    ann.join("lobby").await;
    let answer = gateway
        .publish(r#"{"channel":"news","data":{"x":1}}"#)
        .await;
    assert_eq!(
        (answer.status, &answer.json()["accepted"]),
        (200, &json!(true)),
        "{answer:?}"
    );
    assert_eq!(
        ann.next_untimed().await,
        json!({"type": "chat", "channel": "news", "message": {"x": 1}})
    );
    let body = json!({"channel": "room:lobby", "data": 2, "exclude": ann.id}).to_string();
    assert_eq!(gateway.publish(&body).await.status, 200);
    assert_eq!(
        bob.next_untimed().await,
        json!({"type": "room", "room": "lobby", "data": 2})
    );
    ann.heard_nothing().await;
    assert_eq!(
        gateway
            .publish(r#"{"channel":"user:ann","data":3}"#)
            .await
            .status,
        200
    );
    assert_eq!(
        ann.next_untimed().await,
        json!({"type": "private", "data": 3})
    );

    let bearer = format!("Bearer {API_KEY}");
    let answer = gateway
        .post(
            "/api/broadcast",
            &[("authorization", &bearer)],
            r#"{"data":"all"}"#,
        )
        .await;
    assert_eq!(answer.status, 200);
    for client in [&mut ann, &mut bob] {
        assert_eq!(
            client.next_untimed().await,
            json!({"type": "broadcast", "data": "all"})
        );
    }
    let body = r#"{"channel":"system:notifications","data":"maintenance"}"#;
    assert_eq!(gateway.publish(body).await.status, 200);
}

#[tokio::test]
async fn refusals_name_the_field() {
    let gateway =
        Gateway::start(&["limits.maxRequestBytes=3000", "limits.maxMessageBytes=1000"]).await;
    let long = "x".repeat(1_000);
    let longer = "x".repeat(3_000);
    for (key, body, status, code, field) in [
        (
            "wrong-key-of-some-length",
            "{}".to_owned(),
            401,
            "unauthorized",
            None,
        ),
        ("", "{}".into(), 401, "unauthorized", None),
        (API_KEY, "{".into(), 400, "bad_json", None),
        (API_KEY, "{}".into(), 422, "bad_field", Some("channel")),
        (
            API_KEY,
            r#"{"channel":"a"}"#.into(),
            422,
            "bad_field",
            Some("data"),
        ),
        (
            API_KEY,
            r#"{"channel":"a","data":1,"to":"x"}"#.into(),
            422,
            "bad_field",
            Some("to"),
        ),
        (
            API_KEY,
            json!({"channel": "a", "data": long}).to_string(),
            413,
            "too_big",
            Some("data"),
        ),
        (
            API_KEY,
            json!({"channel": "a", "data": longer}).to_string(),
            413,
            "too_big",
            None,
        ),
    ] {
        let answer = gateway
            .post("/api/publish", &[("x-api-key", key)], &body)
            .await;
        let error = &answer.json()["error"];
        assert_eq!(
            (
                answer.status,
                error["code"].as_str(),
                error["field"].as_str()
            ),
            (status, Some(code), field),
            "{answer:?}"
        );
    }
    let headers = [("x-api-key", API_KEY), ("content-type", "text/plain")];
    let answer = request(gateway.clients, "POST", "/api/publish", &headers, "{}").await;
    assert_eq!(answer.status, 415);
    for (code, expected) in [("unauthorized", 2.0), ("bad_field", 3.0), ("too_big", 2.0)] {
        let series = format!("pushcluster_api_answers_total{{code=\"{code}\"}}");
        assert_eq!(gateway.metric(&series).await, Some(expected), "{code}");
    }
    let series = "pushcluster_api_answers_total{code=\"ok\"}";
    assert_eq!(gateway.metric(series).await, Some(0.0));
}

#[tokio::test]
async fn without_a_key_file_the_api_is_for_this_machine() {
    let gateway = Gateway::start(&["api.keyFile="]).await;
    let body = r#"{"channel":"news","data":1}"#;
    assert_eq!(gateway.post("/api/publish", &[], body).await.status, 200);
    let json = ("content-type", "application/json");
    let mut socket = tokio::net::TcpStream::connect(gateway.clients)
        .await
        .unwrap();
    let text = format!(
        "POST /api/publish HTTP/1.1\r\nhost: evil.example\r\n{}: {}\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{body}",
        json.0,
        json.1,
        body.len()
    );
    tokio::io::AsyncWriteExt::write_all(&mut socket, text.as_bytes())
        .await
        .unwrap();
    assert_eq!(
        crate::program::read_answer(&mut socket).await.status,
        401,
        "DNS rebinding"
    );
}

#[tokio::test]
async fn every_refusal_has_the_one_shape() {
    let gateway = Gateway::start(&[]).await;
    let key = ("x-api-key", API_KEY);
    for (method, path, headers, status, code) in [
        ("GET", "/nowhere", &[][..], 404, "not_found"),
        ("GET", "/api/publish", &[key], 405, "bad_method"),
        ("POST", "/api/info", &[], 405, "bad_method"),
        ("GET", "/api/info", &[], 401, "unauthorized"),
        ("GET", "/api/channels?limit=x", &[key], 422, "bad_field"),
        ("GET", "/ws", &[], 426, "upgrade_required"),
    ] {
        let answer = request(gateway.clients, method, path, headers, "").await;
        let error = &answer.json()["error"];
        assert_eq!(
            (answer.status, error["code"].as_str()),
            (status, Some(code)),
            "{method} {path}: {answer:?}"
        );
        assert!(error["message"].is_string(), "{answer:?}");
        assert!(
            answer.head.contains("content-type: application/json"),
            "{answer:?}"
        );
    }
    let gateway = Gateway::start(&["limits.maxHandshakes=1"]).await;
    // One that says nothing takes the only place.
    let _silent = tokio::net::TcpStream::connect(gateway.clients)
        .await
        .unwrap();
    let answer = crate::wait::until("no place is left", || async {
        let answer = request(gateway.clients, "GET", "/api/info", &[key], "").await;
        if answer.status == 503 {
            Ok(answer)
        } else {
            Err(format!("{answer:?}"))
        }
    })
    .await;
    assert_eq!(answer.json()["error"]["code"], "unavailable");
}
