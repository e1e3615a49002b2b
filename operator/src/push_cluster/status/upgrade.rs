//! Whether a new version of the operator waits for somebody to agree.

use crds::PushCluster;
use kube::ResourceExt;

use super::{Acted, Holds, Verdict};
use crate::push_cluster::consent::{CONSENT, Pending};
use crate::push_cluster::rollback::Refused;
use crate::reason::Reason;

pub fn pending(cluster: &PushCluster, valid: bool, acted: &Acted) -> Verdict {
    const KIND: &str = "UpgradePending";
    if let (None, Some(Refused { since, why, .. })) = (&acted.pending, &acted.refused) {
        let message = format!(
            "the gateways' pods are what they were before: what is asked for was taken back at {since}, because {why}; it \
             is tried again when another template is asked for: change spec.gateway, or upgrade"
        );
        return Verdict::new(KIND, Holds::Yes, Reason::RolledBack, message);
    }
    match &acted.pending {
        Some(Pending { name, what }) => Verdict::new(
            KIND,
            Holds::Yes,
            Reason::WaitsForConsent,
            format!(
                "other pods would be made; agree with: kubectl -n {} annotate --overwrite pcl {} {CONSENT}={name}: {}",
                cluster.namespace().unwrap_or_default(),
                cluster.name_any(),
                what.join("; ")
            ),
        ),
        None if !valid => Verdict::new(
            KIND,
            Holds::Unknown,
            Reason::InvalidSpec,
            "what would be made is not known while the spec is invalid",
        ),
        None => Verdict::new(
            KIND,
            Holds::No,
            Reason::UpToDate,
            "the pods are what this version of the operator makes",
        ),
    }
}
