//! An engine on its own, a client on a real socket, and what a test says and hears.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::FutureExt;
use futures::executor::block_on;
use gateway_config::ChannelPolicy;
use prometheus::Registry;
use serde_json::Value;
use serde_json::value::to_raw_value;
use socket2::{Domain, SockRef, Socket, Type};

use crate::auth::keys::Unchanging;
use crate::auth::{Identity, Verifier};
use crate::engine::command::{Arrival, EncodedDelivery, Event, NewConnection, Round};
use crate::engine::*;
use crate::limits::Share;
use crate::message::{Delivery, Message, MessageKind};
use crate::name::ChannelName;
use crate::policy::Policies;
use crate::protocol::close::CloseCode;
use crate::protocol::deflate::{Inflater, Window};

/// Longest wait for something that must happen.
pub(super) const SOON: Duration = Duration::from_secs(10);

pub(super) const SETTINGS: Settings = Settings {
    shards: 1,
    max_message_bytes: 1_000,
    max_outbox_bytes: 64 * 1024,
    ping_ms: 600_000,
    idle_ms: 600_000,
    min_deflate_bytes: 100,
    echo: false,
    users: None,
};

pub(super) struct Node {
    pub(super) engine: Engine,
    pub(super) events: Inbox,
    pub(super) metrics: Arc<Metrics>,
    pub(super) registry: Registry,
    pub(super) listener: TcpListener,
    pub(super) next_number: u64,
    /// What those who come are closed with.
    pub(super) turned_away: Option<CloseCode>,
}

impl Node {
    pub(super) fn new(settings: &Settings) -> Node {
        Node::with_rules(settings, true)
    }

    pub(super) fn with_rules(settings: &Settings, anonymous: bool) -> Node {
        Node::with(settings, anonymous, &[])
    }

    pub(super) fn with_policy(policy: ChannelPolicy) -> Node {
        Node::with(&SETTINGS, true, &[policy])
    }

    pub(super) fn with(settings: &Settings, anonymous: bool, policies: &[ChannelPolicy]) -> Node {
        let registry = Registry::new();
        let metrics = Arc::new(Metrics::register(&registry).unwrap());
        let rules = Arc::new(Rules {
            verifier: Verifier::hs256(None, anonymous).unwrap(),
            keys: Arc::new(Unchanging),
            node: "gw-0".into(),
            max_channels: 4,
            auth_deadline_ms: 300,
            ping_seconds: 30,
            max_history_bytes: 1_000,
            presence: crate::presence::Scope::default(),
            registers: false,
            message_pace: None,
            policies: Policies::new(policies),
        });
        let (engine, mut inboxes) = Engine::start(settings, &rules, &metrics).unwrap();
        let events = inboxes.remove(0);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Node {
            engine,
            events,
            metrics,
            registry,
            listener,
            next_number: 1,
            turned_away: None,
        }
    }

    pub(super) fn send(&self, command: Command) {
        block_on(self.engine.send(ShardId(0), command)).unwrap();
    }

    /// A client that has read its welcome.
    pub(super) fn client(&mut self) -> Client {
        let mut client = self.client_after(b"");
        assert_eq!(client.text()["type"], "welcome");
        client
    }

    /// A client of which the handshake has already read some bytes.
    pub(super) fn client_after(&mut self, leftover: &[u8]) -> Client {
        self.client_of(None, leftover)
    }

    /// A client with a token for this user.
    pub(super) fn client_of(&mut self, user: Option<&str>, leftover: &[u8]) -> Client {
        self.adopt(user, leftover, None)
    }

    /// A client that agreed on permessage-deflate, and has read its welcome.
    pub(super) fn deflating_client(&mut self, window: Window) -> Client {
        let mut client = self.adopt(None, b"", Some(window));
        assert_eq!(client.text()["type"], "welcome");
        client
    }

    fn adopt(&mut self, user: Option<&str>, leftover: &[u8], deflate: Option<Window>) -> Client {
        // Small buffers, so that what a client does not read soon waits in its outbox and not in the kernel.
        let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        client.set_recv_buffer_size(16 * 1024).unwrap();
        client
            .connect(&self.listener.local_addr().unwrap().into())
            .unwrap();
        let client = TcpStream::from(client);
        client.set_read_timeout(Some(SOON)).unwrap();
        client.set_nodelay(true).unwrap();
        let (socket, _) = self.listener.accept().unwrap();
        SockRef::from(&socket)
            .set_send_buffer_size(16 * 1024)
            .unwrap();
        socket.set_nonblocking(true).unwrap();
        self.metrics.opened();
        self.send(Command::Adopt(NewConnection {
            number: self.next_number,
            arrival: Arrival {
                socket,
                tls: None,
                leftover: Bytes::copy_from_slice(leftover),
                identity: user.map(|user| Identity {
                    user: user.into(),
                    expires: None,
                    grants: None,
                }),
                share: Share::default(),
                turned_away: self.turned_away,
                deflate,
                self_test: false,
            },
        }));
        self.next_number += 1;
        Client { socket: client }
    }

