//! One gateway that gives clients away: what comes next.

use k8s_openapi::jiff::Timestamp;

use super::{Cause, Gateway, Mark};

/// Seconds from the last EndpointSlice that listed the pod to the first client that is sent away. No object says what the
/// proxies of the nodes do: kube-proxy changes its rules at most once in `minSyncPeriod`, which is 1 s by default. Times
/// are whole seconds here, so two of them are more than one.
pub const PROXIES: i64 = 2;

/// Seconds from the label until the EndpointSlices are waited for no longer. Their controller takes less than one; one that
/// hangs leaves pods in the Service that are gone, and clients find those whatever is done here.
pub const LISTED_AT_MOST: i64 = 15;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Too early, or nobody knows: look again.
    Wait,
    /// No EndpointSlice lists it any more: the proxies are next.
    Unlisted,
    Shed,
    Empty,
    /// The deadline has come, and so many have not gone.
    Late(u64),
}

/// `listed`: whether clients that come back may find this gateway, or another one that is to take nobody. `until`: the
/// deadline.
#[must_use]
pub fn step(
    gateway: &Gateway,
    mark: &Mark,
    listed: bool,
    (until, now): (Timestamp, Timestamp),
) -> Step {
    // One that sends clients away already goes on.
    if gateway.pace.is_none() {
        match mark.unlisted {
            None if listed && now < after(mark.since, LISTED_AT_MOST) => return Step::Wait,
            None => return Step::Unlisted,
            Some(unlisted) if now < after(unlisted, PROXIES) => return Step::Wait,
            Some(_) => {}
        }
    }
    match gateway.clients() {
        Some(clients) if clients <= mark.down_to => Step::Empty,
        // It had none, and nobody can have come.
        None if mark.clients == 0 && !gateway.ready => Step::Empty,
        clients if now >= until => Step::Late(clients.unwrap_or(mark.clients)),
        Some(_) => Step::Shed,
        None => Step::Wait,
    }
}

/// When the last client of this one is gone. All that drain share the budget, so each takes as long as all of them.
#[must_use]
pub fn due(gateways: &[Gateway], mark: &Mark, per_second: u32) -> Timestamp {
    // What one has left that was deleted when it had given its clients away is not counted.
    let counts = |g: &Gateway, mark: &Mark| !g.ending || mark.cause == Cause::Ended;
    let marks = gateways.iter().filter_map(|g| Some((g, g.mark?)));
    let marks = marks.filter(|(gateway, mark)| counts(gateway, mark));
    let leaving: u64 = marks.map(|(_, mark)| mark.leaving()).sum();
    let seconds = leaving.div_ceil(u64::from(per_second.max(1)));
    let unlisted = mark.unlisted.unwrap_or(mark.since);
    after(unlisted, PROXIES.saturating_add_unsigned(seconds))
}

/// `seconds` later; the end of all time is one, too.
#[must_use]
pub fn after(time: Timestamp, seconds: i64) -> Timestamp {
    let second = time.as_second().saturating_add(seconds);
    Timestamp::from_second(second).unwrap_or(Timestamp::MAX)
}

impl Mark {
    /// Clients that are to go.
    #[must_use]
    pub fn leaving(&self) -> u64 {
        self.clients.saturating_sub(self.down_to)
    }
}

impl Cause {
    /// As in an annotation.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::ScaleIn => "scale-in",
            Cause::Rebalance => "rebalance",
            Cause::Rollout => "rollout",
            Cause::Ended => "ended",
        }
    }

    #[must_use]
    pub fn of(text: &str) -> Option<Cause> {
        let all = [
            Cause::ScaleIn,
            Cause::Rebalance,
            Cause::Rollout,
            Cause::Ended,
        ];
        all.into_iter().find(|cause| cause.as_str() == text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scaling::fixture::{at, leaving, mark, marked, silent};

    #[test]
    fn nobody_is_sent_away_while_who_comes_back_may_come_here() {
        let before = Mark {
            unlisted: None,
            ..mark()
        };
        let since = |second| Mark {
            unlisted: Some(at(second)),
            ..mark()
        };
        let listed = true;
        for (gateway, mark, listed, second, expected) in [
            (marked("a", 60), before, listed, 0, Step::Wait),
            (marked("a", 0), before, listed, 14, Step::Wait),
            // Nobody else waits for a controller that hangs.
            (marked("a", 60), before, listed, 15, Step::Unlisted),
            (marked("a", 60), before, !listed, 0, Step::Unlisted),
            (marked("a", 60), since(3), !listed, 4, Step::Wait),
            (marked("a", 60), since(3), !listed, 5, Step::Shed),
            // Seen once is seen: another one is about to go.
            (marked("a", 60), since(3), listed, 5, Step::Shed),
            // Of an operator that did not look.
            (leaving("a", 1, 10), before, listed, 5, Step::Shed),
        ] {
            let found = step(&gateway, &mark, listed, (at(38), at(second)));
            assert_eq!(found, expected, "{gateway:?} at {second}");
        }
    }

    #[test]
    fn it_sheds_until_it_is_empty_or_late() {
        let unanswered = |ready| silent("a", ready);
        let had_none = Mark {
            clients: 0,
            ..mark()
        };
        let down_to = Mark {
            down_to: 20,
            ..mark()
        };
        for (gateway, mark, second, expected) in [
            (marked("a", 60), mark(), 0, Step::Wait),
            (marked("a", 0), mark(), 1, Step::Wait),
            (marked("a", 60), mark(), 2, Step::Shed),
            (leaving("a", 1, 10), mark(), 37, Step::Shed),
            (leaving("a", 0, 10), mark(), 8, Step::Empty),
            (leaving("a", 3, 10), mark(), 38, Step::Late(3)),
            (leaving("a", 0, 10), mark(), 38, Step::Empty),
            (leaving("a", 20, 10), down_to, 8, Step::Empty),
            (leaving("a", 21, 10), down_to, 8, Step::Shed),
            // It may only be busy.
            (unanswered(false), mark(), 20, Step::Wait),
            (unanswered(false), mark(), 38, Step::Late(60)),
            (unanswered(false), had_none, 2, Step::Empty),
            (unanswered(true), had_none, 2, Step::Wait),
        ] {
            let found = step(&gateway, &mark, false, (at(38), at(second)));
            assert_eq!(found, expected, "{gateway:?} at {second}");
        }
    }

    #[test]
    fn who_shares_the_budget_is_done_together() {
        let alone = [leaving("a", 5, 10)];
        assert_eq!(due(&alone, &mark(), 10), at(8));
        let two = [leaving("a", 5, 10), leaving("b", 60, 10)];
        assert_eq!(due(&two, &mark(), 10), at(14));
        assert_eq!(due(&two, &mark(), 7), at(20));
    }
}
