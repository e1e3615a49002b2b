//! Which crate must not reach which (the table in ARCHITECTURE.md).

use std::collections::BTreeSet;
use std::process::Command;

use crate::{assert_no_breach, root};

const WEBSOCKET_CRATES: &[&str] = &[
    "tungstenite",
    "tokio-tungstenite",
    "fastwebsockets",
    "soketto",
    "tokio-websockets",
    "ws",
];

/// Crate, what it must not link (tests of the crate excepted), and why.
const FORBIDDEN: &[(&str, &[&str], &str)] = &[
    (
        "gateway",
        &["kube", "kube-client", "kube-core", "k8s-openapi", "crds"],
        "it runs anywhere",
    ),
    ("operator", &["gateway"], "it does not know sockets"),
    ("operator", WEBSOCKET_CRATES, "it does not know sockets"),
    (
        "kubectl-push",
        &["gateway"],
        "it reaches gateways as everybody does, over the network",
    ),
    ("crds", &["tokio"], "it is values; anybody can link it"),
    (
        "gateway-config",
        &["tokio"],
        "it is values; anybody can link it",
    ),
    (
        "e2e",
        &["operator", "gateway"],
        "a test that links the program tests another program",
    ),
    (
        "bench",
        &["operator", "gateway"],
        "a bench that links the program measures another program",
    ),
];

#[test]
fn no_crate_reaches_what_it_must_not() {
    let mut breaches = Vec::new();
    for (from, forbidden, why) in FORBIDDEN {
        let linked = linked_by(from);
        for to in *forbidden {
            if linked.contains(*to) {
                breaches.push(format!(
                    "{from} reaches {to}, but {why} (cargo tree -p {from} -i {to})"
                ));
            }
        }
    }
    assert_no_breach("crates keep the edges of ARCHITECTURE.md", &breaches);
}

/// A guard on the test above: it must be able to see an edge.
#[test]
fn an_edge_that_exists_is_seen() {
    assert!(
        linked_by("gateway").contains("tokio"),
        "gateway links tokio, and the tree does not show it"
    );
    assert!(
        linked_by("operator").contains("kube-client"),
        "operator links kube-client"
    );
}

#[test]
fn every_crate_takes_the_workspace_lints_and_lives_in_a_folder_of_its_name() {
    let metadata = cargo_metadata::MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .no_deps()
        .exec()
        .expect("run cargo metadata");
    let mut breaches = Vec::new();
    for package in metadata.workspace_packages() {
        let manifest = std::fs::read_to_string(&package.manifest_path).expect("read a manifest");
        if !manifest.contains("[lints]\nworkspace = true\n") {
            breaches.push(format!(
                "{} does not say `[lints] workspace = true`",
                package.manifest_path
            ));
        }
        let folder = package
            .manifest_path
            .parent()
            .and_then(|folder| folder.file_name());
        if folder != Some(package.name.as_str()) {
            breaches.push(format!(
                "crate {} lives in {}",
                package.name, package.manifest_path
            ));
        }
    }
    assert_no_breach(
        "one set of lints, and a crate is found by its name",
        &breaches,
    );
}

/// Names of all crates that end up in the crate's library or program. `cargo tree`, because
/// `cargo metadata` joins the features that all members ask for, and so shows edges that no build has.
fn linked_by(member: &str) -> BTreeSet<String> {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--package", member, "--edges", "normal"])
        .args(["--prefix", "none", "--format", "{p}"])
        .current_dir(root())
        .output()
        .expect("run cargo tree");
    assert!(
        tree.status.success(),
        "cargo tree of {member} failed: {}",
        String::from_utf8_lossy(&tree.stderr)
    );
    String::from_utf8(tree.stdout)
        .expect("crate names are UTF-8")
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != member)
        .map(str::to_owned)
        .collect()
}
