//! nginx as a reverse proxy in front of a gateway.

use std::{
    collections::HashMap,
    fs,
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};

use crate::process::Process;

/// How long nginx may take until it listens, on a machine that is busy with other tests.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// The name of its listener.
const NAME: &str = "nginx";

/// Starts nginx with files in `folder`. It keeps connections to the gateway open, and appends to `x-forwarded-for`.
pub async fn start(folder: &Path, gateway: SocketAddr) -> Process {
    // nginx cannot choose a port by itself.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let folder = folder.join(NAME);
    fs::create_dir(&folder).expect("the folder is new");
    fs::write(folder.join("nginx.conf"), configuration(&folder, address, gateway)).expect("the folder is writable");
    let mut command = Command::new(find_nginx());
    command.arg("-p").arg(&folder).arg("-c").arg(folder.join("nginx.conf")).stderr(Stdio::null());
    let child = command.spawn().expect("nginx starts");
    let process = Process { child, addresses: HashMap::from([(NAME.to_owned(), address)]) };
    let listening = async {
        while TcpStream::connect(address).await.is_err() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(START_TIMEOUT, listening).await.expect("nginx listens");
    process
}

fn configuration(folder: &Path, address: SocketAddr, gateway: SocketAddr) -> String {
    let folder = folder.display();
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary: String = temporary.map(|name| format!("{name}_temp_path {folder}/{name};\n")).concat();
    format!(
        "daemon off;\nmaster_process off;\npid {folder}/pid;\nerror_log {folder}/error.log;\n\
         events {{ worker_connections 2048; }}\n\
         http {{\n{temporary}access_log off;\n\
         upstream gateway {{ server {gateway}; keepalive 64; }}\n\
         server {{ listen {address}; location / {{\n\
         proxy_pass http://gateway;\nproxy_http_version 1.1;\nproxy_buffering off;\n\
         proxy_set_header Connection '';\nproxy_set_header Host $http_host;\n\
         proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n\
         proxy_set_header X-Forwarded-Proto $scheme;\n}} }} }}\n"
    )
}

/// Returns the path of nginx, which Debian installs outside the `PATH` of ordinary users.
fn find_nginx() -> &'static str {
    ["/usr/sbin/nginx", "/usr/bin/nginx"]
        .into_iter()
        .find(|path| fs::exists(path).is_ok_and(|exists| exists))
        .expect("`make tools` installs nginx")
}

/// Returns the address of nginx.
pub fn address(nginx: &Process) -> SocketAddr {
    nginx.address(NAME)
}
