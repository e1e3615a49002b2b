use proptest::prelude::*;

use super::*;

/// An owned copy of what `visit` saw.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>),
    Failed(CloseCode),
}

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A client frame with any first byte, so that broken ones can be written too.
fn client(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    match payload.len() {
        len @ 0..=125 => out.push(0x80 | len as u8),
        len @ 126..=65_535 => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&MASK);
    out.extend(
        payload
            .iter()
            .zip(MASK.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    out
}

fn decode(pieces: &[&[u8]], max: u32) -> Vec<Seen> {
    let reading = Reading {
        max_message_bytes: max,
        inflater: None,
    };
    decode_with(pieces, reading)
}

fn decode_with(pieces: &[&[u8]], mut reading: Reading<'_>) -> Vec<Seen> {
    let mut decoder = Decoder::default();
    let mut seen = Vec::new();
    for piece in pieces {
        let mut piece = piece.to_vec();
        let result = decoder.feed(&mut piece, &mut reading, &mut |frame| {
            seen.push(match frame {
                Frame::Text(text) => Seen::Text(text.into()),
                Frame::Binary(bytes) => Seen::Binary(bytes.into()),
                Frame::Ping(bytes) => Seen::Ping(bytes.into()),
                Frame::Pong(bytes) => Seen::Pong(bytes.into()),
                Frame::Close(code) => Seen::Close(code),
            });
            Next::Go
        });
        if let Err(code) = result {
            seen.push(Seen::Failed(code));
            break;
        }
    }
    seen
}

fn text(text: &str) -> Seen {
    Seen::Text(text.into())
}

#[test]
fn frames_are_decoded_by_the_book() {
    use Seen::*;
    let failed = |code| vec![Failed(code)];
    let long = "x".repeat(70_000);
    let rows: Vec<(&str, Vec<u8>, Vec<Seen>)> = vec![
        ("text", client(0x81, b"hello"), vec![text("hello")]),
        ("empty text", client(0x81, b""), vec![text("")]),
        (
            "binary",
            client(0x82, &[0, 255]),
            vec![Binary(vec![0, 255])],
        ),
        (
            "16-bit length",
            client(0x81, "y".repeat(126).as_bytes()),
            vec![text(&"y".repeat(126))],
        ),
        (
            "64-bit length",
            client(0x81, long.as_bytes()),
            vec![text(&long)],
        ),
        ("ping", client(0x89, b"p"), vec![Ping(b"p".to_vec())]),
        ("pong", client(0x8a, b""), vec![Pong(vec![])]),
        (
            "two at once",
            [client(0x81, b"a"), client(0x81, b"b")].concat(),
            vec![text("a"), text("b")],
        ),
        (
            "fragments",
            [client(0x01, b"he"), client(0x00, b"l"), client(0x80, b"lo")].concat(),
            vec![text("hello")],
        ),
        (
            "a ping between fragments",
            [
                client(0x01, b"he"),
                client(0x89, b"p"),
                client(0x80, b"llo"),
            ]
            .concat(),
            vec![Ping(b"p".to_vec()), text("hello")],
        ),
        (
            "a character across fragments",
            [client(0x01, &[0xc3]), client(0x80, &[0xa9])].concat(),
            vec![text("é")],
        ),
        (
            "close",
            client(0x88, &[0x03, 0xe8]),
            vec![Close(Some(1000))],
        ),
        ("close without a code", client(0x88, b""), vec![Close(None)]),
        (
            "close with a reason",
            client(0x88, b"\x03\xe9bye"),
            vec![Close(Some(1001))],
        ),
        (
            "close with half a code",
            client(0x88, &[3]),
            failed(CloseCode::Protocol),
        ),
        (
            "close with a forbidden code",
            client(0x88, &1006u16.to_be_bytes()),
            failed(CloseCode::Protocol),
        ),
        (
            "close with a bad reason",
            client(0x88, &[3, 0xe8, 0xff]),
            failed(CloseCode::InvalidUtf8),
        ),
        (
            "reserved bit",
            client(0xc1, b"x"),
            failed(CloseCode::Protocol),
        ),
        (
            "reserved opcode",
            client(0x83, b"x"),
            failed(CloseCode::Protocol),
        ),
        (
            "reserved control opcode",
            client(0x8b, b""),
            failed(CloseCode::Protocol),
        ),
        (
            "not masked",
            vec![0x81, 0x01, b'x'],
            failed(CloseCode::Protocol),
        ),
        (
            "fragmented ping",
            client(0x09, b""),
            failed(CloseCode::Protocol),
        ),
        (
            "long ping",
            client(0x89, &[0; 126]),
            failed(CloseCode::Protocol),
        ),
        (
            "continuation of nothing",
            client(0x80, b"x"),
            failed(CloseCode::Protocol),
        ),
        (
            "text inside a message",
            [client(0x01, b"a"), client(0x81, b"b")].concat(),
            failed(CloseCode::Protocol),
        ),
        (
            "length not minimal",
            [&[0x81, 0xfe, 0, 5][..], &MASK, b"xxxxx"].concat(),
            failed(CloseCode::Protocol),
        ),
        (
            "64-bit length not minimal",
            [&[0x81, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff][..], &MASK].concat(),
            failed(CloseCode::Protocol),
        ),
        (
            "a length beyond all",
            [
                &[0x82, 0xff, 0x7f, 255, 255, 255, 255, 255, 255, 255][..],
                &MASK,
            ]
            .concat(),
            failed(CloseCode::TooBig),
        ),
        (
            "a negative length",
            [&[0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0][..], &MASK].concat(),
            failed(CloseCode::Protocol),
        ),
        (
            "invalid text",
            client(0x81, &[0xff]),
            failed(CloseCode::InvalidUtf8),
        ),
        (
            "a cut character",
            client(0x81, &[0xc3]),
            failed(CloseCode::InvalidUtf8),
        ),
        (
            "a surrogate",
            client(0x81, &[0xed, 0xa0, 0x80]),
            failed(CloseCode::InvalidUtf8),
        ),
    ];
    for (name, bytes, expected) in rows {
        assert_eq!(decode(&[&bytes], 100_000), expected, "{name}");
        // The same byte by byte: how the network cuts it must not matter.
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(decode(&single, 100_000), expected, "{name}, byte by byte");
    }
}

#[test]
fn any_cut_gives_the_same_frames() {
    let stream = [
        client(0x01, "grüße, ".as_bytes()),
        client(0x89, b"ping"),
        client(0x00, "wel".as_bytes()),
        client(0x80, "t 🎉".as_bytes()),
        client(0x82, &[7; 300]),
        client(0x81, b""),
        client(0x88, b"\x03\xe8"),
    ]
    .concat();
    let expected = decode(&[&stream], 1000);
    assert_eq!(expected.len(), 5);
    for cut in 1..stream.len() {
        let (left, right) = stream.split_at(cut);
        assert_eq!(decode(&[left, right], 1000), expected, "cut at {cut}");
    }
}

/// RFC 7692 section 6.1 and 7.2.3.1: RSV1 on the first frame of a message, and on no other.
#[test]
fn compressed_messages_are_decoded_where_that_was_agreed() {
    const HELLO: [u8; 7] = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let failed = |code| vec![Seen::Failed(code)];
    let hello = || vec![text("Hello")];
    for (name, bytes, expected) in [
        ("text", client(0xc1, &HELLO), hello()),
        (
            "binary",
            client(0xc2, &HELLO),
            vec![Seen::Binary(b"Hello".to_vec())],
        ),
        ("not compressed", client(0x81, b"Hello"), hello()),
        (
            "fragments with a ping between",
            [
                client(0x41, &HELLO[..3]),
                client(0x89, b""),
                client(0x80, &HELLO[3..]),
            ]
            .concat(),
            [vec![Seen::Ping(vec![])], hello()].concat(),
        ),
        (
            "two messages",
            [client(0xc1, &HELLO), client(0xc1, &HELLO)].concat(),
            [hello(), hello()].concat(),
        ),
        (
            "a later fragment says so",
            [client(0x41, &HELLO[..3]), client(0xc0, &HELLO[3..])].concat(),
            failed(CloseCode::Protocol),
        ),
        (
            "a control frame says so",
            client(0xc9, &HELLO),
            failed(CloseCode::Protocol),
        ),
        (
            "another reserved bit",
            client(0xa1, b"Hello"),
            failed(CloseCode::Protocol),
        ),
        (
            "not deflate",
            client(0xc1, &[0x07]),
            failed(CloseCode::Protocol),
        ),
        (
            "too long once inflated: 20 bytes",
            client(0xc1, &[0xf2, 0x40, 0x07, 0x00]),
            failed(CloseCode::TooBig),
        ),
        (
            "invalid text once inflated",
            client(0xc1, &[0x00, 1, 0, 0xfe, 0xff, 0xff, 0]),
            failed(CloseCode::InvalidUtf8),
        ),
    ] {
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        for pieces in [&[&bytes[..]][..], &single] {
            let mut inflater = Inflater::default();
            let reading = Reading {
                max_message_bytes: 10,
                inflater: Some(&mut inflater),
            };
            assert_eq!(decode_with(pieces, reading), expected, "{name}");
        }
    }
    assert_eq!(
        decode(&[&client(0xc1, &HELLO)], 10),
        failed(CloseCode::Protocol),
        "not agreed"
    );
}

#[test]
fn a_message_over_the_limit_ends_at_its_header() {
    assert_eq!(
        decode(&[&client(0x81, &[b'x'; 10])], 10),
        vec![text("xxxxxxxxxx")]
    );
    let header = &client(0x81, &[b'x'; 11])[..6];
    assert_eq!(decode(&[header], 10), vec![Seen::Failed(CloseCode::TooBig)]);
    let fragments = [client(0x01, &[b'x'; 6]), client(0x80, &[b'x'; 5])].concat();
    assert_eq!(
        decode(&[&fragments], 10),
        vec![Seen::Failed(CloseCode::TooBig)],
        "fragments add up"
    );
}

#[test]
fn a_bad_byte_is_found_before_the_frame_is_complete() {
    let frame = client(0x81, &[b'a', 0xff, b'b', b'c']);
    assert_eq!(
        decode(&[&frame[..9]], 10),
        vec![Seen::Failed(CloseCode::InvalidUtf8)]
    );
}

#[test]
fn an_idle_decoder_holds_nothing() {
    let mut decoder = Decoder::default();
    let mut reading = Reading {
        max_message_bytes: 10,
        inflater: None,
    };
    let frame = client(0x81, b"hello");
    for cut in [3, 8] {
        for piece in [&frame[..cut], &frame[cut..]] {
            decoder
                .feed(&mut piece.to_vec(), &mut reading, &mut |_| Next::Go)
                .unwrap();
        }
        assert!(decoder.0.is_none(), "cut at {cut}");
    }
}

#[test]
fn server_frames_use_the_shortest_length() {
    for (len, header) in [
        (0, vec![0x81, 0]),
        (125, vec![0x81, 125]),
        (126, vec![0x81, 126, 0, 126]),
        (65_535, vec![0x81, 126, 255, 255]),
        (65_536, vec![0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
    ] {
        let frame = frame(Opcode::Text, &vec![b'x'; len]);
        assert_eq!(&frame[..header.len()], header, "{len}");
        assert_eq!(frame.len(), header.len() + len, "{len}");
    }
    assert_eq!(
        &close(CloseCode::Overloaded)[..],
        b"\x88\x13\x03\xe9Server overloaded"
    );
}

/// Frames as clients send them, good and bad, and plain noise.
fn streams() -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![
        4 => prop::sample::select(vec![0x81u8, 0x01, 0x00, 0x80, 0x82, 0x02, 0x89, 0x8a, 0x88]),
        1 => any::<u8>(),
    ];
    let payload = prop_oneof![
        3 => "[a-zé🎉]{0,40}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..300),
    ];
    let frame = (first, payload).prop_map(|(first, payload)| client(first, &payload));
    let noise = prop::collection::vec(any::<u8>(), 0..30);
    let piece = prop_oneof![9 => frame, 1 => noise];
    prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    /// Neither what a client sends nor how the network cuts it makes the decoder panic, see other frames, or end
    /// with another code.
    #[test]
    fn the_network_may_cut_anything_anywhere(
        stream in streams(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &stream[cut[0]..cut[1]]).collect();
        let seen = decode(&pieces, 500);
        prop_assert_eq!(seen, decode(&[&stream], 500));
    }

    /// What fits is decoded as it was sent, in one frame or in many.
    #[test]
    fn a_message_arrives_however_it_is_fragmented(text in ".{0,200}", size in 1usize..50) {
        let mut stream = Vec::new();
        let chunks: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
        for (number, chunk) in chunks.iter().enumerate() {
            let fin = if number + 1 == chunks.len() { 0x80 } else { 0 };
            let opcode = u8::from(number == 0);
            stream.extend(client(fin | opcode, chunk));
            // A control frame between any two fragments (section 5.4).
            if fin == 0 {
                stream.extend(client(0x89, b""));
            }
        }
        let texts: Vec<Seen> =
            decode(&[&stream], 1_000).into_iter().filter(|seen| *seen != Seen::Ping(vec![])).collect();
        let expected = if chunks.is_empty() { vec![] } else { vec![Seen::Text(text)] };
        prop_assert_eq!(texts, expected);
    }
}
