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
    staying: 3,
    seed: 0,
};

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

/// Every subscriber hears all once and in order, or is told.
fn check(test: &str, form: Form) -> Result<()> {
    if !namespace::is_inside() && namespace::entered(test)? {
        return Ok(());
    }
    let rounds = number("CHECKER_ROUNDS")?;
    let seed = number("CHECKER_SEED")?.unwrap_or_else(|| rand::rng().random());
    let wanted = std::env::var("CHECKER_FAULT").unwrap_or_default();
    let mut faults = Fault::all(form, rounds.is_some());
    faults.retain(|fault| format!("{fault:?}").contains(&wanted));
    let rounds = rounds.unwrap_or(1);
    eprintln!("{form:?}: CHECKER_SEED={seed} CHECKER_ROUNDS={rounds}");
    let mut report = Report::default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let played = runtime.block_on(play(form, &faults, rounds, seed, &mut report));
    eprintln!(
        "{form:?}, {rounds} rounds from seed {seed}:\n{}",
        report.table()
    );
    let breaches = report.breaches();
    ensure!(breaches.is_empty(), "{breaches}then {played:?}");
    played
}

async fn play(
    form: Form,
    faults: &[Fault],
    rounds: u64,
    seed: u64,
    report: &mut Report,
) -> Result<()> {
    let mut stage = Stage::new(form).await?;
    for round in 0..rounds {
        let seed = seed.wrapping_add(round);
        let mut random = StdRng::seed_from_u64(seed);
        let mut order = faults.to_vec();
        order.shuffle(&mut random);
        for fault in order {
            let name = format!("{fault:?}");
            let channel = format!("kept:{round}:{name}");
            let fleet = stage.fleet.clone();
            let cast = Cast { seed, ..CAST };
            let mut healed = None;
            let suffering = async {
                healed = Some(stage.suffer(fault, &channel, &mut random).await?);
                Ok(())
            };
            let mut played = run(&channel, &fleet, cast, suffering)
                .await
                .with_context(|| format!("{form:?} {name}, seed {seed}"))?;
            played.channel.log_survives = fault.log_survives(form);
            let back = healed.and_then(|healed| played.back_after(healed));
            let breaches = judge(&played.channel);
            let line = report.add(&name, &played, back, &breaches);
            eprintln!("{form:?} {name} (seed {seed}): {line}");
            stage.whole().await?;
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
