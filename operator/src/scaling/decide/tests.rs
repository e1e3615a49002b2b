use super::*;
use crate::scaling::fixture::{
    at, draining, ended, fleet, gateway, given_up, leaving, mark, marked, silent, unready,
};

mod ended;
mod simulated;

/// Each order as a line.
fn lines(plan: &Plan) -> Vec<String> {
    let line = |order: &Order| {
        let act = match order.act {
            Act::Serve => "serve".to_owned(),
            Act::Close => "close".to_owned(),
            Act::Withdraw(mark) if mark.cause == Cause::ScaleIn => {
                format!("withdraw, of {}", mark.clients)
            }
            Act::Withdraw(mark) if mark.cause == Cause::Ended => {
                format!("ends, of {}", mark.clients)
            }
            Act::Unlisted(_) => "unlisted".to_owned(),
            Act::Withdraw(mark) => format!("withdraw, down to {}", mark.down_to),
            Act::Shed {
                per_second,
                down_to: 0,
            } => format!("shed {per_second}/s"),
            Act::Shed {
                per_second,
                down_to,
            } => format!("shed {per_second}/s to {down_to}"),
            Act::GiveUp { wished, cut: 0 } => format!("give up for {wished}"),
            Act::GiveUp { wished, cut } => format!("give up for {wished}, with {cut}"),
            Act::Readmit { missed } => format!("readmit{}", if missed { ", missed" } else { "" }),
        };
        let told = order.told.as_ref().map_or("", |told| told.0.as_str());
        format!("{}: {act} {told}", order.pod).trim_end().to_owned()
    };
    plan.orders.iter().map(line).collect()
}

fn rolling(fleet: Fleet) -> Fleet {
    Fleet {
        rolling: true,
        ..fleet
    }
}

#[test]
fn the_deployment_shrinks_by_what_was_given_up() {
    let (a, b, c) = (|| gateway("a", 1), || gateway("b", 1), || gateway("c", 1));
    let ending = Gateway {
        ending: true,
        ..given_up("c", 2)
    };
    for (fleet, expected) in [
        (fleet(3, 3, vec![a(), b(), c()]), 3),
        // None of them is there yet.
        (fleet(3, 3, vec![]), 3),
        (fleet(5, 3, vec![a(), b(), c()]), 5),
        (fleet(2, 3, vec![a(), b(), c()]), 3),
        (fleet(2, 3, vec![a(), b(), leaving("c", 9, 5)]), 3),
        (fleet(2, 3, vec![a(), b(), given_up("c", 2)]), 2),
        (
            fleet(1, 3, vec![a(), leaving("b", 9, 5), given_up("c", 2)]),
            2,
        ),
        // Not one more because the pod is still there after the first time.
        (
            fleet(1, 2, vec![a(), leaving("b", 9, 5), given_up("c", 2)]),
            2,
        ),
        (fleet(1, 2, vec![a(), leaving("b", 9, 5), ending]), 2),
        (
            fleet(1, 3, vec![a(), given_up("b", 2), given_up("c", 2)]),
            1,
        ),
        (
            fleet(2, 3, vec![a(), given_up("b", 2), given_up("c", 2)]),
            2,
        ),
        // One was evicted, and there need not be another.
        (fleet(2, 3, vec![a(), b()]), 2),
        (rolling(fleet(2, 3, vec![a(), b(), given_up("c", 2)])), 3),
        (rolling(fleet(4, 3, vec![a(), b(), c()])), 4),
        // Nobody is left to take anybody.
        (fleet(0, 3, vec![a(), b(), c()]), 0),
    ] {
        assert_eq!(size(&fleet), expected, "{fleet:?}");
    }
}

