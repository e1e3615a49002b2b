//! Whether a Redis that the operator does not run is there at all.

use std::time::Duration;

use crds::ExternalRedis;
use futures::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long it has to answer.
const DEADLINE: Duration = Duration::from_secs(3);

/// Of several Sentinels or nodes one is enough. The error is about the first.
pub async fn ask(redis: &ExternalRedis) -> Result<(), String> {
    let addresses = redis.addresses();
    let tls = redis.tls.is_some();
    let answers = join_all(addresses.iter().map(|address| ask_one(address, tls))).await;
    let mut first = Err("spec.redis.external names no address".to_owned());
    for answer in answers.into_iter().rev() {
        if answer.is_ok() {
            return answer;
        }
        first = answer;
    }
    first
}

/// It need not let us in: an answer that asks for a password is an answer. Of any other answer nothing is repeated:
/// whoever may write a PushCluster must not read, through its status, what services say that only the operator can
/// reach. Of one with TLS only that somebody listens is asked: gateways have the certificates.
async fn ask_one(address: &str, tls: bool) -> Result<(), String> {
    let talk = async {
        let mut socket = TcpStream::connect(address).await?;
        if tls {
            return Ok(true);
        }
        socket.write_all(b"PING\r\n").await?;
        let mut answer = [0; 64];
        let count = socket.read(&mut answer).await?;
        let answer = &answer[..count];
        Ok::<_, std::io::Error>(answer.starts_with(b"+PONG") || answer.starts_with(b"-NOAUTH"))
    };
    match tokio::time::timeout(DEADLINE, talk).await {
        Err(_) => Err(format!(
            "Redis {address} did not answer within {} s",
            DEADLINE.as_secs()
        )),
        Ok(Err(error)) => Err(format!("Redis {address} is not reachable: {error}")),
        Ok(Ok(true)) => Ok(()),
        Ok(Ok(false)) => Err(format!("{address} does not answer like a Redis")),
    }
}
