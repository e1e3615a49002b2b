//! `kubectl push` beside a cluster that does what it says.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use e2e::cluster::KUBECONFIG;
use e2e::fan_out::publish;
use e2e::gateway::CLIENTS_PORT;
use e2e::namespace::{Namespace, in_namespace};
use e2e::push_client::PushClient;
use e2e::push_cluster::{self, ready_gateways};
use e2e::wait::eventually;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::{NAME, TWO_GATEWAYS, operator_stays, two_gateways};

/// The plugin of this tree. cargo builds it when it is not there or older than its sources.
async fn program() -> Result<PathBuf> {
    let profile = Path::new(env!("CARGO_BIN_EXE_push-demo")).parent();
    let profile = profile.context("a program lies in a folder")?;
    let mut cargo = Command::new(std::env::var_os("CARGO").context("cargo runs this")?);
    cargo
        .args(["build", "--locked", "--package", "kubectl-push"])
        .arg("--target-dir")
        .arg(profile.parent().context("a folder")?);
    let built = tokio::task::spawn_blocking(move || cargo.status()).await??;
    ensure!(built.success(), "build kubectl-push");
    Ok(profile.join("kubectl-push"))
}

/// What it printed, on both outputs, and whether it was content.
struct Said {
    text: String,
    content: bool,
}

impl Said {
    fn has(&self, part: &str) -> Result<()> {
        ensure!(
            self.text.contains(part),
            "{part:?} is not in\n{}",
            self.text
        );
        Ok(())
    }
}

/// `kubectl push ARGUMENTS` in the namespace.
fn command(program: &Path, namespace: &Namespace, arguments: &[&str]) -> Result<Command> {
    let kubeconfig = std::env::var_os(KUBECONFIG).context(KUBECONFIG)?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .args(["--namespace", &namespace.name, "--kubeconfig"])
        .arg(kubeconfig)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Ok(command)
}

/// The same until it ends, with `input` on its standard input.
async fn push(
    program: &Path,
    namespace: &Namespace,
    arguments: &[&str],
    input: &str,
) -> Result<Said> {
    let mut command = command(program, namespace, arguments)?;
    let input = input.to_owned();
    let output = tokio::task::spawn_blocking(move || {
        let mut process = command.spawn()?;
        if let Some(mut stdin) = process.stdin.take() {
            // What reads nothing closes the pipe.
            let _ = stdin.write_all(input.as_bytes());
        }
        process.wait_with_output()
    })
    .await?
    .context("run kubectl-push")?;
    let text =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    Ok(Said {
        text: text.concat(),
        content: output.status.success(),
    })
}

async fn generation(namespace: &Namespace) -> Result<Option<i64>> {
    let found = push_cluster::api(&namespace.cluster, &namespace.name)
        .get(NAME)
        .await?;
    Ok(found.metadata.generation)
}

