use proptest::prelude::*;

use super::*;
use crate::protocol::frame::{Opcode, frame};

/// A message that shrinks.
fn long() -> Vec<u8> {
    br#"{"type":"chat","channel":"news","message":"hello"}"#.repeat(20)
}

/// So many bytes that no compression makes fewer.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    (0..len).map(|_| next()).collect()
}

/// Compressed as `Deflater` does, without the frame around it.
fn deflated(payload: &[u8], window: Window) -> Vec<u8> {
    let mut stream = Compress::new_with_window_bits(Compression::new(LEVEL), false, window.bits());
    let mut out = Vec::with_capacity(2 * payload.len() + 100);
    stream
        .compress_vec(payload, &mut out, FlushCompress::Sync)
        .unwrap();
    assert!(out.ends_with(&TAIL));
    out.truncate(out.len() - TAIL.len());
    out
}

#[test]
fn messages_of_the_rfc() {
    // Section 7.2.3: one block, no compression, a block with BFINAL, two blocks, and none.
    for (what, bytes) in [
        ("one block", &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00][..]),
        (
            "stored",
            &[
                0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00,
            ],
        ),
        (
            "final block",
            &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00],
        ),
        (
            "two blocks",
            &[
                0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00,
            ],
        ),
    ] {
        assert_eq!(
            Inflater::default().inflate(bytes, 5),
            Ok(&b"Hello"[..]),
            "{what}"
        );
        assert_eq!(
            Inflater::default().inflate(bytes, 4),
            Err(CloseCode::TooBig),
            "{what}"
        );
    }
    // Nothing, as section 7.2.3.6 writes it, and as some senders do.
    for nothing in [&[0x00][..], &[0x02, 0x00], &[]] {
        assert_eq!(Inflater::default().inflate(nothing, 5), Ok(&b""[..]));
    }
    let without_the_empty_block = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let mut inflater = Inflater::default();
    assert_eq!(
        inflater.inflate(&without_the_empty_block, 5),
        Ok(&b"Hello"[..])
    );
}

#[test]
fn what_is_not_deflate_is_refused_and_no_message_sees_the_one_before() {
    let ends = [0x03, 0x00].repeat(1_000);
    let mut inflater = Inflater::default();
    for (what, bytes) in [
        ("a reserved block type", &[0x07, 0x00][..]),
        (
            "a stored block whose lengths differ",
            &[0x00, 5, 0, 5, 0, 1],
        ),
        // A copy of three bytes from one byte back: what is there is another client's.
        ("a look back before the beginning", &[0x02, 0x02, 0x00]),
        ("many streams", &ends),
        ("half of a block", &[0xf2, 0x48, 0xcd, 0xc9]),
        (
            "a stored block with less than it says",
            &[0x00, 7, 0, 0xf8, 0xff, b'H'],
        ),
        ("lengths of codes that do not end", &[0x04, 0, 0, 0]),
        (
            "an end, and half of a block",
            &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0xf2, 0x48],
        ),
        (
            "a block that takes what stands for its end",
            &[0x00, 9, 0, 0xf6, 0xff],
        ),
    ] {
        let secret = deflated(b"secret", Window::Full);
        assert_eq!(inflater.inflate(&secret, 6), Ok(&b"secret"[..]));
        assert_eq!(
            inflater.inflate(bytes, 1_000),
            Err(CloseCode::Protocol),
            "{what}"
        );
    }
}

#[test]
fn what_is_too_big_and_broken_is_too_big_whatever_came_before() {
    // One whole block that is too long, and behind it one of the reserved type.
    let mut broken = deflated(&noise(4_000), Window::Full);
    broken.extend(TAIL);
    broken.push(0x07);
    let mut inflater = Inflater::default();
    assert_eq!(inflater.inflate(&broken, 1_000), Err(CloseCode::TooBig));
    let before = deflated(&noise(60_000), Window::Full);
    assert!(inflater.inflate(&before, 60_000).is_ok());
    assert_eq!(inflater.inflate(&broken, 1_000), Err(CloseCode::TooBig));
    assert_eq!(inflater.inflate(&broken, 5_000), Err(CloseCode::Protocol));
}

