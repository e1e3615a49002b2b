//! Manifests that the API server refuses, with a message that names the field.

use e2e::namespace::in_namespace;

use crate::operator_stays;

/// The `spec` of a PushCluster, and what the refusal must say.
const REFUSED: &[(&str, &[&str])] = &[
    ("{replicas: -1}", &["spec.replicas"]),
    ("{replicas: two}", &["spec.replicas"]),
];

#[tokio::test]
async fn a_bad_manifest_is_refused_by_name() {
    let _guard = operator_stays().await;
    in_namespace("refusals", |namespace| async move {
        let mut wrong = Vec::new();
        for (spec, expected) in REFUSED {
            let manifest = format!(
                "{{apiVersion: pushcluster.io/v1alpha1, kind: PushCluster, metadata: {{name: demo}}, spec: {spec}}}"
            );
            match namespace.cluster.apply(&namespace.name, &manifest).await {
                Ok(_) => wrong.push(format!("{spec} was accepted")),
                Err(refused) => {
                    let refused = format!("{refused:#}");
                    let missing = expected.iter().filter(|part| !refused.contains(**part));
                    wrong.extend(missing.map(|part| format!("{spec}: no {part} in: {refused}")));
                }
            }
        }
        anyhow::ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        Ok(())
    })
    .await;
}
