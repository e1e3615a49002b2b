//! The leader's part: the certificate in its Secret, and the registration of the group, as long as it is free.

use std::time::Duration;

use daemon::signals::Shutdown;
use k8s_openapi::api::core::v1::{Pod, Secret};
use k8s_openapi::api::rbac::v1::ClusterRole;
use k8s_openapi::jiff::Timestamp;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::api::{Api, DeleteParams, ListParams, ObjectMeta, Patch, Preconditions};
use kube::{Client, ResourceExt};
use tokio::sync::watch;
use tokio::time::timeout;

use super::Place;
use super::kept::SECRET;
use super::registration::{Registration, Step, availability, is_ours, knows, name, step, wanted};
use super::request::Version;
use crate::certificate::{CertificateError, DAY, Due, Held, Kind, due, renewed};
use crate::failure::line;
use crate::push_cluster::apply::applying;
use crate::readiness::is_ready;

/// How often it is looked whether all is as it should be …
const LOOK: Duration = Duration::from_secs(15);
/// … how soon after something was done, …
const SOON: Duration = Duration::from_secs(1);
/// … and while the API server does not reach us.
const LESS_SOON: Duration = Duration::from_secs(5);
/// What the group is served with.
pub const CERTIFICATE: Kind = Kind {
    name: "pushcluster-metrics-api",
    authority_life: 730 * DAY,
    leaf_life: 90 * DAY,
    is_shown_by_clients: false,
};
/// An APIService changes a few times while its pods end, and not a hundred times.
const REMOVE_TRIES: usize = 100;
/// Longest wait for all answers of one look.
const ANSWERS: Duration = Duration::from_secs(15);

#[derive(Debug, thiserror::Error)]
enum RegisterError {
    #[error("{action} {object} failed")]
    Request {
        action: &'static str,
        object: String,
        source: kube::Error,
    },
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

fn failed(
    action: &'static str,
    object: impl Into<String>,
) -> impl FnOnce(kube::Error) -> RegisterError {
    let object = object.into();
    move |source| RegisterError::Request {
        action,
        object,
        source,
    }
}

pub struct Registrar {
    place: Place,
    services: Api<APIService>,
    roles: Api<ClusterRole>,
    secrets: Api<Secret>,
    pods: Api<Pod>,
    /// What was in the Secret: whoever deletes it asks for another, which takes its steps from here.
    held: Option<Held>,
}

impl Registrar {
    #[must_use]
    pub fn new(client: Client, place: Place) -> Registrar {
        Registrar {
            services: Api::all(client.clone()),
            roles: Api::all(client.clone()),
            secrets: Api::namespaced(client.clone(), &place.namespace),
            pods: Api::namespaced(client, &place.namespace),
            place,
            held: None,
        }
    }

    /// Until this pod leads no more; a look that has begun is finished.
    pub async fn keep(mut self, told: watch::Sender<Registration>, ended: Shutdown) {
        let mut warned = String::new();
        loop {
            let looked = timeout(ANSWERS, self.look()).await;
            let (registration, acted) = match looked {
                Ok(Ok(seen)) => seen,
                Ok(Err(error)) => (Registration::Failed(line(&error)), false),
                Err(_) => {
                    let why = format!("the API server did not answer within {ANSWERS:?}");
                    (Registration::Failed(why), false)
                }
            };
            if let Registration::Failed(why) = &registration
                && *why != warned
            {
                tracing::warn!("registering the metrics API: {why}");
                warned.clone_from(why);
            }
            let wait = match &registration {
                _ if acted => SOON,
                Registration::NotLookedYet => SOON,
                Registration::Unavailable(_) => LESS_SOON,
                _ => LOOK,
            };
            told.send_if_modified(|told| {
                let changed = *told != registration;
                *told = registration;
                changed
            });
            if timeout(wait, ended.begun()).await.is_ok() {
                return;
            }
        }
    }

    /// One step, and whether it was one.
    async fn look(&mut self) -> Result<(Registration, bool), RegisterError> {
        let found = self.found().await?;
        let foreign = found.iter().any(|found| !is_ours(found, &self.place));
        let (held, changed) = match (foreign, self.held.clone()) {
            // Nothing of ours is served, so nothing is needed.
            (true, held) => (held, false),
            (false, _) => {
                let (held, changed) = self.certificate(&found).await?;
                (Some(held), changed)
            }
        };
        let bundle = held.map(|held| held.bundle).unwrap_or_default();
        let owner = self.owner().await?;
        let wanted = Version::ALL.map(|version| wanted(&self.place, version, &bundle, &owner));
        match step(&found, wanted.into(), &self.place) {
            Step::Leave { foreign, ours } => {
                for name in &ours {
                    self.remove(name).await?;
                }
                Ok((foreign, !ours.is_empty()))
            }
            Step::Apply(services) if services.is_empty() => Ok((availability(&found), changed)),
            // With nobody to answer, the API server would find the group and nothing in it.
            Step::Apply(_) if found.is_empty() && !self.somebody_serves(None).await? => {
                Ok((Registration::NotLookedYet, changed))
            }
            Step::Apply(services) => {
                for service in &services {
                    self.apply(service).await?;
                }
                Ok((availability(&found), true))
            }
        }
    }

