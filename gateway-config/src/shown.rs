//! A configuration as it may be shown: who may look at it need not have what is secret in it.

use crate::Config;

impl Config {
    /// Without what is secret. Keys and passwords are in files, of which only the names are here; in the URL of a key
    /// server, what stands before the host may be a password, and what stands after the path a key.
    #[must_use]
    pub fn shown(&self) -> Config {
        let mut config = self.clone();
        config.auth.jwks_url = without_secrets(&config.auth.jwks_url);
        config
    }
}

fn without_secrets(url: &str) -> String {
    let bare = url.split(['?', '#']).next().unwrap_or_default();
    match bare.split_once("://") {
        None => bare.to_owned(),
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
            let host = authority.rsplit('@').next().unwrap_or_default();
            format!("{scheme}://{host}/{path}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_shown_without_what_may_be_secret() {
        for (url, shown) in [
            ("", ""),
            (
                "https://keys.example/set.json",
                "https://keys.example/set.json",
            ),
            (
                "https://user:word@keys.example:8443/a?key=b#c",
                "https://keys.example:8443/a",
            ),
            ("https://keys.example/a@b", "https://keys.example/a@b"),
        ] {
            let mut config = Config::default();
            config.auth.jwks_url = url.into();
            config.limits.max_connections = 7;
            let made = config.shown();
            assert_eq!(made.auth.jwks_url, shown);
            config.auth.jwks_url = shown.into();
            assert_eq!(made, config, "nothing else is left out");
        }
    }
}
