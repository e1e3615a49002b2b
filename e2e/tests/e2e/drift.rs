//! What others change in objects that the operator owns, and what the operator writes by itself.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use e2e::audit::{Write, operator_writes};
use e2e::cluster::Cluster;
use e2e::namespace::{Namespace, in_namespace};
use e2e::push_cluster;
use e2e::wait::eventually;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use serde_json::json;

use crate::{NAME, operator_stays, two_gateways};

/// The operator watches; it does not wait for a period to pass.
const PUT_BACK: Duration = Duration::from_secs(30);

/// Of two reconciles each. One takes about a second.
const STRETCHES: usize = 4;

#[tokio::test]
async fn what_others_change_is_put_back() {
    let _guard = operator_stays().await;
    in_namespace("drift", async |namespace| {
        two_gateways(&namespace).await?;
        break_the_service(&namespace).await?;
        resize_the_deployment(&namespace).await?;
        delete_the_config(&namespace).await?;
        push_cluster::until_ready(&namespace.cluster, &namespace.name, NAME).await
    })
    .await;
}

/// Another program that is after the same field: neither may keep the API server busy, and the user has to know of it.
#[tokio::test]
async fn who_changes_it_again_and_again_is_named_and_not_raced() {
    let _guard = operator_stays().await;
    in_namespace("contest", async |namespace| {
        two_gateways(&namespace).await?;
        let services: Api<Service> = Api::namespaced(namespace.cluster.client(), &namespace.name);
        let objects = push_cluster::api(&namespace.cluster, &namespace.name);
        let wrong = json!({"spec": {"selector": {"app.kubernetes.io/component": "nobody"}}});
        let other = PatchParams {
            field_manager: Some("deploy-bot".into()),
            ..PatchParams::default()
        };
        eventually("the other one is named", PUT_BACK, async || {
            services.patch(NAME, &other, &Patch::Merge(&wrong)).await?;
            let object = objects.get(NAME).await?;
            let condition = push_cluster::condition(&object, "ConfigValid");
            let condition = condition.context("no such condition")?;
            let message = &condition.message;
            ensure!(
                condition.reason == "Contested",
                "{}: {message}",
                condition.reason
            );
            ensure!(
                message.contains("Service demo: deploy-bot sets spec.selector"),
                "{message}"
            );
            Ok::<_, anyhow::Error>(())
        })
        .await?;
        // It has stopped: the operator's word is the last one.
        push_cluster::until_ready(&namespace.cluster, &namespace.name, NAME).await
    })
    .await;
}

/// Points the clients' Service at nobody, and waits until it points at the gateways again.
async fn break_the_service(namespace: &Namespace) -> Result<()> {
    let services: Api<Service> = Api::namespaced(namespace.cluster.client(), &namespace.name);
    let selector = |service: Service| service.spec.and_then(|spec| spec.selector);
    let before = selector(services.get(NAME).await?);
    let wrong = json!({"spec": {"selector": {"app.kubernetes.io/component": "nobody"}}});
    let broken = services
        .patch(NAME, &PatchParams::default(), &Patch::Merge(wrong))
        .await?;
    ensure!(selector(broken) != before, "the edit changed nothing");
    eventually(
        "the Service selects the gateways again",
        PUT_BACK,
        async || {
            let now = selector(services.get(NAME).await?);
            ensure!(now == before, "it selects {now:?}");
            Ok::<_, anyhow::Error>(())
        },
    )
    .await
}

async fn resize_the_deployment(namespace: &Namespace) -> Result<()> {
    let deployments: Api<Deployment> = Api::namespaced(namespace.cluster.client(), &namespace.name);
    let labels = push_cluster::gateway_labels(NAME);
    let listed = deployments
        .list(&ListParams::default().labels(&labels))
        .await?;
    let name = listed
        .items
        .first()
        .and_then(|found| found.metadata.name.clone());
    let name = name.with_context(|| format!("no Deployment with labels {labels}"))?;
    let wrong = json!({"spec": {"replicas": 3}});
    deployments
        .patch(&name, &PatchParams::default(), &Patch::Merge(wrong))
        .await?;
    eventually(
        "the Deployment has two replicas again",
        PUT_BACK,
        async || {
            let replicas = deployments
                .get(&name)
                .await?
                .spec
                .and_then(|spec| spec.replicas);
            ensure!(replicas == Some(2), "it has {replicas:?}");
            Ok::<_, anyhow::Error>(())
        },
    )
    .await
}

