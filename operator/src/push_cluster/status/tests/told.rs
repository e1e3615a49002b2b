use super::*;
use crate::push_cluster::gateways::delivery::Deaf;
use crate::push_cluster::moves::MARK;
use crate::push_cluster::rollback::Refused;
use crate::scaling::{Cause, Moving, Plan, Waits};

/// The status of gateways that all deliver, after what was done.
fn after(
    observed: &Observed,
    validated: &Result<ValidatedCluster, Vec<Problem>>,
    acted: &Acted,
) -> PushClusterStatus {
    status(
        observed,
        validated,
        acted,
        &seen(None),
        Timestamp::UNIX_EPOCH,
    )
}

#[test]
fn what_gateways_run_with_is_told_and_waited_for() {
    let pods = |count: usize| -> Vec<String> { (0..count).map(|n| format!("g{n}")).collect() };
    let refused = vec![("g0".to_owned(), "limits.x: no such key".to_owned())];
    let no_key = "pod g0 does not take the configuration: limits.x: no such key";
    for (compared, valid, settled) in [
        (
            Compared::default(),
            "True Valid: the spec is applied".to_owned(),
            true,
        ),
        (
            Compared {
                current: 2,
                unknown: pods(1),
                ..Compared::default()
            },
            "True Valid: the spec is applied".to_owned(),
            true,
        ),
        (
            Compared {
                current: 1,
                outdated: pods(1),
                ..Compared::default()
            },
            "True Valid: the spec is applied".to_owned(),
            false,
        ),
        (
            Compared {
                outdated: pods(1_000),
                refused,
                ..Compared::default()
            },
            format!("False RefusedByGateway: {no_key}"),
            false,
        ),
    ] {
        let observed = observed(&json!({}), live(Some(deployment(2, 2, 2)), Some(redis(1))));
        let validated = validate(&observed, &fixture::images());
        let now = Timestamp::from_second(2_000).unwrap();
        let status = status(
            &observed,
            &validated,
            &Acted::default(),
            &seen(Some(compared.clone())),
            now,
        );
        assert_eq!(said(&status, "ConfigValid"), valid);
        assert_eq!(is_settled(&status), settled, "{valid}");
        let config = status.config.unwrap();
        assert_eq!(usize::try_from(config.current).unwrap(), compared.current);
        assert_eq!(config.unknown, compared.unknown);
        // A status with a thousand names would be read by nobody, and stored for everybody.
        assert_eq!(config.outdated.len(), compared.outdated.len().min(20));
    }
}

#[test]
fn gateways_that_do_not_hear_each_other_are_not_ready() {
    let missing = "pod a did not hear what was published on b";
    for (delivery, says, ready) in [
        (
            Delivering::Yes { heard: 2, of: 2 },
            "True Delivering: 2 of 2 gateways heard what was published on others and on themselves"
                .to_owned(),
            "True Delivering",
        ),
        (
            Delivering::No(vec![
                Deaf::to("a", vec!["b".into()]),
                Deaf::failed("b", "late"),
            ]),
            format!("False NotHeard: {missing}; pod b: late"),
            "False NotHeard",
        ),
        (
            Delivering::Unknown,
            "Unknown NoAnswer: no gateway told the operator what it hears".to_owned(),
            "True Delivering",
        ),
        (
            Delivering::NoGateway,
            "Unknown NoGateway: there is no gateway to ask".to_owned(),
            "True Delivering",
        ),
    ] {
        let mut observed = observed(&json!({}), live(Some(deployment(2, 2, 2)), Some(redis(1))));
        let validated = validate(&observed, &fixture::images());
        let (now, seen) = (
            Timestamp::UNIX_EPOCH,
            Seen {
                config: None,
                delivery,
                clients: None,
                ..seen(None)
            },
        );
        let status = status(&observed, &validated, &Acted::default(), &seen, now);
        assert_eq!(said(&status, "BrokerDelivering"), says);
        assert!(said(&status, "Ready").starts_with(ready), "{says}");
        let mut cluster = (*observed.cluster).clone();
        cluster.status = Some(status);
        observed.cluster = Arc::new(cluster);
        assert_eq!(delivered(&observed.cluster), says.starts_with("True"));
    }
}

