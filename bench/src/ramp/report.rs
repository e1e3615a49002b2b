//! What came of it: tables to read, charts, and whether what is promised was kept. Pure but for the files.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::time::Duration;

use super::prometheus::{Panel, picture};
use super::watch::Look;
use super::{Arguments, charts, float};
use crate::chart::lines::{Lines, Series, draw};
use crate::pushbench;
use crate::pushbench::record::{Run, Second, Stage};
use crate::pushbench::table::{OfStage, of_stage};

/// Reconnects a second may be so many times the budget, and p99 so many times the quiet one.
const OVER_BUDGET: f64 = 1.1;
const OVER_QUIET: f64 = 3.0;

/// What was done, and how busy the machine was.
pub struct Act {
    pub name: String,
    pub load_before: String,
    pub load_after: String,
}

/// A panel, and the series of each of its queries.
pub struct Asked {
    pub dashboard: &'static str,
    pub panel: Panel,
    pub series: Vec<Vec<Series>>,
}

pub struct Ours {
    /// Clients for each gateway.
    pub target: usize,
    pub apply_to_ready: Duration,
    pub run: Run,
    pub looks: Vec<Look>,
    pub acts: Vec<Act>,
    pub problems: Vec<String>,
    pub panels: Vec<Asked>,
    /// Seconds that each fired.
    pub alerts: BTreeMap<String, u64>,
}

pub struct Plain {
    pub run: Run,
    pub act: Act,
}

/// The text so far, which is written again with each half.
pub struct Report<'a> {
    arguments: &'a Arguments,
    text: String,
    is_good: bool,
}

impl<'a> Report<'a> {
    pub fn new(arguments: &'a Arguments) -> Report<'a> {
        Report {
            arguments,
            text: String::new(),
            is_good: true,
        }
    }

    /// Whether all that is promised was kept.
    pub fn is_good(&self) -> bool {
        self.is_good
    }

    pub fn ours(&mut self, ours: Ours) -> anyhow::Result<()> {
        self.is_good &= told(&mut self.text, self.arguments, &ours);
        let folder = charts(&self.arguments.out)?;
        std::fs::write(folder.join("replicas.svg"), draw(&replicas(&ours)))?;
        let marks = marks(&ours.run);
        for asked in ours.panels {
            let name = format!("{}-{}.svg", asked.dashboard, file_name(&asked.panel.title));
            let mut lines = picture(&asked.panel, &asked.series);
            lines.marks.clone_from(&marks);
            std::fs::write(folder.join(name), draw(&lines))?;
        }
        let budget = Some(f64::from(self.arguments.budget));
        self.what_clients_saw("clients", &ours.run, budget)?;
        self.write()
    }

    /// The charts of `pushbench`.
    fn what_clients_saw(&self, of: &str, run: &Run, budget: Option<f64>) -> anyhow::Result<()> {
        let folder = charts(&self.arguments.out)?;
        for (name, mut lines) in pushbench::charts::of(run, budget) {
            lines.marks = marks(run);
            std::fs::write(folder.join(format!("{of}-{name}.svg")), draw(&lines))?;
        }
        Ok(())
    }

    /// For comparison: it promises nothing.
    pub fn plain(&mut self, plain: &Plain) -> anyhow::Result<()> {
        self.text += "\nWithout the operator, a Deployment:\n\n";
        stages(&mut self.text, &plain.run, std::slice::from_ref(&plain.act));
        self.what_clients_saw("plain", &plain.run, None)?;
        self.write()
    }

    fn write(&self) -> anyhow::Result<()> {
        std::fs::write(self.arguments.out.join("report.md"), &self.text)?;
        eprintln!("{}", self.text);
        Ok(())
    }
}

fn told(text: &mut String, arguments: &Arguments, ours: &Ours) -> bool {
    let _ = writeln!(
        text,
        "{} clients, {} for each gateway, budget {} reconnects a second; Ready {:.1} s after kubectl apply.\n",
        arguments.clients,
        ours.target,
        arguments.budget,
        ours.apply_to_ready.as_secs_f64()
    );
    stages(text, &ours.run, &ours.acts);
    let _ = writeln!(
        text,
        "\n| clients cross | another gateway serves after | and after the autoscaler's tolerance |\n|---|---|---|"
    );
    for (clients, after, tolerated) in crossings(ours) {
        let _ = writeln!(
            text,
            "| {clients} | {} | {} |",
            seconds(after),
            seconds(tolerated)
        );
    }
    let silent = silent(&ours.panels);
    let asked: usize = ours
        .panels
        .iter()
        .map(|asked| asked.panel.queries.len())
        .sum();
    let _ = writeln!(
        text,
        "\n{asked} queries of the dashboards; without series: {}.",
        listed(&silent)
    );
    let alerts: Vec<_> = ours
        .alerts
        .iter()
        .map(|(name, seconds)| format!("{name} ({seconds} s)"))
        .collect();
    let _ = writeln!(text, "Alerts that fired: {}.", listed(&alerts));
    let mut broken = broken(ours, f64::from(arguments.budget));
    broken.extend(
        silent
            .into_iter()
            .map(|query| format!("no series: {query}")),
    );
    broken.extend(ours.problems.iter().cloned());
    let _ = writeln!(text, "\nNot kept: {}.", listed(&broken));
    broken.is_empty()
}

fn listed(names: &[String]) -> String {
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join("; ")
    }
}

