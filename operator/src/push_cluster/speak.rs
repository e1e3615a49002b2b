//! The operator's own connection to a Redis or a Sentinel that it made: as the admin, one command after the other, each
//! with a deadline.

use std::time::Duration;

use bytes::BytesMut;
use k8s_openapi::api::core::v1::Pod;
use redis_protocol::resp2::decode::decode_bytes_mut;
use redis_protocol::resp2::encode::extend_encode;
use redis_protocol::resp2::types::{BytesFrame, Resp2Frame};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::build::sentinel::ADMIN_USER;
pub use tls::Tls;

mod tls;

/// How long one Redis has for all that it is asked at a time.
const DEADLINE: Duration = Duration::from_secs(3);

/// Where one of them listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub address: String,
    pub port: u16,
    /// None: it speaks without TLS.
    pub tls: Option<Tls>,
}

/// How the operator comes to each Redis and Sentinel of one PushCluster.
#[derive(Clone, PartialEq, Eq)]
pub struct Admin {
    pub password: String,
    pub tls: Option<Tls>,
}

impl Admin {
    pub fn at(&self, address: &str, port: u16) -> Place {
        Place {
            address: address.to_owned(),
            port,
            tls: self.tls.clone(),
        }
    }
}

/// The password is in no log.
impl std::fmt::Debug for Admin {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Admin").finish_non_exhaustive()
    }
}

#[derive(Debug, thiserror::Error)]
pub enum SpeakError {
    #[error("Redis at {address} did not answer within {seconds} s")]
    Slow { address: String, seconds: u64 },
    #[error("Redis at {address} is not reachable")]
    Unreachable {
        address: String,
        source: std::io::Error,
    },
    #[error("Redis at {address} refused {command}: {reason}")]
    Refused {
        address: String,
        command: String,
        reason: String,
    },
    #[error("Redis at {address} answered {command} with something else")]
    Strange { address: String, command: String },
}

/// Where what is in this container of the pod may run: a container that waits for its start or has ended holds nothing.
pub fn running_at(pod: &Pod, container: &str) -> Option<String> {
    let status = pod.status.as_ref()?;
    let containers = status.container_statuses.iter().flatten();
    let mut found = containers.filter(|status| status.name == container);
    found.find(|container| {
        let state = container.state.as_ref();
        state.is_some_and(|state| state.running.is_some())
    })?;
    status.pod_ip.clone()
}

pub async fn in_time<T>(
    address: &str,
    speaking: impl Future<Output = Result<T, SpeakError>>,
) -> Result<T, SpeakError> {
    within(DEADLINE, address, speaking).await
}

pub async fn within<T>(
    limit: Duration,
    address: &str,
    speaking: impl Future<Output = Result<T, SpeakError>>,
) -> Result<T, SpeakError> {
    let slow = |_| SpeakError::Slow {
        address: address.to_owned(),
        seconds: limit.as_secs(),
    };
    timeout(limit, speaking).await.map_err(slow)?
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection to one of them.
pub struct Speaker<'a> {
    address: &'a str,
    stream: Box<dyn Stream>,
    /// The certificate that the other side showed, in DER; None without TLS.
    pub shown: Option<Vec<u8>>,
    received: BytesMut,
}

impl<'a> Speaker<'a> {
    /// As the admin.
    pub async fn open(place: &'a Place, password: &str) -> Result<Speaker<'a>, SpeakError> {
        let mut speaker = Speaker::connect(place).await?;
        speaker.ask(&["AUTH", ADMIN_USER, password]).await?;
        Ok(speaker)
    }

    /// As nobody yet.
    pub async fn connect(place: &'a Place) -> Result<Speaker<'a>, SpeakError> {
        let Place { address, port, tls } = place;
        let stream = TcpStream::connect((address.as_str(), *port))
            .await
            .map_err(unreachable(address))?;
        let (stream, shown): (Box<dyn Stream>, _) = match tls {
            None => (Box::new(stream), None),
            Some(tls) => {
                let (stream, shown) = tls.handshake(stream).await.map_err(unreachable(address))?;
                (Box::new(stream), shown)
            }
        };
        Ok(Speaker {
            address,
            stream,
            shown,
            received: BytesMut::new(),
        })
    }

    /// The answer as text; what is neither text nor a number is empty.
    pub async fn ask(&mut self, words: &[&str]) -> Result<String, SpeakError> {
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        Ok(match self.send(&words).await? {
            BytesFrame::Integer(number) => number.to_string(),
            frame => frame.as_str().unwrap_or_default().to_owned(),
        })
    }

    pub async fn send(&mut self, words: &[&[u8]]) -> Result<BytesFrame, SpeakError> {
        // Never the words that follow: a password may be among them.
        let known = words
            .iter()
            .take(if matches!(words[0], b"ACL" | b"CLUSTER" | b"SENTINEL") {
                2
            } else {
                1
            });
        let command = known
            .map(|word| String::from_utf8_lossy(word))
            .collect::<Vec<_>>()
            .join(" ");
        let strange = || SpeakError::Strange {
            address: self.address.to_owned(),
            command: command.clone(),
        };
        let word = |word: &&[u8]| BytesFrame::BulkString(word.to_vec().into());
        let asked = BytesFrame::Array(words.iter().map(word).collect());
        let mut sent = BytesMut::new();
        extend_encode(&mut sent, &asked, false).map_err(|_| strange())?;
        let lost = unreachable(self.address);
        self.stream.write_all(&sent).await.map_err(&lost)?;
        self.stream.flush().await.map_err(lost)?;
        loop {
            if let Some((frame, ..)) =
                decode_bytes_mut(&mut self.received).map_err(|_| strange())?
            {
                return match frame {
                    BytesFrame::Error(reason) => Err(SpeakError::Refused {
                        address: self.address.to_owned(),
                        command,
                        reason: reason.to_string(),
                    }),
                    frame => Ok(frame),
                };
            }
            let read = self.stream.read_buf(&mut self.received).await;
            if read.map_err(unreachable(self.address))? == 0 {
                let ended = std::io::ErrorKind::UnexpectedEof.into();
                return Err(unreachable(self.address)(ended));
            }
        }
    }
}

fn unreachable(address: &str) -> impl Fn(std::io::Error) -> SpeakError {
    let address = address.to_owned();
    move |source| SpeakError::Unreachable {
        address: address.clone(),
        source,
    }
}
