//! What is known of a node's sessions, as facts of which each stands for itself: told again it changes nothing, and one
//! that is told late does not undo another. Pure.

use core::net::IpAddr;
use std::sync::Arc;

use crate::message::ConnectionId;
use crate::name::ChannelName;
use crate::presence::{Change, Changed};

/// Counts the times that a node registers everything, so that a page of an earlier time is told apart.
pub type Round = u32;

/// What a shard tells of one of its connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// It is somebody's from now on, and is welcome.
    Came(Came),
    Subscribed {
        number: u64,
        user: Option<Arc<str>>,
        channel: ChannelName,
    },
    /// Also of a channel that it never had.
    Unsubscribed {
        number: u64,
        user: Option<Arc<str>>,
        channel: ChannelName,
    },
    /// What became of it in a channel with presence. `aloud`: the others there are told who came or left.
    Presence { changed: Changed, aloud: bool },
    /// It has ended, with these channels.
    Gone {
        number: u64,
        user: Option<Arc<str>>,
        channels: Vec<ChannelName>,
    },
}

/// A connection of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Came {
    pub number: u64,
    pub user: Arc<str>,
    /// The client's, as trusted proxies tell it. None: its socket is gone already.
    pub ip: Option<IpAddr>,
    /// Milliseconds since the Unix epoch, by the node's clock.
    pub connected_ms: u64,
    /// Its place among those who are on their way, which it does not need any more.
    pub place: Option<Place>,
}

/// A part of all that a shard holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    pub round: Round,
    pub told: Vec<Told>,
    /// Where the next part begins. None: this was the last one.
    pub next: Option<u64>,
}

/// Counts somebody among a user's connections, on all nodes, from the handshake until the connection itself is written
/// down. A random number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place(pub u64);

/// One field of one hash in Redis.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fact {
    /// `user:{user}:connections`.
    Connection {
        user: Arc<str>,
        connection: ConnectionId,
    },
    /// `user:{user}:subscriptions`.
    Subscription {
        user: Arc<str>,
        connection: ConnectionId,
        channel: ChannelName,
    },
    /// `channel:{channel}:presence`.
    Present {
        channel: ChannelName,
        connection: ConnectionId,
    },
    /// `channel:{channel}:subscribers`.
    Subscriber {
        channel: ChannelName,
        connection: ConnectionId,
    },
}

/// What is so of a fact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    Connected {
        ip: Option<IpAddr>,
        connected_ms: u64,
        place: Option<Place>,
    },
    Subscribed {
        user: Option<Arc<str>>,
    },
    /// It is no more, if it ever was.
    Gone,
    /// It is in the channel, as a user or as nobody in particular.
    Present {
        user: Option<Arc<str>>,
        telling: Telling,
    },
    /// If it is in the channel, it is this user.
    Became {
        user: Arc<str>,
        telling: Telling,
    },
    /// It is in the channel no more.
    Left(Telling),
}

/// How the others in a channel are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Telling {
    /// Otherwise not at all.
    pub aloud: bool,
    /// Milliseconds since the Unix epoch, by the node's clock.
    pub timestamp: u64,
}

impl State {
    /// One that was not written, and what was told after it.
    #[must_use]
    pub fn then(self, later: State) -> State {
        match (self, later) {
            (State::Present { .. }, State::Became { user, telling }) => State::Present {
                user: Some(user),
                telling,
            },
            (State::Left(telling), State::Became { .. }) => State::Left(telling),
            (_, later) => later,
        }
    }

    /// Whether nothing is left of the fact.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        matches!(self, State::Gone | State::Left(_))
    }
}

/// Whether a connection that has the channel is written down. What the gateway subscribes by itself follows from the
/// connection.
#[must_use]
pub fn is_written(channel: &ChannelName) -> bool {
    use crate::name::ChannelKind::{Free, Notifications, Room};
    matches!(channel.kind(), Room(_) | Free | Notifications)
}

impl Told {
    /// The facts that follow, of a connection on this node.
    #[must_use]
    pub fn facts(self, node: &str) -> Vec<(Fact, State)> {
        match self {
            Told::Came(came) => {
                let Came {
                    number,
                    user,
                    ip,
                    connected_ms,
                    place,
                } = came;
                let connection = ConnectionId::new(node, number);
                let state = State::Connected {
                    ip,
                    connected_ms,
                    place,
                };
                vec![(Fact::Connection { user, connection }, state)]
            }
            Told::Subscribed {
                number,
                user,
                channel,
            } => {
                let state = State::Subscribed { user: user.clone() };
                of_channel(
                    ConnectionId::new(node, number),
                    user.as_ref(),
                    channel,
                    state,
                )
                .collect()
            }
            Told::Unsubscribed {
                number,
                user,
                channel,
            } => {
                let connection = ConnectionId::new(node, number);
                of_channel(connection, user.as_ref(), channel, State::Gone).collect()
            }
            Told::Presence { changed, aloud } => vec![presence(changed, aloud, node)],
            Told::Gone {
                number,
                user,
                channels,
            } => {
                let connection = ConnectionId::new(node, number);
                let mut facts = Vec::with_capacity(1 + 2 * channels.len());
                for channel in channels {
                    let id = connection.clone();
                    facts.extend(of_channel(id, user.as_ref(), channel, State::Gone));
                }
                // Last, so that who finds the connection finds what it has.
                facts.extend(user.map(|user| (Fact::Connection { user, connection }, State::Gone)));
                facts
            }
        }
    }
}

