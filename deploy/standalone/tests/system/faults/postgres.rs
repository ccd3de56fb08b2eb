//! A PostgreSQL server that a test can restart, freeze and fail over. It listens on a Unix socket in its own folder, so
//! it needs no free port. The services reach it through a proxy.

use std::{
    ffi::OsStr,
    fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::Duration,
};

use service_kit::testing::report_skipped;
use tokio::{process::Command, time::timeout};

use super::proxy::Upstream;

/// Stops the server and deletes its folder when standard input is closed, which happens whenever and however the test
/// ends. A frozen server must be resumed before it can stop.
const CLEAN_UP: &str = r#"
    trap '' HUP INT QUIT TERM
    folder=$1; shift
    read -r || true
    for file in "$folder"/*/postmaster.pid; do
        [[ -e $file ]] || continue
        pid=$(head -n 1 "$file")
        kill -s CONT "$pid" $(cat "/proc/$pid/task/$pid/children") || true
        "$@" stop -s -m immediate -D "${file%/*}" || true
    done
    rm -rf "$folder"
"#;

/// How long any program of PostgreSQL may take, on a machine that is busy with other tests.
const PROGRAM_TIMEOUT: Duration = Duration::from_secs(60);

/// Name and port of the two servers in the folder.
const PRIMARY: (&str, &str) = ("primary", "5432");
const REPLICA: (&str, &str) = ("replica", "5433");

pub struct Postgres {
    programs: PathBuf,
    folder: PathBuf,
    /// The user of the server, if the test runs as root: PostgreSQL refuses to run as root.
    user: Option<String>,
    cleaner: Child,
}

impl Postgres {
    /// Creates and starts a server. Without PostgreSQL the test is skipped, or fails if `CI=true`.
    pub async fn start() -> Option<Self> {
        let find = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.ci/with-postgres");
        let found = Command::new(find).arg("--find").output().await.expect("the script runs");
        if !found.status.success() {
            report_skipped("a test with a PostgreSQL server of its own", &String::from_utf8_lossy(&found.stderr));
            return None;
        }
        let programs = PathBuf::from(text(found.stdout));
        let user = (output("id", &["-u"]).await == "0").then_some("postgres");
        let user = match user {
            Some(user) if Command::new("id").arg(user).output().await.is_ok_and(|it| it.status.success()) => Some(user),
            Some(_) => Some("nobody"),
            None => None,
        };
        // Not in TMPDIR, which the other user may not be able to access, and whose path may be too long for a socket.
        let folder = PathBuf::from(output("mktemp", &["-d", "/tmp/taskey-faults.XXXXXX"]).await);
        let user = user.map(str::to_owned);
        let cleaner = cleaner(&programs, &folder, user.as_deref());
        let server = Self { programs, folder, user, cleaner };
        if let Some(user) = &server.user {
            let folder = server.folder.to_str().expect("made of ASCII");
            output("chown", &[user, folder]).await;
        }
        let data = server.data(PRIMARY);
        server.run("initdb", &["-D", &data, "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--no-sync"]).await;
        server.start_server(PRIMARY).await;
        Some(server)
    }

    /// Returns the address of the primary.
    pub fn upstream(&self) -> Upstream {
        self.socket(PRIMARY)
    }

    /// Returns the address of the replica.
    pub fn replica(&self) -> Upstream {
        self.socket(REPLICA)
    }

    /// Stops the primary like a crash, and starts it again.
    pub async fn restart(&self) {
        self.stop_server(PRIMARY).await;
        self.start_server(PRIMARY).await;
    }

    /// Sends SIGSTOP to all processes of the primary. Connections stay open, and new ones are accepted by the kernel.
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    pub fn thaw(&self) {
        self.signal("CONT");
    }

    /// Starts a synchronous replica: from then on the primary acknowledges only what the replica has received.
    pub async fn replicate(&self) {
        self.replicate_asynchronously().await;
        self.query(PRIMARY, "alter system set synchronous_standby_names = '*'").await;
        self.query(PRIMARY, "select pg_reload_conf()").await;
        while self.query(PRIMARY, "select count(*) from pg_stat_replication where sync_state = 'sync'").await != "1" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Starts an asynchronous replica. A failover may lose what the primary has acknowledged.
    pub async fn replicate_asynchronously(&self) {
        let (from, to) = (self.folder.to_str().expect("made of ASCII"), self.data(REPLICA));
        let copy = ["-h", from, "-p", PRIMARY.1, "-U", "postgres", "-D", &to, "-R", "-X", "stream", "-c", "fast"];
        self.run("pg_basebackup", &copy).await;
        self.start_server(REPLICA).await;
        while self.query(PRIMARY, "select count(*) from pg_stat_replication").await != "1" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Lets the replica receive nothing more. What the primary acknowledges from now on is lost in a failover.
    pub async fn stop_replication(&self) {
        self.query(REPLICA, "alter system set primary_conninfo = ''").await;
        self.query(REPLICA, "select pg_reload_conf()").await;
        while self.query(PRIMARY, "select count(*) from pg_stat_replication").await != "0" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Stops the primary like a crash, and promotes the replica.
    pub async fn fail_over(&self) {
        self.stop_server(PRIMARY).await;
        self.run("pg_ctl", &["promote", "-s", "-w", "-D", &self.data(REPLICA)]).await;
    }

    async fn query(&self, instance: (&str, &str), sql: &str) -> String {
        let host = self.folder.to_str().expect("made of ASCII");
        self.run("psql", &["-h", host, "-p", instance.1, "-U", "postgres", "-Atq", "-c", sql]).await
    }

    /// Disables fsync: tests kill processes, but data need not survive a crash of the machine.
    async fn start_server(&self, instance: (&str, &str)) {
        let settings = format!(
            "-c listen_addresses='' -c unix_socket_directories={} -c port={} -c fsync=off -c max_connections=200",
            self.folder.display(),
            instance.1,
        );
        let log = self.folder.join(instance.0).with_extension("log");
        let log = log.to_str().expect("made of ASCII");
        self.run("pg_ctl", &["start", "-s", "-w", "-D", &self.data(instance), "-l", log, "-o", &settings]).await;
    }

    async fn stop_server(&self, instance: (&str, &str)) {
        self.run("pg_ctl", &["stop", "-s", "-m", "immediate", "-D", &self.data(instance)]).await;
    }

    fn data(&self, instance: (&str, &str)) -> String {
        self.folder.join(instance.0).to_str().expect("made of ASCII").to_owned()
    }

    fn socket(&self, instance: (&str, &str)) -> Upstream {
        Upstream::Unix(self.folder.join(format!(".s.PGSQL.{}", instance.1)))
    }

    fn signal(&self, name: &str) {
        let file = self.folder.join(PRIMARY.0).join("postmaster.pid");
        let file = fs::read_to_string(file).expect("the server runs");
        let parent = file.lines().next().expect("the process id is on the first line");
        let send = |ids: &mut dyn Iterator<Item = &str>| {
            _ = std::process::Command::new("kill").args(["-s", name]).args(ids).stderr(Stdio::null()).status();
        };
        // The parent first, so that it starts no more children. Some children may just have ended.
        send(&mut [parent].into_iter());
        let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).expect("/proc is mounted");
        send(&mut children.split_whitespace());
    }

    async fn run(&self, program: &str, arguments: &[&str]) -> String {
        let program = self.programs.join(program);
        let mut command = match &self.user {
            Some(user) => {
                let mut command = Command::new("runuser");
                command.args(["-u", user, "--"]).arg(program);
                command
            }
            None => Command::new(program),
        };
        run_to_success(command.args(arguments).current_dir(&self.folder).env("LC_ALL", "C")).await
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        drop(self.cleaner.stdin.take());
        _ = self.cleaner.wait();
    }
}

/// Starts the clean-up script in its own process group, so that a signal to the group of the test does not stop it.
fn cleaner(programs: &Path, folder: &Path, user: Option<&str>) -> Child {
    let mut command = std::process::Command::new("bash");
    command.args(["-c", CLEAN_UP, "clean-up"]).arg(folder);
    if let Some(user) = user {
        command.args(["runuser", "-u", user, "--"]);
    }
    command.arg(programs.join("pg_ctl")).current_dir("/").process_group(0);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("bash is installed")
}

async fn output(program: impl AsRef<OsStr>, arguments: &[&str]) -> String {
    run_to_success(Command::new(program).args(arguments)).await
}

/// Runs a program, asserts that it succeeds and returns its output.
async fn run_to_success(command: &mut Command) -> String {
    let output = timeout(PROGRAM_TIMEOUT, command.stdin(Stdio::null()).kill_on_drop(true).output()).await;
    let output = output.expect("the program ends in time").expect("the program runs");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    text(output.stdout)
}

fn text(output: Vec<u8>) -> String {
    String::from_utf8(output).expect("UTF-8").trim().to_owned()
}
