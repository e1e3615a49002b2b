//! When a client comes back, as the table of close codes in docs/native-protocol.md advises. Pure.

use std::time::Duration;

/// Of the first wait without advice, and of every later one; doubled with each failure.
const FIRST: Duration = Duration::from_secs(1);
const MOST: Duration = Duration::from_secs(30);

/// `reconnectionDelay` and `reconnectionDelayMax` of socket.io-client 4, in milliseconds, and its `randomizationFactor`.
/// <https://socket.io/docs/v4/client-options/>
const SOCKETIO_FIRST_MS: f64 = 1_000.0;
const SOCKETIO_MOST_MS: f64 = 5_000.0;
const SOCKETIO_JITTER: f64 = 0.5;

/// How a connection ended, or did not begin.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// A close frame, or the `close` of an event stream.
    Closed { code: u16, reason: String },
    /// The stream ended or broke without one.
    Cut,
    /// Nothing was heard for two intervals of pings.
    Silent,
    /// The answer to the handshake was another status.
    Refused(u16),
    /// No connection, or no answer in time.
    Unreachable,
    /// A request was refused with this code.
    Error(String),
    /// It said what the protocol does not know.
    Strange,
    /// Socket.IO's DISCONNECT.
    Disconnected,
    /// Socket.IO's `CONNECT_ERROR`, and why.
    Denied(String),
}

impl End {
    /// The key in records: the close code, or what came instead of one.
    pub fn label(&self) -> String {
        match self {
            End::Closed { code, .. } => code.to_string(),
            End::Cut => "cut".to_owned(),
            End::Silent => "silent".to_owned(),
            End::Refused(status) => format!("http {status}"),
            End::Unreachable => "unreachable".to_owned(),
            End::Error(code) => format!("error {code}"),
            End::Strange => "strange".to_owned(),
            End::Disconnected => "disconnect".to_owned(),
            End::Denied(_) => "connect error".to_owned(),
        }
    }
}

/// What a client does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// After so long.
    Comes(Duration),
    /// The same would happen again.
    Stays,
}

/// `advice`: what is left of the time that a `reconnect` message named, if one came. `failures`: attempts in a row that
/// did not lead to a `welcome`. `chance`: from 0 to 1, another one each time.
pub fn next(end: &End, advice: Option<Duration>, failures: u32, chance: f64) -> Next {
    let backoff = || Next::Comes(spread(failures, chance));
    let at_once = || advice.map_or_else(|| Next::Comes(Duration::ZERO), Next::Comes);
    match end {
        End::Closed { code, reason } => match (code, reason.as_str()) {
            (1001, "Server overloaded") | (1011 | 1013 | 3008, _) => backoff(),
            (1001 | 1012 | 3001, _) => at_once(),
            // It has no other token, and the rest is its own mistake.
            (1000 | 1002 | 1003 | 1007 | 1008 | 1009 | 3000 | 3002 | 3004, _) => Next::Stays,
            _ => backoff(),
        },
        // Advice outlives the socket it came on.
        End::Cut | End::Silent => advice.map_or_else(backoff, Next::Comes),
        End::Refused(429 | 500..) | End::Unreachable | End::Error(_) | End::Strange => backoff(),
        End::Refused(_) | End::Disconnected | End::Denied(_) => Next::Stays,
    }
}

/// The same for Socket.IO, whose client knows neither close codes nor advice: it stays away where the server has said no in
/// words of Socket.IO, and comes back from all else, however the handshake was refused. `waits`: before this one, since a
/// connection was open.
pub fn next_of_socketio(end: &End, waits: u32, chance: f64) -> Next {
    match end {
        End::Disconnected | End::Denied(_) => Next::Stays,
        _ => Next::Comes(socketio_wait(waits, chance)),
    }
}

/// As its backo2: doubled each time, off by up to half of it; whether less or more the first digit of the chance decides.
fn socketio_wait(waits: u32, chance: f64) -> Duration {
    let base = SOCKETIO_FIRST_MS * f64::from(1 << waits.min(8));
    let off = (chance * SOCKETIO_JITTER * base).floor();
    let is_less = (chance * 10.0).floor() % 2.0 == 0.0;
    let wait = if is_less { base - off } else { base + off };
    Duration::from_secs_f64(wait.min(SOCKETIO_MOST_MS) / 1_000.0)
}

