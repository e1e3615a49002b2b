//! How a Redis is: what it says in INFO (redis.io/docs/latest/commands/info), and which changes of masters are failovers.
//! Pure.

use std::collections::BTreeMap;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    Master,
    Replica,
}

impl Role {
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Master => "master",
            Role::Replica => "replica",
        }
    }
}

/// What a Redis says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vitals {
    pub role: Role,
    pub used_bytes: u64,
    /// 0: none but what its container has.
    pub max_bytes: u64,
    /// That are connected to it.
    pub replicas: u64,
    /// Whether it follows its master right now. None: it is one.
    pub follows: Option<bool>,
}

/// None where a field is missing that every Redis has. `memory` and `replication`: the sections of INFO.
pub fn vitals(memory: &str, replication: &str) -> Option<Vitals> {
    let role = match field(replication, "role")? {
        "master" => Role::Master,
        "slave" => Role::Replica,
        _ => return None,
    };
    let link = field(replication, "master_link_status");
    Some(Vitals {
        role,
        used_bytes: number(memory, "used_memory")?,
        max_bytes: number(memory, "maxmemory")?,
        replicas: number(replication, "connected_slaves")?,
        follows: (role == Role::Replica).then_some(link == Some("up")),
    })
}

fn field<'a>(section: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = section.lines();
    lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
}

fn number(section: &str, name: &str) -> Option<u64> {
    field(section, name)?.parse().ok()
}

/// A Redis that answered: its shard (0 where there is one), its pod, what it is.
pub type Claim<'a> = (usize, &'a str, Role);

/// Which pod was the master of each shard when there was exactly one.
#[derive(Debug, Default)]
pub struct Masters(BTreeMap<usize, String>);

impl Masters {
    /// How many shards have another master than before. A shard of which two say that they are it, as one that was lost and
    /// has not heard of it or one that has just begun, is looked at again; the first master of all is no failover.
    pub fn changed(&mut self, claims: &[Claim<'_>]) -> u64 {
        let mut masters: BTreeMap<usize, Vec<&str>> = BTreeMap::new();
        for (shard, pod, role) in claims {
            if *role == Role::Master {
                masters.entry(*shard).or_default().push(pod);
            }
        }
        let mut changed = 0;
        for (shard, pods) in masters {
            let [pod] = pods[..] else { continue };
            let before = self.0.insert(shard, pod.to_owned());
            changed += u64::from(before.is_some_and(|before| before != pod));
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_redis_says_is_read_and_half_of_it_is_nothing() {
        let memory =
            "# Memory\r\nused_memory:1048576\r\nused_memory_human:1.00M\r\nmaxmemory:0\r\n";
        let master = "# Replication\r\nrole:master\r\nconnected_slaves:2\r\n";
        let replica = "role:slave\r\nmaster_link_status:up\r\nconnected_slaves:0\r\n";
        let behind = "role:slave\r\nmaster_link_status:down\r\nconnected_slaves:0\r\n";
        let of = |role, replicas, follows| {
            Some(Vitals {
                role,
                used_bytes: 1 << 20,
                max_bytes: 0,
                replicas,
                follows,
            })
        };
        for (memory, replication, expected) in [
            (memory, master, of(Role::Master, 2, None)),
            (memory, replica, of(Role::Replica, 0, Some(true))),
            (memory, behind, of(Role::Replica, 0, Some(false))),
            ("", master, None),
            (memory, "role:sentinel\r\nconnected_slaves:0", None),
            (memory, "", None),
        ] {
            assert_eq!(vitals(memory, replication), expected, "{replication}");
        }
    }

    /// Look by look: who answers as what, and how many failovers there were.
    #[test]
    fn another_master_is_a_failover_and_two_at_a_time_are_none_yet() {
        use Role::{Master, Replica};
        let mut masters = Masters::default();
        for (look, claims, expected) in [
            // Three that have just begun, and have no master.
            (0, &[(0, "a", Replica), (0, "b", Replica)][..], 0),
            (1, &[(0, "a", Master), (0, "b", Replica)], 0),
            (2, &[(0, "a", Master), (0, "b", Replica)], 0),
            // It restarted before anybody missed it.
            (3, &[(0, "a", Master)], 0),
            (4, &[], 0),
            (5, &[(0, "a", Master), (0, "b", Master)], 0),
            (6, &[(0, "a", Replica), (0, "b", Master)], 1),
            (7, &[(0, "b", Master), (1, "c", Master)], 0),
            (8, &[(0, "a", Master), (1, "d", Master)], 2),
        ] {
            assert_eq!(masters.changed(claims), expected, "look {look}");
        }
    }
}
