//! ServiceMonitors, alerts and dashboards: made when asked for, and about metrics that the programs have.

use std::collections::BTreeSet;
use std::path::Path;

use k8s_openapi::api::core::v1::{ConfigMap, Service};
use serde_json::Value;

use crate::render::{Objects, chart, render, render_where};

const ALL: &[&str] = &[
    "monitoring.serviceMonitors=true",
    "monitoring.alerts=true",
    "monitoring.dashboards=true",
    "monitoring.labels.release=prometheus",
];
const PROMETHEUS_OPERATOR: &[&str] = &[
    "monitoring.coreos.com/v1/ServiceMonitor",
    "monitoring.coreos.com/v1/PrometheusRule",
];

fn everything() -> Objects {
    render_where(PROMETHEUS_OPERATOR, ALL).expect("the chart renders")
}

fn of_kind<'a>(objects: &'a Objects, kind: &str) -> Vec<&'a Value> {
    let all = objects.all().iter();
    all.filter(|object| object["kind"] == kind).collect()
}

#[test]
fn they_are_made_when_asked_for_and_when_their_kinds_exist() {
    let count = |objects: &Objects| {
        ["ServiceMonitor", "PrometheusRule", "ConfigMap"].map(|kind| of_kind(objects, kind).len())
    };
    let asked = everything();
    assert_eq!(count(&asked), [2, 1, 2]);
    let no_kinds = render(ALL).expect("the chart renders");
    assert_eq!(count(&no_kinds), [0, 0, 2]);
    let not_asked = render_where(PROMETHEUS_OPERATOR, &[]).expect("the chart renders");
    assert_eq!(count(&not_asked), [0, 0, 0]);
    for kind in ["ServiceMonitor", "PrometheusRule", "ConfigMap"] {
        for object in of_kind(&asked, kind) {
            let labels = &object["metadata"]["labels"];
            assert_eq!(labels["release"], "prometheus", "{kind}");
            assert_eq!(labels["app.kubernetes.io/part-of"], "pushcluster");
        }
    }
}

/// A label of the user's under the name of one of ours must not become a second key, which is no YAML.
#[test]
fn a_label_that_is_ours_stays_ours() {
    let values = [
        "monitoring.dashboards=true",
        r"monitoring.labels.app\.kubernetes\.io/name=mine",
    ];
    let objects = render(&values).expect("the chart renders");
    let labels = &of_kind(&objects, "ConfigMap")[0]["metadata"]["labels"];
    assert_eq!(labels["app.kubernetes.io/name"], "pushcluster-operator");
}

#[test]
fn the_operators_service_is_what_its_monitor_selects() {
    let objects = everything();
    let is_admin = |service: &Service| {
        let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_ref());
        let mut ports = ports.into_iter().flatten();
        ports.any(|port| port.name.as_deref() == Some("admin"))
    };
    // Only this one has that port, so no pod is read twice.
    let mut services = objects.of::<Service>("Service").into_iter();
    let service = services.find(is_admin).expect("the admin Service");
    assert_eq!(services.find(is_admin), None);
    let labels = service.metadata.labels.expect("labels");
    let selects = |monitor: &Value| {
        let selector = monitor["spec"]["selector"]["matchLabels"].as_object();
        let selector = selector.expect("a selector");
        selector
            .iter()
            .all(|(key, value)| labels.get(key).map(String::as_str) == value.as_str())
    };
    let monitors = of_kind(&objects, "ServiceMonitor");
    let selecting = monitors.iter().filter(|monitor| selects(monitor));
    assert_eq!(selecting.count(), 1, "the other one is the gateways'");
    let ports = service.spec.and_then(|spec| spec.ports).expect("ports");
    for monitor in monitors {
        assert_eq!(monitor["spec"]["endpoints"][0]["port"], "admin");
    }
    assert_eq!(ports[0].name.as_deref(), Some("admin"));

    let values = [ALL, &["watchNamespace=pushing"]].concat();
    let narrow = render_where(PROMETHEUS_OPERATOR, &values).expect("the chart renders");
    let places: Vec<_> = of_kind(&narrow, "ServiceMonitor")
        .iter()
        .map(|monitor| monitor["spec"]["namespaceSelector"].to_string())
        .collect();
    assert_eq!(places, ["null", r#"{"matchNames":["pushing"]}"#]);
}

#[test]
fn an_alert_says_what_is_wrong_and_what_to_do() {
    let objects = everything();
    let groups = of_kind(&objects, "PrometheusRule")[0]["spec"]["groups"].clone();
    let rules: Vec<Value> = groups
        .as_array()
        .expect("groups")
        .iter()
        .flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default())
        .collect();
    assert!(rules.len() >= 10, "{} rules", rules.len());
    let mut names = BTreeSet::new();
    for rule in &rules {
        let name = rule["alert"].as_str().expect("a name");
        assert!(name.starts_with("PushCluster"), "{name}");
        assert!(names.insert(name), "{name} is there twice");
        assert!(rule["expr"].is_string(), "{name}");
        let severity = rule["labels"]["severity"].as_str();
        assert!(
            matches!(severity, Some("warning" | "critical")),
            "{name}: {severity:?}"
        );
        for text in ["summary", "description"] {
            let said = rule["annotations"][text].as_str().unwrap_or_default();
            assert!(said.ends_with('.'), "{name} has no {text}: {said:?}");
        }
    }
}

