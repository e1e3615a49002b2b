//! Six real Redis, started as their pods start them, each at an address of its own on this machine.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use k8s_openapi::jiff::Timestamp;
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::push_cluster::build::redis_cluster::{HAS_ITS_PART, SHARD_LABEL};
use crate::push_cluster::fixture::{built, keys, observed};
use crate::push_cluster::observe::StoredKeys;
use crate::push_cluster::redis_tls;
use crate::push_cluster::shards::orders::moves::are_others_empty;
use crate::push_cluster::shards::orders::orders;
use crate::push_cluster::shards::{Health, health};

const SHARDS: usize = 3;
const KEYS: usize = 30;
/// Far above what anything here takes, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Of a pod: shard and ordinal.
type Place = (usize, usize);

struct Fleet {
    folder: TempDir,
    shards: usize,
    /// Among the addresses of this process: another for each test.
    first: usize,
    running: BTreeMap<Place, Child>,
    admin: Admin,
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for place in self.running.keys().copied().collect::<Vec<_>>() {
            self.kill(place);
        }
    }
}

/// Other tests have other processes, and so other addresses.
fn address(first: usize, (shard, ordinal): Place) -> String {
    let process = std::process::id();
    let (high, low) = (process / 250 % 100 + 100, process % 250 + 1);
    format!("127.{high}.{low}.{}", first + shard * 10 + ordinal + 1)
}

impl Fleet {
    fn new(first: usize) -> Fleet {
        Fleet {
            folder: tempfile::tempdir().unwrap(),
            shards: SHARDS,
            first,
            running: BTreeMap::new(),
            admin: Admin {
                password: keys().redis_admin_password,
                tls: None,
            },
        }
    }

    /// All of them with TLS alone.
    fn with_tls(first: usize) -> Fleet {
        let mut fleet = Fleet::new(first);
        let spec = json!({"redis": {"mode": "Cluster", "tls": {}}});
        let mut keys = StoredKeys {
            redis_admin_password: Some(keys().redis_admin_password),
            ..StoredKeys::default()
        };
        let observed = observed(&spec);
        keys.redis_tls = redis_tls::step(&observed, Timestamp::now().as_second()).unwrap();
        for (name, content) in keys.redis_tls.as_ref().unwrap().entries() {
            std::fs::write(fleet.folder.path().join(name), content.0).unwrap();
        }
        fleet.admin = redis_tls::admin(&observed.cluster, &keys).unwrap();
        fleet
    }

    /// With a new empty directory, as a new pod has, or with the one of before, as a container that is started again.
    fn start(&mut self, place: Place, anew: bool) {
        let mut spec = json!({"redis": {"mode": "Cluster", "cluster": {"shards": 4}}});
        if self.admin.tls.is_some() {
            spec["redis"]["tls"] = json!({});
        }
        let objects = built(&spec);
        let redis = objects.redis.unwrap();
        let spec = redis.stateful_sets[place.0].spec.clone().unwrap();
        let container = spec.template.spec.unwrap().containers.remove(0);
        let (command, args) = (container.command.unwrap(), container.args.unwrap());

        let folder = self.folder.path().join(address(self.first, place));
        if anew {
            let _ = std::fs::remove_dir_all(&folder);
        }
        std::fs::create_dir_all(&folder).unwrap();
        let data = folder.to_str().unwrap();
        let conf = &redis.files.unwrap().data.unwrap()["redis.conf"].0;
        let conf = String::from_utf8(conf.clone()).unwrap();
        let conf = conf
            .replace("/data", data)
            .replace(
                "bind * -::*",
                &format!("bind {}", address(self.first, place)),
            )
            .replace("cluster-node-timeout 5000", "cluster-node-timeout 1500");
        let file = folder.join("redis.conf");
        std::fs::write(&file, conf).unwrap();

        let started = Command::new(&command[0])
            .args(
                command[1..]
                    .iter()
                    .map(|word| word.replace("/data", data).replace("sleep 12", "sleep 4")),
            )
            .args(args.iter().map(|word| {
                word.replace("/etc/redis/redis.conf", file.to_str().unwrap())
                    .replace("/etc/redis-tls", self.folder.path().to_str().unwrap())
                    .replace("$(POD_IP)", &address(self.first, place))
                    .replace(
                        "$(POD_NAME)",
                        &format!("demo-redis-{}-{}", place.0, place.1),
                    )
            }))
            .stdout(Stdio::null())
            .spawn();
        self.running.insert(place, started.unwrap());
    }

