//! A real Prometheus that scrapes the run, what the shipped dashboards ask of it, and pictures of its answers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::Value;

use super::NAME;
use super::kube::{Process, get};
use crate::chart::lines::{Lines, Series};

/// What Grafana puts in for it at this pace of scrapes.
const RATE_INTERVAL: &str = "15s";
/// Seconds between two points of a picture.
const STEP: u64 = 5;
/// For a Prometheus to start.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Prometheus {
    address: SocketAddr,
    _process: Process,
}

/// One panel of a dashboard.
#[derive(Debug, PartialEq, Eq)]
pub struct Panel {
    pub title: String,
    pub unit: String,
    /// Queries, and what names their series.
    pub queries: Vec<(String, String)>,
}

/// With what Grafana puts in for the variables.
pub fn panels(dashboard: &str, namespace: &str) -> anyhow::Result<Vec<Panel>> {
    let dashboard: Value = serde_json::from_str(dashboard)?;
    let panels = dashboard["panels"].as_array().context("no panels")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let panels = panels.iter().map(|panel| Panel {
        title: text(&panel["title"]),
        unit: text(&panel["fieldConfig"]["defaults"]["unit"]),
        queries: panel["targets"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|target| {
                let query = text(&target["expr"])
                    .replace("$namespace", namespace)
                    .replace("$pushcluster", NAME)
                    .replace("$__rate_interval", RATE_INTERVAL);
                (query, text(&target["legendFormat"]))
            })
            .collect(),
    });
    Ok(panels.collect())
}

/// The name of a series: `{{pod}}` is the value of its label.
fn named(legend: &str, labels: &Value) -> String {
    let mut name = String::new();
    let mut rest = legend;
    while let Some((before, after)) = rest.split_once("{{") {
        let (label, after) = after.split_once("}}").unwrap_or((after, ""));
        name += before;
        name += labels[label.trim()].as_str().unwrap_or_default();
        rest = after;
    }
    name + rest
}

/// What the values of a panel are, and by what they are multiplied to be that.
fn unit(grafana: &str) -> (&'static str, f64) {
    match grafana {
        "s" => ("milliseconds", 1_000.0),
        "cps" => ("a second", 1.0),
        "percentunit" => ("percent", 100.0),
        "bytes" => ("MiB", 1.0 / 1_048_576.0),
        _ => ("count", 1.0),
    }
}

impl Prometheus {
    /// Scrapes whom `targets.json` in that folder names, and knows the chart's alerts.
    pub fn start(folder: &Path, alerts: &Path) -> anyhow::Result<Prometheus> {
        let folder = folder.canonicalize()?;
        let rules = alerts.canonicalize()?;
        let file = format!(
            "global: {{scrape_interval: 2s, evaluation_interval: 5s}}\nrule_files: [{}]\nscrape_configs:\n  - job_name: \
             pods\n    honor_labels: true\n    file_sd_configs: [{{files: [{}]}}]\n",
            rules.display(),
            folder.join("targets.json").display()
        );
        let path = folder.join("prometheus.yml");
        std::fs::write(&path, file)?;
        // Somebody else may take the port first; then it ends, and says so in its log.
        let free = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", path.display()));
        command.arg(format!(
            "--storage.tsdb.path={}",
            folder.join("tsdb").display()
        ));
        command.arg(format!("--web.listen-address={free}"));
        let log = std::fs::File::create(folder.join("prometheus.log"))?;
        command.stdout(Stdio::null()).stderr(log);
        let process = command
            .spawn()
            .context("start prometheus (make tools installs it)")?;
        let prometheus = Prometheus {
            address: free,
            _process: Process(process),
        };
        let began = Instant::now();
        while let Err(error) = get(free, "/api/v1/status/buildinfo") {
            if began.elapsed() > PATIENCE {
                bail!("prometheus does not answer: {error:#}; see prometheus.log");
            }
            std::thread::park_timeout(Duration::from_millis(200));
        }
        Ok(prometheus)
    }

    /// The series of a panel in that time, in seconds since its beginning.
    pub fn series(
        &self,
        panel: &Panel,
        began: u64,
        ended: u64,
    ) -> anyhow::Result<Vec<Vec<Series>>> {
        let (_, times) = unit(&panel.unit);
        let queries = panel.queries.iter().map(|(query, legend)| {
            let path = format!(
                "/api/v1/query_range?query={}&start={began}&end={ended}&step={STEP}",
                encoded(query)
            );
            let answer = get(self.address, &path).with_context(|| format!("ask {query}"))?;
            let result = answer["data"]["result"].as_array().context("no result")?;
            let series = result.iter().map(|series| Series {
                name: named(legend, &series["metric"]),
                points: points(&series["values"], began, ended, times),
            });
            let is_known = |series: &Series| series.points.iter().any(|(_, value)| value.is_some());
            Ok(series.filter(is_known).collect())
        });
        queries.collect()
    }

