//! The quick starts of `clients/<language>/README.md`: what a new user pastes into an empty folder makes an
//! authenticated call.

use std::{fs, process::Stdio, time::Duration};

use service_kit::testing::folder;
use tokio::{process::Command, time::timeout};

use super::{client_folder, drive::metric, scenario::Server, world::World};

/// A new user has made a call after this time.
const LIMIT: Duration = Duration::from_secs(120);

/// The address in the quick starts, which is the default one of `taskey`.
const ADDRESS: &str = "localhost:8080";

/// Returns the first block of shell commands of a manual.
fn first_block(manual: &str) -> Option<&str> {
    let (_, rest) = manual.split_once("```sh\n")?;
    Some(rest.split_once("\n```")?.0)
}

async fn check(language: &str) {
    let Some(client) = client_folder(language) else { return };
    let manual = fs::read_to_string(client.join("README.md")).expect("the client has a manual");
    let world = World::start(&Server::default()).await;
    let variables = world.variables();
    let address = variables["gateway"].as_str().expect("an address");
    let commands = first_block(&manual).expect("the manual begins with shell commands").replace(ADDRESS, address);
    // Tools derive the name of a package from that of the folder.
    let parent = folder();
    let empty = parent.path().join("quick-start");
    fs::create_dir(&empty).expect("created");
    let mut shell = Command::new("bash");
    shell.args(["-euo", "pipefail", "-c", &commands]).current_dir(&empty).stdin(Stdio::null()).kill_on_drop(true);
    shell.env("TASKEY", super::folder().join("..").canonicalize().expect("the folder exists"));
    let output = timeout(LIMIT, shell.output()).await.expect("a call is made in time").expect("bash is installed");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
    let labels = ["grpc_code=\"OK\"", "grpc_service=\"taskey.task.v1.TaskService\""].map(str::to_owned);
    let calls = metric(world.ops_address().expect("it runs"), "grpc_server_handled_total", &labels).await;
    assert!(calls.expect("metrics") >= 1.0, "no authenticated call was made:\n{}", text(&output.stdout));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn go() {
    check("go").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python() {
    check("python").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn typescript() {
    check("typescript").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn java() {
    check("java").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cpp() {
    check("cpp").await;
}
