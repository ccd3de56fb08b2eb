//! The CPU cores of the machine, and the CPU time and memory of processes.

use std::{
    fs,
    ops::{Div, Sub},
    process::{self, Command, Stdio},
    time::Duration,
};

/// The unit of CPU time in `/proc` (`USER_HZ`), which does not depend on the tick rate of the kernel.
const TICKS_PER_SECOND: u32 = 100;

/// The core of the service and its database, and the core of the load generator. With one core they share it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cores {
    pub(crate) service: usize,
    pub(crate) load: usize,
}

impl Cores {
    /// Returns the first core for the service, and the last for the load.
    pub(crate) fn find() -> anyhow::Result<Self> {
        // This process may have been pinned to the core of the service, together with the database.
        let count = std::thread::available_parallelism()?.get().max(online_cores());
        Ok(Self { service: 0, load: count - 1 })
    }
}

fn online_cores() -> usize {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    cpus.lines().filter(|line| line.starts_with("processor")).count()
}

/// Pins this process to a core with `taskset`, and reports whether that succeeded.
pub(crate) fn pin_to_core(core: usize) -> bool {
    let mut taskset = Command::new("taskset");
    taskset.args(["-cp", &core.to_string(), &process::id().to_string()]).stdout(Stdio::null());
    taskset.status().is_ok_and(|status| status.success())
}

/// Calls `start` while this process is pinned to the core of the service. Child processes stay pinned to it.
pub(crate) fn on_service_core<T>(cores: Cores, start: impl FnOnce() -> T) -> T {
    pin_to_core(cores.service);
    let result = start();
    pin_to_core(cores.load);
    result
}

/// The processes whose CPU time is measured: a service, and those of its database.
#[derive(Clone, Debug, Default)]
pub(crate) struct MeasuredProcesses {
    pub(crate) service: u32,
    /// The PostgreSQL server of the database, if it runs on this machine.
    pub(crate) postmaster: Option<u32>,
}

impl MeasuredProcesses {
    /// Returns the CPU time that they have used so far.
    pub(crate) fn cpu_time(&self) -> CpuTime {
        let time = |ticks| Duration::from_secs(ticks) / TICKS_PER_SECOND;
        let service = Stat::read(self.service).map_or(0, |stat| stat.ticks);
        let database = self.postmaster.map_or(0, |postmaster| {
            let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
            let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
            ids.filter_map(Stat::read).filter(|stat| stat.parent == postmaster).map(|stat| stat.ticks).sum()
        });
        CpuTime { service: time(service), database: time(database) }
    }

    /// Returns the memory of the service in MiB: the current and the peak value.
    pub(crate) fn memory(&self) -> Option<(f64, f64)> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.service)).ok()?;
        let kibibytes = |name| {
            status.lines().find_map(|line: &str| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
        };
        let mebibytes = |name| kibibytes(name).map(|value: f64| value / 1024.0);
        Some((mebibytes("VmRSS:")?, mebibytes("VmHWM:")?))
    }
}

/// The CPU time of a service, and of all processes of its PostgreSQL server.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CpuTime {
    pub(crate) service: Duration,
    pub(crate) database: Duration,
}

impl CpuTime {
    pub(crate) fn total(self) -> Duration {
        self.service + self.database
    }
}

impl Sub for CpuTime {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            service: self.service.saturating_sub(earlier.service),
            // The time of a process that has ended is lost.
            database: self.database.saturating_sub(earlier.database),
        }
    }
}

impl Div<u32> for CpuTime {
    type Output = Self;

    fn div(self, count: u32) -> Self {
        Self { service: self.service / count, database: self.database / count }
    }
}

/// Returns the parent of a process, unless that is the init process or this process.
pub(crate) fn parent(id: u32) -> Option<u32> {
    Stat::read(id).map(|stat| stat.parent).filter(|parent| *parent > 1 && *parent != process::id())
}

struct Stat {
    parent: u32,
    ticks: u64,
}

impl Stat {
    fn read(id: u32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        // The program name may contain any characters, and ends at the last parenthesis.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = |index: usize| fields.get(index)?.parse::<u64>().ok();
        Some(Self { parent: fields.get(1)?.parse().ok()?, ticks: ticks(11)? + ticks(12)? })
    }
}
