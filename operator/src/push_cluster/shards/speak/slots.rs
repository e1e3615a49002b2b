//! A slot goes from one master to another while both serve it (redis.io/docs/latest/commands/cluster-setslot).

use std::time::{Duration, Instant};

use redis_protocol::resp2::types::BytesFrame;

use super::{Admin, SpeakError, Speaker};
use crate::push_cluster::build::redis_cluster::REPLICA_USER;
use crate::push_cluster::build::sentinel::{ADMIN_USER, REDIS_PORT};
use crate::push_cluster::shards::orders::Master;

/// What is not moved by then is moved after the next look: meanwhile a master may have been lost.
const AT_A_TIME: Duration = Duration::from_secs(2);
/// Keys that go in one command. The two masters serve nobody meanwhile.
const KEYS: &str = "20";
/// Milliseconds that the other master has for them.
const KEYS_TIMEOUT: &str = "2000";

/// Moves as many of the slots as there is time for, at least one.
pub(super) async fn take(
    to: &str,
    from: &Master,
    slots: &[u16],
    admin: &Admin,
) -> Result<(), SpeakError> {
    let begun = Instant::now();
    let source = admin.at(&from.address, REDIS_PORT);
    let target = admin.at(to, REDIS_PORT);
    let mut source = Speaker::open(&source, &admin.password).await?;
    let mut target = Speaker::open(&target, &admin.password).await?;
    let id = target.ask(&["CLUSTER", "MYID"]).await?;
    // It may have been without a part until now.
    target.ask(&["ACL", "SETUSER", REPLICA_USER, "on"]).await?;
    for slot in slots {
        let slot = slot.to_string();
        target
            .ask(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from.id])
            .await?;
        source
            .ask(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &id])
            .await?;
        empty(&mut source, &slot, to, &admin.password).await?;
        // First the one that takes it: between the two it would be nobody's else.
        for side in [&mut target, &mut source] {
            side.ask(&["CLUSTER", "SETSLOT", &slot, "NODE", &id])
                .await?;
        }
        if begun.elapsed() > AT_A_TIME {
            break;
        }
    }
    Ok(())
}

async fn empty(
    source: &mut Speaker<'_>,
    slot: &str,
    to: &str,
    password: &str,
) -> Result<(), SpeakError> {
    let port = REDIS_PORT.to_string();
    loop {
        let asked = ["CLUSTER", "GETKEYSINSLOT", slot, KEYS].map(str::as_bytes);
        let keys = match source.send(&asked).await? {
            BytesFrame::Array(keys) if keys.is_empty() => return Ok(()),
            BytesFrame::Array(keys) => keys,
            _ => Vec::new(),
        };
        let begin = [
            "MIGRATE",
            to,
            &port,
            "",
            "0",
            KEYS_TIMEOUT,
            // It may be there already, older, from a move that was cut off.
            "REPLACE",
            "AUTH2",
            ADMIN_USER,
            password,
            "KEYS",
        ];
        let mut words: Vec<&[u8]> = begin.iter().map(|word| word.as_bytes()).collect();
        for key in &keys {
            if let BytesFrame::BulkString(key) = key {
                words.push(key);
            }
        }
        source.send(&words).await?;
    }
}
