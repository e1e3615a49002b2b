//! The same clients and the same image without the operator: a Deployment that rolls.

use anyhow::Context;

use super::load::Load;
use super::report::{Act, Plain};
use super::{Arguments, PATIENCE, QUIET, fresh, load_average, say};

/// Of the manifests' Deployment and Service.
const NAME: &str = "plain";
const DEPLOYMENT: &str = "deployment/plain";
/// Of the API, in the manifests.
const KEY: &str = "of-the-comparison-only";

pub fn run(arguments: &Arguments) -> anyhow::Result<Plain> {
    let kube = fresh(arguments, "ramp-plain")?;
    let manifests = include_str!("plain.yaml")
        .replace("GATEWAY_IMAGE", &arguments.gateway_image)
        .replace("REDIS_IMAGE", &arguments.redis_image);
    kube.apply(&manifests)?;
    kube.run(&["rollout", "status", DEPLOYMENT, "--timeout=5m"])?;
    let service = "jsonpath={.spec.clusterIP}:{.spec.ports[0].port}";
    let to = kube.run(&["get", "service", NAME, "-o", service])?;
    say("the clients come to a Deployment without the operator");
    let load = Load::start(arguments, NAME, &to, KEY)?;
    let coming = (arguments.clients / arguments.rate) as u64;
    load.until_all_are_there(arguments.clients, coming * 2 + PATIENCE)?;
    load.stage("quiet 1")?;
    std::thread::park_timeout(QUIET);
    load.stage("plain rollout")?;
    say("rollout without the operator");
    let load_before = load_average();
    kube.run(&["rollout", "restart", DEPLOYMENT])?;
    kube.run(&["rollout", "status", DEPLOYMENT, "--timeout=10m"])?;
    // The last old ones still end.
    let pods = "jsonpath={.items[?(@.metadata.deletionTimestamp)].metadata.name}";
    let began = std::time::Instant::now();
    while !kube
        .run(&["get", "pods", "-l", "app=plain", "-o", pods])?
        .is_empty()
    {
        std::thread::park_timeout(std::time::Duration::from_secs(2));
        anyhow::ensure!(began.elapsed().as_secs() < PATIENCE, "old pods do not end");
    }
    load.until_all_are_there(arguments.clients, PATIENCE)?;
    let act = Act {
        name: "plain rollout".to_owned(),
        load_before,
        load_after: load_average(),
    };
    load.stage("quiet 2")?;
    std::thread::park_timeout(QUIET);
    load.stage("")?;
    let folder = load.folder();
    let (run, _) = load
        .finish(&folder)
        .context("the clients of the plain Deployment")?;
    kube.run(&["delete", "namespace", &kube.namespace, "--wait=false"])?;
    Ok(Plain { run, act })
}
