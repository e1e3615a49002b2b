//! Pure: what Redis said, and what somebody can do about it. The words before the semicolon are Redis's own.

/// What is to be done; empty where we know no better than Redis. `reason` as in an error reply: a word in capitals, and
/// text (redis.io/docs/latest/develop/reference/protocol-spec/#simple-errors).
pub(super) fn advice(reason: &str) -> &'static str {
    let said = |text: &str| reason.contains(text);
    match reason.split(' ').next().unwrap_or_default() {
        "OOM" => "; it is full: give it more memory (maxmemory)",
        "LOADING" => "; it works when the data is loaded",
        CANNOT_WRITE => "; it cannot write to its disk: see its log",
        "NOREPLICAS" => "; it waits for its replicas (min-replicas-to-write)",
        "READONLY" => "; name the master instead",
        "WRONGPASS" => "; see broker.redis.username and broker.redis.passwordFile",
        "NOAUTH" => "; set broker.redis.passwordFile",
        "NOPERM" => RIGHTS,
        _ if said("without the AUTH")
            || said("must be called with the client already authenticated") =>
        {
            "; set broker.redis.passwordFile"
        }
        _ if said("The user executing the script") || said("no permission") => RIGHTS,
        _ => "",
    }
}

/// How an answer begins that refuses a write because the disk is full or broken; what is no write still works.
const CANNOT_WRITE: &str = "MISCONF";

pub(super) fn is_about_the_disk(reason: &str) -> bool {
    reason.split(' ').next() == Some(CANNOT_WRITE)
}

/// What a Redis cannot write to its disk; `persistence` is what `INFO persistence` says. None: it can, or has not tried.
/// Completes "Redis at …".
pub(super) fn cannot_write(persistence: &str) -> Option<&'static str> {
    let says = |line: &str| persistence.lines().any(|said| said.trim_end() == line);
    if says("aof_last_write_status:err") {
        return Some(
            "cannot write its append-only file: it takes no message for a channel with history; its disk is full or broken",
        );
    }
    says("rdb_last_bgsave_status:err").then_some(
        "cannot write a snapshot: what is new would be lost with it; its disk is full or broken",
    )
}

const RIGHTS: &str = "; give the user the rights that broker.redis.username says it needs";

/// What a script of ours ended with, and the command it was at, which Redis says by the number of its line only.
/// `publish`: what the script publishes with.
pub(super) fn in_script(reason: &str, script: &str, publish: &str) -> String {
    let Some((reason, place)) = reason.split_once(" script: ") else {
        return reason.to_owned();
    };
    let number = place
        .rsplit_once("@user_script:")
        .map_or("", |(_, rest)| rest);
    let number = number.trim_end_matches('.').parse::<usize>();
    let line = number
        .ok()
        .and_then(|number| script.lines().nth(number.checked_sub(1)?));
    let called = line.and_then(|line| line.split_once("redis.call("));
    let reason = reason.trim_end_matches('.');
    match called.map(|(_, call)| {
        call.strip_prefix('\'')
            .and_then(|call| call.split('\'').next())
    }) {
        Some(Some(command)) => format!("{reason} ({command})"),
        Some(None) => format!("{reason} ({publish})"),
        None => reason.to_owned(),
    }
}

/// How a Redis makes room when it is full, if it does so by deleting keys; `memory` is what `INFO memory` says. Ours all
/// have a time at which they end, so any policy but one may take them.
pub(super) fn evicts(memory: &str) -> Option<&str> {
    let field = |name: &str| {
        let mut lines = memory.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
    };
    let policy = field("maxmemory_policy")?.trim();
    let bounded = field("maxmemory").is_some_and(|bytes| bytes.trim() != "0");
    (bounded && policy != "noeviction").then_some(policy)
}

/// Whether it is about a key that is no log of ours.
pub(super) fn is_foreign(reason: &str) -> bool {
    ["FOREIGN", "WRONGTYPE"]
        .iter()
        .any(|word| reason.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_says_where_it_was() {
        let script =
            "\nlocal a = redis.call('HMGET', KEYS[1])\nredis.call(ARGV[7], 'x')\nreturn a\n";
        let place = |line| format!("ERR The user cannot. script: 4ed1, on @user_script:{line}.");
        for (reason, expected) in [
            (place(2), "ERR The user cannot (HMGET)"),
            (place(3), "ERR The user cannot (SPUBLISH)"),
            (place(4), "ERR The user cannot"),
            (place(99), "ERR The user cannot"),
            (place(0), "ERR The user cannot"),
            ("OOM command not allowed".into(), "OOM command not allowed"),
            ("OOM no. script: 4ed1, on nothing".into(), "OOM no"),
        ] {
            assert_eq!(in_script(&reason, script, "SPUBLISH"), expected, "{reason}");
        }
    }

    #[test]
    fn who_deletes_keys() {
        for (bytes, policy, expected) in [
            ("0", "noeviction", None),
            ("0", "allkeys-lru", None),
            ("1000", "noeviction", None),
            ("1000", "allkeys-lru", Some("allkeys-lru")),
            ("1000", "volatile-ttl", Some("volatile-ttl")),
        ] {
            let memory = format!(
                "# Memory\r\nused_memory:1\r\nmaxmemory:{bytes}\r\nmaxmemory_human:1K\r\nmaxmemory_policy:{policy}\r\n"
            );
            assert_eq!(evicts(&memory), expected, "{bytes} {policy}");
        }
        assert_eq!(evicts(""), None);
    }

    #[test]
    fn what_cannot_be_written() {
        for (snapshot, file, expected) in [
            ("ok", "ok", None),
            ("err", "ok", Some("a snapshot")),
            ("ok", "err", Some("append-only")),
            ("err", "err", Some("append-only")),
        ] {
            let said = format!(
                "# Persistence\r\nloading:0\r\nrdb_last_bgsave_status:{snapshot}\r\naof_last_write_status:{file}\r\n"
            );
            let found = cannot_write(&said);
            assert_eq!(found.is_some(), expected.is_some(), "{said}");
            assert!(
                found
                    .unwrap_or_default()
                    .contains(expected.unwrap_or_default())
            );
        }
        assert!(is_about_the_disk("MISCONF Errors writing to the AOF file"));
        assert!(!is_about_the_disk("ERR MISCONF"));
    }

    #[test]
    fn what_is_to_be_done() {
        for (reason, expected) in [
            (
                "OOM command not allowed when used memory > 'maxmemory'.",
                "maxmemory",
            ),
            (
                "LOADING Redis is loading the dataset in memory",
                "works when",
            ),
            (
                "NOPERM this user has no permissions to run the 'eval' command",
                "rights",
            ),
            (
                "ERR The user executing the script can't run this command (INFO)",
                "rights",
            ),
            (
                "WRONGPASS invalid username-password pair or user is disabled.",
                "broker.redis.passwordFile",
            ),
            (
                "NOAUTH HELLO must be called with the client already authenticated",
                "broker.redis.passwordFile",
            ),
        ] {
            assert!(
                advice(reason).contains(expected),
                "{reason}: {}",
                advice(reason)
            );
        }
        assert_eq!(advice("ERR unknown"), "");
        assert!(is_foreign("WRONGTYPE Operation against a key"));
        assert!(!is_foreign("OOM command not allowed"));
    }
}
