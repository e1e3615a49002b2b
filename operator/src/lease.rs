//! Which of the operator's pods leads: a `coordination.k8s.io` Lease, taken over when it was not renewed.
//!
//! Expiry is counted from the moment at which *this* process first saw the lease as it is, by its own monotonic
//! clock. The times in the lease are another machine's and are only ever shown to people. (The crate
//! kube-lease-manager compares them with the local clock: a clock a minute off would make two leaders.)

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant as Moment};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ObjectMeta, PostParams};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::failure::line;

/// How long an unrenewed lease stands.
pub const DURATION: Duration = Duration::from_secs(15);
/// A leader renews this often.
pub const RENEW: Duration = Duration::from_secs(4);
/// A leader whose last successful renewal was *asked for* so long ago stops leading. Counted from the asking: the
/// answer may have been late, and others count from when the API server wrote.
pub const GIVE_UP: Duration = Duration::from_secs(10);
/// Longest wait for one answer of the API server. A connection that is dead would otherwise hold everything up.
pub const ANSWER: Duration = Duration::from_secs(3);
/// Others look this often.
pub const LOOK: Duration = Duration::from_secs(2);

/// What this process knows of the lease.
#[derive(Debug, Default)]
pub struct Watch {
    /// The version that was seen last, and when it was first seen.
    seen: Option<(String, Moment)>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Decision {
    /// There is no lease: make one that is ours.
    Create,
    /// It is ours, or nobody's, or its holder has let it expire: write our name.
    Take,
    /// Somebody else leads.
    Wait,
}

impl Watch {
    pub fn decide(&mut self, lease: Option<&Lease>, us: &str, now: Moment) -> Decision {
        let Some(lease) = lease else {
            self.seen = None;
            return Decision::Create;
        };
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        let since = match &self.seen {
            Some((seen, since)) if *seen == version => *since,
            _ => now,
        };
        self.seen = Some((version, since));
        let spec = lease.spec.as_ref();
        let holder = spec
            .and_then(|spec| spec.holder_identity.as_deref())
            .unwrap_or_default();
        let duration = spec
            .and_then(|spec| spec.lease_duration_seconds)
            .and_then(|s| u64::try_from(s).ok());
        let expired = now.duration_since(since) >= duration.map_or(DURATION, Duration::from_secs);
        if holder == us || holder.is_empty() || expired {
            Decision::Take
        } else {
            Decision::Wait
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum LeaseError {
    #[error("{action} Lease {name} failed")]
    Refused {
        action: &'static str,
        name: String,
        source: kube::Error,
    },
    #[error("Lease {name}: no answer within {} s", ANSWER.as_secs())]
    Late { name: String },
}

/// The lease at the API server.
pub struct Leadership {
    api: Api<Lease>,
    name: String,
    us: String,
    watch: Watch,
    /// When the write that made or kept it ours was asked for.
    asked: Instant,
}

impl Leadership {
    pub fn new(api: Api<Lease>, name: &str, us: &str) -> Self {
        Leadership {
            api,
            name: name.into(),
            us: us.into(),
            watch: Watch::default(),
            asked: Instant::now(),
        }
    }

    /// Tries once to have the lease; whether it is ours now. A lost race is a plain no.
    async fn try_once(&mut self) -> Result<bool, LeaseError> {
        let asked = Instant::now();
        let ours = timeout(ANSWER, self.ask()).await;
        let ours = ours.unwrap_or_else(|_| {
            Err(LeaseError::Late {
                name: self.name.clone(),
            })
        })?;
        if ours {
            self.asked = asked;
        }
        Ok(ours)
    }

    async fn ask(&mut self) -> Result<bool, LeaseError> {
        let found = self
            .api
            .get_opt(&self.name)
            .await
            .map_err(self.failed("reading"))?;
        let written = match (
            self.watch
                .decide(found.as_ref(), &self.us, Instant::now().into_std()),
            found,
        ) {
            (Decision::Wait, _) => return Ok(false),
            (Decision::Take, Some(lease)) => {
                let ours = self.ours(Some(&lease));
                self.api
                    .replace(&self.name, &PostParams::default(), &ours)
                    .await
            }
            (_, _) => {
                self.api
                    .create(&PostParams::default(), &self.ours(None))
                    .await
            }
        };
        match written {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(self.failed("writing")(error)),
        }
    }

    /// Waits until the lease is ours. Errors are logged, each once: the API server may be away for a while.
    /// `answered` becomes true with its first answer: from then on this process is ready to take over.
    pub async fn acquire(&mut self, answered: &AtomicBool) {
        let mut told = String::new();
        loop {
            let tried = self.try_once().await;
            if tried.is_ok() {
                answered.store(true, Ordering::Relaxed);
            }
            match tried {
                Ok(true) => return,
                Ok(false) => told.clear(),
                Err(error) => {
                    let why = line(&error);
                    if why != told {
                        tracing::warn!("not leading, and trying on: {why}");
                        told = why;
                    }
                }
            }
            sleep(LOOK).await;
        }
    }

    /// Renews until that fails for too long or somebody else has the lease; then it is not ours any more.
    pub async fn hold(&mut self) {
        let mut pause = RENEW;
        loop {
            // Also a try that is under way ends with the time that we may lead.
            let end = self.asked + GIVE_UP;
            let renewal = async {
                sleep(pause).await;
                self.try_once().await
            };
            match timeout_at(end, renewal).await {
                Ok(Ok(true)) => pause = RENEW,
                Ok(Ok(false)) => {
                    tracing::warn!("Lease {}: another has it", self.name);
                    return;
                }
                Ok(Err(error)) => {
                    tracing::warn!("renewing failed: {}", line(&error));
                    pause = LOOK;
                }
                Err(_) => {
                    tracing::warn!(
                        "Lease {}: not renewed for {} s",
                        self.name,
                        GIVE_UP.as_secs()
                    );
                    return;
                }
            }
        }
    }

    /// Gives the lease back, so that the next leader need not wait for its end. Best effort.
    pub async fn release(&self) {
        let Ok(Ok(Some(mut lease))) = timeout(ANSWER, self.api.get_opt(&self.name)).await else {
            return;
        };
        let Some(spec) = lease
            .spec
            .as_mut()
            .filter(|spec| spec.holder_identity.as_ref() == Some(&self.us))
        else {
            return;
        };
        spec.holder_identity = None;
        let parameters = PostParams::default();
        let given_back = self.api.replace(&self.name, &parameters, &lease);
        if !matches!(timeout(ANSWER, given_back).await, Ok(Ok(_))) {
            tracing::warn!("Lease {}: giving it back failed", self.name);
        }
    }

    fn ours(&self, found: Option<&Lease>) -> Lease {
        let now = Some(MicroTime(Timestamp::now()));
        let before = found
            .and_then(|lease| lease.spec.clone())
            .unwrap_or_default();
        let renewed = before.holder_identity.as_ref() == Some(&self.us);
        let transitions = before.lease_transitions.unwrap_or_default();
        let metadata = found.map_or_else(
            || ObjectMeta {
                name: Some(self.name.clone()),
                ..ObjectMeta::default()
            },
            |lease| lease.metadata.clone(),
        );
        Lease {
            metadata,
            spec: Some(LeaseSpec {
                holder_identity: Some(self.us.clone()),
                lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
                acquire_time: if renewed {
                    before.acquire_time
                } else {
                    now.clone()
                },
                renew_time: now,
                lease_transitions: Some(if renewed {
                    transitions
                } else {
                    transitions + 1
                }),
                ..LeaseSpec::default()
            }),
        }
    }

    fn failed(&self, action: &'static str) -> impl FnOnce(kube::Error) -> LeaseError + use<> {
        let name = self.name.clone();
        move |source| LeaseError::Refused {
            action,
            name,
            source,
        }
    }
}

#[cfg(test)]
mod tests;
