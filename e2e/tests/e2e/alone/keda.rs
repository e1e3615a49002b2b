//! Mode Keda, with the definition that KEDA brings and without its programs: what the operator makes for it is what the API
//! server takes, and what KEDA would do with it is done here by hand.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use e2e::audit::operator_writes;
use e2e::cluster::Cluster;
use e2e::namespace::{Namespace, in_namespace};
use e2e::push_cluster::{self, until_condition};
use e2e::wait::eventually;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};

use crate::autoscaling::connect;
use crate::autoscaling_modes::{
    ACTIVE, LIMIT, autoscalers, held, theirs, until_autoscalers, until_foreign, until_said,
    until_wished,
};
use crate::{NAME, change, made, operator_is_mine, until_gateways};

const DEFINITION: &str = "scaledobjects.keda.sh";
const PAUSED: &str = "autoscaling.keda.sh/paused";
const MANIFEST: &str = "
apiVersion: pushcluster.io/v1alpha1
kind: PushCluster
metadata:
  name: demo
spec:
  replicas: 2
  autoscaling:
    mode: HorizontalPodAutoscaler
    minReplicas: 2
    maxReplicas: 4
    targetConnectionsPerPod: 2
    behavior:
      scaleDown:
        stabilizationWindowSeconds: 30
";

/// As KEDA makes it of a ScaledObject, but for where the number comes from, since nobody serves external metrics here.
fn of_keda(uid: &str) -> String {
    format!(
        "
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: keda-hpa-{NAME}
  labels: {{app.kubernetes.io/managed-by: keda-operator}}
  ownerReferences:
    - {{apiVersion: keda.sh/v1alpha1, kind: ScaledObject, name: {NAME}, uid: {uid}, controller: true, blockOwnerDeletion: true}}
spec:
  scaleTargetRef: {{apiVersion: pushcluster.io/v1alpha1, kind: PushCluster, name: {NAME}}}
  minReplicas: 2
  maxReplicas: 4
  behavior: {{scaleDown: {{stabilizationWindowSeconds: 0}}}}
  metrics:
    - type: Object
      object:
        describedObject: {{apiVersion: pushcluster.io/v1alpha1, kind: PushCluster, name: {NAME}}}
        metric: {{name: websocket_connected_clients}}
        target: {{type: AverageValue, averageValue: '2'}}
"
    )
}

fn scaled_objects(namespace: &Namespace) -> Api<DynamicObject> {
    let cluster = &namespace.cluster;
    cluster.objects(&namespace.name, "keda.sh", "v1alpha1", "ScaledObject")
}

async fn install(cluster: &Cluster) -> Result<()> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/cluster/keda.sh");
    let mut command = Command::new(script);
    command.stderr(Stdio::inherit());
    let said = tokio::task::spawn_blocking(move || command.output()).await??;
    ensure!(said.status.success(), "{script}");
    let path = String::from_utf8(said.stdout)?;
    let definition = std::fs::read_to_string(path.trim()).with_context(|| path.clone())?;
    cluster.apply("", &definition).await.map(drop)
}

/// With all objects of the kind. What a killed run left goes in the same way.
async fn uninstall(cluster: &Cluster) -> Result<()> {
    let group = "apiextensions.k8s.io";
    let definitions = cluster.objects("", group, "v1", "CustomResourceDefinition");
    eventually("KEDA's definition is gone", LIMIT, async || {
        if let Some(found) = definitions.get_opt(DEFINITION).await? {
            let going = found.metadata.deletion_timestamp.is_some();
            if !going {
                let deletion = DeleteParams::default();
                definitions.delete(DEFINITION, &deletion).await?;
            }
            anyhow::bail!("it is there, and going: {going}");
        }
        Ok::<_, anyhow::Error>(())
    })
    .await
}

#[tokio::test]
async fn keda_is_told_what_to_scale_by_and_left_to_it() {
    let _guard = operator_is_mine().await;
    in_namespace("keda", async |namespace| {
        let cluster = &namespace.cluster;
        uninstall(cluster).await?;
        without(&namespace).await?;
        install(cluster).await?;
        let done = with(&namespace).await;
        // Whatever came of it: the kind is the whole cluster's.
        uninstall(cluster).await?;
        done
    })
    .await;
}

/// The size stays, and is what people set.
async fn without(namespace: &Namespace) -> Result<()> {
    made(namespace, MANIFEST).await?;
    until_autoscalers(namespace, &[NAME]).await?;
    change(namespace, json!({"autoscaling": {"mode": "Keda"}})).await?;
    until_said(namespace, "False", "KedaMissing").await?;
    until_autoscalers(namespace, &[]).await?;
    scale(namespace, 3).await?;
    until_gateways(namespace, 3).await?;
    until_said(namespace, "False", "KedaMissing").await?;
    scale(namespace, 2).await?;
    until_gateways(namespace, 2).await
}

