use crds::{AutoscalingSpec, ScalingPolicy, ScalingUnit, SelectPolicy, WindowSpec};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::schedule::Window;
use super::*;

mod reference;

const TARGET: u64 = 10;

fn rules(spec: Value) -> Rules {
    let spec: AutoscalingSpec = serde_json::from_value(spec).unwrap();
    let windows = spec.schedule.iter().flatten();
    let windows: Result<_, _> = windows
        .map(|window: &WindowSpec| Window::new(window))
        .collect();
    Rules::new(&spec, TARGET, windows.unwrap())
}

fn at(second: i64) -> Timestamp {
    // A Monday, at midnight.
    Timestamp::from_second(1_767_571_200 + second).unwrap()
}

/// Looks and takes what is decided, as a fleet does that has new gateways at once.
struct Fleet {
    rules: Rules,
    history: History,
    size: u32,
}

impl Fleet {
    fn new(rules: Rules, size: u32) -> Fleet {
        Fleet {
            rules,
            history: History::default(),
            size,
        }
    }

    fn look(&mut self, second: i64, clients: Option<u64>) -> Decision {
        self.look_with(second, clients, self.size)
    }

    fn look_with(&mut self, second: i64, clients: Option<u64>, there: u32) -> Decision {
        let look = Look {
            now: at(second),
            wished: self.size,
            there,
            clients,
        };
        let decision = decide(&self.rules, &mut self.history, &look);
        if decision.size != self.size {
            self.history.changed(look.now, self.size, decision.size);
        }
        self.size = decision.size;
        decision
    }
}

/// A manifest, the size at the beginning, and looks: second, clients, size and why then.
type Case = (&'static str, u32, &'static [(i64, Option<u64>, u32, Why)]);