fn seconds(after: Option<u64>) -> String {
    after.map_or_else(|| "never".to_owned(), |after| format!("{after} s"))
}

/// Latencies while nothing was done.
fn quiet(run: &Run) -> Second {
    let mut quiet = Second::default();
    for stage in run
        .stages
        .iter()
        .filter(|stage| stage.name.starts_with("quiet"))
    {
        run.of_stage(stage).for_each(|second| quiet.add(second));
    }
    quiet
}

fn stages(text: &mut String, run: &Run, acts: &[Act]) {
    let quiet = quiet(run);
    text.push_str(
        "| | seconds | came back | attempts that failed | a second, at most | over ten seconds | p50 | p99 | ÷ quiet | lost, doubled, reordered, told | \
         clients that came back 0, 1, 2, more times | load |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for stage in &run.stages {
        let of = of_stage(run, stage);
        let load = acts.iter().find(|act| act.name == stage.name);
        let load = load.map_or_else(String::new, |act| {
            format!("{} to {}", act.load_before, act.load_after)
        });
        let [lost, doubled, reordered, told] = of.breaches;
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {lost}, {doubled}, {reordered}, {told} | {} | {load} |",
            stage.name,
            of.seconds,
            of.reconnects,
            of.refused,
            of.peak,
            of.peak_of_ten,
            millis(of.p50_us),
            millis(of.p99_us),
            ratio(of.p99_us, quiet.p99_us)
                .map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}")),
            times(&of.clients_by_reconnects),
        );
    }
    let total = run.total();
    let _ = writeln!(
        text,
        "\nOf the whole run: {} delivered, {} recovered; {} lost, {} doubled, {} reordered, {} losses told; at the end {} absent, {} not \
         heard. Quiet: p50 {}, p99 {}.",
        total.deliveries,
        total.recovered,
        total.lost,
        total.doubled,
        total.reordered,
        total.told,
        run.end.absent,
        run.end.missing,
        millis(quiet.p50_us),
        millis(quiet.p99_us),
    );
}

fn millis(us: Option<u64>) -> String {
    us.map_or_else(
        || "-".to_owned(),
        |us| format!("{:.1} ms", float(us) / 1_000.0),
    )
}

fn ratio(of: Option<u64>, to: Option<u64>) -> Option<f64> {
    Some(float(of?) / float(to?.max(1)))
}

fn times(clients: &BTreeMap<u64, u64>) -> String {
    let of = |times: u64| clients.get(&times).copied().unwrap_or(0);
    let more: u64 = clients.range(3..).map(|(_, clients)| clients).sum();
    format!("{}, {}, {}, {more}", of(0), of(1), of(2))
}

/// Acts in which something that is promised was not kept, in words.
fn broken(ours: &Ours, budget: f64) -> Vec<String> {
    let run = &ours.run;
    let quiet = quiet(run);
    let mut broken = Vec::new();
    for stage in &run.stages {
        let of = of_stage(run, stage);
        let mut say = |what: String| broken.push(format!("{}: {what}", stage.name));
        if of.breaches != [0; 4] {
            say(format!("lost, doubled, reordered, told: {:?}", of.breaches));
        }
        if !ours.acts.iter().any(|act| act.name == stage.name) {
            continue;
        }
        if float(of.peak) > budget * OVER_BUDGET {
            say(format!("{} came back in a second", of.peak));
        }
        let p99 = ratio(of.p99_us, quiet.p99_us);
        if p99.is_none_or(|ratio| ratio > OVER_QUIET) {
            say(format!("p99 {} × that of quiet", p99.unwrap_or(f64::NAN)));
        }
        let more = more_than_once(&of);
        if stage.name == "rollout" && more > 0 {
            say(format!("{more} clients came back more than once"));
        }
    }
    if !run.is_good() {
        broken.push("the record of the clients is not good".to_owned());
    }
    broken
}

