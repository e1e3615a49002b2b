//! RESP2 in both directions (redis.io/docs/latest/develop/reference/protocol-spec).

use bytes::{BufMut, Bytes, BytesMut};
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
    match decode_bytes_mut(input) {
        Ok(frame) => Ok(frame.map(|(frame, ..)| frame)),
        Err(e) => Err(NotResp(e.to_string())),
    }
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
    output: &mut BytesMut,
    command: &str,
    arguments: impl ExactSizeIterator<Item = &'a [u8]>,
) {
    output.put_slice(
        format!(
            "*{}\r\n${}\r\n{command}\r\n",
            arguments.len() + 1,
            command.len()
        )
        .as_bytes(),
    );
    for argument in arguments {
        output.put_slice(format!("${}\r\n", argument.len()).as_bytes());
        output.put_slice(argument);
        output.put_slice(b"\r\n");
    }
}

/// One command by itself.
pub(super) fn command(command: &str, arguments: &[&[u8]]) -> Bytes {
    let bytes: usize = arguments.iter().map(|argument| argument.len() + 16).sum();
    let mut output = BytesMut::with_capacity(bytes + command.len() + 32);
    write_command(&mut output, command, arguments.iter().copied());
    output.freeze()
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
            ("", "incomplete"),
        ] {
            assert_eq!(read(text), expected, "{text:?}");
        }
    }
}
