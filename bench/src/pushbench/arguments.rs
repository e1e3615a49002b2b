//! The command line.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::profile::{Part, Profile};

/// Clients as real ones are, in any number, against a running cluster of gateways.
#[derive(Debug, Parser)]
#[command(name = "pushbench", version)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Clients come, stay, come back and go, while messages are published. Ends with 1 if one was lost, doubled or
    /// reordered without a word, or somebody was not there at the end.
    Run(Box<Load>),
    /// Table and charts of the records in these folders, which several processes may have written.
    Plot(Plot),
}

#[derive(Debug, Args)]
pub struct Load {
    /// Gateways or a Service, `host:port`, several separated by commas: each connection goes to any of them.
    #[arg(long, required = true, value_delimiter = ',', value_parser = addresses)]
    pub to: Vec<Addresses>,
    /// How many clients there are when, `seconds:clients`, and between them a line: `0:0,60:10000,120:10000,180:0`.
    #[arg(long)]
    pub profile: Profile,
    /// The part of the clients that this process is: `1/3` of three that run at once. The first one publishes.
    #[arg(long, default_value = "1/1")]
    pub part: Part,
    /// Channels over which clients are spread.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub channels: u32,
    /// Channels of each client.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub each: u32,
    /// Of a hundred clients so many listen to an event stream.
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub sse: u8,
    /// Of a hundred clients so many others speak Socket.IO, over WebSocket. The rest speaks the native protocol.
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub socketio: u8,
    /// What names of channels begin with; a number follows. Their policy should keep messages (`historyMessages`), or who
    /// comes back has missed some.
    #[arg(long, default_value = "pushbench:", value_parser = prefix)]
    pub prefix: String,
    /// Messages published a second, over all channels.
    #[arg(long, default_value_t = 10.0, value_parser = rate)]
    pub rate: f64,
    /// Bytes of a message's data.
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub bytes: u32,
    /// Where the HTTP API is, if not where the clients go.
    #[arg(long, value_delimiter = ',', value_parser = addresses)]
    pub api: Vec<Addresses>,
    /// File with a key of the HTTP API.
    #[arg(long)]
    pub api_key_file: Option<PathBuf>,
    /// A token that every client shows.
    #[arg(long, conflicts_with = "hs256_key_file")]
    pub token: Option<String>,
    /// File with the key that signs a token for each client, a user of its own.
    #[arg(long)]
    pub hs256_key_file: Option<PathBuf>,
    /// Addresses of this machine that connections come from, in turn: one has some 28,000 ports for each `--to`.
    #[arg(long, value_delimiter = ',')]
    pub from: Vec<IpAddr>,
    /// Longest wait, in seconds, after the profile's end for who is away and for what is under way.
    #[arg(long, default_value_t = 30)]
    pub settle: u64,
    /// Reconnects a second that are allowed: a line in the charts and a row in the table.
    #[arg(long)]
    pub budget: Option<f64>,
    /// File that says what is done to the cluster, a name. The profile waits at its most clients for as long as there is
    /// one in it, and the table has a row for each: who came back how often, how fast, and what was lost.
    #[arg(long)]
    pub stage_file: Option<PathBuf>,
    /// Folder for records, table and charts. Each process of several writes a file of its own.
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Seconds between two lines about how it goes.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    pub every: u64,
    /// End with 0 also when messages were lost: where it is meant to be seen, and not to fail.
    #[arg(long)]
    pub allow_loss: bool,
}

#[derive(Debug, Args)]
pub struct Plot {
    /// Folders with records. The charts are written into the first one.
    #[arg(required = true)]
    pub folders: Vec<PathBuf>,
    /// As in `run`.
    #[arg(long)]
    pub budget: Option<f64>,
}

/// All that a name stands for.
#[derive(Debug, Clone)]
pub struct Addresses(pub Vec<SocketAddr>);

fn addresses(text: &str) -> Result<Addresses, String> {
    let found = text
        .to_socket_addrs()
        .map_err(|error| format!("`{text}` leads nowhere: {error}"))?;
    Ok(Addresses(found.collect()))
}

fn prefix(text: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_graphic() && !"\"\\&#%+?".contains(c);
    if text.is_empty() || text.len() > 200 || !text.chars().all(is_plain) {
        return Err(
            "it must be 1 to 200 letters, digits or signs that an address may have".to_owned(),
        );
    }
    for taken in ["room:", "user:", "node:"] {
        if text.starts_with(taken) {
            return Err(format!("`{taken}` has a meaning of its own"));
        }
    }
    Ok(text.to_owned())
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "it is no number".to_owned())?;
    if (0.0..=1_000_000.0).contains(&rate) {
        Ok(rate)
    } else {
        Err("it must be 0 to 1000000".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: [&str; 4] = ["pushbench", "run", "--to=127.0.0.1:1", "--profile=0:0,5:10"];

    #[test]
    fn what_is_wrong_is_named() {
        Arguments::try_parse_from(GOOD).unwrap();
        for (wrong, expected) in [
            ("--to=nowhere", "--to"),
            ("--profile=5", "--profile"),
            ("--part=4/3", "--part"),
            ("--channels=0", "--channels"),
            ("--each=0", "--each"),
            ("--prefix=room:", "--prefix"),
            ("--prefix=a b", "--prefix"),
            ("--prefix=a&b", "--prefix"),
            ("--sse=101", "--sse"),
            ("--socketio=101", "--socketio"),
            ("--rate=-1", "--rate"),
            ("--rate=x", "--rate"),
            ("--bytes=0", "--bytes"),
            ("--api=x", "--api"),
            ("--from=x", "--from"),
            ("--every=0", "--every"),
        ] {
            // The wrong one instead of the right one.
            let name = wrong.split('=').next().unwrap();
            let rest = GOOD.iter().filter(|given| !given.starts_with(name));
            let error = Arguments::try_parse_from(rest.chain([&wrong])).unwrap_err();
            let message = error.to_string();
            assert!(message.contains("invalid value"), "{message}");
            assert!(message.contains(expected), "{message}");
        }
        for missing in ["--to", "--profile"] {
            let rest = GOOD.iter().filter(|given| !given.starts_with(missing));
            let message = Arguments::try_parse_from(rest).unwrap_err().to_string();
            assert!(message.contains(missing), "{message}");
        }
    }
}
