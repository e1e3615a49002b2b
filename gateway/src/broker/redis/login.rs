//! As whom a node comes to Redis. The password may be another one while it runs: connections that are made from then on
//! show the new one, and those that there are go on.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use arc_swap::ArcSwap;
use fred::error::Error;
use fred::types::config::{CredentialProvider, Server};

/// An ACL user. Without a password nobody logs in.
#[derive(Clone, Default)]
pub struct Login {
    /// None: `default`.
    pub username: Option<String>,
    pub password: Option<Password>,
}

/// Cloning shares it: all see what it is replaced by.
#[derive(Clone)]
pub struct Password(Arc<ArcSwap<String>>);

impl Password {
    #[must_use]
    pub fn new(text: String) -> Password {
        Password(Arc::new(ArcSwap::from_pointee(text)))
    }

    pub(super) fn now(&self) -> Arc<String> {
        self.0.load_full()
    }
}

impl Login {
    /// Whether the password of `other` is another one; whether there is one at all needs a restart.
    #[must_use]
    pub fn differs(&self, other: &Login) -> bool {
        match (&self.password, &other.password) {
            (Some(own), Some(other)) => own.now() != other.now(),
            (None, _) | (_, None) => false,
        }
    }

    /// Connections that are made from now on show the password of `other`.
    pub fn take(&self, other: &Login) {
        if let (Some(own), Some(other)) = (&self.password, &other.password) {
            own.0.store(other.now());
        }
    }

    /// Four hexadecimal digits that tell one password from the next: too few to confirm a guess.
    #[must_use]
    pub fn print(&self) -> Option<String> {
        let password = self.password.as_ref()?;
        Some(gateway_config::password_print(&password.now()))
    }
}

/// Without what is secret.
impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Login({:?})", self.username)
    }
}

type Credentials = (Option<String>, Option<String>);

/// Written out as the macro of fred's trait would have it.
impl CredentialProvider for Login {
    fn fetch<'a, 'b, 'c>(
        &'a self,
        _server: Option<&'b Server>,
    ) -> Pin<Box<dyn Future<Output = Result<Credentials, Error>> + Send + 'c>>
    where
        'a: 'c,
        'b: 'c,
        Self: 'c,
    {
        let password = self.password.as_ref();
        let password = password.map(|password| password.now().to_string());
        Box::pin(std::future::ready(Ok((self.username.clone(), password))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(password: Option<&str>) -> Login {
        Login {
            username: None,
            password: password.map(|text| Password::new(text.to_owned())),
        }
    }

    #[test]
    fn everybody_who_shares_a_password_has_the_new_one() {
        let own = login(Some("old"));
        let shared = own.clone();
        assert!(!own.differs(&login(Some("old"))));
        assert!(own.differs(&login(Some("new"))));
        own.take(&login(Some("new")));
        assert!(!shared.differs(&login(Some("new"))));
        assert_ne!(shared.print(), login(Some("old")).print());
    }

    #[test]
    fn none_becomes_none() {
        for (own, other) in [(None, Some("new")), (Some("old"), None), (None, None)] {
            let (own, other) = (login(own), login(other));
            let before = own.print();
            assert!(!own.differs(&other));
            own.take(&other);
            assert_eq!(own.print(), before);
        }
    }
}
