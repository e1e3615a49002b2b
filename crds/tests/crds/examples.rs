//! `examples/`: what users copy must be right.

use std::path::Path;

use crds::PushCluster;
use kube::core::cel::validate_cel;
use serde_json::Value;

use crate::schema::mistakes;

#[test]
fn every_example_is_one_that_the_api_server_takes() {
    let root = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it for tests");
    let folder = Path::new(&root).join("../examples");
    let mut seen = 0;
    for entry in std::fs::read_dir(&folder).expect("list the examples") {
        let path = entry.expect("an entry").path();
        let text = std::fs::read_to_string(&path).expect("read an example");
        assert!(
            text.starts_with("# "),
            "{}: says not what it is for",
            path.display()
        );
        let manifest: Value = serde_yaml::from_str(&text).expect("YAML");
        let found = mistakes(&manifest);
        assert!(found.is_empty(), "{}: {}", path.display(), found.join("; "));
        let cluster: PushCluster = serde_json::from_value(manifest).expect("a PushCluster");
        let broken = validate_cel(&cluster);
        assert!(broken.is_ok(), "{}: {broken:?}", path.display());
        seen += 1;
    }
    assert!(seen >= 5, "{seen} examples in {}", folder.display());
}
