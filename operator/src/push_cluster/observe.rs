//! Everything that is there: the objects that the operator owns, the Secrets it was pointed to, pods, Redis.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crds::{ExternalRedis, ExternalTopology, PushCluster, RedisMode};
use futures::future::try_join_all;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{ConfigMap, Event, PersistentVolumeClaim, Pod, Secret};
use k8s_openapi::jiff::Timestamp;
use k8s_openapi::{ByteString, NamespaceResourceScope};
use kube::api::{Api, ListParams};
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use super::build::Names;
use super::build::persistence;
use super::build::redis_cluster::SHARD_LABEL;
use super::moves;
use super::named::{Source, read_from};
use super::redis_tls;
use super::shards;
use super::speak::Admin;
use super::users::{self, RedisUser};
use crate::kept::Kept;

mod external;
mod foreign;
mod keda;
mod keys;
mod live;
mod refused;
pub mod revision;
mod slices;

pub use external::Wrong;
pub use keda::Keda;
pub use keys::{Keys, StoredKeys};
pub use live::Live;

#[derive(Debug)]
pub struct Observed {
    pub cluster: Arc<PushCluster>,
    pub live: Live,
    /// The secrets that the operator generated before, as far as they are there.
    pub keys: StoredKeys,
    /// The values that the manifest names in Secrets and ConfigMaps; None where there is no such thing.
    pub referenced: BTreeMap<Source, Option<ByteString>>,
    /// The pods of gateways and of Redis.
    pub pods: Vec<Pod>,
    /// Why a StatefulSet of Redis has too few pods, if the API server takes no more.
    pub refused: Option<String>,
    /// The `pod-template-hash` of gateways that are of the Deployment's template, while gateways are replaced.
    pub newest: Option<String>,
    /// Pods that an EndpointSlice of the Service of the clients has as ready; read while somebody waits for it.
    pub listed: BTreeSet<String>,
    /// What an external Redis answered.
    pub external_redis: Option<Result<(), Wrong>>,
    /// The pods of mode Cluster, and what their Redis says.
    pub redis_pods: Option<Vec<shards::Pod>>,
    /// Somebody else's autoscalers of the gateways, in words.
    pub foreign_autoscalers: Vec<String>,
    pub keda: Keda,
    /// What every Redis and Sentinel of ours accepts from gateways.
    pub redis_users: Vec<RedisUser>,
}

impl Observed {
    /// How the operator comes to Redis; None before there is one.
    pub fn admin(&self) -> Option<Admin> {
        redis_tls::admin(&self.cluster, &self.keys)
    }
}

#[derive(Debug, thiserror::Error)]
#[error("reading {kind} {name} failed")]
pub struct ObserveError {
    kind: String,
    name: String,
    source: kube::Error,
}

/// Everything as it is now.
pub async fn observe(client: &Client, cluster: Arc<PushCluster>) -> Result<Observed, ObserveError> {
    let kept = Kept::default();
    let reader = Reader::new(client, &cluster, &kept, Trust::Nothing);
    read(&reader, cluster).await
}

/// The same, and whether some of the owned objects are from what was kept and not from now.
pub async fn observe_with(
    client: &Client,
    cluster: Arc<PushCluster>,
    kept: &Kept,
    trust: Trust,
) -> Result<(Observed, bool), ObserveError> {
    let reader = Reader::new(client, &cluster, kept, trust);
    let observed = read(&reader, cluster).await?;
    Ok((observed, reader.remembered.load(Ordering::Relaxed)))
}

async fn read(reader: &Reader<'_>, cluster: Arc<PushCluster>) -> Result<Observed, ObserveError> {
    let names = Names::of(&cluster.name_any());
    let mut live = reader.live(&cluster, &names).await?;
    let (scaled_object, is_missing) = reader.scaled_object(&cluster, &names).await?;
    live.scaled_object = scaled_object;
    let mut referenced = BTreeMap::new();
    for one in read_from(&cluster.spec) {
        let value = reader.value(&one.source).await?;
        referenced.insert(one.source, value);
    }
    let newest = reader.newest(&cluster, live.deployment.as_ref()).await?;
    let pods = reader.pods(&names.instance).await?;
    // After the pods: a slice that lists a pod is then not older than its label.
    let listed = match moves::awaits_slices(live.service.as_ref(), &pods) {
        true => reader.listed(&names.service).await?,
        false => BTreeSet::new(),
    };
    // With whatever labels: everybody's.
    let autoscalers: Vec<HorizontalPodAutoscaler> = reader.labelled("").await?;
    let refused = match refused::short_of_pods(&live) {
        Some(set) => reader.refused(set).await?,
        None => None,
    };
    let external_redis = match &cluster.spec.redis.external {
        Some(redis) => Some(external::ask(redis, password(redis, &referenced).as_deref()).await),
        None => None,
    };
    let keys = StoredKeys::of(live.keys.as_ref(), live.redis_certificate.as_ref());
    let admin = redis_tls::admin(&cluster, &keys);
    let redis_pods = match (cluster.spec.redis.mode, &admin) {
        (RedisMode::Cluster, Some(admin)) => {
            Some(shards::speak::look(&pods, &live.shards, admin).await)
        }
        _ => None,
    };
    let redis_users = match (cluster.spec.redis.mode, &admin) {
        (RedisMode::External, _) | (_, None) => Vec::new(),
        (mode, Some(admin)) => users::look(&pods, mode, admin).await,
    };
    let of_keda = keda::made(&cluster, live.scaled_object.as_ref(), &autoscalers);
    Ok(Observed {
        foreign_autoscalers: foreign::foreign(&cluster, &autoscalers, of_keda.as_ref()),
        keda: Keda {
            is_missing,
            autoscaler: of_keda,
        },
        cluster,
        live,
        keys,
        referenced,
        pods,
        refused,
        newest,
        listed,
        external_redis,
        redis_pods,
        redis_users,
    })
}

