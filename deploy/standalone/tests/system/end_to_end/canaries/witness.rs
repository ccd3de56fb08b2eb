//! The programs, and everything that they leave behind.

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

use crate::end_to_end::processes::serving;
use crate::{
    process::{Process, channel, program},
    shim::{DiskError, Shim},
};

/// Hashes are cheap, and all calls come from one address: both are other tests' questions.
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

/// Whoever has these answers is meant to.
const MEANT: [&str; 4] =
    ["/taskey.auth.v1.AuthService/Login", "/taskey.auth.v1.AuthService/Refresh", "/v1/auth/login", "/v1/auth/refresh"];

/// What the name of each log begins with.
const LOG: &str = "log-of-";

/// What is in a database on a server.
const DUMP: &str = "the dump of the database";

/// Running programs, which log all that they can.
pub struct Witness {
    database: TestDatabase,
    shim: Shim,
    format: &'static str,
    processes: Vec<Process>,
    loggers: Vec<JoinHandle<io::Result<u64>>>,
    /// Every answer that is not meant to hold a secret, and the call that it answers.
    answers: Mutex<Vec<(String, Vec<u8>)>>,
}

impl Witness {
    /// `taskey` on the data directory, or the three programs.
    pub async fn start(database: TestDatabase, apart: bool, format: &'static str) -> Self {
        let shim = Shim::new();
        let mut witness =
            Self { database, shim, format, processes: vec![], loggers: vec![], answers: Mutex::default() };
        let data = witness.data();
        if apart {
            fs::create_dir(&data).expect("the folder takes a folder");
            witness.output(&["keys", "generate", "--out", &witness.path("keys.json")]);
            let token = witness.output(&["tokens", "issue-service", "gateway"]);
            crate::end_to_end::keys::write(&data.join("gateway.token"), &token);
            let database = |name| ["--database-url".to_owned(), witness.url(name)];
            let [auth_url, task_url] = ["auth", "task"].map(database);
            let keys = ["--key-file".to_owned(), witness.path("keys.json")];
            let auth = AUTH_FLAGS.map(str::to_owned);
            witness.launch("auth-service", &[&auth[..], &auth_url, &keys].concat(), &["auth"]);
            let auth = ["--auth-url".to_owned(), witness.base("auth")];
            witness.launch("task-service", &[&auth[..], &task_url, &keys].concat(), &["task"]);
            let task = ["--task-url".to_owned(), witness.base("task")];
            let token = ["--service-token-file".to_owned(), witness.path("gateway.token")];
            witness.launch("gateway", &[auth, task, token].concat(), &["gateway"]);
        } else {
            let mut flags = AUTH_FLAGS.map(str::to_owned).to_vec();
            flags.extend(["--data-dir".to_owned(), data.display().to_string()]);
            if witness.is_on_server() {
                flags.extend(["--database-url".to_owned(), witness.database.url().to_owned()]);
            }
            witness.launch("taskey", &flags, &["auth", "task", "gateway"]);
        }
        for name in ["auth", "task"] {
            serving(witness.channel(name)).await;
        }
        witness
    }

    fn launch(&mut self, name: &str, flags: &[String], listeners: &[&str]) {
        let mut command = Command::new(program(name));
        for listener in listeners {
            let flag = if listeners.len() == 1 { "--listen".to_owned() } else { format!("--{listener}-listen") };
            command.args([&flag, "127.0.0.1:0"]);
        }
        let mut log = File::create(self.database.folder().join(format!("{LOG}{name}"))).expect("a log");
        command.args(flags).args(["--log", "trace", "--log-format", self.format]).envs(self.shim.environment());
        // The log goes through a pipe, since the disk of the program will fail.
        let (mut lines, stderr) = io::pipe().expect("there is a pipe");
        self.loggers.push(thread::spawn(move || io::copy(&mut lines, &mut log)));
        self.processes.push(Process::spawn(command.stderr(stderr), listeners));
    }

    fn data(&self) -> PathBuf {
        self.database.folder().join("data")
    }

    /// A file in the data directory.
    pub fn path(&self, name: &str) -> String {
        self.data().join(name).display().to_string()
    }

    fn is_on_server(&self) -> bool {
        self.database.url().starts_with("postgres")
    }

    fn url(&self, service: &str) -> String {
        if self.is_on_server() { self.database.url().to_owned() } else { format!("sqlite:{}.db", self.path(service)) }
    }

    fn base(&self, name: &str) -> String {
        let process = self.processes.iter().find(|process| process.addresses.contains_key(name));
        format!("http://{}", process.expect("a process has this listener").address(name))
    }

    pub fn channel(&self, name: &str) -> Channel {
        channel(self.base(name)["http://".len()..].parse().expect("an address"))
    }

