//! Who may connect.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{SecretKey, TrustedCertificates};

/// Who may connect.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "self.anonymous || has(self.hs256KeySecret) || has(self.jwksUrl) || (has(self.keySecrets) && size(self.keySecrets) > 0)", "message": "spec.gateway.auth: nobody could connect: set anonymous: true, or say where the keys of your tokens are: hs256KeySecret, keySecrets or jwksUrl"},
    {"rule": "!has(self.jwksCa) || has(self.jwksUrl)", "message": "spec.gateway.auth.jwksCa is set but not used: set jwksUrl, or remove jwksCa"},
]))]
pub struct AuthSpec {
    /// Whether a client without a token may stay.
    pub anonymous: bool,
    /// The key of HS256 tokens, at least 32 bytes. Without any key no token is accepted. Gateways take up a changed
    /// key, here and in `keySecrets`, within two minutes and close nothing for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hs256_key_secret: Option<SecretKey>,
    /// Keys that say what they are: PEM (public keys or certificates), a JWK, or a JWK set. RS256, ES256, ES384 and
    /// EdDSA follow from the kind of the key, others from the `alg` of a JWK: HS384, HS512, RS512, PS256 and so on.
    #[schemars(length(max = 16))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub key_secrets: Vec<SecretKey>,
    /// A JWK set that gateways fetch and keep current, as identity providers publish it. A gateway is not ready before
    /// it has it; while the server does not answer, the last keys stay.
    #[schemars(
        length(max = 2000),
        regex(
            pattern = r"^https?://(\[[0-9A-Fa-f:.]+\]|[^/@?#:\[\]\s]+)(:[0-9]{1,5})?(/[^#\s]*)?$"
        )
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwks_url: Option<String>,
    /// Whom the server of `jwksUrl` may be signed by, for an identity provider of your own. Default: those that browsers
    /// trust.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwks_ca: Option<TrustedCertificates>,
    /// Between two requests to `jwksUrl`. A token with a key that is not known asks at once, too.
    #[schemars(range(min = 1, max = 86_400))]
    pub jwks_refresh_seconds: i32,
    /// How far clocks may differ: a token counts so much earlier than its `nbf` and longer than its `exp`.
    #[schemars(range(min = 0, max = 300))]
    pub leeway_seconds: i32,
    /// The `iss` of a token must be one of these. Default: any.
    #[schemars(length(max = 16), inner(length(min = 1, max = 500)))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub issuers: Vec<String>,
    /// One `aud` of a token must be one of these. Default: any, also what an issuer made for other services.
    #[schemars(length(max = 16), inner(length(min = 1, max = 500)))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub audiences: Vec<String>,
}

impl Default for AuthSpec {
    fn default() -> Self {
        AuthSpec {
            anonymous: true,
            hs256_key_secret: None,
            key_secrets: Vec::new(),
            jwks_url: None,
            jwks_ca: None,
            jwks_refresh_seconds: 300,
            leeway_seconds: 5,
            issuers: Vec::new(),
            audiences: Vec::new(),
        }
    }
}
