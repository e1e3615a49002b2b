//! Channel logs in Redis: a stream for each channel with history, whose entry ids are offsets, and a hash beside it
//! with the epoch, the newest offset and where earlier epochs ended, which outlives the stream's trimming.

use bytes::Bytes;
use fred::interfaces::LuaInterface;
use redis_protocol::resp2::types::BytesFrame;

use super::advice;
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

/// What both scripts begin with: `epoch`, `offset` and `past` of the log, which begins now if there is none (`began`).
/// Keys: hash, stream. First argument: an epoch for a new log.
///
/// The log's epoch is that of one master. Replication is asynchronous: what becomes one may lack messages that the last
/// one had accepted and delivered, and publishes under the same epoch would then take their offsets, unseen. Redis gives
/// each master a `master_replid` of its own, a new one with every promotion, and with a restart
/// (redis.io/docs/latest/operate/oss_and_stack/management/replication, "Replication ID explained"). When it is another
/// than the log's, the log goes on under a new epoch, and `past` keeps where the last eight ended here.
///
/// A new epoch is also different on two masters that both go on from the same one, of which one is lost later: the
/// writers' clocks alone would not make sure of it.
///
/// A stream without its hash is what is left of another log: its ids would refuse ours. What is neither is of another
/// program, and stays as it is.
macro_rules! epoch {
    () => {
        r"
local log = redis.call('HMGET', KEYS[1], 'epoch', 'offset', 'master', 'past')
local info = redis.call('INFO', 'replication')
local _, at = string.find(info, 'master_replid:', 1, true)
local master = at and string.sub(info, at + 1, at + 40) or ''
local epoch, offset, past, began = log[1], log[2] or '0', log[4] or '', false
if not epoch then
  local kind = redis.call('TYPE', KEYS[2])['ok']
  if redis.call('EXISTS', KEYS[1]) == 1 or (kind ~= 'none' and kind ~= 'stream') then
    return redis.error_reply('FOREIGN key of another program: ' .. KEYS[1])
  end
  epoch, began = ARGV[1], true
  redis.call('DEL', KEYS[2])
  redis.call('HSET', KEYS[1], 'epoch', epoch, 'offset', '0', 'master', master)
elseif log[3] ~= master then
  if not (tonumber(epoch) and tonumber(log[2] or '')) then
    return redis.error_reply('FOREIGN key of another program: ' .. KEYS[1])
  end
  past = past .. epoch .. ':' .. offset .. ' '
  local _, count = string.gsub(past, ' ', ' ')
  if count > 8 then past = string.sub(past, string.find(past, ' ', 1, true) + 1) end
  local next = tonumber(epoch) + 1 + (tonumber(string.sub(master, 1, 4), 16) or 0)
  epoch = string.format('%.0f', math.max(next, tonumber(ARGV[1])))
  redis.call('HSET', KEYS[1], 'epoch', epoch, 'master', master, 'past', past)
end
"
    };
}

/// Appends, trims and publishes, as one step. More arguments: message, how many messages and milliseconds to keep,
/// milliseconds to keep the hash, channel, `PUBLISH` or `SPUBLISH`. Returns epoch and offset.
const APPEND: &str = concat!(
    epoch!(),
    r"
local id = string.format('%.0f', redis.call('HINCRBY', KEYS[1], 'offset', 1))
redis.call('XADD', KEYS[2], 'MAXLEN', ARGV[3], id .. '-0', 'm', ARGV[2])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
redis.call('PEXPIRE', KEYS[1], ARGV[5])
redis.call(ARGV[7], ARGV[6], epoch .. ':' .. id .. ':' .. ARGV[2])
return {epoch, id}
"
);

/// More arguments: milliseconds to keep the hash of a new log; epoch and offset after which, or empty for the newest;
/// how many. Returns epoch, newest offset, past epochs with their ends, and for each entry its id and message. What
/// comes from a past epoch is read from where it or a later one ended. Nothing is asked of the stream with `COUNT 0`:
/// Redis answers that with nil, not with an empty list.
const READ: &str = concat!(
    epoch!(),
    r"
if began then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
local after
if ARGV[3] == epoch then
  after = ARGV[4]
else
  for ended, last in string.gmatch(past, '(%d+):(%d+)') do
    if ended == ARGV[3] then after = ARGV[4] end
    if after and tonumber(last) < tonumber(after) then after = last end
  end
end
local entries
if ARGV[5] == '0' then
  entries = {}
elseif after then
  entries = redis.call('XRANGE', KEYS[2], '(' .. after .. '-0', '+', 'COUNT', ARGV[5])
elseif ARGV[3] ~= '' then
  entries = redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', ARGV[5])
else
  entries = {}
  local newest = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', ARGV[5])
  for i = #newest, 1, -1 do entries[#entries + 1] = newest[i] end
end
local found = {epoch, offset, past}
for _, entry in ipairs(entries) do
  found[#found + 1] = entry[1]
  found[#found + 1] = entry[2][2]
end
return found
"
);

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
            epoch.as_bytes(),
            payload,
            messages.as_bytes(),
            age.as_bytes(),
            hash.as_bytes(),
            &place.channel,
            names.publish().as_bytes(),
        ],
    )
}

/// Why Redis refused [`append`], with the command it was at.
pub(super) fn refusal(names: &Names, reason: &str) -> String {
    advice::in_script(reason, APPEND, names.publish())
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
    let [now_text, hash_ms] = [now, hash_ms].map(|number| number.to_string());
    let arguments = vec![now_text, hash_ms, epoch, offset, range.limit.to_string()];
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
    let past = number(2)
        .and_then(past_epochs)
        .ok_or("the log's past epochs are not of our making")?;
    let mut kept = Vec::with_capacity(found.len() / 2);
    for entry in found[3..].chunks(2) {
        kept.push(entry_of(entry).ok_or("an entry of the stream is no message of ours")?);
    }
    Ok(history::page((top, &past), kept, range, now))
}

/// `epoch:offset` for each, and a space after it.
fn past_epochs(text: &str) -> Option<Vec<Position>> {
    let ended = |one: &str| {
        let (epoch, offset) = one.split_once(':')?;
        two_numbers(epoch, offset)
    };
    text.split_terminator(' ').map(ended).collect()
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
    fn past_epochs_are_read_in_their_order() {
        let at = |epoch, offset| Position { epoch, offset };
        for (text, expected) in [
            ("", Some(vec![])),
            ("7:12 ", Some(vec![at(7, 12)])),
            ("7:12 9:13 ", Some(vec![at(7, 12), at(9, 13)])),
            ("7 ", None),
            ("7:x ", None),
            (" ", None),
        ] {
            assert_eq!(past_epochs(text), expected, "{text:?}");
        }
    }

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
