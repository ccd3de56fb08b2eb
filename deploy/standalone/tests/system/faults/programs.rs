//! The four programs, each on its own.

use std::{net::Ipv4Addr, path::Path, process::Command};

use service_kit::testing::TestDatabase;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::health_check_response::ServingStatus;

use crate::process::{Process, channel, program, wait_for_health};

/// The names of the programs, with their listeners.
pub const PROGRAMS: [(&str, &[&str]); 4] = [
    ("auth-service", &["auth"]),
    ("task-service", &["task"]),
    ("gateway", &["gateway"]),
    ("taskey", &["auth", "task", "gateway"]),
];

/// An address where nothing listens.
const NOWHERE: &str = "http://127.0.0.1:1";

/// Returns a command that starts a program with a database in the folder of `database`, without the programs that it
/// calls.
pub fn command(name: &str, database: &TestDatabase, flags: &[&str]) -> Command {
    let keys = database.key_file().display().to_string();
    let path = |file: &str| database.folder().join(file).display().to_string();
    let url = format!("sqlite:{}", path(&format!("{name}.db")));
    let listen = ["--listen", "127.0.0.1:0"];
    let mut command = Command::new(program(name));
    match name {
        "auth-service" => command.args(listen).args(["--key-file", &keys, "--database-url", &url]),
        "task-service" => {
            command.args(listen).args(["--key-file", &keys, "--database-url", &url, "--auth-url", NOWHERE])
        }
        "gateway" => command.args(listen).envs([("TASKEY_AUTH_URL", NOWHERE), ("TASKEY_TASK_URL", NOWHERE)]),
        _ => command.args(taskey_flags(&database.folder().join("data"))),
    };
    command.args(flags);
    command
}

/// Starts `taskey`, without rate limits because all calls come from one address, and waits until it serves.
pub async fn start_taskey(database: &TestDatabase, flags: &[&str]) -> Process {
    let mut command = command("taskey", database, flags);
    command.args(["--log", "warn", "--rate-limits", "off", "--password-memory-kib", "8", "--password-passes", "1"]);
    let taskey = Process::spawn(&mut command, &["auth", "task", "gateway"]);
    wait_for_health(channel(taskey.address("gateway")), ServingStatus::Serving).await;
    taskey
}

fn taskey_flags(data: &Path) -> Vec<String> {
    let listen = ["--auth-listen", "--task-listen", "--gateway-listen"].map(|flag| [flag, "127.0.0.1:0"]);
    let data = ["--data-dir".to_owned(), data.display().to_string()];
    listen.concat().iter().map(ToString::to_string).chain(data).collect()
}

/// Returns a channel that connects from the loopback address with this last byte.
pub fn channel_from(address: std::net::SocketAddr, host: u8) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("a URL");
    endpoint.local_address(Some(Ipv4Addr::new(127, 0, 0, host).into())).connect_lazy()
}
