//! The loop around `reconcile`: what wakes it, what happens when it fails, what is said about it.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crds::PushCluster;
use futures::StreamExt;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::jiff::Timestamp;
use kube::api::Api;
use kube::core::PartialObjectMeta;
use kube::runtime::controller::{self, Action, Config, Controller};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use kube::{Client, Resource, ResourceExt};
use tokio::sync::watch;

use crate::backoff::Backoff;
use crate::cordons;
use crate::failure::line;
use crate::looks::again_in;
use crate::metrics::Metrics;
use crate::metrics_api::registration::Registration;
use crate::push_cluster::apply::plan::APPLIED;
use crate::push_cluster::apply::{Change, What};
use crate::push_cluster::{Done, Images, Memory, Outcome, ReconcileError, key, name, reconcile};
use crate::reason::Told;

/// When the Redis of a Cluster have just been told something, the next word waits for what becomes of it; and clients that
/// are moved are counted.
const LOOK_SOON: Duration = Duration::from_secs(1);
/// Objects reconciled at once.
const CONCURRENCY: u16 = 8;
/// Longest note of an Event (the API server's limit is 1 KiB).
const MAX_NOTE: usize = 900;

pub struct Operator {
    pub client: Client,
    pub images: Images,
    pub metrics: Arc<Metrics>,
    /// Empty: every namespace.
    pub namespace: String,
    /// This pod's name.
    pub instance: String,
    /// Of the metrics API; a change of it is told to every PushCluster.
    pub registration: watch::Receiver<Registration>,
}

struct Shared {
    client: Client,
    images: Images,
    metrics: Arc<Metrics>,
    backoff: Backoff,
    memory: Memory,
    /// Of what may be said again with every try.
    events: Recorder,
    reporter: Reporter,
}

impl Operator {
    /// Reconciles until `ended`; reconciles that have begun are finished.
    pub async fn run(self, ended: impl Future<Output = ()> + Send + Sync + 'static) {
        let reporter = Reporter {
            controller: "pushcluster-operator".into(),
            instance: Some(self.instance.clone()),
        };
        let shared = Arc::new(Shared {
            events: Recorder::new(self.client.clone(), reporter.clone()),
            reporter,
            client: self.client.clone(),
            images: self.images.clone(),
            metrics: self.metrics.clone(),
            backoff: Backoff::default(),
            memory: Memory::new(self.registration.clone(), self.namespace.is_empty()),
        });
        let all = watcher::Config::default;
        let ours = || all().labels("app.kubernetes.io/managed-by=pushcluster-operator");
        let mut controller = Controller::new(self.api::<PushCluster>(), all());
        let there = controller.store();
        let exist = move || there.state().iter().map(|cluster| key(cluster)).collect();
        let asking = tokio::spawn(self.metrics.redis.clone().run(exist));
        // Nodes are in no namespace: who may look at one only may not look at them.
        if self.namespace.is_empty() {
            let nodes: Api<PartialObjectMeta<Node>> = Api::all(self.client.clone());
            let cordoned = all().fields(cordons::SELECTED);
            controller = controller.watches(nodes, cordoned, there_were_gateways(&shared));
        }
        controller
            .with_config(Config::default().concurrency(CONCURRENCY))
            .watches(self.heads::<Deployment>(), ours(), heard(&shared))
            .watches(self.heads::<StatefulSet>(), ours(), heard(&shared))
            .watches(self.heads::<Service>(), ours(), heard(&shared))
            .watches(self.heads::<ConfigMap>(), ours(), heard(&shared))
            // No Secret: who may watch those may read all of them (decision 13). One that is gone is seen by the next look.
            .watches(self.heads::<ServiceAccount>(), ours(), heard(&shared))
            .watches(self.heads::<PodDisruptionBudget>(), ours(), heard(&shared))
            .watches(
                self.heads::<HorizontalPodAutoscaler>(),
                ours(),
                heard(&shared),
            )
            .watches(self.heads::<NetworkPolicy>(), ours(), heard(&shared))
            .reconcile_all_on(changes(self.registration.clone()))
            .graceful_shutdown_on(ended)
            .run(one, failed, shared)
            .for_each(|result| {
                if let Err(error) = result {
                    tell_of_watch(&error);
                }
                std::future::ready(())
            })
            .await;
        asking.abort();
    }

    /// Objects without what is in them: whose they are is all that a watch is asked for.
    fn heads<K>(&self) -> Api<PartialObjectMeta<K>>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        self.api()
    }

    fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        match self.namespace.as_str() {
            "" => Api::all(self.client.clone()),
            namespace => Api::namespaced(self.client.clone(), namespace),
        }
    }
}

/// Whose reconcile an owned object begins when something happens to it. What was kept of it is forgotten before.
fn heard<K: 'static>(
    shared: &Arc<Shared>,
) -> impl Fn(PartialObjectMeta<K>) -> Option<ObjectRef<PushCluster>> + Send + Sync + 'static
where
    PartialObjectMeta<K>: Resource,
{
    let shared = shared.clone();
    move |object| {
        shared.memory.kept.forget(&object);
        let namespace = object.namespace();
        let mut owners = object.owner_references().iter();
        owners.find_map(|owner| ObjectRef::from_owner_ref(namespace.as_deref(), owner, ()))
    }
}