    /// `auth-service` with these arguments, beside the live one.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program("auth-service"));
        command.args(arguments).env("TASKEY_DATABASE_URL", self.url("auth"));
        command
    }

    /// What it prints.
    pub fn output(&self, arguments: &[&str]) -> String {
        text(self.command(arguments).output().expect("the program runs"))
    }

    /// Calls an RPC with these bytes and these headers.
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
        let answer = call_raw(&self.channel(name), path, request).await;
        match &answer {
            Ok(_) if MEANT.contains(&path) => {}
            Ok(answer) => self.note(path, answer.clone()),
            Err(status) => {
                self.note(path, format!("{status:?}").into_bytes());
                self.note(path, status.details().to_vec());
            }
        }
        answer
    }

    /// Sends an HTTP request to the gateway: the status and the body of the answer.
    pub async fn http(&self, method: &str, path: &str, headers: &[&str], body: &[u8]) -> (u16, String) {
        let mut curl = tokio::process::Command::new("curl");
        curl.args(["--silent", "--show-error", "--include", "--request", method, "--path-as-is"]);
        curl.args(headers.iter().flat_map(|header| ["--header", header]));
        if !body.is_empty() {
            curl.args(["--header", "expect:", "--data-binary", "@-"]);
        }
        curl.arg(format!("{}{path}", self.base("gateway"))).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = curl.spawn().expect("there is a curl");
        // Who refuses early does not read to the end.
        _ = child.stdin.take().expect("piped").write_all(body).await;
        let answer = child.wait_with_output().await.expect("it ends").stdout;
        let shown = String::from_utf8(answer).expect("UTF-8");
        let status = shown.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        if status != 200 || !MEANT.contains(&path) {
            self.note(path, shown.clone().into_bytes());
        }
        (status, shown.split_once("\r\n\r\n").expect("headers end").1.to_owned())
    }

    pub fn note(&self, call: &str, answer: Vec<u8>) {
        self.answers.lock().expect("no panic").push((call.to_owned(), answer));
    }

    /// Has the database fail while something is done.
    pub async fn with_faults(&self, done: impl AsyncFn()) {
        if self.is_on_server() {
            // PostgreSQL tells the whole row that violates a check, and the name of what is missing.
            let hurt = "alter table auth.users add constraint broken check (false) not valid;
                alter table auth.sessions add constraint broken check (false) not valid;";
            let heal =
                "alter table auth.users drop constraint broken; alter table auth.sessions drop constraint broken;";
            let lose = "alter table auth.users rename to lost";
            let end = "select pg_terminate_backend(pid) from pg_stat_activity
                where datname = current_database() and pid <> pg_backend_pid()";
            self.sql(hurt);
            done().await;
            self.sql(heal);
            self.sql(lose);
            done().await;
            self.sql("alter table auth.lost rename to users");
            tokio::join!(done(), async { _ = self.sql(end) });
        } else {
            for error in [DiskError::Full, DiskError::Input] {
                self.shim.fail_writes(Some(error));
                done().await;
                self.shim.fail_writes(None);
            }
            self.shim.fail_syncs(Some(DiskError::Input));
            done().await;
            self.shim.fail_syncs(None);
        }
    }

    fn sql(&self, sql: &str) -> String {
        let mut command = Command::new(postgres_programs().join("psql"));
        text(command.args(["--no-psqlrc", "--quiet", "--command", sql, self.database.url()]).output().expect("it runs"))
    }

    /// Ends the programs, and gives everything in which no secret may be: all that they have logged and answered, their
    /// databases, and what everyone on the machine may know of them.
    pub fn everything(&mut self) -> Vec<(String, Vec<u8>)> {
        let mut all = std::mem::take(&mut *self.answers.lock().expect("no panic"));
        all.extend(self.databases());
        for process in self.processes.drain(..) {
            for file in ["cmdline", "environ"] {
                let path = format!("/proc/{}/{file}", process.child.id());
                all.push((path.clone(), fs::read(path).expect("there is a proc")));
            }
            process.kill();
        }
        for logger in self.loggers.drain(..) {
            logger.join().expect("no panic").expect("all was logged");
        }
        all.extend(self.logs());
        all
    }

    /// Whether this is a place of [`Self::everything`] that is in a database.
    pub fn is_database(place: &str) -> bool {
        place == DUMP || place.contains(".db")
    }

    /// Whether this is a log.
    pub fn is_log(place: &str) -> bool {
        place.starts_with(LOG)
    }

    /// All that the programs have logged.
    fn logs(&self) -> Vec<(String, Vec<u8>)> {
        files(self.database.folder(), |name| name.starts_with(LOG))
    }

    /// All that is in the databases.
    fn databases(&self) -> Vec<(String, Vec<u8>)> {
        if !self.is_on_server() {
            return files(&self.data(), |name| name.contains(".db"));
        }
        let dump = Command::new(postgres_programs().join("pg_dump")).args(["--dbname", self.database.url()]).output();
        vec![(DUMP.to_owned(), text(dump.expect("it runs")).into_bytes())]
    }
}

fn files(folder: &Path, chosen: impl Fn(&str) -> bool) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder).expect("the folder is there").map(|entry| entry.expect("an entry").path());
    let named = entries.map(|path| (path.file_name().expect("a name").to_string_lossy().into_owned(), path));
    named.filter(|(name, _)| chosen(name)).map(|(name, path)| (name, fs::read(path).expect("a file"))).collect()
}

/// Where `psql` and `pg_dump` are.
fn postgres_programs() -> PathBuf {
    let find = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.ci/with-postgres");
    text(Command::new(find).arg("--find").output().expect("the script runs")).trim().into()
}

fn text(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}
