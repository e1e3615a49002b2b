use k8s_openapi::api::core::v1::ConfigMap;
use kube::client::Body;
use rcgen::{CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;

use super::*;
use crate::certificate::{Due, Held, renewed};
use crate::metrics_api::kept;
use crate::metrics_api::register::CERTIFICATE;

const HOST: &str = "ours.system.svc";

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

struct Port {
    address: std::net::SocketAddr,
    held: Held,
    front_proxy: Authority,
    kept: watch::Sender<State>,
}

fn config_map(front_proxy: &Authority) -> ConfigMap {
    serde_json::from_value(json!({"data": {
        "requestheader-client-ca-file": front_proxy.pem(),
        "requestheader-allowed-names": r#"["front-proxy-client"]"#,
        "requestheader-username-headers": r#"["X-Remote-User"]"#,
    }}))
    .unwrap()
}

async fn port() -> Port {
    let now = k8s_openapi::jiff::Timestamp::now().as_second();
    let held = renewed(None, Due::Everything, (&CERTIFICATE, &[HOST.into()]), now).unwrap();
    let front_proxy = authority();
    let serving = Serving::of(held.clone(), config_map(&front_proxy)).unwrap();
    let (kept, state) = kept::channel();
    let _before = kept.send_replace(Ok(Arc::new(serving)));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = tower::service_fn(|_: Request<Body>| async {
        Err::<Response<Body>, _>(std::io::Error::other("no API server"))
    });
    let fleets = Fleets::new(kube::Client::new(service, "default"));
    tokio::spawn(serve(listener, state, Arc::new(fleets)));
    Port {
        address,
        held,
        front_proxy,
        kept,
    }
}

impl Port {
    async fn connect(
        &self,
        client: Option<(&Authority, &str)>,
    ) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(self.held.bundle.as_bytes()).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match client {
            None => builder.with_no_client_auth(),
            Some((authority, name)) => {
                let mut params = CertificateParams::default();
                params.distinguished_name.push(DnType::CommonName, name);
                params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
                let key = KeyPair::generate().unwrap();
                let certificate = params.signed_by(&key, authority).unwrap();
                let key = PrivatePkcs8KeyDer::from(key.serialize_der());
                builder
                    .with_client_auth_cert(vec![certificate.der().clone()], key.into())
                    .unwrap()
            }
        };
        let socket = TcpStream::connect(self.address).await?;
        let host = ServerName::try_from(HOST).unwrap();
        TlsConnector::from(Arc::new(config))
            .connect(host, socket)
            .await
    }

    /// Status line and body. An error: there is no such connection.
    async fn ask(
        &self,
        client: Option<(&Authority, &str)>,
        request: &str,
    ) -> std::io::Result<(u16, String)> {
        let mut socket = self.connect(client).await?;
        let request = format!("{request}host: x\r\nconnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await?;
        let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        Ok((code.unwrap_or(0), body.to_owned()))
    }
}

const USER: &str = "x-remote-user: system:kube-aggregator\r\n";

#[tokio::test]
async fn only_the_api_servers_front_proxy_is_answered() {
    let port = port().await;
    let (ours, other) = (&port.front_proxy, authority());
    let list = "GET /apis/custom.metrics.k8s.io/v1beta2 HTTP/1.1\r\n";
    for (client, user, expected) in [
        (Some((ours, "front-proxy-client")), USER, Some(200)),
        (Some((ours, "front-proxy-client")), "", Some(401)),
        (Some((ours, "somebody")), USER, Some(403)),
        (None, USER, Some(401)),
        (Some((&other, "front-proxy-client")), USER, None),
    ] {
        let answer = port.ask(client, &format!("{list}{user}")).await;
        let who = client.map(|(_, name)| name);
        match (answer, expected) {
            (Ok((code, body)), Some(expected)) => {
                assert_eq!(code, expected, "{who:?} {user}: {body}");
                let body: Value = serde_json::from_str(&body).unwrap();
                let kind = if code == 200 {
                    "APIResourceList"
                } else {
                    "Status"
                };
                assert_eq!(body["kind"], kind);
            }
            (Err(_), None) => {}
            (answer, expected) => panic!("{who:?} {user}: {answer:?} instead of {expected:?}"),
        }
    }
}

#[tokio::test]
async fn what_cannot_be_answered_is_a_status() {
    let port = port().await;
    let client = Some((&port.front_proxy, "front-proxy-client"));
    let value = "/apis/custom.metrics.k8s.io/v1beta2/namespaces/a/pushclusters.pushcluster.io/b/websocket_connected_clients";
    for (request, code, reason) in [
        (
            format!("GET {value} HTTP/1.1\r\n"),
            503,
            "ServiceUnavailable",
        ),
        (
            format!("POST {value} HTTP/1.1\r\n"),
            405,
            "MethodNotAllowed",
        ),
        ("GET /nothing HTTP/1.1\r\n".to_owned(), 404, "NotFound"),
        (
            "GET /apis HTTP/1.1\r\naccept: application/json;as=APIGroupDiscoveryList\r\n"
                .to_owned(),
            406,
            "NotAcceptable",
        ),
    ] {
        let (found, body) = port.ask(client, &format!("{request}{USER}")).await.unwrap();
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(
            (found, body["reason"].as_str()),
            (code, Some(reason)),
            "{body}"
        );
    }
}

/// The API server's authority is another from now on: who was let in by the old one has to come again.
#[tokio::test]
async fn a_connection_ends_when_who_is_trusted_changes() {
    let port = port().await;
    let client = Some((&port.front_proxy, "front-proxy-client"));
    let mut socket = port.connect(client).await.unwrap();
    let request = format!("GET /apis HTTP/1.1\r\nhost: x\r\n{USER}\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut some = [0; 12];
    socket.read_exact(&mut some).await.unwrap();
    assert_eq!(&some, b"HTTP/1.1 200");
    let next = authority();
    let serving = Serving::of(port.held.clone(), config_map(&next)).unwrap();
    let _before = port.kept.send_replace(Ok(Arc::new(serving)));
    let mut rest = Vec::new();
    // Ends; with or without a farewell of TLS.
    let _ended = timeout(Duration::from_secs(20), socket.read_to_end(&mut rest))
        .await
        .expect("the connection ends");
    assert!(
        port.ask(client, &format!("GET /apis HTTP/1.1\r\n{USER}"))
            .await
            .is_err()
    );
    let client = Some((&next, "front-proxy-client"));
    let (code, _) = port
        .ask(client, &format!("GET /apis HTTP/1.1\r\n{USER}"))
        .await
        .unwrap();
    assert_eq!(code, 200);
}
