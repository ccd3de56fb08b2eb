//! HTTP clients of two gateways behind Envoy. The gateways call the services through Envoy.

use std::sync::Arc;

use service_kit::random;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{SHUTDOWN_DELAY, Services, restart_each};
use crate::{
    deployment::proxy::Proxy,
    faults::{
        report::report_value,
        service::Service,
        users::{create, list, sign_up_and_log_in},
    },
};

/// The last bytes of the addresses of the readers, and of the writer.
const READERS: u8 = 4;
const WRITER: u8 = 9;

/// The number of calls of each reader in a process of curl.
const CALLS: usize = 50;

/// The services, and two gateways behind Envoy.
struct Site {
    services: Services,
    gateways: [Service; 2],
    envoy: Arc<Proxy>,
    token: String,
    task_id: String,
}

impl Site {
    /// Starts two replicas of each service. Returns `None` without a PostgreSQL server.
    async fn start() -> Option<Self> {
        let services = Services::start().await?;
        let folder = services.cluster.database.folder();
        let [auth_url, task_url] = services.addresses.map(|address| format!("http://{address}"));
        let gateways = [(); 2].map(|()| {
            let flags = ["--auth-url", &auth_url, "--task-url", &task_url, "--trusted-proxies", "127.0.0.1"];
            let flags = [&flags[..], &SHUTDOWN_DELAY].concat();
            let flags = flags.into_iter().map(str::to_owned).collect();
            Service::start("gateway", folder, flags, &[])
        });
        for gateway in &gateways {
            gateway.wait_until_ready().await;
        }
        let envoy = Arc::new(Proxy::envoy(folder, gateways.each_ref().map(Service::address)).await);
        let pair = sign_up_and_log_in(&services.cluster.auth[0].channel(), "ann@example.com").await;
        let task = create(&services.cluster.task[0].channel(), &pair.access_token, "Buy milk").await.expect("created");
        Some(Self { services, gateways, envoy, token: pair.access_token, task_id: task.id })
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
    restart_each(site.services.replicas().chain(&mut site.gateways)).await;
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
    let tasks = list(&site.services.cluster.task[0].channel(), &site.token).await.expect("listed");
    assert_eq!(tasks.len(), writes.len() + 1);
}
