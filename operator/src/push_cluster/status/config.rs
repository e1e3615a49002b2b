//! Whether what was asked for is in force, and where.

use crds::{ConfigStatus, PushClusterStatus};

use super::{Holds, Verdict};
use crate::failure::line;
use crate::push_cluster::apply::ApplyError;
use crate::push_cluster::gateways::Compared;
use crate::push_cluster::validate::{Problem, ValidatedCluster};
use crate::reason::Reason;

/// Pods that are named in the status, of each sort: a PushCluster may have a thousand.
const MAX_NAMES: usize = 20;

pub fn valid(
    validated: &Result<ValidatedCluster, Vec<Problem>>,
    failure: Option<&ApplyError>,
    gateways: Option<&Compared>,
) -> Verdict {
    const KIND: &str = "ConfigValid";
    let refused = gateways.map_or(&[][..], |compared| &compared.refused);
    match (validated, failure) {
        (Err(problems), _) => {
            let all: Vec<String> = problems
                .iter()
                .map(|p| format!("{} {}", p.field, p.message))
                .collect();
            Verdict::new(KIND, Holds::No, Reason::InvalidSpec, all.join("; "))
        }
        (Ok(_), Some(failure @ ApplyError::Contested { .. })) => {
            Verdict::new(KIND, Holds::No, Reason::Contested, line(failure))
        }
        (Ok(_), Some(failure)) => Verdict::new(KIND, Holds::No, Reason::ApplyFailed, line(failure)),
        (Ok(_), None) if !refused.is_empty() => {
            let all: Vec<String> = refused
                .iter()
                .map(|(pod, why)| format!("pod {pod} does not take the configuration: {why}"))
                .collect();
            Verdict::new(KIND, Holds::No, Reason::RefusedByGateway, all.join("; "))
        }
        (Ok(_), None) => Verdict::new(KIND, Holds::Yes, Reason::Valid, "the spec is applied"),
    }
}

pub fn status(compared: &Compared) -> ConfigStatus {
    let names = |pods: &[String]| pods.iter().take(MAX_NAMES).cloned().collect();
    ConfigStatus {
        current: i32::try_from(compared.current).unwrap_or(i32::MAX),
        outdated: names(&compared.outdated),
        unknown: names(&compared.unknown),
    }
}

/// Whether there are gateways that will soon run with something else.
pub fn is_under_way(status: &PushClusterStatus) -> bool {
    let config = status.config.as_ref();
    config.is_some_and(|config| !config.outdated.is_empty())
}
