//! Programs that a service manager such as systemd starts: sockets that it passes, and notifications that it receives.

use std::{
    net::{SocketAddr, TcpListener},
    os::{
        fd::OwnedFd,
        unix::{net::UnixDatagram, process::CommandExt},
    },
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use service_kit::testing::{TestDatabase, report_skipped};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    faults::{
        programs::command,
        report::{LOAD_ALLOWANCE, report_value},
    },
    process::Process,
};

/// How long a program may take until it notifies, on a machine that is busy with other tests.
const NOTIFY_TIMEOUT: Duration = Duration::from_secs(30);

/// The longest pause of a restart that a client notices.
const RESTART_LIMIT: Duration = Duration::from_secs(2);

/// Makes standard input the first passed socket, as systemd does, and runs the program.
const PASS_SOCKET: &str = r#"exec 3<&0 </dev/null; export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES="$0"; exec "$@""#;

/// Starts `gateway` with a socket that stays open when it ends. Its own setting of the address is another one.
fn start_gateway(socket: &TcpListener, name: &str, database: &TestDatabase) -> Process {
    let socket = socket.try_clone().expect("the socket can be shared");
    let program = command("gateway", database, &[]);
    let mut passing = Command::new("bash");
    passing.args(["-c", PASS_SOCKET, name]).arg(program.get_program()).args(program.get_args());
    for (name, value) in program.get_envs() {
        passing.env(name, value.expect("it is set"));
    }
    passing.stdin(Stdio::from(OwnedFd::from(socket)));
    Process::spawn(&mut passing, &["gateway"])
}

/// How the connections of a client have ended.
#[derive(Debug, Default)]
struct Connections {
    served: AtomicUsize,
    refused: AtomicUsize,
    closed: AtomicUsize,
    slowest_ms: AtomicUsize,
}

impl Connections {
    /// Opens one connection after the other, and makes a request on each.
    async fn run(&self, address: SocketAddr, stopped: &CancellationToken) {
        while !stopped.is_cancelled() {
            let begun = Instant::now();
            let outcome = match TcpStream::connect(address).await {
                Err(_) => &self.refused,
                // If it is not served, it was accepted just before the shutdown, without a request.
                Ok(stream) => {
                    if is_served(stream).await {
                        &self.served
                    } else {
                        &self.closed
                    }
                }
            };
            outcome.fetch_add(1, Ordering::Relaxed);
            let elapsed = usize::try_from(begun.elapsed().as_millis()).unwrap_or(usize::MAX);
            self.slowest_ms.fetch_max(elapsed, Ordering::Relaxed);
        }
    }
}