#[test]
fn a_scale_in_goes_step_by_step() {
    let (a, b) = (|| gateway("a", 30), || gateway("b", 20));
    for (fleet, second, expected) in [
        (fleet(2, 2, vec![a(), b()]), 0, &[] as &[&str]),
        (
            fleet(2, 3, vec![a(), b(), gateway("c", 9)]),
            0,
            &["c: withdraw, of 9 GatewayDrains"],
        ),
        (fleet(2, 3, vec![a(), b(), marked("c", 9)]), 1, &[]),
        (
            fleet(2, 3, vec![a(), b(), marked("c", 9)]),
            2,
            &["c: shed 10/s"],
        ),
        // It goes on by itself.
        (fleet(2, 3, vec![a(), b(), leaving("c", 5, 10)]), 4, &[]),
        (
            fleet(2, 3, vec![a(), b(), leaving("c", 0, 10)]),
            4,
            &["c: give up for 2"],
        ),
        (fleet(2, 3, vec![a(), b(), given_up("c", 2)]), 5, &[]),
        // Sixty at ten a second, and thirty seconds more.
        (fleet(2, 3, vec![a(), b(), leaving("c", 4, 10)]), 37, &[]),
        (
            fleet(2, 3, vec![a(), b(), leaving("c", 4, 10)]),
            38,
            &["c: give up for 2, with 4 ClientsCut"],
        ),
        // Two share the budget, and the one that was alone becomes slower.
        (
            fleet(1, 3, vec![a(), marked("b", 9), leaving("c", 5, 10)]),
            4,
            &["c: shed 5/s", "b: shed 5/s"],
        ),
        // A second one is wished away meanwhile.
        (
            fleet(1, 3, vec![a(), b(), leaving("c", 5, 10)]),
            4,
            &["b: withdraw, of 20 GatewayDrains"],
        ),
        // Not ready: nobody needs it, and nothing is waited for.
        (
            fleet(2, 3, vec![a(), b(), silent("c", false)]),
            0,
            &["c: withdraw, of 0 GatewayDrains"],
        ),
        (fleet(0, 2, vec![a(), b()]), 0, &[]),
    ] {
        assert_eq!(lines(&plan(&fleet, at(second))), expected, "{fleet:?}");
    }
}

#[test]
fn nobody_is_sent_away_while_a_slice_lists_one_that_takes_nobody() {
    let listed = |gateway: Gateway| Gateway {
        listed: true,
        ..gateway
    };
    let old = |gateway: Gateway| Gateway {
        is_old: true,
        ..gateway
    };
    let waits = |pod, cause| {
        let mut gateway = marked(pod, 9);
        let mark = gateway.mark.as_mut().unwrap();
        (mark.unlisted, mark.cause) = (None, cause);
        gateway
    };
    let scale_in = || waits("c", Cause::ScaleIn);
    let rollout = || old(waits("c", Cause::Rollout));
    let serving = || listed(gateway("a", 30));
    let closed = |gateway| Gateway {
        serving: Some(false),
        ..gateway
    };
    let new = || listed(gateway("n", 0));
    for (fleet, second, expected) in [
        (
            fleet(1, 2, vec![serving(), scale_in()]),
            0,
            &["c: unlisted"] as &[&str],
        ),
        (fleet(1, 2, vec![serving(), listed(scale_in())]), 14, &[]),
        (
            fleet(1, 2, vec![serving(), listed(scale_in())]),
            15,
            &["c: unlisted"],
        ),
        // Who is sent away by one would come to the other.
        (
            rolling(fleet(2, 2, vec![old(closed(serving())), rollout(), new()])),
            4,
            &[],
        ),
        (
            rolling(fleet(
                2,
                2,
                vec![old(closed(gateway("a", 30))), rollout(), new()],
            )),
            4,
            &["c: unlisted"],
        ),
        // A new one has its part, and takes no more.
        (
            rolling(fleet(2, 2, vec![closed(new()), rollout(), gateway("m", 0)])),
            4,
            &["c: unlisted", "n: serve"],
        ),
        // Its label could not be written.
        (
            rolling(fleet(2, 2, vec![old(serving()), rollout(), new()])),
            4,
            &["a: close"],
        ),
        // The new ones have no room for all: the old ones serve.
        (
            rolling(fleet(
                2,
                2,
                vec![old(serving()), rollout(), listed(gateway("n", 70))],
            )),
            4,
            &["c: unlisted"],
        ),
    ] {
        assert_eq!(lines(&plan(&fleet, at(second))), expected, "{fleet:?}");
    }
}

