//! Role, memory and failovers of every Redis that the operator made, as metrics of its own. One task asks all of them,
//! beside the reconciles: one that hangs holds nobody up. What is asked is what reconciles saw last.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crds::RedisMode;
use futures::StreamExt;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntGaugeVec, Opts};
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::push_cluster::build::sentinel::REDIS_PORT;
use crate::push_cluster::observe::Observed;
use crate::push_cluster::speak::{Admin, Place, SpeakError, Speaker};
use crate::push_cluster::users;
use crate::push_cluster::vitals::{Masters, Vitals, vitals};

/// Between two rounds: as often as metrics are mostly read.
const EVERY: Duration = Duration::from_secs(15);
/// For one Redis; inside a cluster an answer takes milliseconds.
const DEADLINE: Duration = Duration::from_secs(2);
/// Redis that are asked at once.
const AT_ONCE: usize = 100;

/// Where to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The admin's.
    password: String,
    pods: Vec<(String, usize, Place)>,
}

/// None: it has no Redis of ours, or none that could be asked.
pub fn asked(observed: &Observed) -> Option<Asked> {
    if observed.cluster.spec.redis.mode == RedisMode::External {
        return None;
    }
    let admin = observed.admin()?;
    Some(Asked {
        pods: users::redis(&observed.pods, &admin),
        password: admin.password,
    })
}

/// What is known of the Redis of one PushCluster.
#[derive(Default)]
struct Known {
    asked: Option<Asked>,
    /// By pod; None for one that did not answer.
    pods: BTreeMap<String, Option<Vitals>>,
    masters: Masters,
    failovers: u64,
}

/// Namespace and name.
type Object = (String, String);

/// Cloning shares it.
#[derive(Clone, Default)]
pub struct RedisMetrics(Arc<Mutex<BTreeMap<Object, Known>>>);

impl RedisMetrics {
    /// Asks these from now on; what is no more of the object vanishes with the next round.
    pub fn watch(&self, object: Object, asked: Asked) {
        self.with(|all| all.entry(object).or_default().asked = Some(asked));
    }

