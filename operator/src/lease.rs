//! Which of the operator's pods leads: a `coordination.k8s.io` Lease, taken over when it was not renewed.
//!
//! Expiry is counted from the moment at which *this* process first saw the lease as it is, by its own monotonic
//! clock. The times in the lease are another machine's and are only ever shown to people. (The crate
//! kube-lease-manager compares them with the local clock: a clock a minute off would make two leaders.)

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ObjectMeta, PostParams};

/// How long an unrenewed lease stands.
pub const DURATION: Duration = Duration::from_secs(15);
/// A leader renews this often.
pub const RENEW: Duration = Duration::from_secs(4);
/// A leader that could not renew for so long stops leading: well before another may begin.
pub const GIVE_UP: Duration = Duration::from_secs(10);
/// Others look this often.
pub const LOOK: Duration = Duration::from_secs(2);

/// What this process knows of the lease.
#[derive(Debug, Default)]
pub struct Watch {
    /// The version that was seen last, and when it was first seen.
    seen: Option<(String, Instant)>,
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
    pub fn decide(&mut self, lease: Option<&Lease>, us: &str, now: Instant) -> Decision {
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
#[error("{action} Lease {name} failed")]
pub struct LeaseError {
    action: &'static str,
    name: String,
    source: kube::Error,
}

/// The lease at the API server.
pub struct Leadership {
    api: Api<Lease>,
    name: String,
    us: String,
    watch: Watch,
}

impl Leadership {
    pub fn new(api: Api<Lease>, name: &str, us: &str) -> Self {
        Leadership {
            api,
            name: name.into(),
            us: us.into(),
            watch: Watch::default(),
        }
    }

    /// Tries once to have the lease; whether it is ours now. A lost race is a plain no.
    pub async fn try_once(&mut self) -> Result<bool, LeaseError> {
        let found = self
            .api
            .get_opt(&self.name)
            .await
            .map_err(self.failed("reading"))?;
        let written = match (
            self.watch.decide(found.as_ref(), &self.us, Instant::now()),
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

    /// Waits until the lease is ours. Errors are logged: the API server may be away for a while.
    /// `answered` becomes true with its first answer: from then on this process is ready to take over.
    pub async fn acquire(&mut self, answered: &AtomicBool) {
        loop {
            let tried = self.try_once().await;
            answered.fetch_or(tried.is_ok(), Ordering::Relaxed);
            match tried {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "not leading");
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Renews until that fails for too long or somebody else has the lease; then it is not ours any more.
    pub async fn hold(&mut self) {
        let mut renewed = Instant::now();
        while renewed.elapsed() < GIVE_UP {
            tokio::time::sleep(RENEW).await;
            match tokio::time::timeout(RENEW, self.try_once()).await {
                Ok(Ok(true)) => renewed = Instant::now(),
                Ok(Ok(false)) => return,
                Ok(Err(error)) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "renewing failed");
                }
                Err(_) => tracing::warn!("renewing Lease {} took too long", self.name),
            }
        }
    }

    /// Gives the lease back, so that the next leader need not wait for its end. Best effort.
    pub async fn release(&self) {
        let Ok(Some(mut lease)) = self.api.get_opt(&self.name).await else {
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
        if let Err(error) = self
            .api
            .replace(&self.name, &PostParams::default(), &lease)
            .await
        {
            tracing::debug!(%error, "giving the lease back failed");
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
        move |source| LeaseError {
            action,
            name,
            source,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(version: &str, holder: Option<&str>) -> Lease {
        Lease {
            metadata: ObjectMeta {
                resource_version: Some(version.into()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: holder.map(Into::into),
                lease_duration_seconds: Some(15),
                // What another machine's clock says decides nothing: this one is far in the past.
                renew_time: Some(MicroTime(Timestamp::UNIX_EPOCH)),
                ..LeaseSpec::default()
            }),
        }
    }

    #[test]
    fn a_lease_is_taken_when_nobody_has_it_or_it_was_not_renewed_while_we_looked() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut watch = Watch::default();
        for (second, found, expected) in [
            (0, None, Decision::Create),
            (1, Some(lease("1", Some("other"))), Decision::Wait),
            (15, Some(lease("1", Some("other"))), Decision::Wait),
            (16, Some(lease("2", Some("other"))), Decision::Wait),
            (30, Some(lease("2", Some("other"))), Decision::Wait),
            (31, Some(lease("2", Some("other"))), Decision::Take),
            (32, Some(lease("3", Some("us"))), Decision::Take),
            (33, Some(lease("4", None)), Decision::Take),
            (34, Some(lease("5", Some("other"))), Decision::Wait),
        ] {
            assert_eq!(
                watch.decide(found.as_ref(), "us", at(second)),
                expected,
                "at second {second}"
            );
        }
    }

    #[test]
    fn a_leader_gives_up_before_another_may_begin() {
        assert!(GIVE_UP + RENEW < DURATION);
    }
}
