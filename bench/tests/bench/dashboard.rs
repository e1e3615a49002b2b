//! The dashboard of gateways that the chart ships: every query of it, asked of a real Prometheus that has scraped two real
//! gateways under a load, returns series. A query that returns none is a panel that says "no data".

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::processes::{Gateway, Process, ask, free_port, redis, until};

/// With what Grafana puts in for the variables, and the labels that the chart's ServiceMonitor makes.
const VARIABLES: [(&str, &str); 3] = [
    ("$namespace", "demo"),
    ("$pushcluster", "chat"),
    ("$__rate_interval", "1m"),
];

struct Prometheus {
    address: SocketAddr,
    _process: Process,
    _folder: tempfile::TempDir,
}

impl Prometheus {
    fn start(gateways: [&Gateway; 2]) -> Prometheus {
        let folder = tempfile::tempdir().unwrap();
        let targets: String = (0..)
            .zip(gateways)
            .map(|(n, gateway)| {
                format!(
                    "      - targets: [\"{}\"]\n        labels: {{namespace: demo, pushcluster: chat, pod: gw-{n}}}\n",
                    gateway.admin
                )
            })
            .collect();
        let file = format!(
            "global: {{scrape_interval: 1s}}\nscrape_configs:\n  - job_name: gateways\n    static_configs:\n{targets}"
        );
        let path = folder.path().join("prometheus.yml");
        std::fs::write(&path, file).unwrap();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", path.display()));
        command.arg(format!("--storage.tsdb.path={}", folder.path().display()));
        command.arg(format!("--web.listen-address={address}"));
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let process = command
            .spawn()
            .expect("prometheus is installed (make tools)");
        Prometheus {
            address,
            _process: Process(process),
            _folder: folder,
        }
    }

    /// Values of the series that a query returns now; NaN is none. What went wrong, if it cannot be asked.
    fn query(&self, query: &str) -> Result<Vec<f64>, String> {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let request = format!("GET /api/v1/query?query={encoded}");
        let answer = ask(self.address, &request, "").map_err(|error| error.to_string())?;
        let body = answer.split("\r\n\r\n").nth(1).unwrap_or_default();
        let json: Value =
            serde_json::from_str(body).map_err(|error| format!("{error}: {answer}"))?;
        assert_ne!(json["status"], "error", "{query}: {json}");
        let series = json["data"]["result"].as_array().ok_or(answer)?;
        let values = series
            .iter()
            .filter_map(|series| series["value"][1].as_str());
        let values = values.map(|value| value.parse::<f64>().unwrap());
        Ok(values.filter(|value| !value.is_nan()).collect())
    }
}

/// Titles of panels, and their queries.
fn queries(dashboard: &str) -> Vec<(String, String)> {
    let path = Path::new(&std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it for tests"))
        .join("../charts/pushcluster-operator/dashboards")
        .join(dashboard);
    let dashboard: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut found = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            let mut query = target["expr"].as_str().unwrap().to_owned();
            for (variable, value) in VARIABLES {
                query = query.replace(variable, value);
            }
            assert!(
                !query.contains('$'),
                "a variable that this test does not know: {query}"
            );
            found.push((panel["title"].as_str().unwrap().to_owned(), query));
        }
    }
    found
}

#[test]
fn every_query_of_the_gateways_dashboard_returns_series() {
    let (_redis, port) = redis();
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let drained = Gateway::start("drained", port, folders[0].path());
    let other = Gateway::start("other", port, folders[1].path());
    let prometheus = Prometheus::start([&drained, &other]);
    let mut load = Command::new(env!("CARGO_BIN_EXE_pushbench"));
    load.args([
        "run",
        "--profile=1:20,600:20",
        "--channels=2",
        "--prefix=kept:",
        "--sse=40",
    ]);
    load.arg(format!("--to={},{}", drained.clients, other.clients));
    load.arg(format!(
        "--hs256-key-file={}",
        folders[0].path().join("jwt").display()
    ));
    load.arg(format!(
        "--api-key-file={}",
        folders[0].path().join("api").display()
    ));
    let load = load.stdout(Stdio::null()).stderr(Stdio::null());
    let _load = Process(load.spawn().unwrap());
    until("a scrape saw everybody", || {
        let seen = prometheus.query("sum(websocket_connected_clients)").ok()?;
        (seen == [20.0]).then_some(())
    });
    drained.ask("POST /drain", r#"{"connectionsPerSecond":5}"#);
    until("a scrape saw the drain", || {
        let sent_away = "sum(rate(pushcluster_connections_closed_total{code=\"drain\"}[1m]))";
        let seen = prometheus.query(sent_away).ok()?;
        seen.first().filter(|rate| **rate > 0.0).copied()
    });
    let queries = queries("gateways.json");
    assert!(queries.len() > 15, "{} queries", queries.len());
    for (panel, query) in queries {
        until(&format!("{panel}: {query} returns series"), || {
            let values = prometheus.query(&query);
            values.ok().filter(|values| !values.is_empty())
        });
    }
}
