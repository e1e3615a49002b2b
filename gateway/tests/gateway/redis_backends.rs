//! Backends that publish straight into Redis, without a gateway's help.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::Client;
use crate::program::{Gateway, token};
use crate::redis_cluster::RedisCluster;
use crate::redis_sentinel::{MASTER, Sentinels};
use crate::redis_server::RedisServer;
use crate::wait::{until, within};

const ALL: &str = "broker.redis.listen=system:notifications,ws:broadcast,ws:room:*,ws:private";

/// `PUBLISH`, with any bytes.
async fn publish(port: u16, channel: &str, payload: &str) {
    let command = format!(
        "*3\r\n$7\r\nPUBLISH\r\n${}\r\n{channel}\r\n${}\r\n{payload}\r\n",
        channel.len(),
        payload.len()
    );
    within("PUBLISH", async {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        socket.write_all(command.as_bytes()).await.unwrap();
        let mut answer = [0; 1];
        socket.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b":", "{payload}");
    })
    .await;
}

async fn gateways(url: &str, mode: &str, set: &[&str]) -> Vec<Gateway> {
    let url = format!("broker.redis.url=redis://{url}");
    let mode = format!("broker.redis.mode={mode}");
    let mut nodes = Vec::new();
    for name in ["node.name=a", "node.name=b", "node.name=c"] {
        let own = ["broker.kind=redis", "broker.redis.timeoutSeconds=2", ALL];
        let set = [&own[..], &[&url, &mode, name], set].concat();
        nodes.push(Gateway::start(&set).await);
    }
    for node in &nodes {
        node.ready().await;
    }
    nodes
}

async fn counted(node: &Gateway, channel: &str, outcome: &str) -> f64 {
    let series = format!(
        "pushcluster_broker_foreign_messages_total{{channel=\"{channel}\",outcome=\"{outcome}\"}}"
    );
    node.metric(&series).await.expect("there from the start")
}

/// How many connections Redis has that subscribe to this channel.
async fn subscribers(servers: &[&RedisServer], channel: &str) -> usize {
    let mut count = 0;
    for server in servers {
        let answer = server.ask(&format!("PUBSUB NUMSUB {channel}")).await;
        let number = answer.lines().find_map(|line| line.strip_prefix(':'));
        count += number.unwrap().parse::<usize>().unwrap();
    }
    count
}

async fn are_subscribed(servers: &[&RedisServer], channel: &str, wanted: usize) {
    until("the subscribers of a backend's channel", || async {
        match subscribers(servers, channel).await {
            found if found == wanted => Ok(()),
            found => Err(format!("{found}, not {wanted}")),
        }
    })
    .await;
}

/// Three nodes: ann on the first and the second, bob on the third, both in the lobby on the first and third.
struct Stage {
    nodes: Vec<Gateway>,
    anns: Vec<Client>,
    bob: Client,
}

impl Stage {
    async fn new(nodes: Vec<Gateway>) -> Stage {
        let mut anns = vec![nodes[0].user("ann").await, nodes[1].user("ann").await];
        let mut bob = nodes[2].user("bob").await;
        anns[0].join("lobby").await;
        bob.join("lobby").await;
        Stage { nodes, anns, bob }
    }

    async fn all_hear(&mut self, expected: Value) {
        for client in self.anns.iter_mut().chain([&mut self.bob]) {
            assert_eq!(client.next_untimed().await, expected);
        }
    }

    /// Every kind, published at this Redis; the numbers tell the rounds apart.
    async fn everything_arrives(&mut self, port: u16, round: u32) {
        let text = |data: u32| json!({"data": data}).to_string();
        publish(port, "system:notifications", &text(round)).await;
        let chat = json!({"type": "chat", "channel": "system:notifications", "message": round});
        self.all_hear(chat).await;
        let payload = json!({"type": "broadcast", "event": "sold", "data": round}).to_string();
        publish(port, "ws:broadcast", &payload).await;
        let data = json!({"event": "sold", "data": round});
        self.all_hear(json!({"type": "broadcast", "data": data}))
            .await;

        publish(port, "ws:room:lobby", &text(round)).await;
        let said = json!({"type": "room", "room": "lobby", "data": round});
        assert_eq!(self.anns[0].next_untimed().await, said);
        assert_eq!(self.bob.next_untimed().await, said);

        let payload = json!({"to": "ann", "data": round}).to_string();
        publish(port, "ws:private", &payload).await;
        let private = json!({"type": "private", "data": round});
        for ann in &mut self.anns {
            assert_eq!(ann.next_untimed().await, private);
        }
        let payload = json!({"to": [self.bob.id, "nobody"], "data": round}).to_string();
        publish(port, "ws:private", &payload).await;
        assert_eq!(self.bob.next_untimed().await, private);
        for client in self.anns.iter_mut().chain([&mut self.bob]) {
            client.heard_nothing().await;
        }
    }
}

