//! The files of a configuration are read again and again instead of watched, as key files are: a mounted ConfigMap
//! changes by the swap of a link, which watchers of the file never hear of.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use ring::digest::{SHA256, digest};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior};

use super::Reloader;

/// How often the files are read.
const EVERY: Duration = Duration::from_secs(2);
/// A content that was there for so long is whole.
const SETTLED: Duration = Duration::from_millis(100);
/// After a failure the same content is tried again: a file that it names may have come since, as a Secret that is mounted
/// after the ConfigMap that names it, and a key server may answer again.
const RETRY: Duration = Duration::from_secs(10);

impl Reloader {
    /// Reloads when a file has another content, and on SIGHUP. Ends with the process.
    pub async fn watch(self) {
        let mut pace = tokio::time::interval(EVERY);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut hangup = signal(SignalKind::hangup())
            .inspect_err(|error| tracing::warn!("SIGHUP is not heard: {error}"))
            .ok();
        let mut first = true;
        let mut known = None;
        let mut failed: Option<Instant> = None;
        loop {
            tokio::select! {
                _ = pace.tick() => {}
                () = asked(&mut hangup) => {
                    tracing::info!("SIGHUP: reading the configuration again");
                    known = None;
                }
            }
            let print = self.print().await;
            let again = failed.is_some_and(|at| at.elapsed() >= RETRY);
            if known == print && !again {
                continue;
            }
            // A file that changed between the start and the first look is not missed.
            if std::mem::take(&mut first) && self.is_current().await {
                known = print;
                continue;
            }
            // An editor may be half done, and an empty file is a configuration, too.
            tokio::time::sleep(SETTLED).await;
            if print == self.print().await {
                known = print;
                // It has said and counted what is wrong.
                failed = self.reload().await.is_err().then(Instant::now);
            }
        }
    }

    /// None: it could not be looked.
    async fn print(&self) -> Option<Vec<u8>> {
        let files = self.files();
        // A disk that hangs must not hang what runs beside this.
        let print = tokio::task::spawn_blocking(move || print(&files)).await;
        print.ok()
    }

    /// The configuration, and what nobody else watches: the keys of the API, the passwords at Redis.
    fn files(&self) -> Vec<PathBuf> {
        let inner = &self.inner;
        let origin = inner.origin.iter();
        let config = origin.filter_map(|origin| origin.sources.config.clone());
        let running = inner.parts.running.load();
        let (api, redis) = (&running.config.api, &running.config.broker.redis);
        let named = [
            &api.key_file,
            &redis.password_file,
            &redis.sentinel_password_file,
        ];
        config.chain(named.map(PathBuf::from)).collect()
    }
}

/// SIGHUP asks a daemon to read its configuration again; unheard, it would end the process.
async fn asked(hangup: &mut Option<Signal>) {
    if let Some(hangup) = hangup
        && hangup.recv().await.is_some()
    {
        return;
    }
    std::future::pending::<()>().await;
}

/// Tells one content from another without keeping secrets around.
fn print(files: &[PathBuf]) -> Vec<u8> {
    // A file that cannot be read is a content of its own: the reload will say why.
    let contents = files.iter().map(|file| fs::read(file).unwrap_or_default());
    contents
        .flat_map(|bytes| digest(&SHA256, &bytes).as_ref().to_vec())
        .collect()
}
