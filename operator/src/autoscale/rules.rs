//! What the manifest says, with everything in it that it leaves out.

use crds::{
    AutoscalingSpec, BehaviorSpec, BufferSpec, ScalingPolicy, ScalingRules, ScalingUnit,
    SelectPolicy,
};
use k8s_openapi::jiff::Timestamp;

use super::schedule::Window;

/// `spec.autoscaling`.
#[derive(Debug, Clone)]
pub struct Rules {
    pub least: u32,
    pub most: u32,
    /// Clients for each gateway; at least one.
    pub target: u64,
    pub buffer: Buffer,
    pub schedule: Vec<Window>,
    pub cool_down_seconds: i64,
    pub up: Direction,
    pub down: Direction,
}

/// Room for clients that are not there yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Buffer {
    #[default]
    None,
    Connections(u64),
    /// Of what the gateways aim at; below 100.
    Percent(u64),
}

/// `HPAScalingRules`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Direction {
    pub window_seconds: i64,
    pub select: SelectPolicy,
    pub policies: Vec<ScalingPolicy>,
}

impl Rules {
    /// `target`: clients for each gateway.
    #[must_use]
    pub fn new(spec: &AutoscalingSpec, target: u64, schedule: Vec<Window>) -> Rules {
        let BehaviorSpec {
            scale_up,
            scale_down,
        } = spec.behavior.clone().unwrap_or_default();
        Rules {
            least: positive(spec.min_replicas),
            most: positive(spec.max_replicas),
            target: target.max(1),
            buffer: Buffer::of(spec.buffer.as_ref()),
            schedule,
            cool_down_seconds: spec.cool_down_seconds.unwrap_or(0).into(),
            up: Direction::up(scale_up.unwrap_or_default()),
            down: Direction::down(scale_down.unwrap_or_default()),
        }
    }

    /// The least that is wanted now; never above the most.
    #[must_use]
    pub fn least_at(&self, now: Timestamp) -> u32 {
        let open = self.schedule.iter().filter(|window| window.is_open(now));
        let scheduled = open.map(|window| window.least).max().unwrap_or(0);
        self.least.max(scheduled).min(self.most)
    }

    pub(super) fn with_buffer(&self, clients: u64) -> u64 {
        match self.buffer {
            Buffer::None => clients,
            Buffer::Connections(more) => clients.saturating_add(more),
            Buffer::Percent(free) => {
                let used = 100 - free.min(99);
                clients.saturating_mul(100).div_ceil(used)
            }
        }
    }
}

impl Buffer {
    fn of(spec: Option<&BufferSpec>) -> Buffer {
        let number = |number: Option<i32>| number.and_then(|number| u64::try_from(number).ok());
        match spec {
            Some(spec) => number(spec.connections)
                .map(Buffer::Connections)
                .or(number(spec.percent).map(Buffer::Percent))
                .unwrap_or_default(),
            None => Buffer::None,
        }
    }
}

/// The defaults are those of `autoscaling/v2` (`GenerateHPAScaleUpRules`, `GenerateHPAScaleDownRules`), and five minutes
/// (`--horizontal-pod-autoscaler-downscale-stabilization`).
impl Direction {
    fn up(rules: ScalingRules) -> Direction {
        let pods = policy(ScalingUnit::Pods, 4);
        Direction::of(rules, 0, vec![pods, policy(ScalingUnit::Percent, 100)])
    }

    fn down(rules: ScalingRules) -> Direction {
        Direction::of(rules, 300, vec![policy(ScalingUnit::Percent, 100)])
    }

    fn of(rules: ScalingRules, window_seconds: i32, policies: Vec<ScalingPolicy>) -> Direction {
        let window = rules.stabilization_window_seconds;
        Direction {
            window_seconds: window.unwrap_or(window_seconds).into(),
            select: rules.select_policy.unwrap_or(SelectPolicy::Max),
            policies: rules.policies.unwrap_or(policies),
        }
    }
}

fn policy(type_: ScalingUnit, value: i32) -> ScalingPolicy {
    ScalingPolicy {
        type_,
        value,
        period_seconds: 15,
    }
}

fn positive(number: i32) -> u32 {
    u32::try_from(number).unwrap_or(0).max(1)
}