#[test]
fn who_is_wished_again_takes_clients_again() {
    let (a, b) = (|| gateway("a", 30), || gateway("b", 20));
    for (fleet, expected) in [
        (
            fleet(3, 3, vec![a(), b(), leaving("c", 5, 10)]),
            &["c: readmit GatewayReadmitted"] as &[&str],
        ),
        (
            fleet(3, 3, vec![a(), b(), marked("c", 5)]),
            &["c: readmit GatewayReadmitted"],
        ),
        (
            fleet(3, 3, vec![a(), b(), given_up("c", 2)]),
            &["c: readmit GatewayReadmitted"],
        ),
        // Two were given up for one gateway, and now one of them is wished again.
        (
            fleet(3, 4, vec![a(), b(), given_up("c", 1), given_up("d", 1)]),
            &["d: readmit GatewayReadmitted"],
        ),
        // The one with the most is the one that comes back.
        (
            fleet(2, 3, vec![a(), leaving("b", 7, 5), leaving("c", 5, 5)]),
            &["b: readmit GatewayReadmitted", "c: shed 10/s"],
        ),
        // The size was written and another pod went.
        (
            fleet(2, 2, vec![a(), given_up("c", 2)]),
            &["c: readmit, missed OtherGatewayEnded"],
        ),
        // It is about to go.
        (fleet(2, 2, vec![a(), b(), given_up("c", 2)]), &[]),
    ] {
        assert_eq!(lines(&plan(&fleet, at(4))), expected, "{fleet:?}");
    }
}

#[test]
fn a_scale_in_that_has_to_wait_says_for_what() {
    let full = || vec![gateway("a", 60), gateway("b", 60), gateway("c", 60)];
    let free = || vec![gateway("a", 6), gateway("b", 6), gateway("c", 6)];
    for (fleet, waits) in [
        (fleet(3, 3, full()), None),
        (fleet(2, 3, full()), Some(Waits::ForRoom)),
        (fleet(2, 3, free()), None),
        (rolling(fleet(2, 3, free())), Some(Waits::ForRollout)),
        (rolling(fleet(3, 3, free())), None),
    ] {
        let plan = plan(&fleet, at(0));
        assert_eq!(plan.waits, waits, "{fleet:?}");
        assert_eq!(plan.orders.is_empty(), waits.is_some() || fleet.wished == 3);
    }
}

#[test]
fn all_that_send_clients_away_share_one_budget() {
    let ending = ended(draining("c", 40, 500));
    let by_hand = || draining("d", 40, 4);
    let (a, b) = (|| gateway("a", 30), || gateway("b", 20));
    for (fleet, expected) in [
        // A node is drained.
        (
            fleet(2, 2, vec![a(), b(), ending.clone()]),
            &["c: shed 10/s"] as &[&str],
        ),
        (
            fleet(2, 3, vec![a(), b(), leaving("e", 9, 10), ending]),
            &["e: shed 5/s", "c: shed 5/s"],
        ),
        // What a person began is left to them.
        (fleet(3, 3, vec![a(), b(), by_hand()]), &[]),
        (
            fleet(3, 4, vec![a(), b(), by_hand(), marked("e", 9)]),
            &["e: shed 6/s"],
        ),
    ] {
        // What is not in the Service by mistake is another matter.
        assert_eq!(lines(&plan(&fleet, at(4))), expected, "{fleet:?}");
    }
}

#[test]
fn a_pod_without_the_label_gets_it() {
    let without = Gateway {
        serving: None,
        ..gateway("a", 1)
    };
    let by_hand = Gateway {
        serving: Some(false),
        ..gateway("b", 1)
    };
    let fleet = fleet(2, 2, vec![without, by_hand]);
    assert_eq!(lines(&plan(&fleet, at(0))), ["a: serve", "b: serve"]);
}

fn with_room(mut gateway: Gateway) -> Gateway {
    if let Some(node) = &mut gateway.node {
        node.max_connections = 10_000;
    }
    gateway
}

/// One that had 300 clients and may keep 150.
fn spreads(clients: u64, pace: Option<u32>) -> Gateway {
    Gateway {
        mark: Some(Mark {
            cause: Cause::Rebalance,
            clients: 300,
            down_to: 150,
            ..mark()
        }),
        pace,
        ..with_room(leaving("a", clients, 0))
    }
}

