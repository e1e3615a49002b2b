//! Publishes a second through one gateway, each answered, against `redis-benchmark` with the same command: as it comes (50
//! connections that wait for each answer), and from as many connections as ours with as many under way on each.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::{BYTES, Rig, Row, SLICES, Stage, alternate, connect, rows_of};
use crate::opening::Opening;
use crate::server::Server;
use crate::wire;

const CONNECTIONS: usize = 8;
/// On each connection.
const UNDER_WAY: usize = 64;
const UNIT: &str = "publishes a second";
/// What `redis-benchmark` sends in a round.
const BENCHMARK: usize = 50_000;

pub fn rows(rig: &Rig, stage: &Stage) -> anyhow::Result<Vec<Row>> {
    let server = stage.gateway()?;
    let mut rows = Vec::new();
    for (name, channel) in [("redis/publish-kept", "kept:p"), ("redis/publish", "p")] {
        let command = seen(stage, &server, channel)?;
        for (against, load) in [
            ("redis-benchmark", [50, 1]),
            ("its pipelines", [CONNECTIONS, UNDER_WAY]),
        ] {
            let pairs = alternate(
                rig.effort.rounds,
                || ours(&server, channel, rig.effort.slice * SLICES),
                || theirs(rig, stage, load, &command),
            )?;
            rows.extend(rows_of(&[(name, against, UNIT, pairs)])?);
        }
    }
    Ok(rows)
}

pub fn text(channel: &str) -> String {
    let data = "x".repeat(BYTES / 2);
    format!(r#"{{"type":"chat","id":1,"channel":"{channel}","message":"{data}"}}"#)
}

/// What the gateway tells Redis to publish a message.
fn seen(stage: &Stage, server: &Server, channel: &str) -> anyhow::Result<Vec<String>> {
    let end = format!("channel:{channel}");
    command_of(stage, server, &text(channel), |words| {
        words.iter().any(|word| word.ends_with(&end))
    })
}

/// The first such command that the gateway gives Redis for a request of a client's, a script or a publish, word by word.
pub fn command_of(
    stage: &Stage,
    server: &Server,
    request: &str,
    is_it: impl Fn(&[String]) -> bool,
) -> anyhow::Result<Vec<String>> {
    let mut monitor = stage.redis.connect()?;
    monitor.ask(&["MONITOR"])?;
    let mut client = connect(server, "seen")?;
    client.send(request)?;
    loop {
        // `+<time> [<database> <address>] "word" …`; what a script does comes from `lua`.
        let line = monitor.line()?;
        let words = line.split_once("] ").map(|(_, words)| unquoted(words));
        let words = words.unwrap_or_default();
        let kind = words.first().map(|word| word.to_lowercase());
        let is_ours = matches!(kind.as_deref(), Some("eval" | "publish"));
        if is_ours && !line.contains(" lua] ") && is_it(&words) {
            return Ok(words);
        }
    }
}

/// The words of a line of `MONITOR`: quoted, with escapes as C has them.
fn unquoted(line: &str) -> Vec<String> {
    let (mut words, mut word, mut inside) = (Vec::new(), String::new(), false);
    let mut rest = line.chars();
    while let Some(letter) = rest.next() {
        match letter {
            '"' if inside => {
                words.push(std::mem::take(&mut word));
                inside = false;
            }
            '"' => inside = true,
            '\\' => word.push(match rest.next() {
                Some('n') => '\n',
                Some('r') => '\r',
                Some('t') => '\t',
                Some(other) => other,
                None => break,
            }),
            _ if inside => word.push(letter),
            _ => {}
        }
    }
    words
}

fn ours(server: &Server, channel: &str, slice: Duration) -> anyhow::Result<f64> {
    let text = text(channel);
    let clients = (0..CONNECTIONS).map(|number| connect(server, &format!("p{number}")));
    let clients = clients.collect::<anyhow::Result<Vec<_>>>()?;
    let began = Instant::now();
    let published = std::thread::scope(|scope| {
        let running: Vec<_> = clients
            .into_iter()
            .map(|client| scope.spawn(|| publish(client, &text, slice)))
            .collect();
        let ended = running.into_iter().map(|thread| {
            let published = thread.join();
            published.unwrap_or_else(|_| Err(anyhow::anyhow!("a publisher panicked")))
        });
        ended.sum::<anyhow::Result<u32>>()
    })?;
    Ok(f64::from(published) / began.elapsed().as_secs_f64())
}

fn publish(mut client: Opening, text: &str, slice: Duration) -> anyhow::Result<u32> {
    // Made once, as `redis-benchmark` makes its commands.
    let mut frames = Vec::new();
    for _ in 0..UNDER_WAY {
        wire::push_masked(wire::TEXT, text.as_bytes(), &mut frames);
    }
    let published = br#""published""#;
    let (began, mut count, mut refused) = (Instant::now(), 0, None);
    while count == 0 || began.elapsed() < slice {
        client.send_frames(&frames)?;
        client.texts(UNDER_WAY, |answer| {
            count += 1;
            let mut words = answer.windows(published.len());
            if !words.any(|word| word == published) {
                refused = Some(String::from_utf8_lossy(answer).into_owned());
            }
        })?;
        ensure!(refused.is_none(), "{refused:?}");
    }
    Ok(count)
}

fn theirs(rig: &Rig, stage: &Stage, load: [usize; 2], command: &[String]) -> anyhow::Result<f64> {
    let count = if rig.effort.tiny { 1_000 } else { BENCHMARK };
    benchmark(stage, count, load, command)
}

/// How many of so many a second `redis-benchmark` does, from so many connections, with so many under way on each.
pub fn benchmark(
    stage: &Stage,
    count: usize,
    load: [usize; 2],
    command: &[String],
) -> anyhow::Result<f64> {
    let [connections, under_way] = load.map(|number| number.to_string());
    let ran = Command::new("redis-benchmark")
        .args(["-p", &stage.redis.port.to_string(), "--csv"])
        .args(["-n", &count.to_string(), "-c", &connections])
        .args(["-P", &under_way])
        .args(command)
        .output()?;
    let said = String::from_utf8_lossy(&ran.stdout);
    // The name is the command, whatever is in it; seven figures follow, the first is the rate.
    let last = said.trim_end().rsplit(',').nth(6);
    let rate = last.and_then(|figure| figure.trim_matches('"').parse().ok());
    rate.with_context(|| format!("redis-benchmark says {said} {ran:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_monitor_are_as_they_were_sent() {
        for (line, expected) in [
            (r#""PING""#, &["PING"][..]),
            (r#""eval" "a\nb" "2""#, &["eval", "a\nb", "2"]),
            (r#""{\"a\":\"b\\\"\"}" """#, &[r#"{"a":"b\""}"#, ""]),
        ] {
            assert_eq!(unquoted(line), expected, "{line}");
        }
    }
}
