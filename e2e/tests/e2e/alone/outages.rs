//! What looks after PushClusters is away: they go on by themselves.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e::audit::{mark, operator_writes_since};
use e2e::cluster::{Cluster, name_of};
use e2e::machine::{Machine, kill_in_pod};
use e2e::namespace::{Namespace, in_namespace};
use e2e::push_cluster::{self, BECOMES_READY, gateway_pods, until_ready};
use e2e::steady::{Steady, pass};
use e2e::wait::eventually;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams};
use serde_json::json;
use tokio::time::interval;

use crate::rollout::{change_memory, memory_of, until_all_have};
use crate::{
    NAME, TWO_GATEWAYS, change, operator_is_mine, two_gateways, until_gateways, without_autoscaler,
};

/// Longer than the lease: whoever leads has to give up, and to begin anew.
const AWAY: Duration = Duration::from_secs(30);

#[tokio::test]
async fn without_the_api_server_everything_is_pushed_and_then_the_operator_goes_on() {
    let _guard = operator_is_mine().await;
    in_namespace("api-away", async |namespace| {
        two_gateways(&namespace).await?;
        without_autoscaler(&namespace).await?;
        let mut steady = Steady::begin(&namespace, NAME).await?;
        let fault = async {
            let stopped = Machine::under_test()?.stop("kube-apiserver")?;
            pass(AWAY).await;
            drop(stopped);
            let back = Instant::now();
            three_gateways(&namespace).await?;
            Ok(back.elapsed())
        };
        let (healed, pushed) = steady.during(fault).await?;
        eprintln!("api-away: {pushed:?}; a change is done {healed:.1?} after the return");
        Ok(())
    })
    .await;
}

/// A change that somebody makes now is carried out.
async fn three_gateways(namespace: &Namespace) -> Result<()> {
    eventually("the API server takes a change", BECOMES_READY, async || {
        change(namespace, json!({"replicas": 3})).await
    })
    .await?;
    until_gateways(namespace, 3).await
}

/// How many of its writes for a new PushCluster the operator has made when it is killed: after the first, within those that
/// pods need, between the Deployment and the end. The one that follows goes on where the world is then.
const KILLED_AFTER: [usize; 4] = [1, 4, 8, 11];

#[tokio::test]
async fn an_operator_killed_at_any_step_leaves_nothing_half_done() {
    let _guard = operator_is_mine().await;
    in_namespace("op-killed", async |namespace| {
        two_gateways(&namespace).await?;
        let mut steady = Steady::begin(&namespace, NAME).await?;
        let fault = async {
            for (round, after) in KILLED_AFTER.iter().enumerate() {
                let second = format!("second-{round}");
                let made = kill_while_making(&namespace, &second, *after).await?;
                until_ready(&namespace.cluster, &namespace.name, &second).await?;
                eprintln!("op-killed: after {made} of its writes; {second} is whole");
                let objects = push_cluster::api(&namespace.cluster, &namespace.name);
                objects.delete(&second, &DeleteParams::default()).await?;
            }
            Ok(())
        };
        let ((), pushed) = steady.during(fault).await?;
        eprintln!("op-killed: {pushed:?}");
        Ok(())
    })
    .await;
}

/// Returns how many writes there were when the leader was dead: what it did between the look and the end counts too.
async fn kill_while_making(namespace: &Namespace, name: &str, after: usize) -> Result<usize> {
    let leader = leader(namespace).await?;
    let begin = mark()?;
    let writes = || -> Result<usize> {
        let all = operator_writes_since(begin, &Cluster::operator_namespace(), &namespace.name)?;
        Ok(all
            .iter()
            .filter(|write| write.name.starts_with(name))
            .count())
    };
    let manifest = TWO_GATEWAYS.replace("name: demo", &format!("name: {name}"));
    let manifest = manifest.replace(
        "replicas: 2",
        "replicas: 1\n  autoscaling: {enabled: false}",
    );
    namespace.cluster.apply(&namespace.name, &manifest).await?;
    let mut looks = interval(Duration::from_millis(2));
    let deadline = Instant::now() + BECOMES_READY;
    while writes()? < after {
        ensure!(Instant::now() < deadline, "the operator makes no {name}");
        looks.tick().await;
    }
    let uid = leader.metadata.uid.context("a pod has a uid")?;
    kill_in_pod(&uid, "operator")?;
    let made = writes()?;
    // A new pod, because the kubelet starts a container later each time that it was killed.
    let pods: Api<Pod> =
        Api::namespaced(namespace.cluster.client(), &Cluster::operator_namespace());
    let at_once = DeleteParams::default().grace_period(0);
    pods.delete(&leader.metadata.name.unwrap_or_default(), &at_once)
        .await?;
    Ok(made)
}

/// The pod that holds the lease.
async fn leader(namespace: &Namespace) -> Result<Pod> {
    let client = namespace.cluster.client();
    let leases: Api<Lease> = Api::namespaced(client, &Cluster::operator_namespace());
    eventually("an operator leads", BECOMES_READY, async || {
        let lease = leases.get("pushcluster-operator").await?;
        let holder = lease.spec.and_then(|spec| spec.holder_identity);
        let pods = namespace.cluster.operator_pods().await?;
        let leads = |pod: &&Pod| pod.metadata.name == holder;
        let leader = pods.iter().find(leads).cloned();
        leader.with_context(|| format!("{holder:?} holds the lease"))
    })
    .await
}

#[tokio::test]
async fn a_rollout_survives_the_restart_of_every_operator_pod() {
    let _guard = operator_is_mine().await;
    in_namespace("restart", async |namespace| {
        two_gateways(&namespace).await?;
        change_memory(&namespace, "301Mi").await?;
        eventually("the rollout has begun", BECOMES_READY, async || {
            let pods = gateway_pods(&namespace.cluster, &namespace.name, NAME).await?;
            let new = pods
                .iter()
                .filter(|pod| memory_of(pod).as_deref() == Some("301Mi"))
                .count();
            ensure!(new > 0, "{} old pods", pods.len());
            Ok::<_, anyhow::Error>(())
        })
        .await?;
        let old = namespace.cluster.operator_pods().await?;
        let pods: Api<Pod> =
            Api::namespaced(namespace.cluster.client(), &Cluster::operator_namespace());
        for pod in &old {
            pods.delete(&name_of(pod), &DeleteParams::default()).await?;
        }
        eventually("the old operators are gone", BECOMES_READY, async || {
            for pod in &old {
                ensure!(
                    pods.get_opt(&name_of(pod)).await?.is_none(),
                    "{} is there",
                    name_of(pod)
                );
            }
            Ok::<_, anyhow::Error>(())
        })
        .await?;
        until_all_have(&namespace, "301Mi").await?;
        // A second change, for which only a new leader can be responsible.
        change_memory(&namespace, "302Mi").await?;
        until_all_have(&namespace, "302Mi").await?;
        Ok(())
    })
    .await;
}
