//! Pure: what backends publish straight into Redis, in channels of their own, and what it becomes (docs/redis-backends.md).
//!
//! A record is JSON. An object may say to whom it goes; the rest of it is what clients get, and if that rest is `data`
//! alone, its value. So nothing of what common backends write (`event`, `type`, `userId`) is lost on the way.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::value::{RawValue, to_raw_value};

use crate::message::{ConnectionId, Delivery, Message, MessageKind};
use crate::name::ChannelName;

/// Users and connections that one record may name.
const MAX_RECEIVERS: usize = 100;
/// Until the same mistake is told again.
const QUIET: Duration = Duration::from_secs(60);

/// A channel, or family of channels, in which backends publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Source {
    Notifications,
    Broadcast,
    Rooms,
    Private,
}

impl Source {
    pub const ALL: [Source; 4] = [
        Source::Notifications,
        Source::Broadcast,
        Source::Rooms,
        Source::Private,
    ];

    /// As in `broker.redis.listen`, and in the metric.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Source::Notifications => "system:notifications",
            Source::Broadcast => "ws:broadcast",
            Source::Rooms => "ws:room:*",
            Source::Private => "ws:private",
        }
    }

    #[must_use]
    pub fn named(name: &str) -> Option<Source> {
        Source::ALL.into_iter().find(|source| source.name() == name)
    }

    /// A `type` that says no more than the channel does.
    fn says(self, kind: &str) -> bool {
        match self {
            Source::Notifications => matches!(kind, "notification" | "notifications"),
            Source::Broadcast => kind == "broadcast",
            Source::Rooms => kind == "room",
            Source::Private => kind == "private",
        }
    }
}

/// Redis's name of a room's channel.
pub(super) fn room_key(prefix: &str, room: &str) -> String {
    format!("{prefix}ws:room:{room}")
}

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Outcome {
    Accepted,
    NotJson,
    TooBig,
    NoData,
    NoReceiver,
    BadReceiver,
    TooManyReceivers,
    BadExclude,
    OtherRoom,
}

impl Outcome {
    /// In the order of the enum, so that an outcome is its own index.
    pub(super) const LABELS: [&str; 9] = [
        "accepted",
        "not_json",
        "too_big",
        "no_data",
        "no_receiver",
        "bad_receiver",
        "too_many_receivers",
        "bad_exclude",
        "other_room",
    ];
}

/// Why a record is dropped. `what` completes "a record was dropped: …" and repeats nothing of its data.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) outcome: Outcome,
    pub(super) what: String,
}

fn fault(outcome: Outcome, what: impl Into<String>) -> Fault {
    let what = what.into();
    Fault { outcome, what }
}

/// Where a record was published.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) source: Source,
    /// Of [`Source::Rooms`].
    pub(super) room: Option<&'a ChannelName>,
}

/// The record's deliveries, one for each receiver. `max` bytes; `now_ms`: milliseconds since the Unix epoch.
pub(super) fn read(
    place: Place<'_>,
    payload: &[u8],
    max: usize,
    now_ms: u64,
) -> Result<Vec<Delivery>, Fault> {
    if payload.len() > max {
        let what = format!(
            "it is {} bytes long, longer than limits.maxMessageBytes ({max})",
            payload.len()
        );
        return Err(fault(Outcome::TooBig, what));
    }
    let json: &RawValue = serde_json::from_slice(payload)
        .map_err(|e| fault(Outcome::NotJson, format!("it is no JSON: {e}")))?;
    let mut members = members(json);
    let to = receivers(place, &mut members)?;
    let mut except = None;
    let mut data: Arc<RawValue> = json.to_owned().into();
    if let Some(mut members) = members {
        except = exclude(&mut members)?;
        leave_out_what_the_channel_says(place, &mut members)?;
        data = content(members)?;
    }
    let delivery = |(channel, only): (ChannelName, Option<ConnectionId>)| Delivery {
        message: Message {
            kind: MessageKind::of(&channel),
            data: data.clone(),
            from: None,
            timestamp: now_ms,
            except: except.clone(),
            only,
        },
        channel,
        position: None,
    };
    Ok(to.into_iter().map(delivery).collect())
}

type Members<'a> = BTreeMap<Cow<'a, str>, &'a RawValue>;

/// None: it is no object.
fn members(json: &RawValue) -> Option<Members<'_>> {
    let object = json.get().starts_with('{');
    object
        .then(|| serde_json::from_str(json.get()).ok())
        .flatten()
}

/// What stays of the object when all that was for us is taken out.
fn content(mut members: Members<'_>) -> Result<Arc<RawValue>, Fault> {
    let last = if members.len() == 1 {
        members.remove("data")
    } else {
        None
    };
    match last {
        Some(data) => Ok(data.to_owned().into()),
        None if members.is_empty() => Err(fault(
            Outcome::NoData,
            "it has no data, and nothing else that clients could get",
        )),
        None => Ok(to_raw_value(&members)
            .expect("an object of what was JSON is JSON")
            .into()),
    }
}

type Receiver = (ChannelName, Option<ConnectionId>);

