//! HTTP as it comes from a socket: heads, handshakes, event streams, the API with its bodies. The server is the product's,
//! on one end of a pair of sockets; behind it is a node that takes everything.

use std::cell::{OnceCell, RefCell};
use std::future::{Future, ready};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use gateway_config::{ChannelPolicy, Config};
use prometheus::{IntCounter, Registry};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;

use super::protocol::arrives_as_it_was_sent;
use super::tokens::{Nowhere, verifier};
use crate::broker::{HistoryError, PublishError};
use crate::config::ApiAccess;
use crate::engine::ShardEnded;
use crate::engine::census::{Page, Query};
use crate::history::{self, Range};
use crate::http::accept::{serve, server};
use crate::http::answers::{Answers, CODES};
use crate::http::api::idempotency::Keys;
use crate::http::door::Door;
use crate::http::refusals::{self, Refusals};
use crate::http::{Front, Handshaken, Node, Peer, routes};
use crate::limits::{Cap, Places};
use crate::memory::Pressure;
use crate::message::{Message, Position};
use crate::metrics::Metrics;
use crate::name::ChannelName;
use crate::policy::Policies;
use crate::presence::{List, Scope};
use crate::protocol::native::{ErrorCode, Refusal};
use crate::registry::Connections;
use crate::running::Running;
use crate::self_test::SelfTest;
use crate::session::Rules;
use crate::sse::format::Cursor;
use crate::sse::outbox::Stream;
use crate::sse::{Line, Opening};

/// Of one message, in bytes.
const MAX_MESSAGE: u32 = 100;
/// Messages of one call.
const MAX_BATCH: u32 = 3;
/// Messages that a channel keeps.
const KEPT: u32 = 10;

/// Takes all, and has what it took be checked.
#[derive(Clone)]
struct Taker;

impl Node for Taker {
    fn publish(
        &self,
        channel: ChannelName,
        message: Message,
    ) -> impl Future<Output = Result<Option<Position>, PublishError>> + Send + 'static {
        assert!(message.data.get().len() <= MAX_MESSAGE as usize);
        arrives_as_it_was_sent(channel, &message);
        ready(Ok(None))
    }

    fn adopt(&self, _: Handshaken) -> impl Future<Output = ()> + Send + 'static {
        ready(())
    }

    /// None is opened: it would not end.
    fn open_stream(
        &self,
        opening: Opening,
    ) -> impl Future<Output = Result<Result<Stream, Refusal>, ShardEnded>> + Send + 'static {
        for (place, channel) in opening.channels.iter().enumerate() {
            assert!(
                !opening.channels[..place].contains(channel),
                "asked for twice"
            );
        }
        stays_where_it_is(&opening.channels, opening.last_id.as_deref());
        let refusal = Refusal {
            code: ErrorCode::TooManyChannels,
            message: "subscribe refused: here there are no streams".to_owned(),
        };
        ready(Ok(Err(refusal)))
    }

    fn channels(
        &self,
        query: Query,
    ) -> impl Future<Output = Result<Page, ShardEnded>> + Send + 'static {
        let name = ChannelName::parse("room:lobby").expect("a name");
        let count = usize::from(name.as_str().starts_with(&query.prefix)).min(query.limit);
        ready(Ok(vec![(name, 7); count]))
    }

    fn history(
        &self,
        _: ChannelName,
        range: Range,
    ) -> impl Future<Output = Result<history::Page, HistoryError>> + Send + 'static {
        assert!((1..=KEPT).contains(&range.limit), "{range:?}");
        let top = Position {
            epoch: 7,
            offset: 12,
        };
        ready(Ok(history::page((top, &[]), [], range, 0)))
    }

    fn connections(&self) -> u64 {
        0
    }
}

/// What a client comes back with, and what it is told then, are the same place.
fn stays_where_it_is(channels: &[ChannelName], last_id: Option<&str>) {
    let mut cursor = Cursor::new(channels, last_id.unwrap_or_default());
    let places = |cursor: &Cursor| cursor.places().map(|(_, place)| place).collect::<Vec<_>>();
    let before = places(&cursor);
    assert_eq!(before.len(), channels.len());
    let Some((name, position)) = channels
        .iter()
        .zip(&before)
        .find_map(|(name, place)| Some((name, (*place)?)))
    else {
        return;
    };
    let line = cursor.moved(name, position).expect("it is one of them");
    let id = line.strip_prefix("id: ").expect("an id").trim_end();
    assert_eq!(places(&Cursor::new(channels, id)), before);
}

