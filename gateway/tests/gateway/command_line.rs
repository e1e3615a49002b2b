//! What a person types, and the lines they see.

use std::process::{Command, Output};

fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gateway"))
        .args(arguments)
        .envs(environment.iter().copied())
        .output()
        .unwrap()
}

/// Exit code, standard output, standard error.
fn ran(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code().unwrap(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, text).unwrap();
    file
}

#[test]
fn check_explains_every_mistake_with_its_line() {
    let bad = file("limits:\n  maxConections: 5\nheartbeat:\n  pingSeconds: 30s\n");
    let name = bad.path().to_str().unwrap();
    assert_eq!(
        ran(&run(&["check", name], &[])),
        (
            1,
            String::new(),
            format!(
                "{name}:2:3: limits.maxConections: unknown key; did you mean maxConnections?\n\
                 {name}:4:16: heartbeat.pingSeconds: expected a whole number of seconds: write 30, not 30s\n"
            )
        )
    );
    let good = file("limits: {maxConnections: 5}\n");
    let name = good.path().to_str().unwrap();
    assert_eq!(
        ran(&run(&["check", name], &[])),
        (
            0,
            format!("{name} is good\n  limits.maxConnections: 5\n"),
            String::new()
        )
    );
    let (code, _, error) = ran(&run(&["check", "/nowhere.yaml"], &[]));
    assert_eq!(
        (code, error.as_str()),
        (
            1,
            "read the configuration /nowhere.yaml: No such file or directory (os error 2)\n"
        )
    );
}

#[test]
fn a_bad_configuration_exits_with_2_before_anything_is_bound() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let set = |pair: &'static str| vec!["--listen", &address, "--set", pair];
    for (arguments, expected) in [
        (
            set("limits.maxConnections=0"),
            "flag --set limits.maxConnections: limits.maxConnections: must be at least 1\n",
        ),
        (
            set("log.filter=gateway=loud"),
            "log.filter: the log filter \"gateway=loud\" cannot be read: error parsing level filter: expected one of \"off\", \"error\", \"warn\", \"info\", \"debug\", \"trace\", or a number 0-5\n",
        ),
        (
            set("api.keyFile=/nowhere"),
            "api.keyFile: read /nowhere: No such file or directory (os error 2)\n",
        ),
    ] {
        assert_eq!(
            ran(&run(&arguments, &[])),
            (2, String::new(), expected.to_owned())
        );
    }
    let (code, _, error) = ran(&run(&[], &[("PUSHCLUSTER__LISTEN__CLIENT", "x")]));
    assert_eq!(
        (code, error.as_str()),
        (
            2,
            "environment PUSHCLUSTER__LISTEN__CLIENT: is not a setting; did you mean PUSHCLUSTER__LISTEN__CLIENTS?\n"
        )
    );
}

#[test]
fn a_port_in_use_is_one_clear_line() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (flag, other, key) in [
        ("--listen", "--admin", "listen.clients"),
        ("--admin", "--listen", "listen.admin"),
    ] {
        let output = run(&[flag, &address, other, "127.0.0.1:0"], &[]);
        let (code, _, error) = ran(&output);
        assert_eq!(
            (code, error.as_str()),
            (
                1,
                &*format!("{key}: listen on {address}: Address already in use (os error 98)\n")
            )
        );
    }
}

#[test]
fn config_prints_what_would_be_used_and_it_is_good() {
    let output = run(
        &["config", "--set", "limits.maxConnections=7"],
        &[
            ("PUSHCLUSTER__NODE__NAME", "n"),
            ("PUSHCLUSTER_SERVICE_HOST", "10.0.0.1"),
        ],
    );
    let (code, printed, error) = ran(&output);
    assert_eq!((code, error.as_str()), (0, ""));
    let again = file(&printed);
    let name = again.path().to_str().unwrap();
    assert_eq!(
        ran(&run(&["check", name], &[])).1,
        format!("{name} is good\n  limits.maxConnections: 7\n  node.name: \"n\"\n")
    );
}