async fn is_served(mut stream: TcpStream) -> bool {
    let request = b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let mut response = Vec::new();
    stream.write_all(request).await.is_ok()
        && stream.read_to_end(&mut response).await.is_ok()
        && response.starts_with(b"HTTP/1.1 200 ")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restart_with_a_passed_socket_refuses_no_connection() {
    let database = TestDatabase::sqlite();
    let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = socket.local_addr().expect("an address");
    let mut gateway = start_gateway(&socket, "gateway", &database);
    assert_eq!(gateway.address("gateway"), address);
    let (connections, stopped) = (Arc::new(Connections::default()), CancellationToken::new());
    let clients = [(); 4].map(|()| {
        let (connections, stopped) = (Arc::clone(&connections), stopped.clone());
        tokio::spawn(async move { connections.run(address, &stopped).await })
    });
    for _ in 0..3 {
        gateway.signal("TERM");
        assert_eq!(gateway.wait_for_exit().await, Some(0));
        gateway = start_gateway(&socket, "gateway", &database);
        let served = connections.served.load(Ordering::Relaxed);
        while connections.served.load(Ordering::Relaxed) < served + 100 {
            tokio::task::yield_now().await;
        }
    }
    stopped.cancel();
    for client in clients {
        client.await.expect("no panic");
    }
    report_value("three restarts", format_args!("{connections:?}"));
    assert_eq!(connections.refused.load(Ordering::Relaxed), 0);
    let slowest = Duration::from_millis(connections.slowest_ms.load(Ordering::Relaxed) as u64);
    assert!(slowest <= RESTART_LIMIT + LOAD_ALLOWANCE, "{slowest:?}");
}

#[test]
fn passed_socket_that_no_listener_uses_is_refused() {
    let database = TestDatabase::sqlite();
    let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = socket.local_addr().expect("an address");
    let program = command("gateway", &database, &[]);
    let mut passing = Command::new("bash");
    passing.args(["-c", PASS_SOCKET, "web"]).arg(program.get_program()).args(program.get_args());
    let output = passing.stdin(Stdio::from(OwnedFd::from(socket))).output().expect("the program starts");
    let errors = String::from_utf8(output.stderr).expect("UTF-8");
    let expected = format!("the socket \"web\" at {address}, which is the address of no listener");
    assert!(!output.status.success() && errors.contains(&expected) && errors.lines().count() == 1, "{errors}");
}

/// systemd names sockets after their unit, so they are recognized by their addresses.
#[tokio::test(flavor = "multi_thread")]
async fn sockets_of_systemd_are_used_for_the_listeners_with_their_addresses() {
    if Command::new("systemd-socket-activate").arg("--version").stdout(Stdio::null()).status().is_err() {
        report_skipped("a test with passed sockets", "systemd-socket-activate is not installed");
        return;
    }
    let database = TestDatabase::sqlite();
    let free = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    let addresses = free.map(|listener| listener.local_addr().expect("an address").to_string());
    let data = database.folder().join("data").display().to_string();
    let mut activate = Command::new("systemd-socket-activate");
    activate.args(addresses.iter().flat_map(|address| ["--listen", address]));
    activate.arg(crate::process::program("taskey")).args(["--data-dir", &data, "--log", "warn"]);
    for (name, address) in ["--auth-listen", "--task-listen", "--gateway-listen"].iter().zip(&addresses) {
        activate.args([name, &address[..]]);
    }
    activate.stderr(Stdio::null()).process_group(0);
    // The program starts when a client connects.
    let gateway = addresses[2].clone();
    let client = tokio::spawn(async move {
        loop {
            match TcpStream::connect(&gateway).await {
                Ok(stream) => return is_served(stream).await,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    });
    let starting = tokio::task::spawn_blocking(move || Process::spawn(&mut activate, &["auth", "task", "gateway"]));
    let taskey = starting.await.expect("the program listens");
    for (name, address) in ["auth", "task", "gateway"].iter().zip(&addresses) {
        assert_eq!(taskey.address(name).to_string(), *address);
    }
    assert!(timeout(NOTIFY_TIMEOUT, client).await.expect("in time").expect("no panic"));
}

/// The socket of a service manager.
struct Notifications(tokio::net::UnixDatagram);

impl Notifications {
    fn bind(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).expect("the folder is new");
        socket.set_nonblocking(true).expect("a socket");
        Self(tokio::net::UnixDatagram::from_std(socket).expect("a socket"))
    }

    async fn next(&self) -> String {
        let mut buffer = [0; 1024];
        let length = timeout(NOTIFY_TIMEOUT, self.0.recv(&mut buffer)).await.expect("a notification in time");
        String::from_utf8(buffer[..length.expect("received")].to_vec()).expect("UTF-8")
    }

    /// Waits for a notification, and ignores those of the watchdog.
    async fn next_state(&self) -> String {
        loop {
            let notification = self.next().await;
            if notification != "WATCHDOG=1\n" {
                return notification;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn service_manager_is_notified_of_start_watchdog_reload_and_stop() {
    let listeners = ["auth", "task", "gateway"];
    for (name, listeners) in [("taskey", &listeners[..]), ("auth-service", &["auth"]), ("gateway", &["gateway"])] {
        let database = TestDatabase::sqlite();
        let path = database.folder().join("notify");
        let notifications = Notifications::bind(&path);
        let mut program = command(name, &database, &["--log", "warn"]);
        program.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "4000000");
        let mut process = Process::spawn(&mut program, listeners);
        assert_eq!(notifications.next().await, "READY=1\n", "{name}");
        assert_eq!(notifications.next().await, "WATCHDOG=1\n", "{name}");
        assert_eq!(notifications.next().await, "WATCHDOG=1\n", "{name}");

        process.signal("HUP");
        let reloading = notifications.next_state().await;
        let time = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect(&reloading);
        assert!(time.trim_end().parse::<u64>().is_ok(), "{reloading}");
        assert_eq!(notifications.next_state().await, "READY=1\n", "{name}");

        process.signal("TERM");
        assert_eq!(notifications.next_state().await, "STOPPING=1\n", "{name}");
        assert_eq!(process.wait_for_exit().await, Some(0), "{name}");
    }
}
