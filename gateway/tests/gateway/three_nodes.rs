//! Three gateways: what is for one user reaches all of its connections, and from Redis only the nodes that hold one.

use serde_json::json;

use crate::client::Client;
use crate::event_source::EventSource;
use crate::program::{API_KEY, Gateway, request, token};
use crate::redis_cluster::RedisCluster;
use crate::redis_server::RedisServer;
use crate::wait::until;

const KEY: (&str, &str) = ("x-api-key", API_KEY);

struct Stage {
    nodes: Vec<Gateway>,
    /// Ann's: two on the first node, one on the second.
    anns: Vec<Client>,
    /// Ann's as well, on the first node.
    stream: EventSource,
    /// On the third.
    bob: Client,
}

impl Stage {
    async fn new(url: &str, mode: &str) -> Stage {
        let url = format!("broker.redis.url=redis://{url}");
        let mode = format!("broker.redis.mode={mode}");
        let mut nodes = Vec::new();
        for name in ["node.name=a", "node.name=b", "node.name=c"] {
            let set = ["broker.kind=redis", "broker.redis.timeoutSeconds=2"];
            let set = [&set[..], &[&url, &mode, name]].concat();
            nodes.push(Gateway::start(&set).await);
        }
        for node in &nodes {
            node.ready().await;
        }
        let mut anns = Vec::new();
        for node in [0, 0, 1] {
            anns.push(nodes[node].user("ann").await);
        }
        let query = format!("token={}", token("ann", 3_600));
        let mut stream = EventSource::open(nodes[0].clients, &query, &[]).await;
        assert_eq!(stream.next().await["type"], "welcome");
        let bob = nodes[2].user("bob").await;
        Stage {
            nodes,
            anns,
            stream,
            bob,
        }
    }

    /// What each node has got from Redis.
    async fn received(&self) -> Vec<f64> {
        let mut received = Vec::new();
        for node in &self.nodes {
            let found = node.metric("pushcluster_broker_deliveries_total").await;
            received.push(found.expect("the series is there"));
        }
        received
    }

    async fn send_to_ann(&self, from: usize, data: u32) {
        let body = json!({"data": data}).to_string();
        let sent = self.nodes[from].post("/api/users/ann/messages", &[KEY], &body);
        assert_eq!(sent.await.status, 200);
    }

    /// `subscribers`: how many nodes Redis sends a message for the user to.
    async fn sends_to_the_nodes_that_hold_one(&mut self, subscribers: impl AsyncFn(usize)) {
        subscribers(2).await;
        let before = self.received().await;
        for i in 0..30 {
            // From a node without one, and from one with some.
            self.send_to_ann(if i % 2 == 0 { 2 } else { 0 }, i).await;
        }
        let private = json!({"type": "private", "to": "ann", "data": 30});
        self.bob.send(private).await;
        for i in 0..31 {
            for ann in &mut self.anns {
                assert_eq!(ann.next().await["data"], i);
            }
            assert_eq!(self.stream.next().await["data"], i);
        }
        let after = self.received().await;
        let got: Vec<f64> = std::iter::zip(&after, &before)
            .map(|(a, b)| a - b)
            .collect();
        assert_eq!(got, [31.0, 31.0, 0.0]);
        // A user's last connection leaves a node: Redis no longer sends it there.
        let last = self.anns.pop().expect("there are three");
        last.close().await;
        subscribers(1).await;
        let before = self.received().await;
        self.send_to_ann(1, 31).await;
        for ann in &mut self.anns {
            assert_eq!(ann.next().await["data"], 31);
        }
        assert_eq!(self.stream.next().await["data"], 31);
        let after = self.received().await;
        assert_eq!(after, [before[0] + 1.0, before[1], before[2]]);
        self.anns.push(self.nodes[1].user("ann").await);
        subscribers(2).await;
    }

    async fn disconnects_all_of_them(&mut self, subscribers: impl AsyncFn(usize)) {
        let path = "/api/users/ann/connections";
        let answer = request(self.nodes[2].clients, "DELETE", path, &[KEY], "").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        for ann in &mut self.anns {
            assert_eq!(ann.closed().await, (3004, "Disconnected".into()));
        }
        let advice =
            json!({"type": "close", "code": 3004, "reason": "Disconnected", "reconnect": false});
        assert_eq!(self.stream.next().await, advice);
        subscribers(0).await;
        self.bob.heard_nothing().await;
        // The token is still good: who comes back is let in.
        let mut again = self.nodes[1].user("ann").await;
        self.send_to_ann(0, 1).await;
        assert_eq!(again.next().await["data"], 1);
    }
}

/// Waits until so many connections of nodes have the channel, at all of these together.
async fn have(servers: &[RedisServer], command: &str, wanted: usize) {
    until("the subscribers of the channel", || async {
        let mut count = 0;
        for server in servers {
            let answer = server.ask(command).await;
            let number = answer.lines().find_map(|line| line.strip_prefix(':'));
            let number = number.and_then(|number| number.parse::<usize>().ok());
            count += number.ok_or(answer)?;
        }
        if count == wanted {
            Ok(())
        } else {
            Err(format!("{count}, not {wanted}"))
        }
    })
    .await;
}

#[tokio::test]
async fn a_user_on_one_redis() {
    let servers = [RedisServer::start().await];
    let url = format!("127.0.0.1:{}", servers[0].port);
    let mut stage = Stage::new(&url, "standalone").await;
    let command = "PUBSUB NUMSUB pushcluster:channel:user:ann";
    let subscribers = async |wanted| have(&servers, command, wanted).await;
    stage.sends_to_the_nodes_that_hold_one(subscribers).await;
    stage.disconnects_all_of_them(subscribers).await;
}

#[tokio::test]
async fn a_user_on_a_cluster() {
    let cluster = RedisCluster::start(2_000).await;
    let url = format!("127.0.0.1:{}", cluster.servers[0].port);
    let mut stage = Stage::new(&url, "cluster").await;
    let command = "PUBSUB SHARDNUMSUB pushcluster:{channel:user:ann}";
    let subscribers = async |wanted| have(&cluster.servers, command, wanted).await;
    stage.sends_to_the_nodes_that_hold_one(subscribers).await;
    stage.disconnects_all_of_them(subscribers).await;
}
