//! Keys as people and key servers write them.

use crate::auth::keys::{KeySet, Remote};
use crate::auth::read::{self, Origin};
use crate::auth::signature::{Algorithm, Family};

/// A text with keys, from each place that it can come from.
pub fn keys(text: &[u8]) {
    let file = read::keys(text, Origin::File);
    let server = read::keys(text, Origin::Server);
    if let Ok(read) = &server {
        let secret = |key: &_| algorithm_of(key).family() == Family::Secret;
        assert!(
            !read.keys.iter().any(secret),
            "a secret that anybody can fetch"
        );
        assert!(file.is_ok(), "a file may hold whatever a server may");
    }
    for read in [file, server] {
        match read {
            Ok(read) => {
                assert!(!read.keys.is_empty());
                assert!(read.skipped.iter().all(|why| !why.is_empty()));
                let Ok(set) = KeySet::new(read.keys, Remote::Present) else {
                    continue;
                };
                let proved = set.prove(Some(Algorithm::Es256), None, b"signed", &[1; 64]);
                assert!(proved.is_err(), "a signature that nobody made");
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
    let secret = read::secret(Algorithm::Hs256, text);
    assert!(
        secret.is_err() || text.len() >= 32,
        "a secret that can be guessed"
    );
}

fn algorithm_of(key: &crate::auth::signature::Key) -> Algorithm {
    key.algorithm()
}
