//! Keys are exchanged while clients and backends go on.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use e2e::fan_out::publish;
use e2e::gateway::{CLIENTS_PORT, PodAddress};
use e2e::namespace::{Namespace, in_namespace};
use e2e::push_client::PushClient;
use e2e::push_cluster::{api_key, gateway_pods, ready_gateways};
use e2e::wait::eventually;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use k8s_openapi::api::core::v1::Secret;
use kube::api::Api;
use serde_json::json;
use tokio::io::DuplexStream;

use crate::{NAME, annotate, made, operator_stays};

/// A kubelet looks at a pod's Secrets once a minute and more, and the operator every two.
const LOOKED_AT: Duration = Duration::from_secs(300);

const MANIFEST: &str = "
apiVersion: pushcluster.io/v1alpha1
kind: PushCluster
metadata:
  name: demo
spec:
  replicas: 2
  gateway:
    apiKeyOverlapSeconds: 30
    auth:
      anonymous: false
      keySecrets: [{name: jwt, key: set}]
";

/// Two keys of tokens, by name and as bytes (32 of them) in base64url.
const OLD: (&str, &[u8; 32], &str) = (
    "old",
    b"old.old.old.old.old.old.old.old.",
    "b2xkLm9sZC5vbGQub2xkLm9sZC5vbGQub2xkLm9sZC4",
);
const NEW: (&str, &[u8; 32], &str) = (
    "new",
    b"new.new.new.new.new.new.new.new.",
    "bmV3Lm5ldy5uZXcubmV3Lm5ldy5uZXcubmV3Lm5ldy4",
);

type Key = (&'static str, &'static [u8; 32], &'static str);

async fn accept(namespace: &Namespace, keys: &[Key]) -> Result<()> {
    let jwk = |(kid, _, k): &Key| json!({"kty": "oct", "alg": "HS256", "kid": kid, "k": k});
    let set = json!({"keys": keys.iter().map(jwk).collect::<Vec<_>>()}).to_string();
    let manifest = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "jwt"},
        "stringData": {"set": set},
    });
    let text = manifest.to_string();
    namespace.cluster.apply(&namespace.name, &text).await?;
    Ok(())
}

fn token((kid, secret, _): Key) -> Result<String> {
    let mut header = Header::new(Algorithm::HS256);
    header.kid = Some(kid.into());
    let claims = json!({"sub": "ann", "exp": 4_000_000_000_u64});
    Ok(encode(&header, &claims, &EncodingKey::from_secret(secret))?)
}

async fn connect(gateway: &PodAddress, key: Key) -> Result<PushClient<DuplexStream>> {
    let stream = gateway.stream(CLIENTS_PORT).await?;
    PushClient::connect_as(stream, Some(&token(key)?)).await
}

/// Until each gateway lets in whoever has a token of the one key, and nobody with one of the other.
async fn until_good(gateways: &[PodAddress], good: &[Key], bad: &[Key]) -> Result<()> {
    eventually("gateways have read the keys", LOOKED_AT, async || {
        for gateway in gateways {
            for key in good {
                let let_in = connect(gateway, *key).await;
                let_in.with_context(|| format!("{} on {}", key.0, gateway.pod))?;
            }
            for key in bad {
                let let_in = connect(gateway, *key).await;
                ensure!(let_in.is_err(), "{} on {} is let in", key.0, gateway.pod);
            }
        }
        Ok::<_, anyhow::Error>(())
    })
    .await
}

async fn pods(namespace: &Namespace) -> Result<Vec<Option<String>>> {
    let pods = gateway_pods(&namespace.cluster, &namespace.name, NAME).await?;
    let mut names: Vec<_> = pods.into_iter().map(|pod| pod.metadata.uid).collect();
    names.sort_unstable();
    Ok(names)
}

/// Publishes through all gateways with the key that a backend reads at that moment, until it is another one. Not one of
/// them may be refused.
async fn publish_until_other(
    namespace: &Namespace,
    gateways: &[PodAddress],
    first: &str,
) -> Result<String> {
    eventually("backends read another key", LOOKED_AT, async || {
        let key = api_key(&namespace.cluster, &namespace.name, NAME).await?;
        for gateway in gateways {
            let published = publish(gateway, &key, "news", &json!("a message")).await;
            if let Err(error) = published {
                let error = format!("{error:#}");
                // Whatever else fails on the way to a pod is tried again; this must not happen once.
                assert!(
                    !error.contains("401 Unauthorized"),
                    "a key that backends read: {error}"
                );
                bail!(error);
            }
        }
        ensure!(key != first, "it is the first");
        Ok::<_, anyhow::Error>(key)
    })
    .await
}

#[tokio::test]
async fn keys_are_exchanged_and_nobody_is_refused_or_closed() {
    let _guard = operator_stays().await;
    in_namespace("rotation", async |namespace| {
        let (cluster, name) = (&namespace.cluster, &namespace.name);
        accept(&namespace, &[OLD]).await?;
        made(&namespace, MANIFEST).await?;
        let gateways = ready_gateways(cluster, name, NAME).await?;
        let before = pods(&namespace).await?;
        let mut ann = connect(&gateways[0], OLD).await?;
        ann.subscribe("other").await?;
        // Reads all the time: a client that answers no pings is closed for that.
        let hearing = tokio::spawn(async move { ann.receive("chat", 3 * LOOKED_AT).await });

        accept(&namespace, &[OLD, NEW]).await?;
        let first = api_key(cluster, name, NAME).await?;
        annotate(&namespace, "pushcluster.io/rotate-api-key", "please").await?;
        let second = publish_until_other(&namespace, &gateways, &first).await?;
        // The overlap.
        publish(&gateways[0], &first, "news", &json!("of a slow backend")).await?;
        until_good(&gateways, &[OLD, NEW], &[]).await?;
        accept(&namespace, &[NEW]).await?;
        until_good(&gateways, &[NEW], &[OLD]).await?;

        eventually("the first key counts no more", LOOKED_AT, async || {
            for gateway in &gateways {
                let published = publish(gateway, &first, "news", &json!("too late")).await;
                ensure!(published.is_err(), "{} takes it", gateway.pod);
                publish(gateway, &second, "news", &json!("in time")).await?;
            }
            Ok::<_, anyhow::Error>(())
        })
        .await?;
        let secrets: Api<Secret> = Api::namespaced(cluster.client(), name);
        let keys = secrets.get("demo-keys").await?.data.unwrap_or_default();
        ensure!(!keys.contains_key("api-key-before"), "{:?}", keys.keys());
        // Whose token nobody would accept any more is still there.
        publish(&gateways[1], &second, "other", &json!("still here")).await?;
        let heard = hearing.await??;
        ensure!(heard.to_string().contains("still here"), "{heard}");
        ensure!(pods(&namespace).await? == before, "other pods");
        Ok(())
    })
    .await;
}
