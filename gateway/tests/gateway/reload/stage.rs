//! A gateway whose whole configuration is in a file that is written again and again.

use std::net::SocketAddr;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Error;

use crate::client::Client;
use crate::program::{API_KEY, Answer, Gateway, HS256_KEY, request};

/// Long enough for any algorithm.
pub const SECRET: [u8; 64] = [b's'; 64];

pub struct Stage {
    pub gateway: Gateway,
}

impl Stage {
    pub async fn start() -> Stage {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("jwt"), HS256_KEY).unwrap();
        std::fs::write(at("api"), API_KEY).unwrap();
        std::fs::write(at("other-api"), "another-key-for-tests\n").unwrap();
        std::fs::write(at("secret"), SECRET).unwrap();
        // The first 32 bytes of it.
        let k = "c3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3M";
        let jwk = json!({"kty": "oct", "alg": "HS256", "k": k});
        std::fs::write(at("jwk"), jwk.to_string()).unwrap();
        let file = base(&|name| at(name).display().to_string(), &json!({}));
        std::fs::write(at("gateway.yaml"), file).unwrap();
        let gateway = Gateway::in_folder(folder, &[]).await;
        Stage { gateway }
    }

    pub fn at(&self, name: &str) -> String {
        self.gateway.path(name).display().to_string()
    }

    /// The configuration of the start, with `change` on top.
    pub async fn set(&self, change: Value) {
        let file = base(&|name| self.at(name), &change);
        let answer = self.gateway.reload(&file).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert_eq!(answer.json()["needsRestart"], json!([]));
    }

    pub fn clients(&self) -> SocketAddr {
        self.gateway.clients
    }

    /// A request to the clients' port without a body.
    pub async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        request(self.clients(), "GET", path, headers, "").await
    }

    /// The status that a handshake is answered with; with 101 there is a client.
    pub async fn knock(
        &self,
        query: &str,
        headers: &[(&'static str, &str)],
    ) -> (u16, Option<Client>) {
        let url = format!("ws://{}/ws{query}", self.clients());
        match Client::handshake(&url, headers).await {
            Ok(client) => (101, Some(client)),
            Err(Error::Http(response)) => (response.status().as_u16(), None),
            Err(other) => panic!("{other}"),
        }
    }

    pub async fn knock_with(&self, token: &str) -> u16 {
        self.knock(&format!("?token={token}"), &[]).await.0
    }

    pub async fn publish(&self, channel: &str, data: &str, headers: &[(&str, &str)]) -> Answer {
        let body = json!({"channel": channel, "data": data}).to_string();
        let key = [("x-api-key", API_KEY)];
        let headers = [&key, headers].concat();
        self.gateway.post("/api/publish", &headers, &body).await
    }
}

/// Values with which nothing is in the way of a check, and by which its key can be seen to change.
fn base(at: &dyn Fn(&str) -> String, change: &Value) -> String {
    let mut file = json!({
        "api": {"keyFile": at("api")},
        "auth": {
            "hs256KeyFile": at("jwt"),
            "jwksRefreshSeconds": 3_000,
            "jwksTimeoutSeconds": 3_000,
        },
        "heartbeat": {"pingSeconds": 3_000, "idleSeconds": 3_000},
        "limits": {
            "handshakeTimeoutSeconds": 3_000,
            "maxOutboxBytes": 256 << 20,
            "maxMemoryBytes": 0,
            "messagesPerSecond": 1,
            "messageBurst": 1_000,
        },
        "channels": [
            {"prefix": "kept.", "historyMessages": 10, "historySeconds": 60},
            {"prefix": "seen.", "presence": true},
        ],
        "listen": {"page": true},
        "log": {"format": "json"},
    });
    for (section, keys) in change.as_object().unwrap() {
        match keys.as_object() {
            Some(keys) => {
                for (key, value) in keys {
                    file[section][key] = value.clone();
                }
            }
            None => file[section] = keys.clone(),
        }
    }
    file.to_string()
}

/// A token for an hour.
pub fn signed(algorithm: Algorithm, secret: &[u8]) -> String {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let claims = json!({"sub": "ann", "exp": now + 3_600});
    let key = EncodingKey::from_secret(secret);
    jsonwebtoken::encode(&Header::new(algorithm), &claims, &key).unwrap()
}

/// What a request is answered with: its type, or the error's code.
pub async fn answer(client: &mut Client, request: Value) -> String {
    client.send(request).await;
    let answer = client.next().await;
    let code = answer.get("code").unwrap_or(&answer["type"]);
    code.as_str().unwrap().to_owned()
}

pub async fn subscribe(client: &mut Client, channel: &str) -> String {
    answer(client, json!({"type": "subscribe", "channel": channel})).await
}