    /// Names of the alerts that fired, and for how many seconds.
    pub fn alerts(&self, began: u64, ended: u64) -> anyhow::Result<BTreeMap<String, u64>> {
        let query = encoded("count by (alertname) (ALERTS{alertstate=\"firing\"})");
        let answer = get(
            self.address,
            &format!("/api/v1/query_range?query={query}&start={began}&end={ended}&step={STEP}"),
        )?;
        let result = answer["data"]["result"].as_array().context("no result")?;
        let alerts = result.iter().map(|series| {
            let name = series["metric"]["alertname"].as_str().unwrap_or_default();
            let points = series["values"].as_array().map_or(0, Vec::len);
            (name.to_owned(), points as u64 * STEP)
        });
        Ok(alerts.collect())
    }
}

fn encoded(query: &str) -> String {
    query.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// One for each step, also where the series has none.
fn points(values: &Value, began: u64, ended: u64, times: f64) -> Vec<(f64, Option<f64>)> {
    let known: BTreeMap<u64, f64> = values
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|pair| {
            let value: f64 = pair[1].as_str()?.parse().ok()?;
            let unix = pair[0].as_u64().or_else(|| pair[0].as_f64().map(whole))?;
            value.is_finite().then_some((unix, value * times))
        })
        .collect();
    let steps = (began..=ended).step_by(usize::try_from(STEP).expect("a few seconds"));
    steps
        .map(|unix| (super::float(unix - began), known.get(&unix).copied()))
        .collect()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "seconds since 1970"
)]
fn whole(seconds: f64) -> u64 {
    seconds as u64
}

/// A panel as a picture. Series that were 0 all the time are left out, if there are others; of pods' names, what differs.
pub fn picture(panel: &Panel, series: &[Vec<Series>]) -> Lines {
    let all = || series.iter().flatten();
    let is_something = |series: &&Series| {
        let values = series.points.iter().filter_map(|(_, value)| *value);
        values.fold(0.0, f64::max) > 0.0
    };
    let any = all().any(|series| is_something(&series));
    let shown = all().filter(|series| !any || is_something(series));
    let shown = shown.map(|series| Series {
        name: series.name.replace(&format!("{NAME}-gateway-"), ""),
        points: series.points.clone(),
    });
    Lines {
        title: panel.title.clone(),
        unit: unit(&panel.unit).0.to_owned(),
        series: shown.collect(),
        bound: None,
        marks: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_shipped_dashboards_are_read() {
        let gateways =
            include_str!("../../../charts/pushcluster-operator/dashboards/gateways.json");
        let operator =
            include_str!("../../../charts/pushcluster-operator/dashboards/operator.json");
        for dashboard in [gateways, operator] {
            let panels = panels(dashboard, "demo").unwrap();
            assert!(panels.len() > 5);
            for panel in panels {
                assert!(!panel.title.is_empty() && !panel.queries.is_empty());
                for (query, legend) in panel.queries {
                    assert!(
                        !query.contains('$') && !legend.is_empty(),
                        "{query} {legend}"
                    );
                }
            }
        }
    }

    #[test]
    fn series_have_the_names_that_grafana_gives_them() {
        let labels = json!({"pod": "a", "namespace": "b"});
        for (legend, expected) in [
            ("made", "made"),
            ("{{pod}}", "a"),
            ("{{ namespace }}/{{pod}} x", "b/a x"),
            ("{{other}}", ""),
        ] {
            assert_eq!(named(legend, &labels), expected);
        }
    }

    #[test]
    fn what_never_happened_is_in_no_picture() {
        let series = |name: &str, value| Series {
            name: name.to_owned(),
            points: vec![(0.0, Some(0.0)), (5.0, value)],
        };
        let panel = Panel {
            title: "a".to_owned(),
            unit: "s".to_owned(),
            queries: vec![],
        };
        for (given, expected) in [
            ([Some(1.0), Some(0.0)], &["one"] as &[_]),
            ([Some(0.0), None], &["one", "two"]),
        ] {
            let [one, two] = given;
            let series = vec![
                vec![series("ramp-gateway-one", one)],
                vec![series("two", two)],
            ];
            let lines = picture(&panel, &series);
            let names: Vec<_> = lines.series.iter().map(|series| &*series.name).collect();
            assert_eq!((names.as_slice(), &*lines.unit), (expected, "milliseconds"));
        }
    }

    #[test]
    fn a_step_without_a_value_breaks_the_line() {
        let values = json!([[100, "2"], [110.0, "NaN"], [115, "0.5"]]);
        let expected = [
            (0.0, Some(4.0)),
            (5.0, None),
            (10.0, None),
            (15.0, Some(1.0)),
        ];
        assert_eq!(points(&values, 100, 115, 2.0), expected);
    }
}
