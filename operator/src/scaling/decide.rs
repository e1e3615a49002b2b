//! What a look comes to: the size of the Deployment, and what is done to which pod.

use k8s_openapi::jiff::Timestamp;

use super::closed::Closed;
use super::drain::{Step, after, due, step};
use super::victim::choose;
use super::{
    Act, Cause, Fleet, Gateway, Mark, Moving, Order, Plan, Waits, budget, rebalance, rollout,
};
use crate::reason::Told;

/// Seconds from the label of an old gateway until it is given up although few of its clients have come to the new ones.
const CLIENTS_COME_WITHIN: i64 = 120;

/// The replicas of the Deployment: what is wished, but never so few that a pod goes which was not given up. Needs to know
/// nothing of what gateways say.
#[must_use]
pub fn size(fleet: &Fleet) -> usize {
    // Clients of the last gateway have no other to go to.
    if fleet.wished == 0 || fleet.wished >= fleet.size {
        return fleet.wished;
    }
    if fleet.rolling {
        return fleet.size;
    }
    let given_up = active(fleet).filter(|gateway| is_given_up(gateway)).count();
    // By the pods, not by the size before: one that was given up is still there for a moment after the size was written.
    let left = active(fleet).count() - given_up;
    left.min(fleet.size).max(fleet.wished)
}

/// What to do next. Marks first: who gives clients away, and who does no longer; then how fast.
#[must_use]
pub fn plan(fleet: &Fleet, now: Timestamp) -> Plan {
    let closed = Closed::of(fleet);
    let mut deciding = Deciding {
        fleet,
        now,
        per_second: budget::per_second(fleet.policy, &fleet.gateways),
        closed,
        lists_some_that_go: lists_some_that_go(fleet, closed),
        plan: Plan::default(),
        shedding: Vec::new(),
        unheard: 0,
    };
    deciding.replace();
    let is_quiet = deciding.scale_in();
    deciding.rebalance(is_quiet);
    deciding.end();
    deciding.pace();
    deciding.serve();
    deciding.plan
}

/// Those that are not ending.
fn active(fleet: &Fleet) -> impl Iterator<Item = &Gateway> {
    fleet.gateways.iter().filter(|gateway| !gateway.ending)
}

/// Whoever comes back to any of them is moved again. A new one that only takes no more keeps those who come.
fn lists_some_that_go(fleet: &Fleet, closed: Closed) -> bool {
    fleet.gateways.iter().any(|gateway| {
        let closed = gateway.serving == Some(false) || closed.has(fleet, gateway);
        let goes = gateway.ending || gateway.mark.is_some();
        gateway.listed && (goes || (gateway.is_old || gateway.cordoned) && closed)
    })
}

fn is_given_up(gateway: &Gateway) -> bool {
    gateway.mark.is_some_and(|mark| mark.given_up.is_some())
}

struct Deciding<'a> {
    fleet: &'a Fleet,
    now: Timestamp,
    /// The budget.
    per_second: u32,
    closed: Closed,
    /// Nobody is sent away yet: some would come back to where they are sent away again.
    lists_some_that_go: bool,
    plan: Plan,
    /// Those that send clients away, with how many may stay.
    shedding: Vec<(&'a Gateway, u64)>,
    /// Those that may do so, and do not answer.
    unheard: usize,
}

impl<'a> Deciding<'a> {
    fn order(&mut self, gateway: &Gateway, act: Act, told: Option<(Told, String)>) {
        let pod = gateway.pod.clone();
        self.plan.orders.push(Order { pod, act, told });
    }

    /// Pods of an earlier version have no label, and one that somebody took out of the Service by hand is put back.
    fn serve(&mut self) {
        for gateway in active(self.fleet).filter(|gateway| gateway.mark.is_none()) {
            // It is to be marked, and has its label with that.
            if self
                .plan
                .orders
                .iter()
                .any(|order| order.pod == gateway.pod)
            {
                continue;
            }
            let serves = !self.closed.has(self.fleet, gateway);
            if gateway.serving != Some(serves) {
                let act = if serves { Act::Serve } else { Act::Close };
                self.order(gateway, act, None);
            }
        }
    }

    /// The old gateways of a rollout, one after the other.
    fn replace(&mut self) {
        let fleet = self.fleet;
        for gateway in active(fleet).filter(|gateway| gateway.is_for(Cause::Rollout)) {
            if gateway.is_old {
                self.go_on(gateway);
            } else {
                // The template is what it was before.
                self.order(gateway, Act::Readmit { missed: false }, None);
            }
        }
        if let Some(gateway) = rollout::next(fleet) {
            self.withdraw(gateway, (Cause::Rollout, 0), None);
        }
    }

