//! How much memory there is and how much is used, and what follows from it. The decisions are in
//! [`crate::memory_guard`]; here are the kernel's files, the clock and the commands to the shards.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use prometheus::{IntGauge, Registry};

use crate::allocator;
use crate::broker::Broker;
use crate::memory_guard::{EVICT_PERCENT, FULL_PERCENT, Guard, Level, Usage, tightest};
use crate::router::Router;

/// Between two looks when memory is short. At a gigabyte a second, the most that one core copies, 100 MiB come
/// between two looks.
const EVERY: Duration = Duration::from_millis(100);
/// Between two looks when there is so much room that it cannot be used up meanwhile: a look costs three threads a
/// turn each.
const SELDOM: Duration = Duration::from_millis(500);
/// Between two requests to the allocator to give back what it keeps.
const TRIM_EVERY: Duration = Duration::from_secs(1);
/// The kernel's word for "no limit" in the first version of cgroups: the largest number of whole pages.
const NO_LIMIT: u64 = 1 << 62;

/// What the guard last saw and decided. Cloning shares it.
#[derive(Clone, Default)]
pub struct Pressure(Arc<Shared>);

#[derive(Default)]
struct Shared {
    level: AtomicU8,
    used: AtomicU64,
    limit: AtomicU64,
}

impl Pressure {
    /// Whether nobody more is let in.
    #[must_use]
    pub fn refuses(&self) -> bool {
        self.0.level.load(Ordering::Relaxed) == Level::Over as u8
    }

    /// The gate of `/ready`.
    pub fn gate(&self) -> Result<(), String> {
        if self.0.level.load(Ordering::Relaxed) == Level::Fine as u8 {
            return Ok(());
        }
        let mebibytes = |bytes: &AtomicU64| bytes.load(Ordering::Relaxed) >> 20;
        let (used, limit) = (mebibytes(&self.0.used), mebibytes(&self.0.limit));
        Err(format!(
            "{used} of {limit} MiB (limits.maxMemoryBytes, or the container's limit): {FULL_PERCENT} % or more"
        ))
    }

    fn store(&self, level: Level, usage: Option<Usage>) {
        let (used, limit) = usage.map_or((0, 0), |usage| (usage.used, usage.limit));
        self.0.used.store(used, Ordering::Relaxed);
        self.0.limit.store(limit, Ordering::Relaxed);
        self.0.level.store(level as u8, Ordering::Relaxed);
    }
}

/// The two numbers that people watch.
pub struct Gauges {
    used: IntGauge,
    limit: IntGauge,
}

impl Gauges {
    pub fn register(registry: &Registry) -> prometheus::Result<Gauges> {
        let gauge = |name, help| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            prometheus::Result::Ok(gauge)
        };
        Ok(Gauges {
            used: gauge(
                "pushcluster_memory_used_bytes",
                "Memory used, as the guard counts it.",
            )?,
            limit: gauge(
                "pushcluster_memory_limit_bytes",
                "Memory at which clients are refused and then evicted. 0: none.",
            )?,
        })
    }

    fn set(&self, usage: Option<Usage>) {
        let (used, limit) = usage.map_or((0, 0), |usage| (usage.used, usage.limit));
        self.used.set(i64::try_from(used).unwrap_or(i64::MAX));
        self.limit.set(i64::try_from(limit).unwrap_or(i64::MAX));
    }
}