const CASES: &[Case] = &[
    // Ten per cent more or fewer than the gateways aim at are no reason.
    (
        "{minReplicas: 1, maxReplicas: 100}",
        10,
        &[
            (0, Some(109), 10, Why::Clients),
            (15, Some(90), 10, Why::Clients),
            (30, Some(110), 11, Why::Clients),
        ],
    ),
    // At once up, at most to the double or four more in a quarter of a minute.
    (
        "{minReplicas: 1, maxReplicas: 100}",
        2,
        &[
            (0, Some(500), 6, Why::Limited),
            (5, Some(500), 6, Why::Limited),
            (15, Some(500), 12, Why::Limited),
            (30, Some(500), 24, Why::Limited),
            (45, Some(500), 48, Why::Limited),
            (60, Some(500), 48, Why::Clients),
        ],
    ),
    // Down when five minutes have passed in which no more were needed.
    (
        "{minReplicas: 1, maxReplicas: 100}",
        4,
        &[
            (0, Some(20), 4, Why::Stabilised),
            (60, Some(20), 4, Why::Stabilised),
            (120, Some(29), 4, Why::Stabilised),
            (180, Some(10), 4, Why::Stabilised),
            (240, Some(10), 4, Why::Stabilised),
            (299, Some(10), 4, Why::Stabilised),
            (300, Some(10), 3, Why::Stabilised),
            (360, Some(10), 3, Why::Stabilised),
            (420, Some(10), 1, Why::Clients),
        ],
    ),
    // Never below the one nor above the other, at once and whatever the clients.
    (
        "{minReplicas: 3, maxReplicas: 5}",
        9,
        &[
            (0, None, 5, Why::OutOfBounds),
            (15, Some(500), 5, Why::Clients),
            (30, Some(0), 5, Why::Stabilised),
        ],
    ),
    (
        "{minReplicas: 3, maxReplicas: 5}",
        1,
        &[
            (0, None, 3, Why::OutOfBounds),
            (15, Some(0), 3, Why::Stabilised),
        ],
    ),
    // A person's zero.
    (
        "{minReplicas: 1, maxReplicas: 100}",
        0,
        &[(0, Some(500), 0, Why::AtZero), (15, None, 0, Why::AtZero)],
    ),
    // Nobody told: it stays, and when they tell again the window is a full one.
    (
        "{minReplicas: 1, maxReplicas: 100}",
        4,
        &[
            (0, Some(10), 4, Why::Stabilised),
            (60, Some(10), 4, Why::Stabilised),
            (75, None, 4, Why::Unknown),
            (310, None, 4, Why::Unknown),
            (325, Some(10), 4, Why::Stabilised),
            (385, Some(10), 4, Why::Stabilised),
        ],
    ),
    // Room for 15 more than there are; a third stays free.
    (
        "{minReplicas: 1, maxReplicas: 100, buffer: {connections: 15}}",
        1,
        &[(0, Some(20), 4, Why::Clients)],
    ),
    (
        "{minReplicas: 1, maxReplicas: 100, buffer: {percent: 33}}",
        1,
        &[
            (0, Some(20), 3, Why::Clients),
            (15, Some(27), 5, Why::Clients),
        ],
    ),
    // From one o'clock on at least six; when that is over, as few as the clients need for minutes already.
    (
        "{minReplicas: 1, maxReplicas: 100, schedule: [{from: '01:00', until: '01:30', minReplicas: 6}, {from: '01:10', until: '01:30', minReplicas: 2}]}",
        1,
        &[
            (3_585, Some(10), 1, Why::Clients),
            (3_600, Some(10), 6, Why::OutOfBounds),
            (3_615, Some(10), 6, Why::Clients),
            (5_385, Some(10), 6, Why::Stabilised),
        ],
    ),
    // Never in this direction.
    (
        "{minReplicas: 1, maxReplicas: 100, behavior: {scaleUp: {selectPolicy: Disabled}}}",
        2,
        &[(0, Some(500), 2, Why::Limited)],
    ),
    // The more careful of two policies, of which the one counts for a minute.
    (
        "{minReplicas: 1, maxReplicas: 100, behavior: {scaleUp: {selectPolicy: Min, policies: [{type: Pods, value: 3, periodSeconds: 60}, {type: Percent, value: 50, periodSeconds: 15}]}}}",
        4,
        &[
            (0, Some(500), 6, Why::Limited),
            (15, Some(500), 7, Why::Limited),
            (30, Some(500), 7, Why::Limited),
            (59, Some(500), 7, Why::Limited),
            (60, Some(500), 9, Why::Limited),
        ],
    ),
    // Fewer only so long after the last change.
    (
        "{minReplicas: 1, maxReplicas: 100, coolDownSeconds: 60, behavior: {scaleDown: {stabilizationWindowSeconds: 0, policies: [{type: Pods, value: 1, periodSeconds: 15}]}}}",
        4,
        &[
            (0, Some(10), 4, Why::CoolingDown),
            (59, Some(10), 4, Why::CoolingDown),
            (60, Some(10), 3, Why::Limited),
            (119, Some(10), 3, Why::CoolingDown),
            (120, Some(45), 5, Why::Clients),
        ],
    ),
];

#[test]
fn each_rule_decides_as_it_is_told() {
    for (spec, size, looks) in CASES {
        let mut fleet = Fleet::new(rules(serde_yaml::from_str(spec).unwrap()), *size);
        for (second, clients, expected, why) in *looks {
            let decision = fleet.look(*second, *clients);
            let expected = Decision {
                size: *expected,
                why: *why,
            };
            assert_eq!(decision, expected, "{spec} at {second} s with {clients:?}");
        }
    }
}

#[test]
fn a_leader_that_knows_nothing_scales_down_no_sooner() {
    let mut old = Fleet::new(rules(json!({"minReplicas": 1})), 4);
    for second in (0..300).step_by(15) {
        assert_eq!(old.look(second, Some(5)).size, 4);
    }
    let mut new = Fleet::new(old.rules.clone(), 4);
    for second in (300..600).step_by(15) {
        assert_eq!(new.look(second, Some(5)).size, 4, "{second}");
    }
    assert_eq!(old.look(300, Some(5)).size, 1);
    assert_eq!(new.look(600, Some(5)).size, 1);
}

