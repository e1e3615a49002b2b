//! What the chart allows the operator, beside what it was seen to do.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use e2e::audit::{Right, operator_refusals, operator_rights};
use e2e::cluster::{Cluster, OPERATOR_LABELS};
use e2e::namespace::in_namespace;
use e2e::wait::eventually;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, Role};
use kube::api::{Api, ListParams};
use serde_json::json;
use std::time::Duration;

use crate::{operator_stays, patch, two_gateways};

/// Rights that no test sees used, and when they are.
const NOT_SEEN: &[(&str, &str, &str)] = &[
    (
        "pushclusters/finalizers",
        "update",
        "asked for by the admission plugin OwnerReferencesPermissionEnforcement, for an owner reference that blocks deletion",
    ),
    (
        "events",
        "patch",
        "an Event that tells again of a missing right is counted, and not another one",
    ),
];

/// Rights that must be nobody's but a person's: with them one request has every Secret of the cluster.
#[tokio::test]
async fn the_operator_cannot_list_secrets() -> Result<()> {
    let rights = granted(&Cluster::under_test().await?).await?;
    let of_secrets: BTreeSet<_> = rights
        .iter()
        .filter(|right| right.resource == "secrets")
        .map(|right| right.verb.as_str())
        .collect();
    ensure!(!of_secrets.is_empty(), "no rule on Secrets was found");
    for verb in ["list", "watch", "delete", "deletecollection"] {
        ensure!(!of_secrets.contains(verb), "{of_secrets:?}");
    }
    Ok(())
}

#[tokio::test]
async fn what_the_spec_no_longer_asks_for_is_deleted() {
    let _guard = operator_stays().await;
    in_namespace("pruned", async |namespace| {
        let (cluster, name) = (&namespace.cluster, &namespace.name);
        two_gateways(&namespace).await?;
        let autoscalers: Api<HorizontalPodAutoscaler> = Api::namespaced(cluster.client(), name);
        let policies: Api<NetworkPolicy> = Api::namespaced(cluster.client(), name);
        let all = ListParams::default();
        let found = async || {
            let autoscalers = autoscalers.list(&all).await?.items;
            let policies = policies.list(&all).await?.items;
            Ok::<_, anyhow::Error>((autoscalers.len(), policies.len()))
        };
        ensure!(found().await? == (1, 2), "{:?}", found().await?);
        let without = json!({"spec": {
            "autoscaling": {"enabled": false},
            "networkPolicies": {"enabled": false},
        }});
        patch(&namespace, without).await?;
        eventually(
            "the autoscaler and the NetworkPolicies are gone",
            Duration::from_secs(30),
            async || {
                let found = found().await?;
                ensure!(found == (0, 0), "{found:?}");
                Ok::<_, anyhow::Error>(())
            },
        )
        .await
    })
    .await;
}

/// `e2e/run.sh` runs this when all other tests have ended: their work is what is compared.
#[tokio::test]
#[ignore = "compares what all other tests made the operator do"]
async fn the_chart_allows_what_was_seen_and_no_more() -> Result<()> {
    let cluster = Cluster::under_test().await?;
    let namespace = Cluster::operator_namespace();
    let granted = granted(&cluster).await?;
    // While a release is taken away its pods still ask: what the chart allows is no defect of it.
    let refused = operator_refusals(&namespace)?;
    let missing: Vec<_> = refused.difference(&granted).collect();
    ensure!(
        missing.is_empty(),
        "the operator asked for what the chart does not allow: {missing:#?}"
    );

    let used = operator_rights(&namespace)?;
    let explained = |right: &&Right| {
        NOT_SEEN
            .iter()
            .any(|(resource, verb, _)| right.resource == *resource && right.verb == *verb)
    };
    let unused: Vec<_> = granted
        .difference(&used)
        .filter(|right| !explained(right))
        .collect();
    ensure!(
        unused.is_empty(),
        "the chart grants what no test saw the operator use: {unused:#?}"
    );
    // Each account may look up what it may do.
    let without_rule: Vec<_> = used.difference(&granted).collect();
    ensure!(
        without_rule.is_empty(),
        "the operator has rights that are not the chart's: {without_rule:#?}"
    );
    Ok(())
}

/// Everything that roles of the chart allow.
async fn granted(cluster: &Cluster) -> Result<BTreeSet<Right>> {
    let ours = ListParams::default().labels(OPERATOR_LABELS);
    let everywhere: Api<ClusterRole> = Api::all(cluster.client());
    let everywhere = everywhere.list(&ours).await.context("list ClusterRoles")?;
    let local: Api<Role> = Api::all(cluster.client());
    let local = local.list(&ours).await.context("list Roles")?;
    let rules = everywhere
        .into_iter()
        .filter_map(|role| role.rules)
        .chain(local.into_iter().filter_map(|role| role.rules));
    let rights: BTreeSet<_> = rules.flatten().flat_map(|rule| rights_of(&rule)).collect();
    ensure!(!rights.is_empty(), "no role has labels {OPERATOR_LABELS}");
    Ok(rights)
}

fn rights_of(rule: &PolicyRule) -> Vec<Right> {
    let mut rights = Vec::new();
    for group in rule.api_groups.iter().flatten() {
        for resource in rule.resources.iter().flatten() {
            rights.extend(rule.verbs.iter().map(|verb| Right {
                group: group.clone(),
                resource: resource.clone(),
                verb: verb.clone(),
            }));
        }
    }
    rights
}
