//! Whose an object is, by its owner references. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource, ResourceExt};

/// `uid`: an object that is made again under its name is another one.
#[must_use]
pub fn belongs<K: Resource>(object: &K, uid: &str) -> bool {
    let mut owners = object.owner_references().iter();
    owners.any(|owner| owner.uid == uid)
}

/// The one that makes it and takes it away; there is one at most.
#[must_use]
pub fn controller<K: Resource>(object: &K) -> Option<&OwnerReference> {
    let mut owners = object.owner_references().iter();
    owners.find(|owner| owner.controller == Some(true))
}
