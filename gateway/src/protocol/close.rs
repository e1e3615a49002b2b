//! Every way in which a connection ends, with what goes over the wire and what a client should do next:
//! one table, from which the documentation and the metric's labels are made.
//!
//! Codes: RFC 6455 section 7.4.1; 1012 and 1013 from the IANA registry; 3000 from the same, 3008 is ours.

/// Why a connection ends. `pushcluster_connections_closed_total` has one series for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum CloseCode {
    Normal,
    GoingAway,
    Overloaded,
    Protocol,
    Unsupported,
    InvalidUtf8,
    Policy,
    Idle,
    TooBig,
    Internal,
    PingTimeout,
    Drain,
    TryAgainLater,
    Unauthorized,
    Slow,
    /// The socket ended without a close frame. Never sent (RFC 6455 section 7.1.5).
    Abnormal,
}

/// What a well-behaved client does after a close.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reconnect {
    /// Now, or when the `reconnect` message before it said.
    Now,
    /// With exponential backoff and jitter.
    Backoff,
    /// Only with a new token.
    AfterAuth,
    /// The same would happen again.
    Never,
}

/// One row of the table.
#[derive(Debug)]
pub struct CloseRow {
    pub cause: CloseCode,
    /// On the wire.
    pub code: u16,
    /// At most 123 bytes, because a close frame is a control frame (RFC 6455 section 5.5).
    pub reason: &'static str,
    pub reconnect: Reconnect,
    /// The metric's label.
    pub label: &'static str,
    /// For the documentation.
    pub when: &'static str,
}

macro_rules! table {
    ($($cause:ident $code:literal $reason:literal $reconnect:ident $label:literal $when:literal)*) => {
        /// In the order of the enum, so that a cause is its own index.
        pub const TABLE: &[CloseRow] = &[$(CloseRow {
            cause: CloseCode::$cause,
            code: $code,
            reason: $reason,
            reconnect: Reconnect::$reconnect,
            label: $label,
            when: $when,
        }),*];
    };
}

table! {
    Normal 1000 "" Never "normal" "The client closed."
    GoingAway 1001 "Server going away" Now "going_away" "The node ends before its drain was done."
    Overloaded 1001 "Server overloaded" Backoff "overloaded" "Evicted because the node ran short of memory."
    Protocol 1002 "Protocol error" Never "protocol" "A frame broke RFC 6455."
    Unsupported 1003 "Only text is understood" Never "unsupported" "A binary message on a text protocol."
    InvalidUtf8 1007 "Invalid UTF-8" Never "invalid_utf8" "A text message was not UTF-8."
    Policy 1008 "Policy violation" Never "policy" "The client did what it was told not to."
    Idle 1008 "Idle for too long" Never "idle" "Nothing sent and nothing subscribed for the idle limit."
    TooBig 1009 "Message too big" Never "too_big" "A message over the size limit."
    Internal 1011 "Internal error" Backoff "internal" "The node failed."
    PingTimeout 1011 "Ping timeout" Backoff "ping_timeout" "Nothing heard after a ping."
    Drain 1012 "Server restarting" Now "drain" "A planned restart or move; a `reconnect` message came before."
    TryAgainLater 1013 "Try again later" Backoff "try_again_later" "The node takes no more connections."
    Unauthorized 3000 "Unauthorized" AfterAuth "unauthorized" "No token in time, or it expired."
    Slow 3008 "Reads too slowly" Backoff "slow" "More bytes waited for the client than its outbox holds."
    Abnormal 1006 "" Now "abnormal" "The connection broke without a close frame."
}

impl CloseCode {
    #[must_use]
    pub fn row(self) -> &'static CloseRow {
        &TABLE[self as usize]
    }

    /// Whether a close frame with this code may be sent.
    #[must_use]
    pub fn is_sent(self) -> bool {
        self != CloseCode::Abnormal
    }
}

/// Whether a peer may send this code in a close frame (RFC 6455 sections 7.4.1 and 7.4.2, IANA registry).
#[must_use]
pub fn may_be_received(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_cause_is_its_own_index_and_can_be_sent() {
        let mut labels = HashSet::new();
        for (index, row) in TABLE.iter().enumerate() {
            assert_eq!(row.cause as usize, index, "{row:?}");
            assert!(row.reason.len() <= 123, "{row:?}");
            assert_eq!(row.cause.is_sent(), may_be_received(row.code), "{row:?}");
            assert!(labels.insert(row.label), "{row:?}");
        }
        assert_eq!(CloseCode::Abnormal as usize + 1, TABLE.len());
    }

    /// A client sees only code and reason, so these two must decide what it does.
    #[test]
    fn code_and_reason_decide_the_advice() {
        for a in TABLE {
            for b in TABLE {
                let same = (a.code, a.reason) == (b.code, b.reason);
                assert!(!same || a.reconnect == b.reconnect, "{a:?} {b:?}");
                let same_but_1001 = a.code == b.code && a.code != 1001;
                assert!(!same_but_1001 || a.reconnect == b.reconnect, "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn codes_that_a_peer_may_send() {
        for (code, allowed) in [
            (0, false),
            (999, false),
            (1000, true),
            (1003, true),
            (1004, false),
            (1005, false),
            (1006, false),
            (1007, true),
            (1014, true),
            (1015, false),
            (2999, false),
            (3000, true),
            (4999, true),
            (5000, false),
            (u16::MAX, false),
        ] {
            assert_eq!(may_be_received(code), allowed, "{code}");
        }
    }
}
