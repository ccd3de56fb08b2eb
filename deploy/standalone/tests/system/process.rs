//! A program that a test starts, calls and kills.

use std::{
    collections::HashMap,
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use tokio::time::sleep;
use tonic::{Request, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

pub const PASSWORD: &str = "correct horse battery staple";

/// How long a program may take until it listens, on a machine that is busy with other tests.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// Pause between two checks whether a program has exited.
const EXIT_POLL_PAUSE: Duration = Duration::from_millis(10);

/// Returns the path of a program of the workspace. Cargo builds it into the same folder as `taskey`.
pub fn program(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_taskey")).with_file_name(name);
    assert!(path.exists(), "{} is not built: cargo build --workspace", path.display());
    path
}

/// A running program. Dropping it kills it.
pub struct Process {
    pub child: Child,
    pub addresses: HashMap<String, SocketAddr>,
}

impl Process {
    /// Starts a program and waits until it has printed an address for each of these listeners.
    pub fn spawn(command: &mut Command, listeners: &[&str]) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the program starts");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let (sender, lines) = mpsc::channel();
        // Read to the end, so that the pipe never fills up.
        thread::spawn(move || output.lines().map_while(Result::ok).for_each(|line| _ = sender.send(line)));
        // From here on, dropping this value kills the program, even after a panic.
        let mut process = Self { child, addresses: HashMap::new() };
        while process.addresses.len() < listeners.len() {
            let line = lines.recv_timeout(START_TIMEOUT).expect("the program listens");
            if let ["listening", name, address] = line.split(' ').collect::<Vec<_>>()[..] {
                process.addresses.insert(name.to_owned(), address.parse().expect("an address"));
            }
        }
        process
    }

    pub fn address(&self, name: &str) -> SocketAddr {
        self.addresses[name]
    }

    /// Sends SIGKILL and waits for the end of the program.
    pub fn kill(mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("ended");
    }

    /// Waits until the program exits and returns its exit code.
    pub async fn wait_for_exit(&mut self) -> Option<i32> {
        loop {
            match self.child.try_wait().expect("a child") {
                Some(status) => return status.code(),
                None => sleep(EXIT_POLL_PAUSE).await,
            }
        }
    }

    /// Returns the peak and the current resident memory of the program, in KiB.
    pub fn memory_kib(&self) -> [u64; 2] {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("/proc is mounted");
        ["VmHWM:", "VmRSS:"].map(|name| {
            let value =
                status.lines().find_map(|line| line.strip_prefix(name)).expect("the status contains the memory");
            value.trim().trim_end_matches(" kB").parse().expect("a number")
        })
    }

    /// Sends the signal with this name.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status();
        assert!(sent.expect("`kill` is installed").success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The program may have ended already.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// Returns a channel that connects on the first call.
pub fn channel(address: SocketAddr) -> Channel {
    Channel::from_shared(format!("http://{address}")).expect("a URL").connect_lazy()
}

/// Waits until a service reports this health status.
pub async fn wait_for_health(channel: Channel, expected: ServingStatus) {
    let statuses = HealthClient::new(channel).watch(HealthCheckRequest::default()).await;
    let mut statuses = statuses.expect("the health service is reachable").into_inner();
    while statuses.message().await.expect("no error").expect("not the end").status() != expected {}
}

/// Returns a request with an access token.
pub fn bearer<T>(access_token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let value = format!("Bearer {access_token}").parse().expect("a token is ASCII");
    request.metadata_mut().insert("authorization", value);
    request
}

/// Calls a URL with `curl` and returns the HTTP status and the body.
pub async fn curl(url: &str, arguments: &[&str]) -> (u16, String) {
    let output = tokio::process::Command::new("curl")
        .args(["--silent", "--show-error", "--write-out", "\n%{http_code}", url])
        .args(arguments)
        .output()
        .await
        .expect("curl is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let output = String::from_utf8(output.stdout).expect("UTF-8");
    let (body, status) = output.rsplit_once('\n').expect("a status follows the body");
    (status.parse().expect("a status"), body.to_owned())
}
