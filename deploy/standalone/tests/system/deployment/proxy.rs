//! The proxies of `deploy/proxy` in front of gateways.

use std::{
    collections::HashMap,
    fs,
    io::{self, Write},
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use tokio::{net::TcpStream, time::timeout};

use super::{
    certificate::Certificate,
    template::{find_program, free_address, render},
};
use crate::process::Process;

/// The name in the certificate.
pub const HOST: &str = "tasks.example.org";

/// How long a proxy may take until it listens, on a machine that is busy with other tests.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// Several instances run on one machine.
const ENVOY_FLAGS: [&str; 5] = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "warn"];

/// The name of the log.
const LOG: &str = "proxy.log";

/// A running proxy with TLS.
pub struct Proxy {
    pub name: &'static str,
    pub address: SocketAddr,
    pub certificate: Certificate,
    _process: Process,
}

impl Proxy {
    /// Starts nginx.
    pub async fn nginx(folder: &Path, gateway: SocketAddr) -> Self {
        Self::nginx_with("proxy/nginx.conf", &[], folder, free_address(), gateway).await
    }

    /// Starts nginx, which serves the gateway under a path.
    pub async fn nginx_under(path: &str, folder: &Path, address: SocketAddr, gateway: SocketAddr) -> Self {
        Self::nginx_with("proxy/nginx-path.conf", &[("PREFIX", path)], folder, address, gateway).await
    }

    async fn nginx_with(
        template: &str,
        variables: &[(&str, &str)],
        folder: &Path,
        address: SocketAddr,
        gateway: SocketAddr,
    ) -> Self {
        let certificate = Certificate::issue(folder, &format!("DNS:{HOST}"));
        let (gateway, listen) = (gateway.to_string(), address.to_string());
        let common = [
            ("GATEWAY", &gateway[..]),
            ("LISTEN", &listen),
            ("HOST", HOST),
            ("CERTIFICATE", text(&certificate.chain)),
            ("PRIVATE_KEY", text(&certificate.private_key)),
        ];
        let server = render(template, &[&common, variables].concat());
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let temporary = temporary.map(|name| format!("{name}_temp_path {};\n", text(&folder.join(name)))).concat();
        let main = format!(
            "daemon off;\nmaster_process off;\npid {0}/pid;\nerror_log stderr;\nevents {{}}\n\
             http {{\naccess_log off;\n{temporary}{server}}}\n",
            folder.display()
        );
        let file = write(folder, "nginx.conf", &main);
        Self::start("nginx", &["-p", text(folder), "-c", &file], address, certificate).await
    }

    /// Starts HAProxy.
    pub async fn haproxy(folder: &Path, gateway: SocketAddr) -> Self {
        let (address, certificate) = (free_address(), Certificate::issue(folder, &format!("DNS:{HOST}")));
        let combined = certificate.combined();
        let variables = [
            ("GATEWAY", &gateway.to_string()[..]),
            ("LISTEN", &address.to_string()),
            ("CERTIFICATE_AND_KEY", text(&combined)),
        ];
        let file = write(folder, "haproxy.cfg", &render("proxy/haproxy.cfg", &variables));
        Self::start("haproxy", &["-db", "-f", &file], address, certificate).await
    }

    /// Starts Caddy, without its administration endpoint.
    pub async fn caddy(folder: &Path, gateway: SocketAddr) -> Self {
        let (address, certificate) = (free_address(), Certificate::issue(folder, &format!("DNS:{HOST}")));
        let variables = [
            ("GATEWAY", &gateway.to_string()[..]),
            ("HOST", HOST),
            ("PORT", &address.port().to_string()),
            ("CERTIFICATE", text(&certificate.chain)),
            ("PRIVATE_KEY", text(&certificate.private_key)),
        ];
        let options = "{\n\tadmin off\n\tauto_https disable_redirects\n\tdefault_bind 127.0.0.1\n}\n";
        let file = write(folder, "Caddyfile", &format!("{options}{}", render("proxy/Caddyfile", &variables)));
        Self::start("caddy", &["run", "--adapter", "caddyfile", "--config", &file], address, certificate).await
    }

