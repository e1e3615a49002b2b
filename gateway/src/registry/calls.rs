//! Facts in, calls of scripts out. Pure.

use core::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::fact::{Fact, Place, State, Telling};
use super::{Call, Names, scripts};
use crate::message::{ConnectionId, Sender};
use crate::name::ChannelName;
use crate::presence::Member;

/// A lease by name: whose it is and which of its leases, as `gateway-0.8f3a…`. Values carry it, so that what was written
/// under one is told apart from what was written under the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseId(String);

impl LeaseId {
    /// `random` makes it one that nobody has had before.
    #[must_use]
    pub fn new(node: &str, random: u64) -> LeaseId {
        LeaseId(format!("{node}.{random:016x}"))
    }

    #[must_use]
    pub fn parse(text: &str) -> LeaseId {
        LeaseId(text.to_owned())
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn node(&self) -> &str {
        self.0.rsplit_once('.').map_or("", |(node, _)| node)
    }
}

/// The value of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Connection {
    pub node: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<IpAddr>,
    /// Milliseconds since the Unix epoch.
    pub connected_at: u64,
    #[serde(default, skip_serializing)]
    pub lease: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a> {
    node: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip: Option<IpAddr>,
    connected_at: u64,
    lease: &'a str,
}

#[derive(Serialize)]
struct Subscriber<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    lease: &'a str,
}

/// A batch as three steps, of which each has to be answered before the next is begun: whoever reaps finds all that was
/// written, and perhaps what was not.
#[derive(Debug, PartialEq, Eq)]
pub struct Steps {
    /// To be answered with 1; otherwise the lease is lost. None: nothing is new.
    pub note: Option<Call>,
    pub write: Vec<Call>,
    pub strike: Option<Call>,
}

/// At most some hundred facts: a script takes no more than 8,000 arguments.
#[must_use]
pub fn steps(names: &Names, lease: &LeaseId, facts: &[(Fact, State)]) -> Steps {
    let (gone, there): (Vec<_>, Vec<_>) = facts.iter().partition(|(_, state)| state.is_gone());
    let texts = |facts: Vec<&(Fact, State)>| facts.iter().map(|(fact, _)| fact.text()).collect();
    let note = (!there.is_empty()).then(|| Call {
        script: scripts::NOTE,
        keys: vec![
            names.of_lease(lease.as_str(), "lease"),
            facts_key(names, lease),
        ],
        arguments: texts(there),
    });
    let strike = (!gone.is_empty()).then(|| struck(names, lease, texts(gone)));
    let write = facts
        .iter()
        .map(|(fact, state)| write(names, lease, fact, state));
    Steps {
        note,
        write: write.collect(),
        strike,
    }
}

fn write(names: &Names, lease: &LeaseId, fact: &Fact, state: &State) -> Call {
    let (key, field) = match place(names, fact) {
        Spot::Field(key, field) => (key, field),
        Spot::Presence(channel, connection) => {
            return presence(names, lease, (channel, connection), state);
        }
    };
    let value = match state {
        // The last three are of presence, which has no such place.
        State::Gone | State::Left(_) | State::Present { .. } | State::Became { .. } => {
            return Call {
                script: scripts::ERASE,
                keys: vec![key],
                arguments: vec![field],
            };
        }
        State::Connected {
            ip, connected_ms, ..
        } => json(&Written {
            node: lease.node(),
            ip: *ip,
            connected_at: *connected_ms,
            lease: lease.as_str(),
        }),
        State::Subscribed { .. } if matches!(fact, Fact::Subscription { .. }) => {
            lease.as_str().to_owned()
        }
        State::Subscribed { user } => json(&Subscriber {
            user: user.as_deref(),
            lease: lease.as_str(),
        }),
    };
    let place = match (fact, state) {
        (
            Fact::Connection { user, .. },
            State::Connected {
                place: Some(place), ..
            },
        ) => Some((names.of_user(user, "arriving"), place)),
        _ => None,
    };
    match place {
        Some((arriving, place)) => Call {
            script: scripts::ARRIVE,
            keys: vec![key, arriving],
            arguments: vec![field, value, token(*place)],
        },
        None => Call {
            script: scripts::WRITE,
            keys: vec![key],
            arguments: vec![field, value],
        },
    }
}

fn token(place: Place) -> String {
    format!("{:016x}", place.0)
}

/// A place for one more connection of the user, of whom there may be so many, for so many milliseconds.
#[must_use]
pub fn take_place(names: &Names, user: &str, place: Place, (cap, ms): (u32, u128)) -> Call {
    Call {
        script: scripts::TAKE_PLACE,
        keys: vec![
            names.of_user(user, "connections"),
            names.of_user(user, "arriving"),
        ],
        arguments: vec![token(place), cap.to_string(), ms.to_string()],
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("texts and numbers always serialise")
}

/// Where a fact is.
enum Spot<'a> {
    /// Key and field.
    Field(String, String),
    Presence(&'a ChannelName, &'a ConnectionId),
}

