//! One PushCluster: observe, validate, build, apply, status.
//!
//! `validate` and `build` are pure; `observe` only reads, `apply` and `status` only write, and nothing that is
//! already so. What is invalid is never half applied: the objects that are there stay as they are.

use std::sync::Arc;
use std::time::Duration;

use crds::PushCluster;
use k8s_openapi::jiff::Timestamp;
use kube::{Client, ResourceExt};
use rand::RngCore;
use tokio::sync::watch;

use crate::contest::Contests;
use crate::cordons::Cordons;
use crate::kept::Kept;
use crate::metrics_api::registration::Registration;
use crate::reason::Told;
use crate::redis_metrics::{self, Asked};
use crate::scaling;
use apply::Change;
use apply::plan::{Write, plan};
use autoscaling::{Autoscaling, Histories};
use build::Names;
use consent::Pending;
use disruption::Disruption;
use gateways::Seen;
use observe::{Observed, Trust};
use rollback::{Refused, fault};
use shards::orders::Order;
use validate::{Problem, ValidatedCluster};

pub mod apply;
mod arrange;
pub mod autoscaling;
pub mod build;
pub mod consent;
pub mod disruption;
pub mod exchange;
#[cfg(test)]
mod fixture;
pub mod gateways;
pub mod grace;
pub mod moves;
pub mod named;
pub mod observe;
pub mod passwords;
pub mod preview;
pub mod redis_tls;
pub mod rollback;
pub mod rotation;
pub mod shards;
pub mod speak;
pub mod status;
pub mod succession;
pub mod users;
pub mod validate;
pub mod vitals;

/// The images that came with the operator, and where it is itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Images {
    pub gateway: String,
    pub redis: String,
    /// The namespace of the operator's own pods, whom NetworkPolicies let in.
    pub operator_namespace: String,
    /// Where others in the cluster find their admin port, as in `http://operator.system.svc:9090`.
    pub admin_url: String,
}

/// Where the chart has the admin port, under the name of its own, in this namespace.
#[must_use]
pub fn admin_url(operator_namespace: &str) -> String {
    format!("http://pushcluster-operator.{operator_namespace}.svc:9090")
}

#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    #[error("PushCluster {object}: observing it failed")]
    Observe {
        object: String,
        source: observe::ObserveError,
    },
    #[error("PushCluster {object}: applying its objects failed")]
    Apply {
        object: String,
        source: apply::ApplyError,
    },
    #[error("PushCluster {object}: writing its status failed")]
    Status { object: String, source: kube::Error },
}

/// What a reconcile came to.
#[derive(Debug)]
pub struct Outcome {
    pub done: Done,
    /// Whether there is nothing left to wait for.
    pub settled: Result<bool, ReconcileError>,
}

