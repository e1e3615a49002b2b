//! What the documents say exists, exists.

use std::collections::BTreeSet;

use crate::{assert_no_breach, root, tracked_files};

const DOCUMENTS: &[&str] = &["README.md", "CONTRIBUTING.md", "ARCHITECTURE.md"];

fn document(name: &str) -> String {
    std::fs::read_to_string(root().join(name))
        .unwrap_or_else(|error| panic!("read {name}: {error}"))
}

#[test]
fn every_make_target_in_a_document_exists() {
    let makefile = document("Makefile");
    let targets: BTreeSet<_> = makefile
        .lines()
        .filter(|line| !line.starts_with(['\t', ' ', '#', '.']))
        .filter(|line| !line.contains(":=") && !line.contains("?="))
        .filter_map(|line| line.split_once(':'))
        .flat_map(|(names, _)| names.split_whitespace())
        .collect();
    assert!(
        targets.contains("test"),
        "the Makefile's targets were not understood: {targets:?}"
    );
    let mut breaches = Vec::new();
    for name in DOCUMENTS {
        for target in make_targets_named_in(&document(name)) {
            if !targets.contains(target.as_str()) {
                breaches.push(format!("{name} says `make {target}`"));
            }
        }
    }
    assert_no_breach("a documented command works", &breaches);
}

/// `up` of "`make up CONTEXT=x`" or of a line "make up" in a code block; words as in "make sure" do not count.
fn make_targets_named_in(text: &str) -> Vec<String> {
    let mut in_block = false;
    let mut found = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
            continue;
        }
        let candidates: Vec<&str> = if in_block {
            vec![line]
        } else {
            line.split('`').skip(1).step_by(2).collect()
        };
        for candidate in candidates {
            let candidate = candidate.trim_start().trim_start_matches("$ ");
            if let Some(rest) = candidate.strip_prefix("make ") {
                let target: String = rest
                    .chars()
                    .take_while(|c| c.is_ascii_alphanumeric() || *c == '-')
                    .collect();
                found.push(target);
            }
        }
    }
    found
}

#[test]
fn make_targets_are_found_where_they_are_commands() {
    let text = "make sure that `make up CONTEXT=x` works\n```\n$ make down\nmake test # all\n```\nmake haste";
    assert_eq!(make_targets_named_in(text), ["up", "down", "test"]);
}

#[test]
fn every_relative_link_leads_to_a_file() {
    let mut breaches = Vec::new();
    for (path, text) in tracked_files()
        .iter()
        .filter(|(path, _)| path.ends_with(".md"))
    {
        let folder = root()
            .join(path)
            .parent()
            .expect("a file has a folder")
            .to_path_buf();
        for target in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let target = target.split('#').next().unwrap_or_default();
            if target.is_empty() || target.contains("://") || target.contains(' ') {
                continue;
            }
            if !folder.join(target).exists() {
                breaches.push(format!("{path} links to {target}"));
            }
        }
    }
    assert_no_breach("a link leads somewhere", &breaches);
}
