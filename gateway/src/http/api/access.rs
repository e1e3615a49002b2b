//! Who may use the API.

use axum::http::{HeaderMap, StatusCode, header};
use ring::digest::{SHA256, digest};
use subtle::ConstantTimeEq;

use crate::config::ApiAccess;
use crate::http::{Problem, bearer};

/// Whose request it is: a hash of its key, since its place in the file may change. What one caller keeps under a name,
/// another does not find.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Caller([u8; 16]);

impl Caller {
    fn with(key: &[u8]) -> Caller {
        let mut head = [0; 16];
        head.copy_from_slice(&digest(&SHA256, key).as_ref()[..16]);
        Caller(head)
    }
}

/// The key comes as `Authorization: Bearer <key>` or `X-API-Key: <key>`.
pub fn authorise(headers: &HeaderMap, access: &ApiAccess) -> Result<Caller, Problem> {
    let refused =
        |message: &str| Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", message.to_owned());
    match access {
        ApiAccess::Off => Err(refused("the API is off: set api.keyFile")),
        // A browser adds `Host` itself: a page of a stranger that had its name resolve to this machine
        // ("DNS rebinding") cannot pretend to be local.
        ApiAccess::Loopback if is_local(headers) => Ok(Caller::with(&[])),
        ApiAccess::Loopback => Err(refused(
            "without api.keyFile the API answers to localhost only",
        )),
        ApiAccess::Keys(keys) => {
            let own = headers.get("x-api-key").map(|value| value.as_bytes());
            let given = own
                .or_else(|| bearer(headers).map(str::as_bytes))
                .unwrap_or_default();
            // Every key is compared to its end, so that the time tells nothing about any of them.
            let mut found = false;
            for key in keys {
                found |= bool::from(key[..].ct_eq(given));
            }
            if found {
                Ok(Caller::with(given))
            } else {
                Err(refused("the API key is missing or wrong"))
            }
        }
    }
}

fn is_local(headers: &HeaderMap) -> bool {
    let Some(host) = headers
        .get(header::HOST)
        .and_then(|value| value.to_str().ok())
    else {
        return false;
    };
    let name = host
        .rsplit_once(':')
        .filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
    matches!(
        name.map_or(host, |(name, _)| name),
        "localhost" | "127.0.0.1" | "[::1]"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_hosts() {
        let keys = ApiAccess::Keys(vec![b"first-key".to_vec(), b"second".to_vec()]);
        for (what, access, header, good) in [
            ("first", &keys, ("x-api-key", "first-key"), true),
            ("second", &keys, ("authorization", "Bearer second"), true),
            ("none", &keys, ("host", "localhost"), false),
            ("empty", &keys, ("x-api-key", ""), false),
            ("prefix", &keys, ("x-api-key", "first"), false),
            ("longer", &keys, ("x-api-key", "first-key2"), false),
            (
                "local",
                &ApiAccess::Loopback,
                ("host", "localhost:8080"),
                true,
            ),
            (
                "local v4",
                &ApiAccess::Loopback,
                ("host", "127.0.0.1"),
                true,
            ),
            (
                "local v6",
                &ApiAccess::Loopback,
                ("host", "[::1]:8080"),
                true,
            ),
            (
                "rebound",
                &ApiAccess::Loopback,
                ("host", "evil.example:8080"),
                false,
            ),
            ("no host", &ApiAccess::Loopback, ("x", "y"), false),
            ("off", &ApiAccess::Off, ("host", "localhost"), false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header.0, header.1.parse().unwrap());
            assert_eq!(authorise(&headers, access).is_ok(), good, "{what}");
        }
    }

    #[test]
    fn a_caller_stays_who_it_is_when_other_keys_come_and_go() {
        let caller = |keys: &[&str], given: &str| {
            let keys = keys.iter().map(|key| key.as_bytes().to_vec()).collect();
            let mut headers = HeaderMap::new();
            headers.insert("x-api-key", given.parse().unwrap());
            authorise(&headers, &ApiAccess::Keys(keys)).unwrap()
        };
        let one = caller(&["one", "other"], "one");
        let other = caller(&["one", "other"], "other");
        assert_ne!(one, other);
        assert_eq!(caller(&["other"], "other"), other);
        assert_eq!(caller(&["other", "new", "one"], "one"), one);
    }
}
