//! All masters together: whether the node delivers, and what metrics say of it.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Gauge, IntGauge, IntGaugeVec, Opts};

use super::probe::{Pulse, Showing};
use crate::broker::Health;

/// How long `/ready` tells of a key of another program, and how long the log tells of no further one: clients choose
/// which channels are asked for, and how often.
const FOREIGN: Duration = Duration::from_secs(60);

/// The node delivers when each of its connections does.
pub(super) struct Pulses {
    state: Mutex<Whole>,
    began: Instant,
}

#[derive(Default)]
struct Whole {
    /// Why nobody knows which Redis to go to.
    trouble: Option<String>,
    links: Vec<Arc<Pulse>>,
    /// A key of another program where a log of ours should be, and when it was found.
    foreign: Option<(String, Instant)>,
}

impl Pulses {
    pub(super) fn new(trouble: Option<String>) -> Pulses {
        let state = Mutex::new(Whole {
            trouble,
            ..Whole::default()
        });
        let began = Instant::now();
        Pulses { state, began }
    }

    pub(super) fn is_news(&self, trouble: &str) -> bool {
        self.state().trouble.as_deref() != Some(trouble)
    }

    pub(super) fn trouble(&self, trouble: Option<String>) {
        self.state().trouble = trouble;
    }

    pub(super) fn add(&self, link: Arc<Pulse>) {
        self.state().links.push(link);
    }

    pub(super) fn remove(&self, link: &Arc<Pulse>) {
        self.state().links.retain(|other| !Arc::ptr_eq(other, link));
    }

    /// A channel has no log, because a key of another program is in its place. Returns whether that is news.
    pub(super) fn foreign(&self, why: &str, now: Instant) -> bool {
        let foreign = &mut self.state().foreign;
        let recent =
            |(_, since): &(String, Instant)| now.saturating_duration_since(*since) < FOREIGN;
        if foreign.as_ref().is_some_and(recent) {
            return false;
        }
        *foreign = Some((why.to_owned(), now));
        true
    }

    pub(super) fn health(&self, now: Instant) -> Health {
        let state = self.state();
        if let Some(trouble) = &state.trouble {
            return Health::NotDelivering(trouble.clone());
        }
        if state.links.is_empty() {
            return Health::NotDelivering("connecting to Redis".to_owned());
        }
        let mut whole = Health::Delivering;
        for health in state.links.iter().map(|link| link.health(now)) {
            match health {
                Health::NotDelivering(_) => return health,
                Health::Impaired(_) => whole = health,
                Health::Delivering => {}
            }
        }
        match &state.foreign {
            Some((why, since)) if now.saturating_duration_since(*since) < FOREIGN => {
                Health::Impaired(why.clone())
            }
            _ => whole,
        }
    }

    fn state(&self) -> MutexGuard<'_, Whole> {
        // One assignment at a time: a panic elsewhere cannot have left it half written.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a [`Watch`] looks at; nothing before it is set.
pub(super) type Watched = Arc<OnceLock<Arc<Pulses>>>;

/// The gauges, as they are when somebody asks.
pub(super) struct Watch {
    pulses: Watched,
    age: Gauge,
    connected: IntGauge,
    connections: IntGaugeVec,
}

const STATES: [(&str, Showing); 5] = [
    ("connecting", Showing::Connecting),
    ("starting", Showing::Starting),
    ("delivering", Showing::Delivering),
    ("silent", Showing::Silent),
    ("refusing", Showing::Refusing),
];

impl Watch {
    pub(super) fn new(pulses: Watched) -> Result<Watch, prometheus::Error> {
        Ok(Watch {
            pulses,
            age: Gauge::new(
                "pushcluster_broker_probe_age_seconds",
                "Since a probe came back through Redis, of the connection for which that is longest.",
            )?,
            connected: IntGauge::new(
                "pushcluster_broker_connected",
                "Whether the masters of Redis are known and each has an open subscription connection.",
            )?,
            connections: IntGaugeVec::new(
                Opts::new(
                    "pushcluster_broker_connections",
                    "Subscription connections to Redis, by what probes through them show; /ready names those that do not deliver.",
                ),
                &["state"],
            )?,
        })
    }

