//! What operators use: the listener for health checks and metrics, and the commands of the programs.

use std::net::SocketAddr;

use http_body_util::{BodyExt, Empty};
use hyper::{Method, Request, StatusCode, body::Bytes};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use service_kit::testing::TestDatabase;
use tonic_health::pb::health_check_response::ServingStatus;

use crate::{
    faults::programs::command,
    process::{Process, wait_for_health},
};

mod connections;
mod forgotten_password;
mod log;
mod metrics;
mod monitoring;
mod ops_listener;
mod service_manager;
mod tokens;
pub mod traces;
mod users;

/// Sends a request without a body, and returns the status code and the body of the response.
async fn send(address: SocketAddr, method: Method, path: &str) -> (StatusCode, String) {
    let request = Request::builder().method(method).uri(format!("http://{address}{path}")).body(Empty::<Bytes>::new());
    let client = Client::builder(TokioExecutor::new()).build_http();
    let (head, body) = client.request(request.expect("a request")).await.expect("a response").into_parts();
    let body = body.collect().await.expect("a whole body").to_bytes();
    (head.status, String::from_utf8(body.to_vec()).expect("UTF-8"))
}

/// Requests a path, and returns the status code and the body.
pub async fn get(address: SocketAddr, path: &str) -> (StatusCode, String) {
    send(address, Method::GET, path).await
}

/// Starts `taskey` with a listener for operators, and waits until it serves.
async fn start_taskey(database: &TestDatabase, flags: &[&str]) -> Process {
    let cheap_hashes = ["--password-memory-kib", "8", "--password-passes", "1"];
    let rate_limits = if flags.contains(&"--rate-limits") { &[][..] } else { &["--rate-limits", "off"] };
    let flags = [&["--ops-listen", "127.0.0.1:0", "--log", "warn"], &cheap_hashes[..], rate_limits, flags].concat();
    let mut command = command("taskey", database, &flags);
    if database.url().starts_with("postgres") {
        command.args(["--database-url", database.url()]);
    }
    let taskey = Process::spawn(&mut command, &["auth", "task", "gateway", "ops"]);
    wait_for_health(taskey.channel("ops"), ServingStatus::Serving).await;
    taskey
}
