//! A key server on this machine, and those who sign with its keys.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use jsonwebtoken as jwt;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// Signs with ES256 and a key of its own.
pub struct Signer {
    id: &'static str,
    key: jwt::EncodingKey,
    pub public_pem: String,
}

impl Signer {
    pub fn new(id: &'static str) -> Signer {
        let pair = rcgen::KeyPair::generate().unwrap();
        let key = jwt::EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).unwrap();
        Signer {
            id,
            key,
            public_pem: pair.public_key_pem(),
        }
    }

    /// A token that lasts, with these claims beside `sub`.
    pub fn token(&self, user: &str, more: &Value) -> String {
        let mut claims = json!({"sub": user, "exp": 99_999_999_999_u64});
        for (name, value) in more.as_object().unwrap() {
            claims[name] = value.clone();
        }
        let mut header = jwt::Header::new(jwt::Algorithm::ES256);
        header.kid = Some(self.id.to_owned());
        jwt::encode(&header, &claims, &self.key).unwrap()
    }

    pub fn jwk(&self) -> Value {
        let jwk = jwt::jwk::Jwk::from_encoding_key(&self.key, jwt::Algorithm::ES256).unwrap();
        let mut jwk = serde_json::to_value(jwk).unwrap();
        jwk["kid"] = self.id.into();
        jwk
    }
}

/// What the server answers from now on.
pub enum Says {
    Keys(Vec<Value>),
    Text(&'static str),
    Status(u16),
    /// Reads the request and says no more.
    Nothing,
    /// Never stops talking.
    Endless,
}

pub struct KeyServer {
    pub address: SocketAddr,
    says: Arc<Mutex<Says>>,
    asked: Arc<AtomicUsize>,
    tls: Option<TlsAcceptor>,
    /// In PEM; who trusts it trusts the server.
    pub certificate: String,
    task: JoinHandle<()>,
}

impl KeyServer {
    pub async fn http(says: Says) -> KeyServer {
        KeyServer::start(says, None, String::new()).await
    }

    /// With a certificate that nobody signed.
    pub async fn https(says: Says) -> KeyServer {
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let tls = TlsAcceptor::from(Arc::new(config));
        KeyServer::start(says, Some(tls), made.cert.pem()).await
    }

    async fn start(says: Says, tls: Option<TlsAcceptor>, certificate: String) -> KeyServer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let says = Arc::new(Mutex::new(says));
        let asked = Arc::new(AtomicUsize::new(0));
        let task = tokio::spawn(serve(listener, tls.clone(), says.clone(), asked.clone()));
        KeyServer {
            address,
            says,
            asked,
            tls,
            certificate,
            task,
        }
    }

    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}/keys", self.address)
    }

    /// The setting that names it.
    pub fn setting(&self) -> String {
        format!("auth.jwksUrl={}", self.url())
    }

    pub fn say(&self, says: Says) {
        *self.says.lock().unwrap() = says;
    }

    /// Requests so far.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    /// Nobody listens at its address from now on.
    pub async fn go_away(&mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }

    pub async fn come_back(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        let (tls, says, asked) = (self.tls.clone(), self.says.clone(), self.asked.clone());
        self.task = tokio::spawn(serve(listener, tls, says, asked));
    }
}

impl Drop for KeyServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    says: Arc<Mutex<Says>>,
    asked: Arc<AtomicUsize>,
) {
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        let (tls, says, asked) = (tls.clone(), says.clone(), asked.clone());
        tokio::spawn(async move {
            match tls {
                None => answer(socket, &says, &asked).await,
                // A client that does not trust us goes away here.
                Some(tls) => {
                    if let Ok(socket) = tls.accept(socket).await {
                        answer(socket, &says, &asked).await;
                    }
                }
            }
        });
    }
}

async fn answer(
    mut socket: impl AsyncRead + AsyncWrite + Unpin,
    says: &Mutex<Says>,
    asked: &AtomicUsize,
) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        match socket.read_u8().await {
            Ok(byte) => request.push(byte),
            Err(_) => return,
        }
    }
    assert!(request.starts_with(b"GET /keys HTTP/1.1\r\n"));
    asked.fetch_add(1, Ordering::Relaxed);
    let (status, body) = match &*says.lock().unwrap() {
        Says::Keys(keys) => (200, Some(json!({ "keys": keys }).to_string())),
        Says::Text(text) => (200, Some((*text).to_owned())),
        Says::Status(status) => (*status, Some("<html>".to_owned())),
        Says::Endless => (200, None),
        Says::Nothing => (0, None),
    };
    let head = format!("HTTP/1.1 {status} x\r\nlocation: /other\r\nconnection: close\r\n");
    let text = match (status, body) {
        // Until the other side goes away.
        (0, _) => return drop(socket.read_u8().await),
        (_, Some(body)) => format!("{head}content-length: {}\r\n\r\n{body}", body.len()),
        (_, None) => format!("{head}\r\n"),
    };
    let endless = !text.contains("content-length");
    let mut sent = socket.write_all(text.as_bytes()).await;
    while endless && sent.is_ok() {
        sent = socket.write_all(&[b' '; 65_536]).await;
    }
    let _ = socket.shutdown().await;
}
