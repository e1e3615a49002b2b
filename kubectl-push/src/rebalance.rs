//! Clients of the fullest gateways sent to the others: one gateway after the other, so that all the rest takes who comes back.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use http::Method;
use kube::ResourceExt;
use serde_json::json;
use tokio::time::interval;

use crate::cluster::Cluster;
use crate::drain::{ask, told};

/// Between two looks at how many are left.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);

#[derive(Args)]
pub struct Rebalance {
    /// The PushCluster. Default: the only one.
    name: Option<String>,
    /// Clients that are told to reconnect each second.
    #[arg(long, default_value_t = 100)]
    per_second: u32,
    /// A gateway may have so many percent more clients than there are on average.
    #[arg(long, default_value_t = 10)]
    tolerance: u32,
    /// Only say what would be done.
    #[arg(long)]
    dry_run: bool,
}

/// A gateway that gives clients away.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Shed {
    pod: String,
    clients: u64,
    down_to: u64,
}

pub async fn rebalance(cluster: &Cluster, asked: &Rebalance, out: &mut impl Write) -> Result<()> {
    let found = cluster.one(asked.name.as_deref()).await?;
    let key = cluster.key(&found.name_any(), "api-key").await?;
    let seen = cluster.seen(found).await?;
    let mut gateways = Vec::new();
    for (pod, gateway) in &seen.gateways {
        match gateway {
            Ok(gateway) if gateway.draining => bail!("pod {} is draining", pod.name_any()),
            Ok(gateway) => gateways.push((pod.name_any(), gateway.clients)),
            Err(why) => writeln!(out, "{}: not counted: {why}", pod.name_any())?,
        }
    }
    let sheds = sheds(&gateways, asked.tolerance);
    if sheds.is_empty() {
        writeln!(out, "no gateway has too many clients")?;
    }
    for shed in sheds {
        let Shed {
            pod,
            clients,
            down_to,
        } = &shed;
        writeln!(out, "{pod}: {clients} clients, down to {down_to}")?;
        if asked.dry_run {
            continue;
        }
        let wish = json!({"connectionsPerSecond": asked.per_second.max(1), "downTo": down_to});
        let mut stands = ask(cluster, pod, &key, (Method::POST, wish.to_string())).await?;
        let mut looks = interval(BETWEEN_LOOKS);
        looks.tick().await;
        while stands["draining"] == true {
            looks.tick().await;
            stands = ask(cluster, pod, &key, (Method::GET, String::new())).await?;
            writeln!(out, "{pod}: {}", told(&stands)).context("writing to the terminal failed")?;
        }
    }
    Ok(())
}

/// Those that have more than the tolerance allows, the fullest first.
fn sheds(gateways: &[(String, u64)], tolerance_percent: u32) -> Vec<Shed> {
    let total: u64 = gateways.iter().map(|(_, clients)| clients).sum();
    let average = total.div_ceil((gateways.len() as u64).max(1));
    let most = average + average * u64::from(tolerance_percent) / 100;
    let too_full = gateways.iter().filter(|(_, clients)| *clients > most);
    let mut sheds: Vec<Shed> = too_full
        .map(|(pod, clients)| Shed {
            pod: pod.clone(),
            clients: *clients,
            down_to: average,
        })
        .collect();
    sheds.sort_by_key(|shed| std::cmp::Reverse(shed.clients));
    sheds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_too_many_goes_down_to_the_average() {
        for (clients, tolerance, expected) in [
            (vec![], 10, vec![]),
            (vec![0, 0], 10, vec![]),
            (vec![100, 110], 10, vec![]),
            (vec![100, 140], 10, vec![(1, 120)]),
            (vec![100, 140], 0, vec![(1, 120)]),
            (vec![0, 20, 40], 10, vec![(2, 20)]),
            (vec![50, 70, 0], 10, vec![(1, 40), (0, 40)]),
            (vec![1, 0], 10, vec![]),
        ] {
            let names = clients.iter().enumerate();
            let gateways: Vec<_> = names.map(|(n, c)| (n.to_string(), *c)).collect();
            let sheds: Vec<_> = sheds(&gateways, tolerance)
                .into_iter()
                .map(|shed| (shed.pod.parse().unwrap(), shed.down_to))
                .collect();
            assert_eq!(sheds, expected, "{clients:?}");
        }
    }
}
