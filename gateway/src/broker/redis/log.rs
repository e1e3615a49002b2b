//! Channel logs in Redis: a stream for each channel with history, whose entry ids are offsets, and a hash beside it
//! with the epoch and the newest offset, which outlives the stream's trimming.

use bytes::Bytes;
use fred::interfaces::LuaInterface;
use redis_protocol::resp2::types::BytesFrame;

use super::clients::Clients;
use super::names::{Names, Place};
use super::wire::{self, text};
use crate::history::{self, Keep, Kept, Page, Range};
use crate::message::{Message, Position};

/// How long the hash outlives the stream, in milliseconds. A client that comes back in this time is told rightly that
/// it missed nothing, or something; after it, that the log was lost.
const META_EXTRA_MS: u64 = 24 * 3_600_000;

/// How long anything of a probe stays, in milliseconds.
const PROBE_MS: u64 = 60_000;

/// Appends, trims and publishes, as one step. Keys: hash, stream. Arguments: message, an epoch for a new log, how
/// many messages and milliseconds to keep, milliseconds to keep the hash, channel, `PUBLISH` or `SPUBLISH`. Returns epoch
/// and offset.
///
/// A stream without its hash is what is left of another log: its ids would refuse ours.
const APPEND: &str = r"
local epoch = redis.call('HGET', KEYS[1], 'epoch')
if not epoch then
  epoch = ARGV[2]
  redis.call('DEL', KEYS[2])
  redis.call('HSET', KEYS[1], 'epoch', epoch)
end
local offset = redis.call('HINCRBY', KEYS[1], 'offset', 1)
local id = string.format('%.0f', offset)
redis.call('XADD', KEYS[2], 'MAXLEN', ARGV[3], id .. '-0', 'm', ARGV[1])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
redis.call('PEXPIRE', KEYS[1], ARGV[5])
redis.call(ARGV[7], ARGV[6], epoch .. ':' .. id .. ':' .. ARGV[1])
return {epoch, id}
";

/// Keys as above; arguments: epoch and offset after which, or empty for the newest; how many; epoch of a new log and
/// milliseconds to keep its hash. Returns epoch, newest offset, and for each entry its id and message. Nothing is asked
/// of the stream with `COUNT 0`: Redis answers that with nil, not with an empty list.
const READ: &str = r"
local meta = redis.call('HMGET', KEYS[1], 'epoch', 'offset')
if not meta[1] then
  meta = {ARGV[4], '0'}
  redis.call('DEL', KEYS[2])
  redis.call('HSET', KEYS[1], 'epoch', ARGV[4], 'offset', '0')
  redis.call('PEXPIRE', KEYS[1], ARGV[5])
end
local entries
if ARGV[3] == '0' then
  entries = {}
elseif ARGV[1] == meta[1] then
  entries = redis.call('XRANGE', KEYS[2], '(' .. ARGV[2] .. '-0', '+', 'COUNT', ARGV[3])
elseif ARGV[1] ~= '' then
  entries = redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', ARGV[3])
else
  entries = {}
  local newest = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', ARGV[3])
  for i = #newest, 1, -1 do entries[#entries + 1] = newest[i] end
