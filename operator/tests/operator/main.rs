//! What the operator ships, checked against what it is made from.

mod runbook;

use std::path::Path;

/// `make generate` writes it. Without this test a changed type would reach users with the old definition.
#[test]
fn the_charts_definition_is_the_one_that_the_types_make() {
    let path = Path::new(&std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it for tests"))
        .join("../charts/pushcluster-operator/templates/crds/pushclusters.yaml");
    let committed = std::fs::read_to_string(&path).expect("the chart has the definition");
    assert!(
        committed == crds::definition_yaml(),
        "charts/pushcluster-operator/templates/crds/pushclusters.yaml is not up to date: run `make generate`"
    );
    assert!(
        !committed.contains("{{"),
        "Helm would take a brace pair in a description for a template"
    );
}
