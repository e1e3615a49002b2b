//! What was needed and what was changed, for as long as a decision may depend on it.

use std::collections::VecDeque;

use crds::{ScalingPolicy, ScalingUnit, SelectPolicy};
use k8s_openapi::jiff::Timestamp;

use super::rules::{Direction, Rules};
use super::{Look, PERIOD_SECONDS};

/// Longest window, and longest period of a policy, that a manifest may have (`ScalingRules`, `ScalingPolicy`).
const LONGEST_SECONDS: i64 = 3_600;
/// Several missed decisions in a row: what clients needed meanwhile is not known.
const GAP_SECONDS: i64 = 6 * PERIOD_SECONDS;

/// In the leader's memory only. One that knows nothing believes that the size it finds was needed until then, so a new leader
/// scales down after a full window, and never sooner than the old one.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// In order of time; at most one for each look of the last hour.
    needed: VecDeque<(Timestamp, u32)>,
    /// Gateways more or fewer, in order of time.
    changes: VecDeque<(Timestamp, i64)>,
    /// Of the last change, or when this began.
    changed: Option<Timestamp>,
}

impl History {
    /// Whether a decision is due.
    #[must_use]
    pub fn is_due(&self, now: Timestamp) -> bool {
        let last = self.needed.back();
        last.is_none_or(|(at, _)| !is_within(*at, now, PERIOD_SECONDS))
    }

    /// The size was changed by a decision.
    pub fn changed(&mut self, now: Timestamp, from: u32, to: u32) {
        self.changes
            .push_back((now, i64::from(to) - i64::from(from)));
        self.changed = Some(now);
    }

    /// `recordInitialRecommendation`, and the same after a gap.
    pub(super) fn resume(&mut self, look: &Look) {
        let last = self.needed.back();
        if last.is_none_or(|(at, _)| !is_within(*at, look.now, GAP_SECONDS)) {
            self.needed.push_back((look.now, look.wished));
        }
        self.changed.get_or_insert(look.now);
        let now = look.now;
        let recent = |at: Timestamp| is_within(at, now, LONGEST_SECONDS);
        self.needed.retain(|(at, _)| recent(*at));
        self.changes.retain(|(at, _)| recent(*at));
    }

    pub(super) fn recommended(&mut self, now: Timestamp, needed: u32) {
        self.needed.push_back((now, needed));
    }

    /// `stabilizeRecommendationWithBehaviors`: within each direction's window the most careful counts.
    pub(super) fn stabilised(&self, rules: &Rules, look: &Look, needed: u32) -> u32 {
        let within = |seconds: i64| {
            let recent = move |(at, _): &&(Timestamp, u32)| is_within(*at, look.now, seconds);
            self.needed.iter().filter(recent).map(|(_, needed)| *needed)
        };
        let up = within(rules.up.window_seconds).fold(needed, u32::min);
        let down = within(rules.down.window_seconds).fold(needed, u32::max);
        look.wished.max(up).min(down)
    }

    /// `convertDesiredReplicasWithBehaviorRate`.
    pub(super) fn limited(&self, rules: &Rules, look: &Look, size: u32) -> u32 {
        let (now, wished) = (look.now, i64::from(look.wished));
        let limit = |limit: i64| u32::try_from(limit.max(0)).unwrap_or(u32::MAX);
        if size > look.wished {
            let up = |policy: &ScalingPolicy| {
                let (begun, value) = (self.begun(policy, now, wished), i64::from(policy.value));
                match policy.type_ {
                    ScalingUnit::Pods => begun + value,
                    ScalingUnit::Percent => (begun * (100 + value) + 99).div_euclid(100),
                }
            };
            let most = selected(&rules.up, up, [i64::max, i64::min]);
            size.min(limit(most.unwrap_or(wished).max(wished)))
        } else {
            let down = |policy: &ScalingPolicy| {
                let (begun, value) = (self.begun(policy, now, wished), i64::from(policy.value));
                match policy.type_ {
                    ScalingUnit::Pods => begun - value,
                    // Rounded towards zero, as there.
                    ScalingUnit::Percent => begun * (100 - value) / 100,
                }
            };
            let fewest = selected(&rules.down, down, [i64::min, i64::max]);
            size.max(limit(fewest.unwrap_or(wished).min(wished)))
        }
    }

    /// The size at the beginning of a policy's period.
    fn begun(&self, policy: &ScalingPolicy, now: Timestamp, wished: i64) -> i64 {
        let seconds = policy.period_seconds.into();
        let recent = self
            .changes
            .iter()
            .filter(|(at, _)| is_within(*at, now, seconds));
        wished - recent.map(|(_, change)| change).sum::<i64>()
    }

    pub(super) fn cools_down(&self, rules: &Rules, now: Timestamp) -> bool {
        self.changed
            .is_some_and(|at| is_within(at, now, rules.cool_down_seconds))
    }
}

/// None: never in this direction. `[max, min]`: what these mean for the change.
fn selected(
    direction: &Direction,
    limit: impl Fn(&ScalingPolicy) -> i64,
    [most, least]: [fn(i64, i64) -> i64; 2],
) -> Option<i64> {
    let limits = direction.policies.iter().map(limit);
    match direction.select {
        SelectPolicy::Disabled => None,
        SelectPolicy::Max => limits.reduce(most),
        SelectPolicy::Min => limits.reduce(least),
    }
}

/// Also of a time that is still to come: the clock was set back.
fn is_within(at: Timestamp, now: Timestamp, seconds: i64) -> bool {
    now.as_second() - at.as_second() < seconds
}
