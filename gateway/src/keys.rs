//! The keys that tokens are verified with, kept current: files that are read again when they change, and a key server
//! (a JWKS URL) that is asked on a schedule and when a token names a key that is not known.
//!
//! Who verifies holds the [`KeySet`] of the moment; here it is replaced. What fails leaves the last good keys in place.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;

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
    asks: ArcSwapOption<mpsc::Sender<oneshot::Sender<()>>>,
    /// Who asks the server.
    asking: Mutex<Option<AbortHandle>>,
    counters: Counters,
}

/// Another server than before.
pub struct Other {
    /// None: there is none any more.
    pub server: Option<Server>,
    /// What it has answered. None: it is the one from before, asked otherwise, and its keys stay.
    pub keys: Option<Vec<Key>>,
}

/// What the set of the moment is made of.
#[derive(Clone)]
struct Parts {
    /// Those that are read again and again.
    watched: Arc<Files>,
    /// What they hold.
    files: Vec<Key>,
    /// None: not fetched yet, or there is no server.
    server: Option<Vec<Key>>,
    /// Why the server's keys are not here.
    failure: String,
    /// Counts the servers: what one that was replaced still says counts no more.
    server_number: u32,
    has_server: bool,
}

impl KeySource for Keyring {
    fn refused(&self, error: &TokenError) {
        self.inner.counters.refused(error);
    }

    /// False: there is no server, or it was asked for this reason a short time ago.
    fn ask(&self) -> Asked {
        let (answer, answered) = oneshot::channel();
        let asks = self.inner.asks.load();
        let under_way = asks
            .as_ref()
            .is_some_and(|asks| asks.try_send(answer).is_ok());
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
        let keyring = Keyring {
            inner: Arc::new(Inner {
                current: Arc::default(),
                parts: Mutex::new(Parts {
                    watched: Arc::new(sources.files),
                    files: first,
                    server: None,
                    failure: "not asked yet".to_owned(),
                    server_number: 0,
                    has_server: sources.server.is_some(),
                }),
                asks: ArcSwapOption::empty(),
                asking: Mutex::default(),
                counters,
            }),
        };
        keyring.replace(|_| ())?;
        tokio::spawn(files::watch(keyring.clone()));
        keyring.ask_from_now_on(sources.server);
        Ok(keyring)
    }

    /// Other sources from now on; `keys`: of the files, as they were read. When all are too many, nothing has changed.
    pub fn take(
        &self,
        files: Files,
        keys: Vec<Key>,
        other: Option<Other>,
    ) -> Result<(), TooManyKeys> {
        let (changed, server, first) = match other {
            Some(Other { server, keys }) => (true, server, keys),
            None => (false, None, None),
        };
        let has_server = server.is_some();
        self.replace(|parts| {
            parts.files = keys;
            // The same files are watched as before, so that a change of theirs is still told.
            if *parts.watched != files {
                parts.watched = Arc::new(files);
            }
            if changed {
                parts.server_number += 1;
                parts.has_server = has_server;
                if first.is_some() || !has_server {
                    parts.server = first;
                }
            }
        })?;
        if changed {
            self.ask_from_now_on(server);
        }
        Ok(())
    }

    /// Nobody else is asked any more.
    fn ask_from_now_on(&self, server: Option<Server>) {
        let number = self.parts().server_number;
        let (asks, asking) = server
            .map(|server| {
                let (asks, waiting) = mpsc::channel(WAITING);
                let watch = server::watch(self.clone(), (server, number), waiting);
                (Arc::new(asks), tokio::spawn(watch).abort_handle())
            })
            .unzip();
        self.inner.asks.store(asks);
        let mut before = self
            .inner
            .asking
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = std::mem::replace(&mut *before, asking) {
            before.abort();
        }
    }

    /// For a verifier: always the keys of the moment.
    pub fn current(&self) -> Arc<ArcSwap<KeySet>> {
        self.inner.current.clone()
    }

    /// Gate of `/ready`: a node without the server's keys would refuse everybody.
    pub fn ready(&self) -> Result<(), String> {
        let parts = self.parts();
        if !parts.has_server || parts.server.is_some() {
            return Ok(());
        }
        Err(format!("no keys from auth.jwksUrl: {}", parts.failure))
    }

    /// Changes the parts and what is made of them. When that is too much, nothing has changed.
    fn replace(&self, change: impl FnOnce(&mut Parts)) -> Result<(), TooManyKeys> {
        let mut parts = self.parts();
        let mut changed = parts.clone();
        change(&mut changed);
        let remote = match (changed.has_server, &changed.server) {
            (false, _) => Remote::None,
            (true, None) => Remote::Missing,
            (true, Some(_)) => Remote::Present,
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
