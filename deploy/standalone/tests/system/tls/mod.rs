//! The programs with TLS.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use service_kit::{
    clock::Clock,
    testing::{
        TestDatabase,
        certificates::{Authority, Issued},
        folder,
    },
    tls::{Dialer, UpstreamTlsArgs},
};
use taskey_proto::{
    auth::v1::{LoginRequest, SignUpRequest, auth_service_client::AuthServiceClient},
    task::v1::{ListTasksRequest, task_service_client::TaskServiceClient},
};
use tempfile::TempDir;
use tokio::time::timeout;
use tonic::{
    Code,
    transport::{Channel, Endpoint, Uri},
};

use crate::process::{PASSWORD, Process, program};

mod ports;
mod reload;
mod tokens;
mod traces;

/// How long a line may take until it is in the log.
const LOG_LIMIT: Duration = Duration::from_secs(10);
const LOG_POLL_PAUSE: Duration = Duration::from_millis(20);

/// A folder with the certificates of an authority.
struct Files {
    folder: TempDir,
    authority: Authority,
}

impl Files {
    /// Writes the certificate of the authority to `ca.pem`, and that of this machine to `server.crt` and `server.key`.
    fn new() -> Self {
        let files = Self { folder: folder(), authority: Authority::new("first") };
        _ = files.authority.write(files.folder.path(), "ca");
        files.write("server", &files.authority.issue(&["127.0.0.1", "localhost"]));
        files
    }

    fn write(&self, name: &str, issued: &Issued) {
        _ = issued.write(self.folder.path(), name);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Returns a path as a flag takes it.
    fn flag(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Returns the file to which a program writes its log.
    fn log(&self) -> PathBuf {
        self.path("log")
    }

    /// Waits until the log contains this text.
    async fn wait_for_log(&self, text: &str) {
        let logged = async {
            while !fs::read_to_string(self.log()).is_ok_and(|log| log.contains(text)) {
                tokio::time::sleep(LOG_POLL_PAUSE).await;
            }
        };
        let log = || fs::read_to_string(self.log()).unwrap_or_default();
        assert!(timeout(LOG_LIMIT, logged).await.is_ok(), "{text:?} is not in the log:\n{}", log());
    }

    /// Returns a dialer that trusts the authorities in a file, with the certificate of this name.
    async fn dialer(&self, authorities: &str, identity: Option<&str>) -> Dialer {
        let args = UpstreamTlsArgs {
            upstream_ca_file: Some(self.path(authorities)),
            upstream_cert_file: identity.map(|name| self.path(name).with_extension("crt")),
            upstream_key_file: identity.map(|name| self.path(name).with_extension("key")),
        };
        args.open([], &Clock::system()).await.expect("usable files")
    }
}

/// Starts `taskey` with a certificate in this folder, and these other flags.
fn start_taskey(database: &TestDatabase, certificates: &Path, flags: &[&str]) -> Process {
    let listeners = ["auth", "task", "gateway", "ops"];
    let listeners = if flags.contains(&"--ops-listen") { &listeners } else { &listeners[..3] };
    Process::spawn(&mut command(database, certificates, flags), listeners)
}

fn command(database: &TestDatabase, certificates: &Path, flags: &[&str]) -> Command {
    let path = |name: &str| certificates.join(name).display().to_string();
    let mut command = Command::new(program("taskey"));
    command.env("TASKEY_RATE_LIMITS", "off").args(["--log", "warn", "--data-dir"]).arg(database.folder().join("data"));
    command.args(["--auth-listen", "127.0.0.1:0", "--task-listen", "127.0.0.1:0", "--gateway-listen", "127.0.0.1:0"]);
    command.args(["--tls-cert-file", &path("server.crt"), "--tls-key-file", &path("server.key")]).args(flags);
    command
}

/// Returns a channel that connects on the first call.
fn channel(dialer: &Dialer, address: SocketAddr) -> Channel {
    let url: Uri = format!("https://{address}").parse().expect("a URL");
    Endpoint::from(url).connect_with_connector_lazy(dialer.clone())
}

/// Reports whether a server accepts the certificate of a client: it refuses only the missing access token then.
async fn is_accepted(tasks: Channel) -> bool {
    let listed = TaskServiceClient::new(tasks).list_tasks(ListTasksRequest::default()).await;
    listed.expect_err("there is no access token").code() == Code::Unauthenticated
}

/// Signs up a user, logs in and returns the access token.
async fn sign_up_and_log_in(auth: &Channel, email: &str) -> String {
    let (mut client, email, password) = (AuthServiceClient::new(auth.clone()), email.to_owned(), PASSWORD.to_owned());
    let sign_up = SignUpRequest { email: email.clone(), password: password.clone(), ..SignUpRequest::default() };
    client.sign_up(sign_up).await.expect("signed up");
    let login = LoginRequest { email, password, ..LoginRequest::default() };
    client.login(login).await.expect("logged in").into_inner().access_token
}
