//! How the pods of mode Sentinel become others, one after the other: replicas first, each when the one before has
//! everything, and the master only when it has been succeeded by one of the new ones. So the master moves once, and
//! two are never away together. Pure; a look, then one order, then another look.

use super::shards::orders::{Act, Order};
use super::vitals::{Role, Vitals};

/// A pod of Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub pod: String,
    /// Whether its StatefulSet would make it otherwise by now.
    pub outdated: bool,
    /// Whether a Redis runs in it.
    pub runs: bool,
    pub ready: bool,
    /// Whether Kubernetes is about to remove it.
    pub ending: bool,
    /// None: it did not answer.
    pub vitals: Option<Vitals>,
}

/// What is done next. None: nothing is to be done, or something is under way that must end first. `wanted`: as many pods as
/// there are to be.
pub fn next(members: &[Member], wanted: usize) -> Option<Order> {
    let mut outdated = members.iter().filter(|m| m.outdated && !m.ending);
    let order = |member: &Member, act| Order {
        pod: member.pod.clone(),
        act,
    };
    // It may be what is missing: an image that does not exist, before the spec was put right.
    if let Some(broken) = outdated.clone().find(|member| !member.runs) {
        return Some(order(broken, Act::Replace));
    }
    let master = whole(members, wanted)?;
    let replica = outdated.clone().find(|member| member.pod != master.pod);
    match replica {
        Some(replica) => Some(order(replica, Act::Replace)),
        None => Some(order(outdated.next()?, Act::Yield)),
    }
}

/// The master, when everybody else has what it has.
fn whole(members: &[Member], wanted: usize) -> Option<&Member> {
    let is_master = |m: &&Member| m.vitals.is_some_and(|vitals| vitals.role == Role::Master);
    let follows = |m: &&Member| m.vitals.is_some_and(|vitals| vitals.follows == Some(true));
    let mut masters = members.iter().filter(is_master);
    let (Some(master), None) = (masters.next(), masters.next()) else {
        return None;
    };
    let replicas = members.iter().filter(follows).count();
    let connected = master.vitals.map(|vitals| vitals.replicas);
    let all = members.len() == wanted
        && replicas + 1 == wanted
        && connected == u64::try_from(replicas).ok();
    let all_stay = members.iter().all(|member| member.ready && !member.ending);
    (all && all_stay).then_some(master)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `M2`: a master with two replicas, `R`: a replica that follows, `B`: one that does not yet, `?`: silent, `x`: not even
    /// running. And `*`: outdated, `-`: not ready, `!`: ending.
    fn members(text: &str) -> Vec<Member> {
        let words = text.split(' ').enumerate();
        let member = |(place, word): (usize, &str)| {
            let number = word.chars().find_map(|c| c.to_digit(10));
            let role = match word.chars().next() {
                Some('M') => Some((Role::Master, None)),
                Some('R') => Some((Role::Replica, Some(true))),
                Some('B') => Some((Role::Replica, Some(false))),
                _ => None,
            };
            Member {
                pod: format!("redis-{place}"),
                outdated: word.contains('*'),
                runs: !word.contains('x'),
                ready: !word.contains(['-', 'x']),
                ending: word.contains('!'),
                vitals: role.map(|(role, follows)| Vitals {
                    role,
                    used_bytes: 1,
                    max_bytes: 0,
                    replicas: number.unwrap_or(0).into(),
                    follows,
                }),
            }
        };
        words.map(member).collect()
    }

    #[test]
    fn replicas_go_first_one_at_a_time_and_the_master_after_it_was_succeeded() {
        let replace = |pod: &str| Some((pod.to_owned(), Act::Replace));
        for (seen, expected) in [
            ("M2 R R", None),
            ("M2* R* R*", replace("redis-1")),
            // It is away, back, and has everything again.
            ("M1* R*", None),
            ("M1* ?- R*", None),
            ("M1* B R*", None),
            ("M2* R- R*", None),
            ("M2* R*! R*", None),
            // The master has not seen that it is back.
            ("M1* R R*", None),
            ("M2* R R*", replace("redis-2")),
            ("M2* R R", Some(("redis-0".to_owned(), Act::Yield))),
            // While another takes over, two say that they are it, or none does.
            ("M2* M0 R", None),
            ("R* R R", None),
            ("R* M1 R", None),
            ("R* M2 R", replace("redis-0")),
            ("R* M2- R", None),
            ("R M2 R", None),
            // The new ones do not start, and then the spec is put right.
            ("M1* x R*", None),
            ("M1* x* R*", replace("redis-1")),
            ("x* x* x*", replace("redis-0")),
            ("M1* x*! R*", None),
        ] {
            let order = next(&members(seen), 3).map(|order| (order.pod, order.act));
            assert_eq!(order, expected, "{seen}");
        }
    }

    #[test]
    fn the_master_moves_once_whoever_it_is() {
        for begin in ["M2* R* R*", "R* M2* R*", "R* R* M2*"] {
            let mut seen = members(begin);
            let mut moves = 0;
            while let Some(order) = next(&seen, 3) {
                let place = seen.iter().position(|member| member.pod == order.pod);
                let place = place.unwrap();
                match order.act {
                    Act::Replace => {
                        assert_eq!(seen[place].vitals.unwrap().role, Role::Replica);
                        seen[place].outdated = false;
                    }
                    Act::Yield => {
                        moves += 1;
                        assert!(moves <= 1, "{begin}: {seen:?}");
                        let other = (place + 1) % 3;
                        let vitals = seen[place].vitals;
                        seen[place].vitals = seen[other].vitals;
                        seen[other].vitals = vitals;
                    }
                    act => panic!("{act:?}"),
                }
            }
            let all_new = seen.iter().all(|member| !member.outdated);
            assert!(all_new && moves == 1, "{begin}: {seen:?}");
        }
    }
}