/// What all inputs share: it remembers nothing of them that an answer could show.
struct Ground {
    runtime: Runtime,
    rules: Arc<Rules>,
    config: Config,
    metrics: Arc<Metrics>,
    answers: Answers,
    refusals: Refusals,
    self_test: SelfTest,
    evicted: IntCounter,
    /// For callers that need no key, and for those that do.
    routes: [OnceCell<Router>; 2],
}

impl Ground {
    fn new() -> Ground {
        let registry = Registry::new();
        let registered = "each name is there once";
        let mut config = Config::default();
        config.listen.trusted_proxies = vec!["10.0.0.0/8".to_owned()];
        config.listen.allowed_origins = vec!["https://a.example".to_owned()];
        config.compression.enabled = true;
        config.api.max_batch_messages = MAX_BATCH;
        config.limits.handshakes_per_second = 1_000_000;
        config.limits.max_connections_per_address = 100;
        config.limits.max_connections_per_user = 100;
        config.limits.max_message_bytes = MAX_MESSAGE;
        config.limits.max_request_bytes = 2_000;
        let kept = ChannelPolicy {
            prefix: Some("kept.".to_owned()),
            history_messages: KEPT,
            history_seconds: 60,
            presence: true,
            ..ChannelPolicy::default()
        };
        Ground {
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime"),
            rules: Arc::new(Rules {
                verifier: verifier(true),
                keys: Arc::new(Nowhere),
                node: "gw-0".into(),
                max_channels: 10,
                auth_deadline_ms: 10_000,
                ping_seconds: 30,
                message_pace: None,
                policies: Policies::new(&[kept]),
                max_history_bytes: 1_000,
                presence: Scope::default(),
                registers: false,
            }),
            metrics: Arc::new(Metrics::register(&registry).expect(registered)),
            refusals: Refusals::register(&registry).expect(registered),
            answers: Answers::register(&registry).expect(registered),
            self_test: SelfTest::register(&registry, "gw-0".into()).expect(registered),
            evicted: IntCounter::new("evicted", "evicted").expect(registered),
            config,
            routes: Default::default(),
        }
    }

    /// Making them takes longer than most inputs. What they remember of one must not change what is answered to the
    /// next, or no finding could be repeated; that is the keys of requests, so who sends one gets new ones.
    fn routes(&self, how: u8, input: &[u8]) -> Router {
        let known = usize::from(how & 1);
        let name = b"idempotency-key";
        if input
            .windows(name.len())
            .any(|window| window.eq_ignore_ascii_case(name))
        {
            return self.new_routes(known);
        }
        self.routes[known]
            .get_or_init(|| self.new_routes(known))
            .clone()
    }

    fn new_routes(&self, known: usize) -> Router {
        let access = match known {
            0 => ApiAccess::Loopback,
            _ => ApiAccess::Keys(vec![b"key".to_vec()]),
        };
        routes(self.front(access)).layer(middleware::from_fn(is_answer))
    }

    fn front(&self, access: ApiAccess) -> Front<Taker> {
        let (rules, metrics) = (self.rules.clone(), self.metrics.clone());
        let places = Places::new(&self.config.limits);
        let running = Running::new(self.config.clone(), rules, access, true);
        let window = Duration::from_secs(60);
        Front {
            node: Taker,
            running: Arc::new(ArcSwap::from_pointee(running)),
            door: Door::new(places, Pressure::default(), metrics, None),
            secret: self.self_test.secret(),
            draining: Arc::default(),
            keys: Arc::new(Keys::new(window, 2_000, self.evicted.clone())),
            answers: self.answers.clone(),
            present: Arc::new(|_| {
                Box::pin(ready(Ok(List::of(std::iter::empty(), 0, Scope::default()))))
            }),
            users: Arc::new(|_| Box::pin(ready(Ok(Connections::default())))),
            refusals: self.refusals.clone(),
            began: Instant::now(),
        }
    }
}

thread_local! {
    static GROUND: RefCell<Ground> = RefCell::new(Ground::new());
}

/// First byte: how the API knows its callers. Then what a client sends on one connection.
pub fn http(input: &[u8]) {
    let mut input = super::Bytes(input);
    let how = input.byte();
    GROUND.with_borrow(|ground| {
        ground.runtime.block_on(async {
            let answers = connection(ground.routes(how, input.0), input.0).await;
            assert!(
                answers.is_empty() || answers.starts_with(b"HTTP/1."),
                "{answers:?}"
            );
        });
    });
}

