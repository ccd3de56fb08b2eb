//! What is loaded: real programs that are started for it, on databases of their own.

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

use crate::machine::{self, Cores, Counted};

/// How long a program may take until it serves.
const START_LIMIT: Duration = Duration::from_secs(60);

/// What the tokens say of who made them.
pub(crate) fn names() -> TokenArgs {
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
        let output = BufReader::new(child.stdout.take().context("there is an output")?);
        let mut lines = output.lines();
        let address = lines.by_ref().map_while(Result::ok).find_map(|line| {
            let mut words = line.split(' ');
            (words.next()? == "listening").then(|| words.nth(1)?.parse().ok()).flatten()
        });
        let Some(address) = address else {
            _ = child.kill();
            _ = child.wait();
            anyhow::bail!("{program} has ended before it listened");
        };
        // It is read on, so that the program never finds the pipe full.
        thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Ok(Self { child, address })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// The folder, the keys, the accounts and the yardstick that all databases share.
pub(crate) struct Ground {
    cores: Cores,
    programs: PathBuf,
    keys: KeySet,
    clock: Clock,
    auth: Process,
    pub(crate) echo: Process,
    /// The last to go.
    pub(crate) folder: Folder,
}

impl Ground {
    /// Makes the folder in `place`, and takes the programs that lie beside this one.
    pub(crate) fn new(place: &Path, cores: Cores) -> anyhow::Result<Self> {
        let own = env::current_exe()?;
        let programs = own.parent().context("a program lies in a folder")?.to_owned();
        let (folder, clock) = (Folder::new(place)?, Clock::system());
        let key_file = folder.0.join("keys.json");
        rotation::generate(NewKey::Hs256, &key_file)?;
        let keys = KeySet::read(&key_file, clock.now())?;
        let mut auth = Command::new(programs.join("auth-service"));
        auth.args(["--listen", "127.0.0.1:0", "--log", "error", "--key-file"]).arg(&key_file);
        auth.args(["--database-url", &sqlite(&folder.0, "auth")]);
        let auth = Process::start(&mut auth)?;
        let mut echo = Command::new(own);
        echo.args(["echo", "--key-file"]).arg(&key_file);
        let echo = machine::on_core(cores, || Process::start(&mut echo))?;
        Ok(Self { cores, programs, keys, clock, auth, echo, folder })
    }

    /// Starts task-service on a database.
    pub(crate) fn task_service(&self, database_url: &str) -> anyhow::Result<Process> {
        let mut task = Command::new(self.programs.join("task-service"));
        task.args(["--listen", "127.0.0.1:0", "--log", "error", "--rate-limits", "off", "--max-tasks", "1000000"]);
        task.args(["--auth-url", &format!("http://{}", self.auth.address), "--database-url", database_url]);
        task.arg("--key-file").arg(self.folder.0.join("keys.json"));
        machine::on_core(self.cores, || Process::start(&mut task))
    }

    /// Starts the gateway before a task-service.
    pub(crate) fn gateway(&self, service: &Process) -> anyhow::Result<Process> {
        let mut gateway = Command::new(self.programs.join("gateway"));
        gateway.args(["--listen", "127.0.0.1:0", "--log", "error"]);
        gateway.args(["--auth-url", &format!("http://{}", self.auth.address)]);
        gateway.args(["--task-url", &format!("http://{}", service.address)]);
        machine::on_core(self.cores, || Process::start(&mut gateway))
    }

    /// A new user, and the header of that user's calls.
    pub(crate) fn user(&self) -> anyhow::Result<(Uuid, http::HeaderValue)> {
        let (id, now) = (self.clock.new_id(), self.clock.now());
        let expires_at = now + claims::MAX_LIFETIME;
        let session_id = self.clock.new_id();
        let claims =
            AccessClaims { id: session_id, user_id: id, session_id, roles: Vec::new(), issued_at: now, expires_at };
        let token = token::sign(&self.keys, &names(), &claims)?;
        Ok((id, format!("Bearer {token}").parse()?))
    }
}

/// A folder that goes when it is dropped.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    fn new(place: &Path) -> anyhow::Result<Self> {
        let folder = place.join(std::process::id().to_string());
        fs::create_dir(&folder)?;
        Ok(Self(folder))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left is no more than a few files.
        _ = fs::remove_dir_all(&self.0);
    }
}

/// The URL of a file in a folder.
fn sqlite(folder: &Path, name: &str) -> String {
    format!("sqlite:{}", folder.join(name).with_extension("db").display())
}

/// An empty database that goes when [`remove`](Self::remove) is called.
pub(crate) struct Database {
    pub(crate) engine: &'static str,
    pub(crate) url: String,
    /// The server and the name, of one that is on a server.
    on_server: Option<(String, String)>,
    postmaster: Option<u32>,
}

impl Database {
    pub(crate) fn sqlite(ground: &Ground) -> Self {
        let url = sqlite(&ground.folder.0, "task");
        Self { engine: "SQLite", url, on_server: None, postmaster: None }
    }

    /// Makes a database on a server.
    pub(crate) async fn postgres(server: &str) -> anyhow::Result<Self> {
        let mut connection = PgConnection::connect(server).await.context("cannot reach the PostgreSQL server")?;
        let name = format!("bench_{}", Clock::system().new_id().simple());
        connection.execute(AssertSqlSafe(format!("create database {name} template template0"))).await?;
        // Where the server is another machine's, the number is nobody's here.
        let backend: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut connection).await?;
        let local = ["@127.0.0.1", "@localhost"].iter().any(|host| server.contains(host));
        let postmaster = u32::try_from(backend).ok().filter(|_| local).and_then(machine::parent);
        connection.close().await?;
        let (base, parameters) = server.split_once('?').map_or((server, ""), |(base, rest)| (base, rest));
        let base = base.rsplit_once('/').context("a URL has a path")?.0;
        let url = format!("{base}/{name}?{parameters}");
        Ok(Self { engine: "PostgreSQL", url, on_server: Some((server.to_owned(), name)), postmaster })
    }

    /// The processes whose time counts when this service is loaded.
    pub(crate) fn counted(&self, service: &Process) -> Counted {
        Counted { service: service.id(), postmaster: self.postmaster }
    }

    pub(crate) async fn remove(self) -> anyhow::Result<()> {
        let Some((server, name)) = self.on_server else { return Ok(()) };
        let mut connection = PgConnection::connect(&server).await?;
        connection.execute(AssertSqlSafe(format!("drop database {name} with (force)"))).await?;
        Ok(connection.close().await?)
    }
}

/// Tries something until it succeeds: a service that has just started cannot tell who calls yet.
pub(crate) async fn patiently<T>(mut attempt: impl AsyncFnMut() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let start = Instant::now();
    loop {
        match attempt().await {
            Ok(value) => return Ok(value),
            Err(error) => ensure!(start.elapsed() < START_LIMIT, "it does not come to serve: {error:#}"),
        }
        sleep(Duration::from_millis(20)).await;
    }
}