#[test]
fn an_upgrade_that_waits_says_what_it_is_and_how_to_agree() {
    let observed = observed(&json!({}), live(Some(deployment(2, 2, 2)), Some(redis(1))));
    let pending = Pending {
        name: "abc123".into(),
        what: vec!["Deployment d: image from a to b".into(), "more".into()],
    };
    let refused = || Refused {
        template: "f00".into(),
        since: Timestamp::UNIX_EPOCH,
        why: "pod n ended 3 times".into(),
    };
    for (spec_is_valid, pending, refused, expected) in [
        (
            true,
            None,
            Some(refused()),
            "True RolledBack: the gateways' pods are what they were before: what is asked for was taken back at 1970-01-01T00:00:00Z, because pod n ended 3 times; it is tried again when another template is asked for: change spec.gateway, or upgrade",
        ),
        // Somebody has to agree to what comes after it.
        (
            true,
            Some(pending),
            Some(refused()),
            "True WaitsForConsent: other pods would be made; agree with: kubectl -n shop annotate --overwrite pcl demo pushcluster.io/consent=abc123: Deployment d: image from a to b; more",
        ),
        (
            true,
            None,
            None,
            "False UpToDate: the pods are what this version of the operator makes",
        ),
        (
            false,
            None,
            None,
            "Unknown InvalidSpec: what would be made is not known while the spec is invalid",
        ),
    ] {
        let validated = match spec_is_valid {
            true => validate(&observed, &fixture::images()),
            false => Err(vec![]),
        };
        let acted = Acted {
            pending,
            refused,
            ..Acted::default()
        };
        let status = after(&observed, &validated, &acted);
        assert_eq!(said(&status, "UpgradePending"), expected);
    }
}

#[test]
fn nothing_is_missing_while_a_gateway_shares_its_clients() {
    let marked = |cause: &str| -> Pod {
        let mark =
            json!({"cause": cause, "since": "1970-01-01T00:00:00Z", "clients": 300, "downTo": 150});
        serde_json::from_value(json!({"metadata": {
            "name": "demo-gateway-b",
            "labels": {"app.kubernetes.io/component": "gateway"},
            "annotations": {MARK: mark.to_string()},
        }}))
        .unwrap()
    };
    for (cause, ready, expected) in [
        (
            "rebalance",
            1,
            "True AllReady: 1 of 2 gateways take clients, and the others have too many and give them some",
        ),
        // Nobody takes clients.
        (
            "rebalance",
            0,
            "False NotReady: Deployment demo-gateway: 0 of 2 gateways are ready, 2 are up to date",
        ),
        (
            "scale-in",
            1,
            "False RollingOut: Deployment demo-gateway: 1 of 2 gateways are ready, 2 are up to date",
        ),
    ] {
        let live = live(Some(deployment(2, 2, ready)), Some(redis(1)));
        let mut observed = observed(&json!({}), live);
        observed.pods = vec![marked(cause)];
        assert_eq!(said(&of(&observed), "GatewayAvailable"), expected);
    }
}

#[test]
fn gateways_that_give_clients_away_say_how_far_they_are() {
    let moving = |pod: &str, cause, percent| Moving {
        pod: pod.into(),
        cause,
        clients: 120,
        percent,
        due: Timestamp::from_second(60).unwrap(),
    };
    for (moves, says) in [
        (Plan::default(), "False NoneEnding: no gateway is ending"),
        (
            Plan {
                moving: vec![
                    moving("a", Cause::ScaleIn, 40),
                    moving("b", Cause::Rebalance, 0),
                ],
                ..Plan::default()
            },
            "True MovingClients: gateways give clients to others: a is to go, 40 % of 120 clients moved, all by \
             1970-01-01T00:01:00Z, b has more than the others, 0 % of 120 clients moved, all by 1970-01-01T00:01:00Z",
        ),
        (
            Plan {
                waits: Some(Waits::ForRoom),
                ..Plan::default()
            },
            "False WaitsForRoom: 2 gateways are wished, and those that would stay have no room for the clients of another \
             one",
        ),
        (
            Plan {
                waits: Some(Waits::ForRollout),
                ..Plan::default()
            },
            "False WaitsForRollout: 2 gateways are wished: when all are replaced",
        ),
    ] {
        // There is one more than is wished, and messages flow.
        let observed = observed(&json!({}), live(Some(deployment(3, 3, 2)), Some(redis(1))));
        let validated = validate(&observed, &fixture::images());
        let acted = Acted {
            moves,
            ..Acted::default()
        };
        let status = after(&observed, &validated, &acted);
        assert_eq!(said(&status, "Draining"), says);
        let available = said(&status, "GatewayAvailable");
        assert!(
            available.starts_with("True AllReady: 2 gateways take clients"),
            "{available}"
        );
    }
}
