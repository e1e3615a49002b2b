//! The operator's own autoscaler (`spec.autoscaling.mode: Builtin`). Pure: what was counted, what was decided before and the
//! time in, the size and why out.
//!
//! It decides as a HorizontalPodAutoscaler with an `Object` metric and a target of type `AverageValue` does
//! (`pkg/controller/podautoscaler/horizontal.go` and `replica_calculator.go` of Kubernetes 1.33), whose names are in the
//! comments. What differs errs towards more gateways: after a time without numbers the window of scaling down begins anew.

use k8s_openapi::jiff::Timestamp;

pub mod history;
pub mod mode;
pub mod rules;
pub mod schedule;

pub use history::History;
pub use rules::{Buffer, Direction, Rules};

/// How often a size is decided, as by the controller manager (`--horizontal-pod-autoscaler-sync-period`).
pub const PERIOD_SECONDS: i64 = 15;
/// A ratio of clients to what the gateways aim at that is within so many percent of one changes nothing
/// (`--horizontal-pod-autoscaler-tolerance`).
const TOLERANCE_PERCENT: u64 = 10;

/// What there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    pub now: Timestamp,
    /// `spec.replicas`.
    pub wished: u32,
    /// Gateways that there are, which may be more or fewer while some come or go.
    pub there: u32,
    /// On all of them, also on those that give theirs away. None: not all of them told.
    pub clients: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// `spec.replicas` from now on.
    pub size: u32,
    pub why: Why,
}

/// What decided the size, last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// A size of zero is a person's wish, and stays.
    AtZero,
    /// It was below the least that is wanted now, or above the most.
    OutOfBounds,
    /// Not all gateways told, so it stays.
    Unknown,
    /// As many as the clients need.
    Clients,
    /// The clients need fewer, and needed more a moment ago, or the other way round.
    Stabilised,
    /// The clients need another size, and it is too soon after a change for fewer gateways.
    CoolingDown,
    /// On the way to what the clients need, as fast as `behavior` lets it.
    Limited,
}

/// The next size. What the clients need now is remembered in `history` for the decisions to come; a change of the size is
/// not, before it is made ([`History::changed`]).
pub fn decide(rules: &Rules, history: &mut History, look: &Look) -> Decision {
    let stays = |why| Decision {
        size: look.wished,
        why,
    };
    if look.wished == 0 {
        return stays(Why::AtZero);
    }
    let least = rules.least_at(look.now);
    if look.wished > rules.most || look.wished < least {
        return Decision {
            size: look.wished.clamp(least, rules.most),
            why: Why::OutOfBounds,
        };
    }
    let Some(clients) = look.clients else {
        return stays(Why::Unknown);
    };
    history.resume(look);
    let needed = rules.needed(clients, look.there);
    let stable = history.stabilised(rules, look, needed);
    history.recommended(look.now, needed);
    let bounded = stable.clamp(least, rules.most);
    let limited = history.limited(rules, look, bounded);
    let why = match limited {
        _ if limited < look.wished && history.cools_down(rules, look.now) => {
            return stays(Why::CoolingDown);
        }
        _ if limited != bounded => Why::Limited,
        _ if stable != needed => Why::Stabilised,
        _ => Why::Clients,
    };
    Decision { size: limited, why }
}

impl Rules {
    /// `GetObjectPerPodMetricReplicas`: as many as there are while that is nearly right, otherwise as many as reach for these
    /// clients and the room that is kept for others.
    #[must_use]
    pub fn needed(&self, clients: u64, there: u32) -> u32 {
        let wanted = self.with_buffer(clients);
        let aimed = self.target.saturating_mul(there.into());
        // On the very edge as its floating-point numbers have it: 0.9 is within 0.1 of one, and 1.1 is not.
        let wanted_percent = wanted.saturating_mul(100);
        let within = wanted_percent >= aimed.saturating_mul(100 - TOLERANCE_PERCENT)
            && wanted_percent < aimed.saturating_mul(100 + TOLERANCE_PERCENT);
        if within && there > 0 {
            return there;
        }
        u32::try_from(wanted.div_ceil(self.target)).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests;
