//! TLS that the gateway ends itself.

use std::path::Path;
use std::sync::Arc;

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::program::{Gateway, get, request};
use crate::wait::{until, within};

const SELF_TESTS: &str = r#"pushcluster_self_tests_total{result="passed"}"#;

/// Two files as a mounted Secret has them.
struct Files(TempDir);

impl Files {
    /// With a certificate that nobody signed, for this address.
    fn new() -> Files {
        let files = Files(tempfile::tempdir().unwrap());
        files.renew();
        files
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    /// Another key and certificate in the place of those that are there.
    fn renew(&self) {
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        let put = |name: &str, text: String| {
            // As a whole, or a reader could see half of it.
            let aside = self.path("aside");
            std::fs::write(&aside, text).unwrap();
            std::fs::rename(&aside, Path::new(&self.path(name))).unwrap();
        };
        put("tls.crt", made.cert.pem());
        put("tls.key", made.signing_key.serialize_pem());
    }

    fn certificate(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(self.path("tls.crt")).unwrap()
    }

    async fn gateway(&self, set: &[&str]) -> Gateway {
        let certificate = format!("listen.tls.certificateFile={}", self.path("tls.crt"));
        let key = format!("listen.tls.keyFile={}", self.path("tls.key"));
        Gateway::start(&[&[certificate.as_str(), key.as_str()], set].concat()).await
    }
}

/// A connection whose server has just this certificate.
async fn connect(
    gateway: &Gateway,
    trusted: CertificateDer<'static>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let socket = TcpStream::connect(gateway.clients).await.unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    within("the handshake", connector.connect(name, socket)).await
}

struct Client(WebSocketStream<TlsStream<TcpStream>>);

impl Client {
    async fn new(gateway: &Gateway, files: &Files) -> Client {
        let stream = connect(gateway, files.certificate()).await.unwrap();
        let url = format!("wss://{}/ws", gateway.clients);
        let (socket, _) = within("101", tokio_tungstenite::client_async(url, stream))
            .await
            .unwrap();
        let mut client = Client(socket);
        assert_eq!(client.next().await["type"], "welcome");
        client
    }

    async fn say(&mut self, message: Value) {
        within("send", self.0.send(Message::text(message.to_string())))
            .await
            .unwrap();
    }

    async fn chat(&mut self, text: &str) {
        self.say(json!({"type": "chat", "channel": "news", "message": text}))
            .await;
    }

    async fn next(&mut self) -> Value {
        loop {
            match within("a message", self.0.next()).await {
                Some(Ok(Message::Text(text))) => return serde_json::from_str(&text).unwrap(),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => panic!("wanted a message, got {other:?}"),
            }
        }
    }

    async fn subscribed(mut self) -> Client {
        self.say(json!({"type": "subscribe", "channel": "news"}))
            .await;
        assert_eq!(self.next().await["type"], "subscribed");
        self
    }
}

#[tokio::test]
async fn messages_of_any_size_pass() {
    let files = Files::new();
    let gateway = files.gateway(&[]).await;
    let mut client = Client::new(&gateway, &files).await.subscribed().await;
    // Around the length of a record (16 KiB), of a read (64 KiB) and of what TLS holds back at most (64 KiB).
    for len in [0, 1, 16_000, 16_384, 16_500, 65_400, 65_700, 1_000_000] {
        let text = "ab".repeat(len / 2);
        client.chat(&text).await;
        assert_eq!(client.next().await["message"], *text, "{len}");
    }
}

#[tokio::test]
async fn who_reads_late_gets_all_and_delays_nobody() {
    let files = Files::new();
    let gateway = files
        .gateway(&["limits.maxOutboxBytes=20000000", "engine.shards=1"])
        .await;
    let mut late = Client::new(&gateway, &files).await.subscribed().await;
    let mut prompt = Client::new(&gateway, &files).await.subscribed().await;
    let text = |n: usize| format!("{n} {}", "x".repeat(900_000));
    // More than the kernel's buffers hold: the rest waits, and its socket says when there is room.
    for n in 0..16 {
        prompt.chat(&text(n)).await;
        assert_eq!(prompt.next().await["message"], *text(n));
    }
    for n in 0..16 {
        assert_eq!(late.next().await["message"], *text(n));
    }
}

#[tokio::test]
async fn a_new_certificate_closes_nothing() {
    let files = Files::new();
    let gateway = files.gateway(&[]).await;
    let old = files.certificate();
    let mut early = Client::new(&gateway, &files).await.subscribed().await;
    // Its self-test goes the way of clients.
    gateway.ready().await;
    files.renew();
    until("the new certificate is there", || async {
        match connect(&gateway, files.certificate()).await {
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    })
    .await;
    assert!(connect(&gateway, old).await.is_err(), "the old one is gone");
    early.chat("still here").await;
    assert_eq!(early.next().await["message"], "still here");
    let tests = gateway.metric(SELF_TESTS).await.unwrap();
    until("the self-test passes with the new one", || async {
        match gateway.metric(SELF_TESTS).await {
            Some(count) if count > tests => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let good = r#"pushcluster_tls_certificate_reads_total{result="good"}"#;
    assert!(gateway.metric(good).await >= Some(1.0));

    // A key that does not fit stays out.
    let current = files.certificate();
    std::fs::write(files.path("tls.key"), "none").unwrap();
    until("the bad key is noticed", || async {
        let failed = r#"pushcluster_tls_certificate_reads_total{result="failed"}"#;
        match gateway.metric(failed).await {
            Some(count) if count >= 1.0 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    connect(&gateway, current).await.unwrap();
}

#[tokio::test]
async fn who_does_not_speak_tls_is_not_waited_for() {
    let files = Files::new();
    let gateway = files.gateway(&["limits.handshakeTimeoutSeconds=1"]).await;
    let plain = request(gateway.clients, "GET", "/ws", &[], "").await;
    assert_eq!(plain.status, 0, "{plain:?}");
    let mut silent = TcpStream::connect(gateway.clients).await.unwrap();
    let mut byte = [0];
    assert_eq!(within("the end", silent.read(&mut byte)).await.unwrap(), 0);
    until("both are counted", || async {
        let series = "pushcluster_tls_handshakes_failed_total";
        match gateway.metric(series).await {
            Some(count) if count >= 2.0 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    // The admin port has no TLS: it is never reachable from outside.
    assert_eq!(get(gateway.admin, "/live").await.status, 200);
}

/// RFC 8446 section 6.1: without the notice the client could not tell the end from an attacker's cut.
#[tokio::test]
async fn the_end_is_told() {
    let files = Files::new();
    let gateway = files.gateway(&[]).await;
    let mut stream = connect(&gateway, files.certificate()).await.unwrap();
    let head = "GET /ws HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    // A close frame with 1000, under a mask of zeros.
    stream
        .write_all(&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8])
        .await
        .unwrap();
    let mut said = Vec::new();
    within("the end", stream.read_to_end(&mut said))
        .await
        .unwrap();
    assert!(said.ends_with(&[0x88, 2, 0x03, 0xe8]), "{said:?}");
}
