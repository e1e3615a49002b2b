//! Which tokens count while keys come, go and change; no connection is closed for that.

use std::path::Path;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Error;

use crate::client::Client;
use crate::key_server::{KeyServer, Says, Signer};
use crate::program::{Gateway, token};
use crate::wait::until;

/// `in`, or the status and the message of the refusal.
async fn knock(gateway: &Gateway, token: &str) -> String {
    let url = format!("ws://{}/ws?token={token}", gateway.clients);
    match Client::open(&url, &[]).await {
        Ok(_) => "in".to_owned(),
        Err(Error::Http(response)) => {
            let body: Value = serde_json::from_slice(response.body().as_ref().unwrap()).unwrap();
            let message = body["error"]["message"].as_str().unwrap().to_owned();
            format!("{} {message}", response.status().as_u16())
        }
        Err(other) => panic!("{other}"),
    }
}

/// Knocks until the answer is this one.
async fn until_knocked(gateway: &Gateway, token: &str, expected: &str) {
    until(expected, || async {
        let answer = knock(gateway, token).await;
        if answer == expected {
            Ok(())
        } else {
            Err(answer)
        }
    })
    .await;
}

async fn until_metric(gateway: &Gateway, series: &str, good: impl Fn(f64) -> bool) {
    until(series, || async {
        let value = gateway.metric(series).await;
        if value.is_some_and(&good) {
            Ok(())
        } else {
            Err(format!("{value:?}\n{}", gateway.log()))
        }
    })
    .await;
}

const UNKNOWN: &str = "401 token refused: the key that it names (`kid`) is not known here";
const SIGNATURE: &str = "401 token refused: its signature is wrong";
const NOT_YET: &str = "503 token not looked at: this gateway has not got its keys yet, try again";
const FAILED: &str = r#"pushcluster_key_reads_total{result="failed",source="server"}"#;
const FETCHED: &str = r#"pushcluster_key_reads_total{result="good",source="server"}"#;

#[tokio::test]
async fn keys_rotate_under_open_connections() {
    let (old, new) = (Signer::new("old"), Signer::new("new"));
    let server = KeyServer::http(Says::Keys(vec![old.jwk()])).await;
    let gateway = Gateway::start(&[&server.setting()]).await;
    gateway.ready().await;
    let mut early = Client::connect(gateway.clients, Some(&old.token("ann", &json!({})))).await;
    assert_eq!(gateway.metric("pushcluster_keys").await, Some(2.0));

    server.say(Says::Keys(vec![new.jwk()]));
    // The first who comes with the new key waits until it is here, in a handshake or in a message.
    let refresh = json!({"type": "auth", "token": new.token("ann", &json!({})), "id": 1});
    early.send(refresh).await;
    let answer = early.next().await;
    assert_eq!(
        (&answer["type"], &answer["user"], &answer["id"]),
        (&json!("authenticated"), &json!("ann"), &json!(1))
    );
    assert_eq!(knock(&gateway, &new.token("bob", &json!({}))).await, "in");
    assert_eq!(
        knock(&gateway, &old.token("bob", &json!({}))).await,
        UNKNOWN
    );
    assert_eq!(
        knock(&gateway, &token("cyd", 60)).await,
        "in",
        "by the file"
    );
    early.heard_nothing().await;
    assert_eq!(server.asked(), 2, "at the start and for the new key");
    let refused = r#"pushcluster_tokens_refused_total{cause="unknown_key"}"#;
    assert_eq!(gateway.metric(refused).await, Some(1.0));
}

#[tokio::test]
async fn a_handshake_waits_for_the_key_that_its_token_names() {
    let (old, new) = (Signer::new("old"), Signer::new("new"));
    let server = KeyServer::http(Says::Keys(vec![old.jwk()])).await;
    let gateway = Gateway::start(&[&server.setting()]).await;
    gateway.ready().await;
    server.say(Says::Keys(vec![old.jwk(), new.jwk()]));
    assert_eq!(knock(&gateway, &new.token("bob", &json!({}))).await, "in");
    assert_eq!(knock(&gateway, &old.token("bob", &json!({}))).await, "in");
    assert_eq!(server.asked(), 2, "at the start and for the new key");
}

