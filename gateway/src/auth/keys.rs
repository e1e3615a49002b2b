//! The keys of one moment, and which of them a token is for.

use std::pin::Pin;

use super::TokenError;
use super::signature::{Algorithm, Key};

/// Keys of all sources together. A provider has two or three; a set without end would make each forged token cost more.
pub const MAX_KEYS: usize = 64;

/// Keys that a token which names none is tried with; with more it must name one.
pub const MAX_TRIES: usize = 4;

/// Whether keys come from elsewhere, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Remote {
    /// All that there will be is here.
    #[default]
    None,
    /// There is a key server, and it has not answered yet.
    Missing,
    /// They are here; there may be newer ones.
    Present,
}

/// Whether keys have been asked for since; false: there is no reason to expect other ones.
pub type Asked = Pin<Box<dyn Future<Output = bool> + Send>>;

/// Who keeps the keys current, as those who verify see it.
pub trait KeySource: Send + Sync {
    /// Counts a token that was refused.
    fn refused(&self, error: &TokenError);

    /// Looks for keys that are newer than those of the moment, because a token wants them.
    fn ask(&self) -> Asked;
}

/// The keys of one moment. Never changed, only replaced.
#[derive(Clone, Default)]
pub struct KeySet {
    keys: Vec<Key>,
    remote: Remote,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there are {0} keys, more than {MAX_KEYS}")]
pub struct TooManyKeys(usize);

impl KeySet {
    pub fn new(keys: Vec<Key>, remote: Remote) -> Result<KeySet, TooManyKeys> {
        if keys.len() > MAX_KEYS {
            return Err(TooManyKeys(keys.len()));
        }
        Ok(KeySet { keys, remote })
    }

    pub fn len(&self) -> usize {
        self.keys.len()
    }

    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Finds the key that `signed` and `signature` prove, or says why there is none.
    ///
    /// A token that names a key (`kid`) is for the keys of that name, and for those without one only where nobody has
    /// that name. `algorithm` is what the token's header claims: it can leave keys out and never make one fit.
    pub fn prove(
        &self,
        claimed: Option<Algorithm>,
        id: Option<&str>,
        signed: &[u8],
        signature: &[u8],
    ) -> Result<(), TokenError> {
        if self.keys.is_empty() && self.remote != Remote::Present {
            return Err(match self.remote {
                Remote::Missing => TokenError::NoKeyYet,
                _ => TokenError::NoKey,
            });
        }
        let claimed = claimed.ok_or(TokenError::Algorithm)?;
        let named = |key: &&Key| id.is_some() && key.id.as_deref() == id;
        let known = self.keys.iter().any(|key| named(&key));
        let fitting: Vec<&Key> = self
            .keys
            .iter()
            .filter(|key| {
                if known {
                    named(key)
                } else {
                    id.is_none() || key.id.is_none()
                }
            })
            .filter(|key| key.algorithm() == claimed)
            .collect();
        if fitting.len() > MAX_TRIES {
            return Err(TokenError::Unnamed);
        }
        if fitting.iter().any(|key| key.verifies(signed, signature)) {
            return Ok(());
        }
        Err(match self.remote {
            // It may be signed with a key that is newer than what we have.
            Remote::Missing => TokenError::NoKeyYet,
            Remote::Present if id.is_some() && !known => TokenError::UnknownKey,
            _ if fitting.is_empty() && id.is_some() && !known => TokenError::UnknownKey,
            _ if fitting.is_empty() => TokenError::Algorithm,
            _ => TokenError::Signature,
        })
    }
}

/// Keys that never change, for tests.
#[cfg(test)]
pub struct Unchanging;

#[cfg(test)]
impl KeySource for Unchanging {
    fn refused(&self, _: &TokenError) {}

    fn ask(&self) -> Asked {
        Box::pin(std::future::ready(false))
    }
}
