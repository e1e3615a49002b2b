//! As much of a WebSocket client (RFC 6455) as the self-test needs: short texts, one after the other.

use std::io;
use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};

use super::Failure;
use crate::name::ChannelName;

/// Longest frame that is read, in bytes: nothing longer is sent to the self-test.
const MAX_FRAME_BYTES: usize = 64 << 10;
/// Longest head of the handshake's answer, in bytes.
const MAX_HEAD_BYTES: u64 = 8 << 10;
const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;

/// A socket, or TLS on one.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

pub struct Client(BufReader<Box<dyn Stream>>);

impl Client {
    /// The opening handshake (section 4.1) with one more header.
    pub async fn open(
        mut socket: Box<dyn Stream>,
        address: SocketAddr,
        (name, value): (&str, &str),
    ) -> Result<Client, Failure> {
        const STEP: &str = "handshake";
        let failed = |e| Failure::Socket(STEP, e);
        // The key only shows that the answer is to this request, of which there is one on the connection.
        let request = format!(
            "GET /ws HTTP/1.1\r\nhost: {address}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\
             {name}: {value}\r\n\r\n"
        );
        socket.write_all(request.as_bytes()).await.map_err(failed)?;
        socket.flush().await.map_err(failed)?;
        let mut reader = BufReader::new(socket);
        let mut head = String::new();
        loop {
            let mut line = (&mut reader).take(MAX_HEAD_BYTES);
            let count = line.read_line(&mut head).await.map_err(failed)?;
            if count == 0 || head.len() as u64 > MAX_HEAD_BYTES {
                return Err(failed(io::ErrorKind::UnexpectedEof.into()));
            }
            if head.ends_with("\r\n\r\n") {
                break;
            }
        }
        let status = head.lines().next().unwrap_or_default();
        if status.split(' ').nth(1) != Some("101") {
            return Err(Failure::Refused(STEP, status.to_owned()));
        }
        Ok(Client(reader))
    }

    pub async fn say(&mut self, message: &Value) -> Result<(), Failure> {
        let text = message.to_string();
        self.send(TEXT, text.as_bytes())
            .await
            .map_err(|e| Failure::Socket("send", e))
    }

    /// Returns when it is acknowledged.
    pub async fn subscribe(&mut self, channel: &ChannelName) -> Result<(), Failure> {
        self.say(&json!({"type": "subscribe", "channel": channel.as_str()}))
            .await?;
        self.hear("subscribe", |answer| answer["type"] == "subscribed")
            .await
    }

    /// Reads until a message is what was `wanted`; an error message is a failure.
    pub async fn hear(
        &mut self,
        step: &'static str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<(), Failure> {
        loop {
            let (opcode, payload) = self.frame().await.map_err(|e| Failure::Socket(step, e))?;
            match opcode {
                TEXT => {
                    let answer: Value = serde_json::from_slice(&payload).unwrap_or_default();
                    if wanted(&answer) {
                        return Ok(());
                    }
                    if answer["type"] == "error" {
                        return Err(Failure::Refused(step, answer.to_string()));
                    }
                }
                CLOSE => {
                    let reason = String::from_utf8_lossy(payload.get(2..).unwrap_or_default());
                    return Err(Failure::Refused(step, format!("a close: {reason}")));
                }
                _ => {}
            }
        }
    }

    /// Says goodbye; what the other side answers does not matter any more.
    pub async fn close(mut self) {
        if self.send(CLOSE, &1000u16.to_be_bytes()).await.is_ok() {
            // To its end, so that it is this side that is closed last and no reset is sent.
            let mut rest = [0; 256];
            while self.0.read(&mut rest).await.is_ok_and(|count| count > 0) {}
        }
    }

    async fn send(&mut self, first: u8, payload: &[u8]) -> io::Result<()> {
        let masked = 0x80;
        let mut frame = vec![first];
        match u8::try_from(payload.len()) {
            Ok(len) if len < 126 => frame.push(masked | len),
            _ => {
                let len = u16::try_from(payload.len()).map_err(io::Error::other)?;
                frame.push(masked | 126);
                frame.extend(len.to_be_bytes());
            }
        }
        // A mask of zeros leaves the payload as it is. It protects proxies (section 10.3); there is none here.
        frame.extend([0; 4]);
        frame.extend(payload);
        let socket = self.0.get_mut();
        socket.write_all(&frame).await?;
        socket.flush().await
    }

    async fn frame(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let opcode = self.0.read_u8().await?;
        let len = match self.0.read_u8().await? {
            126 => self.0.read_u16().await?.into(),
            len @ 0..126 => usize::from(len),
            _ => return Err(io::ErrorKind::InvalidData.into()),
        };
        if len > MAX_FRAME_BYTES {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut payload = vec![0; len];
        self.0.read_exact(&mut payload).await?;
        Ok((opcode, payload))
    }
}
