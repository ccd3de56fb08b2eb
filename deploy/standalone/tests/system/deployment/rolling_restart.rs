//! All replicas of all services are restarted, one after the other, under load. Clients call two gateways through Envoy,
//! and the gateways call the services through Envoy.

use std::sync::Arc;

use service_kit::random;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::proxy::{Proxy, start_envoy_for_services};
use crate::{
    faults::{
        cluster::{Cluster, ClusterConfig, TWO_EACH},
        report::report_value,
        service::Service,
        users::{create, list, sign_up_and_log_in},
    },
    process::Process,
};

/// Long enough for Envoy and the gateways to notice that a replica shuts down.
const SHUTDOWN_DELAY: [&str; 2] = ["--shutdown-delay", "3s"];

/// The last bytes of the addresses of the readers, and of the writer.
const READERS: u8 = 4;
const WRITER: u8 = 9;

/// The number of calls of each reader in a process of curl.
const CALLS: usize = 50;

/// The replicas, behind Envoy.
struct Site {
    cluster: Cluster,
    gateways: [Service; 2],
    /// Envoy in front of the services.
    _services: Process,
    envoy: Arc<Proxy>,
    token: String,
    task_id: String,
}

impl Site {
    /// Starts two replicas of each service. Returns `None` without a PostgreSQL server.
    async fn start() -> Option<Self> {
        let config = ClusterConfig { auth_flags: &SHUTDOWN_DELAY, task_flags: &SHUTDOWN_DELAY, ..TWO_EACH };
        let cluster = Cluster::on_postgres(config).await?;
        let folder = cluster.database.folder();
        let addresses = |services: &[Service]| [services[0].address(), services[1].address()];
        let replicas = [addresses(&cluster.auth), addresses(&cluster.task)];
        let (services, listeners) = start_envoy_for_services(folder, replicas[0], replicas[1]).await;
        let [auth_url, task_url] = listeners.map(|address| format!("http://{address}"));
        let gateways = [(); 2].map(|()| {
            let flags = ["--auth-url", &auth_url, "--task-url", &task_url, "--trusted-proxies", "127.0.0.1"];
            let flags = [&flags[..], &SHUTDOWN_DELAY].concat();
            let flags = flags.into_iter().map(str::to_owned).collect();
            Service::start("gateway", folder, flags, &[])
        });
        for gateway in &gateways {
            gateway.wait_until_ready().await;
        }
        let addresses = gateways.each_ref().map(Service::address);
        let envoy = Proxy::envoy(folder, addresses).await;
        let pair = sign_up_and_log_in(&cluster.auth[0].channel(), "ann@example.com").await;
        let task = create(&cluster.task[0].channel(), &pair.access_token, "Buy milk").await.expect("created");
        Some(Self {
            cluster,
            gateways,
            _services: services,
            envoy: Arc::new(envoy),
            token: pair.access_token,
            task_id: task.id,
        })
    }

    fn services(&mut self) -> impl Iterator<Item = &mut Service> {
        self.cluster.auth.iter_mut().chain(&mut self.cluster.task).chain(&mut self.gateways)
    }
}

/// Reads a task or the account until it is stopped, without retries of its own. Returns the codes of the responses.
async fn read(envoy: Arc<Proxy>, token: String, path: String, client: u8, stopped: CancellationToken) -> Vec<String> {
    let mut codes = Vec::new();
    while !stopped.is_cancelled() {
        // curl makes one call for each number in the fragment, which it does not send, on one connection.
        let mut command = envoy.curl(client, &format!("{path}#[1-{CALLS}]"));
        command.args(["--header", &format!("authorization: Bearer {token}"), "--output", "/dev/null"]);
        let output = command.args(["--write-out", "%{http_code}\n"]).output().await.expect("curl is installed");
        codes.extend(String::from_utf8(output.stdout).expect("UTF-8").lines().map(str::to_owned));
    }
    codes
}

/// Creates tasks until it is stopped. Each call may be repeated with the same idempotency key. Returns the codes of the
/// last attempts.
async fn write(envoy: Arc<Proxy>, token: String, stopped: CancellationToken) -> Vec<String> {
    let mut codes = Vec::new();
    while !stopped.is_cancelled() {
        let mut command = envoy.curl(WRITER, "/v1/tasks");
        command.args(["--header", &format!("authorization: Bearer {token}"), "--output", "/dev/null"]);
        command.args(["--header", &format!("idempotency-key: {}", random::id()), "--data", r#"{"title": "Buy oats"}"#]);
        command.args(["--header", "content-type: application/json", "--retry", "5", "--retry-all-errors"]);
        let output = command.args(["--write-out", "%{http_code}\n"]).output().await.expect("curl is installed");
        let attempts = String::from_utf8(output.stdout).expect("UTF-8");
        codes.extend(attempts.lines().last().map(str::to_owned));
    }
    codes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_idempotent_call_fails_while_all_replicas_are_restarted() {
    let Some(mut site) = Site::start().await else { return };
    let (stopped, mut readers) = (CancellationToken::new(), JoinSet::new());
    for client in 1..=READERS {
        let path = if client % 2 == 0 { "/v1/me".to_owned() } else { format!("/v1/tasks/{}", site.task_id) };
        readers.spawn(read(Arc::clone(&site.envoy), site.token.clone(), path, client, stopped.clone()));
    }
    let writer = tokio::spawn(write(Arc::clone(&site.envoy), site.token.clone(), stopped.clone()));
    for service in site.services() {
        service.stop().await;
        service.start_again();
        service.wait_until_ready().await;
    }
    stopped.cancel();
    let reads = readers.join_all().await.concat();
    let writes = writer.await.expect("no panic");
    report_value("calls", format_args!("{} reads, {} writes", reads.len(), writes.len()));
    for codes in [reads, writes.clone()] {
        let failed: Vec<_> = codes.iter().filter(|code| *code != "200").collect();
        assert!(
            failed.is_empty() && codes.len() >= CALLS,
            "{} of {} calls failed: {failed:?}",
            failed.len(),
            codes.len()
        );
    }
    // A repeated call has not created a second task.
    let tasks = list(&site.cluster.task[0].channel(), &site.token).await.expect("listed");
    assert_eq!(tasks.len(), writes.len() + 1);
}
