//! What is told of one connection, a socket or a stream, to those who know the connections of all nodes. Pure.

use core::net::IpAddr;

use super::subscriptions::Subscriptions;
use crate::name::ChannelName;
use crate::presence::{Change, Changed};
use crate::registry::fact::{Came, Place, Told, is_written};
use crate::session::{Now, Rules, Session};

/// None: nobody knows yet who it is.
pub fn came(session: &Session, ip: Option<IpAddr>, place: Option<Place>, now: Now) -> Option<Came> {
    let lived_ms = now.monotonic_ms.saturating_sub(session.opened_ms());
    Some(Came {
        number: session.number(),
        user: session.user()?.clone(),
        ip,
        connected_ms: now.unix_ms.saturating_sub(lived_ms),
        place,
    })
}

pub fn subscribed(session: &Session, channel: &ChannelName) -> Told {
    Told::Subscribed {
        number: session.number(),
        user: session.user().cloned(),
        channel: channel.clone(),
    }
}

pub fn unsubscribed(session: &Session, channel: &ChannelName) -> Told {
    Told::Unsubscribed {
        number: session.number(),
        user: session.user().cloned(),
        channel: channel.clone(),
    }
}

pub fn gone(session: &Session, channels: Vec<ChannelName>) -> Told {
    Told::Gone {
        number: session.number(),
        user: session.user().cloned(),
        channels,
    }
}

/// Its channels that are written down. The others are told when they are acknowledged.
pub fn has<'a>(
    session: &'a Session,
    subscriptions: &'a Subscriptions,
) -> impl Iterator<Item = Told> + 'a {
    let channels = session.channels().iter();
    let live = channels.filter(|channel| is_written(channel) && subscriptions.is_live(channel));
    live.map(|channel| subscribed(session, channel))
}

/// The channels in which others may know of it.
pub fn present<'a>(
    session: &'a Session,
    rules: &'a Rules,
    subscriptions: &'a Subscriptions,
    now: Now,
) -> impl Iterator<Item = Told> + 'a {
    let channels = session.channels().iter();
    let seen =
        channels.filter(|channel| rules.has_presence(channel) && subscriptions.is_live(channel));
    seen.map(move |channel| Told::Presence {
        changed: Changed {
            channel: channel.clone(),
            number: session.number(),
            change: Change::Join {
                user: session.user().cloned(),
            },
            timestamp: now.unix_ms,
        },
        aloud: true,
    })
}