#[test]
fn a_bomb_is_too_big_and_leaves_no_more_memory_than_is_allowed() {
    let bomb = deflated(&vec![0; 64 << 20], Window::Full);
    assert!(bomb.len() < 100_000);
    let mut inflater = Inflater::default();
    assert_eq!(inflater.inflate(&bomb, 1 << 20), Err(CloseCode::TooBig));
    assert!(
        inflater.out.capacity() <= 4 << 20,
        "{}",
        inflater.out.capacity()
    );
    // The next message is another's, and finds nothing of it.
    assert_eq!(
        inflater.inflate(&deflated(b"next", Window::Full), 1 << 20),
        Ok(&b"next"[..])
    );
    assert!(inflater.out.capacity() <= KEPT_BYTES);
}

#[test]
fn frames_that_shrink_are_compressed_and_others_stay() {
    let mut deflater = Deflater::new(100);
    let noise = noise(1_000);
    let two = [
        frame(Opcode::Text, &long()).to_vec(),
        frame(Opcode::Text, &long()).to_vec(),
    ]
    .concat();
    for (what, plain, shrinks) in [
        ("text", frame(Opcode::Text, &long()), true),
        ("binary", frame(Opcode::Binary, &long()), true),
        (
            "64-bit length",
            frame(Opcode::Text, &long().repeat(100)),
            true,
        ),
        ("short", frame(Opcode::Text, &[b'x'; 99]), false),
        ("long enough", frame(Opcode::Text, &[b'x'; 100]), true),
        ("noise", frame(Opcode::Binary, &noise), false),
        ("control", frame(Opcode::Ping, &[0; 125]), false),
        ("two frames in one", two.into(), false),
        ("nothing", Bytes::new(), false),
    ] {
        for window in WINDOWS {
            let sent = deflater.deflate(&plain, window);
            if !shrinks {
                assert_eq!(sent, plain, "{what}");
                continue;
            }
            assert!(sent.len() < plain.len(), "{what}");
            assert_eq!(sent[0], plain[0] | RSV1, "{what}");
            let mut whole = sent.to_vec();
            whole[0] = plain[0];
            let (_, payload) = message_of(&whole).unwrap();
            let (_, before) = message_of(&plain).unwrap();
            let seen = Inflater::default()
                .inflate(payload, 1 << 20)
                .map(<[u8]>::to_vec);
            assert_eq!(seen.as_deref(), Ok(before), "{what}");
        }
    }
}

/// The same bytes twice, further apart than 512: a narrow window must not see the first.
#[test]
fn a_narrow_window_looks_back_no_further_than_agreed() {
    let twice = noise(600).repeat(2);
    let (full, narrow) = (
        deflated(&twice, Window::Full),
        deflated(&twice, Window::Narrow),
    );
    assert!(full.len() < 700, "{}", full.len());
    assert!(narrow.len() > 1_100, "{}", narrow.len());
}

#[test]
fn windows_for_what_clients_ask() {
    for (bits, window) in [
        (7, None),
        (8, None),
        (9, Some(Window::Narrow)),
        (14, Some(Window::Narrow)),
        (15, Some(Window::Full)),
        (16, None),
    ] {
        assert_eq!(Window::within(bits), window, "{bits}");
    }
    for (index, window) in WINDOWS.into_iter().enumerate() {
        assert_eq!(window as usize, index);
    }
}

proptest! {
    #[test]
    fn whatever_comes_is_inflated_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut inflater = Inflater::default();
        if let Ok(message) = inflater.inflate(&bytes, 10_000) {
            prop_assert!(message.len() <= 10_000);
        }
        let sent = deflated(b"after it", Window::Narrow);
        prop_assert_eq!(inflater.inflate(&sent, 100), Ok(&b"after it"[..]));
    }

    #[test]
    fn what_was_deflated_is_inflated(words in prop::collection::vec("[a-c]{1,8}|.{3}", 0..200)) {
        let text = words.concat();
        for window in WINDOWS {
            let sent = deflated(text.as_bytes(), window);
            let mut inflater = Inflater::default();
            prop_assert_eq!(inflater.inflate(&sent, 10_000), Ok(text.as_bytes()));
        }
    }
}
