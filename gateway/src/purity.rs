//! The pure rooms stay pure: a clock or a lock that slips in makes their tests lie, and nobody notices for a year.

use std::fs;
use std::path::{Path, PathBuf};

/// Rooms without async, clock, lock or socket, and what they must not know of.
const PURE: [&str; 18] = [
    "engine/told",
    "limits/bucket",
    "memory_guard",
    "name",
    "message",
    "history",
    "auth",
    "session",
    "policy",
    "presence/table",
    "registry/calls",
    "registry/fact",
    "registry/pending",
    "registry/scripts",
    "protocol",
    "router/reads",
    "hub/channels",
    "hub/track",
];

const FORBIDDEN: [&str; 22] = [
    "tokio",
    "mio::",
    "futures",
    "async ",
    ".await",
    "Instant",
    "SystemTime",
    "Mutex",
    "RwLock",
    "Atomic",
    "RefCell",
    "OnceLock",
    "thread",
    "std::net",
    "std::fs",
    "std::io",
    "std::env",
    "rand::",
    "crate::broker",
    "crate::hub",
    "crate::router",
    "crate::http",
];

/// The room's file and all in its folder.
fn files(room: &str) -> Vec<PathBuf> {
    let source = Path::new(&std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it for tests"))
        .join("src");
    let mut files = vec![source.join(format!("{room}.rs"))];
    let mut folders = vec![source.join(room)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.to_string_lossy().ends_with("_tests.rs") {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(path);
            }
        }
    }
    files
}

/// What a line of code says, without what it says to people.
fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}

/// The lines before the tests, which may read files: a module under `#[cfg(test)]`, at the end by convention.
fn program(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let tests = text
        .lines()
        .zip(text.lines().skip(1))
        .position(|(line, next)| {
            line == "#[cfg(test)]" && (next.starts_with("mod ") || next.starts_with("#["))
        });
    text.lines().enumerate().take(tests.unwrap_or(usize::MAX))
}

fn broken(text: &str) -> Vec<String> {
    let mut broken = Vec::new();
    for (number, line) in program(text) {
        for word in FORBIDDEN.iter().filter(|word| code(line).contains(**word)) {
            broken.push(format!("{}: {word}", number + 1));
        }
    }
    broken
}

#[test]
fn the_pure_rooms_know_no_async_clock_lock_or_socket() {
    let mut seen = 0;
    for room in PURE {
        for file in files(room) {
            let text =
                fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
            let broken = broken(&text);
            assert!(
                broken.is_empty(),
                "{} must not use {broken:?}",
                file.display()
            );
            seen += 1;
        }
    }
    assert!(seen >= 9, "only {seen} files were looked at");
}

#[test]
fn the_scan_finds_what_it_looks_for() {
    for (line, found) in [
        ("use std::time::Instant;", true),
        ("    let now = SystemTime::now();", true),
        ("async fn f() {", true),
        (
            "#[cfg(test)]\nfn only_for_tests() {}\nuse std::time::Instant;",
            true,
        ),
        ("#[cfg(test)]\nmod tests {\n    use std::fs;\n}", false),
        ("use std::time::Duration;", false),
        ("// an Instant would be a clock", false),
        ("    now: u64, // not Instant", false),
    ] {
        assert_eq!(!broken(line).is_empty(), found, "{line}");
    }
}
