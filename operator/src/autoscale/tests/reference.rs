//! The HorizontalPodAutoscaler's own arithmetic, in its own steps and numbers: `reconcileAutoscaler` and what it calls, with one
//! `Object` metric and a target of type `AverageValue` (Kubernetes 1.33, `pkg/controller/podautoscaler`).

use crds::{ScalingPolicy, ScalingUnit, SelectPolicy};

use super::super::rules::{Direction, Rules};

const TOLERANCE: f64 = 0.1;

pub struct Autoscaler {
    least: i64,
    most: i64,
    target: f64,
    up: Direction,
    down: Direction,
    current: i64,
    recommendations: Vec<(i64, i64)>,
    ups: Vec<(i64, i64)>,
    downs: Vec<(i64, i64)>,
}

impl Autoscaler {
    #[expect(
        clippy::cast_precision_loss,
        reason = "as in Go; tests have small numbers"
    )]
    pub fn new(rules: &Rules, current: u32) -> Autoscaler {
        Autoscaler {
            least: rules.least.into(),
            most: rules.most.into(),
            target: rules.target as f64,
            up: rules.up.clone(),
            down: rules.down.clone(),
            current: current.into(),
            recommendations: Vec::new(),
            ups: Vec::new(),
            downs: Vec::new(),
        }
    }

    pub fn look(&mut self, now: i64, clients: u64, there: u32) -> u32 {
        let desired = if self.current > self.most {
            self.most
        } else if self.current < self.least {
            self.least
        } else {
            let proposed = self.proposed(clients, there);
            if self.recommendations.is_empty() {
                self.recommendations.push((now, self.current));
            }
            let stabilised = self.stabilised(now, proposed);
            self.rated(now, stabilised)
        };
        match desired - self.current {
            change if change > 0 => self.ups.push((now, change)),
            change if change < 0 => self.downs.push((now, -change)),
            _ => {}
        }
        self.current = desired;
        u32::try_from(desired).unwrap()
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "as in Go; tests have small numbers"
    )]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "as in Go; tests have small numbers"
    )]
    fn proposed(&self, clients: u64, there: u32) -> i64 {
        let ratio = clients as f64 / (self.target * f64::from(there));
        if (1.0 - ratio).abs() <= TOLERANCE {
            return there.into();
        }
        (clients as f64 / self.target).ceil() as i64
    }

    fn stabilised(&mut self, now: i64, desired: i64) -> i64 {
        let (mut up, mut down) = (desired, desired);
        for (at, recommendation) in &self.recommendations {
            if *at > now - self.up.window_seconds {
                up = up.min(*recommendation);
            }
            if *at > now - self.down.window_seconds {
                down = down.max(*recommendation);
            }
        }
        self.recommendations.push((now, desired));
        let mut recommendation = self.current;
        if recommendation < up {
            recommendation = up;
        }
        if recommendation > down {
            recommendation = down;
        }
        recommendation
    }

    fn rated(&self, now: i64, desired: i64) -> i64 {
        if desired > self.current {
            let limit = self.up_limit(now).max(self.current);
            return desired.min(limit.min(self.most));
        }
        if desired < self.current {
            let limit = self.down_limit(now).min(self.current);
            return desired.max(limit.max(self.least));
        }
        desired
    }

    fn begun(&self, now: i64, policy: &ScalingPolicy) -> i64 {
        let sum = |events: &[(i64, i64)]| -> i64 {
            let cutoff = now - i64::from(policy.period_seconds);
            let recent = events.iter().filter(|(at, _)| *at > cutoff);
            recent.map(|(_, change)| change).sum()
        };
        self.current - sum(&self.ups) + sum(&self.downs)
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "as in Go; tests have small numbers"
    )]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "as in Go; tests have small numbers"
    )]
    fn up_limit(&self, now: i64) -> i64 {
        let (mut result, select): (i64, fn(i64, i64) -> i64) = match self.up.select {
            SelectPolicy::Disabled => return self.current,
            SelectPolicy::Min => (i64::MAX, i64::min),
            SelectPolicy::Max => (i64::MIN, i64::max),
        };
        for policy in &self.up.policies {
            let begun = self.begun(now, policy);
            let proposed = match policy.type_ {
                ScalingUnit::Pods => begun + i64::from(policy.value),
                ScalingUnit::Percent => {
                    (begun as f64 * (1.0 + f64::from(policy.value) / 100.0)).ceil() as i64
                }
            };
            result = select(result, proposed);
        }
        result
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "as in Go; tests have small numbers"
    )]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "as in Go; tests have small numbers"
    )]
    fn down_limit(&self, now: i64) -> i64 {
        let (mut result, select): (i64, fn(i64, i64) -> i64) = match self.down.select {
            SelectPolicy::Disabled => return self.current,
            SelectPolicy::Min => (i64::MIN, i64::max),
            SelectPolicy::Max => (i64::MAX, i64::min),
        };
        for policy in &self.down.policies {
            let begun = self.begun(now, policy);
            let proposed = match policy.type_ {
                ScalingUnit::Pods => begun - i64::from(policy.value),
                ScalingUnit::Percent => {
                    (begun as f64 * (1.0 - f64::from(policy.value) / 100.0)) as i64
                }
            };
            result = select(result, proposed);
        }
        result
    }
}
