//! The gateway's command line.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use daemon::signals::Shutdown;
use gateway::app::App;
use gateway::config::{self, Origin, Settings, Sources};
use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Read by jemalloc before `main` (`malloc_conf` in jemalloc(3)). A thread keeps pieces of up to 1 KiB for itself instead
/// of 32 KiB: what is allocated for each message is smaller, and what threads keep is 0.4 MB less.
#[expect(unsafe_code, reason = "jemalloc finds its settings by this name")]
// SAFETY: nothing else has this name, and jemalloc takes it for a pointer to a C string, which a reference to one is.
#[unsafe(export_name = "_rjem_malloc_conf")]
#[used]
static SETTINGS: &[u8; 16] = b"tcache_max:1024\0";

/// The PushCluster WebSocket gateway. Without a command it serves.
#[derive(Parser)]
#[command(name = "gateway", version = daemon::version(), args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(flatten)]
    sources: Sources,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Explain every mistake in a configuration file
    Check { file: PathBuf },
    /// Print the whole configuration that serving with the same flags would use
    Config {
        #[command(flatten)]
        sources: Sources,
    },
}

/// A configuration that cannot be used; nothing was bound or connected.
const BAD_CONFIG: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Some(Command::Check { file }) => check(&file),
        Some(Command::Config { sources }) => match config::load(&sources, std::env::vars()) {
            Ok(config) => say(config.to_yaml().trim_end(), ExitCode::SUCCESS),
            Err(e) => complain(&e, BAD_CONFIG),
        },
        None => match prepare(cli.sources) {
            Ok(settings) => serve(settings),
            Err(e) => complain(&e, BAD_CONFIG),
        },
    }
}

fn prepare(sources: Sources) -> anyhow::Result<Settings> {
    let environment: Vec<_> = std::env::vars().collect();
    let config = config::load(&sources, environment.clone())?;
    let logs = daemon::logs::init(&config.log.filter, config::log_format(&config))
        .map_err(|e| anyhow::anyhow!("log.filter: {e}"))?;
    let origin = Origin {
        sources,
        environment,
        logs,
    };
    Ok(Settings {
        origin: Some(origin),
        ..Settings::prepare(config)?
    })
}

#[tokio::main]
async fn serve(settings: Settings) -> ExitCode {
    let run = async {
        let shutdown = Shutdown::on_signals()?;
        App::build(settings, shutdown).await?.run().await;
        anyhow::Ok(())
    };
    match run.await {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => complain(&e, 1),
    }
}

fn check(file: &Path) -> ExitCode {
    match config::check(file) {
        Ok(config) => {
            let mut text = format!("{} is good", file.display());
            for (key, value) in config.differences() {
                text.push_str(&format!("\n  {key}: {value}"));
            }
            say(&text, ExitCode::SUCCESS)
        }
        Err(e) => complain(&e, 1),
    }
}

#[expect(
    clippy::print_stdout,
    reason = "what a command prints is its result, not a log"
)]
fn say(text: &str, code: ExitCode) -> ExitCode {
    println!("{text}");
    code
}

/// Errors go to standard error as they are: a line for each, which begins with where and what.
fn complain(error: &impl std::fmt::Display, code: u8) -> ExitCode {
    eprintln!("{error:#}");
    ExitCode::from(code)
}
