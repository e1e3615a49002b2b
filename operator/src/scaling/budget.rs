//! How many clients may be told to reconnect each second, by all gateways together.

use super::{Gateway, Policy};

/// Handshakes each second that a gateway without a limit of its own is trusted with: a tenth of what one core does.
const HANDSHAKES: u32 = 200;

/// What the manifest says; else half of the handshakes that the gateways which take clients may do, so that the other half
/// is left for clients that come for the first time. At least one.
#[must_use]
pub fn per_second(policy: Policy, gateways: &[Gateway]) -> u32 {
    let comes = |gateway: &&Gateway| gateway.takes() && gateway.serving != Some(false);
    let taking = gateways.iter().filter(comes).count();
    let taking = u32::try_from(taking).unwrap_or(u32::MAX);
    let derived = of_one(policy.handshakes_per_second).saturating_mul(taking);
    policy.reconnects_per_second.unwrap_or(derived).max(1)
}

/// What one gateway that takes clients adds.
#[must_use]
pub fn of_one(handshakes_per_second: u32) -> u32 {
    let handshakes = match handshakes_per_second {
        0 => HANDSHAKES,
        limit => limit,
    };
    (handshakes / 2).max(1)
}

/// The budget in equal parts, for so many gateways. Where there is less than one client a second for each, the first
/// ones go first: 0 is not to begin yet.
#[must_use]
pub fn shares(per_second: u32, gateways: usize) -> Vec<u32> {
    let count = u32::try_from(gateways).unwrap_or(u32::MAX).max(1);
    let (each, more) = (per_second / count, per_second % count);
    let extra = |place: usize| u32::from(u32::try_from(place).is_ok_and(|place| place < more));
    (0..gateways).map(|place| each + extra(place)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::scaling::fixture::{draining, gateway};

    #[test]
    fn the_default_is_half_of_what_those_can_do_that_take_clients() {
        let taking = [gateway("a", 5), gateway("b", 5), draining("c", 5, 3)];
        let out = Gateway {
            serving: Some(false),
            ..gateway("b", 5)
        };
        let closed = [gateway("a", 5), out];
        for (given, handshakes, gateways, expected) in [
            (Some(7), 0, &taking[..], 7),
            (None, 0, &taking[..], 200),
            (None, 50, &taking[..], 50),
            (None, 1, &taking[..], 2),
            (None, 0, &taking[2..], 1),
            (None, 50, &closed[..], 25),
            (None, 0, &[], 1),
        ] {
            let policy = Policy {
                reconnects_per_second: given,
                handshakes_per_second: handshakes,
                deadline_seconds: 30,
            };
            let found = per_second(policy, gateways);
            assert_eq!(found, expected, "{given:?}, {handshakes}");
        }
    }

    proptest! {
        #[test]
        fn all_of_it_is_given_out_and_no_more(per_second in 1_u32..100_000, gateways in 1_usize..1_000) {
            let shares = shares(per_second, gateways);
            prop_assert_eq!(shares.len(), gateways);
            prop_assert_eq!(shares.iter().sum::<u32>(), per_second);
            let (least, most) = (shares.iter().min(), shares.iter().max());
            prop_assert!(most.unwrap() - least.unwrap() <= 1);
        }
    }
}
