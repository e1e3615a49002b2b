//! Manifests that the API server refuses, with a message that names the field, and those it must accept.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use e2e::namespace::{Namespace, in_namespace};
use e2e::push_cluster;

use crate::{NAME, operator_stays};

/// The `spec` of a PushCluster, and what the refusal must say.
const REFUSED: &[(&str, &str)] = &[
    // Out of range, of the wrong type, with a unit where a number belongs, misspelt.
    ("{replicas: -1}", "spec.replicas"),
    ("{replicas: 1001}", "spec.replicas"),
    ("{replicas: two}", "spec.replicas"),
    ("{replcas: 2}", "spec.replcas"),
    (
        "{gateway: {limits: {maxConnections: 0}}}",
        "spec.gateway.limits.maxConnections",
    ),
    (
        "{gateway: {limits: {maxMessageBytes: 1Mi}}}",
        "spec.gateway.limits.maxMessageBytes",
    ),
    (
        "{gateway: {limits: {maxConnection: 5}}}",
        "spec.gateway.limits.maxConnection",
    ),
    (
        "{drain: {deadlineSeconds: 0}}",
        "spec.drain.deadlineSeconds",
    ),
    (
        "{drain: {deadlineSeconds: 30s}}",
        "spec.drain.deadlineSeconds",
    ),
    ("{service: {type: Public}}", "spec.service.type"),
    ("{service: {port: 70000}}", "spec.service.port"),
    ("{redis: {mode: Magic}}", "spec.redis.mode"),
    (
        "{redis: {mode: External, external: {host: 'redis://a/0'}}}",
        "spec.redis.external.host",
    ),
    (
        "{redis: {mode: External, external: {host: a, port: 0}}}",
        "spec.redis.external.port",
    ),
    // Keys that do not go together.
    (
        "{redis: {mode: External}}",
        "spec.redis.external is missing",
    ),
    (
        "{redis: {external: {host: a}}}",
        "spec.redis.external is set but not used",
    ),
    (
        "{autoscaling: {minReplicas: 3, maxReplicas: 2}}",
        "spec.autoscaling.minReplicas is greater than spec.autoscaling.maxReplicas",
    ),
    ("{gateway: {auth: {anonymous: false}}}", "hs256KeySecret"),
    (
        "{gateway: {channels: [{prefix: a, maxMessageBytes: 200}], limits: {maxMessageBytes: 199}}}",
        "spec.gateway.channels: a maxMessageBytes is greater",
    ),
    // Two policies of one prefix.
    (
        "{gateway: {channels: [{prefix: a}, {prefix: a}]}}",
        "spec.gateway.channels",
    ),
    (
        "{gateway: {pods: {labels: {app.kubernetes.io/name: mine}}}}",
        "keys that begin with app.kubernetes.io/ or pushcluster.io/ are the operator's",
    ),
    (
        "{gateway: {pods: {labels: {team: 'a b'}}}}",
        "spec.gateway.pods.labels.team",
    ),
    (
        "{redis: {mode: External, external: {topology: Sentinel, hosts: ['a:1']}}}",
        "spec.redis.external.masterName is what Sentinels call the master",
    ),
    (
        "{redis: {mode: External, external: {topology: Cluster, hosts: [a]}}}",
        "spec.redis.external.hosts[0]",
    ),
];

#[tokio::test]
async fn a_bad_manifest_is_refused_by_name_and_nothing_is_made() {
    let _guard = operator_stays().await;
    in_namespace("refusals", async |namespace| {
        let mut wrong = Vec::new();
        for (spec, expected) in REFUSED {
            wrong.extend(accepted_or_unclear(&namespace, NAME, spec, expected).await);
        }
        let long = "a".repeat(60);
        wrong.extend(accepted_or_unclear(&namespace, &long, "{}", "metadata.name").await);
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        let left = push_cluster::api(&namespace.cluster, &namespace.name)
            .get_opt(NAME)
            .await?;
        ensure!(left.is_none(), "half applied: {left:?}");
        Ok(())
    })
    .await;
}

/// Another Redis would lose what the first one holds, so the mode stays as it was made.
#[tokio::test]
async fn what_cannot_change_is_refused() {
    let _guard = operator_stays().await;
    in_namespace("unchanging", async |namespace| {
        apply(&namespace, NAME, "{paused: true}")
            .await
            .context("a good manifest")?;
        let external = "{paused: true, redis: {mode: External, external: {host: a}}}";
        let expected = "spec.redis.mode cannot be changed";
        let wrong = accepted_or_unclear(&namespace, NAME, external, expected).await;
        ensure!(wrong.is_none(), "{}", wrong.unwrap_or_default());
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn every_example_is_accepted() {
    let _guard = operator_stays().await;
    in_namespace("examples", async |namespace| {
        let folder =
            Path::new(&std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it for tests"))
                .join("../examples");
        let mut seen = 0;
        for entry in std::fs::read_dir(&folder).context("list the examples")? {
            let path = entry?.path();
            let manifest = std::fs::read_to_string(&path)?;
            let accepted = namespace
                .cluster
                .would_apply(&namespace.name, &manifest)
                .await;
            accepted.with_context(|| path.display().to_string())?;
            seen += 1;
        }
        ensure!(seen > 0, "no example in {}", folder.display());
        Ok(())
    })
    .await;
}

async fn apply(namespace: &Namespace, name: &str, spec: &str) -> Result<()> {
    let manifest = format!(
        "{{apiVersion: pushcluster.io/v1alpha1, kind: PushCluster, metadata: {{name: {name}}}, spec: {spec}}}"
    );
    namespace
        .cluster
        .apply(&namespace.name, &manifest)
        .await
        .map(drop)
}

/// What is wrong with the API server's answer to this manifest, if something is.
async fn accepted_or_unclear(
    namespace: &Namespace,
    name: &str,
    spec: &str,
    expected: &str,
) -> Option<String> {
    match apply(namespace, name, spec).await {
        Ok(()) => Some(format!("{spec} was accepted")),
        Err(refused) => {
            let refused = format!("{refused:#}");
            (!refused.contains(expected))
                .then(|| format!("{spec}: no \"{expected}\" in: {refused}"))
        }
    }
}
