//! The types users write, and the custom resource definition made from them.
//!
//! A field's documentation is what `kubectl explain` shows; its default and its rules are part of the schema,
//! so that the API server fills in the one and refuses a breach of the other with a message that names the field.

mod push_cluster;
mod reference;
mod status;

pub use push_cluster::*;
pub use reference::reference;
pub use status::*;

use kube::CustomResourceExt;

/// The definition as YAML, as the chart ships it.
pub fn definition_yaml() -> String {
    let definition = PushCluster::crd();
    serde_yaml::to_string(&definition).expect("a definition made of strings and numbers serialises")
}