#[tokio::test]
async fn unknown_keys_do_not_become_an_attack_on_the_server() {
    let known = Signer::new("known");
    let server = KeyServer::http(Says::Keys(vec![known.jwk()])).await;
    let gateway = Gateway::start(&[&server.setting()]).await;
    gateway.ready().await;
    let stranger = Signer::new("stranger").token("eve", &json!({}));
    for _ in 0..2 {
        let mut inside = gateway.client().await;
        for _ in 0..5 {
            assert_eq!(knock(&gateway, &stranger).await, UNKNOWN);
            inside
                .send(json!({"type": "auth", "token": stranger}))
                .await;
            let answer = inside.next().await;
            assert_eq!(answer["code"], "unauthorized");
            assert_eq!(answer["message"], UNKNOWN["401 ".len()..]);
        }
        assert_eq!(inside.closed().await.0, 3000, "it has tried often enough");
    }
    assert_eq!(server.asked(), 2, "at the start and for the first of them");
    let refused = r#"pushcluster_tokens_refused_total{cause="unknown_key"}"#;
    assert_eq!(gateway.metric(refused).await, Some(20.0));
}

#[tokio::test]
async fn a_server_that_goes_away_leaves_its_keys_behind() {
    let (old, new) = (Signer::new("old"), Signer::new("new"));
    let mut server = KeyServer::http(Says::Keys(vec![old.jwk()])).await;
    let set = [
        &server.setting(),
        "auth.jwksRefreshSeconds=1",
        "auth.jwksTimeoutSeconds=1",
    ];
    let gateway = Gateway::start(&set).await;
    gateway.ready().await;
    let token = old.token("ann", &json!({}));
    let mut failures = 0.0;
    for says in [
        None,
        Some(Says::Nothing),
        Some(Says::Endless),
        Some(Says::Status(500)),
        Some(Says::Status(302)),
        Some(Says::Text("<html>")),
        Some(Says::Keys(vec![])),
        Some(Says::Keys(vec![old.jwk(); 65])),
    ] {
        match says {
            None => server.go_away().await,
            Some(says) => {
                if failures == 1.0 {
                    server.come_back().await;
                }
                server.say(says);
            }
        }
        // One may have begun with what was said before.
        let before = gateway.metric(FAILED).await.unwrap();
        until_metric(&gateway, FAILED, |value| value >= before + 2.0).await;
        failures += 1.0;
        gateway.ready().await;
        assert_eq!(knock(&gateway, &token).await, "in");
    }
    let log = gateway.log();
    for why in [
        "Connection refused",
        "no whole answer within 1s",
        "answered with more than 262144 bytes",
        "answered 500, not 200",
        "answered 302, not 200",
        "is neither PEM nor a JWK nor a JWK set",
        "holds no key that can be used",
        "there are 66 keys, more than 64",
    ] {
        assert!(log.contains(why), "{why}");
    }
    server.say(Says::Keys(vec![new.jwk()]));
    until_knocked(&gateway, &new.token("ann", &json!({})), "in").await;
    until_knocked(&gateway, &token, UNKNOWN).await;
}

#[tokio::test]
async fn a_gateway_without_its_keys_is_not_ready() {
    let signer = Signer::new("a");
    let server = KeyServer::http(Says::Nothing).await;
    let set = [
        &server.setting(),
        "auth.jwksTimeoutSeconds=1",
        "auth.anonymous=false",
    ];
    let gateway = Gateway::start(&set).await;
    let why = gateway.not_ready("keys").await;
    assert!(why.starts_with("no keys from auth.jwksUrl: "), "{why}");
    let mine = signer.token("ann", &json!({}));
    assert_eq!(knock(&gateway, &mine).await, NOT_YET);
    assert_eq!(
        knock(&gateway, &token("cyd", 60)).await,
        "in",
        "by the file"
    );
    let mut early = gateway.client().await;
    early.send(json!({"type": "auth", "token": mine})).await;
    assert_eq!(early.next().await["code"], "unavailable");

    server.say(Says::Keys(vec![signer.jwk()]));
    gateway.ready().await;
    assert_eq!(knock(&gateway, &mine).await, "in");
    early.send(json!({"type": "auth", "token": mine})).await;
    assert_eq!(early.next().await["type"], "authenticated");
    let fetched = "pushcluster_key_server_success_timestamp_seconds";
    assert!(gateway.metric(fetched).await.unwrap() > 1.6e9);
}