/// What the operator shows to see whether gateways would be let in; None without one, or while it is not there.
fn password(
    redis: &ExternalRedis,
    referenced: &BTreeMap<Source, Option<ByteString>>,
) -> Option<String> {
    let secret = match redis.topology {
        ExternalTopology::Sentinel => &redis.sentinel_password_secret,
        ExternalTopology::Standalone | ExternalTopology::Cluster => &redis.password_secret,
    };
    let value = referenced.get(&Source::Secret(secret.clone()?))?.clone()?;
    // A gateway reads it as a file, without what editors put at its end.
    Some(String::from_utf8(value.0).ok()?.trim_end().to_owned())
}

/// What of the owned objects may be from before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// Straight from the API server: what is written next is decided on what is there now.
    Nothing,
    /// What was read before and not heard of since.
    Kept,
}

/// What can be read from a namespace.
trait Kind:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug
{
}
impl<K> Kind for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + Debug
{
}

struct Reader<'a> {
    client: &'a Client,
    namespace: String,
    kept: &'a Kept,
    trust: Trust,
    /// Whether something was kept and not read.
    remembered: AtomicBool,
}

impl<'a> Reader<'a> {
    fn new(client: &'a Client, cluster: &PushCluster, kept: &'a Kept, trust: Trust) -> Self {
        Reader {
            client,
            namespace: cluster.namespace().unwrap_or_default(),
            kept,
            trust,
            remembered: AtomicBool::new(false),
        }
    }

    /// The owned objects. Secrets are always read, since nobody hears of them (decision 13).
    async fn live(&self, cluster: &PushCluster, names: &Names) -> Result<Live, ObserveError> {
        let (service_account, keys, config) = tokio::try_join!(
            self.owned(&names.gateway),
            self.get(&names.keys),
            self.owned(&names.config),
        )?;
        let (redis, redis_service, redis_files, redis_budget) = tokio::try_join!(
            self.owned(&names.redis),
            self.owned(&names.redis),
            self.get(&names.redis),
            self.owned(&names.redis),
        )?;
        let redis_certificate = match cluster.spec.redis.tls {
            Some(_) => self.get(&names.redis_tls).await?,
            None => None,
        };
        let shards = self.shards(cluster, names).await?;
        let claims = self.claims(cluster, names).await?;
        let (deployment, service, nodes_service, budget, autoscaler) = tokio::try_join!(
            self.owned(&names.gateway),
            self.owned(&names.service),
            self.owned(&names.nodes_service),
            self.owned(&names.gateway),
            self.owned(&names.service),
        )?;
        let (gateway_policy, redis_policy) =
            tokio::try_join!(self.owned(&names.gateway), self.owned(&names.redis))?;
        Ok(Live {
            service_account,
            keys,
            config,
            redis,
            shards,
            claims,
            redis_service,
            redis_files,
            redis_certificate,
            redis_budget,
            deployment,
            service,
            nodes_service,
            budget,
            autoscaler,
            scaled_object: None,
            gateway_policy,
            redis_policy,
        })
    }

