//! Whether a request comes from the API server, which has asked who the user is and what they may. Its word is its client
//! certificate; what it must be signed by, and for which names, is in the ConfigMap `extension-apiserver-authentication`
//! (Kubernetes: "Configure the aggregation layer"; k8s.io/apiserver, authentication/request/headerrequest).

use std::sync::Arc;

use http::HeaderMap;
use k8s_openapi::api::core::v1::ConfigMap;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::answer::Refusal;

pub const NAMESPACE: &str = "kube-system";
pub const CONFIG_MAP: &str = "extension-apiserver-authentication";

/// What makes the API server trusted.
#[derive(Debug, Clone)]
pub struct Trust {
    pub roots: Arc<RootCertStore>,
    /// Empty: whoever has a certificate.
    names: Vec<String>,
    /// Headers in which it says who the user is.
    user_headers: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    #[error(
        "ConfigMap {NAMESPACE}/{CONFIG_MAP} has no {0}: the API server runs without an aggregation layer"
    )]
    Missing(&'static str),
    #[error("ConfigMap {NAMESPACE}/{CONFIG_MAP}: {key} cannot be read: {why}")]
    Unreadable { key: &'static str, why: String },
}

const CA: &str = "requestheader-client-ca-file";
const NAMES: &str = "requestheader-allowed-names";
const USERS: &str = "requestheader-username-headers";

impl Trust {
    pub fn of(found: &ConfigMap) -> Result<Trust, TrustError> {
        let value = |key: &'static str| {
            let value = found.data.as_ref().and_then(|entries| entries.get(key));
            value.ok_or(TrustError::Missing(key))
        };
        let unreadable = |key: &'static str, why: String| TrustError::Unreadable { key, why };
        let list = |key: &'static str| {
            let text = value(key)?;
            serde_json::from_str::<Vec<String>>(text).map_err(|e| unreadable(key, e.to_string()))
        };
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(value(CA)?.as_bytes()) {
            let certificate = certificate.map_err(|e| unreadable(CA, e.to_string()))?;
            let added = roots.add(certificate);
            added.map_err(|e| unreadable(CA, e.to_string()))?;
        }
        if roots.is_empty() {
            return Err(unreadable(CA, "it holds no certificate".into()));
        }
        Ok(Trust {
            roots: Arc::new(roots),
            names: list(NAMES)?,
            user_headers: list(USERS)?,
        })
    }

    /// The user for whom the API server asks. `certificate`: the client's, which the TLS handshake has verified.
    pub fn user(
        &self,
        certificate: Option<&CertificateDer<'_>>,
        headers: &HeaderMap,
    ) -> Result<String, Refusal> {
        let certificate = certificate.ok_or(Refusal::Unauthorized(
            "ask the API server: only its client certificate is taken here",
        ))?;
        let name = common_name(certificate);
        let known = |name: &String| self.names.is_empty() || self.names.contains(name);
        if !name.as_ref().is_some_and(known) {
            let name = name.unwrap_or_default();
            return Err(Refusal::Forbidden(format!(
                "the client certificate of {name:?} is not that of the API server's front proxy"
            )));
        }
        let mut users = self.user_headers.iter().filter_map(|key| headers.get(key));
        let user = users.find_map(|user| user.to_str().ok().filter(|user| !user.is_empty()));
        let user = user.ok_or(Refusal::Unauthorized("the request names no user"))?;
        Ok(user.to_owned())
    }
}

fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let mut names = certificate.subject().iter_common_name();
    names.next()?.as_str().ok().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};
    use serde_json::json;

    use super::*;

    fn certificate(name: &str) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().clone()
    }

    fn config_map(names: &str) -> ConfigMap {
        let key = KeyPair::generate().unwrap();
        let ca = CertificateParams::default()
            .self_signed(&key)
            .unwrap()
            .pem();
        let entries = json!({CA: ca, NAMES: names, USERS: r#"["X-Remote-User","X-Other"]"#});
        serde_json::from_value(json!({"data": entries})).unwrap()
    }

    #[test]
    fn only_the_front_proxy_is_believed_and_only_of_a_user() {
        let asks = |name: &str| {
            HeaderMap::from_iter([(
                http::HeaderName::from_bytes(name.as_bytes()).unwrap(),
                "system:serviceaccount:kube-system:horizontal-pod-autoscaler"
                    .parse()
                    .unwrap(),
            )])
        };
        for (names, certificate, headers, expected) in [
            (
                r#"["front-proxy-client"]"#,
                Some("front-proxy-client"),
                asks("x-remote-user"),
                200,
            ),
            (
                r#"["a","front-proxy-client"]"#,
                Some("front-proxy-client"),
                asks("x-other"),
                200,
            ),
            ("[]", Some("anybody"), asks("x-remote-user"), 200),
            (
                r#"["front-proxy-client"]"#,
                Some("anybody"),
                asks("x-remote-user"),
                403,
            ),
            (
                r#"["front-proxy-client"]"#,
                None,
                asks("x-remote-user"),
                401,
            ),
            (
                r#"["front-proxy-client"]"#,
                Some("front-proxy-client"),
                HeaderMap::new(),
                401,
            ),
            (
                r#"["front-proxy-client"]"#,
                Some("front-proxy-client"),
                asks("x-remote-group"),
                401,
            ),
        ] {
            let trust = Trust::of(&config_map(names)).unwrap();
            let shown = certificate.map(self::certificate);
            let user = trust.user(shown.as_ref(), &headers);
            let code = user.map_or_else(|refusal| refusal.code().as_u16(), |_| 200);
            assert_eq!(code, expected, "{names} {certificate:?} {headers:?}");
        }
    }

    #[test]
    fn a_cluster_without_an_aggregation_layer_is_named() {
        let missing = Trust::of(&ConfigMap::default()).unwrap_err();
        assert_eq!(missing, TrustError::Missing(CA));
        for (key, value) in [(CA, "no certificate"), (NAMES, "a"), (USERS, "{}")] {
            let mut found = config_map("[]");
            let entries = found.data.as_mut().unwrap();
            entries.insert(key.into(), value.into());
            let error = Trust::of(&found).unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        }
    }
}
