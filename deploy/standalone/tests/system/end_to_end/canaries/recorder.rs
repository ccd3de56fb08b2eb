//! Runs the programs and records everything that they log, return and store.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::Mutex,
    thread::{self, JoinHandle},
};

use service_kit::testing::{TestDatabase, call_raw};
use tokio::io::AsyncWriteExt;
use tonic::{Request, Status, transport::Channel};

use crate::end_to_end::processes::wait_until_serving;
use crate::{
    process::{Process, channel, program},
    shim::{DiskError, Shim},
};

/// Cheap hashes, and no rate limits because all calls come from one address.
const AUTH_FLAGS: [&str; 10] = [
    "--password-memory-kib",
    "8",
    "--password-passes",
    "1",
    "--login-rate",
    "1000000+1/s",
    "--sign-up-rate",
    "1000000+1/s",
    "--refresh-rate",
    "1000000+1/s",
];

/// Webhooks can name receivers on this machine.
const TASK_FLAGS: [&str; 2] = ["--webhook-allow", "127.0.0.1"];

/// Calls whose responses contain secrets by design.
const RESPONSES_WITH_SECRETS: [&str; 8] = [
    "/taskey.auth.v1.AdminService/CreateServiceAccount",
    "/taskey.auth.v1.PersonalAccessTokenService/CreatePersonalAccessToken",
    "/taskey.auth.v1.OAuthService/AuthorizeDevice",
    "/taskey.auth.v1.AuthService/Login",
    "/taskey.auth.v1.AuthService/Refresh",
    "/taskey.task.v1.WebhookService/CreateWebhook",
    "/v1/auth/login",
    "/v1/auth/refresh",
];

/// The prefix of the names of logs.
const LOG_PREFIX: &str = "log-of-";

/// The name of the database dump.
const DUMP_NAME: &str = "the dump of the database";

/// Running programs with the most verbose logs.
pub struct Recorder {
    database: TestDatabase,
    shim: Shim,
    format: &'static str,
    processes: Vec<Process>,
    loggers: Vec<JoinHandle<io::Result<u64>>>,
    /// Every response that should not contain a secret, with the name of its call.
    responses: Mutex<Vec<(String, Vec<u8>)>>,
}

impl Recorder {
    /// Starts `taskey`, or the three programs separately.
    pub async fn start(database: TestDatabase, separately: bool, format: &'static str) -> Self {
        let shim = Shim::new();
        let mut recorder =
            Self { database, shim, format, processes: vec![], loggers: vec![], responses: Mutex::default() };
        let data = recorder.data();
        if separately {
            fs::create_dir(&data).expect("the folder is writable");
            recorder.output(&["keys", "generate", "--out", &recorder.path("keys.json")]);
            let token = recorder.output(&["tokens", "issue-service", "gateway"]);
            crate::end_to_end::keys::write(&data.join("gateway.token"), &token);
            let database = |name| ["--database-url".to_owned(), recorder.url(name)];
            let [auth_url, task_url] = ["auth", "task"].map(database);
            let keys = ["--key-file".to_owned(), recorder.path("keys.json")];
            let auth = AUTH_FLAGS.map(str::to_owned);
            recorder.launch("auth-service", &[&auth[..], &auth_url, &keys].concat(), &["auth"]);
            let auth = ["--auth-url".to_owned(), recorder.base_url("auth")];
            let task = TASK_FLAGS.map(str::to_owned);
            recorder.launch("task-service", &[&auth[..], &task_url, &keys, &task].concat(), &["task"]);
            let task = ["--task-url".to_owned(), recorder.base_url("task")];
            let token = ["--service-token-file".to_owned(), recorder.path("gateway.token")];
            recorder.launch("gateway", &[auth, task, token].concat(), &["gateway"]);
        } else {
            let mut flags = [&AUTH_FLAGS[..], &TASK_FLAGS].concat().into_iter().map(str::to_owned).collect::<Vec<_>>();
            flags.extend(["--data-dir".to_owned(), data.display().to_string()]);
            if recorder.is_on_postgres() {
                flags.extend(["--database-url".to_owned(), recorder.database.url().to_owned()]);
            }
            recorder.launch("taskey", &flags, &["auth", "task", "gateway"]);
        }
        for name in ["auth", "task"] {
            wait_until_serving(recorder.channel(name)).await;
        }
        recorder
    }