end
local found = {meta[1], meta[2]}
for _, entry in ipairs(entries) do
  found[#found + 1] = entry[1]
  found[#found + 1] = entry[2][2]
end
return found
";

/// The command that appends and publishes. `EVAL`, not `EVALSHA`, which a Redis that has just started does not know; it
/// keeps what it has compiled.
pub(super) fn append(names: &Names, place: &Place, payload: &[u8], keep: Keep) -> Bytes {
    let hash_ms = keep.age_ms.saturating_add(META_EXTRA_MS);
    append_for(names, place, payload, (keep, hash_ms))
}

/// The same for a probe, of which nothing is left a minute later.
pub(super) fn append_probe(names: &Names, place: &Place) -> Bytes {
    let keep = Keep {
        messages: 1,
        age_ms: PROBE_MS,
    };
    append_for(names, place, b"probe", (keep, PROBE_MS))
}

fn append_for(names: &Names, place: &Place, payload: &[u8], (keep, hash_ms): (Keep, u64)) -> Bytes {
    let numbers = [
        crate::broker::unix_ms(),
        keep.messages.into(),
        keep.age_ms,
        hash_ms,
    ];
    let [epoch, messages, age, hash] = numbers.map(|number: u64| number.to_string());
    wire::command(
        "EVAL",
        &[
            APPEND.as_bytes(),
            b"2",
            place.meta.as_bytes(),
            place.stream.as_bytes(),
            payload,
            epoch.as_bytes(),
            messages.as_bytes(),
            age.as_bytes(),
            hash.as_bytes(),
            &place.channel,
            names.publish().as_bytes(),
        ],
    )
}

/// What [`APPEND`] answered; None for a plain `PUBLISH`.
pub(super) fn position(answer: &BytesFrame) -> Option<Position> {
    let BytesFrame::Array(parts) = answer else {
        return None;
    };
    let [epoch, offset] = parts.as_slice() else {
        return None;
    };
    two_numbers(text(epoch)?, text(offset)?)
}

fn two_numbers(epoch: &str, offset: &str) -> Option<Position> {
    Some(Position {
        epoch: epoch.parse().ok()?,
        offset: offset.parse().ok()?,
    })
}

/// A payload as it was published: position, if it has one, and the message's JSON, which begins with a brace.
pub(super) fn published(payload: &[u8]) -> (Option<Position>, &[u8]) {
    fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
        let colon = bytes.iter().take(21).position(|byte| *byte == b':')?;
        let digits = std::str::from_utf8(&bytes[..colon]).ok()?;
        // `parse` alone would take a sign, too.
        let digits = digits
            .bytes()
            .all(|b| b.is_ascii_digit())
            .then_some(digits)?;
        Some((digits.parse().ok()?, &bytes[colon + 1..]))
    }
    let with_position = number(payload)
        .and_then(|(epoch, rest)| number(rest).map(|(offset, json)| (epoch, offset, json)));
    match with_position {
        Some((epoch, offset, json)) => (Some(Position { epoch, offset }), json),
        None => (None, payload),
    }
}

/// A part of a log. The error is for the log.
pub(super) async fn read(clients: &Clients, place: &Place, range: Range) -> Result<Page, String> {
    let (epoch, offset) = range.since.map_or_else(Default::default, |since| {
        (since.epoch.to_string(), since.offset.to_string())
    });
    let now = crate::broker::unix_ms();
    let hash_ms = range.keep.age_ms.saturating_add(META_EXTRA_MS);
    let numbers = [range.limit.into(), now, hash_ms].map(|number: u64| number.to_string());
    let arguments: Vec<String> = [epoch, offset].into_iter().chain(numbers).collect();
    let found: Vec<Bytes> = clients
        .ask(place.slot, |client| {
            let keys = vec![place.meta.clone(), place.stream.clone()];
            let arguments = arguments.clone();
            async move { client.eval(READ, keys, arguments).await }
        })
        .await?;
    let number = |i: usize| std::str::from_utf8(found.get(i)?).ok();
    let top = number(0).zip(number(1));
    let top = top
        .and_then(|(epoch, offset)| two_numbers(epoch, offset))
        .ok_or("the script's answer has no position")?;
    let mut kept = Vec::with_capacity(found.len() / 2);
    for entry in found[2..].chunks(2) {
        kept.push(entry_of(entry).ok_or("an entry of the stream is no message of ours")?);
    }
    Ok(history::page(top, kept, range, now))
}

fn entry_of(entry: &[Bytes]) -> Option<Kept> {
    let [id, json] = entry else { return None };
    let id = std::str::from_utf8(id).ok()?;
    let message: Message = serde_json::from_slice(json).ok()?;
    Some(Kept {
        offset: id.split('-').next()?.parse().ok()?,
        message,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_may_begin_with_its_position() {
        let at = |epoch, offset| Some(Position { epoch, offset });
        for (payload, expected, json) in [
            ("7:12:{}", at(7, 12), "{}"),
            ("{}", None, "{}"),
            (r#"{"a":1}"#, None, r#"{"a":1}"#),
            ("7:{}", None, "7:{}"),
            ("7:x:{}", None, "7:x:{}"),
            (":1:{}", None, ":1:{}"),
            ("-1:1:{}", None, "-1:1:{}"),
            ("+1:+1:{}", None, "+1:+1:{}"),
            ("", None, ""),
            (
                "18446744073709551615:18446744073709551615:{}",
                at(u64::MAX, u64::MAX),
                "{}",
            ),
        ] {
            let (position, rest) = published(payload.as_bytes());
            assert_eq!((position, rest), (expected, json.as_bytes()), "{payload}");
        }
    }
}
