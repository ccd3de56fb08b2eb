//! A service in its own process. It keeps its address when it is restarted.

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
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use crate::process::{Process, channel, program, wait_for_health};

/// How many lines of a log are printed when its test fails.
const LAST_LINES: usize = 40;

/// Part of the log line of a call.
const CALL_LINE: &str = "service_kit::server::call: call completed";

/// How long a service may take until it serves, on a machine that is busy with other tests.
const READY_TIMEOUT: Duration = Duration::from_secs(30);

pub struct Service {
    name: &'static str,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    log: PathBuf,
    address: SocketAddr,
    process: Option<Process>,
}

impl Service {
    /// Starts `auth`, `task` or `gateway`. Writes its log to a file in `folder`.
    pub fn start(name: &'static str, folder: &Path, arguments: Vec<String>, environment: &[(String, String)]) -> Self {
        let number = fs::read_dir(folder).expect("the folder exists").count();
        let log = folder.join(format!("{name}-{number}.log"));
        File::create(&log).expect("the folder is writable");
        let (address, environment) = (SocketAddr::from(([127, 0, 0, 1], 0)), environment.to_vec());
        let mut service = Self { name, arguments, environment, log, address, process: None };
        service.start_again();
        service
    }

    /// Starts the service again after it was killed.
    pub fn start_again(&mut self) {
        let log = OpenOptions::new().append(true).open(&self.log).expect("the log exists");
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

    /// Starts the service again after it was killed, with new values for these flags.
    pub fn start_again_with(&mut self, flags: &[&str]) {
        for pair in flags.chunks(2) {
            let at = self.arguments.iter().position(|argument| argument == pair[0]).expect("the service has this flag");
            pair[1].clone_into(&mut self.arguments[at + 1]);
        }
        self.start_again();
    }

    /// Returns the peak and the current resident memory of the process, in KiB.
    pub fn memory_kib(&self) -> [u64; 2] {
        self.process.as_ref().expect("the service runs").memory_kib()
    }

    pub fn kill(&mut self) {
        self.process.take().expect("the service runs").kill();
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        self.process.as_ref().expect("the service runs").signal("TERM");
    }

    /// Waits until the service exits, and returns its exit code.
    pub async fn wait_for_exit(&mut self) -> Option<i32> {
        self.process.as_mut().expect("the service runs").wait_for_exit().await
    }

    /// Sends SIGTERM, and waits until the service has ended.
    pub async fn stop(&mut self) {
        self.terminate();
        self.wait_for_exit().await;
        self.process = None;
    }

    /// Sends SIGSTOP: the service keeps its connections and does nothing, like a machine that hangs.
    pub fn pause(&self) {
        self.process.as_ref().expect("the service runs").signal("STOP");
    }

    pub fn resume(&self) {
        self.process.as_ref().expect("the service runs").signal("CONT");
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn channel(&self) -> Channel {
        channel(self.address)
    }

    /// Returns a channel that connects from the loopback address with this last byte.
    pub fn channel_from(&self, host: u8) -> Channel {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address)).expect("a URL");
        endpoint.local_address(Some(Ipv4Addr::new(127, 0, 0, host).into())).connect_lazy()
    }

    /// Waits until the service reports that it serves.
    pub async fn wait_until_ready(&self) {
        self.wait_for_health(ServingStatus::Serving, READY_TIMEOUT).await;
    }

    /// Waits until the service reports this health status.
    pub async fn wait_for_health(&self, expected: ServingStatus, limit: Duration) {
        let reached = timeout(limit, wait_for_health(self.channel(), expected)).await;
        assert!(reached.is_ok(), "{} did not become {expected:?} within {limit:?}", self.name);
    }

    /// Returns the number of logged lines, not counting the lines of calls.
    pub fn log_lines(&self) -> usize {
        self.lines().len()
    }

    /// Waits until a line of the log contains this text.
    pub async fn wait_for_log(&self, text: &str, limit: Duration) {
        let logged = async {
            while !self.lines().iter().any(|line| line.contains(text)) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        assert!(timeout(limit, logged).await.is_ok(), "{} did not log {text:?} within {limit:?}", self.name);
    }

    /// Waits until the service reports this health status for one of its parts.
    pub async fn wait_for_health_of(&self, part: &str, expected: ServingStatus, limit: Duration) {
        let reached = async {
            let request = HealthCheckRequest { service: part.to_owned() };
            let mut health = HealthClient::new(self.channel());
            while !health.check(request.clone()).await.is_ok_and(|response| response.get_ref().status() == expected) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        assert!(timeout(limit, reached).await.is_ok(), "{part} did not become {expected:?} within {limit:?}");
    }

    fn lines(&self) -> Vec<String> {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        log.lines().filter(|line| !line.contains(CALL_LINE)).map(str::to_owned).collect()
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