/// Full jitter: anything from nothing to the doubled wait, so that those who were cut off together do not come together.
/// <https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>
fn spread(failures: u32, chance: f64) -> Duration {
    let most = FIRST.saturating_mul(1 << failures.min(8)).min(MOST);
    most.mul_f64(chance.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed(code: u16, reason: &str) -> End {
        End::Closed {
            code,
            reason: reason.to_owned(),
        }
    }

    #[test]
    fn the_table_of_close_codes_is_followed() {
        let table = include_str!("../../../docs/native-protocol.md");
        let advice = Some(Duration::from_millis(700));
        let backoff = Next::Comes(Duration::from_secs(2));
        let mut rows = 0;
        for line in table.lines().filter(|line| line.starts_with("| ")) {
            let cells: Vec<_> = line.split('|').map(str::trim).collect();
            let (Ok(code), [_, _, reason, does, _]) = (cells[1].parse(), &cells[..]) else {
                continue;
            };
            let expected = match *does {
                "at once" => Next::Comes(Duration::from_millis(700)),
                "with backoff" => backoff,
                "no" | "with a new token" => Next::Stays,
                other => panic!("{other} is new in the table"),
            };
            assert_eq!(
                next(&closed(code, reason), advice, 2, 0.5),
                expected,
                "{line}"
            );
            rows += 1;
        }
        assert!(rows > 10, "the table was not found");
    }

    #[test]
    fn what_has_no_code_waits_longer_each_time() {
        let ms = |ms| Next::Comes(Duration::from_millis(ms));
        for (end, failures, chance, expected) in [
            (End::Cut, 0, 0.0, ms(0)),
            (End::Cut, 0, 1.0, ms(1_000)),
            (End::Silent, 1, 0.5, ms(1_000)),
            (End::Unreachable, 3, 0.25, ms(2_000)),
            (End::Unreachable, 4_000, 1.0, ms(30_000)),
            (End::Refused(503), 0, 0.5, ms(500)),
            (End::Refused(429), 0, 0.5, ms(500)),
            (End::Refused(401), 0, 0.5, Next::Stays),
            (End::Strange, 0, 0.5, ms(500)),
            (closed(4_999, ""), 0, 0.5, ms(500)),
            (closed(1012, ""), 3, 0.5, ms(0)),
        ] {
            assert_eq!(next(&end, None, failures, chance), expected, "{end:?}");
        }
        let advice = Some(Duration::from_secs(3));
        assert_eq!(next(&End::Cut, advice, 0, 0.5), ms(3_000));
        assert_eq!(next(&End::Unreachable, advice, 0, 0.5), ms(500));
    }

    #[test]
    fn socketio_comes_back_from_all_that_is_no_word_of_it() {
        let ms = |ms| Next::Comes(Duration::from_millis(ms));
        for (end, waits, chance, expected) in [
            (closed(1000, ""), 0, 0.0, ms(1_000)),
            (End::Cut, 0, 0.05, ms(975)),
            (End::Cut, 0, 0.1, ms(1_050)),
            (End::Silent, 0, 0.875, ms(563)),
            (End::Silent, 0, 0.999, ms(1_499)),
            (End::Unreachable, 1, 0.25, ms(1_750)),
            (End::Unreachable, 1, 0.75, ms(2_750)),
            (End::Refused(401), 2, 0.5, ms(5_000)),
            (End::Refused(503), 2, 0.875, ms(2_250)),
            (End::Strange, 3, 0.875, ms(4_500)),
            (End::Strange, 4_000, 0.0, ms(5_000)),
            (End::Disconnected, 0, 0.0, Next::Stays),
            (End::Denied(String::new()), 0, 0.0, Next::Stays),
        ] {
            let found = next_of_socketio(&end, waits, chance);
            assert_eq!(found, expected, "{end:?} {waits} {chance}");
        }
        // From half to one and a half of what is doubled each time; both are nearly reached.
        for (waits, least, most) in [
            (0, 500, 1_500),
            (1, 1_000, 3_000),
            (2, 2_000, 5_000),
            (3, 4_000, 5_000),
            (4, 5_000, 5_000),
        ] {
            let all = (0..1_000u32).map(|n| socketio_wait(waits, f64::from(n) / 1_000.0));
            let all: Vec<_> = all.collect();
            let (low, high) = (all.iter().min().unwrap(), all.iter().max().unwrap());
            let nearly = Duration::from_millis(least / 8);
            let (least, most) = (Duration::from_millis(least), Duration::from_millis(most));
            assert!(*low >= least && *low <= least + nearly, "{waits}: {low:?}");
            assert!(*high <= most && *high + nearly >= most, "{waits}: {high:?}");
        }
    }
}
