//! What the operator would do with a manifest, as text for people. Pure. No value of a Secret is ever in it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use operator::push_cluster::apply::difference::differences;
use operator::push_cluster::apply::plan::{APPLIED, Act, Write};
use operator::push_cluster::apply::{FIELD_MANAGER, What};
use operator::push_cluster::consent::{ASKED, CONSENT, Pending, TEMPLATE};
use serde_json::Value;

use crate::lines;
use crate::owned;

/// Live objects by kind and name.
pub type Live = BTreeMap<(String, String), Value>;

/// A plan for one PushCluster.
pub struct Planned<'a> {
    /// Namespace and name.
    pub name: &'a str,
    pub paused: bool,
    /// Every object, in the order of writing.
    pub built: &'a [Write],
    pub writes: &'a [Write],
    /// What would be changed is here.
    pub live: &'a Live,
}

pub fn text(planned: &Planned) -> String {
    let mut text = String::new();
    let count = |is: fn(&Write) -> bool| planned.writes.iter().filter(|write| is(write)).count();
    let (created, changed, deleted) = (count(is_created), count(is_changed), count(is_deleted));
    let kept: Vec<String> = planned
        .built
        .iter()
        .map(title)
        .filter(|object| !planned.writes.iter().any(|write| title(write) == *object))
        .collect();
    let _ = writeln!(
        text,
        "PushCluster {}: {created} to create, {changed} to change, {deleted} to delete, {} to leave alone",
        planned.name,
        kept.len()
    );
    let mut restarts = Restarts::default();
    for write in planned.writes {
        describe(write, planned.live, &mut text, &mut restarts);
    }
    if !kept.is_empty() {
        let _ = writeln!(text, "\n= {}", kept.join(", "));
    }
    text.push('\n');
    text.push_str(&restarts.text());
    if planned.paused && !planned.writes.is_empty() {
        text.push_str("spec.paused is true: nothing of this is done while it is.\n");
    }
    text
}

/// What would be other pods, and is left until somebody agrees.
pub fn waiting(pending: &Pending) -> String {
    let mut text = format!(
        "\nWaits until somebody agrees, by annotation {CONSENT}={} or spec.updatePolicy: Automatic:\n",
        pending.name
    );
    for what in &pending.what {
        let _ = writeln!(text, "    {what}");
    }
    text
}

fn is_created(write: &Write) -> bool {
    matches!(&write.act, Act::Apply { what, .. } if *what == What::Created)
}

fn is_changed(write: &Write) -> bool {
    matches!(&write.act, Act::Apply { what, .. } if matches!(what, What::Changed { .. } | What::Remade { .. }))
}

fn is_deleted(write: &Write) -> bool {
    matches!(write.act, Act::Delete { .. })
}

fn title(write: &Write) -> String {
    format!("{} {}", write.resource.kind, write.name)
}

fn describe(write: &Write, live: &Live, text: &mut String, restarts: &mut Restarts) {
    let title = title(write);
    let (manifest, what) = match &write.act {
        Act::Apply { manifest, what } => (manifest, what),
        Act::Delete { .. } => {
            let _ = writeln!(text, "\n- {title}, which the spec no longer asks for");
            return;
        }
    };
    let by = match what {
        What::Changed { by: Some(by), .. } => format!(", last changed by {by}"),
        What::Changed { by: None, .. } => String::new(),
        What::Remade { .. } => ", made anew around its pods".to_owned(),
        What::Created | What::Deleted => {
            let _ = writeln!(text, "\n+ {title}");
            return;
        }
    };
    let _ = writeln!(text, "\n~ {title}{by}");
    let nothing = Value::Null;
    let live = live
        .get(&(write.resource.kind.clone(), write.name.clone()))
        .unwrap_or(&nothing);
    let fields = fields(&write.resource.kind, manifest, live);
    for field in &fields {
        for line in &field.lines {
            let _ = writeln!(text, "    {line}");
        }
    }
    if fields.is_empty() {
        text.push_str("    only the operator's note of what it applied last\n");
    }
    restarts.notice(write, live, &fields);
}

/// One field that would be another.
struct Field {
    path: String,
    lines: Vec<String>,
}