#[tokio::test]
async fn what_backends_publish_reaches_clients() {
    let redis = RedisServer::start().await;
    let url = format!("127.0.0.1:{}", redis.port);
    let mut stage = Stage::new(gateways(&url, "standalone", &[]).await).await;
    stage.everything_arrives(redis.port, 1).await;
    // A room is subscribed where it has members, and while it has.
    assert_eq!(subscribers(&[&redis], "ws:room:lobby").await, 2);
    assert_eq!(subscribers(&[&redis], "ws:private").await, 3);
    assert_eq!(counted(&stage.nodes[1], "ws:room:*", "accepted").await, 0.0);
    stage
        .bob
        .send(json!({"type": "leave", "room": "lobby"}))
        .await;
    assert_eq!(stage.bob.next().await["type"], "left");
    are_subscribed(&[&redis], "ws:room:lobby", 1).await;
    publish(redis.port, "ws:room:lobby", "[2]").await;
    assert_eq!(stage.anns[0].next().await["data"], json!([2]));
    stage.bob.heard_nothing().await;
    assert_eq!(counted(&stage.nodes[2], "ws:room:*", "accepted").await, 1.0);
    // Somebody who comes to the room again hears it from the acknowledgement on.
    for i in 0..20 {
        stage.bob.join("lobby").await;
        publish(redis.port, "ws:room:lobby", &json!({"data": i}).to_string()).await;
        for client in [&mut stage.bob, &mut stage.anns[0]] {
            assert_eq!(client.next().await["data"], i);
        }
        stage
            .bob
            .send(json!({"type": "leave", "room": "lobby"}))
            .await;
        assert_eq!(stage.bob.next().await["type"], "left");
    }
}

