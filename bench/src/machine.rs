//! Cores, and what processes take of the machine.

use std::{
    fs,
    process::{self, Command, Stdio},
    time::Duration,
};

/// How Linux counts the time of processes, whatever the kernel itself does.
const TICKS_PER_SECOND: u32 = 100;

/// Where the service and its database run, and where the load comes from. With one core they share it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cores {
    pub(crate) service: usize,
    pub(crate) load: usize,
}

impl Cores {
    /// The first core, and the last.
    pub(crate) fn find() -> anyhow::Result<Self> {
        // This process may have been started on the service's core alone, with a database beside it.
        let all = std::thread::available_parallelism()?.get().max(online());
        Ok(Self { service: 0, load: all - 1 })
    }
}

fn online() -> usize {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    cpus.lines().filter(|line| line.starts_with("processor")).count()
}

/// Keeps this process on one core. Without a `taskset` the scheduler does as it likes, which is said.
pub(crate) fn stay_on(core: usize) -> bool {
    let mut taskset = Command::new("taskset");
    taskset.args(["-cp", &core.to_string(), &process::id().to_string()]).stdout(Stdio::null());
    taskset.status().is_ok_and(|status| status.success())
}

/// Starts something with the core that all that it starts stays on, and comes back.
pub(crate) fn on_core<T>(cores: Cores, act: impl FnOnce() -> T) -> T {
    stay_on(cores.service);
    let done = act();
    stay_on(cores.load);
    done
}

/// The processes whose time is counted: a service, and those of its database.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counted {
    pub(crate) service: u32,
    /// The server that a service's database belongs to.
    pub(crate) postmaster: Option<u32>,
}

impl Counted {
    /// The time that they have spent on a core.
    pub(crate) fn time(&self) -> Duration {
        let mut ticks = Stat::of(self.service).map_or(0, |stat| stat.ticks);
        if let Some(postmaster) = self.postmaster {
            let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
            let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
            ticks +=
                ids.filter_map(Stat::of).filter(|stat| stat.parent == postmaster).map(|stat| stat.ticks).sum::<u64>();
        }
        Duration::from_secs(ticks) / TICKS_PER_SECOND
    }

    /// The memory of the service in MiB: at the moment, and at the most so far.
    pub(crate) fn memory(&self) -> Option<(f64, f64)> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.service)).ok()?;
        let kib = |name| {
            status.lines().find_map(|line: &str| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
        };
        let kib = |name| kib(name).map(|kib: f64| kib / 1024.0);
        Some((kib("VmRSS:")?, kib("VmHWM:")?))
    }
}

/// The parent of a process.
pub(crate) fn parent(id: u32) -> Option<u32> {
    Stat::of(id).map(|stat| stat.parent).filter(|parent| *parent > 1 && *parent != process::id())
}

struct Stat {
    parent: u32,
    ticks: u64,
}

impl Stat {
    fn of(id: u32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        // The name of the program may hold anything, and ends with the last parenthesis.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = |index: usize| fields.get(index)?.parse::<u64>().ok();
        Some(Self { parent: fields.get(1)?.parse().ok()?, ticks: ticks(11)? + ticks(12)? })
    }
}
