//! Which core runs what. Servers have one to themselves, as far as the machine grants it, and the client has another:
//! a client that moved onto the server's core would change what a CPU second buys.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// This thread; children inherit its cores.
const SELF: Pid = Pid::from_raw(0);

pub struct Cores {
    all: CpuSet,
    pub server: usize,
    client: usize,
}

impl Cores {
    /// The first and the last of those that this process may use; with one core both share it.
    pub fn find() -> nix::Result<Cores> {
        let all = sched_getaffinity(SELF)?;
        let usable = |core: &usize| all.is_set(*core).unwrap_or(false);
        let first = (0..CpuSet::count()).find(usable).unwrap_or(0);
        let last = (0..CpuSet::count()).rfind(usable).unwrap_or(first);
        Ok(Cores {
            all,
            server: first,
            client: last,
        })
    }

    /// For compilers: all cores.
    pub fn use_all(&self) -> nix::Result<()> {
        sched_setaffinity(SELF, &self.all)
    }

    /// For measuring: the client's.
    pub fn use_one(&self) -> nix::Result<()> {
        let mut one = CpuSet::new();
        one.set(self.client)?;
        sched_setaffinity(SELF, &one)
    }
}