fn place<'a>(names: &Names, fact: &'a Fact) -> Spot<'a> {
    let (key, field) = match fact {
        Fact::Present {
            channel,
            connection,
        } => return Spot::Presence(channel, connection),
        Fact::Connection { user, connection } => {
            (names.of_user(user, "connections"), connection.to_string())
        }
        Fact::Subscription {
            user,
            connection,
            channel,
        } => {
            let field = format!("{connection} {channel}");
            (names.of_user(user, "subscriptions"), field)
        }
        Fact::Subscriber {
            channel,
            connection,
        } => (
            names.of_channel(channel, "subscribers"),
            connection.to_string(),
        ),
    };
    Spot::Field(key, field)
}

/// As a script on a channel's presence wants it, of which the parts that it does not look at are empty.
struct Said<'a> {
    what: &'a str,
    member: String,
    sender: String,
    telling: Telling,
}

fn presence(
    names: &Names,
    lease: &LeaseId,
    (channel, connection): (&ChannelName, &ConnectionId),
    state: &State,
) -> Call {
    let said = |what, user: Option<&Arc<str>>, telling| Said {
        what,
        member: member(user.map(AsRef::as_ref), connection),
        sender: json(&Sender {
            connection: connection.clone(),
            user: user.cloned(),
        }),
        telling,
    };
    let quiet = Telling {
        aloud: false,
        timestamp: 0,
    };
    let said = match state {
        State::Present { user, telling } => said("join", user.as_ref(), *telling),
        State::Became { user, telling } => said("become", Some(user), *telling),
        State::Left(telling) => said("leave", None, *telling),
        // Of no presence; as one that has left.
        State::Gone | State::Connected { .. } | State::Subscribed { .. } => {
            said("leave", None, quiet)
        }
    };
    on_presence(names, lease, (channel, connection), said)
}

fn on_presence(
    names: &Names,
    lease: &LeaseId,
    (channel, connection): (&ChannelName, &ConnectionId),
    said: Said<'_>,
) -> Call {
    let Said {
        what,
        member,
        sender,
        telling,
    } = said;
    let keys = ["presence", "members", "order"];
    let heard = telling.aloud.then(|| names.heard(channel));
    Call {
        script: scripts::PRESENCE,
        keys: keys.map(|part| names.of_channel(channel, part)).into(),
        arguments: vec![
            what.to_owned(),
            connection.to_string(),
            lease.as_str().to_owned(),
            member,
            sender,
            telling.timestamp.to_string(),
            heard.unwrap_or_default(),
            names.publish().to_owned(),
        ],
    }
}

/// Users sort before those who are nobody in particular.
fn member(user: Option<&str>, connection: &ConnectionId) -> String {
    match user {
        Some(user) => format!("1{user}"),
        None => format!("2{connection}"),
    }
}

/// The other way round. None: nobody of us wrote it.
#[must_use]
pub fn read_member(text: &str) -> Option<Member> {
    match text.split_at_checked(1)? {
        ("1", user) => Some(Member::User(user.into())),
        ("2", connection) => ConnectionId::parse(connection).map(Member::Connection),
        _ => None,
    }
}

/// The first of who is in a channel.
#[must_use]
pub fn members(names: &Names, channel: &ChannelName, count: usize) -> Call {
    Call {
        script: scripts::MEMBERS,
        keys: vec![names.of_channel(channel, "order")],
        arguments: vec![count.to_string()],
    }
}

/// A fact of a lease that has ended is erased; who was there is told to have left now, in milliseconds since the Unix
/// epoch.
#[must_use]
pub fn reap(names: &Names, lease: &LeaseId, fact: &Fact, now: u64) -> Call {
    match place(names, fact) {
        Spot::Field(key, field) => Call {
            script: scripts::ERASE_OF,
            keys: vec![key],
            arguments: vec![field, lease.as_str().to_owned()],
        },
        Spot::Presence(channel, connection) => {
            let said = Said {
                what: "reap",
                member: String::new(),
                sender: String::new(),
                telling: Telling {
                    aloud: true,
                    timestamp: now,
                },
            };
            on_presence(names, lease, (channel, connection), said)
        }
    }
}

#[must_use]
pub fn struck(names: &Names, lease: &LeaseId, texts: Vec<String>) -> Call {
    Call {
        script: scripts::STRIKE,
        keys: vec![facts_key(names, lease)],
        arguments: texts,
    }
}