fn receivers(place: Place<'_>, members: &mut Option<Members<'_>>) -> Result<Vec<Receiver>, Fault> {
    match (place.source, place.room) {
        (Source::Notifications, _) => Ok(vec![(ChannelName::notifications(), None)]),
        (Source::Broadcast, _) => Ok(vec![(ChannelName::broadcast(), None)]),
        (Source::Rooms, Some(room)) => Ok(vec![(room.clone(), None)]),
        (Source::Rooms, None) => Err(fault(Outcome::OtherRoom, "it is for no room")),
        (Source::Private, _) => {
            let members = members.as_mut();
            private(members.ok_or_else(|| fault(Outcome::NoReceiver, "it is no object with `to`"))?)
        }
    }
}

/// What backends call the user, the first that is there counts.
const RECEIVERS: [&str; 4] = ["to", "userId", "user_id", "user"];

fn private(members: &mut Members<'_>) -> Result<Vec<Receiver>, Fault> {
    let found = RECEIVERS.into_iter().find_map(|name| {
        let given = members.remove(name)?;
        (given.get() != "null").then_some((name, given))
    });
    let Some((name, given)) = found else {
        return Err(fault(Outcome::NoReceiver, "`to` is missing"));
    };
    let bad = |what: &str| fault(Outcome::BadReceiver, format!("`{name}` {what}"));
    let list: Vec<&RawValue> = if given.get().starts_with('[') {
        serde_json::from_str(given.get()).map_err(|_| bad("cannot be read"))?
    } else {
        vec![given]
    };
    if list.len() > MAX_RECEIVERS {
        let what = format!(
            "`{name}` names {} receivers, more than {MAX_RECEIVERS}",
            list.len()
        );
        return Err(fault(Outcome::TooManyReceivers, what));
    }
    let mut all = Vec::with_capacity(list.len());
    for one in list {
        let receiver = receiver(one).map_err(|what| bad(&what))?;
        // Twice in the list is no reason to get it twice.
        if !all.contains(&receiver) {
            all.push(receiver);
        }
    }
    if all.is_empty() {
        return Err(fault(Outcome::NoReceiver, format!("`{name}` is empty")));
    }
    Ok(all)
}

/// A user, whose id may be written as a number, or a connection. The error completes "`to` …".
fn receiver(json: &RawValue) -> Result<Receiver, String> {
    let id: Cow<'_, str> = match serde_json::from_str::<String>(json.get()) {
        Ok(text) => text.into(),
        Err(_) if json.get().bytes().all(|b| b.is_ascii_digit()) => json.get().into(),
        Err(_) => return Err("is neither a text nor a whole number".to_owned()),
    };
    if !id.starts_with(ConnectionId::SIGIL) {
        return match ChannelName::user(&id) {
            Ok(channel) => Ok((channel, None)),
            Err(e) => Err(format!("is no user: the name {e}")),
        };
    }
    let connection = ConnectionId::parse(&id);
    let inbox = connection.and_then(|id| Some((ChannelName::node(id.node()).ok()?, Some(id))));
    inbox.ok_or_else(|| "begins with ~ and is no connection".to_owned())
}

fn exclude(members: &mut Members<'_>) -> Result<Option<ConnectionId>, Fault> {
    let Some(given) = members
        .remove("exclude")
        .filter(|given| given.get() != "null")
    else {
        return Ok(None);
    };
    let id: Option<String> = serde_json::from_str(given.get()).ok();
    match id.and_then(|id| ConnectionId::parse(&id)) {
        Some(id) => Ok(Some(id)),
        // Whoever was to be left out would get it.
        None => Err(fault(Outcome::BadExclude, "`exclude` is no connection")),
    }
}

fn leave_out_what_the_channel_says(
    place: Place<'_>,
    members: &mut Members<'_>,
) -> Result<(), Fault> {
    let text = |json: &RawValue| serde_json::from_str::<String>(json.get()).ok();
    let kind = members.get("type").and_then(|json| text(json));
    if kind.is_some_and(|kind| place.source.says(&kind)) {
        members.remove("type");
    }
    let Some(room) = place.room else {
        return Ok(());
    };
    let Some(said) = members.remove("room").filter(|said| said.get() != "null") else {
        return Ok(());
    };
    let said = text(said).unwrap_or_else(|| said.get().to_owned());
    match room.as_str().strip_prefix("room:") {
        Some(name) if name == said => Ok(()),
        _ => Err(fault(
            Outcome::OtherRoom,
            "`room` is another than that of its channel",
        )),
    }
}

/// Which mistakes were told when: a backend that makes one makes it with every record.
#[derive(Debug, Default)]
pub(super) struct Complaints([[Option<Instant>; Outcome::LABELS.len()]; Source::ALL.len()]);

impl Complaints {
    /// Whether this one is worth a line now.
    pub(super) fn is_news(&mut self, source: Source, outcome: Outcome, now: Instant) -> bool {
        let told = &mut self.0[source as usize][outcome as usize];
        let news = told.is_none_or(|told| now.saturating_duration_since(told) >= QUIET);
        if news {
            *told = Some(now);
        }
        news
    }
}

#[cfg(test)]
#[path = "foreign_tests.rs"]
#[expect(clippy::too_many_lines, reason = "tables")]
mod tests;
