//! Another template whose gateways do not serve is taken back by itself, and clients notice nothing of it.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use e2e::cluster::name_of;
use e2e::crowd::{Crowd, beside, door, until_all_heard};
use e2e::namespace::{Namespace, in_namespace};
use e2e::push_cluster::{self, BECOMES_READY, condition, gateway_pods};
use e2e::wait::eventually;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;
use serde_json::json;

use crate::rollout::until_all_have;
use crate::{NAME, change, made, operator_stays, told};

const CHANNEL: &str = "kept:crowd";
const MANIFEST: &str = "
apiVersion: pushcluster.io/v1alpha1
kind: PushCluster
metadata:
  name: demo
spec:
  replicas: 2
  autoscaling: {enabled: false}
  gateway:
    channels:
      - {prefix: 'kept:', historyMessages: 10000, historySeconds: 3600}
";

/// One that is there, and ends at once with a gateway's arguments.
async fn image_of_redis(namespace: &Namespace) -> Result<String> {
    let sets: Api<StatefulSet> = Api::namespaced(namespace.cluster.client(), &namespace.name);
    let redis = sets.get("demo-redis").await?;
    let template = redis.spec.and_then(|spec| spec.template.spec);
    let image = template.and_then(|pod| pod.containers.into_iter().next()?.image);
    image.context("Redis has an image")
}

fn image_of(pod: &Pod) -> Option<&String> {
    pod.spec.as_ref()?.containers.first()?.image.as_ref()
}

/// Waits until the gateways' template was taken back, and the pod with that image is gone.
async fn until_taken_back(namespace: &Namespace, image: &String) -> Result<()> {
    let objects = push_cluster::api(&namespace.cluster, &namespace.name);
    eventually("the template is taken back", BECOMES_READY, async || {
        let object = objects.get(NAME).await?;
        let pending = condition(&object, "UpgradePending");
        let is_back = pending.is_some_and(|one| one.reason == "RolledBack");
        ensure!(is_back, "{pending:?}");
        let pods = gateway_pods(&namespace.cluster, &namespace.name, NAME).await?;
        let bad = pods.iter().any(|pod| image_of(pod) == Some(image));
        ensure!(pods.len() == 2 && !bad, "{} pods", pods.len());
        Ok::<_, anyhow::Error>(())
    })
    .await?;
    push_cluster::until_ready(&namespace.cluster, &namespace.name, NAME).await
}

#[tokio::test]
async fn a_template_that_does_not_serve_is_taken_back_and_the_next_one_is_tried() {
    let _guard = operator_stays().await;
    in_namespace("rollback", async |namespace| {
        made(&namespace, MANIFEST).await?;
        let first = gateway_pods(&namespace.cluster, &namespace.name, NAME).await?;
        let doors = first.iter().map(|pod| Ok((door(pod)?, 20)));
        let doors: Vec<_> = doors.collect::<Result<_>>()?;
        let crowd = Crowd::gather(&namespace, (NAME, CHANNEL), &doors);
        eventually("all are there", BECOMES_READY, async || {
            ensure!(crowd.here() == 40, "{} are", crowd.here());
            Ok::<_, anyhow::Error>(())
        })
        .await?;
        let act = async {
            let image = image_of_redis(&namespace).await?;
            change(&namespace, json!({"gateway": {"image": image}})).await?;
            until_taken_back(&namespace, &image).await?;
            let told = told(&namespace, "RolledBack").await?;
            ensure!(
                told.len() == 1 && told[0].contains("ended 3 times"),
                "{told:?}"
            );
            eprintln!("{}", told[0]);
            Ok(())
        };
        let ((), last) = beside(&crowd, act).await?;
        ensure!(
            crowd.moved() == 0 && crowd.here() == 40,
            "{} were moved",
            crowd.moved()
        );
        until_all_heard(&crowd, last).await?;
        let now = gateway_pods(&namespace.cluster, &namespace.name, NAME).await?;
        let names = |pods: &[Pod]| pods.iter().map(name_of).collect::<BTreeSet<_>>();
        ensure!(names(&now) == names(&first), "{:?}", names(&now));
        // Another template is tried, and nothing is held against it.
        let resources = json!({"limits": {"memory": "300Mi"}});
        let good = json!({"image": null, "resources": resources});
        change(&namespace, json!({"gateway": good})).await?;
        until_all_have(&namespace, "300Mi").await?;
        let pending = ("UpgradePending", "False");
        push_cluster::until_condition(&namespace.cluster, &namespace.name, NAME, pending).await?;
        Ok(())
    })
    .await;
}
