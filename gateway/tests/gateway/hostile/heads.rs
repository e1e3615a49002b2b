//! What comes before there is a WebSocket: heads that are none, handshakes that are refused, requests in which another
//! one is hidden.

use super::raw::HANDSHAKE;
use super::tally::{Count, api, http, limit, token};
use crate::program::API_KEY;

pub struct Row {
    pub name: &'static str,
    pub bytes: Vec<u8>,
    /// The first answer's. None: the connection ends without one.
    pub status: Option<u16>,
    /// The server ends the connection, and there is one answer at most.
    pub ends: bool,
    pub counts: Vec<Count>,
}

pub fn rows() -> Vec<Row> {
    let mut rows = no_heads();
    rows.extend(large_heads());
    rows.extend(handshakes());
    rows.extend(elsewhere());
    rows.extend(streams());
    rows.extend(hidden());
    rows
}

/// hyper answers by itself, and ends the connection.
fn no_heads() -> Vec<Row> {
    let hello = b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03".repeat(10);
    let lines =
        |first: &str, more: &str| format!("{first}\r\nhost: x\r\n{more}\r\n\r\n").into_bytes();
    let post = |more: &str| lines("POST /api/publish HTTP/1.1", more);
    let texts = [
        ("TLS", hello),
        ("zeros", vec![0; 64]),
        (
            "a WebSocket frame",
            b"\x81\x85\x07\x0b\x0d\x11hello".to_vec(),
        ),
        ("no version", lines("GET /", "")),
        ("version 9.9", lines("GET / HTTP/9.9", "")),
        ("a method with a space", lines("GE T / HTTP/1.1", "")),
        ("no colon", lines("GET / HTTP/1.1", "hello")),
        (
            "a space before the colon",
            lines("GET / HTTP/1.1", "content-length : 5"),
        ),
        ("a folded line", lines("GET / HTTP/1.1", "a: b\r\n c")),
        ("a name with a zero", lines("GET / HTTP/1.1", "a\0: b")),
        ("a value with a zero", lines("GET / HTTP/1.1", "a: b\0c")),
        (
            "a bare return in a value",
            lines("GET / HTTP/1.1", "a: b\rc: d"),
        ),
        (
            "two lengths",
            post("content-length: 5\r\ncontent-length: 6"),
        ),
        ("two lengths in one", post("content-length: 5, 6")),
        ("a length with a sign", post("content-length: +5")),
        ("a length below zero", post("content-length: -5")),
        (
            "a length that overflows",
            post("content-length: 99999999999999999999"),
        ),
        ("a length in hexadecimal", post("content-length: 0x5")),
        ("not chunked", post("transfer-encoding: identity")),
        (
            "chunked, and then not",
            post("transfer-encoding: chunked, gzip"),
        ),
        ("chunked with a typo", post("transfer-encoding: xchunked")),
        (
            "chunks in HTTP/1.0",
            lines("POST / HTTP/1.0", "transfer-encoding: chunked"),
        ),
    ];
    let row = |(name, bytes)| Row {
        name,
        bytes,
        status: Some(400),
        ends: true,
        counts: vec![http("bad_head")],
    };
    let mut rows: Vec<_> = texts.map(row).into();
    rows.push(Row {
        status: None,
        ..row(("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()))
    });
    rows
}

fn large_heads() -> Vec<Row> {
    let many = "a: b\r\n".repeat(200);
    let long = "x".repeat(100_000);
    [
        (
            "two hundred headers",
            format!("GET /ws HTTP/1.1\r\n{many}\r\n"),
        ),
        (
            "a header of 100,000 bytes",
            format!("GET /ws HTTP/1.1\r\na: {long}\r\n\r\n"),
        ),
        (
            "a path of 100,000 bytes",
            format!("GET /{long} HTTP/1.1\r\n\r\n"),
        ),
        (
            "a token of 100,000 bytes",
            format!("GET /ws?token={long} HTTP/1.1\r\n\r\n"),
        ),
    ]
    .map(|(name, text)| Row {
        name,
        bytes: text.into_bytes(),
        status: Some(431),
        ends: true,
        counts: vec![http("head_too_large")],
    })
    .into()
}

/// Refused by us; the connection may go on to ask for something else.
fn refused(name: &'static str, text: String, status: u16, code: &str) -> Row {
    Row {
        name,
        bytes: text.into_bytes(),
        status: Some(status),
        ends: false,
        counts: vec![http(code)],
    }
}

/// Section 4.2.1 of RFC 6455.
fn handshakes() -> Vec<Row> {
    let get = |lines: String| format!("GET /ws HTTP/1.1\r\n{lines}\r\n");
    let but = |line: &str, other: &str| {
        assert!(HANDSHAKE.contains(line), "{line}");
        get(HANDSHAKE.replace(line, other))
    };
    let and = |line: &str| get(format!("{HANDSHAKE}{line}\r\n"));
    let key = "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==";
    let bad = "bad_handshake";
    vec![
        refused(
            "no upgrade",
            but("upgrade: websocket\r\n", ""),
            426,
            "upgrade_required",
        ),
        refused(
            "to HTTP/2",
            but("upgrade: websocket", "upgrade: h2c"),
            426,
            "upgrade_required",
        ),
        refused(
            "no connection",
            but("connection: upgrade\r\n", ""),
            426,
            "upgrade_required",
        ),
        refused(
            "version 8",
            but("version: 13", "version: 8"),
            426,
            "bad_version",
        ),
        refused(
            "versions",
            but("version: 13", "version: 13, 8"),
            426,
            "bad_version",
        ),
        refused("no key", but(key, "a: b"), 400, bad),
        refused(
            "a short key",
            but(key, "sec-websocket-key: c2hvcnQ="),
            400,
            bad,
        ),
        refused("two keys", and(key), 400, bad),
        refused(
            "another protocol",
            and("sec-websocket-protocol: mqtt"),
            400,
            bad,
        ),
        refused("a body", and("content-length: 5") + "hello", 400, bad),
    ]
}

/// In order, but not for us.
fn elsewhere() -> Vec<Row> {
    let get = |lines: &str| format!("GET /ws HTTP/1.1\r\n{HANDSHAKE}{lines}\r\n");
    let other = |path: &str| get("").replace("/ws", path);
    vec![
        refused(
            "a foreign page",
            get("origin: https://bad.example\r\n"),
            403,
            "bad_origin",
        ),
        refused("a post", get("").replace("GET", "POST"), 405, "bad_method"),
        refused("another path", other("/nothing"), 404, "not_found"),
        refused("a path that climbs", other("/../ws"), 404, "not_found"),
        refused("the admin port's", other("/metrics"), 404, "not_found"),
    ]
}

fn streams() -> Vec<Row> {
    let get = |query: &str| format!("GET /sse?{query} HTTP/1.1\r\nhost: x\r\n\r\n");
    let many: Vec<_> = (0..20).map(|n| format!("channel=c{n}")).collect();
    vec![
        refused("no such parameter", get("chanel=a"), 422, "bad_field"),
        refused(
            "a channel that is no text",
            get("channel=%ff"),
            422,
            "bad_field",
        ),
        refused("an empty channel", get("channel="), 422, "bad_field"),
        refused(
            "a long channel",
            get(&format!("channel={}", "x".repeat(256))),
            422,
            "bad_field",
        ),
        refused(
            "a stranger's channel",
            get("channel=user:ann"),
            403,
            "denied",
        ),
        refused(
            "the gateway's channel",
            get("channel=node:x"),
            403,
            "denied",
        ),
        Row {
            counts: vec![http("too_many_channels"), limit("channels_per_connection")],
            ..refused("many channels", get(&many.join("&")), 422, "")
        },
        Row {
            counts: vec![http("unauthorized"), token("malformed")],
            ..refused("a bad token", get("channel=a&token=nonsense"), 401, "")
        },
    ]
}

/// Where two readers could disagree on where a request ends, there is no second one.
fn hidden() -> Vec<Row> {
    let post = |lines: &str, body: &str| {
        let head = "POST /api/publish HTTP/1.1\r\nhost: x\r\ncontent-type: application/json";
        format!("{head}\r\nx-api-key: {API_KEY}\r\n{lines}\r\n\r\n{body}")
    };
    let next = "GET /nothing HTTP/1.1\r\nhost: x\r\n\r\n";
    let empty = format!("0\r\n\r\n{next}");
    let chunks =
        format!("GET /ws HTTP/1.1\r\n{HANDSHAKE}transfer-encoding: chunked\r\n\r\n{empty}");
    let row = |name, text: String, status, code| Row {
        ends: true,
        counts: vec![api(code)],
        ..refused(name, text, status, "")
    };
    vec![
        row(
            "chunks, then a length",
            post("transfer-encoding: chunked\r\ncontent-length: 4", &empty),
            400,
            "bad_json",
        ),
        row(
            "a length, then chunks",
            post("content-length: 4\r\ntransfer-encoding: chunked", &empty),
            400,
            "bad_json",
        ),
        row(
            "no chunk",
            post("transfer-encoding: chunked", &format!("zz\r\n{next}")),
            400,
            "bad_body",
        ),
        row(
            "an endless chunk",
            post("transfer-encoding: chunked", "fffffffffffffffff\r\n"),
            400,
            "bad_body",
        ),
        Row {
            ends: true,
            ..refused("chunks in a handshake", chunks, 400, "bad_handshake")
        },
        row(
            "a mountain",
            post("content-length: 9999999999", ""),
            413,
            "too_big",
        ),
        row(
            "what never comes",
            post("content-length: 100", "{"),
            408,
            "too_slow",
        ),
    ]
}
