//! What was there when a test failed: enough to find the cause without running it again.

use std::fmt::Write;

use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::{Api, ListParams, LogParams};

use crate::cluster::{Cluster, is_ready, name_of};
use crate::push_cluster;

/// Lines of each log.
const LOG_LINES: i64 = 30;

/// PushClusters with their status, pods, events and the ends of logs, as text for people. What cannot be
/// read is said in its place.
pub async fn of_namespace(cluster: &Cluster, namespace: &str) -> String {
    let mut text = format!("---- what is in namespace {namespace}\n");
    push_clusters(cluster, namespace, &mut text).await;
    pods(cluster, namespace, &mut text).await;
    events(cluster, namespace, &mut text).await;
    text.push_str("---- the operator\n");
    pods(cluster, &Cluster::operator_namespace(), &mut text).await;
    text
}

async fn push_clusters(cluster: &Cluster, namespace: &str, text: &mut String) {
    match push_cluster::api(cluster, namespace)
        .list(&ListParams::default())
        .await
    {
        Ok(list) => {
            for object in list {
                let status = serde_yaml::to_string(&object.status).unwrap_or_default();
                let name = object.metadata.name.unwrap_or_default();
                let _ = writeln!(
                    text,
                    "PushCluster {name}, generation {:?}:\n{status}",
                    object.metadata.generation
                );
            }
        }
        Err(error) => {
            let _ = writeln!(text, "PushClusters cannot be listed: {error}");
        }
    }
}

async fn pods(cluster: &Cluster, namespace: &str, text: &mut String) {
    let api: Api<Pod> = Api::namespaced(cluster.client(), namespace);
    let pods = match api.list(&ListParams::default()).await {
        Ok(pods) => pods,
        Err(error) => {
            let _ = writeln!(text, "pods cannot be listed: {error}");
            return;
        }
    };
    for pod in pods {
        let name = name_of(&pod);
        let status = pod.status.clone().unwrap_or_default();
        let _ = writeln!(
            text,
            "pod {name}: {}{}{}",
            status.phase.unwrap_or_default(),
            if is_ready(&pod) {
                ", ready"
            } else {
                ", not ready"
            },
            if pod.metadata.deletion_timestamp.is_some() {
                ", ending"
            } else {
                ""
            },
        );
        let containers = status.container_statuses.into_iter().flatten();
        let containers: Vec<_> = containers.collect();
        let one_of_many = containers.len() > 1;
        for container in containers {
            let own = &container.name;
            if let Some(state) = container.state.filter(|state| state.running.is_none()) {
                let _ = writeln!(text, "  {own}: {state:?}");
            }
            log(&api, &name, (own, one_of_many), text).await;
        }
    }
}

/// `labelled`: whether each line says of which container it is.
async fn log(api: &Api<Pod>, pod: &str, (container, labelled): (&str, bool), text: &mut String) {
    let params = LogParams {
        container: Some(container.to_owned()),
        tail_lines: Some(LOG_LINES),
        ..Default::default()
    };
    let label = if labelled { container } else { "" };
    match api.logs(pod, &params).await {
        Ok(log) => log.lines().for_each(|line| {
            let _ = writeln!(text, "  {label}| {line}");
        }),
        Err(error) => {
            let _ = writeln!(text, "  {container}: no log: {error}");
        }
    }
}

async fn events(cluster: &Cluster, namespace: &str, text: &mut String) {
    let api: Api<Event> = Api::namespaced(cluster.client(), namespace);
    for event in api.list(&ListParams::default()).await.into_iter().flatten() {
        let _ = writeln!(
            text,
            "event {} {}/{}: {}",
            event.reason.unwrap_or_default(),
            event.involved_object.kind.unwrap_or_default(),
            event.involved_object.name.unwrap_or_default(),
            event.message.unwrap_or_default(),
        );
    }
}