fn fields(kind: &str, manifest: &Value, live: &Value) -> Vec<Field> {
    let notes = [APPLIED, ASKED, TEMPLATE];
    let is_note = |path: &str| notes.iter().any(|note| path.ends_with(note));
    let is_secret = |path: &str| kind == "Secret" && path.starts_with("data");
    let mut found = Vec::new();
    for difference in differences(manifest, live) {
        let path = difference.path;
        if is_note(&path) {
            continue;
        }
        let lines = if is_secret(&path) {
            vec![format!("~ {path}: (not shown)")]
        } else {
            both(&path, difference.live, difference.built)
        };
        found.push(Field { path, lines });
    }
    for path in owned::no_longer_applied(live, FIELD_MANAGER, manifest) {
        let path = owned::written(&path);
        if !is_note(&path) {
            let lines = vec![format!("- {path}: removed")];
            found.push(Field { path, lines });
        }
    }
    found
}

fn both(path: &str, live: &Value, built: &Value) -> Vec<String> {
    match (live, built) {
        (Value::String(before), Value::String(after))
            if before.contains('\n') || after.contains('\n') =>
        {
            let mut told = vec![format!("~ {path}:")];
            let lines = lines::changes(before, after).into_iter();
            told.extend(lines.map(|line| format!("    {line}")));
            told
        }
        (Value::Null, built) => vec![format!("+ {path}: {built}")],
        (live, built) => vec![format!("- {path}: {live}"), format!("+ {path}: {built}")],
    }
}

/// Which pods would be others, and why.
#[derive(Default)]
struct Restarts {
    gateways: Vec<String>,
    redis: Vec<String>,
    scaled: Option<(i64, i64)>,
    settings: bool,
}

