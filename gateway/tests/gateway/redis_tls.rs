//! Gateways and a Redis that speaks TLS, asks for certificates, and knows them as a user with few rights.

use std::path::{Path, PathBuf};

use rcgen::generate_simple_self_signed;
use tempfile::TempDir;

use crate::history::{FILE, comes_back};
use crate::program::Gateway;
use crate::redis_server::{RedisServer, free_port};
use crate::wait::until;

const PASSWORD: &str = "a-long-enough-one";
/// As `broker.redis.username` in docs/gateway-config.md has them.
pub const RIGHTS: &str = "+@connection +info +eval +publish +subscribe +unsubscribe +@hash +@set +@sortedset +@stream +@keyspace +time";
const KEYS: &str = "~pushcluster:* &pushcluster:*";

struct Secured {
    redis: RedisServer,
    tls_port: u16,
    folder: TempDir,
}

impl Secured {
    async fn start() -> Secured {
        let folder = tempfile::tempdir().unwrap();
        // Each signed by itself: who is trusted is who is named.
        for name in ["redis", "gateway", "stranger"] {
            let made = generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
            let put = |what: &str, text: String| {
                std::fs::write(folder.path().join(format!("{name}.{what}")), text).unwrap();
            };
            put("crt", made.cert.pem());
            put("key", made.signing_key.serialize_pem());
        }
        let tls_port = free_port();
        let at = |name: &str| folder.path().join(name).display().to_string();
        let redis = RedisServer::start_as(&[
            "--tls-port",
            &tls_port.to_string(),
            "--tls-cert-file",
            &at("redis.crt"),
            "--tls-key-file",
            &at("redis.key"),
            "--tls-ca-cert-file",
            &at("gateway.crt"),
        ])
        .await;
        let user = format!("ACL SETUSER pushes on >{PASSWORD} {RIGHTS} {KEYS}");
        let made = redis.ask(&user).await;
        assert!(made.starts_with("+OK"), "{made}");
        Secured {
            redis,
            tls_port,
            folder,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Trusts one certificate, and shows the own one of another name.
    async fn gateway(&self, trusted: &str, shown: &str) -> Gateway {
        let password = self.path("password");
        std::fs::write(&password, PASSWORD).unwrap();
        let file = |key: &str, path: &Path| format!("broker.redis.{key}={}", path.display());
        let set = [
            "broker.kind=redis".to_owned(),
            format!("broker.redis.url=rediss://127.0.0.1:{}", self.tls_port),
            "broker.redis.username=pushes".to_owned(),
            file("passwordFile", &password),
            file("caFile", &self.path(&format!("{trusted}.crt"))),
            file("certificateFile", &self.path(&format!("{shown}.crt"))),
            file("keyFile", &self.path(&format!("{shown}.key"))),
        ];
        Gateway::with_file(FILE, &set.each_ref().map(String::as_str)).await
    }
}

/// Waits until the gateway is not ready, and says this.
async fn not_ready(gateway: &Gateway, expected: &str) {
    until("the cause", || async {
        let why = gateway.not_ready("broker").await;
        match why.contains(expected) {
            true => Ok(()),
            false => Err(why),
        }
    })
    .await;
}

#[tokio::test]
async fn all_connections_are_encrypted_and_of_the_user() {
    let secured = Secured::start().await;
    let a = secured.gateway("redis", "gateway").await;
    let b = secured.gateway("redis", "gateway").await;
    a.ready().await;
    b.ready().await;
    comes_back(&a, &b).await;

    let list = secured.redis.ask("CLIENT LIST").await;
    let (ours, asks): (Vec<&str>, Vec<&str>) = list
        .lines()
        .filter(|line| line.contains("id="))
        .partition(|line| line.contains(&format!("laddr=127.0.0.1:{} ", secured.tls_port)));
    assert_eq!(
        asks.len(),
        1,
        "who asks is the only one without TLS: {list}"
    );
    assert_eq!(
        ours.len(),
        6,
        "each publishes, subscribes and reads: {list}"
    );
    for line in ours {
        assert!(line.contains("user=pushes "), "{line}");
    }
    for gateway in [&a, &b] {
        let log = gateway.log();
        assert!(!log.contains("WARN"), "{log}");
        assert!(!log.contains(PASSWORD), "{log}");
    }
}

#[tokio::test]
async fn who_is_not_trusted_is_told_so() {
    let secured = Secured::start().await;
    for (trusted, shown, expected) in [
        ("stranger", "gateway", "invalid peer certificate"),
        ("redis", "stranger", "alert"),
    ] {
        let gateway = secured.gateway(trusted, shown).await;
        not_ready(&gateway, expected).await;
    }
}

#[tokio::test]
async fn a_user_without_a_right_is_told_so() {
    let secured = Secured::start().await;
    for (right, expected) in [
        ("eval", "NOPERM"),
        // Of a command in a script Redis does not say which.
        ("publish", "can't run this command"),
        ("subscribe", "NOPERM"),
    ] {
        secured
            .redis
            .ask(&format!("ACL SETUSER pushes -{right}"))
            .await;
        let gateway = secured.gateway("redis", "gateway").await;
        not_ready(&gateway, expected).await;
        secured
            .redis
            .ask(&format!("ACL SETUSER pushes +{right}"))
            .await;
        gateway.ready().await;
    }
}