fn presence(changed: Changed, aloud: bool, node: &str) -> (Fact, State) {
    let Changed {
        channel,
        number,
        change,
        timestamp,
    } = changed;
    let telling = Telling { aloud, timestamp };
    let connection = ConnectionId::new(node, number);
    let state = match change {
        Change::Join { user } => State::Present { user, telling },
        Change::Become { user } => State::Became { user, telling },
        Change::Leave => State::Left(telling),
    };
    let fact = Fact::Present {
        channel,
        connection,
    };
    (fact, state)
}

fn of_channel(
    connection: ConnectionId,
    user: Option<&Arc<str>>,
    channel: ChannelName,
    state: State,
) -> impl Iterator<Item = (Fact, State)> {
    let written = is_written(&channel);
    let of_user = user.map(|user| Fact::Subscription {
        user: user.clone(),
        connection: connection.clone(),
        channel: channel.clone(),
    });
    let subscriber = Fact::Subscriber {
        channel,
        connection,
    };
    let facts = [Some(subscriber), of_user].into_iter().flatten();
    facts
        .filter(move |_| written)
        .map(move |fact| (fact, state.clone()))
}

impl Fact {
    /// As a node's index has it. No name has a line break: none can be printed.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Fact::Connection { user, connection } => format!("connection\n{connection}\n{user}"),
            Fact::Subscription {
                user,
                connection,
                channel,
            } => {
                format!("subscription\n{connection}\n{user}\n{channel}")
            }
            Fact::Present {
                channel,
                connection,
            } => format!("present\n{connection}\n{channel}"),
            Fact::Subscriber {
                channel,
                connection,
            } => {
                format!("subscriber\n{connection}\n{channel}")
            }
        }
    }

    /// None: not written by [`Fact::text`].
    #[must_use]
    pub fn parse(text: &str) -> Option<Fact> {
        let parts: Vec<&str> = text.split('\n').collect();
        let connection = ConnectionId::parse(parts.get(1)?)?;
        match parts[..] {
            ["connection", _, user] => {
                let user = user.into();
                Some(Fact::Connection { user, connection })
            }
            ["subscription", _, user, channel] => Some(Fact::Subscription {
                user: user.into(),
                connection,
                channel: ChannelName::parse(channel).ok()?,
            }),
            ["present", _, channel] => {
                let channel = ChannelName::parse(channel).ok()?;
                Some(Fact::Present {
                    channel,
                    connection,
                })
            }
            ["subscriber", _, channel] => {
                let channel = ChannelName::parse(channel).ok()?;
                Some(Fact::Subscriber {
                    channel,
                    connection,
                })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> ChannelName {
        ChannelName::parse(name).unwrap()
    }

    #[test]
    fn facts_of_what_shards_tell() {
        let ann: Option<Arc<str>> = Some("ann".into());
        let came = Came {
            number: 10,
            user: "ann".into(),
            ip: None,
            connected_ms: 5,
            place: None,
        };
        for (told, expected) in [
            (
                Told::Came(came),
                "connection ~gw.a ann: Connected { ip: None, connected_ms: 5, place: None }",
            ),
            (
                Told::Subscribed {
                    number: 10,
                    user: ann.clone(),
                    channel: name("news"),
                },
                "subscriber ~gw.a news: Subscribed { user: Some(\"ann\") }, \
                 subscription ~gw.a ann news: Subscribed { user: Some(\"ann\") }",
            ),
            (
                Told::Subscribed {
                    number: 10,
                    user: None,
                    channel: name("news"),
                },
                "subscriber ~gw.a news: Subscribed { user: None }",
            ),
            (
                Told::Subscribed {
                    number: 10,
                    user: ann.clone(),
                    channel: name("user:ann"),
                },
                "",
            ),
            (
                Told::Unsubscribed {
                    number: 10,
                    user: ann.clone(),
                    channel: name("room:a"),
                },
                "subscriber ~gw.a room:a: Gone, subscription ~gw.a ann room:a: Gone",
            ),
            (
                Told::Gone {
                    number: 10,
                    user: ann,
                    channels: vec![name("user:ann"), name("b")],
                },
                "subscriber ~gw.a b: Gone, subscription ~gw.a ann b: Gone, connection ~gw.a ann: Gone",
            ),
            (
                Told::Gone {
                    number: 10,
                    user: None,
                    channels: vec![],
                },
                "",
            ),
        ] {
            let shown = format!("{told:?}");
            let facts = told.facts("gw").into_iter().map(|(fact, state)| {
                assert_eq!(Fact::parse(&fact.text()).as_ref(), Some(&fact));
                format!("{}: {state:?}", fact.text().replace('\n', " "))
            });
            assert_eq!(facts.collect::<Vec<_>>().join(", "), expected, "{shown}");
        }
    }

    #[test]
    fn what_nobody_wrote_is_no_fact() {
        for text in [
            "",
            "connection",
            "connection\n~gw.1",
            "connection\ngw.1\nann",
            "connection\n~gw.1\nann\nb",
            "subscriber\n~gw.1\n",
            "other\n~gw.1\nann",
        ] {
            assert_eq!(Fact::parse(text), None, "{text:?}");
        }
    }
}