#[test]
fn clients_are_spread_when_nothing_else_moves_them() {
    let full = || with_room(gateway("a", 300));
    let other = |clients| with_room(gateway("b", clients));
    let ending = || Gateway {
        ending: true,
        ..gateway("z", 0)
    };
    let two = |a, b| fleet(2, 2, vec![a, b]);
    let sheds = |clients| spreads(clients, Some(10));
    for (fleet, second, expected) in [
        (
            two(full(), other(0)),
            0,
            &["a: withdraw, down to 150 Rebalanced"] as &[&str],
        ),
        (two(spreads(300, None), other(0)), 1, &[]),
        (
            two(spreads(300, None), other(0)),
            2,
            &["a: shed 10/s to 150"],
        ),
        (two(sheds(200), other(0)), 9, &[]),
        (two(spreads(150, None), other(0)), 18, &["a: readmit"]),
        (two(sheds(200), other(0)), 47, &["a: readmit"]),
        // Clients have come meanwhile, all of them to the others: it has its part.
        (two(sheds(200), other(200)), 9, &["a: readmit"]),
        (two(sheds(201), other(200)), 9, &["a: readmit"]),
        (two(sheds(203), other(200)), 9, &[]),
        // Anything else moves clients.
        (fleet(2, 2, vec![full(), other(0), ending()]), 0, &[]),
        (fleet(3, 2, vec![full(), other(0)]), 0, &[]),
        (rolling(two(full(), other(0))), 0, &[]),
        (two(full(), unready("b", 0)), 0, &[]),
        (
            fleet(2, 2, vec![sheds(200), other(0), ending()]),
            9,
            &["a: readmit"],
        ),
        (rolling(two(sheds(200), other(0))), 9, &["a: readmit"]),
    ] {
        assert_eq!(lines(&plan(&fleet, at(second))), expected, "{fleet:?}");
    }
}

#[test]
fn progress_is_told_in_what_does_not_change_with_every_look() {
    let of = |clients| {
        let fleet = fleet(1, 2, vec![gateway("a", 0), leaving("b", clients, 10)]);
        plan(&fleet, at(3)).moving
    };
    let expected = |percent| {
        vec![Moving {
            pod: "b".into(),
            cause: Cause::ScaleIn,
            clients: 60,
            percent,
            due: at(8),
        }]
    };
    assert_eq!(of(60), expected(0));
    assert_eq!(of(55), expected(0));
    assert_eq!(of(54), expected(10));
    assert_eq!(of(1), expected(90));
    assert_eq!(of(0), expected(100));
}

#[test]
fn old_gateways_are_closed_and_go_one_by_one() {
    let old = |gateway: Gateway| Gateway {
        is_old: true,
        ..gateway
    };
    let closed = |gateway: Gateway| Gateway {
        serving: Some(false),
        ..old(gateway)
    };
    let replaced = |mut gateway: Gateway| {
        if let Some(mark) = &mut gateway.mark {
            mark.cause = Cause::Rollout;
        }
        gateway
    };
    let (a, b, n) = (|| gateway("a", 30), || gateway("b", 20), || gateway("n", 0));
    let came = || gateway("n", 20);
    for (gateways, expected) in [
        // Nobody replaces them yet.
        (vec![old(a()), old(b()), unready("n", 0)], &[] as &[&str]),
        (
            vec![old(a()), old(b()), n()],
            &["b: withdraw, down to 0", "a: close"],
        ),
        (
            vec![closed(a()), old(replaced(marked("b", 20))), n()],
            &["b: shed 10/s"],
        ),
        (
            vec![closed(a()), old(replaced(leaving("b", 0, 10))), came()],
            &["b: give up for 2"],
        ),
        (vec![closed(a()), old(replaced(given_up("b", 2))), n()], &[]),
        // Its clients have not come: it is still there to take them back.
        (
            vec![closed(a()), old(replaced(leaving("b", 0, 10))), n()],
            &[],
        ),
        // The new one is full: the old ones help.
        (
            vec![
                closed(a()),
                old(replaced(leaving("b", 20, 10))),
                gateway("n", 60),
            ],
            &["a: serve"],
        ),
        // The first new one has its part: the last old one's clients go to the second.
        (
            vec![closed(a()), gateway("n", 40), gateway("m", 0)],
            &["a: withdraw, down to 0", "n: close"],
        ),
        // The template is again what it was.
        (
            vec![
                Gateway {
                    serving: Some(false),
                    ..a()
                },
                replaced(leaving("b", 20, 10)),
                old(unready("n", 0)),
            ],
            &["b: readmit", "a: serve", "n: close"],
        ),
    ] {
        let fleet = rolling(fleet(2, 2, gateways));
        assert_eq!(lines(&plan(&fleet, at(4))), expected, "{fleet:?}");
    }
}