    fn launch(&mut self, name: &str, flags: &[String], listeners: &[&str]) {
        let mut command = Command::new(program(name));
        for listener in listeners {
            let flag = if listeners.len() == 1 { "--listen".to_owned() } else { format!("--{listener}-listen") };
            command.args([&flag, "127.0.0.1:0"]);
        }
        let mut log = File::create(self.database.folder().join(format!("{LOG_PREFIX}{name}"))).expect("a log");
        command.args(flags).args(["--log", "trace", "--log-format", self.format]).envs(self.shim.environment());
        // The log goes through a pipe, because the test makes the program's disk fail.
        let (mut lines, stderr) = io::pipe().expect("a pipe");
        self.loggers.push(thread::spawn(move || io::copy(&mut lines, &mut log)));
        self.processes.push(Process::spawn(command.stderr(stderr), listeners));
    }

    fn data(&self) -> PathBuf {
        self.database.folder().join("data")
    }

    /// Returns the path of a file in the data directory.
    pub fn path(&self, name: &str) -> String {
        self.data().join(name).display().to_string()
    }

    fn is_on_postgres(&self) -> bool {
        self.database.url().starts_with("postgres")
    }

    fn url(&self, service: &str) -> String {
        if self.is_on_postgres() { self.database.url().to_owned() } else { format!("sqlite:{}.db", self.path(service)) }
    }

    fn base_url(&self, name: &str) -> String {
        let process = self.processes.iter().find(|process| process.addresses.contains_key(name));
        format!("http://{}", process.expect("a process has this listener").address(name))
    }

    pub fn channel(&self, name: &str) -> Channel {
        channel(self.base_url(name)["http://".len()..].parse().expect("an address"))
    }

