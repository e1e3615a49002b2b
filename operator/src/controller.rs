//! The loop around `reconcile`: what wakes it, what happens when it fails, what is said about it.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crds::PushCluster;
use futures::StreamExt;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::Api;
use kube::runtime::controller::{Action, Config, Controller};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::runtime::watcher;
use kube::{Client, Resource, ResourceExt};

use crate::backoff::Backoff;
use crate::metrics::Metrics;
use crate::push_cluster::apply::{Change, What};
use crate::push_cluster::{Images, ReconcileError, reconcile};

/// What is not watched (pods, an external Redis) is looked at again: often while something is wrong …
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// … and seldom when nothing is.
const LOOK_SELDOM: Duration = Duration::from_secs(120);
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
}

struct Shared {
    client: Client,
    images: Images,
    metrics: Arc<Metrics>,
    backoff: Backoff,
    events: Recorder,
}

impl Operator {
    /// Reconciles until `ended`; reconciles that have begun are finished.
    pub async fn run(self, ended: impl Future<Output = ()> + Send + Sync + 'static) {
        let reporter = Reporter {
            controller: "pushcluster-operator".into(),
            instance: Some(self.instance.clone()),
        };
        let shared = Arc::new(Shared {
            events: Recorder::new(self.client.clone(), reporter),
            client: self.client.clone(),
            images: self.images.clone(),
            metrics: self.metrics.clone(),
            backoff: Backoff::default(),
        });
        let all = watcher::Config::default;
        let ours = || all().labels("app.kubernetes.io/managed-by=pushcluster-operator");
        Controller::new(self.api::<PushCluster>(), all())
            .with_config(Config::default().concurrency(CONCURRENCY))
            .owns(self.api::<Deployment>(), ours())
            .owns(self.api::<StatefulSet>(), ours())
            .owns(self.api::<Service>(), ours())
            .owns(self.api::<ConfigMap>(), ours())
            .owns(self.api::<Secret>(), ours())
            .owns(self.api::<ServiceAccount>(), ours())
            .owns(self.api::<PodDisruptionBudget>(), ours())
            .owns(self.api::<HorizontalPodAutoscaler>(), ours())
            .graceful_shutdown_on(ended)
            .run(one, failed, shared)
            // Errors were told by `failed`; what is left are deliberate skips.
            .for_each(|_| std::future::ready(()))
            .await;
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

async fn one(cluster: Arc<PushCluster>, shared: Arc<Shared>) -> Result<Action, ReconcileError> {
    if cluster.metadata.deletion_timestamp.is_some() {
        // The garbage collector takes everything that it owns.
        return Ok(Action::await_change());
    }
    let begun = Instant::now();
    let result = reconcile(&shared.client, cluster.clone(), &shared.images).await;
    shared.metrics.reconciled(result.is_ok(), begun.elapsed());
    let outcome = result?;
    shared.backoff.succeeded(&object(&cluster));
    tell(&shared, &cluster, &outcome.changes).await;
    Ok(Action::requeue(if outcome.settled {
        LOOK_SELDOM
    } else {
        LOOK_AGAIN
    }))
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the controller hands them over"
)]
fn failed(cluster: Arc<PushCluster>, error: &ReconcileError, shared: Arc<Shared>) -> Action {
    let wait = shared.backoff.failed(&object(&cluster), rand::random());
    tracing::warn!(error = error as &dyn std::error::Error, again_in = ?wait, "reconcile failed");
    Action::requeue(wait)
}

fn object(cluster: &PushCluster) -> String {
    format!(
        "{}/{}",
        cluster.namespace().unwrap_or_default(),
        cluster.name_any()
    )
}

/// One Event for all that a reconcile changed, with its reasons.
async fn tell(shared: &Shared, cluster: &PushCluster, changes: &[Change]) {
    if changes.is_empty() {
        return;
    }
    let mut note = describe(changes);
    tracing::info!(object = object(cluster), "{note}");
    if let Some((cut, _)) = note.char_indices().nth(MAX_NOTE) {
        note.truncate(cut);
    }
    let event = Event {
        type_: EventType::Normal,
        reason: "Applied".into(),
        note: Some(note),
        action: "Apply".into(),
        secondary: None,
    };
    if let Err(error) = shared
        .events
        .publish(&event, &cluster.object_ref(&()))
        .await
    {
        tracing::warn!(%error, "publishing an Event failed");
    }
}

fn describe(changes: &[Change]) -> String {
    let each = changes.iter().map(|change| match &change.what {
        What::Created => format!("created {}", change.object),
        What::Changed(path) => {
            format!("changed {} ({path} was not as it should be)", change.object)
        }
        What::Deleted => format!("deleted {}", change.object),
    });
    each.collect::<Vec<_>>().join(", ")
}
