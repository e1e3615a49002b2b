//! Who is in which channel on this node, where a policy says that others may know: the table behind its lock.
//!
//! It follows from what the shards do, so it names nobody who is not there. Of other nodes it knows nothing; what is said
//! of them are the messages of kind presence that they publish on the channel itself.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::value::RawValue;

use crate::message::{ConnectionId, Message, MessageKind, Sender};
use crate::metrics::Metrics;
use crate::name::ChannelName;

mod table;
pub use table::{Change, Covers, List, Member, News, Scope, Table};

/// The node's table. Asked by the router and by the HTTP API.
pub struct Present {
    table: Mutex<Table>,
    node: Arc<str>,
    metrics: Arc<Metrics>,
}

/// What became of one of this node's connections in a channel with presence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    pub channel: ChannelName,
    /// The connection's.
    pub number: u64,
    pub change: Change,
    /// Milliseconds since the Unix epoch.
    pub timestamp: u64,
}

impl Present {
    #[must_use]
    pub fn new(node: &Arc<str>, metrics: &Arc<Metrics>) -> Present {
        Present {
            table: Mutex::default(),
            node: node.clone(),
            metrics: metrics.clone(),
        }
    }

    /// Takes it down, and publishes what the others are to be told; returns what `publish` did, which must not wait.
    pub fn change<P>(
        &self,
        changed: Changed,
        mut publish: impl FnMut(ChannelName, Message) -> P,
    ) -> [Option<P>; 2] {
        let Changed {
            channel,
            number,
            change,
            timestamp,
        } = changed;
        let connection = ConnectionId::new(&self.node, number);
        // Held until the messages have their place in the channel's order: a user's last connection on one shard and
        // its next one on another would be told the wrong way round.
        let mut table = self.table();
        let News { left, came } = table.change(&channel, &connection, change);
        self.metrics.present(table.members());
        [("leave", left), ("join", came)].map(|(event, member)| {
            let user = match member? {
                Member::User(user) => Some(user),
                Member::Connection(_) => None,
            };
            let connection = connection.clone();
            let said = message(event, Sender { connection, user }, timestamp);
            Some(publish(channel.clone(), said))
        })
    }

    #[must_use]
    pub fn list(&self, channel: &ChannelName, scope: Scope) -> List {
        self.table().list(channel, scope)
    }

    /// Never held over an await.
    fn table(&self) -> MutexGuard<'_, Table> {
        // Whole after every statement, so a panic elsewhere cannot have broken it.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the others are told.
fn message(event: &str, from: Sender, timestamp: u64) -> Message {
    let data = RawValue::from_string(format!("\"{event}\"")).expect("a word in quotes is JSON");
    Message {
        kind: MessageKind::Presence,
        data: data.into(),
        // Who comes knows it; who has left and come back at once must not be told of it as of another.
        except: Some(from.connection.clone()),
        from: Some(from),
        timestamp,
        only: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_and_its_place_in_the_channel_are_one_step() {
        let metrics = Arc::new(Metrics::register(&prometheus::Registry::new()).unwrap());
        let present = Present::new(&"gw".into(), &metrics);
        let mut told = Vec::new();
        let user = |user: &str| Some(Arc::from(user));
        for (number, change) in [
            (1, Change::Join { user: user("ann") }),
            (2, Change::Join { user: user("ann") }),
            (3, Change::Join { user: None }),
            (3, Change::Become { user: "bob".into() }),
            (1, Change::Leave),
            (2, Change::Leave),
        ] {
            let changed = Changed {
                channel: ChannelName::parse("a").unwrap(),
                number,
                change,
                timestamp: number,
            };
            let news = present.change(changed, |channel, message| {
                assert!(present.table.try_lock().is_err(), "another may come first");
                format!("{channel} {}", serde_json::to_string(&message).unwrap())
            });
            told.extend(news.into_iter().flatten());
        }
        let expected = [
            r#"a {"kind":"presence","data":"join","from":{"connection":"~gw.1","user":"ann"},"timestamp":1,"except":"~gw.1"}"#,
            r#"a {"kind":"presence","data":"join","from":{"connection":"~gw.3"},"timestamp":3,"except":"~gw.3"}"#,
            r#"a {"kind":"presence","data":"leave","from":{"connection":"~gw.3"},"timestamp":3,"except":"~gw.3"}"#,
            r#"a {"kind":"presence","data":"join","from":{"connection":"~gw.3","user":"bob"},"timestamp":3,"except":"~gw.3"}"#,
            r#"a {"kind":"presence","data":"leave","from":{"connection":"~gw.2","user":"ann"},"timestamp":2,"except":"~gw.2"}"#,
        ];
        assert_eq!(told, expected);
    }
}
