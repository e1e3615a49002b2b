//! RESP2 in both directions (redis.io/docs/latest/develop/reference/protocol-spec).

use bytes::{Buf, BufMut, Bytes, BytesMut};
use redis_protocol::resp2::decode::decode_bytes_mut;
use redis_protocol::resp2::types::BytesFrame;

/// Redis sent something that is not RESP2.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("sent something that is not RESP2: {0}")]
pub(super) struct NotResp(String);

/// Takes the next whole frame out of `input`; None when more bytes are needed.
pub(super) fn next_frame(input: &mut BytesMut) -> Result<Option<BytesFrame>, NotResp> {
    if input.is_empty() {
        return Ok(None);
    }
    if let Some(number) = next_integer(input) {
        return Ok(Some(BytesFrame::Integer(number)));
    }
    match decode_bytes_mut(input) {
        Ok(frame) => Ok(frame.map(|(frame, ..)| frame)),
        Err(e) => Err(NotResp(e.to_string())),
    }
}

/// `:3\r\n`, the answer to every publish: the library would share the buffer anew for each of hundreds that came in one
/// read. None: something else, or not all of it.
fn next_integer(input: &mut BytesMut) -> Option<i64> {
    let digits = input.strip_prefix(b":")?;
    // More than any number has.
    let end = digits.iter().take(24).position(|byte| *byte == b'\r')?;
    if digits.get(end + 1) != Some(&b'\n') {
        return None;
    }
    let number = std::str::from_utf8(&digits[..end]).ok()?.parse().ok()?;
    input.advance(end + 3);
    Some(number)
}

/// What Redis pushes on a connection that subscribes (redis.io/docs/latest/develop/pubsub), sharded or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Push {
    Message {
        channel: Bytes,
        payload: Bytes,
    },
    Subscribed {
        channel: Bytes,
    },
    /// Asked for, or because the slot of the channel has left this node.
    Unsubscribed {
        channel: Bytes,
    },
    /// Redis refused a command on this connection, in its own words (`MOVED 12 10.0.0.1:6379`).
    Refused(String),
    /// An answer that nobody waits for.
    Other,
}

pub(super) fn push(frame: BytesFrame) -> Push {
    let items = match frame {
        BytesFrame::Array(items) => items,
        BytesFrame::Error(reason) => return Push::Refused(reason.to_string()),
        _ => return Push::Other,
    };
    let mut items = items.into_iter();
    let (Some(BytesFrame::BulkString(kind)), Some(BytesFrame::BulkString(channel)), Some(third)) =
        (items.next(), items.next(), items.next())
    else {
        return Push::Other;
    };
    match (&*kind, third) {
        (b"message" | b"smessage", BytesFrame::BulkString(payload)) => {
            Push::Message { channel, payload }
        }
        (b"subscribe" | b"ssubscribe", _) => Push::Subscribed { channel },
        (b"unsubscribe" | b"sunsubscribe", _) => Push::Unsubscribed { channel },
        _ => Push::Other,
    }
}

/// Appends a command as an array of bulk strings.
pub(super) fn write_command<'a>(
    output: &mut impl BufMut,
    command: &'a str,
    arguments: impl ExactSizeIterator<Item = &'a [u8]>,
) {
    put_length(output, b'*', arguments.len() + 1);
    for word in std::iter::once(command.as_bytes()).chain(arguments) {
        put_length(output, b'$', word.len());
        output.put_slice(word);
        output.put_slice(b"\r\n");
    }
}