async fn with(namespace: &Namespace) -> Result<()> {
    let object = until_made(namespace).await?;
    let trigger = as_asked_for(&object)?;
    until_said(namespace, "Unknown", "Creating").await?;
    it_is_followed(namespace, &object, &trigger).await?;
    it_is_left_alone(namespace).await?;
    it_rests_at_zero(namespace).await?;
    it_goes(namespace).await
}

/// `kubectl scale pcl/demo`.
async fn scale(namespace: &Namespace, replicas: i32) -> Result<()> {
    let objects = push_cluster::api(&namespace.cluster, &namespace.name);
    let size = Patch::Merge(json!({"spec": {"replicas": replicas}}));
    let parameters = PatchParams::default();
    let scaled = objects.patch_scale(NAME, &parameters, &size).await;
    scaled.context("kubectl scale").map(drop)
}

async fn until_made(namespace: &Namespace) -> Result<DynamicObject> {
    let objects = scaled_objects(namespace);
    eventually("there is a ScaledObject", LIMIT, async || {
        objects.get(NAME).await
    })
    .await
}

/// What the API server made of it; its trigger.
fn as_asked_for(object: &DynamicObject) -> Result<Value> {
    let spec = &object.data["spec"];
    let target =
        json!({"apiVersion": "pushcluster.io/v1alpha1", "kind": "PushCluster", "name": NAME});
    ensure!(spec["scaleTargetRef"] == target, "{spec}");
    let bounds = (&spec["minReplicaCount"], &spec["maxReplicaCount"]);
    ensure!(bounds == (&json!(2), &json!(4)), "{spec}");
    let behavior = &spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"];
    let window = &behavior["scaleDown"]["stabilizationWindowSeconds"];
    ensure!(window == 30, "{spec}");
    let trigger = &spec["triggers"][0];
    ensure!(trigger["type"] == "metrics-api", "{spec}");
    ensure!(trigger["metadata"]["targetValue"] == "2", "{spec}");
    Ok(trigger["metadata"].clone())
}

/// What is at a URL of a Service, as pods see it: asked by the API server, which finds the pods behind it.
async fn read(cluster: &Cluster, url: &str) -> Result<Value> {
    let (host, path) = url
        .strip_prefix("http://")
        .and_then(|rest| rest.split_once('/'))
        .with_context(|| url.to_owned())?;
    let parts: Vec<&str> = host.split(['.', ':']).collect();
    let [service, namespace, "svc", port] = parts[..] else {
        anyhow::bail!("{url} is of no Service");
    };
    let path = format!("/api/v1/namespaces/{namespace}/services/{service}:{port}/proxy/{path}");
    let request = http::Request::get(path).body(Vec::new())?;
    let answer = cluster.client().request(request).await;
    answer.with_context(|| url.to_owned())
}

async fn until_read(cluster: &Cluster, trigger: &Value, expected: u64) -> Result<()> {
    let url = trigger["url"].as_str().context("a URL")?;
    let place = trigger["valueLocation"].as_str().context("a place")?;
    let what = format!("{url} has {expected} clients");
    eventually(&what, LIMIT, async || {
        let told = read(cluster, url).await?;
        ensure!(told[place] == expected, "{told}");
        Ok::<_, anyhow::Error>(())
    })
    .await
}

/// KEDA has taken it up; and somebody else comes, too.
async fn it_is_followed(
    namespace: &Namespace,
    object: &DynamicObject,
    trigger: &Value,
) -> Result<()> {
    let (cluster, name) = (&namespace.cluster, &namespace.name);
    until_read(cluster, trigger, 0).await?;
    let clients = held(connect(namespace, 5).await?);
    until_read(cluster, trigger, 5).await?;
    let nobody = trigger["url"]
        .as_str()
        .context("a URL")?
        .replace(NAME, "nobody");
    let refused = read(cluster, &nobody).await;
    let refused = format!("{:#}", refused.expect_err("there is none of this name"));
    ensure!(
        refused.contains("there is no PushCluster nobody"),
        "{refused}"
    );

    let uid = object.uid().context("a uid")?;
    cluster.apply(name, &of_keda(&uid)).await?;
    say(namespace, &json!([ready("False", "TriggerError")])).await?;
    let message = until_said(namespace, "False", "KedaNotReady").await?;
    ensure!(message.contains("TriggerError"), "{message}");
    say(namespace, &json!([ready("True", "ScaledObjectReady")])).await?;
    let message = until_said(namespace, "True", "Scaling").await?;
    ensure!(message.contains("of KEDA"), "{message}");
    until_wished(namespace, 3).await?;

    let mine = theirs("pushcluster.io/v1alpha1", "PushCluster", NAME);
    cluster.apply(name, &mine).await?;
    let message = until_foreign(namespace, "HorizontalPodAutoscaler mine").await?;
    ensure!(!message.contains("keda-hpa"), "{message}");
    let autoscalers = autoscalers(namespace);
    autoscalers.delete("mine", &DeleteParams::default()).await?;
    until_said(namespace, "True", "Scaling").await?;
    drop(clients);
    until_wished(namespace, 2).await
}

