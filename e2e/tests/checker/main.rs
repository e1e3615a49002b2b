//! The checker against real gateways on a real Redis in each of its forms, while they are killed, frozen and cut off.
//!
//! `make checker ROUNDS=20 SEED=7 FAULT=Pause` runs it longer; without them, one short round of each fault with a new
//! seed. The seed that is printed decides who does what, not when: a schedule of processes cannot be replayed.

#![expect(
    clippy::print_stderr,
    reason = "cargo shows what a test prints when it fails"
)]

mod faults;
mod forms;
mod namespace;
mod path;
mod programs;
mod report;
mod toxiproxy;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e::checker::judge;
use e2e::checker::run::{Cast, run};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use faults::{Fault, Stage};
use forms::Form;
use report::Report;

const CAST: Cast = Cast {
    publishers: 2,
    posters: 2,
    roaming: 4,
    staying: faults::GATEWAYS,
    seed: 0,
};

/// Without `CHECKER_ROUNDS`: a busy machine leaves something out, another time something else.
const SHORT: Duration = Duration::from_secs(90);

#[test]
fn one_redis() -> Result<()> {
    check("one_redis", Form::Standalone)
}

#[test]
fn sentinels() -> Result<()> {
    check("sentinels", Form::Sentinel)
}

#[test]
fn cluster() -> Result<()> {
    check("cluster", Form::Cluster)
}

/// What is played.
struct Plan {
    form: Form,
    faults: Vec<Fault>,
    rounds: u64,
    seed: u64,
    /// No fault begins after that.
    limit: Duration,
}

/// Every subscriber hears all once and in order, or is told.
fn check(test: &str, form: Form) -> Result<()> {
    if !namespace::is_inside() && namespace::entered(test)? {
        return Ok(());
    }
    let rounds = number("CHECKER_ROUNDS")?;
    let wanted = std::env::var("CHECKER_FAULT").unwrap_or_default();
    let mut faults = Fault::all(form, rounds.is_some());
    faults.retain(|fault| format!("{fault:?}").contains(&wanted));
    let plan = Plan {
        form,
        faults,
        rounds: rounds.unwrap_or(1),
        seed: number("CHECKER_SEED")?.unwrap_or_else(|| rand::rng().random()),
        limit: if rounds.is_some() {
            Duration::MAX
        } else {
            SHORT
        },
    };
    let what = format!("CHECKER_SEED={} CHECKER_ROUNDS={}", plan.seed, plan.rounds);
    eprintln!("{form:?}: {what}");
    let mut report = Report::default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let played = runtime.block_on(play(&plan, &mut report));
    eprintln!("{form:?}, {what}:\n{}", report.table());
    let breaches = report.breaches();
    ensure!(breaches == 0, "{breaches} breaches, then {played:?}");
    played
}

async fn play(plan: &Plan, report: &mut Report) -> Result<()> {
    let begin = Instant::now();
    let mut stage = Stage::new(plan.form).await?;
    for round in 0..plan.rounds {
        let seed = plan.seed.wrapping_add(round);
        let mut random = StdRng::seed_from_u64(seed);
        let mut order = plan.faults.clone();
        order.shuffle(&mut random);
        for fault in order {
            let name = format!("{:?} {fault:?} (seed {seed})", plan.form);
            if begin.elapsed() > plan.limit {
                eprintln!("{name}: left out, this machine is busy");
                continue;
            }
            let channel = format!("kept:{round}:{fault:?}");
            let fleet = stage.fleet.clone();
            let cast = Cast { seed, ..CAST };
            let mut back = None;
            let suffering = async {
                back = Some(stage.suffer(fault, &channel, &mut random).await?);
                Ok(())
            };
            let played = run(&channel, &fleet, cast, suffering).await;
            let mut played = played.with_context(|| name.clone())?;
            played.log_survives = fault.log_survives(plan.form);
            let breaches = judge(&played);
            let line = report.add(&format!("{fault:?}"), &played, back, &breaches);
            eprintln!("{name}: {line}");
            stage.mend().await.with_context(|| name)?;
        }
    }
    Ok(())
}

fn number(name: &str) -> Result<Option<u64>> {
    let Ok(text) = std::env::var(name) else {
        return Ok(None);
    };
    let number = text.parse().with_context(|| format!("{name}={text}"))?;
    Ok(Some(number))
}
