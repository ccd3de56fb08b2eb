//! A program that a test starts, asks and kills.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use tonic::{Request, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

pub const PASSWORD: &str = "correct horse battery staple";

/// How long a program may take to say that it listens, on a machine that is busy with other tests.
const START_LIMIT: Duration = Duration::from_secs(60);

/// A program of the workspace. Cargo has built it beside this test's own.
pub fn program(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_taskey")).with_file_name(name);
    assert!(path.exists(), "{} is not built: cargo build --workspace", path.display());
    path
}

/// A running program, killed when it is dropped.
pub struct Process {
    pub child: Child,
    pub addresses: HashMap<String, SocketAddr>,
}

impl Process {
    /// Starts a program and waits until it listens under each of these names.
    pub fn spawn(command: &mut Command, listeners: &[&str]) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the program starts");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let (lines, listening) = mpsc::channel();
        // It reads on to the end, so that the program never finds the pipe full.
        thread::spawn(move || output.lines().map_while(Result::ok).for_each(|line| _ = lines.send(line)));
        // From here on the program goes with this value, whatever happens.
        let mut process = Self { child, addresses: HashMap::new() };
        while process.addresses.len() < listeners.len() {
            let line = listening.recv_timeout(START_LIMIT).expect("the program listens");
            if let ["listening", name, address] = line.split(' ').collect::<Vec<_>>()[..] {
                process.addresses.insert(name.to_owned(), address.parse().expect("an address"));
            }
        }
        process
    }

    pub fn address(&self, name: &str) -> SocketAddr {
        self.addresses[name]
    }

    /// SIGKILL: the program cannot do anything about it.
    pub fn kill(mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("ended");
    }

    /// Sends a signal by its name.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status();
        assert!(sent.expect("there is a kill").success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// Calls to an address, over connections that are made when they are needed.
pub fn channel(address: SocketAddr) -> Channel {
    Channel::from_shared(format!("http://{address}")).expect("a URL").connect_lazy()
}

/// Waits until a service says of itself that its health is this.
pub async fn until_health(channel: Channel, awaited: ServingStatus) {
    let states = HealthClient::new(channel).watch(HealthCheckRequest::default()).await;
    let mut states = states.expect("the service tells its health").into_inner();
    while states.message().await.expect("no error").expect("not the end").status() != awaited {}
}

/// A request with an access token.
pub fn bearer<T>(access_token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let value = format!("Bearer {access_token}").parse().expect("a token is ASCII");
    request.metadata_mut().insert("authorization", value);
    request
}