    pub(super) fn event(&mut self) -> Event {
        let deadline = Instant::now() + SOON;
        loop {
            match self.events.recv().now_or_never() {
                Some(Some(event)) => return event,
                none => assert!(Instant::now() < deadline, "no event: {none:?}"),
            }
            thread::yield_now();
        }
    }

    pub(super) fn interest(&mut self) -> Round {
        match self.event() {
            Event::Interest { round, .. } => round,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn live(&mut self) {
        self.live_in(news());
    }

    pub(super) fn live_in(&mut self, channel: ChannelName) {
        let round = self.interest();
        self.send(Command::Live { channel, round });
    }

    /// Waits until a counter has this value.
    pub(super) fn wait_for_sum(&self, name: &str, expected: f64) {
        let deadline = Instant::now() + SOON;
        while self.sum(name) != expected {
            assert!(Instant::now() < deadline, "{name}: {}", self.sum(name));
            thread::yield_now();
        }
    }

    pub(super) fn deliver(&self, delivery: Delivery) {
        self.send(Command::Deliver(Arc::new(EncodedDelivery::new(delivery))));
    }

    /// Messages from clients, of all types.
    pub(super) fn received(&self) -> f64 {
        self.sum("websocket_messages_received_total")
    }

    /// All series of a counter together.
    pub(super) fn sum(&self, name: &str) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().find(|f| f.name() == name);
        family
            .unwrap()
            .get_metric()
            .iter()
            .map(|m| m.get_counter().get_value())
            .sum()
    }

    /// Waits until so many connections are left.
    pub(super) fn wait_for(&self, connections: u64) {
        let deadline = Instant::now() + SOON;
        while self.metrics.connected() != connections {
            assert!(
                Instant::now() < deadline,
                "{} connections",
                self.metrics.connected()
            );
            thread::yield_now();
        }
    }
}

pub(super) fn news() -> ChannelName {
    ChannelName::parse("news").unwrap()
}

pub(super) fn delivery(channel: ChannelName, data: &str) -> Delivery {
    let message = Message {
        kind: MessageKind::of(&channel),
        data: to_raw_value(data).unwrap().into(),
        from: None,
        timestamp: 1,
        except: None,
        only: None,
    };
    Delivery {
        channel,
        message,
        position: None,
    }
}

pub(super) struct Client {
    pub(super) socket: TcpStream,
}

#[derive(Debug, PartialEq)]
pub(super) enum Heard {
    Text(Value),
    /// A text that came compressed.
    Deflated(Value),
    Ping,
    Pong(Vec<u8>),
    Close(u16, String),
    End,
}

impl Client {
    pub(super) fn frame(&mut self, first: u8, payload: &[u8]) {
        self.socket.write_all(&masked(first, payload)).unwrap();
    }

    pub(super) fn say(&mut self, text: &str) {
        self.frame(0x81, text.as_bytes());
    }

    pub(super) fn subscribe(&mut self) {
        self.say(r#"{"type":"subscribe","channel":"news"}"#);
    }

    /// The next frame; the end of the connection is an answer too.
    pub(super) fn hear(&mut self) -> Heard {
        let mut head = [0; 2];
        match self.socket.read_exact(&mut head) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => panic!("nothing heard"),
            Err(_) => return Heard::End,
        }
        let len = match head[1] {
            126 => {
                let mut len = [0; 2];
                self.socket.read_exact(&mut len).unwrap();
                usize::from(u16::from_be_bytes(len))
            }
            short => usize::from(short),
        };
        let mut payload = vec![0; len];
        self.socket.read_exact(&mut payload).unwrap();
        match head[0] {
            0x81 => Heard::Text(serde_json::from_slice(&payload).unwrap()),
            0xc1 => {
                let mut inflater = Inflater::default();
                let text = inflater.inflate(&payload, u32::MAX).unwrap();
                Heard::Deflated(serde_json::from_slice(text).unwrap())
            }
            0x89 => Heard::Ping,
            0x8a => Heard::Pong(payload),
            0x88 => {
                let code = u16::from_be_bytes([payload[0], payload[1]]);
                Heard::Close(code, String::from_utf8(payload[2..].to_vec()).unwrap())
            }
            other => panic!("first byte {other:x}"),
        }
    }

    pub(super) fn text(&mut self) -> Value {
        match self.hear() {
            Heard::Text(value) => value,
            other => panic!("{other:?}"),
        }
    }

    /// Reads on until the close frame, and answers it.
    pub(super) fn closed(&mut self) -> u16 {
        loop {
            match self.hear() {
                Heard::Close(code, _) => {
                    // It may have ended by then.
                    let _ = self.socket.write_all(&masked(0x88, &code.to_be_bytes()));
                    return code;
                }
                Heard::End => panic!("ended without a close frame"),
                _ => {}
            }
        }
    }
}

pub(super) fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [1, 2, 3, 4];
    let mut frame = vec![first];
    match u8::try_from(payload.len()) {
        Ok(len @ 0..=125) => frame.push(0x80 | len),
        _ => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&u16::try_from(payload.len()).unwrap().to_be_bytes());
        }
    }
    frame.extend_from_slice(&mask);
    frame.extend(
        payload
            .iter()
            .zip(mask.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    frame
}
