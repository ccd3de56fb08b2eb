//! A PostgreSQL server that a test may restart, freeze and fail over. It listens on a socket in a folder of its own, so
//! that no port has to be found; the services reach it through a proxy.

use std::{
    ffi::OsStr,
    fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::Duration,
};

use service_kit::testing::leave_out;
use tokio::{process::Command, time::timeout};

use super::proxy::Upstream;

/// Sends the end of the server and of its folder to the end of the standard input, which comes with the end of the
/// test, however that ends. A frozen server must go on before it can end.
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

/// How long any of the server's programs may take, on a machine that is busy with other tests.
const LIMIT: Duration = Duration::from_secs(60);

/// The two servers of a folder.
const PRIMARY: (&str, &str) = ("primary", "5432");
const REPLICA: (&str, &str) = ("replica", "5433");

pub struct Postgres {
    programs: PathBuf,
    folder: PathBuf,
    /// Who runs the server: it refuses to run as root.
    user: Option<String>,
    cleaner: Child,
}

impl Postgres {
    /// Makes a server and starts it. Without its programs the test is left out, which is a failure with `CI=true`.
    pub async fn start() -> Option<Self> {
        let find = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.ci/with-postgres");
        let found = Command::new(find).arg("--find").output().await.expect("the script runs");
        if !found.status.success() {
            leave_out("a test with a PostgreSQL server of its own", &String::from_utf8_lossy(&found.stderr));
            return None;
        }
        let programs = PathBuf::from(text(found.stdout));
        let user = (output("id", &["-u"]).await == "0").then_some("postgres");
        let user = match user {
            Some(user) if Command::new("id").arg(user).output().await.is_ok_and(|it| it.status.success()) => Some(user),
            Some(_) => Some("nobody"),
            None => None,
        };
        // Not in TMPDIR, which another user may not be let into, and whose path may be too long for a socket.
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

    /// Where it listens.
    pub fn upstream(&self) -> Upstream {
        self.socket(PRIMARY)
    }

    /// Where its replica listens.
    pub fn replica(&self) -> Upstream {
        self.socket(REPLICA)
    }

    /// Ends it as a crash would, and starts it again.
    pub async fn restart(&self) {
        self.stop_server(PRIMARY).await;
        self.start_server(PRIMARY).await;
    }

    /// SIGSTOP to all its processes. They hold their connections, and new ones come about.
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    pub fn thaw(&self) {
        self.signal("CONT");
    }

    /// Starts a replica, and from then on the primary acknowledges nothing that the replica has not got.
    pub async fn replicate(&self) {
        let (from, to) = (self.folder.to_str().expect("made of ASCII"), self.data(REPLICA));
        let copy = ["-h", from, "-p", PRIMARY.1, "-U", "postgres", "-D", &to, "-R", "-X", "stream", "-c", "fast"];
        self.run("pg_basebackup", &copy).await;
        self.start_server(REPLICA).await;
        self.query("alter system set synchronous_standby_names = '*'").await;
        self.query("select pg_reload_conf()").await;
        while self.query("select count(*) from pg_stat_replication where sync_state = 'sync'").await != "1" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The primary is lost as in a crash, and the replica takes over.
    pub async fn fail_over(&self) {
        self.stop_server(PRIMARY).await;
        self.run("pg_ctl", &["promote", "-s", "-w", "-D", &self.data(REPLICA)]).await;
    }

    async fn query(&self, sql: &str) -> String {
        let host = self.folder.to_str().expect("made of ASCII");
        self.run("psql", &["-h", host, "-p", PRIMARY.1, "-U", "postgres", "-Atq", "-c", sql]).await
    }

    /// Processes may end and others be killed, but nothing here outlives the machine's power, so nothing is forced to
    /// the disk.
    async fn start_server(&self, which: (&str, &str)) {
        let settings = format!(
            "-c listen_addresses='' -c unix_socket_directories={} -c port={} -c fsync=off -c max_connections=200",
            self.folder.display(),
            which.1,
        );
        let log = self.folder.join(which.0).with_extension("log");
        let log = log.to_str().expect("made of ASCII");
        self.run("pg_ctl", &["start", "-s", "-w", "-D", &self.data(which), "-l", log, "-o", &settings]).await;
    }

    async fn stop_server(&self, which: (&str, &str)) {
        self.run("pg_ctl", &["stop", "-s", "-m", "immediate", "-D", &self.data(which)]).await;
    }

    fn data(&self, which: (&str, &str)) -> String {
        self.folder.join(which.0).to_str().expect("made of ASCII").to_owned()
    }

    fn socket(&self, which: (&str, &str)) -> Upstream {
        Upstream::Unix(self.folder.join(format!(".s.PGSQL.{}", which.1)))
    }

    fn signal(&self, name: &str) {
        let file = self.folder.join(PRIMARY.0).join("postmaster.pid");
        let file = fs::read_to_string(file).expect("the server runs");
        let parent = file.lines().next().expect("its id comes first");
        let send = |ids: &mut dyn Iterator<Item = &str>| {
            _ = std::process::Command::new("kill").args(["-s", name]).args(ids).stderr(Stdio::null()).status();
        };
        // The parent first, so that no more children come. Some may just have ended.
        send(&mut [parent].into_iter());
        let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).expect("there is a proc");
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
        finish(command.args(arguments).current_dir(&self.folder).env("LC_ALL", "C")).await
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        drop(self.cleaner.stdin.take());
        _ = self.cleaner.wait();
    }
}

/// It is in a process group of its own, so that it outlives a signal to that of the test.
fn cleaner(programs: &Path, folder: &Path, user: Option<&str>) -> Child {
    let mut command = std::process::Command::new("bash");
    command.args(["-c", CLEAN_UP, "clean-up"]).arg(folder);
    if let Some(user) = user {
        command.args(["runuser", "-u", user, "--"]);
    }
    command.arg(programs.join("pg_ctl")).current_dir("/").process_group(0);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("there is a bash")
}

async fn output(program: impl AsRef<OsStr>, arguments: &[&str]) -> String {
    finish(Command::new(program).args(arguments)).await
}

/// What a program has to say, once it has succeeded.
async fn finish(command: &mut Command) -> String {
    let output = timeout(LIMIT, command.stdin(Stdio::null()).kill_on_drop(true).output()).await;
    let output = output.expect("the program ends in time").expect("the program runs");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    text(output.stdout)
}

fn text(output: Vec<u8>) -> String {
    String::from_utf8(output).expect("UTF-8").trim().to_owned()
}