impl Restarts {
    fn notice(&mut self, write: &Write, live: &Value, fields: &[Field]) {
        let of_pods = || {
            let paths = fields.iter().map(|field| field.path.clone());
            paths.filter(|path| path.starts_with("spec.template"))
        };
        match write.resource.kind.as_str() {
            "Deployment" => {
                self.gateways.extend(of_pods());
                let Act::Apply { manifest, .. } = &write.act else {
                    return;
                };
                let replicas = |object: &Value| object["spec"]["replicas"].as_i64();
                self.scaled = replicas(live)
                    .zip(replicas(manifest))
                    .filter(|(before, after)| before != after);
            }
            "StatefulSet" => self.redis.extend(of_pods()),
            "ConfigMap" => self.settings = true,
            _ => {}
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        if !self.gateways.is_empty() {
            let _ = writeln!(
                text,
                "Gateways would be replaced one at a time, and every client is told to reconnect, because of {}.",
                reasons(&self.gateways)
            );
        } else if self.settings {
            text.push_str("No gateway would be restarted: they read the configuration again.\n");
        } else {
            text.push_str("No gateway would be restarted.\n");
        }
        if let Some((before, after)) = self.scaled {
            let _ = writeln!(text, "Gateways would be scaled from {before} to {after}.");
        }
        if !self.redis.is_empty() {
            let _ = writeln!(
                text,
                "Redis pods would be replaced one at a time because of {}.",
                reasons(&self.redis)
            );
        }
        text
    }
}

fn reasons(paths: &[String]) -> String {
    let reason = |path: &String| {
        let inner = path.strip_prefix("spec.template.").unwrap_or(path);
        match inner.strip_prefix("metadata.annotations.pushcluster.io/") {
            Some("config-hash") => "settings or keys that are read at the start".to_owned(),
            Some("keys-hash" | "files-hash") => "files that are read at the start".to_owned(),
            _ => inner.to_owned(),
        }
    };
    paths.iter().map(reason).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing;

    /// The plan where a spec was applied and another one is asked for.
    fn planned(before: &Value, after: &Value) -> String {
        let live = testing::live(before);
        let built = testing::preview(after).built;
        let writes: Vec<Write> = built
            .iter()
            .filter_map(|write| {
                let Act::Apply { manifest, .. } = &write.act else {
                    return None;
                };
                let there = live.get(&(write.resource.kind.clone(), write.name.clone()));
                let what = match there {
                    None => What::Created,
                    Some(there) if there == manifest => return None,
                    Some(_) => What::Changed {
                        path: String::new(),
                        by: None,
                    },
                };
                let manifest = manifest.clone();
                let act = Act::Apply { manifest, what };
                Some(Write {
                    act,
                    ..write.clone()
                })
            })
            .collect();
        text(&Planned {
            name: "shop/demo",
            paused: false,
            built: &built,
            writes: &writes,
            live: &live,
        })
    }

    #[test]
    fn what_changes_is_told_field_by_field_and_what_it_does_to_pods() {
        let quiet = json!({"autoscaling": {"enabled": false}});
        let with = |more: Value| {
            let mut spec = quiet.clone();
            for (key, value) in more.as_object().unwrap() {
                spec[key] = value.clone();
            }
            spec
        };
        for (after, expected, unexpected) in [
            (
                quiet.clone(),
                vec![
                    "0 to create, 0 to change, 0 to delete, ",
                    "No gateway would be restarted.\n",
                ],
                vec!["~", "+"],
            ),
            (
                with(json!({"replicas": 3})),
                vec![
                    "~ Deployment demo-gateway\n    - spec.replicas: 2\n    + spec.replicas: 3\n",
                    "No gateway would be restarted.\nGateways would be scaled from 2 to 3.",
                ],
                vec!["ConfigMap demo-config\n"],
            ),
            (
                with(json!({"gateway": {"image": "mine:2"}})),
                vec![
                    "    + spec.template.spec.containers[0].image: \"mine:2\"\n",
                    "every client is told to reconnect, because of spec.containers[0].image.",
                ],
                vec![],
            ),
            (
                with(json!({"gateway": {"limits": {"maxConnections": 20}}})),
                vec![
                    "~ ConfigMap demo-config\n    ~ data.gateway.yaml:\n",
                    "+   maxConnections: 20\n",
                ],
                vec![],
            ),
            (
                with(json!({"redis": {"image": "redis:8"}})),
                vec![
                    "Redis pods would be replaced one at a time because of spec.containers[0].image.",
                ],
                vec!["every client"],
            ),
            (
                json!({"autoscaling": {"enabled": true}}),
                vec!["1 to create", "\n+ HorizontalPodAutoscaler demo\n"],
                vec![],
            ),
        ] {
            let text = planned(&quiet, &after);
            for expected in expected {
                assert!(text.contains(expected), "{expected:?} is not in\n{text}");
            }
            for unexpected in unexpected {
                assert!(!text.contains(unexpected), "{unexpected:?} is in\n{text}");
            }
        }
    }

    #[test]
    fn values_of_secrets_are_not_shown() {
        let mut live = json!({"kind": "Secret", "data": {"api-key": "b2xk"}});
        let built = json!({"kind": "Secret", "data": {"api-key": "bmV3"}, "type": "Opaque"});
        let told = |live: &Value| {
            let fields = fields("Secret", &built, live);
            fields
                .into_iter()
                .flat_map(|field| field.lines)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            told(&live),
            ["~ data.api-key: (not shown)", "+ type: \"Opaque\""]
        );
        live["data"] = Value::Null;
        assert_eq!(
            told(&live),
            ["~ data.api-key: (not shown)", "+ type: \"Opaque\""]
        );
    }

    #[test]
    fn what_the_operator_set_and_sets_no_more_is_removed() {
        let live = json!({"metadata": {"managedFields": [{
            "manager": FIELD_MANAGER, "operation": "Apply",
            "fieldsV1": {"f:spec": {"f:gone": {}, "f:stays": {}}, "f:metadata": {"f:annotations": {"f:pushcluster.io/applied": {}}}},
        }]}, "spec": {"gone": 1, "stays": 2}});
        let fields = fields("Service", &json!({"spec": {"stays": 2}}), &live);
        let lines: Vec<_> = fields.into_iter().flat_map(|field| field.lines).collect();
        assert_eq!(lines, ["- spec.gone: removed"]);
    }

    #[test]
    fn what_waits_is_told_with_how_to_agree() {
        let pending = Pending {
            name: "abc123".into(),
            what: vec!["Deployment d: image from a to b".into()],
        };
        assert_eq!(
            waiting(&pending),
            "\nWaits until somebody agrees, by annotation pushcluster.io/consent=abc123 or spec.updatePolicy: Automatic:\n    Deployment d: image from a to b\n"
        );
    }
}