#[tokio::test]
async fn a_bad_record_breaks_nothing() {
    let redis = RedisServer::start().await;
    let set = [
        ALL,
        "broker.redis.listenPrefix=app:",
        "limits.maxMessageBytes=1000",
    ];
    let gateway = Gateway::on_redis(redis.port, &set).await;
    gateway.ready().await;
    let mut ann = gateway.user("ann").await;
    let (long, many) = ("1".repeat(1_001), json!({"to": vec![1; 101], "data": 1}));
    let bad = [
        ("ws:broadcast", "hello", "not_json"),
        ("ws:broadcast", &long, "too_big"),
        ("system:notifications", "{}", "no_data"),
        ("ws:private", r#"{"data":1}"#, "no_receiver"),
        ("ws:private", r#"{"to":{},"data":1}"#, "bad_receiver"),
        ("ws:private", &many.to_string(), "too_many_receivers"),
        (
            "ws:broadcast",
            r#"{"data":1,"exclude":"ann"}"#,
            "bad_exclude",
        ),
    ];
    for _ in 0..3 {
        for (channel, payload, _) in &bad {
            publish(redis.port, &format!("app:{channel}"), payload).await;
        }
        // Not the channel that was named.
        publish(redis.port, "ws:broadcast", r#"{"data":0}"#).await;
        publish(redis.port, "app:ws:private", r#"{"to":"ann","data":1}"#).await;
        assert_eq!(ann.next().await["data"], 1);
    }
    for (channel, _, outcome) in &bad {
        assert_eq!(counted(&gateway, channel, outcome).await, 3.0, "{outcome}");
    }
    assert_eq!(counted(&gateway, "ws:private", "accepted").await, 3.0);
    let log = gateway.log();
    let told = log
        .matches("that a backend published into Redis was dropped")
        .count();
    assert_eq!(told, bad.len(), "{log}");
    let line = "it is no JSON: expected value at line 1 column 1";
    assert!(
        log.contains(line) && log.contains("\"app:ws:broadcast\""),
        "{log}"
    );
    // What has no listener is heard by nobody.
    let off = Gateway::on_redis(redis.port, &["node.name=off"]).await;
    off.ready().await;
    assert_eq!(subscribers(&[&redis], "app:ws:private").await, 1);
    assert_eq!(subscribers(&[&redis], "ws:private").await, 0);
}

#[tokio::test]
async fn what_backends_publish_is_no_part_of_history() {
    let redis = RedisServer::start().await;
    let file = "channels: [{prefix: 'room:', historyMessages: 10, historySeconds: 60}]";
    let gateway = Gateway::on_redis_with(redis.port, file, &[ALL]).await;
    gateway.ready().await;
    let mut ann = Client::connect(gateway.clients, Some(&token("ann", 3_600))).await;
    ann.subscribe("room:lobby").await;
    publish(redis.port, "ws:room:lobby", r#"{"data":1}"#).await;
    let said = json!({"type": "room", "room": "lobby", "data": 1});
    assert_eq!(ann.next_untimed().await, said);
    let sent = gateway.publish(r#"{"channel":"room:lobby","data":2}"#);
    assert_eq!(sent.await.status, 200);
    assert_eq!(ann.next().await["offset"], 1);
    ann.send(json!({"type": "history", "channel": "room:lobby"}))
        .await;
    let kept = ann.next().await;
    assert_eq!(kept["messages"].as_array().unwrap().len(), 1, "{kept}");
}

#[tokio::test]
async fn a_user_without_the_right_is_told_so_once() {
    let redis = RedisServer::start().await;
    let own = "ACL SETUSER default resetchannels &pushcluster:*";
    assert!(redis.ask(own).await.starts_with("+OK"));
    let gateway = Gateway::on_redis(redis.port, &[ALL]).await;
    let told = "(broker.redis.listen): refused SUBSCRIBE: NOPERM";
    until("ready says why not", || async {
        let why = gateway.not_ready("broker").await;
        if why.contains(told) { Ok(()) } else { Err(why) }
    })
    .await;
    // What gateways say to each other is not held up by it, and nobody is kept out of a room.
    let mut ann = gateway.user("ann").await;
    ann.join("lobby").await;
    let sent = gateway.publish(r#"{"channel":"room:lobby","data":1}"#);
    assert_eq!(sent.await.status, 200);
    assert_eq!(ann.next().await["data"], 1);
    assert_eq!(gateway.log().matches(told).count(), 1, "{}", gateway.log());
    redis.ask("ACL SETUSER default allchannels").await;
    gateway.ready().await;
    publish(redis.port, "ws:room:lobby", r#"{"data":2}"#).await;
    assert_eq!(ann.next().await["data"], 2);
}

/// The first round in which everything arrives again, after what was lost meanwhile.
async fn hears_again(stage: &mut Stage, port: u16, round: u32) {
    let probe = json!({"to": ["ann", "bob"], "data": "again"}).to_string();
    for node in [0, 1] {
        heard(&mut stage.anns[node], port, &probe).await;
    }
    heard(&mut stage.bob, port, &probe).await;
    // Drain what else of it came, up to a mark that nobody hears twice.
    let mark = json!({"to": ["ann", "bob"], "data": {"mark": round}}).to_string();
    publish(port, "ws:private", &mark).await;
    for client in stage.anns.iter_mut().chain([&mut stage.bob]) {
        while client.next().await["data"] != json!({"mark": round}) {}
    }
    stage.everything_arrives(port, round).await;
}

async fn heard(client: &mut Client, port: u16, probe: &str) {
    let mut again = tokio::time::interval(std::time::Duration::from_millis(100));
    let listening = async {
        loop {
            tokio::select! {
                said = client.next() => {
                    assert_eq!(said["data"], "again", "{said}");
                    return;
                }
                _ = again.tick() => publish(port, "ws:private", probe).await,
            }
        }
    };
    within("a node hears backends again", listening).await;
}

#[tokio::test]
async fn a_connection_that_is_cut_comes_back() {
    let redis = RedisServer::start().await;
    let url = format!("127.0.0.1:{}", redis.port);
    let mut stage = Stage::new(gateways(&url, "standalone", &[]).await).await;
    redis.ask("CLIENT KILL TYPE pubsub").await;
    hears_again(&mut stage, redis.port, 1).await;
    assert_eq!(subscribers(&[&redis], "ws:room:lobby").await, 2);
    for node in &stage.nodes {
        node.ready().await;
        let losses = node.metric("pushcluster_broker_losses_total").await;
        assert_eq!(losses, Some(2.0), "ours, and that for backends");
    }
}

#[tokio::test]
async fn a_sentinel_master_dies() {
    let mut sentinels = Sentinels::start(1_000).await;
    let (hosts, master) = (
        sentinels.hosts(),
        format!("broker.redis.masterName={MASTER}"),
    );
    let nodes = gateways(&hosts, "sentinel", &[&master]).await;
    let mut stage = Stage::new(nodes).await;
    let first = sentinels.servers[0].port;
    stage.everything_arrives(first, 1).await;
    sentinels.servers[0].kill();
    let next = sentinels.other_than(0).await;
    let port = sentinels.servers[next].port;
    hears_again(&mut stage, port, 2).await;
}

#[tokio::test]
async fn a_cluster_hears_on_any_node_and_moves() {
    let mut cluster = RedisCluster::start(1_000).await;
    let url = format!("127.0.0.1:{}", cluster.servers[1].port);
    let mut stage = Stage::new(gateways(&url, "cluster", &[]).await).await;
    for server in 0..3 {
        let port = cluster.servers[server].port;
        stage
            .everything_arrives(port, u32::try_from(server).unwrap())
            .await;
    }
    let servers: Vec<_> = cluster.servers.iter().collect();
    assert_eq!(subscribers(&servers, "ws:room:lobby").await, 2);
    assert_eq!(subscribers(&servers, "ws:broadcast").await, 3);
    // One at which somebody listens.
    let mut dies = 0;
    while subscribers(&servers[dies..=dies], "ws:broadcast").await == 0 {
        dies += 1;
    }
    cluster.servers[dies].kill();
    let left: Vec<_> = cluster.servers.iter().filter(|s| !s.is_dead()).collect();
    hears_again(&mut stage, left[1].port, 9).await;
    assert_eq!(subscribers(&left, "ws:broadcast").await, 3);
}