    /// Returns an `auth-service` command, to run while the service is running.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program("auth-service"));
        command.args(arguments).env("TASKEY_DATABASE_URL", self.url("auth"));
        command
    }

    /// Runs an `auth-service` command and returns its output.
    pub fn output(&self, arguments: &[&str]) -> String {
        text(self.command(arguments).output().expect("the program runs"))
    }

    /// Calls an RPC with an encoded message and these headers.
    pub async fn grpc(
        &self,
        path: &str,
        message: Vec<u8>,
        headers: &[(&'static str, &str)],
    ) -> Result<Vec<u8>, Status> {
        let mut request = Request::new(message);
        for (name, value) in headers {
            request.metadata_mut().append(*name, value.parse().expect("ASCII"));
        }
        let name = if path.starts_with("/taskey.task.") { "task" } else { "auth" };
        let response = call_raw(&self.channel(name), path, request).await;
        match &response {
            Ok(_) if RESPONSES_WITH_SECRETS.contains(&path) => {}
            Ok(response) => self.record(path, response.clone()),
            Err(status) => {
                self.record(path, format!("{status:?}").into_bytes());
                self.record(path, status.details().to_vec());
            }
        }
        response
    }

    /// Sends an HTTP request to the gateway. Returns the status and the body of the response.
    pub async fn http(&self, method: &str, path: &str, headers: &[&str], body: &[u8]) -> (u16, String) {
        let mut curl = tokio::process::Command::new("curl");
        curl.args(["--silent", "--show-error", "--include", "--request", method, "--path-as-is"]);
        curl.args(headers.iter().flat_map(|header| ["--header", header]));
        if !body.is_empty() {
            curl.args(["--header", "expect:", "--data-binary", "@-"]);
        }
        curl.arg(format!("{}{path}", self.base_url("gateway"))).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = curl.spawn().expect("curl is installed");
        // A server that refuses early does not read the whole body.
        _ = child.stdin.take().expect("piped").write_all(body).await;
        let response = child.wait_with_output().await.expect("curl exits").stdout;
        let output_text = String::from_utf8(response).expect("UTF-8");
        let status = output_text.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        if status != 200 || !RESPONSES_WITH_SECRETS.contains(&path) {
            self.record(path, output_text.clone().into_bytes());
        }
        (status, output_text.split_once("\r\n\r\n").expect("headers end").1.to_owned())
    }

    pub fn record(&self, call: &str, response: Vec<u8>) {
        self.responses.lock().expect("no panic").push((call.to_owned(), response));
    }

    /// Runs `calls` during several kinds of database faults.
    pub async fn with_faults(&self, calls: impl AsyncFn()) {
        if self.is_on_postgres() {
            // PostgreSQL's errors contain the whole row that violates a check, and the name of a missing table.
            let add_checks = "alter table auth.users add constraint broken check (false) not valid;
                alter table auth.sessions add constraint broken check (false) not valid;";
            let drop_checks =
                "alter table auth.users drop constraint broken; alter table auth.sessions drop constraint broken;";
            let rename_table = "alter table auth.users rename to lost";
            let end_sessions = "select pg_terminate_backend(pid) from pg_stat_activity
                where datname = current_database() and pid <> pg_backend_pid()";
            self.sql(add_checks);
            calls().await;
            self.sql(drop_checks);
            self.sql(rename_table);
            calls().await;
            self.sql("alter table auth.lost rename to users");
            tokio::join!(calls(), async { _ = self.sql(end_sessions) });
        } else {
            for error in [DiskError::Full, DiskError::Input] {
                self.shim.fail_writes(Some(error));
                calls().await;
                self.shim.fail_writes(None);
            }
            self.shim.fail_syncs(Some(DiskError::Input));
            calls().await;
            self.shim.fail_syncs(None);
        }
    }

    fn sql(&self, sql: &str) -> String {
        let mut command = Command::new(postgres_programs().join("psql"));
        text(
            command
                .args(["--no-psqlrc", "--quiet", "--command", sql, self.database.url()])
                .output()
                .expect("the program runs"),
        )
    }

    /// Stops the programs and returns everything that must not contain a secret: their logs, responses and databases,
    /// and the public information about their processes.
    pub fn all_output(&mut self) -> Vec<(String, Vec<u8>)> {
        let mut all = std::mem::take(&mut *self.responses.lock().expect("no panic"));
        all.extend(self.databases());
        for process in self.processes.drain(..) {
            for file in ["cmdline", "environ"] {
                let path = format!("/proc/{}/{file}", process.child.id());
                all.push((path.clone(), fs::read(path).expect("/proc is mounted")));
            }
            process.kill();
        }
        for logger in self.loggers.drain(..) {
            logger.join().expect("no panic").expect("the log was copied");
        }
        all.extend(self.logs());
        all
    }

    /// Reports whether this source of [`Self::all_output`] is a database.
    pub fn is_database(source: &str) -> bool {
        source == DUMP_NAME || source.contains(".db")
    }

    /// Reports whether this source is a log.
    pub fn is_log(source: &str) -> bool {
        source.starts_with(LOG_PREFIX)
    }

    /// Returns the logs of all programs.
    fn logs(&self) -> Vec<(String, Vec<u8>)> {
        files(self.database.folder(), |name| name.starts_with(LOG_PREFIX))
    }

    /// Returns the contents of all databases.
    fn databases(&self) -> Vec<(String, Vec<u8>)> {
        if !self.is_on_postgres() {
            return files(&self.data(), |name| name.contains(".db"));
        }
        let dump = Command::new(postgres_programs().join("pg_dump")).args(["--dbname", self.database.url()]).output();
        vec![(DUMP_NAME.to_owned(), text(dump.expect("the program runs")).into_bytes())]
    }
}

fn files(folder: &Path, is_selected: impl Fn(&str) -> bool) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder).expect("the folder exists").map(|entry| entry.expect("an entry").path());
    let named = entries.map(|path| (path.file_name().expect("a name").to_string_lossy().into_owned(), path));
    named.filter(|(name, _)| is_selected(name)).map(|(name, path)| (name, fs::read(path).expect("a file"))).collect()
}

/// Returns the folder of `psql` and `pg_dump`.
fn postgres_programs() -> PathBuf {
    let find = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.ci/with-postgres");
    text(Command::new(find).arg("--find").output().expect("the script runs")).trim().into()
}

fn text(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}