/// All that is answered to these bytes.
async fn connection(routes: Router, input: &[u8]) -> Vec<u8> {
    let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
    for end in [&ours, &theirs] {
        end.set_nonblocking(true).expect("a socket");
    }
    // A handshake takes the socket out of hyper, and knows TCP only; nothing here asks which it is.
    let ours = std::net::TcpStream::from(OwnedFd::from(ours));
    let ours = tokio::net::TcpStream::from_std(ours).expect("inside of the runtime");
    let theirs = tokio::net::UnixStream::from_std(theirs).expect("inside of the runtime");
    let (mut reader, mut writer) = theirs.into_split();
    let mut server = server(Duration::from_secs(60));
    // The end of the input must not cut off what was asked before it.
    server.half_close(true);
    let place = Cap::new(1).take().expect("one place");
    let ends = (
        Arc::new(Line::new(place)),
        &daemon::signals::Shutdown::default(),
    );
    let peer = Peer(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)));
    let mut answers = Vec::new();
    let served = serve(&server, (ours, peer), routes, ends);
    let client = async {
        // Whoever is refused may be sent away before all was read.
        let _ = writer.write_all(input).await;
        drop(writer);
        let _ = reader.read_to_end(&mut answers).await;
    };
    let (_, ()) = tokio::join!(served, client);
    answers
}

/// Every refusal is JSON with a code and a message, and says which member is wrong where one is.
async fn is_answer(request: Request, next: Next) -> Response {
    let asked = format!("{} {}", request.method(), request.uri());
    let (parts, body) = next.run(request).await.into_parts();
    let body = to_bytes(body, usize::MAX)
        .await
        .expect("what is said is whole");
    let said = || String::from_utf8_lossy(&body);
    let status = parts.status;
    assert_ne!(
        status,
        StatusCode::INTERNAL_SERVER_ERROR,
        "{asked}: {}",
        said()
    );
    let is_json = parts
        .headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind == "application/json");
    if status.is_client_error() || status.is_server_error() {
        assert!(is_json, "{asked}: {status} {}", said());
    }
    if is_json && !body.is_empty() {
        let json: Value =
            serde_json::from_slice(&body).unwrap_or_else(|e| panic!("{asked}: {e}: {}", said()));
        if !status.is_success() {
            let error = &json["error"];
            let code = error["code"].as_str().expect("a code");
            assert!(
                error["message"]
                    .as_str()
                    .is_some_and(|message| message.len() > 5),
                "{json}"
            );
            assert!(code != "bad_field" || error["field"].is_string(), "{json}");
            let counted = CODES.contains(&code) || refusals::CODES.contains(&code);
            assert!(counted, "counted as `other`: {json}");
        }
        if let Some(results) = json["results"].as_array() {
            assert!(results.len() <= MAX_BATCH as usize);
            let accepted = results.iter().filter(|one| one["accepted"] == true).count();
            assert_eq!(json["accepted"], accepted);
        }
    }
    Response::from_parts(parts, Body::from(body))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Status codes of all answers on a connection that sends this seed, in order.
    fn answers(seed: &str) -> String {
        let package = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it for tests");
        let input = std::fs::read(format!("{package}/fuzz/seeds/http/{seed}")).unwrap();
        let said = GROUND.with_borrow(|ground| {
            let connection = connection(ground.routes(input[0], &input[1..]), &input[1..]);
            ground.runtime.block_on(connection)
        });
        let said = String::from_utf8_lossy(&said);
        let heads = said
            .split("HTTP/1.")
            .skip(1)
            .filter_map(|head| head.get(2..5));
        heads.collect::<Vec<_>>().join(" ")
    }

    /// Otherwise the target could stop at the door, and find nothing for ever.
    #[test]
    fn seeds_reach_what_they_are_for() {
        for (seed, expected) in [
            ("handshake", "101"),
            ("handshake_old", "426"),
            ("handshake_token", "401"),
            ("publish", "200 200"),
            ("people", "200 200"),
            ("batch", "200 413"),
            ("chunked", "200"),
            ("idempotent", "200 200 422"),
            ("disconnect", "200 200"),
            ("read", "200 200 200"),
            ("history", "200 200"),
            ("events", "422"),
            ("events_again", "422 404"),
            ("expect", "100 200"),
            ("too_big", "413"),
            ("wrong_members", "422 422 422 400"),
            ("no_path", "404 405"),
            ("smuggled", "400"),
        ] {
            assert_eq!(answers(seed), expected, "{seed}");
        }
    }
}