/// Whose gateways were on a node that is cordoned, or no longer is.
fn there_were_gateways(
    shared: &Arc<Shared>,
) -> impl Fn(PartialObjectMeta<Node>) -> Vec<ObjectRef<PushCluster>> + Send + Sync + 'static {
    let shared = shared.clone();
    move |node| {
        let there = shared.memory.cordons.heard(&node.name_any());
        let there = there.iter();
        there
            .map(|(namespace, name)| ObjectRef::new(name).within(namespace))
            .collect()
    }
}

/// Each change from now on.
fn changes<T: Send + Sync + 'static>(
    of: watch::Receiver<T>,
) -> impl futures::Stream<Item = ()> + Send + 'static {
    futures::stream::unfold(of, async |mut of| {
        of.changed().await.ok()?;
        Some(((), of))
    })
}

/// A watch that fails (a right that is missing, a definition that is not installed) would otherwise stop the operator
/// without a word. The library waits longer after each failure, up to half a minute.
fn tell_of_watch(error: &controller::Error<ReconcileError, watcher::Error>) {
    match error {
        controller::Error::QueueError(error) => tracing::warn!("watching failed: {}", line(error)),
        controller::Error::RunnerError(error) => tracing::error!("the controller: {}", line(error)),
        // `failed` told of it.
        controller::Error::ReconcilerFailed(..) => {}
        // Deleted between the event and now.
        controller::Error::ObjectNotFound(_) => {}
    }
}

async fn one(cluster: Arc<PushCluster>, shared: Arc<Shared>) -> Result<Action, ReconcileError> {
    if cluster.metadata.deletion_timestamp.is_some() {
        // The garbage collector takes everything that it owns.
        return Ok(Action::await_change());
    }
    let begun = Instant::now();
    let Outcome { done, settled } = reconcile(
        &shared.client,
        cluster.clone(),
        &shared.images,
        &shared.memory,
    )
    .await;
    shared.metrics.reconciled(settled.is_ok(), begun.elapsed());
    if let Some(asked) = done.redis.clone() {
        shared.metrics.redis.watch(key(&cluster), asked);
    }
    for order in &done.moves {
        shared.metrics.moved(order.act);
    }
    tell(&shared, &cluster, &done).await;
    if let Err(error @ ReconcileError::Observe { .. }) = &settled
        && is_forbidden(error)
    {
        // Nothing can be observed, so there is no status that could say it.
        publish(
            &shared,
            &cluster,
            EventType::Warning,
            Told::Forbidden,
            line(error),
        )
        .await;
    }
    let soon = !done.told.is_empty() || done.moving;
    let settled = settled?;
    shared.backoff.succeeded(&name(&cluster));
    let wait = if soon {
        LOOK_SOON
    } else {
        again_in(&cluster, settled, Timestamp::now(), rand::random())
    };
    Ok(Action::requeue(
        done.again.map_or(wait, |again| again.min(wait)),
    ))
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the controller hands them over"
)]
fn failed(cluster: Arc<PushCluster>, error: &ReconcileError, shared: Arc<Shared>) -> Action {
    let wait = shared
        .backoff
        .failed(&name(&cluster), Instant::now(), rand::random());
    tracing::warn!(again_in = ?wait, "{}", line(error));
    Action::requeue(wait)
}

/// An Event for each act that clients notice and for each sort of other change, which says what and why.
async fn tell(shared: &Shared, cluster: &PushCluster, done: &Done) {
    for (reason, note) in notes(done) {
        tracing::info!(object = name(cluster), "{note}");
        publish(shared, cluster, EventType::Normal, reason, note).await;
    }
}

async fn publish(
    shared: &Shared,
    cluster: &PushCluster,
    type_: EventType,
    reason: Told,
    mut note: String,
) {
    if let Some((cut, _)) = note.char_indices().nth(MAX_NOTE) {
        note.truncate(cut);
    }
    let event = Event {
        type_,
        reason: reason.as_str().into(),
        note: Some(note),
        action: "Apply".into(),
        secondary: None,
    };
    // A recorder takes an Event of a reason that it told of minutes before for the same again, whatever the note: it counts
    // it, and the note stays the first one's.
    let recorder = match reason {
        Told::Forbidden => shared.events.clone(),
        _ => Recorder::new(shared.client.clone(), shared.reporter.clone()),
    };
    let published = recorder.publish(&event, &cluster.object_ref(&())).await;
    if let Err(error) = published {
        tracing::warn!("publishing an Event failed: {}", line(&error));
    }
}

/// Whether the installation withholds a right, which nobody sees who only looks at the PushCluster.
fn is_forbidden(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(kube::Error::Api(status)) = cause.downcast_ref::<kube::Error>() {
            return status.code == 403;
        }
        next = cause.source();
    }
    false
}

