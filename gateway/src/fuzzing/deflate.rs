//! Compressed messages: a second inflater must say the same of them, and what we compress must come out as it went in.

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

use super::frames::{Seen, client, decode};
use super::{Bytes, pieces};
use crate::protocol::close::CloseCode;
use crate::protocol::deflate::{Deflater, Inflater, WINDOWS, Window};
use crate::protocol::frame::{Opcode, frame};

/// In bytes.
const LIMITS: [u32; 4] = [10, 300, 5_000, 70_000];

/// First byte: the limit, and whether the rest is what came, or is to be sent, and with which window. Second byte: how
/// the network cuts. Then a message.
pub fn deflate(input: &[u8]) {
    let mut input = Bytes(input);
    let (how, cut) = (input.byte(), input.byte());
    if how & 4 == 0 {
        inflates_as_the_other(input.0, LIMITS[usize::from(how & 3)]);
    } else {
        comes_out_as_it_went_in(input.0, WINDOWS[usize::from(how >> 3 & 1)], cut);
    }
}

fn inflates_as_the_other(message: &[u8], limit: u32) {
    let mut inflater = Inflater::default();
    // Nothing of the message before must be left.
    let _ = inflater.inflate(&[0xf3, 0x48, 0xcd], limit);
    let ours = inflater.inflate(message, limit).map(<[u8]>::to_vec);
    match (other(message, limit), ours) {
        (Ok(theirs), ours) => assert_eq!(ours, Ok(theirs), "miniz_oxide takes it"),
        (Err(()), Ok(ours)) => panic!("miniz_oxide refuses what we take: {ours:?}"),
        (Err(()), Err(CloseCode::Protocol | CloseCode::TooBig)) => {}
        (Err(()), Err(code)) => panic!("{code:?} is no answer to a compressed message"),
    }
    let again = Inflater::default()
        .inflate(message, limit)
        .map(<[u8]>::to_vec);
    assert_eq!(inflater.inflate(message, limit).map(<[u8]>::to_vec), again);
}

/// RFC 7692 section 7.2.2, with one end of a stream inside the message allowed (section 7.2.3.4). Each block is whole: an
/// empty last one behind the message is the last thing that is read.
fn other(message: &[u8], limit: u32) -> Result<Vec<u8>, ()> {
    if message.is_empty() {
        return Ok(Vec::new());
    }
    let input = [message, &[0, 0, 0xff, 0xff], &[1, 0, 0, 0xff, 0xff]].concat();
    let (mut rest, mut len, mut ends) = (&input[..], 0, 0);
    let mut state = DecompressorOxide::new();
    // With one buffer for all that comes it sees what points to before its beginning; with a ring it would not.
    let mut out = vec![0; limit as usize + 1];
    loop {
        let (status, read, written) = decompress(
            &mut state,
            rest,
            &mut out[len..],
            0,
            TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF,
        );
        rest = &rest[read..];
        len += written;
        if len > limit as usize || status != TINFLStatus::Done {
            return Err(());
        }
        ends += 1;
        match rest.len() {
            0 if ends <= 2 => break,
            // The message is its own end.
            9 if ends == 1 => break,
            _ if ends > 1 => return Err(()),
            _ => state.init(),
        }
    }
    out.truncate(len);
    Ok(out)
}

fn comes_out_as_it_went_in(payload: &[u8], window: Window, cut: u8) {
    let plain = frame(Opcode::Binary, payload);
    let sent = Deflater::new(0).deflate(&plain, window);
    if sent[0] & 0x40 == 0 {
        assert_eq!(
            sent, plain,
            "a frame that is not compressed is the frame itself"
        );
        return;
    }
    let head = match sent[1] {
        0..=125 => 2,
        126 => 4,
        _ => 10,
    };
    let compressed = &sent[head..];
    assert!(compressed.len() < payload.len(), "compressed means shorter");
    let most = u32::try_from(payload.len()).expect("an input is shorter");
    assert_eq!(Inflater::default().inflate(compressed, most), Ok(payload));
    // The same as a client's message, in two fragments.
    let (first, second) = compressed.split_at(usize::from(cut) % (compressed.len() + 1));
    let stream = [client(0x42, first), client(0x80, second)].concat();
    let seen = decode(pieces(&stream, cut), most, true);
    assert_eq!(seen, (vec![Seen::Binary(payload.to_vec())], Ok(())));
}