/// Looks and acts until the process ends. `configured`: bytes at the moment, 0 for none.
pub async fn watch<B: Broker>(
    router: Router<B>,
    pressure: Pressure,
    gauges: Gauges,
    configured: impl Fn() -> u64,
) {
    let started = Instant::now();
    let (mut guard, mut meter) = (Guard::default(), Meter::find());
    let (mut trimmed, mut crowd) = (Duration::ZERO, Crowd::default());
    let mut wait = Duration::ZERO;
    loop {
        tokio::time::sleep(wait).await;
        let elapsed = started.elapsed();
        let trim = (crowd.has_left(router.connections()) || pressure.gate().is_err())
            && elapsed >= trimmed + TRIM_EVERY;
        if trim {
            trimmed = elapsed;
            crowd.forget(router.connections());
        }
        let configured = configured();
        // The kernel's files are short, but reading some of them adds up counters of every core.
        let look = tokio::task::spawn_blocking(move || {
            if trim {
                allocator::give_back();
            }
            (
                tightest(meter.resident(), configured, meter.container()),
                meter,
            )
        });
        let Ok((usage, back)) = look.await else {
            tracing::error!("reading the memory's counters failed: the memory guard ends");
            return;
        };
        meter = back;
        wait = until_next(usage);
        let now_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        let decision = guard.decide(usage, now_ms);
        let refused = pressure.refuses();
        pressure.store(decision.level, usage);
        gauges.set(usage);
        if pressure.refuses() != refused {
            tracing::warn!(
                ?usage,
                "memory: {}",
                if refused {
                    "clients are let in again"
                } else {
                    "no more clients"
                }
            );
        }
        if decision.evict {
            tracing::warn!(
                ?usage,
                "memory: the oldest {EVICT_PERCENT} % of the clients are closed"
            );
            router.evict_oldest(EVICT_PERCENT).await;
        }
    }
}

/// The time to the next look: a gigabyte a second does not fill what is free of the memory before it.
fn until_next(usage: Option<Usage>) -> Duration {
    let room = usage.map_or(u64::MAX, |usage| {
        (usage.limit / 100 * FULL_PERCENT).saturating_sub(usage.used)
    });
    // A byte for each nanosecond.
    Duration::from_nanos(room).clamp(EVERY, SELDOM)
}

/// How many clients there were, to see that they have gone.
#[derive(Default)]
struct Crowd {
    most: u64,
    /// Half of them had gone when it was last forgotten.
    settles: bool,
}

impl Crowd {
    /// Fewer are not worth looking for.
    const SEEN: u64 = 1_000;

    /// Whether half of them have gone since it was last forgotten: what they leave behind is in small pieces that
    /// the allocator would keep. And once more after that: the hub and the broker hear of those who left later than
    /// they are counted, and what they give up then would stay for good.
    fn has_left(&mut self, connections: u64) -> bool {
        self.most = self.most.max(connections);
        self.settles || self.half_gone(connections)
    }

    fn forget(&mut self, connections: u64) {
        self.settles = self.half_gone(connections);
        self.most = connections;
    }

    fn half_gone(&self, connections: u64) -> bool {
        self.most >= Self::SEEN && connections <= self.most / 2
    }
}

/// Where the kernel tells.
struct Meter {
    container: Option<Container>,
}

/// The files of a memory cgroup that has a limit.
struct Container {
    limit: u64,
    usage: PathBuf,
    stat: PathBuf,
    /// The cache in `stat` that the kernel drops before it kills anybody.
    cache: &'static str,
}

impl Meter {
    fn find() -> Meter {
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        Meter {
            container: Container::find(&groups, Path::new("/sys/fs/cgroup")),
        }
    }

    /// Bytes of this process in memory.
    fn resident(&self) -> u64 {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        field(&status, "VmRSS:").unwrap_or(0) << 10
    }

    fn container(&self) -> Option<Usage> {
        let container = self.container.as_ref()?;
        let used = number(&container.usage)?;
        let stat = fs::read_to_string(&container.stat).unwrap_or_default();
        let cache = field(&stat, container.cache).unwrap_or(0);
        Some(Usage {
            used: used.saturating_sub(cache),
            limit: container.limit,
        })
    }
}

impl Container {
    /// The innermost cgroup of this process that has a memory limit; `groups` is `/proc/self/cgroup` (cgroups(7)).
    fn find(groups: &str, root: &Path) -> Option<Container> {
        for line in groups.lines() {
            let mut parts = line.splitn(3, ':');
            let (Some(_), Some(controllers), Some(path)) =
                (parts.next(), parts.next(), parts.next())
            else {
                continue;
            };
            let (root, names) = match controllers {
                "" => (root.to_owned(), VERSION_2),
                _ if controllers.split(',').any(|name| name == "memory") => {
                    (root.join("memory"), VERSION_1)
                }
                _ => continue,
            };
            let own = root.join(path.trim_start_matches('/'));
            // Inside a container the path may be the host's, while the mount begins at the container.
            let above = own
                .ancestors()
                .take_while(|folder| folder.starts_with(&root));
            for folder in above {
                if let Some(limit) = number(&folder.join(names.limit)).filter(|l| *l < NO_LIMIT) {
                    return Some(Container {
                        limit,
                        usage: folder.join(names.usage),
                        stat: folder.join("memory.stat"),
                        cache: names.cache,
                    });
                }
            }
        }
        None
    }
}

