//! Key files. They are read again and again instead of watched: a mounted Secret changes by the swap of a link two
//! folders up, which watchers of the file never hear of.

use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use ring::digest::{SHA256, digest};
use tokio::time::MissedTickBehavior;

use super::Keyring;
use super::counters::{Outcome, Source};
use crate::auth::read::{self, Origin, ReadError};
use crate::auth::signature::{Algorithm, Key};

/// How often the files are read.
const EVERY: Duration = Duration::from_secs(2);

/// Longest key file. Many certificates fit; what is longer is another file.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// A file and what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFile {
    /// The setting that names it.
    pub setting: &'static str,
    pub path: String,
    /// The algorithm of the bare secret in it. None: keys that say what they are, in PEM or JSON.
    pub secret: Option<Algorithm>,
}

/// All of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Files(pub Vec<KeyFile>);

/// Why a file gives no keys.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("read {path}: {cause}")]
    Read { path: String, cause: io::Error },
    #[error("{path} is empty")]
    Empty { path: String },
    #[error("{path} has more than {MAX_FILE_BYTES} bytes")]
    Long { path: String },
    #[error("{path}: {cause}")]
    Content { path: String, cause: ReadError },
}

impl Files {
    /// The keys of all files, or the setting with the first mistake. Blocks.
    pub fn read(&self) -> Result<Vec<Key>, (&'static str, FileError)> {
        let mut keys = Vec::new();
        for file in &self.0 {
            let read = file.read().map_err(|error| (file.setting, error))?;
            for skipped in read.skipped {
                tracing::warn!(setting = file.setting, file = file.path, "{skipped}");
            }
            keys.extend(read.keys);
        }
        Ok(keys)
    }

    /// Tells one content from another without keeping secrets around.
    fn print(&self) -> Vec<u8> {
        let mut prints = Vec::new();
        for file in &self.0 {
            // A file that cannot be read is a content of its own: `read` will say why.
            let bytes = file.bytes().unwrap_or_default();
            prints.extend_from_slice(digest(&SHA256, &bytes).as_ref());
        }
        prints
    }
}

impl KeyFile {
    fn read(&self) -> Result<read::Read, FileError> {
        let path = self.path.clone();
        let bytes = self.bytes()?;
        match self.secret {
            Some(algorithm) => {
                let bytes = without_line_end(&bytes);
                if bytes.is_empty() {
                    return Err(FileError::Empty { path });
                }
                read::secret(algorithm, bytes)
            }
            None => read::keys(&bytes, Origin::File),
        }
        .map_err(|cause| FileError::Content { path, cause })
    }

    fn bytes(&self) -> Result<Vec<u8>, FileError> {
        let path = self.path.clone();
        let mut bytes = Vec::new();
        let read = File::open(&path)
            .and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes));
        match read {
            Err(cause) => Err(FileError::Read { path, cause }),
            Ok(count) if count as u64 > MAX_FILE_BYTES => Err(FileError::Long { path }),
            Ok(_) => Ok(bytes),
        }
    }
}

/// Editors and `echo` add one.
fn without_line_end(bytes: &[u8]) -> &[u8] {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    bytes.strip_suffix(b"\r").unwrap_or(bytes)
}

/// Puts changed files into force. Ends with the process.
pub(super) async fn watch(keyring: Keyring) {
    let mut pace = tokio::time::interval(EVERY);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut known: Option<(Arc<Files>, Vec<u8>)> = None;
    loop {
        pace.tick().await;
        let files = keyring.parts().watched.clone();
        // Which files are read is a setting, which may have changed.
        let before = known.take_if(|(known, _)| Arc::ptr_eq(known, &files));
        let before = before.map(|(_, print)| print);
        let first = before.is_none();
        let look = {
            let files = files.clone();
            move || {
                let print = files.print();
                // What was read before this began was read from the same files: looking again once costs nothing.
                let read = (before.as_ref() != Some(&print)).then(|| files.read());
                (print, read)
            }
        };
        // A disk that hangs must not hang what runs beside this.
        let Ok((print, read)) = tokio::task::spawn_blocking(look).await else {
            continue;
        };
        known = Some((files.clone(), print));
        let Some(read) = read else { continue };
        let counters = &keyring.inner.counters;
        let taken = match read {
            Ok(keys) => keyring
                .replace(|parts| {
                    // Read while other files were named: what those hold is in force already.
                    if Arc::ptr_eq(&parts.watched, &files) {
                        parts.files = keys;
                    }
                })
                .map_err(|error| error.to_string()),
            Err((setting, error)) => Err(format!("{setting}: {error}")),
        };
        match taken {
            Ok(()) if first => {}
            Ok(()) => {
                counters.read(Source::File, Outcome::Good);
                tracing::info!("key files have changed: the new keys count from now on");
            }
            Err(error) => {
                counters.read(Source::File, Outcome::Failed);
                tracing::warn!("key files have changed, the keys from before stay: {error}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_files_hold() {
        let folder = tempfile::tempdir().unwrap();
        let pem = include_str!("../../tests/keys/rsa.public.pem");
        let long = "#".repeat(1 << 20) + "#";
        for (name, text, secret, expected) in [
            ("secret", "0123456789abcdef0123456789abcdef", true, "1 key"),
            (
                "line-end",
                "0123456789abcdef0123456789abcdef\r\n",
                true,
                "1 key",
            ),
            (
                "short",
                "0123456789abcdef\n0123456789abcd\r\n",
                true,
                "short: the key has 31 bytes, fewer than 32",
            ),
            ("empty", "\n", true, "empty is empty"),
            (
                "pem-as-secret",
                pem,
                true,
                "pem-as-secret: is PEM, not a secret: name it in auth.keyFiles",
            ),
            ("pem", pem, false, "1 key"),
            (
                "words",
                "secret",
                false,
                "words: is neither PEM nor a JWK nor a JWK set",
            ),
            ("long", &long, false, "long has more than 1048576 bytes"),
        ] {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            let file = KeyFile {
                setting: "test",
                path: path.display().to_string(),
                secret: secret.then_some(Algorithm::Hs256),
            };
            let found = match file.read() {
                Ok(read) => format!("{} key", read.keys.len()),
                Err(error) => error.to_string(),
            };
            let here = format!("{}/", folder.path().display());
            assert_eq!(found.replace(&here, ""), expected, "{name}");
        }
    }
}
