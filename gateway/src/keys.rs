//! The keys that tokens are verified with, kept current: files that are read again when they change, and a key server
//! (a JWKS URL) that is asked on a schedule and when a token names a key that is not known.
//!
//! Who verifies holds the [`KeySet`] of the moment; here it is replaced. What fails leaves the last good keys in place.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot};

use crate::auth::TokenError;
use crate::auth::keys::{Asked, KeySet, KeySource, Remote, TooManyKeys};
use crate::auth::signature::Key;

pub mod counters;
pub mod fetch;
pub mod files;
mod server;

use counters::Counters;
use files::Files;
pub use server::Server;

/// Handshakes that may wait for the same answer of the key server. One more is refused at once.
const WAITING: usize = 1_024;

/// Where keys come from.
pub struct Sources {
    pub files: Files,
    pub server: Option<Server>,
}

/// The keys of a gateway. Cloning shares them.
#[derive(Clone)]
pub struct Keyring {
    inner: Arc<Inner>,
}

struct Inner {
    current: Arc<ArcSwap<KeySet>>,
    parts: Mutex<Parts>,
    /// Who wants to know when the server has been asked. None: there is no server.
    asks: Option<mpsc::Sender<oneshot::Sender<()>>>,
    counters: Counters,
}

/// What the set of the moment is made of.
struct Parts {
    /// Those that are read again and again.
    watched: Arc<Files>,
    /// What they hold.
    files: Vec<Key>,
    /// None: not fetched yet, or there is no server.
    server: Option<Vec<Key>>,
    /// Why the server's keys are not here.
    failure: String,
}

impl KeySource for Keyring {
    fn refused(&self, error: &TokenError) {
        self.inner.counters.refused(error);
    }

    /// False: there is no server, or it was asked for this reason a short time ago.
    fn ask(&self) -> Asked {
        let (answer, answered) = oneshot::channel();
        let asks = self.inner.asks.as_ref();
        let under_way = asks.is_some_and(|asks| asks.try_send(answer).is_ok());
        Box::pin(async move { under_way && answered.await.is_ok() })
    }
}

impl Keyring {
    /// `first`: the keys of `sources.files`, as they were read. Keeps them current from now on; needs a tokio runtime.
    pub fn start(
        sources: Sources,
        first: Vec<Key>,
        counters: Counters,
    ) -> Result<Keyring, TooManyKeys> {
        let (asks, waiting) = mpsc::channel(WAITING);
        let keyring = Keyring {
            inner: Arc::new(Inner {
                current: Arc::default(),
                parts: Mutex::new(Parts {
                    watched: Arc::new(sources.files),
                    files: first,
                    server: None,
                    failure: "not asked yet".to_owned(),
                }),
                asks: sources.server.is_some().then_some(asks),
                counters,
            }),
        };
        keyring.replace(|_| ())?;
        tokio::spawn(files::watch(keyring.clone()));
        if let Some(server) = sources.server {
            tokio::spawn(server::watch(keyring.clone(), server, waiting));
        }
        Ok(keyring)
    }

    /// Other files from now on; `keys`: as they were read. When those are too many, nothing has changed.
    pub fn take_files(&self, files: Files, keys: Vec<Key>) -> Result<(), TooManyKeys> {
        self.replace(|parts| {
            parts.files = keys;
            // The same files are watched as before, so that a change of theirs is still told.
            if *parts.watched != files {
                parts.watched = Arc::new(files);
            }
        })
    }

    /// For a verifier: always the keys of the moment.
    pub fn current(&self) -> Arc<ArcSwap<KeySet>> {
        self.inner.current.clone()
    }

    /// Gate of `/ready`: a node without the server's keys would refuse everybody.
    pub fn ready(&self) -> Result<(), String> {
        let parts = self.parts();
        if self.inner.asks.is_none() || parts.server.is_some() {
            return Ok(());
        }
        Err(format!("no keys from auth.jwksUrl: {}", parts.failure))
    }

    /// Changes the parts and what is made of them. When that is too much, nothing has changed.
    fn replace(&self, change: impl FnOnce(&mut Parts)) -> Result<(), TooManyKeys> {
        let mut parts = self.parts();
        let mut changed = Parts {
            watched: parts.watched.clone(),
            files: parts.files.clone(),
            server: parts.server.clone(),
            failure: parts.failure.clone(),
        };
        change(&mut changed);
        let remote = match (&self.inner.asks, &changed.server) {
            (None, _) => Remote::None,
            (Some(_), None) => Remote::Missing,
            (Some(_), Some(_)) => Remote::Present,
        };
        let keys: Vec<Key> = changed
            .files
            .iter()
            .chain(changed.server.iter().flatten())
            .cloned()
            .collect();
        let set = KeySet::new(keys, remote)?;
        self.inner.counters.holds(set.len());
        *parts = changed;
        self.inner.current.store(Arc::new(set));
        Ok(())
    }

    fn parts(&self) -> std::sync::MutexGuard<'_, Parts> {
        // Parts are replaced whole, so what a panic leaves behind is still right.
        self.inner
            .parts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
