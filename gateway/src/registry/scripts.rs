//! What is done in Redis as one step each, by Redis's clock. Every script names one hash tag, so that it runs in a Cluster.
//!
//! ```text
//! nodes                        sorted set: lease → when it may be looked at; a hint for who reaps
//! node:{lease}:lease           hash: until, master, claim, claim_until; reaped, when that is done
//! node:{lease}:facts           set: every fact that was written under the lease
//! user:{user}:connections      hash: connection → {"node","ip","connectedAt","lease"}
//! user:{user}:arriving         sorted set: who has passed the handshake and is not yet there → until when it counts
//! user:{user}:subscriptions    hash: connection, a space, channel → lease
//! channel:{channel}:subscribers  hash: connection → {"user","lease"}
//! channel:{channel}:presence   hash: connection → lease, member, and how the others are told of it, a line each
//! channel:{channel}:members    hash: member → how many connections it has there; never 0
//! channel:{channel}:order      sorted set of these members, by name: users first
//! ```
//! Times are milliseconds since the Unix epoch, as `TIME` has them: a node's own clock decides nothing here.

/// A lease is looked at from then on. Keys: `nodes`; arguments: lease, milliseconds from now.
pub const HINT: &str = r"
local t = redis.call('TIME')
local at = t[1] * 1000 + math.floor(t[2] / 1000) + ARGV[2]
redis.call('ZADD', KEYS[1], string.format('%.0f', at), ARGV[1])
return 1
";

/// Some leases that are to be looked at. Keys: `nodes`.
pub const EXPIRED: &str = r"
local t = redis.call('TIME')
local now = string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000))
return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 64)
";

/// Keys: `nodes`; argument: a lease of which nothing is left.
pub const FORGET_NODE: &str = "return redis.call('ZREM', KEYS[1], ARGV[1])";

/// `master`: what this Redis calls its history since it is master, or since it began (`master_replid`).
macro_rules! master {
    () => {
        r"
local info = redis.call('INFO', 'replication')
local _, at = string.find(info, 'master_replid:', 1, true)
local master = at and string.sub(info, at + 1, at + 40) or ''
"
    };
}

/// Begins a lease. Keys: lease; argument: its milliseconds.
pub const TAKE: &str = concat!(
    master!(),
    r"
local t = redis.call('TIME')
local till = t[1] * 1000 + math.floor(t[2] / 1000) + ARGV[1]
redis.call('HSET', KEYS[1], 'until', string.format('%.0f', till), 'master', master)
return 1
"
);

/// As `TAKE`, for a lease that is held. Answers 1; 0 when Redis knows nothing of it, or may have forgotten what was
/// written since it was taken: another master than the one from then, or a Redis that began again from its disk, goes on
/// from somewhere before; -1 when it is reaped.
pub const RENEW: &str = concat!(
    master!(),
    r"
if redis.call('HEXISTS', KEYS[1], 'claim') == 1 then return -1 end
if redis.call('HEXISTS', KEYS[1], 'until') == 0 then return 0 end
local taken = redis.call('HGET', KEYS[1], 'master')
if taken and taken ~= master then return 0 end
local t = redis.call('TIME')
local till = t[1] * 1000 + math.floor(t[2] / 1000) + ARGV[1]
redis.call('HSET', KEYS[1], 'until', string.format('%.0f', till))
return 1
"
);

/// Ends a lease whose facts others may reap at once. Keys: lease.
pub const ABANDON: &str = r"
if redis.call('HEXISTS', KEYS[1], 'until') == 0 then return 0 end
redis.call('HSET', KEYS[1], 'until', '0')
return 1
";

/// Facts that are about to be written. Refused, with 0, when the lease is no longer ours: what would be written then,
/// nobody would find. Keys: lease, facts; arguments: facts.
pub const NOTE: &str = r"
if redis.call('HEXISTS', KEYS[1], 'claim') == 1 then return 0 end
if redis.call('HEXISTS', KEYS[1], 'until') == 0 then return 0 end
redis.call('SADD', KEYS[2], unpack(ARGV))
return 1
";

/// Facts that are no more. Keys: facts; arguments: facts.
pub const STRIKE: &str = "return redis.call('SREM', KEYS[1], unpack(ARGV))";

/// Keys: a hash; arguments: field, value.
pub const WRITE: &str = "return redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])";

/// Keys: a hash; argument: field.
pub const ERASE: &str = "return redis.call('HDEL', KEYS[1], ARGV[1])";

/// The same, if it was written under this lease: a node that came back may have written it again. Keys: a hash;
/// arguments: field, lease.
pub const ERASE_OF: &str = r"
local value = redis.call('HGET', KEYS[1], ARGV[1])
if not value or not string.find(value, ARGV[2], 1, true) then return 0 end
return redis.call('HDEL', KEYS[1], ARGV[1])
";

/// One survivor at a time. Keys: lease; arguments: who claims, and for how many milliseconds. Answers 1 when it is ours to
/// reap, 0 when it lives or another reaps it, 2 when that is done.
pub const CLAIM: &str = r"
if redis.call('HEXISTS', KEYS[1], 'reaped') == 1 then return 2 end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local lease = redis.call('HMGET', KEYS[1], 'until', 'claim', 'claim_until')
if lease[1] and tonumber(lease[1]) > now then return 0 end
if lease[2] and lease[2] ~= ARGV[1] and tonumber(lease[3]) > now then return 0 end
redis.call('HSET', KEYS[1], 'claim', ARGV[1], 'claim_until', string.format('%.0f', now + ARGV[2]))
return 1
";