/// What the files are called.
#[derive(Clone, Copy)]
struct Names {
    limit: &'static str,
    usage: &'static str,
    cache: &'static str,
}

const VERSION_2: Names = Names {
    limit: "memory.max",
    usage: "memory.current",
    cache: "inactive_file",
};

const VERSION_1: Names = Names {
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    cache: "total_inactive_file",
};

/// The number in a file of one number; None also for `max`, which is none.
fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// The number after `name` at the beginning of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find(|line| {
        line.split_ascii_whitespace()
            .next()
            .is_some_and(|first| first == name)
    })?;
    line.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_free_outlasts_the_time_to_the_next_look() {
        const GIB: u64 = 1_000_000_000;
        let usage = |used, limit| Some(Usage { used, limit });
        for (usage, ms) in [
            (None, 500),
            (usage(0, 100 * GIB), 500),
            (usage(GIB / 2, GIB), 300),
            (usage(GIB * 7 / 10, GIB), 100),
            (usage(GIB * 9 / 10, GIB), 100),
            (usage(2 * GIB, GIB), 100),
        ] {
            assert_eq!(until_next(usage), Duration::from_millis(ms), "{usage:?}");
        }
    }

    #[test]
    fn a_crowd_has_left_when_half_of_it_has() {
        let mut crowd = Crowd::default();
        for (connections, has_left) in [
            (0, false),
            (999, false),
            (0, false),
            (5_000, false),
            (2_501, false),
            (2_500, true),
            // Once more, for what is given up later.
            (2_400, true),
            (2_300, false),
            (1_200, true),
            (600, true),
            (0, true),
            (0, false),
        ] {
            assert_eq!(crowd.has_left(connections), has_left, "{connections}");
            if has_left {
                crowd.forget(connections);
            }
        }
    }

    fn write(root: &Path, files: &[(&str, &str)]) {
        for (path, text) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    #[test]
    fn the_container_s_limit_is_found_where_kernels_have_it() {
        let v2 = [
            ("memory.current", "700\n"),
            ("memory.stat", "anon 1\ninactive_file 200\n"),
        ];
        let v1 = [
            ("memory/memory.usage_in_bytes", "700\n"),
            (
                "memory/memory.stat",
                "inactive_file 1\ntotal_inactive_file 200\n",
            ),
        ];
        let usage = Some(Usage {
            used: 500,
            limit: 1_000,
        });
        for (what, groups, files, expected) in [
            (
                "a container, version 2",
                "0::/\n",
                [&v2[..], &[("memory.max", "1000\n")]].concat(),
                usage,
            ),
            (
                "no limit",
                "0::/\n",
                [&v2[..], &[("memory.max", "max\n")]].concat(),
                None,
            ),
            (
                "a limit above",
                "0::/pods/a\n",
                vec![
                    ("pods/a/memory.max", "max"),
                    ("pods/memory.max", "1000"),
                    ("pods/memory.current", "500"),
                    ("pods/memory.stat", ""),
                ],
                usage,
            ),
            (
                "version 1, where the path is the host's",
                "4:cpu,memory:/kubepods/x\n0::/\n",
                [&v1[..], &[("memory/memory.limit_in_bytes", "1000\n")]].concat(),
                usage,
            ),
            (
                "version 1 without a limit",
                "4:memory:/\n",
                [
                    &v1[..],
                    &[("memory/memory.limit_in_bytes", "9223372036854771712\n")],
                ]
                .concat(),
                None,
            ),
            ("nothing", "", vec![], None),
        ] {
            let root = tempfile::tempdir().unwrap();
            write(root.path(), &files);
            let container = Container::find(groups, root.path());
            assert_eq!(Meter { container }.container(), expected, "{what}");
        }
    }

    #[test]
    fn this_process_has_memory() {
        let meter = Meter { container: None };
        let before = meter.resident();
        assert!(before > 1 << 20, "{before}");
        let block = vec![1u8; 64 << 20];
        let after = meter.resident();
        assert!(after > before + (32 << 20), "{before} {after}");
        drop(block);
    }
}
