//! `pushbench run`: one thread with one epoll for clients and publisher, until the profile is over.

use std::io::{self, ErrorKind, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use mio::{Events, Poll};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::arguments::{Addresses, Load};
use super::judge::Position;
use super::publisher::{self, PUBLISHER, Publisher};
use super::record::{Line, Run, Second, Stage};
use super::records::{self, Writer};
use super::stage::{Clock, StageFile};
use super::swarm::{self, Swarm, now_micros};
use super::table;
use super::tokens::Tokens;

/// Between two looks at what is due.
const TICK: Duration = Duration::from_millis(5);
/// Files beside the clients' sockets: those that are closing, the publisher's, records.
const SPARE_FILES: u64 = 500;

pub fn run(load: &Load) -> anyhow::Result<ExitCode> {
    let most = load.part.share(load.profile.most());
    allow_files(most)?;
    let poll = Poll::new().context("make an epoll")?;
    let channels: Vec<String> = (0..load.channels)
        .map(|number| format!("{}{number}", load.prefix))
        .collect();
    let registry = || poll.registry().try_clone().context("share the epoll");
    let mut running = Running {
        swarm: Swarm::new(clients(load, channels.clone())?, most, registry()?),
        publisher: publishes(load, channels)?
            .map(|settings| registry().map(|registry| Publisher::new(settings, registry)))
            .transpose()?,
        writer: Writer::new(load.out.as_deref(), load.part).context("--out")?,
        poll,
        began: Instant::now(),
        unix: now_micros() / 1_000_000,
        since_line: Second::default(),
        stage: StageFile::new(load.stage_file.clone()),
        next_line: load.every,
    };
    running.go(load)?;
    let run = Run::of(running.writer.lines);
    writeln!(io::stdout().lock())?;
    // Of several processes each knows its own; `plot` shows all.
    let folder = load.out.as_deref().filter(|_| load.part.of == 1);
    records::show(&run, load.budget, folder)?;
    Ok(if run.is_good() || load.allow_loss {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Raises the limit of open files as far as it goes.
fn allow_files(clients: usize) -> anyhow::Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).context("ask for the limit of files")?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).context("raise the limit of open files")?;
    if clients as u64 + SPARE_FILES > most {
        bail!(
            "--profile: {clients} clients in one process, which may open {most} files: share them with --part, or raise \
             the limit"
        );
    }
    Ok(())
}

fn clients(load: &Load, channels: Vec<String>) -> anyhow::Result<swarm::Settings> {
    if load.each > load.channels {
        bail!(
            "--each: {} channels for each client, of {} (--channels)",
            load.each,
            load.channels
        );
    }
    if load.sse + load.socketio > 100 {
        bail!(
            "--socketio: {} of a hundred clients beside {} with --sse are more than all",
            load.socketio,
            load.sse
        );
    }
    let tokens = match (&load.token, &load.hs256_key_file) {
        (Some(token), _) => Tokens::One(token.clone()),
        (None, Some(path)) => Tokens::signed(path).context("--hs256-key-file")?,
        (None, None) => Tokens::None,
    };
    Ok(swarm::Settings {
        to: flat(&load.to),
        from: load.from.clone(),
        tokens,
        channels,
        each: load.each as usize,
        streams: load.sse.into(),
        socketio: load.socketio.into(),
        part: load.part,
    })
}

/// None: another process does it, or nobody.
fn publishes(load: &Load, channels: Vec<String>) -> anyhow::Result<Option<publisher::Settings>> {
    if load.part.number != 1 || load.rate == 0.0 {
        return Ok(None);
    }
    let key = load.api_key_file.as_ref().map(|path| {
        let text = std::fs::read_to_string(path);
        let text = text.with_context(|| format!("--api-key-file: read {}", path.display()))?;
        let mut lines = text.lines().map(str::trim);
        let key = lines.find(|line| !line.is_empty() && !line.starts_with('#'));
        let key = key.with_context(|| format!("--api-key-file: no key in {}", path.display()))?;
        anyhow::Ok(key.to_owned())
    });
    let to = if load.api.is_empty() {
        &load.to
    } else {
        &load.api
    };
    Ok(Some(publisher::Settings {
        to: flat(to),
        key: key.transpose()?,
        channels,
        rate: load.rate,
        bytes: load.bytes as usize,
    }))
}

fn flat(addresses: &[Addresses]) -> Vec<SocketAddr> {
    addresses.iter().flat_map(|one| one.0.clone()).collect()
}

struct Running {
    poll: Poll,
    swarm: Swarm,
    publisher: Option<Publisher>,
    writer: Writer,
    began: Instant,
    /// The second that is under way.
    unix: u64,
    /// What happened since the last line on the screen.
    since_line: Second,
    next_line: u64,
    stage: StageFile,
}

impl Running {
    /// Until the profile is over, and nobody is away or waits for a message.
    fn go(&mut self, load: &Load) -> anyhow::Result<()> {
        let length = load.profile.length();
        let most = load.profile.most();
        let mut clock = Clock::new(self.began);
        let mut events = Events::with_capacity(4_096);
        let mut tops: Option<Vec<Option<Position>>> = None;
        loop {
            let now = Instant::now();
            let waits = self.stage.is_under_way();
            let at = clock.tick(now, |at| waits && load.profile.wanted(at) == most);
            self.swarm.want(load.part.share(load.profile.wanted(at)));
            self.swarm.tick(now);
            if let Some(publisher) = &mut self.publisher
                && at < length
            {
                publisher.tick(now, &mut self.swarm.tally);
            }
            self.look(&mut events)?;
            self.close_second(at, length, load.every)?;
            let is_idle = self.publisher.as_ref().is_none_or(Publisher::is_idle);
            if at >= length && is_idle {
                // What is published later, by another process, need not have arrived.
                let tops = tops.get_or_insert_with(|| self.swarm.tops());
                if self.swarm.is_settled(tops) {
                    break;
                }
            }
            if at > length + Duration::from_secs(load.settle) {
                break;
            }
        }
        let tops = tops.unwrap_or_else(|| self.swarm.tops());
        self.cut_stage(true)?;
        let end = self.swarm.end(&tops);
        let last = self.swarm.take_second(self.unix);
        self.writer.write(Line::Second(Box::new(last)))?;
        self.writer.write(Line::End(end))?;
        // They say goodbye.
        self.swarm.want(0);
        Ok(())
    }

    /// What has come, or nothing for a tick.
    fn look(&mut self, events: &mut Events) -> anyhow::Result<()> {
        match self.poll.poll(events, Some(TICK)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => {
                return Err(error).context("wait for events");
            }
            _ => {}
        }
        for event in events.iter() {
            if event.token() == PUBLISHER {
                if let Some(publisher) = &mut self.publisher {
                    publisher.event(&mut self.swarm.tally);
                }
            } else {
                self.swarm.event(event.token());
            }
        }
        Ok(())
    }

    /// Writes the second that has gone by, if one has.
    fn close_second(&mut self, at: Duration, length: Duration, every: u64) -> anyhow::Result<()> {
        let unix = now_micros() / 1_000_000;
        if unix <= self.unix {
            return Ok(());
        }
        self.swarm.sweep(Instant::now());
        let second = self.swarm.take_second(self.unix);
        self.unix = unix;
        let standing = (second.wanted, second.connected, second.nodes.clone());
        self.since_line.add(&second);
        self.writer
            .write(Line::Second(Box::new(second)))
            .context("--out")?;
        self.cut_stage(false)?;
        let gone = self.began.elapsed().as_secs();
        if gone >= self.next_line {
            self.next_line = gone + every;
            let mut since = std::mem::take(&mut self.since_line);
            (since.wanted, since.connected, since.nodes) = standing;
            let line = table::progress(at.as_secs(), length.as_secs(), &since);
            writeln!(io::stdout().lock(), "{line}")?;
        }
        Ok(())
    }

    /// Writes the stage that is over, if the file says another one, or if all is.
    fn cut_stage(&mut self, is_end: bool) -> anyhow::Result<()> {
        let over = self.stage.look(self.unix).context("--stage-file")?;
        let over = over.or_else(|| {
            let stage = &self.stage;
            (is_end && stage.is_under_way()).then(|| (stage.name.clone(), stage.began))
        });
        let is_begun = over.is_some() || self.stage.began == self.unix;
        if !is_begun {
            return Ok(());
        }
        let clients_by_reconnects = self.swarm.end_stage();
        if let Some((name, began)) = over {
            let ended = self.unix;
            let stage = Stage {
                name,
                began,
                ended,
                clients_by_reconnects,
            };
            self.writer.write(Line::Stage(stage)).context("--out")?;
        }
        Ok(())
    }
}
