//! The programs under load, which are started with databases of their own.

use std::{
    collections::HashMap,
    env, fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use service_kit::{
    auth::{
        claims::{self, AccessClaims},
        keys::KeySet,
        rotation::{self, NewKey},
        token,
    },
    clock::Clock,
    ops::config::TokenArgs,
    random,
};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::{
    fill::Tables,
    machine::{self, Cores, MeasuredProcesses},
};

/// The maximum time until a program serves requests.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Returns the issuer and the audience of the access tokens.
pub(crate) fn token_args() -> TokenArgs {
    TokenArgs { issuer: "taskey".to_owned(), audience: "taskey".to_owned() }
}

/// A running program, killed when it is dropped.
pub(crate) struct Process {
    child: Child,
    /// The names and the addresses of its servers.
    addresses: HashMap<String, SocketAddr>,
}

impl Process {
    /// Starts a program, and waits until its servers listen. Its log is written to `log`.
    fn start(command: &mut Command, servers: &[&str], log: &Path) -> anyhow::Result<Self> {
        let program = command.get_program().display().to_string();
        command.stdout(Stdio::piped()).stderr(fs::File::create(log)?);
        let mut child = command.spawn().with_context(|| format!("cannot start {program}"))?;
        let mut lines = BufReader::new(child.stdout.take().context("the output is piped")?).lines();
        let mut process = Self { child, addresses: HashMap::new() };
        while !servers.iter().all(|server| process.addresses.contains_key(*server)) {
            let Some(line) = lines.by_ref().map_while(Result::ok).next() else {
                bail!("{program} ended before it listened: {}", fs::read_to_string(log)?.trim());
            };
            if let ["listening", name, address] = line.split(' ').collect::<Vec<_>>()[..] {
                process.addresses.insert(name.to_owned(), address.parse()?);
            }
        }
        // The rest of the output is discarded, so that the program never blocks on a full pipe.
        thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Ok(process)
    }

    /// Returns the address of a server.
    pub(crate) fn address(&self, server: &str) -> SocketAddr {
        self.addresses[server]
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The program may have ended already.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// The folder and the keys that all programs share.
pub(crate) struct Environment {
    cores: Cores,
    programs: PathBuf,
    keys: KeySet,
    clock: Clock,
    /// The last field, so that the folder is deleted at the end.
    pub(crate) folder: Folder,
}

impl Environment {
    /// Creates the folder in `parent`. The programs are in the directory of this program.
    pub(crate) fn new(parent: &Path, cores: Cores) -> anyhow::Result<Self> {
        let programs = env::current_exe()?.parent().context("a program is in a folder")?.to_owned();
        let (folder, clock) = (Folder::new(parent)?, Clock::system());
        let key_file = folder.0.join("keys.json");
        rotation::generate(NewKey::Hs256, &key_file)?;
        let keys = KeySet::read(&key_file, clock.now())?;
        Ok(Self { cores, programs, keys, clock, folder })
    }

    /// Starts the baseline server.
    pub(crate) fn echo(&self) -> anyhow::Result<Process> {
        self.start("bench", &["echo", "--key-file", &self.key_file()], &["echo"])
    }

    /// Starts all services in one process, at default settings except for the limits that the load would exceed, and for
    /// `further` ones.
    pub(crate) fn taskey(&self, database: &Database, further: &[&str]) -> anyhow::Result<Process> {
        let data_dir = self.folder.0.join(database.engine).display().to_string();
        let listen = ["--auth-listen", "--task-listen", "--gateway-listen"].map(|flag| [flag, "127.0.0.1:0"]);
        let mut arguments = listen.concat();
        arguments.extend(["--rate-limits", "off", "--max-tasks", "1000000", "--data-dir", &data_dir]);
        let key_file = self.key_file();
        arguments.extend(["--database-url", &database.url, "--key-file", &key_file]);
        arguments.extend(further);
        self.start("taskey", &arguments, &["auth", "task", "gateway"])
    }

    /// Starts auth-service with these tables.
    pub(crate) fn auth_service(&self, tables: &Tables) -> anyhow::Result<Process> {
        let arguments = ["--database-url", &tables.url, "--key-file", &self.key_file()];
        self.start("auth-service", &[&["--listen", "127.0.0.1:0"], &arguments[..]].concat(), &["auth"])
    }

    /// Starts task-service on a SQLite database.
    pub(crate) fn task_service(&self, auth: &Process) -> anyhow::Result<Process> {
        let auth_url = format!("http://{}", auth.address("auth"));
        let (database_url, key_file) = (sqlite_url(&self.folder.0, "task"), self.key_file());
        let mut arguments = vec!["--listen", "127.0.0.1:0", "--rate-limits", "off", "--max-tasks", "1000000"];
        arguments.extend(["--auth-url", &auth_url, "--database-url", &database_url, "--key-file", &key_file]);
        self.start("task-service", &arguments, &["task"])
    }

    /// Starts the gateway in front of two services.
    pub(crate) fn gateway(&self, auth: &Process, task: &Process) -> anyhow::Result<Process> {
        let (auth, task) = (auth.address("auth"), task.address("task"));
        let (auth_url, task_url) = (format!("http://{auth}"), format!("http://{task}"));
        let arguments = ["--listen", "127.0.0.1:0", "--auth-url", &auth_url, "--task-url", &task_url];
        self.start("gateway", &arguments, &["gateway"])
    }

    /// Starts a program on the core of the services.
    fn start(&self, program: &str, arguments: &[&str], servers: &[&str]) -> anyhow::Result<Process> {
        let mut command = Command::new(self.programs.join(program));
        let log = self.folder.0.join(program).with_extension("log");
        machine::on_service_core(self.cores, || Process::start(command.args(arguments), servers, &log))
    }

    fn key_file(&self) -> String {
        self.folder.0.join("keys.json").display().to_string()
    }

    /// Creates a user id, and an `authorization` header for the calls of that user.
    pub(crate) fn new_user(&self) -> anyhow::Result<(Uuid, http::HeaderValue)> {
        let id = self.clock.new_id();
        Ok((id, self.authorize(id, self.clock.new_id())?))
    }

    /// Returns an `authorization` header for a session of a user.
    pub(crate) fn authorize(&self, user_id: Uuid, session_id: Uuid) -> anyhow::Result<http::HeaderValue> {
        let (id, now) = (self.clock.new_id(), self.clock.now());
        let expires_at = now + claims::MAX_LIFETIME;
        let claims = AccessClaims {
            id,
            user_id,
            session_id,
            roles: Vec::new(),
            scopes: None,
            authentication: None,
            issued_at: now,
            expires_at,
            actors: Vec::new(),
        };
        let token = token::sign(&self.keys, &token_args(), &claims)?;
        Ok(format!("Bearer {token}").parse()?)
    }
}

/// A folder that is deleted when it is dropped.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    fn new(parent: &Path) -> anyhow::Result<Self> {
        let folder = parent.join(random::id().to_string());
        fs::create_dir(&folder)?;
        Ok(Self(folder))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A failure only leaves a few files behind.
        _ = fs::remove_dir_all(&self.0);
    }
}

/// Returns the URL of a SQLite database in a folder.
fn sqlite_url(folder: &Path, name: &str) -> String {
    format!("sqlite:{}", folder.join(name).with_extension("db").display())
}

/// An empty database, which [`remove`](Self::remove) deletes.
pub(crate) struct Database {
    pub(crate) engine: &'static str,
    pub(crate) url: String,
    /// The URL of the server and the name of the database, for PostgreSQL.
    server_and_name: Option<(String, String)>,
    postmaster: Option<u32>,
}

impl Database {
    pub(crate) fn sqlite(environment: &Environment) -> Self {
        let url = sqlite_url(&environment.folder.0, "taskey");
        Self { engine: "SQLite", url, server_and_name: None, postmaster: None }
    }

    /// Creates a database on a PostgreSQL server.
    pub(crate) async fn postgres(server: &str) -> anyhow::Result<Self> {
        let mut connection = PgConnection::connect(server).await.context("cannot reach the PostgreSQL server")?;
        let name = format!("bench_{}", Clock::system().new_id().simple());
        connection.execute(AssertSqlSafe(format!("create database {name} template template0"))).await?;
        // The process id of a server on another machine is meaningless here.
        let backend: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut connection).await?;
        let local = ["@127.0.0.1", "@localhost"].iter().any(|host| server.contains(host));
        let postmaster = u32::try_from(backend).ok().filter(|_| local).and_then(machine::parent);
        connection.close().await?;
        let (base, parameters) = server.split_once('?').map_or((server, ""), |(base, rest)| (base, rest));
        let base = base.rsplit_once('/').context("a URL has a path")?.0;
        let url = format!("{base}/{name}?{parameters}");
        Ok(Self { engine: "PostgreSQL", url, server_and_name: Some((server.to_owned(), name)), postmaster })
    }

    /// Returns the tables of task-service, which `taskey` has created.
    pub(crate) fn task_tables(&self) -> Tables {
        Tables { url: self.service_url("task"), schema: "task" }
    }

    /// Returns the tables of auth-service, which `taskey` has created.
    pub(crate) fn auth_tables(&self) -> Tables {
        Tables { url: self.service_url("auth"), schema: "auth" }
    }

    /// Returns the URL of the database of a service, of which `taskey` has one each on SQLite.
    fn service_url(&self, service: &str) -> String {
        self.url.strip_suffix(".db").map_or_else(|| self.url.clone(), |path| format!("{path}-{service}.db"))
    }

    /// Returns the processes whose CPU time is measured when this service is under load.
    pub(crate) fn measured_processes(&self, service: &Process) -> MeasuredProcesses {
        MeasuredProcesses { service: service.id(), postmaster: self.postmaster }
    }

    pub(crate) async fn remove(self) -> anyhow::Result<()> {
        let Some((server, name)) = self.server_and_name else { return Ok(()) };
        let mut connection = PgConnection::connect(&server).await?;
        connection.execute(AssertSqlSafe(format!("drop database {name} with (force)"))).await?;
        Ok(connection.close().await?)
    }
}

/// Retries an attempt until it succeeds. A service that has just started cannot verify tokens yet.
pub(crate) async fn retry<T>(mut attempt: impl AsyncFnMut() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let start = Instant::now();
    loop {
        match attempt().await {
            Ok(value) => return Ok(value),
            Err(error) => ensure!(start.elapsed() < START_LIMIT, "the service does not become ready: {error:#}"),
        }
        sleep(Duration::from_millis(20)).await;
    }
}