/// Reason and note of each Event, in the order in which users think of them.
fn notes(done: &Done) -> Vec<(Told, String)> {
    type Says = fn(&Change) -> Option<String>;
    let sorts: [(Told, Says); 4] = [
        (Told::Created, |change| {
            (change.what == What::Created).then(|| format!("created {}", change.object))
        }),
        (Told::Updated, |change| match &change.what {
            What::Changed { path, by: None } => Some(format!("updated {}: {path}", change.object)),
            What::Remade { path, .. } => Some(format!(
                "made {} anew around its pods: {path}",
                change.object
            )),
            _ => None,
        }),
        (Told::Restored, |change| match &change.what {
            What::Changed { path, by: Some(by) } => Some(format!(
                "restored {} after a change by {by}: {path}",
                change.object
            )),
            _ => None,
        }),
        (Told::Pruned, |change| {
            (change.what == What::Deleted).then(|| {
                format!(
                    "deleted {}, which the spec no longer asks for",
                    change.object
                )
            })
        }),
    ];
    // An update that is told for what it does is not told again for what it writes.
    let is_told = |change: &Change, reason| {
        let mut acts = done.disruptions.iter();
        reason == Told::Updated && acts.any(|act| act.object == change.object)
    };
    // Twice for each gateway that is replaced: the Deployment waits, or no longer.
    let is_step = |change: &Change| {
        let steps = [
            "spec.minReadySeconds".to_owned(),
            format!("metadata.annotations.{APPLIED}"),
        ];
        let ours = matches!(&change.what, What::Changed { path, by: None } if steps.contains(path));
        ours && change.object.starts_with("Deployment ")
    };
    let acts = done.disruptions.iter();
    let acts = acts.map(|act| (act.reason, act.note.clone()));
    let changes = sorts.into_iter().map(|(reason, says)| {
        let untold = done
            .changes
            .iter()
            .filter(|change| !is_told(change, reason) && !is_step(change));
        let notes: Vec<String> = untold.filter_map(says).collect();
        (reason, notes.join(", "))
    });
    let told: Vec<String> = done.told.iter().map(ToString::to_string).collect();
    let arranged = (Told::RedisArranged, told.join(", "));
    let changes = changes.chain([arranged]);
    let steps = done.notes.iter();
    let steps = steps.map(|(reason, note)| (*reason, (*note).to_owned()));
    let changes = changes.chain(steps);
    let moves = done.moves.iter().filter_map(|order| order.told.clone());
    let scaled = done.scaled.iter();
    let scaled = scaled.map(|note| (Told::Autoscaled, note.clone()));
    let refused = done.refused.iter().map(|refused| {
        let note = format!(
            "the gateways' template is the one from before again: {}",
            refused.why
        );
        (Told::RolledBack, note)
    });
    let acts = acts.chain(moves).chain(scaled).chain(refused);
    acts.chain(changes.filter(|(_, note)| !note.is_empty()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::push_cluster::disruption::Disruption;

    #[test]
    fn each_sort_of_change_is_an_event_that_says_why() {
        let change = |object: &str, what| Change {
            object: object.into(),
            what,
        };
        let changed = |by: Option<&str>| What::Changed {
            path: "spec.replicas".into(),
            by: by.map(Into::into),
        };
        assert_eq!(notes(&Done::default()), []);
        let done = Done {
            changes: vec![
                change("Deployment a", changed(Some("kubectl-edit"))),
                change("Service b", What::Created),
                change("ConfigMap c", changed(None)),
                change("Service d", What::Created),
                change("HorizontalPodAutoscaler e", What::Deleted),
                change("StatefulSet f", changed(None)),
                change(
                    "Deployment g",
                    What::Changed {
                        path: "spec.minReadySeconds".into(),
                        by: None,
                    },
                ),
            ],
            disruptions: vec![Disruption {
                reason: Told::RedisReplaced,
                object: "StatefulSet f".into(),
                note: "Redis is replaced".into(),
            }],
            notes: vec![(Told::RedisPasswordChanging, "another password")],
            moves: vec![crate::scaling::Order {
                pod: "g".into(),
                act: crate::scaling::Act::Serve,
                told: Some((Told::ClientsCut, "3 are cut".into())),
            }],
            ..Done::default()
        };
        let said: Vec<String> = notes(&done)
            .into_iter()
            .map(|(reason, note)| format!("{}: {note}", reason.as_str()))
            .collect();
        assert_eq!(
            said,
            [
                "RedisReplaced: Redis is replaced",
                "ClientsCut: 3 are cut",
                "Created: created Service b, created Service d",
                "Updated: updated ConfigMap c: spec.replicas",
                "Restored: restored Deployment a after a change by kubectl-edit: spec.replicas",
                "Pruned: deleted HorizontalPodAutoscaler e, which the spec no longer asks for",
                "RedisPasswordChanging: another password",
            ]
        );
    }
}
