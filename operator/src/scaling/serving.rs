//! When the Service of the clients may select on the label [`super::SERVING`].

use super::{Fleet, Gateway};

/// A fleet from before there was the label has pods without it, and a template that may wait for somebody's consent: a
/// Service that asked for the label then would have no endpoints. It asks once every pod has it, and each that is made
/// later will have it from its beginning; and then for ever, for pods that are lost all at once come back with it.
#[must_use]
pub fn may_select(fleet: &Fleet, template_has_it: bool, selects: bool) -> bool {
    let pods = || fleet.gateways.iter().filter(|gateway| !gateway.ending);
    let all = pods().all(|gateway| gateway.serving.is_some());
    let any = pods().next().is_none() || pods().any(serves);
    template_has_it && (selects || all && any)
}

fn serves(gateway: &Gateway) -> bool {
    gateway.serving == Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scaling::fixture::{fleet, gateway, marked};

    #[test]
    fn no_service_selects_what_pods_do_not_have() {
        let old = || Gateway {
            serving: None,
            ..gateway("b", 1)
        };
        let ending = || Gateway {
            ending: true,
            ..old()
        };
        for (gateways, template_has_it, selects, expected) in [
            (vec![], true, false, true),
            (vec![], false, false, false),
            (vec![gateway("a", 1)], true, false, true),
            // A pod that is made later would not have it.
            (vec![gateway("a", 1)], false, false, false),
            (vec![gateway("a", 1)], false, true, false),
            (vec![gateway("a", 1), old()], true, false, false),
            (vec![gateway("a", 1), ending()], true, false, true),
            (vec![marked("a", 1)], true, false, false),
            // Somebody took it from a pod, which gets it back.
            (vec![gateway("a", 1), old()], true, true, true),
        ] {
            let fleet = fleet(1, 1, gateways);
            let found = may_select(&fleet, template_has_it, selects);
            assert_eq!(found, expected, "{fleet:?}, {template_has_it}, {selects}");
        }
    }
}
