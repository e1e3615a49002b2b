//! What clients are told of what the broker answered.

use bytes::Bytes;

use crate::broker::{HistoryError, Outcome, PublishError};
use crate::metrics::{Metrics, PublishFailure};
use crate::name::ChannelName;
use crate::protocol::native::{ErrorCode, Refusal, RequestId, append_published, encode_refusal};
use crate::registry::ReadError;

/// Appends the frame. An error is always told; that all went well, only to who gave the request an `id`.
pub(super) fn published(
    outcome: Outcome,
    channel: ChannelName,
    id: Option<&RequestId>,
    metrics: &Metrics,
) -> Option<impl FnOnce(&mut Vec<u8>)> {
    let said = match outcome {
        Ok(position) => Ok((position, id?)),
        Err(why) => Err(why.of(channel)),
    };
    if let Err(error) = &said {
        metrics.publish_failed(PublishFailure::of(error));
        metrics.error(code_of(error));
    }
    Some(move |out: &mut Vec<u8>| match said {
        Ok((position, id)) => append_published(position, id, out),
        Err(error) => {
            let refusal = Refusal {
                code: code_of(&error),
                message: error.to_string(),
            };
            out.extend_from_slice(&encode_refusal(&refusal, id));
        }
    })
}

fn code_of(error: &PublishError) -> ErrorCode {
    match error {
        PublishError::Unavailable { .. } => ErrorCode::Unavailable,
        PublishError::Unanswered { .. } => ErrorCode::Unanswered,
    }
}

/// The client is told without the cause, which may name hosts.
pub(super) fn unread(channel: &ChannelName, error: &HistoryError) -> Refusal {
    // Whoever asks again and again would fill the log; the broker says there what is wrong with it.
    tracing::debug!("{error}");
    Refusal {
        code: ErrorCode::Unavailable,
        message: format!(
            "history of {channel} not read: the broker is not reachable; try again later"
        ),
    }
}

pub(super) fn not_listed(
    channel: &ChannelName,
    error: &ReadError,
    id: Option<&RequestId>,
) -> Bytes {
    tracing::warn!("{error}");
    let refusal = Refusal {
        code: ErrorCode::Unavailable,
        message: format!(
            "presence of {channel} not read: the broker is not reachable; try again later"
        ),
    };
    encode_refusal(&refusal, id)
}
