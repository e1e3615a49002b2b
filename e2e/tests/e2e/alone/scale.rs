//! Fewer gateways, and more, and others for those of an emptied node: clients are moved at the budget's rate, once, and miss nothing.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::cluster::name_of;
use e2e::crowd::{Crowd, Note, all_moved_once, beside, door, most_within, until_all_heard};
use e2e::namespace::{Namespace, in_namespace};
use e2e::push_cluster::{self, BECOMES_READY, gateway_pods, until_ready};
use e2e::wait::eventually;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, EvictParams, Patch, PatchParams};
use serde_json::json;

use super::nodes::cordon;
use crate::rollout::change_memory;
use crate::{NAME, made, operator_is_mine};

/// Reconnects each second. These tests have the cluster for themselves: they measure a pace.
const BUDGET: usize = 10;
const CHANNEL: &str = "kept:crowd";

fn manifest(replicas: usize) -> String {
    format!(
        "
apiVersion: pushcluster.io/v1alpha1
kind: PushCluster
metadata:
  name: demo
spec:
  replicas: {replicas}
  autoscaling: {{enabled: false}}
  drain: {{reconnectsPerSecond: {BUDGET}}}
  gateway:
    channels:
      - {{prefix: 'kept:', historyMessages: 10000, historySeconds: 3600}}
"
    )
}

/// Gateways that are there, by name.
async fn gateways(namespace: &Namespace) -> Result<Vec<(String, SocketAddr)>> {
    let pods = gateway_pods(&namespace.cluster, &namespace.name, NAME).await?;
    let pods = pods
        .iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none());
    let mut found: Vec<(String, SocketAddr)> = pods
        .map(|pod| Ok((name_of(pod), door(pod)?)))
        .collect::<Result<_>>()?;
    found.sort_unstable();
    Ok(found)
}

/// A PushCluster that is ready, and its gateways.
async fn fleet_of(namespace: &Namespace, replicas: usize) -> Result<Vec<(String, SocketAddr)>> {
    let (_cluster, _name) = (&namespace.cluster, &namespace.name);
    made(namespace, &manifest(replicas)).await?;
    let there = gateways(namespace).await?;
    ensure!(there.len() == replicas, "{there:?}");
    Ok(there)
}

/// All clients, so many, are connected, and so are all gateways.
async fn until_quiet(namespace: &Namespace, crowd: &Crowd, clients: usize) -> Result<()> {
    until("all are there again", async || Ok(crowd.here() == clients)).await?;
    until_ready(&namespace.cluster, &namespace.name, NAME).await
}

/// `kubectl scale pcl/demo`.
async fn scale(namespace: &Namespace, replicas: usize) -> Result<()> {
    let objects = push_cluster::api(&namespace.cluster, &namespace.name);
    let wish = json!({"spec": {"replicas": replicas}});
    objects
        .patch_scale(NAME, &PatchParams::default(), &Patch::Merge(wish))
        .await
        .context("scale the PushCluster")?;
    Ok(())
}

async fn until(what: &str, is_so: impl AsyncFn() -> Result<bool>) -> Result<()> {
    eventually(what, BECOMES_READY, async || {
        ensure!(is_so().await?, "not yet");
        Ok::<_, anyhow::Error>(())
    })
    .await
}

/// Never more than the budget by more than a tenth, over two seconds; the one more is at the edge. Who is told is read up to
/// 0.3 s late where gateways, Redis and all clients share two cores, and stands then with those that come after.
fn within_budget(notes: &[Note]) -> Result<()> {
    let most = most_within(notes, Duration::from_secs(2));
    eprintln!(
        "{} were moved, at most {most} within two seconds",
        notes.len()
    );
    ensure!(
        most <= BUDGET * 23 / 10 * 11 / 10 + 1,
        "{most} within two seconds"
    );
    Ok(())
}

