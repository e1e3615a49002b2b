//! `pushbench` with Socket.IO clients against the real server on Node (bench/peers/socketio), which drops them, forgets them, or
//! loses messages.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use crate::processes::{Process, ask, free_port, until};
use crate::pushbench::{record, sum};

const CLIENTS: u64 = 40;
const RECORD: &str = "1-of-1.jsonl";

struct Peer {
    address: SocketAddr,
    process: Process,
}

impl Peer {
    fn start(arguments: &[&str]) -> Peer {
        let manifest = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it for tests");
        let folder = PathBuf::from(manifest).join("peers/socketio");
        let installed = Command::new(folder.join("install.sh")).output().unwrap();
        assert!(installed.status.success(), "{installed:?}");
        let modules = String::from_utf8(installed.stdout).unwrap();
        let mut command = Command::new("node");
        command.arg(folder.join("server.js")).args(arguments);
        command.env("NODE_PATH", modules.trim());
        let mut process = Process(command.stdout(Stdio::piped()).spawn().unwrap());
        let mut said = BufReader::new(process.0.stdout.take().unwrap()).lines();
        let ready = said.next().expect("it serves").unwrap();
        let port = ready.strip_prefix("READY ").unwrap().parse().unwrap();
        Peer {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            process,
        }
    }

    fn signal(&self, signal: &str) {
        let process = self.process.0.id().to_string();
        let killed = Command::new("kill").args([signal, &process]).status();
        assert!(killed.unwrap().success());
    }

    fn ask(&self, request: &str) -> Value {
        let answer = ask(self.address, request, "").unwrap();
        serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap()
    }

    /// Until all clients are there, and so much has happened.
    fn has_seen(&self, expected: &Seen) {
        until("all are there", || {
            let node = self.ask("GET /node");
            let count = |key: &str| node[key].as_u64().unwrap();
            let seen = Seen {
                came: count("came"),
                resumed: count("resumed"),
                subscribed: count("subscribed"),
            };
            (seen == *expected && count("connections") == CLIENTS).then_some(())
        });
    }
}

/// Since the server began: connections, those of them that it resumed, and subscriptions that it acknowledged.
#[derive(PartialEq, Eq)]
struct Seen {
    came: u64,
    resumed: u64,
    subscribed: u64,
}

/// Each in two channels.
const ALL_CAME: Seen = Seen {
    came: CLIENTS,
    resumed: 0,
    subscribed: 2 * CLIENTS,
};

/// Clients that stay for as long as the stage's file says so.
struct Load {
    child: Child,
    out: tempfile::TempDir,
}

