//! Rules about single files.

use crate::{assert_no_breach, tracked_files};

const LONGEST_FILE_LINES: usize = 500;

/// Files that may be longer, and why.
const MAY_BE_LONG: &[(&str, &str)] = &[
    ("Cargo.lock", "written by cargo"),
    ("e2e/cluster/kubernetes/go.sum", "written by go"),
    (
        "charts/pushcluster-operator/templates/crds/",
        "written by `make generate`",
    ),
    (
        "gateway/src/http/api/openapi.json",
        "one document, served as it is",
    ),
    (
        "charts/pushcluster-operator/dashboards/",
        "each is one document, as Grafana has it",
    ),
    (
        "docs/runbook.md",
        "an entry for each reason, looked up in one place",
    ),
];

#[test]
fn no_file_is_too_long() {
    let breaches: Vec<_> = tracked_files()
        .iter()
        .filter(|(path, _)| {
            !MAY_BE_LONG
                .iter()
                .any(|(exempt, _)| path.starts_with(exempt))
        })
        .filter_map(|(path, text)| {
            let lines = text.lines().count();
            (lines > LONGEST_FILE_LINES).then(|| format!("{path} has {lines} lines"))
        })
        .collect();
    assert_no_breach(
        "a file longer than 500 lines hides two things that want a name each; split it, or list it with a reason",
        &breaches,
    );
}

/// What must not be committed: it works on one machine only, or tells where that machine is.
/// Written in two halves so that this file does not break its own rule.
const MACHINE_BOUND: &[(&str, &str)] = &[
    ("/roo", "t/"),
    ("/hom", "e/"),
    ("/wor", "k/"),
    ("/Use", "rs/"),
    ("proxy.", "golang.org"),
    ("index.", "crates.io"),
    ("static.", "crates.io"),
    ("deb.", "debian.org"),
    ("registry.", "npmjs.org"),
    ("repo1.", "maven.org"),
    ("repo.", "maven.apache.org"),
    ("artifac", "tory"),
];

#[test]
fn nothing_names_a_machine_or_a_registry_host() {
    let mut breaches = Vec::new();
    for (path, text) in tracked_files() {
        for (number, line) in text.lines().enumerate() {
            for (first, second) in MACHINE_BOUND {
                let needle = format!("{first}{second}");
                if contains_path_or_host(line, &needle) {
                    breaches.push(format!("{path}:{}: {needle}", number + 1));
                }
            }
        }
    }
    assert_no_breach("the repository works on any machine", &breaches);
}

/// Whether `line` names the path or host itself, not something that merely ends like it: `/etc/root/`
/// is no home folder.
fn contains_path_or_host(line: &str, needle: &str) -> bool {
    line.match_indices(needle).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before
            .is_some_and(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '}' | '$'))
    })
}

/// Waiting for a time instead of a fact makes a test slow on a fast machine and false on a slow one.
#[test]
fn no_test_sleeps() {
    let calls = ["sleep", "sleep_until"].map(|name| format!("{name}("));
    let mut breaches = Vec::new();
    for (path, text) in tracked_files() {
        if !path.ends_with(".rs") {
            continue;
        }
        let all_test = path.starts_with("e2e/") || path.contains("/tests/");
        let mut in_test = all_test;
        for (number, line) in text.lines().enumerate() {
            in_test |= line.trim() == "#[cfg(test)]";
            if in_test && calls.iter().any(|call| line.contains(call)) {
                breaches.push(format!("{path}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    assert_no_breach(
        "a test waits for a fact with a deadline, never for a time",
        &breaches,
    );
}

#[test]
fn every_shell_script_stops_at_its_first_error() {
    let breaches: Vec<_> = tracked_files()
        .iter()
        .filter(|(_, text)| {
            text.starts_with("#!") && text.lines().next().is_some_and(|l| l.contains("bash"))
        })
        // The cluster's scripts take it from the file they all begin with.
        .filter(|(_, text)| !text.contains("lib.sh\"\n"))
        .filter(|(_, text)| !text.lines().any(|line| line.trim() == "set -euo pipefail"))
        .map(|(path, _)| format!("{path} lacks `set -euo pipefail`"))
        .collect();
    assert_no_breach(
        "a script that goes on after an error breaks something else",
        &breaches,
    );
}
