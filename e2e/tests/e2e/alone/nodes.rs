//! A node is emptied, and one is lost: everybody hears everything once and in order, or is told.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use e2e::checker::judge;
use e2e::checker::run::{Cast, Fleet, run};
use e2e::cluster::{is_ready, name_of};
use e2e::gateway::CLIENTS_PORT;
use e2e::machine::Machine;
use e2e::namespace::{Namespace, in_namespace};
use e2e::push_cluster::{
    self, BECOMES_READY, gateway_pods, owned_labels, until_condition, until_ready,
};
use e2e::wait::eventually;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, EvictParams, ListParams, Patch, PatchParams};
use serde_json::json;

use crate::{NAME, made, operator_is_mine};

/// Nobody is told what was missed where nothing is kept.
const WITH_HISTORY: &str = "
apiVersion: pushcluster.io/v1alpha1
kind: PushCluster
metadata:
  name: demo
spec:
  replicas: 2
  gateway:
    channels:
      - {prefix: 'kept:', historyMessages: 10000, historySeconds: 3600}
";

const CAST: Cast = Cast {
    publishers: 1,
    posters: 2,
    roaming: 1,
    staying: 2,
    seed: 0,
};

/// A publisher sends at most a hundred messages a second: of one, the log reaches back over the minute that a gateway
/// is cut off, and all of it must be recovered. Over HTTP, for it must not hang on a connection to the node that is lost.
const CAST_OF_A_LONG_FAULT: Cast = Cast {
    publishers: 0,
    posters: 1,
    ..CAST
};

/// A gateway that is ready, and where it is.
struct Gateway {
    pod: String,
    node: String,
    address: SocketAddr,
}

async fn gateways(namespace: &Namespace) -> Result<Vec<Gateway>> {
    let pods = gateway_pods(&namespace.cluster, &namespace.name, NAME).await?;
    let gateway = |pod: &Pod| {
        let address = pod.status.as_ref().and_then(|status| status.pod_ip.clone());
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
        let address = address.context("a ready pod has an address")?.parse()?;
        Ok(Gateway {
            pod: name_of(pod),
            node: node.context("a ready pod has a node")?,
            address: SocketAddr::new(address, CLIENTS_PORT),
        })
    };
    pods.iter()
        .filter(|pod| is_ready(pod))
        .map(gateway)
        .collect()
}

/// Two gateways on two nodes: the one that shares its node with Redis, and the other one.
async fn near_and_far(namespace: &Namespace) -> Result<(Gateway, Gateway)> {
    made(namespace, WITH_HISTORY).await?;
    let pods: Api<Pod> = Api::namespaced(namespace.cluster.client(), &namespace.name);
    let labels = format!("{},app.kubernetes.io/component=redis", owned_labels(NAME));
    let redis = pods.list(&ListParams::default().labels(&labels)).await?;
    let redis = redis
        .items
        .first()
        .and_then(|pod| pod.spec.as_ref()?.node_name.clone());
    let redis = redis.context("Redis is on a node")?;
    let (mut near, mut far): (Vec<_>, Vec<_>) = gateways(namespace)
        .await?
        .into_iter()
        .partition(|gateway| gateway.node == redis);
    let two = near.pop().zip(far.pop());
    two.context("the gateways share a node")
}

/// The push, with `fault` in the midst of it, and what is heard judged.
async fn beside(
    namespace: &Namespace,
    name: &str,
    cast: Cast,
    fault: impl AsyncFnOnce(&Fleet, &Gateway, &Gateway) -> Result<()>,
) -> Result<()> {
    let (near, far) = near_and_far(namespace).await?;
    let key = push_cluster::api_key(&namespace.cluster, &namespace.name, NAME).await?;
    let fleet = Fleet::new(&key);
    fleet.set(vec![near.address, far.address]);
    let cast = Cast {
        seed: rand::random(),
        ..cast
    };
    let faults = async {
        fleet.all_hear(2, Instant::now()).await?;
        fault(&fleet, &near, &far).await?;
        let waited = fleet.all_hear(2, Instant::now()).await?;
        eprintln!("{name}: everybody hears {waited:.1?} after the end");
        Ok(())
    };
    let played = run(&format!("kept:{name}"), &fleet, cast, faults).await?;
    let breaches = judge(&played);
    ensure!(breaches.is_empty(), "{breaches:#?}");
    until_ready(&namespace.cluster, &namespace.name, NAME).await
}

