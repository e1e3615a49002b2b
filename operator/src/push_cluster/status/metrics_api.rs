use super::{Holds, Verdict};
use crate::metrics_api::registration::Registration;
use crate::metrics_api::request::GROUP;
use crate::reason::Reason;

pub(super) const KIND: &str = "MetricsApiRegistered";

/// Whether autoscalers are told numbers by the operator.
pub(super) fn registered(registration: &Registration) -> Verdict {
    let no = |reason, message: String| Verdict::new(KIND, Holds::No, reason, message);
    match registration {
        Registration::NotLookedYet => Verdict::new(
            KIND,
            Holds::Unknown,
            Reason::Creating,
            format!("{GROUP} is being registered"),
        ),
        Registration::Disabled => no(
            Reason::Disabled,
            "the chart's value metricsApi.enabled is false".into(),
        ),
        Registration::OneNamespace => no(
            Reason::OneNamespace,
            format!(
                "the operator looks after one namespace (watchNamespace), and {GROUP} is the whole cluster's"
            ),
        ),
        Registration::Registered => Verdict::new(
            KIND,
            Holds::Yes,
            Reason::Registered,
            format!("the operator serves {GROUP}"),
        ),
        Registration::Unavailable(why) => no(
            Reason::MetricsApiUnavailable,
            format!("the API server does not reach the operator for APIService {why}"),
        ),
        Registration::Foreign { name, by } => no(
            Reason::ForeignMetricsApi,
            format!("APIService {name} is served by {by}, which is left alone"),
        ),
        Registration::Failed(why) => no(Reason::NotRegistered, why.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_keeps_the_group_from_us_is_named() {
        for (registration, holds, reason, named) in [
            (
                Registration::NotLookedYet,
                Holds::Unknown,
                "Creating",
                GROUP,
            ),
            (
                Registration::Disabled,
                Holds::No,
                "Disabled",
                "metricsApi.enabled",
            ),
            (
                Registration::OneNamespace,
                Holds::No,
                "OneNamespace",
                "watchNamespace",
            ),
            (Registration::Registered, Holds::Yes, "Registered", GROUP),
            (
                Registration::Unavailable("v1beta1.custom.metrics.k8s.io: no route".into()),
                Holds::No,
                "MetricsApiUnavailable",
                "no route",
            ),
            (
                Registration::Foreign {
                    name: "v1beta1.custom.metrics.k8s.io".into(),
                    by: "Service monitoring/adapter".into(),
                },
                Holds::No,
                "ForeignMetricsApi",
                "APIService v1beta1.custom.metrics.k8s.io is served by Service monitoring/adapter",
            ),
            (
                Registration::Failed("writing it failed".into()),
                Holds::No,
                "NotRegistered",
                "writing it failed",
            ),
        ] {
            let verdict = registered(&registration);
            assert_eq!((verdict.holds, verdict.reason.as_str()), (holds, reason));
            assert!(verdict.message.contains(named), "{}", verdict.message);
        }
    }
}
