//! A service in a process of its own, which comes back on the address that it had.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::health_check_response::ServingStatus;

use crate::process::{Process, channel, program, until_health};

/// How much of a log is shown when its test fails.
const LAST_LINES: usize = 40;

/// The line of a call has this in it.
const CALL: &str = "service_kit::server::call: answered";

/// How long a service may take to serve, on a machine that is busy with other tests.
const READY_LIMIT: Duration = Duration::from_secs(30);

pub struct Service {
    name: &'static str,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    log: PathBuf,
    address: SocketAddr,
    process: Option<Process>,
}

impl Service {
    /// Starts `auth`, `task` or `gateway`. Its log is a file in `folder`.
    pub fn start(name: &'static str, folder: &Path, arguments: Vec<String>, environment: &[(String, String)]) -> Self {
        let number = fs::read_dir(folder).expect("the folder is there").count();
        let log = folder.join(format!("{name}-{number}.log"));
        File::create(&log).expect("the folder takes a log");
        let (address, environment) = (SocketAddr::from(([127, 0, 0, 1], 0)), environment.to_vec());
        let mut service = Self { name, arguments, environment, log, address, process: None };
        service.start_again();
        service
    }

    /// Starts it after it was killed.
    pub fn start_again(&mut self) {
        let log = OpenOptions::new().append(true).open(&self.log).expect("the log is there");
        let program = program(match self.name {
            "auth" => "auth-service",
            "task" => "task-service",
            other => other,
        });
        let mut command = Command::new(program);
        command.args(&self.arguments).args(["--listen", &self.address.to_string()]);
        command.envs(self.environment.iter().cloned()).stderr(log);
        let process = Process::spawn(&mut command, &[self.name]);
        self.address = process.address(self.name);
        self.process = Some(process);
    }

    /// Starts it after it was killed, with other values for these flags.
    pub fn start_again_with(&mut self, flags: &[&str]) {
        for pair in flags.chunks(2) {
            let at = self.arguments.iter().position(|argument| argument == pair[0]).expect("it has such a flag");
            pair[1].clone_into(&mut self.arguments[at + 1]);
        }
        self.start_again();
    }

    /// The most memory that it has held since it was started, and what it holds now, in KiB.
    pub fn memory_kib(&self) -> [u64; 2] {
        let id = self.process.as_ref().expect("it runs").child.id();
        let status = fs::read_to_string(format!("/proc/{id}/status")).expect("there is a proc");
        ["VmHWM:", "VmRSS:"].map(|name| {
            let value = status.lines().find_map(|line| line.strip_prefix(name)).expect("it tells the memory");
            value.trim().trim_end_matches(" kB").parse().expect("a number")
        })
    }

    pub fn kill(&mut self) {
        self.process.take().expect("it runs").kill();
    }

    /// SIGSTOP: it holds all its connections and does nothing, as a machine that hangs.
    pub fn stop(&self) {
        self.process.as_ref().expect("it runs").signal("STOP");
    }

    pub fn go_on(&self) {
        self.process.as_ref().expect("it runs").signal("CONT");
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn channel(&self) -> Channel {
        channel(self.address)
    }

    /// Calls from the loopback address with this last number.
    pub fn channel_from(&self, host: u8) -> Channel {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address)).expect("a URL");
        endpoint.local_address(Some(Ipv4Addr::new(127, 0, 0, host).into())).connect_lazy()
    }

    /// Waits until it says that it serves.
    pub async fn ready(&self) {
        self.until(ServingStatus::Serving, READY_LIMIT).await;
    }

    /// Waits until it says that its health is this.
    pub async fn until(&self, awaited: ServingStatus, limit: Duration) {
        let became = timeout(limit, until_health(self.channel(), awaited)).await;
        assert!(became.is_ok(), "{} did not become {awaited:?} within {limit:?}", self.name);
    }

    /// How many lines it has logged, but for the one that each call has.
    pub fn log_lines(&self) -> usize {
        self.lines().len()
    }

    fn lines(&self) -> Vec<String> {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        log.lines().filter(|line| !line.contains(CALL)).map(str::to_owned).collect()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if thread::panicking() {
            let mut lines = self.lines();
            lines.retain(|line| !line.contains(" INFO "));
            let last = lines[lines.len().saturating_sub(LAST_LINES)..].join("\n");
            _ = writeln!(io::stderr(), "-- the end of the log of {}\n{last}", self.name);
        }
    }
}
