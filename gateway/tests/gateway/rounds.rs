//! Messages between nodes that somebody asked for, to see that each hears each.

use futures::future::join_all;
use serde_json::{Value, json};

use crate::program::{API_KEY, Answer, Gateway, request};
use crate::redis_server::RedisServer;
use crate::wait::until;

async fn probe(gateway: &Gateway, round: &Value) -> Answer {
    let key = [("x-api-key", API_KEY), ("content-type", "application/json")];
    request(gateway.admin, "POST", "/probe", &key, &round.to_string()).await
}

/// The names that each node heard, in order.
async fn heard(nodes: &[&Gateway], round: &Value) -> Vec<Vec<String>> {
    let answers = join_all(nodes.iter().map(|node| probe(node, round))).await;
    let names = |answer: Answer| {
        assert_eq!(answer.status, 200, "{}", answer.body);
        let heard = answer.json()["heard"].clone();
        let mut heard: Vec<String> = serde_json::from_value(heard).unwrap();
        heard.sort_unstable();
        heard
    };
    answers.into_iter().map(names).collect()
}

#[tokio::test]
async fn nodes_of_one_redis_hear_each_other_and_others_do_not() {
    let (redis, other) = (RedisServer::start().await, RedisServer::start().await);
    let a = Gateway::on_redis(redis.port, &["node.name=a"]).await;
    let b = Gateway::on_redis(redis.port, &["node.name=b"]).await;
    let c = Gateway::on_redis(redis.port, &["node.name=c"]).await;
    let away = Gateway::on_redis(other.port, &["node.name=away"]).await;
    for node in [&a, &b, &c, &away] {
        node.ready().await;
    }
    let all = json!({"round": "1", "from": ["a", "b"], "seconds": 10});
    let each = vec!["a".to_owned(), "b".to_owned()];
    assert_eq!(
        heard(&[&a, &b, &c], &all).await,
        [each.clone(), each.clone(), each]
    );

    // As it is to find out: a node that stands alone says itself that nobody is heard there.
    let with = json!({"round": "2", "from": ["a", "away"], "seconds": 2});
    let (near, far) = (vec!["a".to_owned()], vec!["away".to_owned()]);
    assert_eq!(
        heard(&[&a, &b, &away], &with).await,
        [near.clone(), near, far]
    );

    // What was sent for a round counts for nothing.
    until("the round's sockets are gone", || async {
        let listed = request(
            a.clients,
            "GET",
            "/api/channels",
            &[("x-api-key", API_KEY)],
            "",
        )
        .await;
        match a
            .metric("websocket_messages_sent_total{type=\"chat\"}")
            .await
        {
            Some(0.0) if !listed.body.contains("self-test") => Ok(()),
            sent => Err(format!("{sent:?}, {}", listed.body)),
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_no_round_is_refused() {
    let gateway = Gateway::start(&["node.name=a"]).await;
    gateway.ready().await;
    for (body, status, code) in [
        (
            json!({"round": "1", "from": ["a"], "seconds": 11}),
            400,
            "bad_field",
        ),
        (
            json!({"round": "1", "from": [], "seconds": 1}),
            400,
            "bad_field",
        ),
        (json!({"round": "1"}), 400, "bad_json"),
    ] {
        let answer = probe(&gateway, &body).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.body);
        assert_eq!(answer.json()["error"]["code"], code, "{body}");
    }
    let none = request(gateway.admin, "POST", "/probe", &[], "{}").await;
    assert_eq!(none.status, 401, "{}", none.body);

    // Nobody else is there, so each of these takes its second: as many as there may be, and one more.
    let alone = json!({"round": "2", "from": ["nobody"], "seconds": 2});
    let answers = join_all((0..17).map(|_| probe(&gateway, &alone))).await;
    let too_many = answers.iter().filter(|answer| answer.status == 429);
    assert_eq!(too_many.count(), 1, "{answers:?}");
    let own = json!({"round": "3", "from": ["a"], "seconds": 10});
    assert_eq!(heard(&[&gateway], &own).await, [["a"]]);
}
