//! A load of clients that behave as real ones do, against any cluster of gateways: what a ramp, a rollout, a scale-in or
//! a node drain does to them. Every delivery is judged.

use std::process::ExitCode;

use clap::Parser;

mod arguments;
pub mod charts;
mod client;
mod comeback;
mod dialect;
mod histogram;
mod judge;
mod link;
mod profile;
mod publisher;
pub mod record;
pub mod records;
mod run;
mod socketio;
mod spoken;
mod stage;
mod stream;
mod swarm;
pub mod table;
mod tokens;

use arguments::{Arguments, Command};

/// The program.
pub fn main() -> anyhow::Result<ExitCode> {
    match Arguments::parse().command {
        Command::Run(load) => run::run(&load),
        Command::Plot(plot) => records::plot(&plot),
    }
}