    /// Whether there is nothing of the kind to do.
    fn scale_in(&mut self) -> bool {
        let fleet = self.fleet;
        let mut marked: Vec<&Gateway> =
            active(fleet).filter(|g| g.is_for(Cause::ScaleIn)).collect();
        // Those that are nearest to their end go on.
        marked.sort_by_key(|gateway| {
            (
                !is_given_up(gateway),
                gateway.clients(),
                gateway.pod.clone(),
            )
        });
        let count = active(fleet).count();
        let surplus = match fleet.rolling {
            true => fleet.size.saturating_sub(fleet.wished),
            false => count.saturating_sub(fleet.wished),
        };
        let kept = marked.len().min(surplus);
        for gateway in &marked[kept..] {
            self.readmit(gateway);
        }
        for gateway in &marked[..kept] {
            self.go_on(gateway);
        }
        let more = fleet.size.min(count).saturating_sub(fleet.wished);
        let more = more.saturating_sub(kept);
        match (fleet.wished, more, fleet.rolling) {
            (0, ..) | (_, 0, _) => {}
            (.., true) => self.plan.waits = Some(Waits::ForRollout),
            (_, more, false) => self.begin(more, &marked[..kept]),
        }
        marked.is_empty() && more == 0 && !fleet.rolling
    }

    fn begin(&mut self, count: usize, kept: &[&Gateway]) {
        let leaving = kept.iter().filter_map(|gateway| gateway.clients()).sum();
        let (chosen, enough) = choose(&self.fleet.gateways, count, leaving);
        if enough.is_err() {
            self.plan.waits = Some(Waits::ForRoom);
        }
        for gateway in chosen {
            let clients = gateway.clients().unwrap_or(0);
            let note = format!(
                "pod {} gives its {clients} clients to the others, {} a second in all, because {} gateways are wished \
                 and there are {}",
                gateway.pod, self.per_second, self.fleet.wished, self.fleet.size
            );
            self.withdraw(
                gateway,
                (Cause::ScaleIn, 0),
                Some((Told::GatewayDrains, note)),
            );
        }
    }

    fn withdraw(
        &mut self,
        gateway: &Gateway,
        (cause, down_to): (Cause, u64),
        told: Option<(Told, String)>,
    ) {
        let mark = self.mark(gateway, (cause, down_to));
        self.order(gateway, Act::Withdraw(mark), told);
    }

    fn mark(&self, gateway: &Gateway, (cause, down_to): (Cause, u64)) -> Mark {
        Mark {
            cause,
            since: self.now,
            clients: gateway.clients().unwrap_or(0),
            down_to,
            unlisted: None,
            given_up: None,
        }
    }

    fn readmit(&mut self, gateway: &Gateway) {
        let clients = gateway.clients().unwrap_or(0);
        let pod = &gateway.pod;
        // The wish that it was given up for still is, or a smaller one, so it should have gone.
        let wished = gateway.mark.and_then(|mark| mark.given_up);
        let missed = wished.is_some_and(|wished| self.fleet.wished <= wished);
        let told = if missed {
            let note = format!(
                "pod {pod} was to be deleted, and another one went: it takes clients again"
            );
            (Told::OtherGatewayEnded, note)
        } else {
            let note = format!(
                "pod {pod} takes clients again, and has kept {clients}: it is wished again"
            );
            (Told::GatewayReadmitted, note)
        };
        self.order(gateway, Act::Readmit { missed }, Some(told));
    }

    fn go_on(&mut self, gateway: &'a Gateway) {
        let Some(mark) = gateway.mark else { return };
        let wished = self.fleet.wished;
        self.moves(gateway, &mark);
        let (next, told) = match self.step(gateway, &mark) {
            Step::Wait => {
                self.unheard += usize::from(gateway.node.is_none() && mark.clients > 0);
                return;
            }
            // What ends here ends for good: first its clients are to be where they were sent.
            Step::Empty if self.waits_for_clients(&mark) => return,
            Step::Unlisted => return self.order(gateway, Act::Unlisted(self.now), None),
            Step::Shed => return self.shedding.push((gateway, mark.down_to)),
            Step::Empty => (Act::GiveUp { wished, cut: 0 }, None),
            Step::Late(left) => {
                let note = format!(
                    "pod {} still has {left} of its {} clients at its deadline: they are told to go all at once",
                    gateway.pod, mark.clients
                );
                (
                    Act::GiveUp { wished, cut: left },
                    Some((Told::ClientsCut, note)),
                )
            }
        };
        if mark.given_up.is_none() {
            self.order(gateway, next, told);
        }
    }

