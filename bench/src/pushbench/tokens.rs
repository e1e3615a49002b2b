//! The tokens that clients show.

use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use jsonwebtoken::{EncodingKey, Header};
use serde_json::json;

/// Of a token that we sign: longer than any run.
const SECONDS: u64 = 24 * 3_600;

pub enum Tokens {
    None,
    /// The same for all.
    One(String),
    /// A user of its own for each client: `pushbench-17`.
    Signed(EncodingKey),
}

/// A key file that is not there.
#[derive(Debug, thiserror::Error)]
#[error("read {path}: {cause}")]
pub struct KeyError {
    path: PathBuf,
    cause: std::io::Error,
}

impl Tokens {
    /// Signs with the key in the file (HS256).
    pub fn signed(path: &Path) -> Result<Tokens, KeyError> {
        let key = std::fs::read(path).map_err(|cause| KeyError {
            path: path.to_owned(),
            cause,
        })?;
        Ok(Tokens::Signed(EncodingKey::from_secret(&key)))
    }

    pub fn of(&self, client: usize) -> Option<String> {
        match self {
            Tokens::None => None,
            Tokens::One(token) => Some(token.clone()),
            Tokens::Signed(key) => {
                let now = UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
                let claims = json!({"sub": format!("pushbench-{client}"), "exp": now + SECONDS});
                let token = jsonwebtoken::encode(&Header::default(), &claims, key);
                Some(token.expect("claims of text and numbers can be encoded"))
            }
        }
    }
}
