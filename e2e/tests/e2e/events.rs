//! What a user is told of acts that clients notice: each once, with its reason.

use anyhow::{Result, ensure};
use e2e::namespace::{Namespace, in_namespace};
use e2e::push_cluster;
use e2e::wait::eventually;
use serde_json::{Value, json};
use std::time::Duration;

use crate::{NAME, change, events_of, operator_stays, two_gateways};

/// An Event is written right after the act.
const TOLD: Duration = Duration::from_secs(30);

/// The notes of the PushCluster's Events of this reason, the oldest first. One that is a series was told again.
async fn told_once(namespace: &Namespace, reason: &str) -> Result<Vec<String>> {
    let listed = events_of(namespace, reason).await?;
    let series = listed.iter().find(|event| event.series.is_some());
    ensure!(series.is_none(), "told again and again: {series:?}");
    let notes = listed.into_iter().filter_map(|event| event.message);
    Ok(notes.collect())
}

async fn changed(namespace: &Namespace, spec: Value) -> Result<()> {
    change(namespace, spec).await?;
    push_cluster::until_ready(&namespace.cluster, &namespace.name, NAME).await
}

/// There are as many Events of this reason as parts, and each part is in the note of its own.
async fn until_told(namespace: &Namespace, reason: &str, parts: &[&str]) -> Result<()> {
    eventually(&format!("Events {reason}: {parts:?}"), TOLD, async || {
        let notes = told_once(namespace, reason).await?;
        let fits = notes
            .iter()
            .zip(parts)
            .all(|(note, part)| note.contains(part));
        ensure!(fits && notes.len() == parts.len(), "{notes:?}");
        Ok::<_, anyhow::Error>(())
    })
    .await
}

#[tokio::test]
async fn what_clients_notice_is_told_once_with_its_reason() {
    let _guard = operator_stays().await;
    in_namespace("events", async |namespace| {
        let (cluster, name) = (&namespace.cluster, &namespace.name);
        two_gateways(&namespace).await?;
        for reason in ["GatewaysReplaced", "RedisReplaced", "Scaled"] {
            let notes = told_once(&namespace, reason).await?;
            ensure!(notes.is_empty(), "before anything happened: {notes:?}");
        }

        // Gateways take it while they run; nobody notices.
        changed(
            &namespace,
            json!({"gateway": {"limits": {"maxPresenceMembers": 7}}}),
        )
        .await?;
        let resources = json!({"limits": {"memory": "384Mi"}});
        changed(&namespace, json!({"gateway": {"resources": resources}})).await?;
        let of_gateways = ["spec.containers[gateway].resources"];
        until_told(&namespace, "GatewaysReplaced", &of_gateways).await?;
        let ended = ("Draining", "False");
        push_cluster::until_condition(cluster, name, NAME, ended).await?;

        changed(&namespace, json!({"replicas": 3})).await?;
        changed(&namespace, json!({"replicas": 2})).await?;
        let sizes = [
            "gateways scaled from 2 to 3",
            "gateways scaled from 3 to 2: clients of",
        ];
        until_told(&namespace, "Scaled", &sizes).await?;

        changed(&namespace, json!({"redis": {"resources": resources}})).await?;
        until_told(&namespace, "RedisReplaced", &["nothing is delivered"]).await?;
        // The others are no more than they were.
        until_told(&namespace, "GatewaysReplaced", &of_gateways).await?;
        until_told(&namespace, "Scaled", &sizes).await
    })
    .await;
}