#[tokio::test]
async fn a_plan_says_what_the_operator_then_does() {
    let _guard = operator_stays().await;
    let program = program().await.unwrap();
    in_namespace("plan", async |namespace| {
        let plan = async |manifest: &str| push(&program, &namespace, &["plan", "-f", "-"], manifest).await;
        let before = plan(TWO_GATEWAYS).await?;
        before.has(" to create, 0 to change, 0 to delete, 0 to leave alone")?;
        before.has("+ StatefulSet demo-redis")?;

        two_gateways(&namespace).await?;
        let settled = plan(TWO_GATEWAYS).await?;
        settled.has("0 to create, 0 to change, 0 to delete, ")?;
        settled.has("No gateway would be restarted.")?;

        let smaller = format!("{TWO_GATEWAYS}  gateway: {{limits: {{maxConnections: 20}}}}\n  autoscaling: {{enabled: false}}\n");
        let at_rest = generation(&namespace).await?;
        let planned = plan(&smaller).await?;
        for part in [
            "~ ConfigMap demo-config",
            "+   maxConnections: 20",
            "- HorizontalPodAutoscaler demo",
        ] {
            planned.has(part)?;
        }
        ensure!(generation(&namespace).await? == at_rest, "planning wrote");

        let wrong = plan(&smaller.replace("maxConnections", "maxConnection")).await?;
        wrong.has("spec.gateway.limits.maxConnection is no field of a PushCluster")?;
        ensure!(!wrong.content, "a wrong manifest is taken: {}", wrong.text);
        let switched = format!("{TWO_GATEWAYS}  redis: {{mode: Sentinel}}\n");
        let wrong = plan(&switched).await?;
        wrong.has("spec.redis.mode cannot be changed")?;
        ensure!(!wrong.content, "a wrong manifest is taken: {}", wrong.text);

        namespace.cluster.apply(&namespace.name, &smaller).await?;
        push_cluster::until_ready(&namespace.cluster, &namespace.name, NAME).await?;
        eventually("nothing is left of the plan", push_cluster::BECOMES_READY, async || {
            let left = push(&program, &namespace, &["plan", NAME], "").await?;
            left.has("0 to create, 0 to change, 0 to delete, ")
        })
        .await?;

        let key = push_cluster::api_key(&namespace.cluster, &namespace.name, NAME).await?;
        let said = [before, settled, planned].map(|said| said.text).concat();
        ensure!(!said.contains(&key), "the API key is in\n{said}");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn daily_work_reaches_gateways_through_the_api_server() {
    let _guard = operator_stays().await;
    let program = program().await.unwrap();
    in_namespace("daily", async |namespace| {
        two_gateways(&namespace).await?;
        let (cluster, name) = (&namespace.cluster, &namespace.name);
        let key = push_cluster::api_key(cluster, name, NAME).await?;
        let gateways = ready_gateways(cluster, name, NAME).await?;
        let [tapped, other] = gateways.as_slice() else {
            bail!("{} gateways are ready", gateways.len());
        };

        let arguments = ["tap", "news", "--pod", &tapped.pod, "--count", "2"];
        let mut tap = command(&program, &namespace, &arguments)?.spawn()?;
        let notes = tap.stderr.take().context("a pipe")?;
        let subscribed = first_line(notes).await?;
        ensure!(subscribed.starts_with("subscribed to news"), "{subscribed}");
        let status = push(&program, &namespace, &["status"], "").await?;
        for part in ["Ready", "1 clients on 2 gateways", "demo-redis-0", "master"] {
            status.has(part)?;
        }
        for number in [1, 2] {
            publish(other, &key, "news", &json!({"number": number})).await?;
        }
        let heard = tokio::task::spawn_blocking(move || tap.wait_with_output()).await??;
        let lines = String::from_utf8(heard.stdout)?;
        ensure!(heard.status.success(), "tap did not end well: {lines}");
        let numbers: Vec<Value> = lines
            .lines()
            .map(|line| Ok(serde_json::from_str::<Value>(line)?["message"]["number"].clone()))
            .collect::<Result<_>>()?;
        ensure!(numbers == [1, 2], "tap heard\n{lines}");

        let drain =
            async |more: &str| push(&program, &namespace, &["drain", &tapped.pod, more], "").await;
        drain("--no-wait").await?.has(": draining, ")?;
        push(&program, &namespace, &["status", NAME], "")
            .await?
            .has("draining")?;
        drain("--back").await?.has("takes clients")?;
        let redis = push(&program, &namespace, &["drain", "demo-redis-0"], "").await?;
        redis.has("pod demo-redis-0 is no gateway")?;
        ensure!(!redis.content, "a Redis is drained: {}", redis.text);

        let all = [status.text, lines].concat();
        ensure!(!all.contains(&key), "the API key is in\n{all}");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn clients_of_a_full_gateway_are_spread() {
    let _guard = operator_stays().await;
    let program = program().await.unwrap();
    in_namespace("rebalance", async |namespace| {
        two_gateways(&namespace).await?;
        let (cluster, name) = (&namespace.cluster, &namespace.name);
        let gateways = ready_gateways(cluster, name, NAME).await?;
        let full = gateways.first().context("no gateway is ready")?;
        let mut clients = JoinSet::new();
        for _ in 0..8 {
            let mut client = PushClient::connect(full.stream(CLIENTS_PORT).await?).await?;
            // One that does not read would not hear that it is to go.
            clients.spawn(async move { while client.next().await.is_ok() {} });
        }
        let rebalance = ["rebalance", "--per-second", "2"];
        let said = push(&program, &namespace, &rebalance, "").await?;
        said.has(&format!("{}: 8 clients, down to 4", full.pod))?;
        said.has(&format!("{}: takes clients, and has", full.pod))?;
        let gone = clients.len();
        while clients.try_join_next().is_some() {}
        let stayed = clients.len();
        ensure!((2..=4).contains(&stayed), "{stayed} of {gone} stayed");
        Ok(())
    })
    .await;
}

async fn first_line(pipe: impl Read + Send + 'static) -> Result<String> {
    let line = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        BufReader::new(pipe).read_line(&mut line).map(|_| line)
    });
    Ok(timeout(push_cluster::BECOMES_READY, line)
        .await
        .context("it says nothing")???)
}
