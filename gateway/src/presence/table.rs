//! Channels, who is in them, and with which connections. Pure.
//!
//! All of it follows from facts of the form "this connection has this channel, as this user", of which each stands for
//! itself and may be told again: so it can be kept elsewhere, for all nodes together.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::Serialize;

use crate::message::ConnectionId;
use crate::name::ChannelName;
use crate::slack;

/// Bytes of a member's JSON, and of a comma, beyond its user or connection.
const MEMBER_BYTES: usize = r#"{"connection":""},"#.len();

/// What became of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It has the channel. Told once or more.
    Join { user: Option<Arc<str>> },
    /// It has said who it is. Nothing where it was not told to have the channel.
    Become { user: Arc<str> },
    /// It has the channel no longer, if it ever had.
    Leave,
}

/// Somebody who is in a channel, with as many connections as it likes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Member {
    User(Arc<str>),
    /// Nobody in particular: it has not said who it is.
    Connection(ConnectionId),
}

impl Member {
    fn new(user: Option<Arc<str>>, connection: &ConnectionId) -> Member {
        user.map_or_else(|| Member::Connection(connection.clone()), Member::User)
    }

    fn text(&self) -> &str {
        match self {
            Member::User(user) => user,
            Member::Connection(connection) => connection.as_str(),
        }
    }
}

/// What the others are to be told, the leave first.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct News {
    /// It has no connection there any more.
    pub left: Option<Member>,
    /// It had none before.
    pub came: Option<Member>,
}

/// Of how much an answer speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Covers {
    /// Everybody: no other node shares the broker.
    Cluster,
    /// Those who are on the node that answers.
    #[default]
    Node,
}

/// What an answer holds at most, and of how much it speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scope {
    pub covers: Covers,
    /// Members that are named.
    pub members: usize,
    /// Of JSON, for all that are named.
    pub bytes: usize,
}

/// An answer to who is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct List {
    /// Users by name, then connections: a list that is cut is cut at the same place each time.
    pub members: Vec<Member>,
    /// All of them, also those who are not named.
    pub total: u64,
    pub covers: Covers,
}

impl List {
    /// As much of the members, who are in order, as fits.
    #[must_use]
    pub fn of(members: impl Iterator<Item = Member>, total: u64, scope: Scope) -> List {
        let mut bytes = 0;
        let named = members.take(scope.members).take_while(|member| {
            // JSON escapes quotes and backslashes; no other character of a name can double.
            bytes += MEMBER_BYTES + 2 * member.text().len();
            bytes <= scope.bytes
        });
        List {
            members: named.collect(),
            total,
            covers: scope.covers,
        }
    }
}

/// Bounded by the connections of the node and the channels of each. What is empty vanishes.
#[derive(Debug, Default)]
pub struct Table {
    channels: HashMap<ChannelName, Channel>,
    /// Of all channels.
    members: u64,
}

#[derive(Debug, Default)]
struct Channel {
    /// Each connection that has it, as which user.
    connections: HashMap<ConnectionId, Option<Arc<str>>>,
    /// How many of these each member has; never 0.
    members: BTreeMap<Member, u32>,
}

impl Table {
    pub fn change(
        &mut self,
        channel: &ChannelName,
        connection: &ConnectionId,
        change: Change,
    ) -> News {
        if !self.channels.contains_key(channel) {
            if !matches!(change, Change::Join { .. }) {
                return News::default();
            }
            self.channels.insert(channel.clone(), Channel::default());
        }
        let Some(entry) = self.channels.get_mut(channel) else {
            return News::default();
        };
        let before = entry.members.len() as u64;
        let news = entry.change(connection, change);
        self.members = self.members - before + entry.members.len() as u64;
        if entry.members.is_empty() {
            self.channels.remove(channel);
            slack::release(&mut self.channels);
        }
        news
    }

    /// Of all channels together: who is in two of them counts twice.
    #[must_use]
    pub fn members(&self) -> u64 {
        self.members
    }

    /// Who is in the channel.
    #[must_use]
    pub fn list(&self, channel: &ChannelName, scope: Scope) -> List {
        let members = self.channels.get(channel).map(|entry| &entry.members);
        let total = members.map_or(0, BTreeMap::len) as u64;
        List::of(
            members.into_iter().flat_map(BTreeMap::keys).cloned(),
            total,
            scope,
        )
    }
}

impl Channel {
    fn change(&mut self, connection: &ConnectionId, change: Change) -> News {
        let user = match change {
            Change::Leave => {
                let Some(user) = self.connections.remove(connection) else {
                    return News::default();
                };
                slack::release(&mut self.connections);
                let left = self.give(Member::new(user, connection));
                return News { left, came: None };
            }
            Change::Become { .. } if !self.connections.contains_key(connection) => {
                return News::default();
            }
            Change::Become { user } => Some(user),
            Change::Join { user } => user,
        };
        let member = Member::new(user.clone(), connection);
        let left = match self.connections.insert(connection.clone(), user) {
            Some(before) => {
                let before = Member::new(before, connection);
                if before == member {
                    return News::default();
                }
                self.give(before)
            }
            None => None,
        };
        let came = self.take(member);
        News { left, came }
    }

    /// One more connection of the member, which is returned if it is its first.
    fn take(&mut self, member: Member) -> Option<Member> {
        let connections = self.members.entry(member.clone()).or_default();
        *connections += 1;
        (*connections == 1).then_some(member)
    }

    /// One connection less of the member, which is returned if it was its last.
    fn give(&mut self, member: Member) -> Option<Member> {
        let connections = self.members.get_mut(&member)?;
        *connections -= 1;
        if *connections > 0 {
            return None;
        }
        self.members.remove(&member);
        Some(member)
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