    /// Asks all, again and again. `exist`: the PushClusters that there are; what is known of others is forgotten.
    pub async fn run(self, exist: impl Fn() -> BTreeSet<Object>) {
        let mut pace = interval(EVERY);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            pace.tick().await;
            self.forget_others(&exist());
            self.round().await;
        }
    }

    fn forget_others(&self, exist: &BTreeSet<Object>) {
        self.with(|all| all.retain(|object, _| exist.contains(object)));
    }

    async fn round(&self) {
        let all: Vec<(Object, Asked)> = self.with(|all| {
            let all = all.iter();
            let asked =
                all.filter_map(|(object, known)| Some((object.clone(), known.asked.clone()?)));
            asked.collect()
        });
        let questions = all
            .into_iter()
            .flat_map(|(object, Asked { password, pods })| {
                pods.into_iter().map(move |(pod, shard, place)| {
                    let (object, password) = (object.clone(), password.clone());
                    async move {
                        let asking = timeout(DEADLINE, ask(&place, &password));
                        let vitals = asking.await.ok().and_then(Result::ok).flatten();
                        (object, (pod, shard, vitals))
                    }
                })
            });
        let questions: Vec<_> = questions.collect();
        let answers = futures::stream::iter(questions).buffer_unordered(AT_ONCE);
        let mut answered: BTreeMap<Object, Vec<Answer>> = BTreeMap::new();
        for (object, answer) in answers.collect::<Vec<_>>().await {
            answered.entry(object).or_default().push(answer);
        }
        self.with(|all| {
            for (object, known) in all.iter_mut() {
                known.take(answered.remove(object).unwrap_or_default());
            }
        });
    }

    fn with<T>(&self, act: impl FnOnce(&mut BTreeMap<Object, Known>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Pod, shard, what it says.
type Answer = (String, usize, Option<Vitals>);

impl Known {
    fn take(&mut self, answers: Vec<Answer>) {
        let claims = answers.iter();
        let claims =
            claims.filter_map(|(pod, shard, vitals)| Some((*shard, pod.as_str(), (*vitals)?.role)));
        self.failovers += self.masters.changed(&claims.collect::<Vec<_>>());
        self.pods = answers
            .into_iter()
            .map(|(pod, _, vitals)| (pod, vitals))
            .collect();
    }
}

/// What the Redis at this address says; None for one that does not.
pub async fn vitals_at(address: &str, admin: &Admin) -> Option<Vitals> {
    let place = admin.at(address, REDIS_PORT);
    let asking = timeout(DEADLINE, ask(&place, &admin.password));
    asking.await.ok()?.ok()?
}

async fn ask(place: &Place, password: &str) -> Result<Option<Vitals>, SpeakError> {
    let mut speaker = Speaker::open(place, password).await?;
    let memory = speaker.ask(&["INFO", "memory"]).await?;
    let replication = speaker.ask(&["INFO", "replication"]).await?;
    Ok(vitals(&memory, &replication))
}

/// The series of one moment.
struct Series {
    up: IntGaugeVec,
    role: IntGaugeVec,
    used: IntGaugeVec,
    max: IntGaugeVec,
    replicas: IntGaugeVec,
    follows: IntGaugeVec,
    failovers: prometheus::IntCounterVec,
}

const POD: [&str; 3] = ["namespace", "pushcluster", "pod"];

impl Series {
    fn new() -> prometheus::Result<Series> {
        let of_pod = |name: &str, help: &str| IntGaugeVec::new(Opts::new(name, help), &POD);
        Ok(Series {
            up: of_pod(
                "pushcluster_redis_up",
                "1 where this Redis answers the operator.",
            )?,
            role: IntGaugeVec::new(
                Opts::new("pushcluster_redis_role", "1 for what this Redis is."),
                &["namespace", "pushcluster", "pod", "role"],
            )?,
            used: of_pod(
                "pushcluster_redis_used_memory_bytes",
                "What this Redis has taken of memory.",
            )?,
            max: of_pod(
                "pushcluster_redis_max_memory_bytes",
                "What this Redis may take of memory by its own configuration; 0: no limit but its container's.",
            )?,
            replicas: of_pod(
                "pushcluster_redis_connected_replicas",
                "Replicas that are connected to this Redis.",
            )?,
            follows: of_pod(
                "pushcluster_redis_master_link_up",
                "1 where this replica follows its master.",
            )?,
            failovers: prometheus::IntCounterVec::new(
                Opts::new(
                    "pushcluster_redis_failovers_total",
                    "Times at which another Redis was found to be the master, of all shards.",
                ),
                &["namespace", "pushcluster"],
            )?,
        })
    }

    fn add(&self, (namespace, name): &Object, known: &Known) {
        if known.pods.is_empty() {
            return;
        }
        let failovers = self.failovers.with_label_values(&[namespace, name]);
        failovers.inc_by(known.failovers);
        for (pod, vitals) in &known.pods {
            let labels = [namespace.as_str(), name, pod];
            let set = |series: &IntGaugeVec, value: u64| {
                let series = series.with_label_values(&labels);
                series.set(i64::try_from(value).unwrap_or(i64::MAX));
            };
            set(&self.up, vitals.is_some().into());
            let Some(vitals) = vitals else { continue };
            let role = [namespace.as_str(), name, pod, vitals.role.as_str()];
            self.role.with_label_values(&role).set(1);
            set(&self.used, vitals.used_bytes);
            set(&self.max, vitals.max_bytes);
            set(&self.replicas, vitals.replicas);
            if let Some(follows) = vitals.follows {
                set(&self.follows, follows.into());
            }
        }
    }

    fn each(&self) -> [&dyn Collector; 7] {
        [
            &self.up,
            &self.role,
            &self.used,
            &self.max,
            &self.replicas,
            &self.follows,
            &self.failovers,
        ]
    }
}

/// Made anew each time, so that nothing is left of what is gone.
impl Collector for RedisMetrics {
    fn desc(&self) -> Vec<&Desc> {
        // Unchecked, as the client library has it: the names are those of `collect`.
        Vec::new()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let Ok(series) = Series::new() else {
            return Vec::new();
        };
        self.with(|all| {
            for (object, known) in all.iter() {
                series.add(object, known);
            }
        });
        let families = series.each().into_iter().flat_map(Collector::collect);
        families
            .filter(|family| !family.get_metric().is_empty())
            .collect()
    }
}

#[cfg(test)]
mod tests;
