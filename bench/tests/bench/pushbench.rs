//! `pushbench` for some seconds against two real gateways on a real Redis, of which one is drained in the middle.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use crate::processes::{Gateway, redis, until};

fn pushbench(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pushbench"))
        .args(arguments)
        .output()
        .unwrap()
}

/// The seconds of a record, and its end.
pub fn record(folder: &Path, name: &str) -> (Vec<Value>, Value) {
    let text = std::fs::read_to_string(folder.join(name)).unwrap();
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let seconds = lines.iter().filter_map(|line| line.get("second").cloned());
    let end = lines.last().unwrap()["end"].clone();
    (seconds.collect(), end)
}

pub fn sum(seconds: &[Value], key: &str) -> u64 {
    seconds
        .iter()
        .map(|second| second[key].as_u64().unwrap())
        .sum()
}

/// Two processes that share 60 clients, every third of which or so listens to an event stream.
fn two_parts(gateways: [&Gateway; 2], keys: &Path, out: &Path) -> [Child; 2] {
    ["--part=1/2", "--part=2/2"].map(|part| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pushbench"));
        command.args(["run", part, "--profile=1:60,2:60", "--sse=40"]);
        command.arg(format!(
            "--to={},{}",
            gateways[0].clients, gateways[1].clients
        ));
        command.arg(format!("--hs256-key-file={}", keys.join("jwt").display()));
        command.arg(format!("--api-key-file={}", keys.join("api").display()));
        command.arg(format!("--out={}", out.display()));
        command.arg(format!("--stage-file={}", out.join("stage").display()));
        command.args(["--channels=3", "--each=2", "--prefix=kept:", "--rate=60"]);
        command.args(["--budget=20", "--every=1", "--settle=300"]);
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    })
}

/// Everybody of this part was there, came back from the drained gateway once, and heard everything. How many came back.
fn all_came_back(seconds: &[Value], end: &Value) -> u64 {
    assert_eq!(sum(seconds, "connects"), 30);
    for key in ["lost", "doubled", "reordered", "told"] {
        assert_eq!(sum(seconds, key), 0, "{key}");
    }
    assert_eq!((&end["absent"], &end["missing"]), (&0.into(), &0.into()));
    let last = seconds.last().unwrap();
    assert_eq!(last["connected"], 30, "{last}");
    assert_eq!(last["nodes"]["other"], 30, "{last}");
    let closes = seconds
        .iter()
        .filter_map(|second| second["closes"]["1012"].as_u64());
    let closes = closes.sum();
    assert_eq!(sum(seconds, "reconnects"), closes);
    assert_eq!(
        end["clients_by_reconnects"]["1"], closes,
        "once each: {end}"
    );
    assert!(sum(seconds, "deliveries") > 0);
    let late = seconds.iter().filter(|second| second["p99_us"].is_u64());
    assert!(late.count() > 0, "latency is recorded");
    closes
}

#[test]
fn a_drain_sends_clients_to_the_other_gateway_and_nothing_is_lost() {
    let (_redis, port) = redis();
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let drained = Gateway::start("drained", port, folders[0].path());
    let other = Gateway::start("other", port, folders[1].path());
    let out = tempfile::tempdir().unwrap();
    // They wait for it, however long it takes.
    let stage = out.path().join("stage");
    std::fs::write(&stage, "drain").unwrap();
    let parts = two_parts([&drained, &other], folders[0].path(), out.path());
    until("everybody is there", || {
        (drained.connections() + other.connections() == 60).then_some(())
    });
    let answer = drained.ask("POST /drain", r#"{"connectionsPerSecond":20}"#);
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    until("all are at the other one", || {
        (other.connections() == 60).then_some(())
    });
    std::fs::remove_file(&stage).unwrap();
    for part in parts {
        let output = part.wait_with_output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}\n{errors}");
        assert!(said.contains("lost, doubled, reordered  0, 0, 0"), "{said}");
        assert!(said.contains(" of 2 s  "), "{said}");
    }
    assert_eq!(drained.connections(), 0);

    let records = ["1-of-2.jsonl", "2-of-2.jsonl"].map(|name| record(out.path(), name));
    let moved: u64 = records
        .iter()
        .map(|(seconds, end)| all_came_back(seconds, end))
        .sum();
    assert!((1..60).contains(&moved), "{moved} were on the drained one");
    assert!(sum(&records[0].0, "published") > 0);
    assert_eq!(sum(&records[1].0, "published"), 0, "one process publishes");

    let plotted = pushbench(&["plot", out.path().to_str().unwrap(), "--budget=20"]);
    assert!(plotted.status.success(), "{plotted:?}");
    let table = String::from_utf8(plotted.stdout).unwrap();
    let came = format!("came, came back           60, {moved}\n");
    assert!(
        table.contains(&came) && table.contains("(budget 20)"),
        "{table}"
    );
    let of_stage = format!(
        "lost, 0 doubled, 0 reordered, 0 told; 0 × for {}, 1 × for {moved}\n",
        60 - moved
    );
    assert!(
        table.contains("\ndrain, ") && table.contains(&of_stage),
        "{table}"
    );
    for (chart, named) in [
        ("connections", ">other<"),
        ("reconnects", ">- - budget<"),
        ("latency", ">p99<"),
        ("losses", ">lost<"),
    ] {
        let svg = std::fs::read_to_string(out.path().join(chart).with_extension("svg")).unwrap();
        assert!(
            svg.contains(named) && svg.ends_with("</svg>\n"),
            "{chart}: {svg}"
        );
    }
}

#[test]
fn what_cannot_be_is_named() {
    for (arguments, named) in [
        (&["run", "--to=127.0.0.1:1", "--profile=x"][..], "--profile"),
        (
            &["run", "--to=127.0.0.1:1", "--profile=1:99999999999"],
            "--profile",
        ),
        (
            &["run", "--to=127.0.0.1:1", "--profile=1:1", "--each=99"],
            "--each",
        ),
        (
            &[
                "run",
                "--to=127.0.0.1:1",
                "--profile=1:1",
                "--api-key-file=/nowhere",
            ],
            "--api-key-file",
        ),
        (
            &[
                "run",
                "--to=127.0.0.1:1",
                "--profile=1:1",
                "--sse=60",
                "--socketio=41",
            ],
            "--socketio",
        ),
        (&["plot", "/nowhere"], "/nowhere"),
    ] {
        let output = pushbench(arguments);
        assert!(!output.status.success(), "{arguments:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(named), "{said}");
    }
}

#[test]
fn clients_that_nobody_lets_in_are_absent_and_the_run_fails() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = closed.local_addr().unwrap();
    drop(closed);
    let to = format!("--to={address}");
    let output = pushbench(&["run", &to, "--profile=1:5,2:5", "--rate=0", "--settle=0"]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("5 absent, 0 not heard"), "{said}");
    assert!(
        said.contains("refused                   unreachable × "),
        "{said}"
    );
}