/// Gateways that were asked for and are not there yet make the ones that there are look too few by less than the tolerance, and
/// then too many: without a window a HorizontalPodAutoscaler takes one step back, and so do we.
#[test]
fn slow_gateways_are_decided_about_as_by_a_horizontal_pod_autoscaler() {
    let step = json!({"stabilizationWindowSeconds": 0, "policies": [{"type": "Pods", "value": 1, "periodSeconds": 1}]});
    let spec = json!({"minReplicas": 2, "maxReplicas": 18, "behavior": {"scaleUp": step, "scaleDown": {
        "stabilizationWindowSeconds": 300, "policies": step["policies"]}}});
    let rules = Rules {
        target: 49,
        ..rules(spec)
    };
    let mut fleet = Fleet::new(rules.clone(), 14);
    let mut other = reference::Autoscaler::new(&rules, 14);
    let mut sizes = vec![14];
    for look in 0..150 {
        let there = sizes[sizes.len().saturating_sub(2)];
        let size = fleet.look_with(seconds(look), Some(574), there).size;
        assert_eq!(size, other.look(seconds(look), 574, there), "look {look}");
        sizes.push(size);
    }
    sizes.dedup();
    assert_eq!(sizes, [14, 13, 12, 13]);
}

#[test]
fn a_decision_is_due_when_the_last_one_is_old() {
    let mut fleet = Fleet::new(rules(json!({})), 2);
    assert!(fleet.history.is_due(at(0)));
    fleet.look(0, None);
    assert!(fleet.history.is_due(at(0)), "nobody told");
    fleet.look(0, Some(5));
    assert!(!fleet.history.is_due(at(14)));
    assert!(fleet.history.is_due(at(15)));
}

fn policy() -> impl Strategy<Value = ScalingPolicy> {
    let unit = prop_oneof![Just(ScalingUnit::Pods), Just(ScalingUnit::Percent)];
    // Quarters of a hundred: of others the floating point of a HorizontalPodAutoscaler makes a little more, and one gateway.
    (unit, 1..=8, 1..=120).prop_map(|(type_, value, period_seconds)| ScalingPolicy {
        type_,
        value: match type_ {
            ScalingUnit::Pods => value,
            ScalingUnit::Percent => value * 25,
        },
        period_seconds,
    })
}

fn direction() -> impl Strategy<Value = Direction> {
    let select = prop_oneof![
        4 => Just(SelectPolicy::Max),
        2 => Just(SelectPolicy::Min),
        1 => Just(SelectPolicy::Disabled),
    ];
    let policies = prop::collection::vec(policy(), 1..=3);
    let windows = prop_oneof![Just(0_i64), Just(60), Just(300)];
    (windows, select, policies).prop_map(|(window_seconds, select, policies)| Direction {
        window_seconds,
        select,
        policies,
    })
}

/// Any manifest without a schedule.
fn any_rules() -> impl Strategy<Value = Rules> {
    let buffer = prop_oneof![
        3 => Just(Buffer::None),
        1 => (1_u64..50).prop_map(Buffer::Connections),
        1 => (1_u64..=90).prop_map(Buffer::Percent),
    ];
    let cool_down = prop_oneof![2 => Just(0_i64), 1 => 0_i64..200];
    let bounds = (1_u32..10, 0_u32..30, 1_u64..50);
    (bounds, buffer, cool_down, direction(), direction()).prop_map(
        |((least, more, target), buffer, cool_down_seconds, up, down)| Rules {
            least,
            most: least + more,
            target,
            buffer,
            schedule: Vec::new(),
            cool_down_seconds,
            up,
            down,
        },
    )
}

fn plain(rules: Rules) -> Rules {
    Rules {
        buffer: Buffer::None,
        cool_down_seconds: 0,
        ..rules
    }
}

/// The same, but something happens within a minute.
fn soon(mut direction: Direction) -> Direction {
    if direction.select == SelectPolicy::Disabled {
        direction.select = SelectPolicy::Max;
    }
    for policy in &mut direction.policies {
        policy.period_seconds = policy.period_seconds.min(60);
    }
    direction
}

/// Clients at each look, a quarter of a minute apart; None: not all told.
fn load() -> impl Strategy<Value = Vec<Option<u64>>> {
    prop::collection::vec(prop::option::weighted(0.9, 0_u64..600), 1..80)
}

/// Decided by [`History::is_due`]'s clock.
fn seconds(look: usize) -> i64 {
    i64::try_from(look).unwrap() * PERIOD_SECONDS
}

/// So many fit, with the tolerance.
fn holds(rules: &Rules, size: u32, clients: u64) -> bool {
    rules.with_buffer(clients) * 100 <= rules.target * u64::from(size) * (100 + TOLERANCE_PERCENT)
}

