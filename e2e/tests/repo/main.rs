//! Rules of this repository that no compiler checks. A rule that fails says which file breaks it and why
//! the rule exists; an exemption is a row in a table here, with its reason.

mod documents;
mod edges;
mod files;

use std::path::{Path, PathBuf};
use std::process::Command;

/// The root of the work tree.
fn root() -> PathBuf {
    // Asked when the test runs: clones that share a build cache share the binary too.
    Path::new(&std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it for tests"))
        .parent()
        .expect("e2e is a folder of the repository")
        .to_path_buf()
}

/// Path (from the root) and text of every file that git tracks, or would if it were added; files that
/// are not text are left out.
fn tracked_files() -> Vec<(String, String)> {
    let listed = Command::new("git")
        .args([
            "ls-files",
            "--cached",
            "--others",
            "--exclude-standard",
            "-z",
        ])
        .current_dir(root())
        .output()
        .expect("run git ls-files");
    assert!(
        listed.status.success(),
        "git ls-files failed: {}",
        String::from_utf8_lossy(&listed.stderr)
    );
    let files: Vec<_> = String::from_utf8(listed.stdout)
        .expect("paths are UTF-8")
        .split_terminator('\0')
        .filter_map(|path| {
            Some((
                path.to_owned(),
                std::fs::read_to_string(root().join(path)).ok()?,
            ))
        })
        .collect();
    assert!(
        files.len() > 20,
        "git lists only {} files: is this the right folder?",
        files.len()
    );
    files
}

/// Fails with one line for each breach, under the sentence that says why the rule exists.
#[track_caller]
fn assert_no_breach(rule: &str, breaches: &[String]) {
    assert!(breaches.is_empty(), "{rule}\n  {}", breaches.join("\n  "));
}