#[tokio::test]
async fn a_node_that_is_emptied_gives_its_clients_to_the_other() {
    let _guard = operator_is_mine().await;
    in_namespace("node-drain", async |namespace| {
        beside(&namespace, "drain", CAST, async |fleet, near, far| {
            cordon(&namespace, &far.node, true).await?;
            let emptied = empty(&namespace, fleet, near, far).await;
            cordon(&namespace, &far.node, false).await?;
            emptied
        })
        .await
    })
    .await;
}

/// What `kubectl drain` does, for the gateway on that node.
async fn empty(namespace: &Namespace, fleet: &Fleet, near: &Gateway, far: &Gateway) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(namespace.cluster.client(), &namespace.name);
    let evicted = pods.evict(&far.pod, &EvictParams::default()).await;
    evicted.with_context(|| format!("evict {}", far.pod))?;
    let new = eventually("another gateway is ready", BECOMES_READY, async || {
        let ready = gateways(namespace).await?;
        let others = |gateway: &Gateway| gateway.pod != far.pod && gateway.pod != near.pod;
        ready.into_iter().find(others).context("none yet")
    })
    .await?;
    ensure!(new.node == near.node, "it is on the node that is emptied");
    fleet.set(vec![near.address, new.address]);
    Ok(())
}

pub async fn cordon(namespace: &Namespace, node: &str, is: bool) -> Result<()> {
    let nodes: Api<Node> = Api::all(namespace.cluster.client());
    let change = Patch::Merge(json!({"spec": {"unschedulable": is}}));
    nodes.patch(node, &PatchParams::default(), &change).await?;
    Ok(())
}

#[tokio::test]
async fn a_node_that_is_lost_is_named_and_the_other_goes_on() {
    let _guard = operator_is_mine().await;
    in_namespace("node-lost", async |namespace| {
        let cast = CAST_OF_A_LONG_FAULT;
        beside(&namespace, "lost", cast, async |fleet, near, far| {
            // As a load balancer would: nobody new is sent there.
            fleet.set(vec![near.address]);
            fleet.all_hear(2, Instant::now()).await?;
            let cut = Cut::off(&far.node)?;
            let begun = Instant::now();
            let wanted = ("GatewayAvailable", "False");
            let said = until_condition(&namespace.cluster, &namespace.name, NAME, wanted).await?;
            eprintln!("lost: said after {:.1?}: {}", begun.elapsed(), said.message);
            ensure!(said.message.contains(&far.node), "{said:?}");
            fleet.all_hear(1, Instant::now()).await?;
            drop(cut);
            until_ready(&namespace.cluster, &namespace.name, NAME).await?;
            fleet.set(vec![near.address, far.address]);
            Ok(())
        })
        .await
    })
    .await;
}

/// A node that hears nothing from outside, neither itself nor its pods, until this goes.
struct Cut {
    namespace: String,
}

impl Cut {
    fn off(node: &str) -> Result<Cut> {
        let namespace = Machine::under_test()?.network_namespace(node)?;
        let cut = Cut { namespace };
        cut.rule("-I")?;
        Ok(cut)
    }

    fn rule(&self, act: &str) -> Result<()> {
        let done = Command::new("nsenter")
            .arg(format!("--net={}", self.namespace))
            .args(["iptables", "-w", "-t", "mangle", act, "PREROUTING"])
            .args(["-i", "uplink", "-j", "DROP"])
            .status()
            .context("start nsenter")?;
        ensure!(done.success(), "iptables {act} in {}", self.namespace);
        Ok(())
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        // If it fails the node stays lost, and the test says so.
        let _ = self.rule("-D");
    }
}
