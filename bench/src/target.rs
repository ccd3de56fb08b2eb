//! The programs under load, which are started with databases of their own.

use std::{
    env, fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, ensure};
use service_kit::{
    auth::{
        claims::{self, AccessClaims},
        keys::KeySet,
        rotation::{self, NewKey},
        token,
    },
    clock::Clock,
    ops::config::TokenArgs,
};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::machine::{self, Cores, MeasuredProcesses};

/// The maximum time until a program serves requests.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Returns the issuer and the audience of the access tokens.
pub(crate) fn token_args() -> TokenArgs {
    TokenArgs { issuer: "taskey".to_owned(), audience: "taskey".to_owned() }
}

/// A running program, killed when it is dropped.
pub(crate) struct Process {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Process {
    /// Starts a program and waits until it listens.
    fn start(command: &mut Command) -> anyhow::Result<Self> {
        let program = command.get_program().display().to_string();
        let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start {program}"))?;
        let output = BufReader::new(child.stdout.take().context("the output is piped")?);
        let mut lines = output.lines();
        let address = lines.by_ref().map_while(Result::ok).find_map(|line| {
            let mut words = line.split(' ');
            (words.next()? == "listening").then(|| words.nth(1)?.parse().ok()).flatten()
        });
        let Some(address) = address else {
            _ = child.kill();
            _ = child.wait();
            anyhow::bail!("{program} ended before it listened");
        };
        // The rest of the output is discarded, so that the program never blocks on a full pipe.
        thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Ok(Self { child, address })
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

/// The folder, the keys, auth-service and the baseline server that all databases share.
pub(crate) struct Environment {
    cores: Cores,
    programs: PathBuf,
    keys: KeySet,
    clock: Clock,
    auth: Process,
    pub(crate) echo: Process,
    /// The last field, because the processes must end before the folder is deleted.
    pub(crate) folder: Folder,
}

impl Environment {
    /// Creates the folder in `parent`, and starts the shared programs, which are in the directory of this program.
    pub(crate) fn new(parent: &Path, cores: Cores) -> anyhow::Result<Self> {
        let bench = env::current_exe()?;
        let programs = bench.parent().context("a program is in a folder")?.to_owned();
        let (folder, clock) = (Folder::new(parent)?, Clock::system());
        let key_file = folder.0.join("keys.json");
        rotation::generate(NewKey::Hs256, &key_file)?;
        let keys = KeySet::read(&key_file, clock.now())?;
        let mut auth = Command::new(programs.join("auth-service"));
        auth.args(["--listen", "127.0.0.1:0", "--log", "error", "--key-file"]).arg(&key_file);
        auth.args(["--database-url", &sqlite_url(&folder.0, "auth")]);
        let auth = Process::start(&mut auth)?;
        let mut echo = Command::new(bench);
        echo.args(["echo", "--key-file"]).arg(&key_file);
        let echo = machine::on_service_core(cores, || Process::start(&mut echo))?;
        Ok(Self { cores, programs, keys, clock, auth, echo, folder })
    }

    /// Starts task-service on a database.
    pub(crate) fn task_service(&self, database_url: &str) -> anyhow::Result<Process> {
        let mut task = Command::new(self.programs.join("task-service"));
        task.args(["--listen", "127.0.0.1:0", "--log", "error", "--rate-limits", "off", "--max-tasks", "1000000"]);
        task.args(["--auth-url", &format!("http://{}", self.auth.address), "--database-url", database_url]);
        task.arg("--key-file").arg(self.folder.0.join("keys.json"));
        machine::on_service_core(self.cores, || Process::start(&mut task))
    }

    /// Starts the gateway in front of a task-service.
    pub(crate) fn gateway(&self, service: &Process) -> anyhow::Result<Process> {
        let mut gateway = Command::new(self.programs.join("gateway"));
        gateway.args(["--listen", "127.0.0.1:0", "--log", "error"]);
        gateway.args(["--auth-url", &format!("http://{}", self.auth.address)]);
        gateway.args(["--task-url", &format!("http://{}", service.address)]);
        machine::on_service_core(self.cores, || Process::start(&mut gateway))
    }

    /// Creates a user id, and an `authorization` header for the calls of that user.
    pub(crate) fn new_user(&self) -> anyhow::Result<(Uuid, http::HeaderValue)> {
        let (id, now) = (self.clock.new_id(), self.clock.now());
        let expires_at = now + claims::MAX_LIFETIME;
        let session_id = self.clock.new_id();
        let claims =
            AccessClaims { id: session_id, user_id: id, session_id, roles: Vec::new(), issued_at: now, expires_at };
        let token = token::sign(&self.keys, &token_args(), &claims)?;
        Ok((id, format!("Bearer {token}").parse()?))
    }
}

/// A folder that is deleted when it is dropped.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    fn new(parent: &Path) -> anyhow::Result<Self> {
        let folder = parent.join(std::process::id().to_string());
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
        let url = sqlite_url(&environment.folder.0, "task");
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