    /// Where a gateway may have more clients than the others. Off while anything else moves clients.
    fn rebalance(&mut self, is_quiet: bool) {
        let fleet = self.fleet;
        let marked: Vec<&Gateway> = active(fleet)
            .filter(|g| g.is_for(Cause::Rebalance))
            .collect();
        let alone = is_quiet
            && fleet.gateways.len() == fleet.wished
            && fleet.size == fleet.wished
            && !fleet.gateways.iter().any(Gateway::drains_by_hand)
            // Those would have to take some, too.
            && !fleet.gateways.iter().any(|g| self.closed.has(fleet, g));
        let mean = rebalance::mean(&fleet.gateways).unwrap_or(0);
        for gateway in &marked {
            let Some(mut mark) = gateway.mark else {
                continue;
            };
            // While clients come the others get all of them: with the average of the beginning it would have too few.
            mark.down_to = mark.down_to.max(mean);
            match self.step(gateway, &mark) {
                Step::Shed if alone => self.shedding.push((gateway, mark.down_to)),
                Step::Unlisted if alone => self.order(gateway, Act::Unlisted(self.now), None),
                Step::Wait if alone => {}
                _ => {
                    self.order(gateway, Act::Readmit { missed: false }, None);
                    continue;
                }
            }
            self.moves(gateway, &mark);
        }
        if !marked.is_empty() || !alone {
            return;
        }
        for (gateway, down_to) in rebalance::choose(&fleet.gateways) {
            let note = format!(
                "pod {} has {} clients, and there are {down_to} on average: the rest is given to the others, {} a second \
                 in all",
                gateway.pod,
                gateway.clients().unwrap_or(0),
                self.per_second
            );
            self.withdraw(
                gateway,
                (Cause::Rebalance, down_to),
                Some((Told::Rebalanced, note)),
            );
        }
    }

    /// Those that somebody else ends. They serve until they are told their pace, which is when nobody can come to them any
    /// more.
    fn end(&mut self) {
        let ending = self.fleet.gateways.iter().filter(|gateway| gateway.ending);
        for gateway in ending {
            let ended = gateway.mark.filter(|mark| mark.cause == Cause::Ended);
            if gateway.node.is_none() {
                self.unheard += usize::from(ended.is_some());
                continue;
            }
            if gateway.leaving() == 0 {
                continue;
            }
            if gateway.mark.is_none() {
                let mark = Mark {
                    unlisted: (!self.lists_some_that_go).then_some(self.now),
                    ..self.mark(gateway, (Cause::Ended, 0))
                };
                self.order(gateway, Act::Withdraw(mark), None);
            }
            let mark = gateway.mark.map(|mark| Mark { down_to: 0, ..mark });
            match mark.map(|mark| self.step(gateway, &mark)) {
                Some(Step::Unlisted) => self.order(gateway, Act::Unlisted(self.now), None),
                Some(Step::Shed | Step::Late(_)) => self.shedding.push((gateway, 0)),
                // It has begun by itself: the operator was away.
                None if gateway.pace.is_some() => self.shedding.push((gateway, 0)),
                None | Some(Step::Wait | Step::Empty) => {}
            }
            if let Some(mark) = gateway.mark {
                self.moves(gateway, &mark);
            }
        }
    }

    /// The budget, in equal parts for all that send clients away, also those that end. What a person drains by hand goes
    /// at its own pace, and the others have that much less.
    fn pace(&mut self) {
        let by_hand = self.fleet.gateways.iter().filter(|g| g.drains_by_hand());
        let taken: u32 = by_hand.filter_map(|gateway| gateway.pace).sum();
        let shedding = std::mem::take(&mut self.shedding);
        let budget = self.per_second.saturating_sub(taken).max(1);
        let shares = budget::shares(budget, shedding.len() + self.unheard);
        let mut paces: Vec<_> = shedding
            .into_iter()
            .zip(shares)
            .filter(|((gateway, _), share)| *share > 0 && gateway.pace != Some(*share))
            .collect();
        // First those that are to be slower: whoever is stopped in the midst of it has exceeded nothing.
        paces.sort_by_key(|((gateway, _), share)| gateway.pace.is_none_or(|pace| pace < *share));
        for ((gateway, down_to), per_second) in paces {
            let act = Act::Shed {
                per_second,
                down_to,
            };
            self.order(gateway, act, None);
        }
    }

    /// As long as a template that keeps clients away may take to be taken back, and no longer.
    fn waits_for_clients(&self, mark: &Mark) -> bool {
        let until = after(mark.since, CLIENTS_COME_WITHIN);
        mark.given_up.is_none()
            && mark.cause == Cause::Rollout
            && rollout::stay_away(self.fleet)
            && self.now < until
    }

    fn step(&self, gateway: &Gateway, mark: &Mark) -> Step {
        let due = due(&self.fleet.gateways, mark, self.per_second);
        let until = after(due, self.fleet.policy.deadline_seconds.into());
        step(gateway, mark, self.lists_some_that_go, (until, self.now))
    }

    fn moves(&mut self, gateway: &Gateway, mark: &Mark) {
        let (leaving, clients) = (mark.leaving(), gateway.clients().unwrap_or(mark.clients));
        let left = clients.saturating_sub(mark.down_to).min(leaving);
        let percent = ((leaving - left) * 10).checked_div(leaving).unwrap_or(10) * 10;
        self.plan.moving.push(Moving {
            pod: gateway.pod.clone(),
            cause: mark.cause,
            clients: leaving,
            percent,
            due: due(&self.fleet.gateways, mark, self.per_second),
        });
    }
}

#[cfg(test)]
mod tests;