/// Some of what is to be reaped. Keys: facts; argument: how many.
pub const FACTS: &str = "return redis.call('SRANDMEMBER', KEYS[1], ARGV[1])";

/// All is reaped. What is left for an hour tells the node, if it comes back. Keys: lease, facts; argument: who claimed.
/// Answers 1; 0 when somebody else has, or will.
pub const FINISH: &str = r"
if redis.call('HGET', KEYS[1], 'claim') ~= ARGV[1] then return 0 end
if redis.call('HEXISTS', KEYS[1], 'reaped') == 1 then return 0 end
if redis.call('SCARD', KEYS[2]) > 0 then return 0 end
redis.call('HSET', KEYS[1], 'reaped', '1')
redis.call('PEXPIRE', KEYS[1], 3600000)
return 1
";

/// The end of a node that took its sessions with it. Keys: lease, facts. Answers 1 when nothing is left to reap.
pub const RELEASE: &str = r"
if redis.call('SCARD', KEYS[2]) > 0 then
  redis.call('HSET', KEYS[1], 'until', '0')
  return 0
end
redis.call('DEL', KEYS[1])
return 1
";

/// Fields and values of a hash: all, or about as many as asked for. Keys: a hash; argument: how many. The first of the
/// answer is how many it has.
pub const READ: &str = r"
local count = redis.call('HLEN', KEYS[1])
local found
if count <= tonumber(ARGV[1]) then
  found = redis.call('HGETALL', KEYS[1])
else
  found = redis.call('HSCAN', KEYS[1], 0, 'COUNT', ARGV[1])[2]
end
table.insert(found, 1, string.format('%.0f', count))
return found
";

/// What became of a connection in a channel with presence; when its user has come with it, or left, the others are told
/// in the same step, so that they hear it in the order in which the table has it. Keys: presence, members, order;
/// arguments: `join`, `become`, `leave`, or `reap` for what was written under that lease; connection; lease; member and
/// sender of what is told; timestamp; channel, or nothing when nobody is told; `PUBLISH` or `SPUBLISH`.
pub const PRESENCE: &str = r#"
local function say(event, sender)
  if ARGV[7] == '' then return end
  redis.call(ARGV[8], ARGV[7], '{"kind":"presence","data":"' .. event .. '","from":' .. sender ..
    ',"timestamp":' .. ARGV[6] .. ',"except":"' .. ARGV[2] .. '"}')
end
local function give(member, sender)
  if redis.call('HINCRBY', KEYS[2], member, -1) > 0 then return end
  redis.call('HDEL', KEYS[2], member)
  redis.call('ZREM', KEYS[3], member)
  say('leave', sender)
end
local before = redis.call('HGET', KEYS[1], ARGV[2])
local lease, member, sender
if before then lease, member, sender = string.match(before, '^([^\n]*)\n([^\n]*)\n(.*)$') end
if ARGV[1] == 'leave' or ARGV[1] == 'reap' then
  if not member or (ARGV[1] == 'reap' and lease ~= ARGV[3]) then return 0 end
  redis.call('HDEL', KEYS[1], ARGV[2])
  give(member, sender)
  return 1
end
if not member and ARGV[1] == 'become' then return 0 end
redis.call('HSET', KEYS[1], ARGV[2], ARGV[3] .. '\n' .. ARGV[4] .. '\n' .. ARGV[5])
if member == ARGV[4] then return 0 end
if member then give(member, sender) end
if redis.call('HINCRBY', KEYS[2], ARGV[4], 1) == 1 then
  redis.call('ZADD', KEYS[3], 0, ARGV[4])
  say('join', ARGV[5])
end
return 1
"#;

/// The first members of a channel, after how many there are. Keys: order; argument: how many.
pub const MEMBERS: &str = r"
local found = {}
if tonumber(ARGV[1]) > 0 then found = redis.call('ZRANGE', KEYS[1], 0, ARGV[1] - 1) end
table.insert(found, 1, string.format('%.0f', redis.call('ZCARD', KEYS[1])))
return found
";

/// One more connection of a user, if there are not too many of those that are there and those on their way. Keys:
/// connections, arriving; arguments: token, how many there may be, for how many milliseconds it counts. Answers 1, or 0.
pub const TAKE_PLACE: &str = r"
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', string.format('%.0f', now))
local count = redis.call('HLEN', KEYS[1]) + redis.call('ZCARD', KEYS[2])
if count >= tonumber(ARGV[2]) then return 0 end
redis.call('ZADD', KEYS[2], string.format('%.0f', now + ARGV[3]), ARGV[1])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return 1
";

/// As `WRITE`, and the token's place is given up in the same step: it counts once at any time. Keys: connections,
/// arriving; arguments: field, value, token.
pub const ARRIVE: &str = r"
redis.call('ZREM', KEYS[2], ARGV[3])
return redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
";
