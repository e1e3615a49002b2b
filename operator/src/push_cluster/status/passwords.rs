//! Whether the password of gateways at Redis is being exchanged, and whom that waits for.

use super::{Holds, Verdict};
use crate::push_cluster::gateways::Compared;
use crate::push_cluster::observe::Observed;
use crate::push_cluster::passwords::lacking;
use crate::reason::Reason;

pub fn rotating(observed: &Observed, gateways: Option<&Compared>) -> Verdict {
    const KIND: &str = "PasswordRotating";
    let passwords = &observed.keys.passwords;
    let waits = |names: Vec<String>| match names.as_slice() {
        [] => String::new(),
        names => format!("; waits for: {}", names.join(", ")),
    };
    if passwords.next.is_some() {
        let waits = waits(lacking(observed));
        let message = format!("Redis learns the next password of the gateways{waits}");
        return Verdict::new(KIND, Holds::Yes, Reason::RedisLearns, message);
    }
    if passwords.before.is_some() {
        let names = gateways.map_or_else(Vec::new, |compared| {
            let names = compared.outdated.iter().chain(&compared.unknown);
            names.map(|pod| format!("pod {pod}")).collect()
        });
        let waits = waits(names);
        let message = format!("gateways take the new password at Redis{waits}");
        return Verdict::new(KIND, Holds::Yes, Reason::GatewaysLearn, message);
    }
    let message = "the gateways' password at Redis is not being exchanged";
    Verdict::new(KIND, Holds::No, Reason::NotRotating, message)
}
