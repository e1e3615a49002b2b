//! Every close code that the gateway sends, with what a client should do next: one table, from which the
//! documentation is generated (RFC 6455 section 7.4; 1012 and 1013 from the IANA registry; 3000 to 3999 for libraries).

/// Why a connection ends. The metric `pushcluster_connections_closed_total` has one series for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum CloseCode {
    Normal,
    GoingAway,
    Overloaded,
    Protocol,
    NotText,
    InvalidUtf8,
    Policy,
    TooBig,
    Internal,
    Drain,
    TryAgainLater,
    Unauthorized,
    PingTimeout,
    Idle,
    /// A backend asked for it.
    Disconnected,
    Slow,
    /// The client's socket ended without a close frame; nothing is sent.
    Abnormal,
}

/// What a well-behaved client does after a close.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reconnect {
    /// At once, or after the time that a `reconnect` message named.
    Yes,
    /// With exponential backoff and jitter.
    Backoff,
    /// Only after a new token.
    AfterAuth,
    /// The same would happen again.
    No,
}

pub struct CloseRow {
    pub cause: CloseCode,
    /// On the wire.
    pub code: u16,
    /// At most 123 bytes (RFC 6455 section 5.5).
    pub reason: &'static str,
    pub reconnect: Reconnect,
    /// The metric's label.
    pub label: &'static str,
}

const fn row(
    cause: CloseCode,
    code: u16,
    reason: &'static str,
    reconnect: Reconnect,
    label: &'static str,
) -> CloseRow {
    CloseRow {
        cause,
        code,
        reason,
        reconnect,
        label,
    }
}

/// In the order of the enum, so that a code is its own index.
pub const TABLE: [CloseRow; 17] = {
    use CloseCode as C;
    use Reconnect as R;
    [
        row(C::Normal, 1000, "", R::No, "normal"),
        row(
            C::GoingAway,
            1001,
            "Server going away",
            R::Yes,
            "going_away",
        ),
        row(
            C::Overloaded,
            1001,
            "Server overloaded",
            R::Backoff,
            "overloaded",
        ),
        row(C::Protocol, 1002, "Protocol error", R::No, "protocol"),
        row(
            C::NotText,
            1003,
            "Only text is understood",
            R::No,
            "not_text",
        ),
        row(C::InvalidUtf8, 1007, "Invalid UTF-8", R::No, "invalid_utf8"),
        row(C::Policy, 1008, "Policy violation", R::No, "policy"),
        row(C::TooBig, 1009, "Message too big", R::No, "too_big"),
        row(C::Internal, 1011, "Internal error", R::Backoff, "internal"),
        row(C::Drain, 1012, "Server restarting", R::Yes, "drain"),
        row(
            C::TryAgainLater,
            1013,
            "Try again later",
            R::Backoff,
            "try_again_later",
        ),
        row(
            C::Unauthorized,
            3000,
            "Unauthorized",
            R::AfterAuth,
            "unauthorized",
        ),
        row(C::PingTimeout, 3001, "Ping timeout", R::Yes, "ping_timeout"),
        row(C::Idle, 3002, "Idle for too long", R::No, "idle"),
        row(C::Disconnected, 3004, "Disconnected", R::No, "disconnected"),
        row(C::Slow, 3008, "Reads too slowly", R::Backoff, "slow"),
        row(C::Abnormal, 1006, "", R::Yes, "abnormal"),
    ]
};

impl CloseCode {
    pub fn row(self) -> &'static CloseRow {
        &TABLE[self as usize]
    }

    pub fn code(self) -> u16 {
        self.row().code
    }

    pub fn reason(self) -> &'static str {
        self.row().reason
    }

    pub fn label(self) -> &'static str {
        self.row().label
    }
}

/// Whether a peer may send this code in a close frame (RFC 6455 section 7.4.1 and 7.4.2).
pub fn allowed_on_the_wire(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_has_this_table() {
        let folder = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it for tests");
        let path = format!("{folder}/../docs/native-protocol.md");
        let documented = std::fs::read_to_string(path).unwrap();
        let sent = TABLE.iter().filter(|row| row.cause != CloseCode::Abnormal);
        let table: String = sent
            .map(|row| {
                let reconnect = match row.reconnect {
                    Reconnect::Yes => "at once",
                    Reconnect::Backoff => "with backoff",
                    Reconnect::AfterAuth => "with a new token",
                    Reconnect::No => "no",
                };
                format!("| {} | {} | {reconnect} |\n", row.code, row.reason)
            })
            .collect();
        assert!(
            documented.ends_with(&table),
            "docs/native-protocol.md must end with:\n{table}"
        );
    }

    #[test]
    fn every_code_is_its_own_index() {
        for (index, row) in TABLE.iter().enumerate() {
            assert_eq!(row.cause as usize, index, "{:?}", row.cause);
            assert!(row.reason.len() <= 123, "{:?}", row.cause);
            assert!(
                row.cause == CloseCode::Abnormal || allowed_on_the_wire(row.code),
                "{:?}",
                row.cause
            );
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
            (1016, false),
            (2999, false),
            (3000, true),
            (4999, true),
            (5000, false),
        ] {
            assert_eq!(allowed_on_the_wire(code), allowed, "{code}");
        }
    }
}