#[tokio::test]
async fn a_smaller_fleet_gives_its_clients_away_first() {
    let _guard = operator_is_mine().await;
    in_namespace("scale-in", async |namespace| {
        let there = fleet_of(&namespace, 3).await?;
        // The emptiest is neither the first nor the last.
        let first = [(there[0].1, 70), (there[1].1, 50), (there[2].1, 80)];
        let crowd = Crowd::gather(&namespace, (NAME, CHANNEL), &first);
        until("all are there", async || Ok(crowd.here() == 200)).await?;
        let emptiest = &there[1];
        let act = async {
            back_and_forth(&namespace, &crowd, emptiest).await?;
            scale(&namespace, 2).await?;
            until("two are left", async || {
                Ok(gateways(&namespace).await?.len() == 2)
            })
            .await?;
            let left = gateways(&namespace).await?;
            ensure!(!left.contains(emptiest), "{left:?} without {emptiest:?}");
            until_quiet(&namespace, &crowd, 200).await
        };
        let ((), last) = beside(&crowd, act).await?;
        let notes = crowd.take_notes();
        let moved = all_moved_once(&notes)?;
        ensure!(moved > 0, "nobody was moved");
        within_budget(&notes)?;
        until_all_heard(&crowd, last).await?;
        eprintln!("{last} messages, and everybody has heard them");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_rollout_moves_each_client_once() {
    let _guard = operator_is_mine().await;
    in_namespace("moved-once", async |namespace| {
        let there = fleet_of(&namespace, 3).await?;
        let first: Vec<_> = there.iter().map(|(_, door)| (*door, 80)).collect();
        let crowd = Crowd::gather(&namespace, (NAME, CHANNEL), &first);
        until("all are there", async || Ok(crowd.here() == 240)).await?;
        let act = async {
            change_memory(&namespace, "300Mi").await?;
            let replaced = async || {
                let now = gateways(&namespace).await?;
                Ok(now.len() == 3 && now.iter().all(|one| !there.contains(one)))
            };
            until("all are replaced", replaced).await?;
            until_quiet(&namespace, &crowd, 240).await
        };
        let ((), last) = beside(&crowd, act).await?;
        let notes = crowd.take_notes();
        let moved = all_moved_once(&notes)?;
        ensure!(moved == 240, "{moved} were moved");
        // Nobody has so many that some would be moved again.
        let now = gateways(&namespace).await?;
        let on: Vec<usize> = now.iter().map(|(_, door)| crowd.on(*door)).collect();
        ensure!(on.iter().all(|count| *count <= 80 + 50), "{on:?}");
        within_budget(&notes)?;
        until_all_heard(&crowd, last).await
    })
    .await;
}

/// Load comes back while the gateway drains: it keeps whom it still has, and takes clients again.
async fn back_and_forth(
    namespace: &Namespace,
    crowd: &Crowd,
    emptiest: &(String, SocketAddr),
) -> Result<()> {
    scale(namespace, 2).await?;
    until("some are moved", async || Ok(crowd.moved() >= 10)).await?;
    scale(namespace, 3).await?;
    let serves = async || {
        let pods = gateway_pods(&namespace.cluster, &namespace.name, NAME).await?;
        let pod = pods.iter().find(|pod| name_of(pod) == emptiest.0);
        let labels = pod.and_then(|pod| pod.metadata.labels.as_ref());
        let label = labels.and_then(|labels| labels.get("pushcluster.io/serving"));
        Ok(label.is_some_and(|value| value == "true"))
    };
    until("it takes clients again", serves).await?;
    let kept = crowd.on(emptiest.1);
    ensure!(kept > 0 && kept < 50, "it has {kept}");
    until_quiet(namespace, crowd, 200).await?;
    let notes = crowd.take_notes();
    let moved = all_moved_once(&notes)?;
    eprintln!("{moved} were moved until it took clients again");
    within_budget(&notes)
}

#[tokio::test]
async fn a_new_gateway_gets_clients_of_the_full_ones() {
    let _guard = operator_is_mine().await;
    in_namespace("rebalance", async |namespace| {
        let there = fleet_of(&namespace, 2).await?;
        let first = [(there[0].1, 200), (there[1].1, 200)];
        let crowd = Crowd::gather(&namespace, (NAME, CHANNEL), &first);
        until("all are there", async || Ok(crowd.here() == 400)).await?;
        let act = async {
            scale(&namespace, 3).await?;
            until_ready(&namespace.cluster, &namespace.name, NAME).await?;
            let balanced = async || {
                let on = gateways(&namespace).await?;
                let on: Vec<usize> = on.iter().map(|(_, door)| crowd.on(*door)).collect();
                // 134 on average, and not more than 50 above it.
                let is_balanced = on.len() == 3 && on.iter().all(|count| *count <= 184);
                Ok(is_balanced && crowd.here() == 400)
            };
            until("clients are spread", balanced).await?;
            let drains = ("Draining", "False");
            push_cluster::until_condition(&namespace.cluster, &namespace.name, NAME, drains).await
        };
        let (_, last) = beside(&crowd, act).await?;
        let notes = crowd.take_notes();
        let moved = all_moved_once(&notes)?;
        // What the two have above the average, and a few who were on their way.
        ensure!((100..=150).contains(&moved), "{moved} were moved");
        within_budget(&notes)?;
        until_all_heard(&crowd, last).await
    })
    .await;
}

/// Two of four gateways are on the node. Nobody goes from the first to the second, whoever ends shares the budget, and who comes
/// to one that has just been told to end is let in.
#[tokio::test]
async fn an_emptied_node_moves_each_client_once() {
    let _guard = operator_is_mine().await;
    in_namespace("node-emptied", async |namespace| {
        let there = fleet_of(&namespace, 4).await?;
        let first: Vec<_> = there.iter().map(|(_, door)| (*door, 40)).collect();
        let crowd = Crowd::gather(&namespace, (NAME, CHANNEL), &first);
        until("all are there", async || Ok(crowd.here() == 160)).await?;
        let (node, goes) = shared_node(&namespace).await?;
        let emptied = beside(&crowd, async {
            cordon(&namespace, &node, true).await?;
            until("they take no new clients", async || {
                Ok(serving(&namespace)
                    .await?
                    .iter()
                    .all(|pod| !goes.contains(pod)))
            })
            .await?;
            ensure!(crowd.moved() == 0, "a cordon alone moves {}", crowd.moved());
            evict(&namespace, &goes).await?;
            until("others are in their place", async || {
                let now = gateways(&namespace).await?;
                let gone = goes
                    .iter()
                    .all(|pod| now.iter().all(|(name, _)| name != pod));
                let all = gateway_pods(&namespace.cluster, &namespace.name, NAME).await?;
                Ok(gone && all.len() == 4 && now.len() == 4)
            })
            .await?;
            until_quiet(&namespace, &crowd, 160).await
        })
        .await;
        cordon(&namespace, &node, false).await?;
        let ((), last) = emptied?;
        let notes = crowd.take_notes();
        let moved = all_moved_once(&notes)?;
        ensure!(moved == 80, "{moved} were moved");
        within_budget(&notes)?;
        until_all_heard(&crowd, last).await?;
        let open = async || Ok(serving(&namespace).await?.len() == 4);
        until("all take clients", open).await
    })
    .await;
}

/// A node with two of the gateways, and these.
async fn shared_node(namespace: &Namespace) -> Result<(String, Vec<String>)> {
    let pods = gateway_pods(&namespace.cluster, &namespace.name, NAME).await?;
    let mut nodes: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for pod in &pods {
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
        let node = node.context("a ready pod has a node")?;
        nodes.entry(node).or_default().push(name_of(pod));
    }
    let mut nodes = nodes.into_iter();
    let two = nodes.find(|(_, pods)| pods.len() == 2);
    two.with_context(|| format!("two of {pods:#?} share a node"))
}

/// Those that get new clients.
async fn serving(namespace: &Namespace) -> Result<Vec<String>> {
    let pods = gateway_pods(&namespace.cluster, &namespace.name, NAME).await?;
    let serves = |pod: &&Pod| {
        let labels = pod.metadata.labels.as_ref();
        let label = labels.and_then(|labels| labels.get("pushcluster.io/serving"));
        label.is_some_and(|value| value == "true")
    };
    Ok(pods.iter().filter(serves).map(name_of).collect())
}

/// What `kubectl drain` does: one after the other, as soon as the PodDisruptionBudget lets it.
async fn evict(namespace: &Namespace, pods: &[String]) -> Result<()> {
    let api: Api<Pod> = Api::namespaced(namespace.cluster.client(), &namespace.name);
    for pod in pods {
        until(&format!("{pod} is evicted"), async || {
            match api.evict(pod, &EvictParams::default()).await {
                Ok(_) => Ok(true),
                Err(kube::Error::Api(status)) if status.code == 429 => Ok(false),
                Err(error) => Err(error.into()),
            }
        })
        .await?;
    }
    Ok(())
}
