//! What gateways say of a Redis through which messages flow.

use crds::PushClusterStatus;

use super::{Holds, Verdict};
use crate::push_cluster::gateways::clients::Node;
use crate::reason::Reason;

/// What gateways say, the first of them.
pub(super) fn first(nodes: &[(String, Option<Node>)]) -> Option<&str> {
    let mut nodes = nodes.iter().filter_map(|(_, node)| node.as_ref());
    nodes.find_map(|node| node.impaired.as_deref())
}

/// Another reason for what holds; where something does not, that is what a person should read.
pub(super) fn impaired(redis: Verdict, what: Option<&str>) -> Verdict {
    let good = matches!(
        redis.reason,
        Reason::Ready | Reason::Delivers | Reason::Answers
    );
    match what {
        Some(what) if good && redis.holds == Holds::Yes => {
            let message = format!("messages flow, but {what}");
            Verdict::new(redis.kind, Holds::Yes, Reason::Impaired, message)
        }
        _ => redis,
    }
}

/// It is looked at again soon: nobody tells the operator when it has passed.
pub(super) fn is_seen(status: &PushClusterStatus) -> bool {
    let mut conditions = status.conditions.iter();
    conditions.any(|condition| condition.reason == Reason::Impaired.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_good_otherwise_is_called_impaired() {
        let what = Some("Redis at a:1 cannot write a snapshot");
        for (holds, reason, what, expected) in [
            (Holds::Yes, Reason::Ready, None, Reason::Ready),
            (Holds::Yes, Reason::Ready, what, Reason::Impaired),
            (Holds::Yes, Reason::Delivers, what, Reason::Impaired),
            (Holds::Yes, Reason::Degraded, what, Reason::Degraded),
            (Holds::No, Reason::NotReady, what, Reason::NotReady),
        ] {
            let redis = Verdict::new("RedisAvailable", holds, reason, "as it is");
            let found = impaired(redis.clone(), what);
            assert_eq!((found.holds, found.reason), (holds, expected));
            assert_eq!(found == redis, expected != Reason::Impaired);
        }
    }
}