async fn delete_the_config(namespace: &Namespace) -> Result<()> {
    let configs: Api<ConfigMap> = Api::namespaced(namespace.cluster.client(), &namespace.name);
    let labels = push_cluster::gateway_labels(NAME);
    let listed = configs.list(&ListParams::default().labels(&labels)).await?;
    let config = listed
        .items
        .into_iter()
        .next()
        .with_context(|| format!("no ConfigMap with labels {labels}"))?;
    let name = config
        .metadata
        .name
        .clone()
        .context("a ConfigMap has a name")?;
    configs.delete(&name, &DeleteParams::default()).await?;
    eventually(
        "the ConfigMap is there again, as it was",
        PUT_BACK,
        async || {
            let now = configs.get_opt(&name).await?.context("it is not there")?;
            ensure!(
                now.metadata.uid != config.metadata.uid,
                "it is not deleted yet"
            );
            ensure!(now.data == config.data, "it says {:?}", now.data);
            Ok::<_, anyhow::Error>(())
        },
    )
    .await
}

/// Reconciles of one object follow each other. So between two repairs of one and the same drift there lies
/// the end of one reconcile and the beginning of another; a change that needs no write came before each
/// of them. What the API server wrote down in between is all that a reconcile writes.
///
/// Just after its start the world still moves (the HPA looks every 15 s, a pod's probe fails once), and a status
/// that follows is no fault. One that is written by every reconcile is in all of the stretches that are looked at.
#[tokio::test]
async fn a_second_reconcile_writes_nothing() {
    let _guard = operator_stays().await;
    in_namespace("writes", async |namespace| {
        two_gateways(&namespace).await?;
        relabel_the_budget(&namespace).await?;
        let mut repairs = 1;
        let mut seen = writes_until_repair(&namespace, repairs).await?.len();
        let mut statuses = Vec::new();
        for _ in 0..STRETCHES {
            two_reconciles(&namespace, repairs).await?;
            repairs += 2;
            let all = writes_until_repair(&namespace, repairs).await?;
            let superfluous: Vec<_> = all[seen..]
                .iter()
                .filter(|write| !is_repair_of_budget(write))
                .cloned()
                .collect();
            if superfluous.is_empty() {
                return Ok(());
            }
            ensure!(
                superfluous
                    .iter()
                    .all(|write| write.subresource == "status"),
                "a reconcile of an unchanged object wrote {superfluous:?}"
            );
            statuses.push(superfluous);
            seen = all.len();
        }
        bail!("reconciles of an unchanged object write its status again and again: {statuses:?}")
    })
    .await;
}

/// Each begins with a change that wakes the operator and leaves it nothing to do.
async fn two_reconciles(namespace: &Namespace, first: usize) -> Result<()> {
    let objects = push_cluster::api(&namespace.cluster, &namespace.name);
    for round in [first, first + 1] {
        let label = json!({"metadata": {"labels": {"example.test/round": round.to_string()}}});
        objects
            .patch(NAME, &PatchParams::default(), &Patch::Merge(label))
            .await?;
        relabel_the_budget(namespace).await?;
    }
    Ok(())
}

/// A drift that changes nothing for gateways or clients, so that no status follows from it.
async fn relabel_the_budget(namespace: &Namespace) -> Result<()> {
    let budgets: Api<PodDisruptionBudget> =
        Api::namespaced(namespace.cluster.client(), &namespace.name);
    let labels = push_cluster::owned_labels(NAME);
    let listed = budgets.list(&ListParams::default().labels(&labels)).await?;
    let budget = listed
        .items
        .into_iter()
        .next()
        .context("there is no PodDisruptionBudget")?;
    let name = budget
        .metadata
        .name
        .context("a PodDisruptionBudget has a name")?;
    let wrong = json!({"metadata": {"labels": {"app.kubernetes.io/component": "changed"}}});
    budgets
        .patch(&name, &PatchParams::default(), &Patch::Merge(wrong))
        .await?;
    eventually(
        "the PodDisruptionBudget has its label again",
        PUT_BACK,
        async || {
            let now = budgets.get(&name).await?.metadata.labels;
            ensure!(now == budget.metadata.labels, "it has {now:?}");
            Ok::<_, anyhow::Error>(())
        },
    )
    .await
}

fn is_repair_of_budget(write: &Write) -> bool {
    write.resource == "poddisruptionbudgets" && write.verb == "patch"
}

/// All writes of the operator to the namespace, up to its n-th repair of the budget. The audit log may tell
/// of it a moment later than the API does. Making the budget is a patch too, and counts as none.
async fn writes_until_repair(namespace: &Namespace, repairs: usize) -> Result<Vec<Write>> {
    eventually(
        &format!("the audit log has {repairs} repairs"),
        Duration::from_secs(10),
        async || {
            let mut writes = operator_writes(&Cluster::operator_namespace(), &namespace.name)?;
            let patches = || {
                writes
                    .iter()
                    .enumerate()
                    .filter(|(_, write)| is_repair_of_budget(write))
            };
            let (last, _) = patches()
                .nth(repairs)
                .with_context(|| format!("{writes:?}"))?;
            writes.truncate(last + 1);
            Ok::<_, anyhow::Error>(writes)
        },
    )
    .await
}
