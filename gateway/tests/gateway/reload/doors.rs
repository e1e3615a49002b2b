//! Keys that decide who comes in.

use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::stage::{SECRET, Stage, signed};
use crate::key_server::{KeyServer, Says, Signer};
use crate::program::token;
use crate::wait::{until, within};

const IN: u16 = 101;

/// `auth.jwks…`
async fn key_server(stage: &Stage, key: &str) {
    let signer = Signer::new("a");
    let token = signer.token("ann", &json!({}));
    let keys = || Says::Keys(vec![signer.jwk()]);
    let set = |name: &str, value: Value, url: String| {
        let mut auth = json!({"jwksUrl": url});
        auth[name] = value;
        stage.set(json!({"auth": auth}))
    };
    match key {
        "auth.jwksUrl" => {
            assert_eq!(stage.knock_with(&token).await, 401);
            let server = KeyServer::http(keys()).await;
            set("jwksUrl", json!(server.url()), server.url()).await;
            assert_eq!(stage.knock_with(&token).await, IN);
        }
        "auth.jwksCaFile" => {
            let server = KeyServer::https(keys()).await;
            stage.gateway.write("ca", &server.certificate);
            set(key_name(key), json!(stage.at("ca")), server.url()).await;
            assert_eq!(stage.knock_with(&token).await, IN);
        }
        "auth.jwksRefreshSeconds" => {
            let server = KeyServer::http(keys()).await;
            set("jwksUrl", json!(server.url()), server.url()).await;
            assert_eq!(server.asked(), 1);
            set(key_name(key), json!(1), server.url()).await;
            until("the server is asked again and again", || async {
                match server.asked() {
                    3.. => Ok(()),
                    few => Err(few.to_string()),
                }
            })
            .await;
        }
        "auth.jwksTimeoutSeconds" => {
            let server = KeyServer::http(keys()).await;
            set("jwksUrl", json!(server.url()), server.url()).await;
            server.say(Says::Nothing);
            set(key_name(key), json!(1), server.url()).await;
            let failed = r#"pushcluster_key_reads_total{result="failed",source="server"}"#;
            until("the server is not waited for", || async {
                match stage.gateway.metric(failed).await {
                    Some(count) if count > 0.0 => Ok(()),
                    other => Err(format!("{other:?}")),
                }
            })
            .await;
        }
        other => panic!("no check for {other}"),
    }
}

fn key_name(key: &str) -> &str {
    key.rsplit('.').next().unwrap()
}

pub async fn auth(stage: &Stage, key: &str) {
    if key.contains("jwks") {
        return key_server(stage, key).await;
    }
    let name = key.strip_prefix("auth.").unwrap();
    let plain = token("ann", 3_600);
    // The change, a token, and what is said to it before and after.
    let (value, token, before, after) = match name {
        "anonymous" => {
            assert_eq!(stage.get("/sse?channel=", &[]).await.status, 422);
            stage.set(json!({"auth": {"anonymous": false}})).await;
            assert_eq!(stage.get("/sse?channel=a", &[]).await.status, 401);
            return;
        }
        "audiences" => (json!(["here"]), plain, IN, 401),
        "issuers" => (json!(["somebody"]), plain, IN, 401),
        "hs256KeyFile" => (json!(stage.at("secret")), plain, IN, 401),
        "hs384KeyFile" => {
            let token = signed(Algorithm::HS384, &SECRET);
            (json!(stage.at("secret")), token, 401, IN)
        }
        "hs512KeyFile" => {
            let token = signed(Algorithm::HS512, &SECRET);
            (json!(stage.at("secret")), token, 401, IN)
        }
        "keyFiles" => {
            let token = signed(Algorithm::HS256, &SECRET[..32]);
            (json!([stage.at("jwk")]), token, 401, IN)
        }
        "leewaySeconds" => (json!(300), token("ann", -60), 401, IN),
        other => panic!("no check for auth.{other}"),
    };
    assert_eq!(stage.knock_with(&token).await, before, "{key}");
    let mut change = json!({"auth": {}});
    change["auth"][name] = value;
    stage.set(change).await;
    assert_eq!(stage.knock_with(&token).await, after, "{key}");
}

/// Caps on those who come.
pub async fn caps(stage: &Stage, key: &str) {
    let name = key.strip_prefix("limits.").unwrap();
    let mut change = json!({"limits": {}});
    change["limits"][name] = json!(1);
    stage.set(change).await;
    let (query, status) = match name {
        "maxConnectionsPerUser" => (format!("?token={}", token("ann", 3_600)), 429),
        "maxConnectionsPerAddress" => (String::new(), 429),
        "maxConnections" | "handshakesPerSecond" => (String::new(), 503),
        "maxHandshakes" => {
            let _first = TcpStream::connect(stage.clients()).await.unwrap();
            assert_eq!(stage.get("/api/info", &[]).await.status, 503);
            return;
        }
        "handshakeTimeoutSeconds" => {
            let mut silent = TcpStream::connect(stage.clients()).await.unwrap();
            let mut rest = Vec::new();
            let end = silent.read_to_end(&mut rest);
            within("the end of a silent connection", end).await.unwrap();
            return;
        }
        other => panic!("no check for limits.{other}"),
    };
    let mut inside = Vec::new();
    for _ in 0..100 {
        match stage.knock(&query, &[]).await {
            (IN, client) => inside.push(client),
            (refused, _) => {
                assert_eq!(refused, status, "{key}");
                return;
            }
        }
    }
    panic!("{key}: a hundred came in");
}

pub async fn listen(stage: &Stage, key: &str) {
    match key {
        "listen.allowedOrigins" => {
            let origin = [("origin", "https://b.example")];
            assert_eq!(stage.knock("", &origin).await.0, IN);
            let change = json!({"listen": {"allowedOrigins": ["https://a.example"]}});
            stage.set(change).await;
            assert_eq!(stage.knock("", &origin).await.0, 403);
        }
        "listen.page" => {
            assert_eq!(stage.get("/", &[]).await.status, 200);
            stage.set(json!({"listen": {"page": false}})).await;
            assert_eq!(stage.get("/", &[]).await.status, 404);
        }
        "listen.trustedProxies" => {
            let limits = json!({"maxConnectionsPerAddress": 1});
            stage.set(json!({"limits": limits})).await;
            let one = [("x-forwarded-for", "192.0.2.1")];
            let other = [("x-forwarded-for", "192.0.2.2")];
            let _one = stage.knock("", &one).await;
            assert_eq!(stage.knock("", &other).await.0, 429);
            let listen = json!({"trustedProxies": ["127.0.0.1"]});
            let change = json!({"limits": limits, "listen": listen});
            stage.set(change).await;
            assert_eq!(stage.knock("", &other).await.0, IN);
        }
        other => panic!("no check for {other}"),
    }
}
