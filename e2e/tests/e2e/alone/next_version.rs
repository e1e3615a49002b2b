//! A cluster that has seen the next version of the operator: this one leaves alone what it does not know.

use anyhow::{Result, ensure};
use e2e::namespace::{Namespace, in_namespace};
use e2e::push_cluster::{BECOMES_READY, until_ready};
use e2e::steady::Steady;
use e2e::wait::eventually;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};

use crate::{NAME, change, operator_is_mine, two_gateways, until_gateways, without_autoscaler};

const DEFINITION: &str = "pushclusters.pushcluster.io";

/// After a downgrade the definition, and manifests, have fields of the version that was.
#[tokio::test]
async fn fields_of_the_next_version_are_left_alone() {
    let _guard = operator_is_mine().await;
    in_namespace("next-version", async |namespace| {
        two_gateways(&namespace).await?;
        let mut steady = Steady::begin(&namespace, NAME).await?;
        let definitions: Api<CustomResourceDefinition> = Api::all(namespace.cluster.client());
        let set = async |versions: &Value| {
            let change = Patch::Merge(json!({"spec": {"versions": versions}}));
            let parameters = PatchParams::default();
            let set = definitions.patch(DEFINITION, &parameters, &change).await;
            set.map(drop)
        };
        let fault = async {
            let before = serde_json::to_value(definitions.get(DEFINITION).await?.spec.versions)?;
            let mut next = before.clone();
            next[0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["levitation"] = json!({
                "type": "object", "default": {}, "properties": {"height": {"type": "integer", "default": 3}},
            });
            set(&next).await?;
            let lived = with_unknown_fields(&namespace).await;
            set(&before).await?;
            lived
        };
        let ((), pushed) = steady.during(fault).await?;
        eprintln!("next-version: {pushed:?}");
        until_ready(&namespace.cluster, &namespace.name, NAME).await
    })
    .await;
}

/// The operator follows a change of what it knows, and takes nothing away of what it does not.
async fn with_unknown_fields(namespace: &Namespace) -> Result<()> {
    eventually("the field is kept", BECOMES_READY, async || {
        change(namespace, json!({"levitation": {"height": 5}})).await?;
        levitates(namespace).await
    })
    .await?;
    without_autoscaler(namespace).await?;
    change(namespace, json!({"replicas": 3})).await?;
    until_gateways(namespace, 3).await?;
    levitates(namespace).await
}

async fn levitates(namespace: &Namespace) -> Result<()> {
    let objects =
        namespace
            .cluster
            .objects(&namespace.name, "pushcluster.io", "v1alpha1", "PushCluster");
    let object = objects.get(NAME).await?;
    let height = &object.data["spec"]["levitation"]["height"];
    ensure!(*height == 5, "spec.levitation.height is {height}");
    Ok(())
}