/// A metric that no program has makes an alert that never fires, and a panel that says "no data".
#[test]
fn expressions_use_metrics_and_labels_that_the_programs_have() {
    let sources = sources();
    let expressions = expressions();
    assert!(expressions.len() > 20, "{} expressions", expressions.len());
    for expression in expressions {
        let metrics = metrics_in(&expression);
        assert!(!metrics.is_empty(), "no metric in {expression}");
        for metric in metrics {
            assert!(
                metric == "up" || sources.contains(&format!("\"{metric}\"")),
                "{metric} of {expression} is in no program"
            );
        }
        for value in values_in(&expression) {
            assert!(
                sources.contains(&format!("\"{value}\"")),
                "no program says {value}, for which {expression} waits"
            );
        }
        let (open, close) = (expression.matches('('), expression.matches(')'));
        assert_eq!(open.count(), close.count(), "{expression}");
    }
}

/// Every expression of an alert, and of a panel of a dashboard.
fn expressions() -> Vec<String> {
    let objects = everything();
    let mut found = Vec::new();
    collect(&of_kind(&objects, "PrometheusRule")[0]["spec"], &mut found);
    let dashboards: Vec<ConfigMap> = objects.of("ConfigMap");
    for (name, text) in dashboards.into_iter().filter_map(|map| map.data).flatten() {
        let dashboard: Value =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("dashboard {name}: {error}"));
        let before = found.len();
        collect(&dashboard, &mut found);
        assert!(found.len() > before, "dashboard {name} shows nothing");
    }
    found
}

fn collect(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            found.extend(map.get("expr").and_then(Value::as_str).map(String::from));
            map.values().for_each(|value| collect(value, found));
        }
        Value::Array(list) => list.iter().for_each(|value| collect(value, found)),
        _ => {}
    }
}

/// Names of metrics as a program registers them: a histogram's series have a suffix.
fn metrics_in(expression: &str) -> BTreeSet<String> {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words
        .filter(|word| {
            *word == "up" || word.starts_with("websocket_") || word.starts_with("pushcluster_")
        })
        .map(|word| {
            let of_histogram = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|suffix| word.strip_suffix(suffix));
            of_histogram.unwrap_or(word).to_owned()
        })
        .collect()
}

/// Label values that an expression writes out; variables of a dashboard are none.
fn values_in(expression: &str) -> Vec<&str> {
    let quoted = expression.split('"').skip(1).step_by(2);
    quoted
        .filter(|value| !value.is_empty() && !value.starts_with('$'))
        .collect()
}

#[test]
fn names_and_values_are_found_in_an_expression() {
    let expression = r#"rate(pushcluster_a_total{limit="b",c="$d"}[5m]) > up / websocket_e_bucket"#;
    let expected = ["pushcluster_a_total", "up", "websocket_e"].map(String::from);
    assert_eq!(metrics_in(expression), BTreeSet::from(expected));
    assert_eq!(values_in(expression), ["b"]);
}

/// The text of all programs that have metrics.
fn sources() -> String {
    let root = chart().join("../..");
    let mut text = String::new();
    for program in ["gateway", "operator", "daemon"] {
        read_folder(&root.join(program).join("src"), &mut text);
    }
    text
}

fn read_folder(folder: &Path, text: &mut String) {
    for entry in std::fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            read_folder(&path, text);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            text.push_str(&std::fs::read_to_string(&path).expect("a source"));
        }
    }
}
