//! Owned objects as they were read, for as long as nothing is heard of them.
//!
//! A look at a PushCluster needs all its objects, and with hundreds at rest each of them would be asked for again and again
//! to learn that nothing has happened, which the watches tell anyway. What is kept decides only that there is nothing to
//! do: before a write everything is read anew (`push_cluster::look`).

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use kube::core::PartialObjectMeta;
use kube::{Resource, ResourceExt};

/// Longest that something is believed without a new look. A watch that was interrupted does not tell of what was deleted
/// meanwhile.
const BELIEVED: Duration = Duration::from_secs(600);
/// How often what is believed no more is removed.
const SWEEP: Duration = Duration::from_secs(60);

/// Only of kinds that are watched. An entry goes with the first word of the object, or when it is older than [`BELIEVED`].
#[derive(Default)]
pub struct Kept(Mutex<Entries>);

#[derive(Default)]
struct Entries {
    of: HashMap<Key, Entry>,
    last_ticket: u64,
    swept: Option<Instant>,
}

/// The kind, and namespace and name.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key(TypeId, String, String);

struct Entry {
    since: Instant,
    what: What,
}

enum What {
    /// Asked for, by who holds this ticket.
    Asked(u64),
    /// An `Option<K>`: that there is none is known as well.
    Read(Arc<dyn Any + Send + Sync>),
}

/// What is read now is kept if nothing is heard of it until it is here.
pub struct Ticket(u64);

impl Kept {
    /// What was read and not heard of since: None where nothing is kept, Some(None) where there is no such object.
    pub fn find<K>(&self, namespace: &str, name: &str, now: Instant) -> Option<Option<K>>
    where
        K: Clone + Send + Sync + 'static,
    {
        let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = entries.of.get(&key::<K>(namespace, name))?;
        let What::Read(object) = &entry.what else {
            return None;
        };
        if now.duration_since(entry.since) >= BELIEVED {
            return None;
        }
        object.downcast_ref::<Option<K>>().cloned()
    }

    /// Before an object is asked for.
    pub fn ask<K: 'static>(&self, namespace: &str, name: &str, now: Instant) -> Ticket {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries.sweep(now);
        entries.last_ticket += 1;
        let ticket = entries.last_ticket;
        let what = What::Asked(ticket);
        let entry = Entry { since: now, what };
        entries.of.insert(key::<K>(namespace, name), entry);
        Ticket(ticket)
    }

    /// When it is here.
    pub fn keep<K>(&self, namespace: &str, name: &str, ticket: &Ticket, object: Option<K>)
    where
        K: Send + Sync + 'static,
    {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Heard of meanwhile, or asked for once more: what came may be from before.
        let entry = entries.of.get_mut(&key::<K>(namespace, name));
        if let Some(entry) =
            entry.filter(|entry| matches!(entry.what, What::Asked(asked) if asked == ticket.0))
        {
            entry.what = What::Read(Arc::new(object));
        }
    }

    /// Something was heard of an object.
    pub fn forget<K: 'static>(&self, heard: &PartialObjectMeta<K>)
    where
        PartialObjectMeta<K>: Resource,
    {
        let namespace = heard.namespace().unwrap_or_default();
        let key = key::<K>(&namespace, &heard.name_any());
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries.of.remove(&key);
    }
}

impl Entries {
    fn sweep(&mut self, now: Instant) {
        let swept = *self.swept.get_or_insert(now);
        if now.duration_since(swept) >= SWEEP {
            self.swept = Some(now);
            self.of
                .retain(|_, entry| now.duration_since(entry.since) < BELIEVED);
        }
    }
}

fn key<K: 'static>(namespace: &str, name: &str) -> Key {
    Key(TypeId::of::<K>(), namespace.into(), name.into())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{ConfigMap, Service};
    use kube::api::ObjectMeta;
    use kube::core::PartialObjectMetaExt;

    use super::*;

    fn service(version: &str) -> Service {
        Service {
            metadata: ObjectMeta {
                resource_version: Some(version.into()),
                ..ObjectMeta::default()
            },
            ..Service::default()
        }
    }

    fn heard(namespace: &str, name: &str) -> PartialObjectMeta<Service> {
        let meta = ObjectMeta {
            namespace: Some(namespace.into()),
            name: Some(name.into()),
            ..ObjectMeta::default()
        };
        meta.into_response_partial()
    }

    #[test]
    fn what_was_read_is_kept_until_it_is_heard_of() {
        let kept = Kept::default();
        let now = Instant::now();
        let found = |name| kept.find::<Service>("shop", name, now);
        assert_eq!(found("demo"), None);
        let ticket = kept.ask::<Service>("shop", "demo", now);
        assert_eq!(found("demo"), None);
        kept.keep("shop", "demo", &ticket, Some(service("1")));
        assert_eq!(found("demo"), Some(Some(service("1"))));
        let ticket = kept.ask::<Service>("shop", "none", now);
        kept.keep::<Service>("shop", "none", &ticket, None);
        assert_eq!(found("none"), Some(None));
        assert_eq!(kept.find::<ConfigMap>("shop", "demo", now), None);

        kept.forget(&heard("else", "demo"));
        assert_eq!(found("demo"), Some(Some(service("1"))));
        kept.forget(&heard("shop", "demo"));
        assert_eq!(found("demo"), None);
    }

    #[test]
    fn what_is_heard_of_while_it_is_read_is_not_kept() {
        let kept = Kept::default();
        let now = Instant::now();
        let ticket = kept.ask::<Service>("shop", "demo", now);
        kept.forget(&heard("shop", "demo"));
        kept.keep("shop", "demo", &ticket, Some(service("1")));
        assert_eq!(kept.find::<Service>("shop", "demo", now), None);

        // Asked for twice, and the first answer comes late.
        let first = kept.ask::<Service>("shop", "demo", now);
        let second = kept.ask::<Service>("shop", "demo", now);
        kept.keep("shop", "demo", &second, Some(service("2")));
        kept.keep("shop", "demo", &first, Some(service("1")));
        let found = kept.find::<Service>("shop", "demo", now);
        assert_eq!(found, Some(Some(service("2"))));
    }

    #[test]
    fn nothing_is_believed_for_ever_and_nothing_stays_that_nobody_asks_for() {
        let kept = Kept::default();
        let begun = Instant::now();
        for name in ["demo", "other"] {
            let ticket = kept.ask::<Service>("shop", name, begun);
            kept.keep("shop", name, &ticket, Some(service("1")));
        }
        let later = begun + BELIEVED - Duration::from_secs(1);
        assert!(kept.find::<Service>("shop", "demo", later).is_some());
        let later = begun + BELIEVED;
        assert_eq!(kept.find::<Service>("shop", "demo", later), None);
        kept.ask::<Service>("shop", "demo", later);
        assert_eq!(kept.0.lock().unwrap().of.len(), 1);
    }
}
