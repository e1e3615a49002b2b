//! Frames that RFC 6455 forbids, and the code with which each ends its connection.

use flate2::{Compress, Compression, FlushCompress};
use gateway::protocol::close::CloseCode;
use gateway::protocol::close::CloseCode::{InvalidUtf8, NotText, Protocol, TooBig};

use super::MAX_MESSAGE_BYTES;
use super::raw::{header, masked, text};

pub struct Row {
    pub name: String,
    pub deflate: bool,
    pub bytes: Vec<u8>,
    pub code: CloseCode,
}

fn row(name: impl Into<String>, bytes: Vec<u8>, code: CloseCode) -> Row {
    Row {
        name: name.into(),
        deflate: false,
        bytes,
        code,
    }
}

fn deflated(name: &str, bytes: Vec<u8>, code: CloseCode) -> Row {
    Row {
        deflate: true,
        ..row(name, bytes, code)
    }
}

pub fn rows() -> Vec<Row> {
    let parts = [
        headers(),
        fragments(),
        closes(),
        texts(),
        sizes(),
        compressed(),
    ];
    parts.into_iter().flatten().collect()
}

/// Section 5.2: what the first bytes alone say.
fn headers() -> Vec<Row> {
    let mut rows = Vec::new();
    for bits in (0x10..=0x70).step_by(0x10) {
        rows.push(row(
            format!("reserved bits {bits:#x}"),
            masked(0x81 | bits, b"{}"),
            Protocol,
        ));
    }
    for opcode in (0x3..=0x7).chain(0xb..=0xf) {
        rows.push(row(
            format!("opcode {opcode:#x}"),
            masked(0x80 | opcode, b"{}"),
            Protocol,
        ));
    }
    for first in [0x81, 0x82, 0x89, 0x88] {
        rows.push(row(
            format!("unmasked {first:#x}"),
            vec![first, 0],
            Protocol,
        ));
    }
    let long = |form: &[u8]| [&[0x81], form, &[7, 11, 13, 17], b"12345".as_slice()].concat();
    rows.extend([
        row(
            "five bytes, as 16 bits",
            long(&[0x80 | 126, 0, 5]),
            Protocol,
        ),
        row(
            "five bytes, as 64 bits",
            long(&[0x80 | 127, 0, 0, 0, 0, 0, 0, 0, 5]),
            Protocol,
        ),
        row(
            "the highest bit",
            long(&[0x80 | 127, 0x80, 0, 0, 0, 0, 0, 0, 0]),
            Protocol,
        ),
    ]);
    rows
}

/// Sections 5.4 and 5.5.
fn fragments() -> Vec<Row> {
    let mut rows = Vec::new();
    for control in [0x8, 0x9, 0xa] {
        rows.push(row(
            format!("fragment of {control:#x}"),
            masked(control, b""),
            Protocol,
        ));
        let large = masked(0x80 | control, &[b'x'; 126]);
        rows.push(row(format!("large {control:#x}"), large, Protocol));
    }
    let begun = masked(0x01, b"{\"type\":");
    rows.extend([
        row("an end without a beginning", masked(0x80, b"x"), Protocol),
        row("a middle without a beginning", masked(0x00, b"x"), Protocol),
        row(
            "text in a text",
            [begun.clone(), masked(0x81, b"x")].concat(),
            Protocol,
        ),
        row(
            "binary in a text",
            [begun.clone(), masked(0x02, b"x")].concat(),
            Protocol,
        ),
        row(
            "large ping in a text",
            [begun, header(0x89, 200)].concat(),
            Protocol,
        ),
    ]);
    rows
}

/// Sections 5.5.1 and 7.4.
fn closes() -> Vec<Row> {
    let mut rows = vec![row("half a code", masked(0x88, &[3]), Protocol)];
    for code in [0u16, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535] {
        let bytes = masked(0x88, &code.to_be_bytes());
        rows.push(row(format!("close {code}"), bytes, Protocol));
    }
    rows.push(row(
        "a reason that is no text",
        masked(0x88, b"\x03\xe8\xff"),
        InvalidUtf8,
    ));
    rows
}

/// Sections 5.6 and 8.1.
fn texts() -> Vec<Row> {
    let mut rows = Vec::new();
    for bad in [
        &b"\xff"[..],
        b"\x80",
        b"{}\xc0\xaf",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"\xf8\x88\x80\x80\x80",
        b"\xe2\x82",
    ] {
        rows.push(row(
            format!("text {bad:x?}"),
            masked(0x81, bad),
            InvalidUtf8,
        ));
    }
    let halves = |second: &[u8]| [masked(0x01, b"\xe2\x82"), masked(0x80, second)].concat();
    rows.extend([
        row("a bad byte, and no end", masked(0x01, b"\xff"), InvalidUtf8),
        row("half a character, then none", halves(b"("), InvalidUtf8),
        row("half a character at the end", halves(b""), InvalidUtf8),
        row("binary", masked(0x82, b"{\"type\":\"ping\"}"), NotText),
        row("empty binary", masked(0x82, b""), NotText),
        row(
            "binary in parts",
            [masked(0x02, b"a"), masked(0x80, b"b")].concat(),
            NotText,
        ),
    ]);
    rows
}

/// Section 10.4. Refused at the header, before anything of it is kept.
fn sizes() -> Vec<Row> {
    let most = MAX_MESSAGE_BYTES;
    let half = masked(0x01, &vec![b'x'; most / 2 + 1]);
    let rest = masked(0x00, &vec![b'x'; most / 2 + 1]);
    vec![
        row("a byte too many", header(0x81, most as u64 + 1), TooBig),
        row("a mountain", header(0x81, 1 << 40), TooBig),
        row(
            "as large as it can be said",
            header(0x81, u64::MAX >> 1),
            TooBig,
        ),
        row("a mountain in binary", header(0x82, 1 << 40), TooBig),
        row("halves", [half.clone(), rest].concat(), TooBig),
        row(
            "the sum of two overflows",
            [half, header(0x80, u64::MAX >> 1)].concat(),
            TooBig,
        ),
    ]
}

/// RFC 7692.
fn compressed() -> Vec<Row> {
    let bomb = deflate(&vec![b' '; 100 * MAX_MESSAGE_BYTES]);
    assert!(bomb.len() < MAX_MESSAGE_BYTES);
    let ping = deflate(b"{\"type\":\"ping\"}");
    let split = [masked(0x41, &ping[..5]), masked(0xc0, &ping[5..])].concat();
    vec![
        row(
            "compressed, and not agreed on",
            masked(0xc1, &ping),
            Protocol,
        ),
        deflated("a bomb", masked(0xc1, &bomb), TooBig),
        deflated("not deflate", masked(0xc1, b"\xff\xff\xff\xff"), Protocol),
        deflated("a compressed ping", masked(0xc9, b""), Protocol),
        deflated("a compressed continuation", split, Protocol),
        deflated("another reserved bit", masked(0xe1, &ping), Protocol),
        deflated(
            "compressed, and no text",
            masked(0xc1, &deflate(b"\xff")),
            InvalidUtf8,
        ),
        deflated("compressed binary", masked(0xc2, &ping), NotText),
    ]
}

/// Section 7.2.1.
fn deflate(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() + 64);
    let mut stream = Compress::new(Compression::fast(), false);
    let status = stream.compress_vec(message, &mut out, FlushCompress::Sync);
    status.unwrap();
    out.truncate(out.len() - 4);
    out
}

/// What must never be heard after a frame of the table.
pub fn poison() -> Vec<u8> {
    text(r#"{"type":"chat","channel":"numbers","message":"poison"}"#)
}