    fn look(&self, pulses: &Pulses, now: Instant) {
        let state = pulses.state();
        let ages = state.links.iter().map(|link| link.age(now));
        let began = now.saturating_duration_since(pulses.began);
        self.age.set(ages.max().unwrap_or(began).as_secs_f64());
        let showing: Vec<Showing> = state.links.iter().map(|link| link.showing(now)).collect();
        let open = !showing.is_empty() && !showing.contains(&Showing::Connecting);
        self.connected
            .set(i64::from(open && state.trouble.is_none()));
        for (label, state) in STATES {
            let count = showing.iter().filter(|showing| **showing == state).count();
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.connections.with_label_values(&[label]).set(count);
        }
    }
}

impl Collector for Watch {
    fn desc(&self) -> Vec<&Desc> {
        let gauges = [
            self.age.desc(),
            self.connected.desc(),
            self.connections.desc(),
        ];
        gauges.into_iter().flatten().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let Some(pulses) = self.pulses.get() else {
            return Vec::new();
        };
        self.look(pulses, Instant::now());
        let gauges = [
            self.age.collect(),
            self.connected.collect(),
            self.connections.collect(),
        ];
        gauges.into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_delivers_when_each_of_its_connections_does() {
        let now = Instant::now();
        let link = |address: &str| Arc::new(Pulse::new(Duration::from_secs(1), address.into()));
        let (a, b) = (link("a"), link("b"));
        let pulses = Pulses::new(Some("looking".into()));
        let says = || match pulses.health(now) {
            Health::Delivering => "delivering".to_owned(),
            Health::Impaired(why) | Health::NotDelivering(why) => why,
        };
        assert_eq!(says(), "looking");
        assert!(!pulses.is_news("looking"));
        pulses.trouble(None);
        assert_eq!(says(), "connecting to Redis");
        for pulse in [&a, &b] {
            pulses.add(pulse.clone());
            pulse.subscribed();
        }
        a.returned(now);
        assert_eq!(
            says(),
            "Redis at b: waiting for the first probe to come back"
        );
        b.returned(now);
        assert_eq!(says(), "delivering");
        a.down("closed");
        assert_eq!(says(), "Redis at a: closed");
        pulses.remove(&a);
        assert_eq!(says(), "delivering");
        pulses.trouble(Some("5 slots have no master".into()));
        assert_eq!(says(), "5 slots have no master");
    }

    #[test]
    fn a_connection_that_delivers_nothing_is_told_of_before_what_impairs_others() {
        let now = Instant::now();
        let pulses = Pulses::new(None);
        let links = ["a", "b", "c"].map(|address| {
            let link = Arc::new(Pulse::new(Duration::from_secs(1), address.into()));
            pulses.add(link.clone());
            link.returned(now);
            link
        });
        let policy = || Some("allkeys-lru".to_owned());
        assert!(links[1].evicts(policy()).is_some());
        assert_eq!(links[1].evicts(policy()), None, "no news");
        let Health::Impaired(why) = pulses.health(now) else {
            panic!("{:?}", pulses.health(now));
        };
        let expected = "Redis at b deletes keys when it is full (maxmemory-policy allkeys-lru): ";
        assert!(why.starts_with(expected), "{why}");
        links[2].down("closed");
        let down = Health::NotDelivering("Redis at c: closed".into());
        assert_eq!(pulses.health(now), down);
        links[2].returned(now);
        assert_eq!(links[1].evicts(None), None);
        assert_eq!(pulses.health(now), Health::Delivering);
    }

    #[test]
    fn gauges_say_what_probes_show() {
        let now = Instant::now();
        let watch = Watch::new(Watched::default()).unwrap();
        let pulses = Pulses::new(None);
        let read = || {
            watch.look(&pulses, now);
            let counts =
                STATES.map(|(label, _)| watch.connections.with_label_values(&[label]).get());
            (watch.connected.get(), counts)
        };
        assert_eq!(read(), (0, [0; 5]));
        let links = ["a", "b", "c"].map(|address| {
            let link = Arc::new(Pulse::new(Duration::from_secs(1), address.into()));
            pulses.add(link.clone());
            link
        });
        assert_eq!(read(), (0, [3, 0, 0, 0, 0]));
        links.iter().for_each(|link| link.subscribed());
        assert_eq!(read(), (1, [0, 3, 0, 0, 0]));
        links[0].returned(now);
        links[1].refused("OOM");
        links[2].returned(now.checked_sub(Duration::from_secs(4)).unwrap());
        assert_eq!(read(), (1, [0, 0, 1, 1, 1]));
        assert!((watch.age.get() - 4.0).abs() < 0.1, "{}", watch.age.get());
        pulses.trouble(Some("5 slots have no master".into()));
        assert_eq!(read().0, 0);
    }

    #[test]
    fn a_key_of_another_program_is_told_of_now_and_then() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let pulses = Pulses::new(None);
        let link = Arc::new(Pulse::new(Duration::from_secs(600), "a".into()));
        pulses.add(link.clone());
        link.returned(start);
        assert!(pulses.foreign("one", at(0)));
        assert!(!pulses.foreign("another", at(59)));
        assert_eq!(pulses.health(at(59)), Health::Impaired("one".into()));
        assert_eq!(pulses.health(at(60)), Health::Delivering);
        assert!(pulses.foreign("another", at(60)));
        link.down("closed");
        assert!(matches!(pulses.health(at(61)), Health::NotDelivering(_)));
    }
}
