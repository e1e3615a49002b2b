//! Whether messages go from gateway to gateway.

use super::{Holds, Verdict};
use crate::push_cluster::gateways::delivery::Delivering;
use crate::reason::Reason;

pub const KIND: &str = "BrokerDelivering";

pub fn delivering(found: &Delivering) -> Verdict {
    let (holds, reason, message) = match found {
        Delivering::Yes { heard, of } => (
            Holds::Yes,
            Reason::Delivering,
            format!(
                "{heard} of {of} gateways heard what was published on others and on themselves"
            ),
        ),
        Delivering::No(wrong) => {
            let wrong: Vec<String> = wrong.iter().map(ToString::to_string).collect();
            (Holds::No, Reason::NotHeard, wrong.join("; "))
        }
        Delivering::Unknown => (
            Holds::Unknown,
            Reason::NoAnswer,
            "no gateway told the operator what it hears".to_owned(),
        ),
        Delivering::NoGateway => (
            Holds::Unknown,
            Reason::NoGateway,
            "there is no gateway to ask".to_owned(),
        ),
    };
    Verdict::new(KIND, holds, reason, message)
}