fn ready(status: &str, reason: &str) -> Value {
    json!({"type": "Ready", "status": status, "reason": reason, "message": "said by a test"})
}

/// In KEDA's place.
async fn say(namespace: &Namespace, conditions: &Value) -> Result<()> {
    let status = Patch::Merge(json!({"status": {"conditions": conditions}}));
    let objects = scaled_objects(namespace);
    let parameters = PatchParams::default();
    let said = objects.patch_status(NAME, &parameters, &status).await;
    said.context("the status of KEDA").map(drop)
}

/// The verbs of the operator's writes of ScaledObjects, in their order.
fn writes(namespace: &Namespace) -> Result<Vec<String>> {
    let all = operator_writes(&Cluster::operator_namespace(), &namespace.name)?;
    let ours = all
        .into_iter()
        .filter(|write| write.resource == "scaledobjects");
    Ok(ours.map(|write| write.verb).collect())
}

/// What others write on it stays, and nothing is written that is so already.
async fn it_is_left_alone(namespace: &Namespace) -> Result<()> {
    let objects = scaled_objects(namespace);
    let theirs = json!({"metadata": {"annotations": {"autoscaling.keda.sh/paused-replicas": "2"}, "finalizers": ["finalizer.keda.sh/test"]}});
    let parameters = PatchParams::default();
    objects
        .patch(NAME, &parameters, &Patch::Merge(&theirs))
        .await?;
    change(namespace, json!({"drain": {"deadlineSeconds": 31}})).await?;
    let (cluster, name) = (&namespace.cluster, &namespace.name);
    until_condition(cluster, name, NAME, (ACTIVE, "True")).await?;
    ensure!(writes(namespace)? == ["patch"], "{:?}", writes(namespace)?);
    change(namespace, json!({"autoscaling": {"maxReplicas": 5}})).await?;
    eventually("the ScaledObject has another bound", LIMIT, async || {
        let found = objects.get(NAME).await?;
        ensure!(
            found.data["spec"]["maxReplicaCount"] == 5,
            "{:?}",
            found.data
        );
        let kept = &found.annotations()["autoscaling.keda.sh/paused-replicas"];
        ensure!(
            kept == "2" && found.finalizers().len() == 1,
            "{:?}",
            found.metadata
        );
        Ok::<_, anyhow::Error>(())
    })
    .await?;
    let ended = json!({"metadata": {"finalizers": null, "annotations": {"autoscaling.keda.sh/paused-replicas": null}}});
    objects
        .patch(NAME, &parameters, &Patch::Merge(&ended))
        .await?;
    Ok(())
}

/// KEDA would have the least that there may be; it is told not to.
async fn it_rests_at_zero(namespace: &Namespace) -> Result<()> {
    let objects = scaled_objects(namespace);
    for (replicas, expected) in [(0, Some("true")), (2, None)] {
        scale(namespace, replicas).await?;
        let what = format!("at {replicas} gateways it is paused: {expected:?}");
        eventually(&what, LIMIT, async || {
            let found = objects.get(NAME).await?;
            let paused = found.annotations().get(PAUSED).map(String::as_str);
            ensure!(paused == expected, "{paused:?}");
            Ok::<_, anyhow::Error>(())
        })
        .await?;
        if replicas == 0 {
            until_said(namespace, "False", "Resting").await?;
        }
    }
    until_gateways(namespace, 2).await
}

/// With the mode, and with the PushCluster; and what KEDA made of it goes with it.
async fn it_goes(namespace: &Namespace) -> Result<()> {
    let objects = scaled_objects(namespace);
    let until_gone = async || {
        eventually("the ScaledObject is gone", LIMIT, async || {
            let found = objects.get_opt(NAME).await?;
            ensure!(found.is_none(), "it is there");
            Ok::<_, anyhow::Error>(())
        })
        .await
    };
    let mode = |mode: &str| json!({"autoscaling": {"mode": mode}});
    change(namespace, mode("HorizontalPodAutoscaler")).await?;
    until_gone().await?;
    until_autoscalers(namespace, &[NAME]).await?;
    change(namespace, mode("Keda")).await?;
    until_made(namespace).await?;
    until_autoscalers(namespace, &[]).await?;
    let push_clusters = push_cluster::api(&namespace.cluster, &namespace.name);
    push_clusters.delete(NAME, &DeleteParams::default()).await?;
    until_gone().await
}