    /// Of a kind that is watched.
    async fn owned<K: Kind + Send + Sync + 'static>(
        &self,
        name: &str,
    ) -> Result<Option<K>, ObserveError> {
        let now = Instant::now();
        if self.trust == Trust::Kept
            && let Some(kept) = self.kept.find(&self.namespace, name, now)
        {
            self.remembered.store(true, Ordering::Relaxed);
            return Ok(kept);
        }
        let ticket = self.kept.ask::<K>(&self.namespace, name, now);
        let read: Option<K> = self.get(name).await?;
        let mut kept = read.clone();
        if let Some(object) = &mut kept {
            // Larger than all the rest, and only asked for before a write.
            object.meta_mut().managed_fields = None;
        }
        self.kept.keep(&self.namespace, name, &ticket, kept);
        Ok(read)
    }

    async fn get<K: Kind>(&self, name: &str) -> Result<Option<K>, ObserveError> {
        let api: Api<K> = Api::namespaced(self.client.clone(), &self.namespace);
        api.get_opt(name).await.map_err(|source| ObserveError {
            kind: K::kind(&()).into(),
            name: name.into(),
            source,
        })
    }

    async fn value(&self, source: &Source) -> Result<Option<ByteString>, ObserveError> {
        Ok(match source {
            Source::Secret(at) => {
                let secret: Option<Secret> = self.get(&at.name).await?;
                secret.and_then(|secret| secret.data?.remove(&at.key))
            }
            Source::ConfigMap(at) => {
                let map: Option<ConfigMap> = self.get(&at.name).await?;
                let text = map.and_then(|map| map.data?.remove(&at.key));
                text.map(|text| ByteString(text.into_bytes()))
            }
        })
    }

    /// The StatefulSets of the shards that the spec names, and of those that it no longer does.
    async fn shards(
        &self,
        cluster: &PushCluster,
        names: &Names,
    ) -> Result<Vec<StatefulSet>, ObserveError> {
        let redis = &cluster.spec.redis;
        let shards = match redis.mode {
            RedisMode::Cluster => redis.cluster.clone().unwrap_or_default().shards,
            RedisMode::Standalone | RedisMode::Sentinel | RedisMode::External => 0,
        };
        let names = (0..usize::try_from(shards).unwrap_or(0)).map(|shard| names.shard(shard));
        let reads = names.map(|name| async move { self.owned(&name).await });
        let found: Vec<Option<StatefulSet>> = try_join_all(reads).await?;
        let mut found: Vec<StatefulSet> = found.into_iter().flatten().collect();
        if shards > 0 {
            let sets: Vec<StatefulSet> = self.list(cluster, SHARD_LABEL).await?;
            let left = sets
                .into_iter()
                .filter(|set| !found.iter().any(|known| known.name_any() == set.name_any()));
            found.extend(left.collect::<Vec<_>>());
        }
        Ok(found)
    }

    /// Those that there are, of the pods that a spec with volumes asks for.
    async fn claims(
        &self,
        cluster: &PushCluster,
        names: &Names,
    ) -> Result<Vec<PersistentVolumeClaim>, ObserveError> {
        let redis = &cluster.spec.redis;
        if redis.persistence.is_none() {
            return Ok(Vec::new());
        }
        let names = persistence::claims(names, redis.mode).into_iter();
        let reads = names.map(|name| async move { self.get(&name).await });
        let found: Vec<Option<PersistentVolumeClaim>> = try_join_all(reads).await?;
        Ok(found.into_iter().flatten().collect())
    }

    async fn list<K: Kind>(
        &self,
        cluster: &PushCluster,
        label: &str,
    ) -> Result<Vec<K>, ObserveError> {
        let labels = format!("app.kubernetes.io/instance={},{label}", cluster.name_any());
        self.labelled(&labels).await
    }

    async fn labelled<K: Kind>(&self, labels: &str) -> Result<Vec<K>, ObserveError> {
        let api: Api<K> = Api::namespaced(self.client.clone(), &self.namespace);
        let listed = api.list(&ListParams::default().labels(labels)).await;
        let failed = |source| ObserveError {
            kind: format!("{}s", K::kind(&())),
            name: labels.into(),
            source,
        };
        Ok(listed.map_err(failed)?.items)
    }

    async fn refused(&self, set: &StatefulSet) -> Result<Option<String>, ObserveError> {
        let api: Api<Event> = Api::namespaced(self.client.clone(), &self.namespace);
        let selected = ListParams::default().fields(&refused::selector(set));
        let listed = api.list(&selected).await.map_err(|source| ObserveError {
            kind: "Events of StatefulSet".into(),
            name: set.name_any(),
            source,
        })?;
        Ok(refused::newest(listed.items, Timestamp::now()))
    }

    async fn newest(
        &self,
        cluster: &PushCluster,
        deployment: Option<&Deployment>,
    ) -> Result<Option<String>, ObserveError> {
        let Some(deployment) = deployment.filter(|found| revision::is_rolling(found)) else {
            return Ok(None);
        };
        let sets: Vec<ReplicaSet> = self.list(cluster, revision::HASH_LABEL).await?;
        Ok(revision::newest(deployment, &sets))
    }

    async fn listed(&self, service: &str) -> Result<BTreeSet<String>, ObserveError> {
        let slices = self.labelled(&slices::selector(service)).await?;
        Ok(slices::ready(slices))
    }

    async fn pods(&self, instance: &str) -> Result<Vec<Pod>, ObserveError> {
        self.labelled(&format!(
            "app.kubernetes.io/name=pushcluster,app.kubernetes.io/instance={instance}"
        ))
        .await
    }
}
