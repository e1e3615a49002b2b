//! The chart's README, made from its values and their comments; and the schema, which knows the same values.

use std::fmt::Write;

use serde_json::Value;

use crate::render::chart;

/// One key of values.yaml.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    /// As for `--set`.
    path: String,
    /// As written; None for a key that only has others in it.
    default: Option<String>,
    /// The comment above it.
    comment: String,
}

/// Reads the subset of YAML that values.yaml keeps to: maps in block style with two spaces, everything else on one line.
fn entries(yaml: &str) -> Vec<Entry> {
    let mut found = Vec::new();
    let mut parents: Vec<&str> = Vec::new();
    let mut comment: Vec<&str> = Vec::new();
    for line in yaml.lines() {
        let text = line.trim_start();
        if let Some(said) = text.strip_prefix('#') {
            comment.push(said.trim());
        } else if text.is_empty() {
            comment.clear();
        } else {
            let (key, value) = text.split_once(':').expect("a key");
            parents.truncate((line.len() - text.len()) / 2);
            parents.push(key);
            let value = value.trim();
            found.push(Entry {
                path: parents.join("."),
                default: (!value.is_empty()).then(|| value.to_owned()),
                comment: comment.join(" "),
            });
            comment.clear();
        }
    }
    found
}

fn readme(yaml: &str) -> String {
    let mut text = String::from(
        "# pushcluster-operator\n\n\
         <!-- Made from values.yaml and charts/tests/readme.rs: make generate -->\n\n\
         Runs PushClusters, WebSocket push gateways with the Redis behind them.\n\n\
         ```\n\
         helm install pushcluster charts/pushcluster-operator --namespace pushcluster-system --create-namespace\n\
         kubectl apply -f examples/pushcluster.yaml\n\
         ```\n\n\
         One release in a cluster: the definition of PushClusters belongs to it. `helm upgrade` brings a new definition with\n\
         it. `helm uninstall` leaves the definition, every PushCluster and every gateway as they are; an installation after\n\
         that takes them up again. To remove all of them: `kubectl delete crd pushclusters.pushcluster.io`.\n\n\
         What the operator may do is in templates/rbac.yaml; with `watchNamespace` it has no right outside that namespace.\n\n\
         ## Values\n\n\
         | value | default | |\n|---|---|---|\n",
    );
    for Entry {
        path,
        default,
        comment,
    } in entries(yaml)
    {
        let default = default.map_or_else(String::new, |value| format!("`{value}`"));
        let comment = comment.replace('|', "\\|");
        let _ = writeln!(text, "| `{path}` | {default} | {comment} |");
    }
    text
}

fn file(name: &str) -> String {
    let path = chart().join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn the_readme_is_made_from_the_values() {
    let made = readme(&file("values.yaml"));
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(chart().join("README.md"), &made).expect("write the README");
    }
    assert!(
        file("README.md") == made,
        "charts/pushcluster-operator/README.md is not up to date: run `make generate`"
    );
}

#[test]
fn keys_values_and_comments_are_read() {
    let yaml = "# Lost.\n\n# Of a\n# and b.\na:\n  # Of c.\n  c: [1]\n  d:\n    e: \"\"\nf: x:1\n";
    let entry = |path: &str, default: Option<&str>, comment: &str| Entry {
        path: path.into(),
        default: default.map(Into::into),
        comment: comment.into(),
    };
    assert_eq!(
        entries(yaml),
        [
            entry("a", None, "Of a and b."),
            entry("a.c", Some("[1]"), "Of c."),
            entry("a.d", None, ""),
            entry("a.d.e", Some("\"\""), ""),
            entry("f", Some("x:1"), ""),
        ]
    );
}

/// Every value says what it does, itself or what it is in; and what is read here is what Helm reads.
#[test]
fn every_value_is_explained() {
    let yaml = file("values.yaml");
    let values: Value = serde_yaml::from_str(&yaml).expect("values.yaml is YAML");
    let entries = entries(&yaml);
    for entry in &entries {
        let pointer = format!("/{}", entry.path.replace('.', "/"));
        assert!(
            values.pointer(&pointer).is_some(),
            "{} is not read so",
            entry.path
        );
        let explained = entries.iter().any(|other| {
            let holds =
                entry.path == other.path || entry.path.starts_with(&format!("{}.", other.path));
            holds && !other.comment.is_empty()
        });
        let is_leaf = entry.default.is_some();
        assert!(explained || !is_leaf, "{} has no comment", entry.path);
    }
}

/// A value that the schema does not know cannot be set; one that only the schema knows does nothing.
#[test]
fn the_schema_knows_the_values_and_no_others() {
    let schema: Value = serde_json::from_str(&file("values.schema.json")).expect("JSON");
    let values: Value = serde_yaml::from_str(&file("values.yaml")).expect("YAML");
    compare(&schema, &values, "");
}

fn compare(schema: &Value, values: &Value, path: &str) {
    let Some(known) = schema["properties"].as_object() else {
        return;
    };
    assert_eq!(
        schema["additionalProperties"], false,
        "{path}: a misspelt value would be taken"
    );
    let given = values.as_object().expect("a map");
    for key in known.keys() {
        // Helm's own, for a chart in a chart.
        let exempt = path.is_empty() && key == "global";
        assert!(
            exempt || given.contains_key(key) || path == "/resources",
            "values.yaml has no {path}/{key}"
        );
    }
    for (key, value) in given {
        let known = known.get(key);
        let known = known.unwrap_or_else(|| panic!("the schema has no {path}/{key}"));
        compare(known, value, &format!("{path}/{key}"));
    }
}
