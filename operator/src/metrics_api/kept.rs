//! What this replica serves with, kept current: the certificate of the Secret, and whom the API server's ConfigMap trusts.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::Api;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::front_proxy::{self, Trust};
use crate::certificate::Held;
use crate::failure::line;

pub const SECRET: &str = "pushcluster-operator-metrics-api";
/// How often the Secret is read. It is not watched: the right to watch it is the right to list all Secrets.
const LOOK: Duration = Duration::from_secs(10);
/// The same while there is none.
const LOOK_SOON: Duration = Duration::from_secs(1);
const ANSWER: Duration = Duration::from_secs(3);

/// What a connection is served with.
pub struct Serving {
    pub tls: Arc<ServerConfig>,
    pub trust: Trust,
    /// What both were made of.
    of: (Held, ConfigMap),
}

/// `Err`: nothing yet, and why.
pub type State = Result<Arc<Serving>, String>;

#[must_use]
pub fn channel() -> (watch::Sender<State>, watch::Receiver<State>) {
    watch::channel(Err("it has not been looked yet".to_owned()))
}

/// For as long as the process lives.
pub async fn keep(client: Client, namespace: String, state: watch::Sender<State>) {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    let config_maps: Api<ConfigMap> = Api::namespaced(client, front_proxy::NAMESPACE);
    let only = format!("metadata.name={}", front_proxy::CONFIG_MAP);
    let watched = watcher(config_maps, watcher::Config::default().fields(&only));
    let mut watched = watched.default_backoff().boxed();
    let mut trust = Err(format!(
        "ConfigMap {}/{} has not been read yet",
        front_proxy::NAMESPACE,
        front_proxy::CONFIG_MAP
    ));
    let mut held = Err(format!("Secret {namespace}/{SECRET} has not been read yet"));
    let (mut often, mut seldom) = (interval(LOOK_SOON), interval(LOOK));
    // What was not needed for a while is not made up for.
    often.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            Some(event) = watched.next() => {
                if !taken(event, &mut trust) {
                    continue;
                }
            }
            _ = often.tick(), if state.borrow().is_err() => held = look(&secrets, held).await,
            _ = seldom.tick() => held = look(&secrets, held).await,
        }
        tell(&state, &trust, &held);
    }
}

/// Whether anything is known that was not known before.
fn taken(
    event: Result<watcher::Event<ConfigMap>, watcher::Error>,
    trust: &mut Result<ConfigMap, String>,
) -> bool {
    match event {
        Ok(watcher::Event::Apply(found) | watcher::Event::InitApply(found)) => {
            let same = trust.as_ref().is_ok_and(|before| before.data == found.data);
            *trust = Ok(found);
            !same
        }
        Ok(watcher::Event::Delete(found)) => {
            *trust = Err(format!("ConfigMap {} is gone", found.name_any()));
            true
        }
        Ok(watcher::Event::Init | watcher::Event::InitDone) => false,
        Err(error) => {
            tracing::warn!(
                "watching ConfigMap {}: {}",
                front_proxy::CONFIG_MAP,
                line(&error)
            );
            // What was trusted stays so while the API server is away.
            false
        }
    }
}

/// What cannot be read now stays as it was.
async fn look(secrets: &Api<Secret>, before: Result<Held, String>) -> Result<Held, String> {
    let found = match timeout(ANSWER, secrets.get_opt(SECRET)).await {
        Ok(Ok(Some(secret))) => Held::of(&secret).ok_or(format!("Secret {SECRET} is not whole")),
        Ok(Ok(None)) => Err(format!(
            "Secret {SECRET} is not there yet: the leader makes it"
        )),
        Ok(Err(error)) => Err(format!("reading Secret {SECRET} failed: {}", line(&error))),
        Err(_) => Err(format!(
            "reading Secret {SECRET}: no answer within {ANSWER:?}"
        )),
    };
    match (found, before) {
        (Err(_), Ok(before)) => Ok(before),
        (found, _) => found,
    }
}

/// A new value only where something differs: a new one ends every connection.
fn tell(
    state: &watch::Sender<State>,
    trust: &Result<ConfigMap, String>,
    held: &Result<Held, String>,
) {
    let of = match (trust, held) {
        (Ok(trust), Ok(held)) => Ok((held.clone(), trust.clone())),
        (Err(why), _) | (_, Err(why)) => Err(why.clone()),
    };
    let same = match (&*state.borrow(), &of) {
        (Ok(before), Ok((held, trust))) => before.of.0 == *held && before.of.1.data == trust.data,
        (Err(before), Err(why)) => before == why,
        _ => false,
    };
    if !same {
        let next = of.and_then(|(held, trust)| Serving::of(held, trust).map(Arc::new));
        if let Err(why) = &next {
            tracing::info!("the metrics API is not served: {why}");
        }
        let _before = state.send_replace(next);
    }
}

impl Serving {
    pub fn of(held: Held, config_map: ConfigMap) -> Result<Serving, String> {
        let trust = Trust::of(&config_map).map_err(|error| error.to_string())?;
        let wrong = |why: &dyn std::fmt::Display| format!("Secret {SECRET}: {why}");
        let chain: Result<Vec<_>, _> =
            CertificateDer::pem_slice_iter(held.leaf.as_bytes()).collect();
        let chain = chain.map_err(|e| wrong(&e))?;
        let key = PrivateKeyDer::from_pem_slice(held.leaf_key.as_bytes());
        let key = key.map_err(|e| wrong(&e))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        // Who shows none gets an answer that says so; who shows one of another authority gets no connection.
        let verifier =
            WebPkiClientVerifier::builder_with_provider(trust.roots.clone(), provider.clone())
                .allow_unauthenticated()
                .build()
                .map_err(|e| format!("{}: {e}", front_proxy::CONFIG_MAP))?;
        let versions =
            ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let tls = versions
            .and_then(|builder| {
                builder
                    .with_client_cert_verifier(verifier)
                    .with_single_cert(chain, key)
            })
            .map_err(|e| wrong(&e))?;
        Ok(Serving {
            tls: Arc::new(tls),
            trust,
            of: (held, config_map),
        })
    }
}
