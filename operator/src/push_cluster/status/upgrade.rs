//! Whether a new version of the operator waits for somebody to agree.

use crds::PushCluster;
use kube::ResourceExt;

use super::{Holds, Verdict};
use crate::push_cluster::consent::{CONSENT, Pending};
use crate::reason::Reason;

pub fn pending(cluster: &PushCluster, valid: bool, pending: Option<&Pending>) -> Verdict {
    const KIND: &str = "UpgradePending";
    match pending {
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
