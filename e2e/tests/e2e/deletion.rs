//! Deleting a PushCluster.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::namespace::{Namespace, in_namespace};
use e2e::push_cluster;
use e2e::wait::eventually;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams};
use kube::discovery::{Discovery, Scope, verbs};

use crate::{NAME, operator_stays, two_gateways};

#[tokio::test]
async fn nothing_is_left() {
    let _guard = operator_stays().await;
    in_namespace("deletion", async |namespace| {
        let before = inventory(&namespace).await?;
        two_gateways(&namespace).await?;
        let during = inventory(&namespace).await?;
        ensure!(
            during.len() > before.len() + 8,
            "a PushCluster is only {during:?}"
        );

        let objects = push_cluster::api(&namespace.cluster, &namespace.name);
        objects.delete(NAME, &DeleteParams::default()).await?;
        eventually(
            "everything of the PushCluster is gone",
            Duration::from_secs(120),
            async || {
                let now = inventory(&namespace).await?;
                let left: Vec<_> = now.difference(&before).collect();
                ensure!(left.is_empty(), "left: {left:?}");
                Ok::<_, anyhow::Error>(())
            },
        )
        .await
    })
    .await;
}

/// Kind and name of every object in the namespace, of every kind that the API server knows; events, which
/// are about objects and outlive them, excepted.
async fn inventory(namespace: &Namespace) -> Result<BTreeSet<String>> {
    let client = namespace.cluster.client();
    let discovery = Discovery::new(client.clone())
        .exclude(&["metrics.k8s.io"])
        .run()
        .await?;
    let mut found = BTreeSet::new();
    for group in discovery.groups() {
        for (resource, capabilities) in group.recommended_resources() {
            let listed = capabilities.scope == Scope::Namespaced
                && capabilities.supports_operation(verbs::LIST);
            if !listed || resource.kind == "Event" {
                continue;
            }
            let api: Api<DynamicObject> =
                Api::namespaced_with(client.clone(), &namespace.name, &resource);
            for object in api.list(&ListParams::default()).await? {
                found.insert(format!(
                    "{} {}",
                    resource.kind,
                    object.metadata.name.unwrap_or_default()
                ));
            }
        }
    }
    Ok(found)
}