/// What was done, also by a reconcile that then failed.
#[derive(Debug, Default)]
pub struct Done {
    pub changes: Vec<Change>,
    pub disruptions: Vec<Disruption>,
    /// What the Redis of a Cluster were told.
    pub told: Vec<Order>,
    /// What has begun or ended.
    pub notes: Vec<(Told, &'static str)>,
    /// A template that was taken back, and why.
    pub refused: Option<Refused>,
    /// Where Redis is asked how it is. None: it was not looked.
    pub redis: Option<Asked>,
    /// What was done to move clients.
    pub moves: Vec<scaling::Order>,
    /// Clients are on their way: look soon.
    pub moving: bool,
    /// What the operator's own autoscaler did, for an Event.
    pub scaled: Option<String>,
    /// When it decides again.
    pub again: Option<Duration>,
}

impl Done {
    fn has_changed(&self, kind: &str, name: &str) -> bool {
        let object = format!("{kind} {name}");
        self.changes.iter().any(|change| change.object == object)
    }
}

/// What one reconcile leaves for the next, of which nothing is needed: a new operator begins without. And what all of them
/// are told.
pub struct Memory {
    pub contests: Contests,
    pub kept: Kept,
    pub histories: Histories,
    pub cordons: Cordons,
    /// Of the metrics API.
    pub registration: watch::Receiver<Registration>,
}

impl Memory {
    /// `everywhere`: not for one namespace only.
    #[must_use]
    pub fn new(registration: watch::Receiver<Registration>, everywhere: bool) -> Memory {
        Memory {
            cordons: Cordons::new(everywhere),
            contests: Contests::default(),
            kept: Kept::default(),
            histories: Histories::default(),
            registration,
        }
    }
}

pub async fn reconcile(
    client: &Client,
    cluster: Arc<PushCluster>,
    images: &Images,
    memory: &Memory,
) -> Outcome {
    let mut done = Done::default();
    let settled = steps(client, cluster, images, memory, &mut done).await;
    Outcome { done, settled }
}

async fn steps(
    client: &Client,
    cluster: Arc<PushCluster>,
    images: &Images,
    memory: &Memory,
    done: &mut Done,
) -> Result<bool, ReconcileError> {
    let object = name(&cluster);
    let now = status::to_the_second(Timestamp::now());
    let (mut observed, remembered) = look(client, memory, cluster, Trust::Kept).await?;
    let registration = memory.registration.borrow().clone();
    let mut decided = decide(&observed, images, &registration, now);
    if remembered && !decided.writes.is_empty() {
        // What is kept decides only that there is nothing to do.
        (observed, _) = look(client, memory, observed.cluster, Trust::Nothing).await?;
        decided = decide(&observed, images, &registration, now);
    }
    let (validated, paused) = (decided.validated, observed.cluster.spec.paused);
    let mut acted = status::Acted {
        pending: decided.pending,
        // While nothing is written, nothing is taken back.
        refused: decided.refused.filter(|one| !paused || one.since < now),
        registration,
        ..status::Acted::default()
    };
    if !observed.cluster.spec.paused {
        let namespace = observed.cluster.namespace().unwrap_or_default();
        let contests = &memory.contests;
        let applied = apply::apply(client, &namespace, &decided.writes, contests).await;
        done.changes = applied.changes;
        let names = Names::of(&observed.cluster.name_any());
        if done.has_changed("Secret", &names.keys) {
            done.notes = decided.notes;
        }
        if done.has_changed("Deployment", &names.gateway) {
            done.refused = acted.refused.clone().filter(|refused| refused.since == now);
        }
        acted.failure = applied.failure;
    }
    if !done.changes.is_empty() {
        // What was seen before is no longer so: a Deployment that was changed a moment ago is not rolled out.
        let before = observed.live;
        (observed, _) = look(client, memory, observed.cluster, Trust::Nothing).await?;
        done.disruptions = disruption::disruptions(&before, &observed.live, &done.changes);
    }
    let mut corrected = false;
    if !observed.cluster.spec.paused {
        done.told = arrange::arrange(client, &observed, &validated).await;
        corrected = users::tell(&observed).await | redis_tls::tell(&observed).await;
        gateways::nudge::redis(client, &observed).await;
    }
    let turn = rand::random::<u16>().into();
    done.redis = redis_metrics::asked(&observed);
    let seen = gateways::look(&observed, status::delivered(&observed.cluster), turn).await;
    if let (Some(compared), false) = (&seen.config, observed.cluster.spec.paused) {
        gateways::nudge::nudge(client, &observed, compared).await;
    }
    acted.autoscaling = Autoscaling::of(&observed, &seen, &acted.registration, now);
    if let Ok(validated) = &validated {
        let looked = (&observed, &seen, validated);
        resize(client, memory, looked, (&mut acted, done), now).await;
    }
    let status = status::status(&observed, &validated, &acted, &seen, now);
    // A Redis that has its orders is looked at again.
    let moves = done.moving || acted.moves.waits.is_some();
    let whole = done.told.is_empty() && !corrected && arrange::is_whole(&observed) && !moves;
    let exchanged = observed.keys.rotation.next.is_none() && observed.keys.passwords.is_at_rest();
    let shown = redis_tls::is_at_rest(&observed);
    let settled = whole && exchanged && shown && status::is_settled(&status);
    status::write(client, &observed.cluster, status)
        .await
        .map_err(|source| ReconcileError::Status {
            object: object.clone(),
            source,
        })?;
    match acted.failure {
        Some(source) => Err(ReconcileError::Apply { object, source }),
        None => Ok(settled),
    }
}

/// Moves clients, where there are to be others, and lets the operator's own autoscaler decide how many.
async fn resize(
    client: &Client,
    memory: &Memory,
    (observed, seen, validated): (&Observed, &Seen, &ValidatedCluster),
    (acted, done): (&mut status::Acted, &mut Done),
    now: Timestamp,
) {
    let (of, on) = (key(&observed.cluster), moves::places(observed));
    let cordoned = memory.cordons.nodes(client, of, on).await;
    let mut plan = moves::plan(observed, seen, &cordoned, now);
    let orders = std::mem::take(&mut plan.orders);
    if !observed.cluster.spec.paused {
        done.moving = !orders.is_empty() || !plan.moving.is_empty();
        done.moves = moves::carry_out(client, observed, orders).await;
        let notes = fault::notes(observed, seen, now);
        fault::write(client, observed, notes).await;
        let scaling = autoscaling::Scaling {
            client,
            observed,
            histories: &memory.histories,
        };
        done.again = acted.autoscaling.again();
        match scaling.scale(validated, &acted.autoscaling, now).await {
            Ok(note) => done.scaled = note,
            Err(failure) => drop(acted.failure.get_or_insert(failure)),
        }
    }
    acted.moves = plan;
}

/// What is to be written, and why nothing is.
struct Decided {
    validated: Result<ValidatedCluster, Vec<Problem>>,
    pending: Option<Pending>,
    refused: Option<Refused>,
    writes: Vec<Write>,
    /// What begins or ends when the Secret is written.
    notes: Vec<(Told, &'static str)>,
}

fn decide(
    observed: &Observed,
    images: &Images,
    registration: &Registration,
    now: Timestamp,
) -> Decided {
    let mut decided = Decided {
        validated: validate::validate(observed, images),
        pending: None,
        refused: None,
        writes: Vec::new(),
        notes: Vec::new(),
    };
    let certificate = redis_tls::step(observed, now.as_second());
    let certificate = certificate.unwrap_or_else(|problem| {
        if decided.validated.is_ok() {
            decided.validated = Err(vec![problem]);
        }
        None
    });
    if let Ok(validated) = &decided.validated {
        let mut keys = rotation::keys(observed, now, random_key);
        passwords::rotate(&mut keys, observed, now, random_key);
        keys.redis_tls = certificate;
        let told = observed.keys.passwords.told(&keys.passwords);
        decided.notes.extend(told);
        let mut objects = build::build(validated, &keys);
        let (cluster, live) = (&observed.cluster, &observed.live);
        decided.refused = rollback::refuse(&mut objects, observed, now);
        decided.pending = consent::hold(&mut objects, live, cluster, (validated, &keys));
        rollback::remember(&mut objects, live);
        moves::settle(&mut objects, observed);
        autoscaling::settle(&mut objects, observed, registration);
        decided.writes = plan(objects, live, &cluster.uid().unwrap_or_default());
    }
    decided
}

async fn look(
    client: &Client,
    memory: &Memory,
    cluster: Arc<PushCluster>,
    trust: Trust,
) -> Result<(Observed, bool), ReconcileError> {
    let object = name(&cluster);
    observe::observe_with(client, cluster, &memory.kept, trust)
        .await
        .map_err(|source| ReconcileError::Observe { object, source })
}

/// Namespace and name, as people write them.
pub fn name(cluster: &PushCluster) -> String {
    format!(
        "{}/{}",
        cluster.namespace().unwrap_or_default(),
        cluster.name_any()
    )
}

/// The same two as a key.
pub fn key(cluster: &PushCluster) -> (String, String) {
    (cluster.namespace().unwrap_or_default(), cluster.name_any())
}

/// 256 bits, as text that needs no quoting anywhere.
fn random_key() -> String {
    let mut bytes = [0; 32];
    rand::rng().fill_bytes(&mut bytes);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
