//! What clients are told of what the broker answered.

use bytes::Bytes;

use crate::broker::{HistoryError, PublishError};
use crate::message::Position;
use crate::metrics::{Metrics, PublishFailure};
use crate::name::ChannelName;
use crate::protocol::native::{ErrorCode, Refusal, Reply, RequestId, encode_refusal, encode_reply};
use crate::registry::ReadError;

/// An error is always told; that all went well, only to who gave the request an `id`.
pub(super) fn published(
    result: Result<Option<Position>, PublishError>,
    id: Option<&RequestId>,
    metrics: &Metrics,
) -> Option<Bytes> {
    let error = match result {
        Ok(_) if id.is_none() => return None,
        Ok(position) => return Some(encode_reply(&Reply::Published { position }, id)),
        Err(error) => error,
    };
    let code = match error {
        PublishError::Unavailable { .. } => ErrorCode::Unavailable,
        PublishError::Unanswered { .. } => ErrorCode::Unanswered,
    };
    metrics.publish_failed(PublishFailure::of(&error));
    metrics.error(code);
    let message = error.to_string();
    Some(encode_refusal(&Refusal { code, message }, id))
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
