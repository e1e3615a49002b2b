//! `limits.maxConnectionsPerUser` over all nodes.

use serde_json::json;

use super::{LEASE, connections, counted};
use crate::client::Client;
use crate::program::{Gateway, token};
use crate::redis_server::RedisServer;

#[tokio::test]
async fn a_users_connections_are_limited_on_all_nodes_together() {
    let mut redis = RedisServer::start().await;
    let start = async |name: &str| {
        let set = ["limits.maxConnectionsPerUser=2", LEASE, name];
        let gateway = Gateway::on_redis(redis.port, &set).await;
        gateway.ready().await;
        gateway
    };
    let (a, b) = (start("node.name=a").await, start("node.name=b").await);
    let url = |gateway: &Gateway, user: &str| {
        let token = token(user, 600);
        format!("ws://{}/ws?token={token}", gateway.clients)
    };
    let is_refused = async |gateway: &Gateway| {
        let refused = Client::handshake(&url(gateway, "ann"), &[]).await.err();
        let refused = refused.expect("ann has two").to_string();
        assert!(refused.contains("429"), "{refused}");
    };
    // One of them counts from its handshake on, before it is written down.
    let (here, there) = (a.user("ann").await, b.user("ann").await);
    is_refused(&a).await;
    is_refused(&b).await;
    let says_it_later = async |gateway: &Gateway| {
        let mut client = gateway.client().await;
        let token = token("ann", 600);
        client.send(json!({"type": "auth", "token": token})).await;
        let answer = client.next().await;
        (client, answer)
    };
    let (mut late, refused) = says_it_later(&b).await;
    assert_eq!(refused["code"], "too_many_connections", "{refused}");
    assert_eq!(late.closed().await.0, 1008);
    let _bob = b.user("bob").await;
    let refusals = "pushcluster_refusals_total{limit=\"connections_per_user\"}";
    assert_eq!(counted(&[&a, &b], refusals).await, 3.0);
    drop(here);
    connections(&b, "ann", &[&there.id]).await;
    let (again, answer) = says_it_later(&b).await;
    assert_eq!(answer["type"], "authenticated", "{answer}");
    is_refused(&a).await;
    connections(&a, "ann", &[&again.id, &there.id]).await;
    is_refused(&a).await;
    // What a dead node counted ends with its lease.
    b.signal("KILL");
    connections(&a, "ann", &[]).await;
    drop((again, there));
    let _kept = [a.user("ann").await, a.user("ann").await];
    is_refused(&a).await;
    // Without Redis the node's own count decides.
    let c = start("node.name=c").await;
    is_refused(&c).await;
    redis.kill();
    c.not_ready("broker").await;
    let mut let_in = Client::handshake(&url(&c, "ann"), &[]).await.unwrap();
    assert_eq!(
        let_in.closed().await.0,
        1013,
        "the user's own channel is not there"
    );
    is_refused(&a).await;
}
