//! Parts of schemas that the types cannot say.

use schemars::{Schema, SchemaGenerator, json_schema};

/// Requests and limits, and not the rest of `ResourceRequirements`: a claim would need a pod that has it. The pattern
/// is the API server's own for quantities; without it `memory: lots` would be found when the first half is applied.
pub(super) fn resources(_: &mut SchemaGenerator) -> Schema {
    let quantities = |description: &str| {
        serde_json::json!({
            "description": description,
            "type": "object",
            "additionalProperties": {
                "x-kubernetes-int-or-string": true,
                "pattern": QUANTITY,
            },
        })
    };
    json_schema!({
        "type": "object",
        "properties": {
            "requests": quantities("What a pod is promised, such as `cpu: 500m` and `memory: 256Mi`."),
            "limits": quantities("What a pod may take at most. Beyond its `memory` it is killed."),
        },
    })
}

/// The API server's own pattern for values of labels, so that a wrong one is refused with the field's name.
pub(super) fn label_values(_: &mut SchemaGenerator) -> Schema {
    texts(&serde_json::json!({
        "type": "string",
        "maxLength": 63,
        "pattern": r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$",
    }))
}

pub(super) fn annotation_values(_: &mut SchemaGenerator) -> Schema {
    texts(&serde_json::json!({"type": "string", "maxLength": 4_096}))
}

fn texts(of: &serde_json::Value) -> Schema {
    json_schema!({"type": "object", "maxProperties": 32, "additionalProperties": of})
}

const QUANTITY: &str = r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$";