/// `$12\r\n`. Without `format`: every publish has four of them.
fn put_length(output: &mut impl BufMut, kind: u8, length: usize) {
    // The longest `usize`.
    let mut digits = [0; 20];
    let (mut begin, mut rest) = (digits.len(), length);
    loop {
        begin -= 1;
        digits[begin] = b"0123456789"[rest % 10];
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    output.put_u8(kind);
    output.put_slice(&digits[begin..]);
    output.put_slice(b"\r\n");
}

/// One command by itself.
pub(super) fn command(command: &str, arguments: &[&[u8]]) -> Bytes {
    let digits = |length: usize| length.checked_ilog10().map_or(1, |log| log as usize + 1);
    let words = std::iter::once(command.len()).chain(arguments.iter().map(|word| word.len()));
    let bytes: usize = words.map(|length| length + digits(length) + 5).sum();
    // All of what it takes and no more: bytes with room to grow are two pieces of memory.
    let mut output = Vec::with_capacity(bytes + digits(arguments.len() + 1) + 3);
    write_command(&mut output, command, arguments.iter().copied());
    debug_assert_eq!(output.len(), output.capacity());
    output.into()
}

/// A bulk or simple string, as text.
pub(super) fn text(frame: &BytesFrame) -> Option<&str> {
    match frame {
        BytesFrame::BulkString(bytes) | BytesFrame::SimpleString(bytes) => {
            std::str::from_utf8(bytes).ok()
        }
        _ => None,
    }
}

/// The value of a key in a map, which RESP2 writes as an array of keys and values.
pub(super) fn field<'a>(map: &'a BytesFrame, key: &str) -> Option<&'a BytesFrame> {
    let BytesFrame::Array(items) = map else {
        return None;
    };
    let mut pairs = items.chunks_exact(2);
    pairs.find_map(|pair| (text(&pair[0]) == Some(key)).then_some(&pair[1]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands() {
        assert_eq!(
            command("SUBSCRIBE", &[&b"a"[..], b"\r\n"]),
            "*3\r\n$9\r\nSUBSCRIBE\r\n$1\r\na\r\n$2\r\n\r\n\r\n"
        );
        for length in [0, 9, 10, 99, 100, 1_000_000] {
            let word = "x".repeat(length);
            let expected = format!("*2\r\n$4\r\nECHO\r\n${length}\r\n{word}\r\n");
            assert_eq!(command("ECHO", &[word.as_bytes()]), expected, "{length}");
        }
    }

    #[test]
    fn numbers_that_came_together_are_taken_one_by_one() {
        let mut input = BytesMut::from(":1\r\n:-20\r\n+OK\r\n:3\r");
        for expected in [1, -20] {
            let frame = next_frame(&mut input).unwrap();
            assert_eq!(frame, Some(BytesFrame::Integer(expected)));
        }
        assert_eq!(text(&next_frame(&mut input).unwrap().unwrap()), Some("OK"));
        assert_eq!(next_frame(&mut input).unwrap(), None);
        input.put_slice(b"\n");
        let frame = next_frame(&mut input).unwrap();
        assert_eq!((frame, input.len()), (Some(BytesFrame::Integer(3)), 0));
    }

    #[test]
    fn maps() {
        let mut input =
            BytesMut::from("*4\r\n$4\r\nmode\r\n$7\r\ncluster\r\n$5\r\nproto\r\n:2\r\n");
        let map = next_frame(&mut input).unwrap().unwrap();
        for (key, expected) in [("mode", Some("cluster")), ("proto", None), ("role", None)] {
            assert_eq!(field(&map, key).and_then(text), expected, "{key}");
        }
    }

    #[test]
    fn pushes() {
        let read = |text: &str| match next_frame(&mut BytesMut::from(text)) {
            Ok(None) => "incomplete".to_owned(),
            Ok(Some(frame)) => match push(frame) {
                Push::Message { channel, payload } => format!("{channel:?} {payload:?}"),
                Push::Subscribed { channel } => format!("subscribed {channel:?}"),
                Push::Unsubscribed { channel } => format!("unsubscribed {channel:?}"),
                Push::Refused(reason) => format!("refused: {reason}"),
                Push::Other => "other".to_owned(),
            },
            Err(_) => "not RESP2".to_owned(),
        };
        for (text, expected) in [
            (
                "*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\np\r\n",
                "b\"c\" b\"p\"",
            ),
            (
                "*3\r\n$8\r\nsmessage\r\n$1\r\nc\r\n$1\r\np\r\n",
                "b\"c\" b\"p\"",
            ),
            (
                "*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n",
                "subscribed b\"c\"",
            ),
            (
                "*3\r\n$10\r\nssubscribe\r\n$1\r\nc\r\n:1\r\n",
                "subscribed b\"c\"",
            ),
            (
                "*3\r\n$12\r\nsunsubscribe\r\n$1\r\nc\r\n:0\r\n",
                "unsubscribed b\"c\"",
            ),
            ("*3\r\n$12\r\nsunsubscribe\r\n$-1\r\n:0\r\n", "other"),
            ("+PONG\r\n", "other"),
            ("-MOVED 1 h:2\r\n", "refused: MOVED 1 h:2"),
            ("?nonsense\r\n", "not RESP2"),
            ("*3\r\n$7\r\nmess", "incomplete"),
            (":1\r\n", "other"),
            (":-12\r", "incomplete"),
            (":1\rx", "incomplete"),
            (":x\r\n", "not RESP2"),
            ("", "incomplete"),
        ] {
            assert_eq!(read(text), expected, "{text:?}");
        }
    }
}
