//! When a client comes back, as the table of close codes in docs/native-protocol.md advises. Pure.

use std::time::Duration;

/// Of the first wait without advice, and of every later one; doubled with each failure.
const FIRST: Duration = Duration::from_secs(1);
const MOST: Duration = Duration::from_secs(30);

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
        End::Refused(_) => Next::Stays,
    }
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
}