    fn kill(&mut self, place: Place) {
        if let Some(mut child) = self.running.remove(&place) {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// As the API server shows them.
    fn pods(&self) -> Vec<v1::Pod> {
        let pod = |place: &Place| {
            let (shard, ordinal) = place;
            serde_json::from_value(json!({
                "metadata": {
                    "name": format!("demo-redis-{shard}-{ordinal}"),
                    "labels": {SHARD_LABEL: shard.to_string()},
                },
                "status": {
                    "podIP": address(self.first, *place),
                    "containerStatuses": [{
                        "name": CONTAINER, "image": "i", "imageID": "", "ready": true,
                        "restartCount": 0, "state": {"running": {}},
                    }],
                },
            }))
            .unwrap()
        };
        self.running.keys().map(pod).collect()
    }

    async fn look(&self) -> Vec<Pod> {
        look(&self.pods(), &[], &self.admin).await
    }

    /// Looks and orders, as the operator does, until every shard has a master and a replica.
    async fn until_whole(&self, what: &str) -> Vec<Pod> {
        let begun = Instant::now();
        let mut looks = tokio::time::interval(Duration::from_millis(100));
        loop {
            looks.tick().await;
            let pods = self.look().await;
            let found = health(&pods, self.shards).unwrap_or_default();
            let whole = |shard: &Health| shard.unserved == 0 && shard.replicas == 1;
            let next = orders(&pods, self.shards, 1);
            if next.is_empty() && found.len() == self.shards && found.iter().all(whole) {
                eprintln!("{what}: whole after {:.1?}", begun.elapsed());
                return pods;
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "{what}: {found:?}, to do: {next:?}, seen: {pods:?}"
            );
            carry_out(&pods, next, &self.admin).await;
        }
    }

    async fn ask(&self, place: Place, words: &[&str]) -> Result<String, SpeakError> {
        let address = address(self.first, place);
        let place = self.admin.at(&address, REDIS_PORT);
        let mut speaker = Speaker::open(&place, &self.admin.password).await?;
        speaker.ask(words).await
    }

    /// How many of the keys the masters have, together.
    async fn count(&self, pods: &[Pod]) -> usize {
        let begun = Instant::now();
        let mut count = 0;
        for master in masters(pods) {
            for key in 0..KEYS {
                let key = format!("key-{key}");
                let found = loop {
                    match self.ask(master, &["GET", &key]).await {
                        Ok(value) => break value == "kept",
                        Err(error) if error.to_string().contains("MOVED") => break false,
                        // One that has just become master serves nobody for a moment.
                        Err(error) => assert!(begun.elapsed() < PATIENCE, "{error}"),
                    }
                };
                count += usize::from(found);
            }
        }
        count
    }

    async fn fill(&self, pods: &[Pod]) {
        let begun = Instant::now();
        // A master that has just begun serves nobody for a moment.
        while self.count(pods).await < KEYS {
            assert!(begun.elapsed() < PATIENCE, "not every key is taken");
            for master in masters(pods) {
                for key in 0..KEYS {
                    // Refused by all but the master of its slot.
                    let key = format!("key-{key}");
                    let _ = self.ask(master, &["SET", &key, "kept"]).await;
                }
            }
        }
        self.until_replicas_have_all(pods).await;
    }

    async fn until_replicas_have_all(&self, pods: &[Pod]) {
        let begun = Instant::now();
        for master in masters(pods) {
            let replica = (master.0, 1 - master.1);
            while self.ask(master, &["DBSIZE"]).await.unwrap()
                != self.ask(replica, &["DBSIZE"]).await.unwrap()
            {
                assert!(begun.elapsed() < PATIENCE, "{replica:?} does not have all");
            }
        }
    }
}

fn masters(pods: &[Pod]) -> Vec<Place> {
    let shards = 1 + pods.iter().map(|pod| pod.shard).max().unwrap();
    let health = health(pods, shards).unwrap();
    let masters = health.into_iter().filter_map(|shard| shard.master);
    masters.map(|name| place(&name)).collect()
}

fn place(name: &str) -> Place {
    let mut numbers = name.rsplit('-').map(|word| word.parse().unwrap());
    let ordinal = numbers.next().unwrap();
    (numbers.next().unwrap(), ordinal)
}

#[tokio::test]
async fn a_cluster_of_redis_is_made_and_heals_and_an_empty_one_is_never_master_of_what_others_have()
{
    let mut fleet = Fleet::new(0);
    let all: Vec<Place> = (0..SHARDS)
        .flat_map(|shard| [(shard, 0), (shard, 1)])
        .collect();
    for place in &all {
        fleet.start(*place, true);
    }
    let mut pods = fleet.until_whole("made").await;
    for place in &all {
        let ready = fleet.ask(*place, &["EVAL", HAS_ITS_PART, "0"]).await;
        assert_eq!(ready.unwrap(), "ready", "{place:?}");
    }
    fleet.fill(&pods).await;

    // Its container is started again at once, with the directory that it had; or a pod without one gets its address.
    for (what, anew) in [("a container", false), ("the address of a pod", true)] {
        let lost = masters(&pods)[0];
        fleet.kill(lost);
        fleet.start(lost, anew);
        pods = fleet.until_whole(what).await;
        assert_ne!(
            masters(&pods)[0],
            lost,
            "{what}: it was elected with nothing in it"
        );
        assert_eq!(fleet.count(&pods).await, KEYS, "{what}");
        fleet.until_replicas_have_all(&pods).await;
    }

    // Two of three: nobody can be elected.
    let lost = &masters(&pods)[1..];
    for place in lost {
        fleet.kill(*place);
    }
    for place in lost {
        fleet.start(*place, true);
    }
    let pods = fleet.until_whole("two masters of three").await;
    assert_eq!(fleet.count(&pods).await, KEYS);

    // What only they had is lost, and nothing else; their slots are served again.
    let mut others = 0;
    for master in &masters(&pods)[1..] {
        let size = fleet.ask(*master, &["DBSIZE"]).await.unwrap();
        others += size.parse::<usize>().unwrap();
    }
    for place in [(0, 0), (0, 1)] {
        fleet.kill(place);
    }
    for place in [(0, 0), (0, 1)] {
        fleet.start(place, true);
    }
    let pods = fleet.until_whole("a whole shard").await;
    assert_eq!(fleet.count(&pods).await, others);

    for place in &all {
        fleet.kill(*place);
    }
    for place in &all {
        fleet.start(*place, true);
    }
    let pods = fleet.until_whole("all six").await;
    fleet.fill(&pods).await;
}

#[tokio::test]
async fn shards_come_and_go_with_their_slots_and_what_is_in_them() {
    come_and_go(Fleet::new(100)).await;
}

/// Replication, the bus, keys on their way and every order.
#[tokio::test]
async fn so_they_do_with_tls_and_nobody_is_heard_without() {
    let mut fleet = Fleet::with_tls(150);
    fleet.start((2, 1), true);
    let begun = Instant::now();
    while fleet.ask((2, 1), &["PING"]).await.is_err() {
        assert!(begun.elapsed() < PATIENCE);
    }
    let tls = fleet.admin.tls.take();
    assert!(fleet.ask((2, 1), &["PING"]).await.is_err(), "without TLS");
    fleet.admin.tls = tls;
    fleet.kill((2, 1));
    come_and_go(fleet).await;
}

async fn come_and_go(mut fleet: Fleet) {
    for place in (0..3).flat_map(|shard| [(shard, 0), (shard, 1)]) {
        fleet.start(place, true);
    }
    let pods = fleet.until_whole("three").await;
    fleet.fill(&pods).await;
    fleet.shards = 4;
    fleet.start((3, 0), true);
    fleet.start((3, 1), true);
    let pods = fleet.until_whole("four").await;
    let taken = fleet.ask(masters(&pods)[3], &["DBSIZE"]).await.unwrap();
    assert_ne!(taken, "0", "nothing came with the slots");
    assert_eq!(fleet.count(&pods).await, KEYS);

    fleet.shards = 3;
    let pods = fleet.until_whole("three again").await;
    assert!(are_others_empty(&pods, 3));
    fleet.kill((3, 0));
    fleet.kill((3, 1));
    let pods = fleet.until_whole("without the fourth").await;
    assert_eq!(fleet.count(&pods).await, KEYS);
}

#[tokio::test]
async fn who_may_not_or_does_not_answer_is_silent_and_says_why() {
    let mut fleet = Fleet::new(200);
    fleet.start((2, 2), true);
    let begun = Instant::now();
    while fleet.ask((2, 2), &["PING"]).await.is_err() {
        assert!(begun.elapsed() < PATIENCE);
    }
    let fresh = fleet.ask((2, 2), &["EVAL", HAS_ITS_PART, "0"]).await;
    assert!(
        fresh
            .unwrap_err()
            .to_string()
            .contains("no part in the Cluster yet")
    );
    fleet.admin.password = "not-the-password".into();
    let seen = fleet.look().await;
    let Redis::Silent { why, .. } = &seen[0].redis else {
        panic!("{seen:?}")
    };
    assert!(why.contains("refused AUTH: WRONGPASS"), "{why}");
    assert!(!why.contains("not-the-password"), "{why}");
}