proptest! {
    #[test]
    fn it_is_never_outside_its_bounds(rules in any_rules(), begin in 1_u32..50, load in load()) {
        let mut fleet = Fleet::new(rules.clone(), begin);
        for (look, clients) in load.into_iter().enumerate() {
            let size = fleet.look(seconds(look), clients).size;
            prop_assert!((rules.least..=rules.most).contains(&size));
        }
    }

    /// And what is not known takes nothing away.
    #[test]
    fn it_never_becomes_too_small_for_its_clients(rules in any_rules(), begin in 1_u32..50, load in load()) {
        let mut fleet = Fleet::new(rules.clone(), begin.clamp(rules.least, rules.most));
        for (look, clients) in load.into_iter().enumerate() {
            let before = fleet.size;
            let size = fleet.look(seconds(look), clients).size;
            match clients {
                None => prop_assert_eq!(size, before),
                Some(clients) => prop_assert!(size >= before || holds(&rules, size, clients)),
            }
        }
    }

    /// Within an hour, as slow as the most careful `behavior` is that adds anything in a minute.
    #[test]
    fn it_reaches_what_its_clients_need(rules in any_rules(), begin in 1_u32..50, clients in 0_u64..600) {
        let rules = Rules { up: soon(rules.up), ..rules };
        let mut fleet = Fleet::new(rules.clone(), begin.clamp(rules.least, rules.most));
        for look in 0..200 {
            fleet.look(seconds(look), Some(clients));
        }
        prop_assert!(fleet.size == rules.most || holds(&rules, fleet.size, clients));
    }

    /// A steady load has one direction, also while gateways come and go slowly.
    #[test]
    fn it_does_not_flap(rules in any_rules(), begin in 1_u32..50, clients in 0_u64..600, late in 0_usize..4) {
        // Who asks for no window and has slow pods gets what a HorizontalPodAutoscaler gives.
        let patient = |direction: &Direction| Direction {
            window_seconds: if late > 0 { 300 } else { direction.window_seconds },
            ..direction.clone()
        };
        let rules = Rules { up: patient(&rules.up), down: patient(&rules.down), ..rules };
        let mut fleet = Fleet::new(rules.clone(), begin.clamp(rules.least, rules.most));
        let mut sizes = vec![fleet.size];
        for look in 0..150 {
            let there = sizes[sizes.len().saturating_sub(1 + late)];
            sizes.push(fleet.look_with(seconds(look), Some(clients), there).size);
        }
        sizes.dedup();
        let steps: Vec<bool> = sizes.windows(2).map(|pair| pair[0] < pair[1]).collect();
        prop_assert!(steps.windows(2).all(|pair| pair[0] == pair[1]), "{:?}", sizes);
    }

    #[test]
    fn more_clients_are_never_fewer_gateways(
        rules in any_rules(), begin in 1_u32..50, load in load(), there in 0_u32..50, clients in 0_u64..600, more in 0_u64..100,
    ) {
        let mut fleet = Fleet::new(rules.clone(), begin);
        for (look, clients) in load.iter().enumerate() {
            fleet.look(seconds(look), *clients);
        }
        let next = seconds(load.len());
        let mut other = Fleet { history: fleet.history.clone(), ..Fleet::new(rules, fleet.size) };
        let few = fleet.look_with(next, Some(clients), there).size;
        let many = other.look_with(next, Some(clients + more), there).size;
        prop_assert!(few <= many, "{} {}", few, many);
    }

    #[test]
    fn it_decides_as_a_horizontal_pod_autoscaler(
        rules in any_rules(), begin in 1_u32..50, load in prop::collection::vec(0_u64..600, 1..80), late in 0_usize..4,
    ) {
        let rules = plain(rules);
        let mut fleet = Fleet::new(rules.clone(), begin);
        let mut other = reference::Autoscaler::new(&rules, begin);
        let mut sizes = vec![begin];
        for (look, clients) in load.into_iter().enumerate() {
            let there = sizes[sizes.len().saturating_sub(1 + late)];
            let expected = other.look(seconds(look), clients, there);
            let size = fleet.look_with(seconds(look), Some(clients), there).size;
            prop_assert_eq!(size, expected, "look {} with {}", look, clients);
            sizes.push(size);
        }
    }
}
