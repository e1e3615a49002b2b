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

    #[test]
    fn the_operator_decides_where_it_serves_no_metrics() {
        let foreign = || Registration::Foreign {
            name: "v1beta1.custom.metrics.k8s.io".into(),
            by: "Service monitoring/adapter".into(),
        };
        let hpa = Scaler::HorizontalPodAutoscaler;
        use AutoscalingMode::{Automatic, Builtin, HorizontalPodAutoscaler};
        for (mode, registration, has_one, is_new, expected) in [
            (
                Automatic,
                Registration::Registered,
                false,
                false,
                hpa.clone(),
            ),
            (
                Automatic,
                Registration::Unavailable(String::new()),
                false,
                false,
                hpa.clone(),
            ),
            (
                Automatic,
                Registration::Failed(String::new()),
                false,
                false,
                hpa.clone(),
            ),
            (
                Automatic,
                foreign(),
                true,
                false,
                Scaler::Builtin(Some(foreign())),
            ),
            (
                Automatic,
                Registration::Disabled,
                false,
                true,
                Scaler::Builtin(Some(Registration::Disabled)),
            ),
            (
                Automatic,
                Registration::OneNamespace,
                false,
                true,
                Scaler::Builtin(Some(Registration::OneNamespace)),
            ),
            // A new leader leaves it as it was until it knows.
            (
                Automatic,
                Registration::NotLookedYet,
                true,
                false,
                hpa.clone(),
            ),
            (
                Automatic,
                Registration::NotLookedYet,
                false,
                true,
                hpa.clone(),
            ),
            (
                Automatic,
                Registration::NotLookedYet,
                false,
                false,
                Scaler::Undecided,
            ),
            (
                Builtin,
                Registration::Registered,
                true,
                false,
                Scaler::Builtin(None),
            ),
            (
                HorizontalPodAutoscaler,
                foreign(),
                false,
                false,
                hpa.clone(),
            ),
        ] {
            let mut spec = AutoscalingSpec {
                mode,
                ..AutoscalingSpec::default()
            };
            let decided = scaler(&spec, &registration, has_one, is_new);
            assert_eq!(decided, expected, "{mode:?} {registration:?}");
            spec.enabled = false;
            assert_eq!(scaler(&spec, &registration, has_one, is_new), Scaler::Off);
        }
    }
}