impl Load {
    fn start(to: SocketAddr, arguments: &[&str]) -> Load {
        let out = tempfile::tempdir().unwrap();
        let stage = out.path().join("stage");
        std::fs::write(&stage, "drop").unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_pushbench"));
        command.arg("run").args(arguments).arg(format!("--to={to}"));
        command.arg(format!("--profile=1:{CLIENTS},2:{CLIENTS}"));
        command.arg(format!("--out={}", out.path().display()));
        command.arg(format!("--stage-file={}", stage.display()));
        command.args(["--channels=3", "--each=2", "--rate=60", "--settle=300"]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = child.spawn().unwrap();
        Load { child, out }
    }

    /// Ends of connections so far, by what `pushbench` calls them.
    fn closes(&self, label: &str) -> u64 {
        let text = std::fs::read_to_string(self.out.path().join(RECORD)).unwrap();
        // The last line may be half.
        let lines = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        let seconds: Vec<_> = lines.map(|line: Value| line["second"].clone()).collect();
        closes(&seconds, label)
    }

    /// How it ended: what it printed, the seconds of its record, and its end.
    fn finish(self) -> (Output, Vec<Value>, Value) {
        std::fs::remove_file(self.out.path().join("stage")).unwrap();
        let output = self.child.wait_with_output().unwrap();
        let (seconds, end) = record(self.out.path(), RECORD);
        (output, seconds, end)
    }
}

/// Everybody came back once, nothing was lost, and what was missed came. Nobody was told of a loss.
fn all_came_back((output, seconds, end): &(Output, Vec<Value>, Value)) {
    assert!(output.status.success(), "{output:?}");
    for key in ["lost", "doubled", "reordered", "told"] {
        assert_eq!(sum(seconds, key), 0, "{key}: {output:?}");
    }
    assert_eq!(sum(seconds, "connects"), CLIENTS);
    assert_eq!(sum(seconds, "reconnects"), CLIENTS);
    assert_eq!(end["clients_by_reconnects"]["1"], CLIENTS, "{end}");
    assert!(sum(seconds, "deliveries") > 0);
    assert!(sum(seconds, "recovered") > 0);
    let late = seconds.iter().filter(|second| second["p99_us"].is_u64());
    assert!(late.count() > 0, "latency is recorded");
}

/// Ends of connections, by what `pushbench` calls them.
fn closes(seconds: &[Value], label: &str) -> u64 {
    let closes = seconds
        .iter()
        .filter_map(|second| second["closes"][label].as_u64());
    closes.sum()
}

#[test]
fn whom_the_server_drops_it_resumes_and_nothing_is_lost() {
    let peer = Peer::start(&["--token=secret"]);
    let load = Load::start(peer.address, &["--socketio=100", "--token=secret"]);
    peer.has_seen(&ALL_CAME);
    peer.ask("POST /drop");
    // Nobody had to subscribe again.
    peer.has_seen(&Seen {
        came: 2 * CLIENTS,
        resumed: CLIENTS,
        ..ALL_CAME
    });
    let ended = load.finish();
    all_came_back(&ended);
    assert_eq!(closes(&ended.1, "1005"), CLIENTS);
}

#[test]
fn without_sessions_they_recover_by_position_as_native_clients_do() {
    let peer = Peer::start(&["--without-recovery"]);
    let load = Load::start(peer.address, &["--socketio=50"]);
    peer.has_seen(&ALL_CAME);
    peer.ask("POST /drop");
    peer.has_seen(&Seen {
        came: 2 * CLIENTS,
        resumed: 0,
        subscribed: 4 * CLIENTS,
    });
    let ended = load.finish();
    all_came_back(&ended);
    let of_each = [closes(&ended.1, "1005"), closes(&ended.1, "1012")];
    assert_eq!(of_each.iter().sum::<u64>(), CLIENTS);
    assert!(of_each.iter().all(|count| *count > 10), "{of_each:?}");
}

#[test]
fn a_server_that_has_forgotten_everything_tells_them() {
    let port = format!("--port={}", free_port());
    let peer = Peer::start(&[&port]);
    let load = Load::start(peer.address, &["--socketio=100"]);
    peer.has_seen(&ALL_CAME);
    drop(peer);
    let peer = Peer::start(&[&port]);
    peer.has_seen(&ALL_CAME);
    until("messages are published again", || {
        (peer.ask("GET /node")["published"] != 0).then_some(())
    });
    let (output, seconds, _) = load.finish();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(closes(&seconds, "cut"), CLIENTS);
    // In both channels of each.
    assert_eq!(sum(&seconds, "told"), 2 * CLIENTS);
}

#[test]
fn a_server_that_does_not_ping_is_given_up() {
    let peer = Peer::start(&["--ping-ms=2000"]);
    let load = Load::start(peer.address, &["--socketio=100"]);
    let are_there = |node: &Value| node["connections"] == CLIENTS;
    until("all are there", || {
        are_there(&peer.ask("GET /node")).then_some(())
    });
    peer.signal("-STOP");
    until("all have given it up", || {
        (load.closes("silent") >= CLIENTS).then_some(())
    });
    peer.signal("-CONT");
    until("all are there again", || {
        let node = peer.ask("GET /node");
        (are_there(&node) && node["came"].as_u64() >= Some(2 * CLIENTS)).then_some(())
    });
    let (output, seconds, _) = load.finish();
    assert!(output.status.success(), "{output:?}");
    for key in ["lost", "doubled", "reordered", "told"] {
        assert_eq!(sum(&seconds, key), 0, "{key}: {output:?}");
    }
}

#[test]
fn a_server_that_loses_messages_is_found_out() {
    let peer = Peer::start(&["--lose=7"]);
    let load = Load::start(peer.address, &["--socketio=100"]);
    peer.has_seen(&ALL_CAME);
    let (output, seconds, _) = load.finish();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(sum(&seconds, "lost") > 0);
    for key in ["doubled", "reordered", "told"] {
        assert_eq!(sum(&seconds, key), 0, "{key}: {output:?}");
    }
}

#[test]
fn whom_the_server_denies_stays_away() {
    let peer = Peer::start(&["--token=secret"]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_pushbench"));
    command.args(["run", "--socketio=100", "--token=guessed", "--rate=0"]);
    command.args(["--profile=1:5,2:5", "--settle=0"]);
    let output = command.arg(format!("--to={}", peer.address)).output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        said.contains("refused                   connect error × 5\n"),
        "{said}"
    );
    assert!(said.contains("5 absent, 0 not heard"), "{said}");
    let complained = String::from_utf8(output.stderr).unwrap();
    assert!(
        complained.contains("is denied: unauthorized"),
        "{complained}"
    );
}
