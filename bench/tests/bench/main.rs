//! Every bench, tiny, through the real gateway and the real floor: so that they still work when they are needed.

#![expect(
    clippy::unwrap_used,
    reason = "a test ends at the first thing that is not as expected"
)]

mod dashboard;
mod processes;
mod pushbench;
mod socketio;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn bench(arguments: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_bench"))
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:#?}");
    output
}

/// The gateway that was built beside this test; built now if the test is run alone.
fn gateway() -> PathBuf {
    let profile = Path::new(env!("CARGO_BIN_EXE_bench")).parent().unwrap();
    let program = profile.join("gateway");
    if !program.exists() {
        let cargo = Command::new(std::env::var_os("CARGO").unwrap())
            .args(["build", "--locked", "--package", "gateway", "--target-dir"])
            .arg(profile.parent().unwrap())
            .status()
            .unwrap();
        assert!(cargo.success(), "build the gateway");
    }
    program
}

/// The names of a bench's rows, and against what; the numbers are of a tiny run and say nothing but that they exist.
fn rows(folder: &Path, name: &str) -> BTreeSet<String> {
    let path = folder.join(name).with_extension("json");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path:?}: {e}"));
    let document: Value = serde_json::from_str(&text).unwrap();
    let rows = document["rows"].as_array().unwrap();
    for row in rows {
        for key in ["ours", "theirs", "ratio", "ratio_min", "ratio_max"] {
            assert!(row[key].is_number(), "{key} of {row}");
        }
        assert!(row["unit"].is_string(), "{row}");
    }
    let svg = std::fs::read_to_string(path.with_extension("svg")).unwrap();
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    let text = |row: &Value, key: &str| row[key].as_str().unwrap().to_owned();
    rows.iter()
        .map(|row| format!("{} {}", text(row, "name"), text(row, "against")))
        .collect()
}

#[test]
fn every_bench_works() {
    let gateway = gateway();
    let out = tempfile::tempdir().unwrap();
    let folder = out.path().to_str().unwrap();
    bench(&[
        "all",
        "--tiny",
        "--rounds=2",
        "--slice-ms=1",
        "--gateway",
        gateway.to_str().unwrap(),
        "--out",
        folder,
    ]);
    let fanout = rows(out.path(), "fanout");
    assert!(fanout.contains("fanout/1000x128 raw-epoll"), "{fanout:?}");
    assert_eq!(fanout.len(), 8);
    for (name, expected) in [
        (
            "memory",
            &[
                "memory/after-all-left start",
                "memory/after-message idle",
                "memory/idle-20 budget",
                "memory/idle-20 raw-epoll",
            ][..],
        ),
        ("handshakes", &["handshakes/jwt raw-epoll"]),
        (
            "latency",
            &[
                "latency/http-p50 over WebSocket",
                "latency/http-p99 over WebSocket",
                "latency/http-p99.9 over WebSocket",
                "latency/http-to-write-p50 over WebSocket",
                "latency/http-to-write-p99 over WebSocket",
                "latency/http-to-write-p99.9 over WebSocket",
                "latency/p50 raw-epoll",
                "latency/p99 raw-epoll",
                "latency/p99.9 raw-epoll",
            ],
        ),
        ("storm", &["storm/others-p99 quiet", "storm/there all"]),
        ("channels", &["channels/20-of-one one of 20"]),
        (
            "redis",
            &[
                "redis/crossing-p50 PUBLISH",
                "redis/crossing-p50 two relays",
                "redis/crossing-p50-100 PUBLISH",
                "redis/crossing-p50-elsewhere PUBLISH",
                "redis/publish its pipelines",
                "redis/publish redis-benchmark",
                "redis/publish-kept its pipelines",
                "redis/publish-kept redis-benchmark",
                "redis/recovered reads of their own",
                "redis/recovered without recover",
                "redis/recovered-cpu reads of their own",
                "redis/recovered-cpu without recover",
                "redis/resubscribed bar",
                "redis/two-relays-p50 PUBLISH",
            ],
        ),
        ("shipped", &["shipped/gateway-image budget"]),
    ] {
        let expected = expected.iter().map(|row| (*row).to_owned()).collect();
        assert_eq!(rows(out.path(), name), expected, "{name}");
    }
}

#[test]
fn without_a_name_the_benches_are_listed() {
    let output = bench(&[]);
    let listed = String::from_utf8(output.stdout).unwrap();
    let names: Vec<_> = listed
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert_eq!(
        names,
        [
            "fanout",
            "memory",
            "handshakes",
            "latency",
            "storm",
            "channels",
            "redis",
            "shipped"
        ]
    );
}