fn more_than_once(of: &OfStage) -> u64 {
    of.clients_by_reconnects
        .range(2..)
        .map(|(_, clients)| clients)
        .sum()
}

/// Queries that no series answered.
fn silent(panels: &[Asked]) -> Vec<String> {
    let queries = panels.iter().flat_map(|asked| {
        let answered = asked.panel.queries.iter().zip(&asked.series);
        let silent = answered.filter(|(_, series)| series.is_empty());
        silent.map(|((query, _), _)| format!("{}: `{query}`", asked.panel.title))
    });
    queries.collect()
}

/// How many clients need another gateway, and how long after there were so many one more served; the second time counts
/// from when there were a tenth more, below which a HorizontalPodAutoscaler does nothing.
fn crossings(ours: &Ours) -> Vec<(usize, Option<u64>, Option<u64>)> {
    let most = ours
        .run
        .seconds
        .iter()
        .map(|second| second.connected)
        .max()
        .unwrap_or(0);
    let first_with = |clients: u64| {
        let mut seconds = ours.run.seconds.iter();
        seconds
            .find(|second| second.connected > clients)
            .map(|second| second.unix)
    };
    let target = ours.target as u64;
    let gateways = (1..).take_while(|gateways| gateways * target < most);
    let first = ours.run.seconds.first().map_or(0, |second| second.unix);
    let of_run = || ours.looks.iter().filter(move |look| look.unix >= first);
    let crossing = |gateways: u64| {
        let clients = gateways * target;
        let crossed = first_with(clients)?;
        // By name: while clients are spread, those that give some away are not ready.
        let mut names = BTreeSet::new();
        let served = of_run().find(|look| {
            names.extend(&look.ready);
            names.len() as u64 > gateways
        });
        let served = served.map(|look| look.unix);
        let after = |began: u64| served.map(|served| served.saturating_sub(began));
        let tolerated = first_with(clients + clients / 10).and_then(after);
        Some((usize::try_from(clients).ok()?, after(crossed), tolerated))
    };
    gateways.filter_map(crossing).collect()
}

/// Gateways that there were, beside how many there should be.
fn replicas(ours: &Ours) -> Lines {
    let first = ours.run.seconds.first().map_or(0, |second| second.unix);
    let ideal = ours.run.seconds.iter().map(|second| {
        let gateways = second.connected.div_ceil(ours.target as u64).max(1);
        (float(second.unix - first), Some(float(gateways)))
    });
    let of_looks = |name: &str, value: &dyn Fn(&Look) -> Option<u64>| {
        let looks = ours.looks.iter().filter(|look| look.unix >= first);
        let points = looks.map(|look| (float(look.unix - first), value(look).map(float)));
        Series {
            name: name.to_owned(),
            points: points.collect(),
        }
    };
    Lines {
        title: "Gateways".to_owned(),
        unit: format!("one for {} clients", ours.target),
        series: vec![
            Series {
                name: "clients ÷ target".to_owned(),
                points: ideal.collect(),
            },
            of_looks("wished by autoscaler", &|look| look.wished),
            of_looks("there", &|look| Some(look.pods as u64)),
            of_looks("get new clients", &|look| Some(look.serving as u64)),
        ],
        bound: None,
        marks: marks(&ours.run),
    }
}

/// When each act began.
fn marks(run: &Run) -> Vec<(f64, String)> {
    let first = run.seconds.first().map_or(0, |second| second.unix);
    let is_act = |stage: &&Stage| !stage.name.starts_with("quiet") && stage.name != "settling";
    let stages = run.stages.iter().filter(is_act);
    stages
        .map(|stage| (float(stage.began.saturating_sub(first)), stage.name.clone()))
        .collect()
}

fn file_name(title: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_lowercase()
        } else {
            '-'
        }
    };
    title.chars().map(plain).collect()
}
