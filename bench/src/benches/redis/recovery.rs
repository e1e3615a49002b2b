//! Thousands subscribe at once and want what they missed, against as many that want nothing.

use std::time::Instant;

use anyhow::{Context, ensure};
use serde_json::Value;

use super::{Rig, Row, Stage, connect, rows_of};
use crate::server::Server;

const CLIENTS: usize = 5_000;
/// Each of them.
const MISSED: usize = 50;
const ROUNDS: usize = 3;
const CHANNEL: &str = "kept:r";

pub fn rows(rig: &Rig, stage: &Stage) -> anyhow::Result<Vec<Row>> {
    let server = stage.gateway()?;
    let count = rig.size(CLIENTS);
    let (epoch, offset) = publish(&server)?;
    let recover = format!(
        r#"{{"type":"subscribe","channel":"{CHANNEL}","recover":{{"epoch":{epoch},"offset":{offset}}}}}"#
    );
    let plain = format!(r#"{{"type":"subscribe","channel":"{CHANNEL}"}}"#);
    let (mut times, mut cpus) = (Vec::new(), Vec::new());
    for _ in 0..rig.effort.rounds.min(ROUNDS) {
        let (time, cpu) = subscribe(stage, &server, count, &recover, r#""recovered":true"#)?;
        let (plain_time, plain_cpu) = subscribe(stage, &server, count, &plain, r#""epoch":"#)?;
        times.push((time, plain_time));
        cpus.push((cpu, plain_cpu));
    }
    let against = "without recover";
    rows_of(&[
        ("redis/recovered", against, "milliseconds", times),
        ("redis/recovered-cpu", against, "ms of Redis's CPU", cpus),
    ])
}

/// Messages to be missed; where the log stood before them.
fn publish(server: &Server) -> anyhow::Result<(u64, u64)> {
    let mut client = connect(server, "p")?;
    let mut first = None;
    for _ in 0..=MISSED {
        client.send(&super::publishing::text(CHANNEL))?;
        let answer: Value = serde_json::from_str(&client.text()?)?;
        let number = |key: &str| answer[key].as_u64();
        let at = number("epoch").zip(number("offset"));
        let at = at.with_context(|| answer.to_string())?;
        first.get_or_insert(at);
    }
    first.context("something was published")
}

/// Milliseconds until all are answered, and of Redis's CPU; each at least a hundredth.
fn subscribe(
    stage: &Stage,
    server: &Server,
    count: usize,
    request: &str,
    expected: &str,
) -> anyhow::Result<(f64, f64)> {
    let clients = (0..count).map(|number| connect(server, &format!("r{number}")));
    let mut clients = clients.collect::<anyhow::Result<Vec<_>>>()?;
    let (began, cpu) = (Instant::now(), stage.redis.cpu()?);
    for client in &mut clients {
        client.send(request)?;
    }
    for client in &mut clients {
        let answer = client.text()?;
        ensure!(answer.contains(expected), "{answer}");
    }
    let took = began.elapsed().as_secs_f64() * 1_000.0;
    let cpu = (stage.redis.cpu()? - cpu).as_secs_f64() * 1_000.0;
    Ok((took.max(0.01), cpu.max(0.01)))
}
