use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use serde_json::Value;

use super::*;
use crate::http::answers::CODES;

fn document() -> Value {
    sorted(&serde_json::from_str(DOCUMENT).expect("openapi.json is JSON"))
}

/// The order of a JSON map depends on which other crates are built along (`serde_json/preserve_order`), and the
/// committed reference must not.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let members: BTreeMap<_, _> = members.iter().collect();
            let members = members.into_iter();
            members.map(|(k, v)| (k.clone(), sorted(v))).collect()
        }
        Value::Array(items) => items.iter().map(sorted).collect(),
        other => other.clone(),
    }
}

fn pointer<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    match value["$ref"].as_str() {
        Some(reference) => document
            .pointer(reference.trim_start_matches('#'))
            .unwrap_or_else(|| panic!("{reference} leads nowhere")),
        None => value,
    }
}

/// Every `$ref` in it.
fn references<'a>(value: &'a Value, found: &mut Vec<&'a Value>) {
    match value {
        Value::Object(members) => {
            if members.contains_key("$ref") {
                found.push(value);
            }
            members
                .values()
                .for_each(|member| references(member, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

#[test]
fn every_reference_leads_somewhere() {
    let document = document();
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(found.len() > 50, "{}", found.len());
    for reference in found {
        assert!(pointer(&document, reference).is_object(), "{reference}");
    }
}

#[test]
fn every_route_is_described() {
    let routes: BTreeSet<&str> = include_str!("../api.rs")
        .split('"')
        .filter(|text| text.starts_with("/api/"))
        .collect();
    let document = document();
    let paths = document["paths"].as_object().unwrap();
    let described: BTreeSet<&str> = paths.keys().map(String::as_str).collect();
    let described = described
        .into_iter()
        .filter(|path| path.starts_with("/api/"));
    assert_eq!(described.collect::<BTreeSet<_>>(), routes);
}

#[test]
fn every_code_is_described() {
    let document = document();
    let listed = document["components"]["schemas"]["Error"]["properties"]["code"]["enum"]
        .as_array()
        .unwrap();
    let listed: Vec<_> = listed.iter().map(|code| code.as_str().unwrap()).collect();
    assert_eq!(listed, CODES);
}

const HEAD: &str = "# The HTTP API

<!-- Made from gateway/src/http/api/openapi.json: UPDATE_DOCS=1 cargo test -p gateway openapi -->

On the clients' port, for backends. Every request but the last one here carries one of the keys in `api.keyFile`, as
`Authorization: Bearer <key>` or `X-API-Key: <key>`; without a key file the API answers on this machine only. Bodies are
`application/json`. `GET /api/openapi.json` is this in OpenAPI 3.1, and `make openapi` compares it with a running gateway.

```
curl -H \"Authorization: Bearer $key\" -H 'Content-Type: application/json' \\
     -H 'Idempotency-Key: order-17' -d '{\"data\":{\"order\":17}}' http://demo/api/users/ann/messages
```

A request with an `Idempotency-Key` is done once: a retry with the same key and body gets the first answer, with
`Idempotency-Replayed: true`. With another body it is 422 `key_reused`, while the first is under way 409 `in_progress`. What
was refused before anything was sent (4xx, 503) may be tried again with its key. Answers are kept for
`api.idempotencySeconds`, or until `api.idempotencyBytes` are full, **by the node that gave them**: a retry that a load
balancer sends to another node is done again.
";

/// `docs/http-api.md`.
fn reference() -> String {
    let document = document();
    let mut text = HEAD.to_owned();
    for tag in document["tags"].as_array().unwrap() {
        let name = tag["name"].as_str().unwrap();
        let _ = write!(
            text,
            "\n## {name}\n\n{}\n",
            tag["description"].as_str().unwrap()
        );
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                if operation["tags"][0] == name {
                    let title = format!("{} {path}", method.to_uppercase());
                    describe(&document, &title, operation, &mut text);
                }
            }
        }
    }
    errors(&document, &mut text);
    text
}

fn describe(document: &Value, title: &str, operation: &Value, text: &mut String) {
    let _ = write!(
        text,
        "\n### {title}\n\n{}.",
        operation["summary"].as_str().unwrap()
    );
    if let Some(more) = operation["description"].as_str() {
        let _ = write!(text, " {more}");
    }
    let _ = writeln!(text);
    let mut rows = Vec::new();
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        let parameter = pointer(document, parameter);
        let schema = pointer(document, &parameter["schema"]);
        let says = [&parameter["description"], &schema["description"]];
        let says: Vec<_> = says.iter().filter_map(|says| says.as_str()).collect();
        rows.push(format!(
            "| {} `{}` | {} |",
            parameter["in"].as_str().unwrap(),
            parameter["name"].as_str().unwrap(),
            says.join(" ")
        ));
    }
    if !rows.is_empty() {
        let _ = writeln!(text, "\n| parameter | |\n|---|---|\n{}", rows.join("\n"));
    }
    let body = &operation["requestBody"]["content"]["application/json"];
    if body.is_object() {
        let schema = pointer(document, &body["schema"]);
        let _ = writeln!(
            text,
            "\nBody: `{}`, as in `{}`.",
            shape(document, schema),
            body["example"]
        );
    }
    let answer = pointer(document, &operation["responses"]["200"]);
    let schema = pointer(document, &answer["content"]["application/json"]["schema"]);
    if schema["properties"].is_object() {
        let _ = writeln!(text, "\nAnswer: `{}`.", shape(document, schema));
    }
}

/// `{"a","b"?}`; an array of objects as `[{"a"},…]`.
fn shape(document: &Value, schema: &Value) -> String {
    let schema = pointer(document, schema);
    if schema["type"] == "array" {
        return match shape(document, &schema["items"]).as_str() {
            "…" => "[…]".to_owned(),
            inner => format!("[{inner}, …]"),
        };
    }
    if let Some(either) = schema["oneOf"].as_array() {
        let shapes: Vec<_> = either.iter().map(|one| shape(document, one)).collect();
        return shapes.join(" or ");
    }
    let Some(members) = schema["properties"].as_object() else {
        return "…".to_owned();
    };
    let required = schema["required"].as_array().unwrap();
    let members = members.iter().map(|(name, member)| {
        let mark = if required.iter().any(|r| r == name) {
            ""
        } else {
            "?"
        };
        match shape(document, member).as_str() {
            "…" => format!("\"{name}\"{mark}"),
            inner => format!("\"{name}\"{mark}: {inner}"),
        }
    });
    format!("{{{}}}", members.collect::<Vec<_>>().join(", "))
}

fn errors(document: &Value, text: &mut String) {
    text.push_str("\n## Errors\n\nAlways `{\"error\": {\"code\", \"message\", \"field\"?}}`.\n\n| status | |\n|---|---|\n");
    let responses = document["components"]["responses"].as_object().unwrap();
    let paths = document["paths"].as_object().unwrap();
    let mut rows = BTreeSet::new();
    for operation in paths
        .values()
        .flat_map(|methods| methods.as_object().unwrap().values())
    {
        for (status, response) in operation["responses"].as_object().unwrap() {
            let name = response["$ref"].as_str().and_then(|r| r.rsplit('/').next());
            if let Some(response) = name
                .filter(|_| status != "200")
                .and_then(|n| responses.get(n))
            {
                rows.insert(format!(
                    "| {status} | {} |\n",
                    response["description"].as_str().unwrap()
                ));
            }
        }
    }
    text.extend(rows);
}

#[test]
fn the_committed_reference_is_made_from_the_document() {
    let folder = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it for tests");
    let path = format!("{folder}/../docs/http-api.md");
    let made = reference();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == made,
        "{path} is stale: UPDATE_DOCS=1 cargo test -p gateway openapi"
    );
}