    /// Starts Envoy in front of two gateways.
    pub async fn envoy(folder: &Path, gateways: [SocketAddr; 2]) -> Self {
        let (address, certificate) = (free_address(), Certificate::issue(folder, &format!("DNS:{HOST}")));
        let [ips, ports] = [
            [address, gateways[0], gateways[1]].map(|address| address.ip().to_string()),
            [address, gateways[0], gateways[1]].map(|address| address.port().to_string()),
        ];
        let variables = [
            ("LISTEN_ADDRESS", &ips[0][..]),
            ("LISTEN_PORT", &ports[0]),
            ("CERTIFICATE", text(&certificate.chain)),
            ("PRIVATE_KEY", text(&certificate.private_key)),
            ("GATEWAY_ONE_ADDRESS", &ips[1]),
            ("GATEWAY_ONE_PORT", &ports[1]),
            ("GATEWAY_TWO_ADDRESS", &ips[2]),
            ("GATEWAY_TWO_PORT", &ports[2]),
        ];
        let file = write(folder, "envoy.yaml", &render("proxy/envoy.yaml", &variables));
        Self::start("envoy", &[&["-c", &file], &ENVOY_FLAGS[..]].concat(), address, certificate).await
    }

    async fn start(name: &'static str, arguments: &[&str], address: SocketAddr, certificate: Certificate) -> Self {
        let folder = certificate.chain.parent().expect("a folder");
        let process = start_program(name, arguments, &folder.join(LOG), address).await;
        Self { name, address, certificate, _process: process }
    }

    /// Returns a command that calls the proxy over TLS, from the loopback address with this last byte.
    pub fn curl(&self, client: u8, path: &str) -> tokio::process::Command {
        let port = self.address.port();
        let mut command = tokio::process::Command::new("curl");
        command.args(["--silent", "--show-error", "--max-time", "100", "--interface", &format!("127.0.1.{client}")]);
        command.args(["--resolve", &format!("{HOST}:{port}:127.0.0.1"), "--cacert", text(&self.certificate.authority)]);
        command.arg(format!("https://{HOST}:{port}{path}")).stdin(Stdio::null()).kill_on_drop(true);
        command
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if thread::panicking() {
            let log = fs::read_to_string(self.certificate.chain.with_file_name(LOG)).unwrap_or_default();
            _ = writeln!(io::stderr(), "-- the log of {}\n{log}", self.name);
        }
    }
}

/// Starts Envoy in front of two replicas of auth-service and of task-service. Returns its addresses for them.
pub async fn start_envoy_for_services(
    folder: &Path,
    auth: [SocketAddr; 2],
    task: [SocketAddr; 2],
) -> (Process, [SocketAddr; 2]) {
    let listeners = [free_address(), free_address()];
    let names = ["AUTH_ONE", "AUTH_TWO", "TASK_ONE", "TASK_TWO"];
    let replicas = names.into_iter().zip([auth, task].concat());
    let mut variables: Vec<_> = replicas
        .flat_map(|(name, address)| {
            [
                (format!("{name}_ADDRESS"), address.ip().to_string()),
                (format!("{name}_PORT"), address.port().to_string()),
            ]
        })
        .collect();
    variables.push(("LISTEN_ADDRESS".to_owned(), "127.0.0.1".to_owned()));
    for (name, address) in ["AUTH_PORT", "TASK_PORT"].into_iter().zip(listeners) {
        variables.push((name.to_owned(), address.port().to_string()));
    }
    let variables: Vec<_> = variables.iter().map(|(name, value)| (&name[..], &value[..])).collect();
    let file = write(folder, "envoy-services.yaml", &render("proxy/envoy-services.yaml", &variables));
    let log = folder.join("envoy-services.log");
    (start_program("envoy", &[&["-c", &file], &ENVOY_FLAGS[..]].concat(), &log, listeners[1]).await, listeners)
}

/// Starts a proxy, and waits until it listens.
async fn start_program(name: &str, arguments: &[&str], log: &Path, address: SocketAddr) -> Process {
    let folder = log.parent().expect("a folder");
    let file = fs::File::create(log).expect("a log");
    let mut command = Command::new(find_program(name));
    command.args(arguments).env("HOME", folder).current_dir(folder).stdin(Stdio::null());
    command.stdout(file.try_clone().expect("a log")).stderr(file);
    let child = command.spawn().expect("the proxy starts");
    let process = Process { child, addresses: HashMap::from([(name.to_owned(), address)]) };
    let listening = async {
        while TcpStream::connect(address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let is_listening = timeout(START_TIMEOUT, listening).await.is_ok();
    assert!(is_listening, "{name} does not listen: {}", fs::read_to_string(log).unwrap_or_default());
    process
}

fn write(folder: &Path, name: &str, content: &str) -> String {
    let path = folder.join(name);
    fs::write(&path, content).expect("written");
    text(&path).to_owned()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("made of ASCII")
}