/// One of the scripts on a lease and its facts.
#[must_use]
pub fn on_lease(
    names: &Names,
    script: &'static str,
    lease: &LeaseId,
    arguments: Vec<String>,
) -> Call {
    let facts = facts_key(names, lease);
    Call {
        script,
        keys: vec![names.of_lease(lease.as_str(), "lease"), facts],
        arguments,
    }
}

/// One of the scripts on the list of leases.
#[must_use]
pub fn on_nodes(names: &Names, script: &'static str, arguments: Vec<String>) -> Call {
    Call {
        script,
        keys: vec![names.nodes()],
        arguments,
    }
}

#[must_use]
pub fn some_facts(names: &Names, lease: &LeaseId, count: usize) -> Call {
    Call {
        script: scripts::FACTS,
        keys: vec![facts_key(names, lease)],
        arguments: vec![count.to_string()],
    }
}

#[must_use]
pub fn connections(names: &Names, user: &str, count: usize) -> Call {
    Call {
        script: scripts::READ,
        keys: vec![names.of_user(user, "connections")],
        arguments: vec![count.to_string()],
    }
}

fn facts_key(names: &Names, lease: &LeaseId) -> String {
    names.of_lease(lease.as_str(), "facts")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::redis::Mode;

    /// Keys and arguments; the first word is the script's name.
    fn shown(call: &Call) -> String {
        let name = match call.script {
            scripts::NOTE => "note",
            scripts::STRIKE => "strike",
            scripts::WRITE => "write",
            scripts::ARRIVE => "arrive",
            scripts::ERASE => "erase",
            scripts::ERASE_OF => "erase_of",
            other => other,
        };
        let words = call.keys.iter().chain(&call.arguments);
        let words = words.map(|word| word.replace('\n', "/"));
        [name.to_owned()]
            .into_iter()
            .chain(words)
            .collect::<Vec<_>>()
            .join(" | ")
    }

    fn facts() -> Vec<(Fact, State)> {
        let (user, connection) = ("ann".into(), ConnectionId::new("gw", 10));
        let channel = ChannelName::parse("news").unwrap();
        let state = State::Connected {
            ip: Some([127, 0, 0, 1].into()),
            connected_ms: 5,
            place: Some(Place(255)),
        };
        let fact = Fact::Connection {
            user,
            connection: connection.clone(),
        };
        let subscriber = Fact::Subscriber {
            channel: channel.clone(),
            connection: connection.clone(),
        };
        let subscription = Fact::Subscription {
            user: "ann".into(),
            connection,
            channel,
        };
        let subscribed = State::Subscribed {
            user: Some("ann".into()),
        };
        vec![
            (fact, state),
            (subscriber, subscribed),
            (subscription, State::Gone),
        ]
    }

    #[test]
    fn a_batch_is_noted_written_and_struck() {
        let lease = LeaseId::new("gw", 7);
        assert_eq!(lease.node(), "gw");
        let names = Names::new("p:", Mode::Standalone);
        let Steps {
            note,
            write,
            strike,
        } = steps(&names, &lease, &facts());
        assert_eq!(
            note.as_ref().map(shown).unwrap(),
            "note | p:node:gw.0000000000000007:lease | p:node:gw.0000000000000007:facts | connection/~gw.a/ann | subscriber/~gw.a/news",
        );
        let write: Vec<_> = write.iter().map(shown).collect();
        let expected = [
            r#"arrive | p:user:ann:connections | p:user:ann:arriving | ~gw.a | {"node":"gw","ip":"127.0.0.1","connectedAt":5,"lease":"gw.0000000000000007"} | 00000000000000ff"#,
            r#"write | p:channel:news:subscribers | ~gw.a | {"user":"ann","lease":"gw.0000000000000007"}"#,
            "erase | p:user:ann:subscriptions | ~gw.a news",
        ];
        assert_eq!(write, expected);
        assert_eq!(
            strike.as_ref().map(shown).unwrap(),
            "strike | p:node:gw.0000000000000007:facts | subscription/~gw.a/ann/news",
        );
        let nothing = steps(&names, &lease, &[]);
        assert_eq!(
            (nothing.note, nothing.write, nothing.strike),
            (None, vec![], None)
        );
    }

    #[test]
    fn what_another_lease_wrote_stays() {
        let names = Names::new("p:", Mode::Cluster);
        let reaped = facts()
            .into_iter()
            .map(|(fact, _)| shown(&reap(&names, &LeaseId::parse("gw.7"), &fact, 9)));
        let expected = [
            "erase_of | p:{user:ann}:connections | ~gw.a | gw.7",
            "erase_of | p:{channel:news}:subscribers | ~gw.a | gw.7",
            "erase_of | p:{user:ann}:subscriptions | ~gw.a news | gw.7",
        ];
        assert_eq!(reaped.collect::<Vec<_>>(), expected);
    }
}