#[tokio::test]
async fn over_https_only_a_server_that_is_trusted_counts() {
    let signer = Signer::new("a");
    let mine = signer.token("ann", &json!({}));
    let server = KeyServer::https(Says::Keys(vec![signer.jwk()])).await;
    let wary = Gateway::start(&[&server.setting()]).await;
    let why = until("the reason", || async {
        let why = wary.not_ready("keys").await;
        if why.contains("certificate") {
            Ok(why)
        } else {
            Err(why)
        }
    })
    .await;
    assert!(why.contains("UnknownIssuer"), "{why}");
    assert_eq!(knock(&wary, &mine).await, NOT_YET);

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, &server.certificate).unwrap();
    let authority = format!("auth.jwksCaFile={}", file.display());
    let gateway = Gateway::start(&[&server.setting(), &authority]).await;
    gateway.ready().await;
    assert_eq!(knock(&gateway, &mine).await, "in");
}

/// As Kubernetes does it: the file is a link into `..data`, and that is a link which is swapped.
fn publish(folder: &Path, version: &str, text: &str) {
    let content = folder.join(version);
    std::fs::create_dir(&content).unwrap();
    std::fs::write(content.join("key.pem"), text).unwrap();
    let (link, new) = (folder.join("..data"), folder.join("..data_tmp"));
    std::os::unix::fs::symlink(&content, &new).unwrap();
    std::fs::rename(&new, &link).unwrap();
}

#[tokio::test]
async fn a_mounted_key_changes_under_open_connections() {
    let (old, new) = (Signer::new("old"), Signer::new("new"));
    let folder = tempfile::tempdir().unwrap();
    publish(folder.path(), "..1", &old.public_pem);
    let file = folder.path().join("key.pem");
    std::os::unix::fs::symlink("..data/key.pem", &file).unwrap();
    let gateway = Gateway::start(&[&format!("auth.keyFiles={}", file.display())]).await;
    gateway.ready().await;
    let mut early = Client::connect(gateway.clients, Some(&old.token("ann", &json!({})))).await;
    assert_eq!(
        knock(&gateway, &new.token("ann", &json!({}))).await,
        SIGNATURE
    );

    publish(
        folder.path(),
        "..2",
        &format!("{}{}", old.public_pem, new.public_pem),
    );
    until_knocked(&gateway, &new.token("ann", &json!({})), "in").await;
    assert_eq!(knock(&gateway, &old.token("ann", &json!({}))).await, "in");

    publish(folder.path(), "..3", "not a key");
    let failed = r#"pushcluster_key_reads_total{result="failed",source="file"}"#;
    until_metric(&gateway, failed, |value| value == 1.0).await;
    assert_eq!(knock(&gateway, &old.token("ann", &json!({}))).await, "in");
    assert!(
        gateway
            .log()
            .contains("is neither PEM nor a JWK nor a JWK set")
    );

    publish(folder.path(), "..4", &new.public_pem);
    until_knocked(&gateway, &old.token("ann", &json!({})), SIGNATURE).await;
    early.heard_nothing().await;
}

#[tokio::test]
async fn a_token_is_for_this_gateway_and_from_its_issuer() {
    let signer = Signer::new("a");
    let server = KeyServer::http(Says::Keys(vec![signer.jwk()])).await;
    let set = [
        &server.setting(),
        "auth.issuers=https://id.example",
        "auth.audiences=push,chat",
        "auth.leewaySeconds=0",
    ];
    let gateway = Gateway::start(&set).await;
    gateway.ready().await;
    let issuer = "401 token refused: its issuer (`iss`) is none that counts here";
    let audience = "401 token refused: it is not for this gateway (`aud`)";
    for (claims, expected) in [
        (
            json!({"iss": "https://id.example", "aud": ["x", "chat"]}),
            "in",
        ),
        (json!({"iss": "https://id.example", "aud": "x"}), audience),
        (json!({"iss": "https://id.example"}), audience),
        (
            json!({"iss": "https://other.example", "aud": "push"}),
            issuer,
        ),
        (json!({"aud": "push"}), issuer),
    ] {
        let answer = knock(&gateway, &signer.token("ann", &claims)).await;
        assert_eq!(answer, expected, "{claims}");
    }
    // Fetched once: none of these was a reason to ask again.
    assert_eq!(gateway.metric(FETCHED).await, Some(1.0));
}