    async fn found(&self) -> Result<Vec<APIService>, RegisterError> {
        let mut found = Vec::new();
        for version in Version::ALL {
            let name = name(version);
            let service = self.services.get_opt(&name).await;
            found.extend(service.map_err(failed("reading", format!("APIService {name}")))?);
        }
        Ok(found)
    }

    async fn owner(&self) -> Result<String, RegisterError> {
        let name = &self.place.owner;
        let role = self.roles.get(name).await;
        let role = role.map_err(failed("reading", format!("ClusterRole {name}")))?;
        Ok(role.uid().unwrap_or_default())
    }

    /// The certificate that there is, after the one step that is due; and whether one was.
    async fn certificate(&mut self, found: &[APIService]) -> Result<(Held, bool), RegisterError> {
        let secret = self.secrets.get_opt(SECRET).await;
        let secret = secret.map_err(failed("reading", format!("Secret {SECRET}")))?;
        let now = Timestamp::now().as_second();
        let hosts = [self.place.host()];
        let there = secret.as_ref().and_then(Held::of);
        let (before, due) = match (there, self.held.clone()) {
            (Some(held), _) => {
                let told = knows(found, &held.bundle);
                let due = due(&held, &CERTIFICATE, &hosts, told, now);
                (Some(held), due)
            }
            (None, Some(held)) => (Some(held), Due::Authority),
            (None, None) => (None, Due::Everything),
        };
        if let (Due::Nothing, Some(held)) = (due, before.clone()) {
            self.held = Some(held.clone());
            return Ok((held, false));
        }
        let next = renewed(before.as_ref(), due, (&CERTIFICATE, &hosts), now)?;
        self.write(&next, secret.and_then(|s| s.resource_version()))
            .await?;
        tracing::info!(step = ?due, "the certificate of the metrics API was renewed");
        self.held = Some(next.clone());
        Ok((next, true))
    }

    /// `version`: of what is replaced; another leader's write in between makes it a conflict.
    async fn write(&self, held: &Held, version: Option<String>) -> Result<(), RegisterError> {
        let labels = [("app.kubernetes.io/managed-by", "pushcluster-operator")];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(SECRET.into()),
                labels: Some(labels.into()),
                resource_version: version,
                ..ObjectMeta::default()
            },
            data: Some(held.entries()),
            type_: Some("Opaque".into()),
            ..Secret::default()
        };
        let secret = Patch::Apply(&secret);
        let written = self.secrets.patch(SECRET, &applying(), &secret).await;
        written.map_err(failed("writing", format!("Secret {SECRET}")))?;
        Ok(())
    }

    async fn apply(&self, service: &APIService) -> Result<(), RegisterError> {
        let name = service.name_any();
        let service = Patch::Apply(service);
        let applied = self.services.patch(&name, &applying(), &service).await;
        applied.map_err(failed("writing", format!("APIService {name}")))?;
        tracing::info!(name, "the metrics API is registered");
        Ok(())
    }

    /// Only one of ours: another may have come in its place since it was seen. Its status changes just when the pods that
    /// serve it end, and then it is looked at again.
    async fn remove(&self, name: &str) -> Result<(), RegisterError> {
        let mut tries = 0;
        loop {
            let found = self.services.get_opt(name).await;
            let found = found.map_err(failed("reading", format!("APIService {name}")))?;
            let Some(found) = found.filter(|found| is_ours(found, &self.place)) else {
                return Ok(());
            };
            let params = DeleteParams {
                preconditions: Some(Preconditions {
                    uid: found.uid(),
                    resource_version: found.resource_version(),
                }),
                ..DeleteParams::default()
            };
            tries += 1;
            match self.services.delete(name, &params).await {
                Ok(_) => {
                    tracing::info!(name, "the metrics API is registered no more");
                    return Ok(());
                }
                Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
                Err(kube::Error::Api(status)) if status.code == 409 && tries < REMOVE_TRIES => {}
                Err(error) => return Err(failed("deleting", format!("APIService {name}"))(error)),
            }
        }
    }

    /// Whether a pod of the operator takes requests; `but`: another than this one.
    async fn somebody_serves(&self, but: Option<&str>) -> Result<bool, RegisterError> {
        let ours = ListParams::default().labels(&self.place.selector);
        let pods = self.pods.list(&ours).await;
        let pods = pods.map_err(failed("listing", "the operator's pods"))?;
        Ok(pods
            .iter()
            .any(|pod| serves(pod) && Some(&*pod.name_any()) != but))
    }

    /// Takes the registration away when this is the last pod: an API server that finds the group and nobody who answers
    /// for it deletes no namespace (its controller wants to know of every group what is in there).
    pub async fn leave(self) {
        let left = async {
            if self.somebody_serves(Some(&self.place.pod)).await? {
                return Ok(());
            }
            for version in Version::ALL {
                self.remove(&name(version)).await?;
            }
            Ok::<_, RegisterError>(())
        };
        match timeout(ANSWERS, left).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!("leaving the metrics API: {}", line(&error)),
            Err(_) => tracing::warn!("leaving the metrics API: no answer within {ANSWERS:?}"),
        }
    }
}

fn serves(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none() && is_ready(pod)
}
