//! Thousands come back at once, each from another place, and want what they missed; against as many that want nothing,
//! and against what the log costs when each of them reads it: the gateway's own command, as often, from `redis-benchmark`.

use std::time::Instant;

use anyhow::{Context, ensure};
use serde_json::Value;

use super::publishing::{benchmark, command_of, text};
use super::{Rig, Row, Stage, connect, rows_of};
use crate::server::Server;

const CLIENTS: usize = 5_000;
/// By who has missed most; the others are spread evenly from there to who has missed one.
const MISSED: usize = 50;
const ROUNDS: usize = 3;
const CHANNEL: &str = "kept:r";
/// Of `redis-benchmark`, as it comes: each waits for its answer.
const BENCHMARK: [usize; 2] = [50, 1];

/// Milliseconds: of the clock, and of Redis's CPU.
type Cost = (f64, f64);

pub fn rows(rig: &Rig, stage: &Stage) -> anyhow::Result<Vec<Row>> {
    let server = stage.gateway()?;
    let count = rig.size(CLIENTS);
    let first = publish(&server)?;
    let recover = |number: usize| recover(first, number % MISSED);
    let plain = |_| format!(r#"{{"type":"subscribe","channel":"{CHANNEL}"}}"#);
    let read = read(stage, &server, first)?;
    let mut pairs: [Vec<_>; 4] = Default::default();
    for _ in 0..rig.effort.rounds.min(ROUNDS) {
        let ours = subscribe(stage, &server, count, recover, r#""recovered":true"#)?;
        let without = subscribe(stage, &server, count, plain, r#""epoch":"#)?;
        let alone = cost(stage, || {
            let rate = benchmark(stage, count, BENCHMARK, &read)?;
            #[expect(clippy::cast_precision_loss, reason = "thousands")]
            let count = count as f64;
            Ok(count / rate * 1_000.0)
        })?;
        for (place, theirs) in [without, alone].into_iter().enumerate() {
            pairs[2 * place].push((ours.0, theirs.0));
            pairs[2 * place + 1].push((ours.1, theirs.1));
        }
    }
    let [time, cpu, own_time, own_cpu] = pairs;
    let (without, own) = ("without recover", "reads of their own");
    let (ms, of_cpu) = ("milliseconds", "ms of Redis's CPU");
    rows_of(&[
        ("redis/recovered", without, ms, time),
        ("redis/recovered", own, ms, own_time),
        ("redis/recovered-cpu", without, of_cpu, cpu),
        ("redis/recovered-cpu", own, of_cpu, own_cpu),
    ])
}

/// By who had heard so many after the first message.
fn recover((epoch, offset): (u64, u64), heard: usize) -> String {
    let offset = offset + heard as u64;
    format!(
        r#"{{"type":"subscribe","channel":"{CHANNEL}","recover":{{"epoch":{epoch},"offset":{offset}}}}}"#
    )
}

/// The command that reads the log for a client that has missed as much as they all do on average.
fn read(
    stage: &Stage,
    server: &Server,
    (epoch, offset): (u64, u64),
) -> anyhow::Result<Vec<String>> {
    let heard = MISSED / 2;
    let since = [epoch, offset + heard as u64].map(|number| number.to_string());
    let request = recover((epoch, offset), heard);
    command_of(stage, server, &request, |words| {
        words.windows(2).any(|two| two == since)
    })
}

/// Messages to be missed; where the log stood before them.
fn publish(server: &Server) -> anyhow::Result<(u64, u64)> {
    let mut client = connect(server, "p")?;
    let mut first = None;
    for _ in 0..=MISSED {
        client.send(&text(CHANNEL))?;
        let answer: Value = serde_json::from_str(&client.text()?)?;
        let number = |key: &str| answer[key].as_u64();
        let at = number("epoch").zip(number("offset"));
        let at = at.with_context(|| answer.to_string())?;
        first.get_or_insert(at);
    }
    first.context("something was published")
}

/// Until all are answered.
fn subscribe(
    stage: &Stage,
    server: &Server,
    count: usize,
    request: impl Fn(usize) -> String,
    expected: &str,
) -> anyhow::Result<Cost> {
    let clients = (0..count).map(|number| connect(server, &format!("r{number}")));
    let mut clients = clients.collect::<anyhow::Result<Vec<_>>>()?;
    let requests: Vec<_> = (0..count).map(request).collect();
    cost(stage, || {
        let began = Instant::now();
        for (client, request) in clients.iter_mut().zip(&requests) {
            client.send(request)?;
        }
        for client in &mut clients {
            let answer = client.text()?;
            ensure!(answer.contains(expected), "{answer}");
        }
        Ok(began.elapsed().as_secs_f64() * 1_000.0)
    })
}

/// What something that says how long it took has cost; each at least a hundredth.
fn cost(stage: &Stage, work: impl FnOnce() -> anyhow::Result<f64>) -> anyhow::Result<Cost> {
    let before = stage.redis.cpu()?;
    let took = work()?;
    let cpu = (stage.redis.cpu()? - before).as_secs_f64() * 1_000.0;
    Ok((took.max(0.01), cpu.max(0.01)))
}
