//! The whole of it for `main`: begun before anybody leads, registered while this pod leads, left at the end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use daemon::signals::Shutdown;
use kube::Client;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::Place;
use super::fleets::Fleets;
use super::kept::{self, State};
use super::register::Registrar;
use super::registration::Registration;
use super::serve::serve;

/// A pod that does not serve after this long takes its other work all the same.
const PATIENCE: Duration = Duration::from_secs(20);
/// The API server asks a pod that ends until it has heard of its end.
const LINGER: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
#[error("METRICS_API_LISTEN {listen}: listening failed")]
pub struct ListenError {
    listen: String,
    source: std::io::Error,
}

pub struct Served {
    /// None: it is not served.
    place: Option<(Client, Place)>,
    told: watch::Sender<Registration>,
    state: watch::Receiver<State>,
}

impl Served {
    /// `place`: `Err` says why it is not served. Serves for as long as the process lives.
    pub async fn start(
        client: &Client,
        place: Result<Place, Registration>,
    ) -> Result<Served, ListenError> {
        let (kept, state) = kept::channel();
        let place = match place {
            Ok(place) => place,
            Err(why) => {
                return Ok(Served {
                    place: None,
                    told: watch::Sender::new(why),
                    state,
                });
            }
        };
        let listener = TcpListener::bind(&place.listen).await;
        let listener = listener.map_err(|source| ListenError {
            listen: place.listen.clone(),
            source,
        })?;
        let fleets = Arc::new(Fleets::new(client.clone()));
        tokio::spawn(kept::keep(client.clone(), place.namespace.clone(), kept));
        tokio::spawn(serve(listener, state.clone(), fleets));
        Ok(Served {
            place: Some((client.clone(), place)),
            told: watch::Sender::default(),
            state,
        })
    }

    #[must_use]
    pub fn registration(&self) -> watch::Receiver<Registration> {
        self.told.subscribe()
    }

    /// Whether this pod may be sent requests. It waits for its first certificate, and not for ever.
    pub fn gate(&self) -> impl Fn() -> Result<Option<String>, String> + Send + Sync + use<> {
        let served = self.place.is_some();
        let (state, begun) = (self.state.clone(), Instant::now());
        move || match &*state.borrow() {
            _ if !served => Ok(None),
            Ok(_) => Ok(None),
            Err(why) if begun.elapsed() < PATIENCE => Err(why.clone()),
            Err(why) => Ok(Some(format!("custom.metrics.k8s.io is not served: {why}"))),
        }
    }

    /// Registers the group until `ended`.
    pub fn register(&self, ended: Shutdown) -> JoinHandle<()> {
        let told = self.told.clone();
        let registrar = self.registrar();
        tokio::spawn(async move {
            if let Some(registrar) = registrar {
                registrar.keep(told, ended).await;
            }
        })
    }

    /// At the end of the process.
    pub async fn leave(&self) {
        if let Some(registrar) = self.registrar() {
            registrar.leave().await;
            sleep(LINGER).await;
        }
    }

    fn registrar(&self) -> Option<Registrar> {
        let (client, place) = self.place.as_ref()?;
        Some(Registrar::new(client.clone(), place.clone()))
    }
}
