use super::*;

fn info(version: &str, mode: &str) -> Option<BytesFrame> {
    let text = format!("# Server\r\nredis_version:{version}\r\nredis_mode:{mode}\r\n");
    Some(BytesFrame::BulkString(text.into_bytes().into()))
}

fn error(text: &str) -> Option<BytesFrame> {
    Some(BytesFrame::Error(text.into()))
}

/// Empty: nothing is wrong.
fn told(topology: ExternalTopology, said: &Said) -> String {
    let redis = ExternalRedis {
        topology,
        ..ExternalRedis::default()
    };
    let found = fault(&redis, said).map(|(reason, what)| format!("{} {what}", reason.as_str()));
    found.unwrap_or_default()
}

#[test]
fn what_gateways_could_not_use_is_told_with_its_field() {
    use ExternalTopology::{Cluster, Sentinel, Standalone};
    let good = || Said {
        info: info("7.2.4", "standalone"),
        ..Said::default()
    };
    let no_right = || error("NOPERM this user has no permissions");
    for (topology, said, expected) in [
        (Standalone, good(), ""),
        // Rights may be few: it is gateways that need them.
        (
            Standalone,
            Said {
                ping: no_right(),
                info: no_right(),
                ..good()
            },
            "",
        ),
        (
            Standalone,
            Said {
                auth: error("WRONGPASS invalid"),
                ..good()
            },
            "ExternalRedisRefuses lets nobody in with spec.redis.external.username and spec.redis.external.passwordSecret",
        ),
        (
            Sentinel,
            Said {
                auth: error("ERR AUTH"),
                ..good()
            },
            "ExternalRedisRefuses lets nobody in with spec.redis.external.sentinelUsername and spec.redis.external.sentinelPasswordSecret",
        ),
        (
            Standalone,
            Said {
                ping: error("NOAUTH Authentication required."),
                ..good()
            },
            "ExternalRedisRefuses asks for a password: set spec.redis.external.passwordSecret",
        ),
        (
            Cluster,
            good(),
            "ExternalRedisUnsuitable runs as Standalone, and spec.redis.external.topology says Cluster",
        ),
        (
            Sentinel,
            Said {
                info: info("7.0.0", "sentinel"),
                master: Some(BytesFrame::Null),
                ..Said::default()
            },
            "ExternalRedisUnsuitable knows no master of the name in spec.redis.external.masterName",
        ),
        (
            Standalone,
            Said {
                info: info("6.2.14", "standalone"),
                ..Said::default()
            },
            "ExternalRedisUnsuitable is of version 6, and gateways need 7.0 or later",
        ),
    ] {
        let found = told(topology, &said);
        assert!(found.starts_with(expected), "{said:?}: {found}");
        assert_eq!(found.is_empty(), expected.is_empty(), "{said:?}: {found}");
    }
}

/// Something else listens there, which says what it says only to the operator.
#[tokio::test]
async fn what_is_no_redis_is_not_repeated() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let other = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream
            .write_all(b"secret of another service\r\n")
            .await
            .unwrap();
    });
    let redis = ExternalRedis {
        host: Some("127.0.0.1".into()),
        port: port.into(),
        ..ExternalRedis::default()
    };
    let wrong = ask(&redis, None).await.unwrap_err();
    assert_eq!(wrong.reason, Reason::ExternalRedisUnreachable);
    assert!(!wrong.message.contains("secret"), "{wrong:?}");
    other.await.unwrap();
}
