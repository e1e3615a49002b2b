//! The subscriber's connection to Redis: TCP, `AUTH`, `SELECT`, and RESP2 in both directions.

use std::io;

use bytes::{BufMut, Bytes, BytesMut};
use redis_protocol::resp2::decode::decode_bytes_mut;
use redis_protocol::resp2::types::BytesFrame;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Settings;

#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectionError {
    /// The system's own words ("Connection refused (os error 111)").
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("no answer within {} s", .0.as_secs())]
    Timeout(std::time::Duration),
    #[error("refused {command}: {reason}")]
    Refused {
        command: &'static str,
        reason: String,
    },
    #[error("closed the connection")]
    Closed,
    #[error("sent something that is not RESP2: {0}")]
    Protocol(String),
    #[error("no probe came back; replacing the connection")]
    Silent,
}

/// An open connection, logged in.
pub(super) struct Connection {
    pub(super) socket: TcpStream,
    /// Read and not yet decoded.
    pub(super) input: BytesMut,
}

impl Connection {
    /// Connects, logs in and selects the database, within `settings.timeout` altogether.
    pub(super) async fn open(settings: &Settings) -> Result<Connection, ConnectionError> {
        match tokio::time::timeout(settings.timeout, Self::log_in(settings)).await {
            Ok(result) => result,
            Err(_) => Err(ConnectionError::Timeout(settings.timeout)),
        }
    }

    async fn log_in(settings: &Settings) -> Result<Connection, ConnectionError> {
        let socket = TcpStream::connect((settings.host.as_str(), settings.port)).await?;
        socket.set_nodelay(true)?;
        let mut connection = Connection {
            socket,
            input: BytesMut::with_capacity(16 << 10),
        };
        if let Some(password) = &settings.password {
            let user = settings.username.as_deref().unwrap_or("default");
            connection.ask("AUTH", &[user, password]).await?;
        }
        if settings.database != 0 {
            connection
                .ask("SELECT", &[&settings.database.to_string()])
                .await?;
        }
        connection
            .ask("CLIENT", &["SETNAME", "pushcluster-subscriber"])
            .await?;
        Ok(connection)
    }

    async fn ask(
        &mut self,
        command: &'static str,
        arguments: &[&str],
    ) -> Result<(), ConnectionError> {
        let mut output = BytesMut::new();
        write_command(
            &mut output,
            command,
            arguments.iter().map(|text| text.as_bytes()),
        );
        self.socket.write_all(&output).await?;
        loop {
            match next_frame(&mut self.input)? {
                Some(BytesFrame::Error(reason)) => {
                    return Err(ConnectionError::Refused {
                        command,
                        reason: reason.to_string(),
                    });
                }
                Some(_) => return Ok(()),
                None if self.socket.read_buf(&mut self.input).await? == 0 => {
                    return Err(ConnectionError::Closed);
                }
                None => {}
            }
        }
    }
}

/// Takes the next whole frame out of `input`; None when more bytes are needed.
pub(super) fn next_frame(input: &mut BytesMut) -> Result<Option<BytesFrame>, ConnectionError> {
    if input.is_empty() {
        return Ok(None);
    }
    match decode_bytes_mut(input) {
        Ok(frame) => Ok(frame.map(|(frame, ..)| frame)),
        Err(e) => Err(ConnectionError::Protocol(e.to_string())),
    }
}

/// What Redis pushes on a connection that subscribes (redis.io/docs/latest/develop/pubsub).
pub(super) enum Push {
    Message {
        channel: Bytes,
        payload: Bytes,
    },
    Subscribed {
        channel: Bytes,
    },
    /// The end of a subscription, or an answer nobody waits for.
    Other,
}

pub(super) fn push(frame: BytesFrame) -> Result<Push, ConnectionError> {
    let items = match frame {
        BytesFrame::Array(items) => items,
        BytesFrame::Error(reason) => {
            let reason = reason.to_string();
            return Err(ConnectionError::Refused {
                command: "SUBSCRIBE",
                reason,
            });
        }
        _ => return Ok(Push::Other),
    };
    let mut items = items.into_iter();
    Ok(match (items.next(), items.next(), items.next()) {
        (
            Some(BytesFrame::BulkString(kind)),
            Some(BytesFrame::BulkString(channel)),
            Some(third),
        ) => match (&*kind, third) {
            (b"message", BytesFrame::BulkString(payload)) => Push::Message { channel, payload },
            (b"subscribe", _) => Push::Subscribed { channel },
            _ => Push::Other,
        },
        _ => Push::Other,
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands() {
        let mut output = BytesMut::new();
        write_command(&mut output, "SUBSCRIBE", [&b"a"[..], b"\r\n"].into_iter());
        assert_eq!(
            &output[..],
            b"*3\r\n$9\r\nSUBSCRIBE\r\n$1\r\na\r\n$2\r\n\r\n\r\n"
        );
    }

    #[test]
    fn pushes() {
        let read = |text: &str| match next_frame(&mut BytesMut::from(text)) {
            Ok(None) => "incomplete".to_owned(),
            Ok(Some(frame)) => match push(frame) {
                Ok(Push::Message { channel, payload }) => format!("{channel:?} {payload:?}"),
                Ok(Push::Subscribed { channel }) => format!("subscribed {channel:?}"),
                Ok(Push::Other) => "other".to_owned(),
                Err(e) => e.to_string(),
            },
            Err(_) => "not RESP2".to_owned(),
        };
        for (text, expected) in [
            (
                "*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\np\r\n",
                "b\"c\" b\"p\"",
            ),
            (
                "*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n",
                "subscribed b\"c\"",
            ),
            ("*3\r\n$11\r\nunsubscribe\r\n$1\r\nc\r\n:1\r\n", "other"),
            ("+PONG\r\n", "other"),
            ("-NOPERM no\r\n", "refused SUBSCRIBE: NOPERM no"),
            ("?nonsense\r\n", "not RESP2"),
            ("*3\r\n$7\r\nmess", "incomplete"),
            ("", "incomplete"),
        ] {
            assert_eq!(read(text), expected, "{text:?}");
        }
    }
}
