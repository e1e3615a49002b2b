//! The gateway as an echo server, for conformance suites: the same program in all but what a message means.
//! Everything on the way is the product's: accepting, the handshake, the frame codec, the shard, its outbox.
//!
//! Takes the gateway's flags: `echo --listen 127.0.0.1:0 --set limits.maxMessageBytes=1000`.

use clap::Parser;
use daemon::signals::Shutdown;
use gateway::app::App;
use gateway::config::{self, Settings, Sources};

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    sources: Sources,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let config = config::load(&cli.sources, std::env::vars())?;
    daemon::logs::init(&config.log.filter, daemon::logs::Format::Json)
        .map_err(|e| anyhow::anyhow!("log.filter: {e}"))?;
    let mut settings = Settings::prepare(config)?;
    settings.echo = true;
    App::build(settings, Shutdown::on_signals()?)
        .await?
        .run()
        .await;
    Ok(())
}
