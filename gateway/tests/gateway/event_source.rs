//! A client of event streams, over a raw socket: HTTP/1.1 chunks (RFC 9112 section 7.1), and events as an
//! `EventSource` reads them (WHATWG HTML section 9.2.6).

use std::collections::VecDeque;
use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::wait::within;

pub struct EventSource {
    socket: BufReader<TcpStream>,
    /// Lower case.
    pub head: String,
    /// As after the last event.
    pub last_id: String,
    /// In milliseconds, if the server has said it.
    pub retry: Option<u64>,
    /// Lines that mean nothing.
    pub comments: usize,
    text: String,
    data: Vec<String>,
    events: VecDeque<String>,
}

impl EventSource {
    /// Takes the head of the answer, which must be a stream.
    pub async fn open(address: SocketAddr, query: &str, headers: &[(&str, &str)]) -> EventSource {
        let mut text = format!("GET /sse?{query} HTTP/1.1\r\nhost: {address}\r\n");
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(text.as_bytes()).await.unwrap();
        let mut source = EventSource {
            socket: BufReader::new(socket),
            head: String::new(),
            last_id: String::new(),
            retry: None,
            comments: 0,
            text: String::new(),
            data: Vec::new(),
            events: VecDeque::new(),
        };
        within("the head of a stream", async {
            while !source.head.ends_with("\r\n\r\n") {
                let byte = source.socket.read_u8().await.unwrap();
                source.head.push(char::from(byte).to_ascii_lowercase());
            }
        })
        .await;
        assert!(source.head.starts_with("http/1.1 200"), "{}", source.head);
        source
    }

    /// One that is welcome and has these channels.
    pub async fn with(address: SocketAddr, channels: &[&str]) -> EventSource {
        let query: Vec<_> = channels.iter().map(|c| format!("channel={c}")).collect();
        let mut source = EventSource::open(address, &query.join("&"), &[]).await;
        assert_eq!(source.next().await["type"], "welcome");
        for channel in channels {
            let said = source.next().await;
            assert_eq!(
                (&said["type"], &said["channel"]),
                (&json!("subscribed"), &json!(channel))
            );
        }
        source
    }

    /// The data of the next event.
    pub async fn next(&mut self) -> Value {
        let text = within("an event", self.next_text()).await;
        let text = text.expect("an event before the end of the stream");
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
    }

    /// Without what no test can know: when.
    pub async fn next_untimed(&mut self) -> Value {
        let mut event = self.next().await;
        if let Some(members) = event.as_object_mut() {
            members.remove("timestamp");
        }
        event
    }

    /// The code of the last event, after which the stream ends.
    pub async fn closed(&mut self) -> u64 {
        let last = self.next().await;
        assert_eq!(last["type"], "close", "{last}");
        let after = within("the end of the stream", self.next_text()).await;
        assert_eq!(after, None);
        last["code"].as_u64().unwrap()
    }

    /// Reads until there is one more comment.
    pub async fn comment(&mut self) {
        let before = self.comments;
        within("a comment", async {
            while self.comments == before {
                assert!(self.read_chunk().await, "the stream ended");
            }
        })
        .await;
    }

    /// None at the end of the stream.
    async fn next_text(&mut self) -> Option<String> {
        while self.events.is_empty() {
            if !self.read_chunk().await {
                return None;
            }
        }
        self.events.pop_front()
    }

    /// Whether there was one more.
    async fn read_chunk(&mut self) -> bool {
        let mut size = String::new();
        while !size.ends_with("\r\n") {
            match self.socket.read_u8().await {
                Ok(byte) => size.push(char::from(byte)),
                Err(_) => return false,
            }
        }
        let length = usize::from_str_radix(size.trim(), 16).unwrap();
        let mut chunk = vec![0; length + 2];
        self.socket.read_exact(&mut chunk).await.unwrap();
        self.text
            .push_str(std::str::from_utf8(&chunk[..length]).unwrap());
        while let Some((line, rest)) = self.text.split_once('\n') {
            let (line, rest) = (line.to_owned(), rest.to_owned());
            self.line(&line);
            self.text = rest;
        }
        length > 0
    }

    fn line(&mut self, line: &str) {
        if line.is_empty() {
            if !self.data.is_empty() {
                self.events.push_back(self.data.join("\n"));
                self.data.clear();
            }
            return;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" => self.comments += 1,
            "data" => self.data.push(value.to_owned()),
            "id" => value.clone_into(&mut self.last_id),
            "retry" => self.retry = value.parse().ok(),
            other => panic!("a field {other:?} that nobody sends"),
        }
    }
}
