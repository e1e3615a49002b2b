//! Who decides the size. Pure.

use crds::{AutoscalingMode, AutoscalingSpec};

use crate::metrics_api::registration::Registration;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scaler {
    /// Nobody: `spec.replicas` is a person's.
    Off,
    /// It depends on whether we serve the metrics API, which is not known yet; nothing is made or taken away meanwhile.
    Undecided,
    /// A HorizontalPodAutoscaler that the operator makes.
    HorizontalPodAutoscaler,
    /// The operator. With what keeps it from serving the metrics API, if it is that and not the manifest.
    Builtin(Option<Registration>),
    /// KEDA, with a ScaledObject that the operator makes.
    Keda,
}

/// `has_one`: whether there is a HorizontalPodAutoscaler of ours. `is_new`: nothing has been made yet.
#[must_use]
pub fn scaler(
    spec: &AutoscalingSpec,
    registration: &Registration,
    has_one: bool,
    is_new: bool,
) -> Scaler {
    if !spec.enabled {
        return Scaler::Off;
    }
    match (spec.mode, registration) {
        (AutoscalingMode::HorizontalPodAutoscaler, _) => Scaler::HorizontalPodAutoscaler,
        (AutoscalingMode::Builtin, _) => Scaler::Builtin(None),
        (AutoscalingMode::Keda, _) => Scaler::Keda,
        // Another operator was here before, and knew: what it decided stays for the moment until this one does.
        (AutoscalingMode::Automatic, Registration::NotLookedYet) => match has_one || is_new {
            true => Scaler::HorizontalPodAutoscaler,
            false => Scaler::Undecided,
        },
        (
            AutoscalingMode::Automatic,
            Registration::Foreign { .. } | Registration::Disabled | Registration::OneNamespace,
        ) => Scaler::Builtin(Some(registration.clone())),
        // What is wrong with our own registration is mended, or told.
        (
            AutoscalingMode::Automatic,
            Registration::Registered | Registration::Unavailable(_) | Registration::Failed(_),
        ) => Scaler::HorizontalPodAutoscaler,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decided(mode: AutoscalingMode, registration: &Registration, there: [bool; 2]) -> Scaler {
        let mut spec = AutoscalingSpec {
            mode,
            ..AutoscalingSpec::default()
        };
        let [has_one, is_new] = there;
        let decided = scaler(&spec, registration, has_one, is_new);
        spec.enabled = false;
        assert_eq!(scaler(&spec, registration, has_one, is_new), Scaler::Off);
        decided
    }

    fn foreign() -> Registration {
        Registration::Foreign {
            name: "v1beta1.custom.metrics.k8s.io".into(),
            by: "Service monitoring/adapter".into(),
        }
    }

    /// Neither one of ours nor anything of a new PushCluster.
    const NONE: [bool; 2] = [false, false];

    #[test]
    fn the_operator_decides_where_it_serves_no_metrics() {
        let automatic =
            |registration: &Registration| decided(AutoscalingMode::Automatic, registration, NONE);
        for registration in [
            Registration::Registered,
            Registration::Unavailable(String::new()),
            Registration::Failed(String::new()),
        ] {
            assert_eq!(automatic(&registration), Scaler::HorizontalPodAutoscaler);
        }
        for registration in [
            foreign(),
            Registration::Disabled,
            Registration::OneNamespace,
        ] {
            let decided = automatic(&registration);
            assert_eq!(decided, Scaler::Builtin(Some(registration)));
        }
    }

    #[test]
    fn a_new_leader_leaves_it_as_it_was_until_it_knows() {
        for (there, expected) in [
            ([true, false], Scaler::HorizontalPodAutoscaler),
            ([false, true], Scaler::HorizontalPodAutoscaler),
            (NONE, Scaler::Undecided),
        ] {
            let unknown = Registration::NotLookedYet;
            let decided = decided(AutoscalingMode::Automatic, &unknown, there);
            assert_eq!(decided, expected, "{there:?}");
        }
    }

    #[test]
    fn what_the_manifest_says_is_so_whoever_serves_metrics() {
        for (mode, expected) in [
            (AutoscalingMode::Builtin, Scaler::Builtin(None)),
            (AutoscalingMode::Keda, Scaler::Keda),
            (
                AutoscalingMode::HorizontalPodAutoscaler,
                Scaler::HorizontalPodAutoscaler,
            ),
        ] {
            for registration in [
                Registration::Registered,
                Registration::NotLookedYet,
                foreign(),
            ] {
                assert_eq!(decided(mode, &registration, NONE), expected);
            }
        }
    }
}
