//! One batch of calls on one connection.

use std::time::Instant;

use bytes::BytesMut;
use redis_protocol::resp2::types::BytesFrame;
use tokio::io::AsyncWriteExt;

use super::super::connect::{Connection, ConnectionError};
use super::{Call, Failure};

/// What is left when every call of a batch has its answer.
pub(super) struct Ended {
    /// The connection, for the next batch, or why there is none any more.
    pub(super) connection: Result<Connection, String>,
    /// Not carried out, because another node has the slot or parts of it. In the order in which they were sent.
    pub(super) elsewhere: Vec<Call>,
}

/// What Redis answered to one call.
enum Verdict {
    Answer,
    Elsewhere,
    /// Not carried out; `demoted`: and nothing else will be, on this node.
    Refused {
        demoted: bool,
    },
}

/// Sends the batch and answers every call of it, by the deadline of its oldest one.
pub(super) async fn run(mut connection: Connection, batch: Vec<Call>) -> Ended {
    let Some(deadline) = batch.first().map(|call| call.deadline) else {
        return Ended {
            connection: Ok(connection),
            elsewhere: Vec::new(),
        };
    };
    let mut left = batch.into_iter();
    let mut elsewhere = Vec::new();
    let mut demoted = None;
    let talk = async {
        let mut output = BytesMut::new();
        for call in left.as_slice() {
            output.extend_from_slice(&call.command);
        }
        connection.socket.write_all(&output).await?;
        connection.socket.flush().await?;
        while !left.as_slice().is_empty() {
            let frame = connection.frame().await?;
            let Some(call) = left.next() else { break };
            match verdict(&frame) {
                Verdict::Answer => call.finish(Ok(frame)),
                Verdict::Elsewhere => elsewhere.push(call),
                Verdict::Refused { demoted: end } => {
                    let why = reason(&frame);
                    if end {
                        demoted = Some(why.clone());
                    }
                    call.finish(Err(Failure::Refused(why)));
                }
            }
        }
        Ok::<(), ConnectionError>(())
    };
    let until = tokio::time::Instant::from_std(deadline.max(Instant::now()));
    let end = match tokio::time::timeout_at(until, talk).await {
        Ok(Ok(())) => demoted,
        Ok(Err(e)) => Some(e.to_string()),
        // What comes later would be taken for the answers of the next batch.
        Err(_) => Some("did not answer in time".to_owned()),
    };
    for call in left {
        call.finish(Err(Failure::Unanswered));
    }
    Ended {
        connection: end.map_or(Ok(connection), Err),
        elsewhere,
    }
}

fn verdict(frame: &BytesFrame) -> Verdict {
    let BytesFrame::Error(reason) = frame else {
        return Verdict::Answer;
    };
    match reason.split(' ').next() {
        Some("MOVED" | "ASK" | "TRYAGAIN") => Verdict::Elsewhere,
        Some("READONLY" | "CLUSTERDOWN" | "MASTERDOWN") => Verdict::Refused { demoted: true },
        // Redis itself said no (NOPERM, OOM, LOADING, …), and passed nothing on.
        _ => Verdict::Refused { demoted: false },
    }
}

fn reason(frame: &BytesFrame) -> String {
    match frame {
        BytesFrame::Error(reason) => reason.to_string(),
        _ => String::new(),
    }
}
