//! The machine on which the cluster runs.

use std::{
    fs,
    os::unix::{fs::chown, process::CommandExt},
    path::Path,
    process::{Child, Command, Stdio},
};

/// Kills everything when standard input is closed, which happens whenever and however the test ends: the processes
/// whose ids are in the files of the folder, and the children of the PostgreSQL servers.
const CLEAN_UP: &str = r#"
    trap '' HUP INT QUIT TERM
    read -r || true
    for file in "$1"/*.pid "$1"/*/postmaster.pid; do
        [[ -e $file ]] || continue
        pid=$(head -n 1 "$file")
        kill -s KILL "$pid" $(cat "/proc/$pid/task/$pid/children") 2>/dev/null || true
    done
    rm -rf "$1"
"#;

/// Sends a signal to processes.
pub fn send(signal: &str, processes: &[String]) {
    if !processes.is_empty() {
        // Some may just have ended.
        _ = Command::new("kill").args(["-s", signal]).args(processes).stderr(Stdio::null()).status();
    }
}

/// Returns the ids of the user `postgres` and its group if the test runs as root: PostgreSQL refuses to run as root.
pub fn server_user() -> Option<[u32; 2]> {
    let id = |arguments: &[&str]| {
        let output = Command::new("id").args(arguments).output().expect("`id` is installed");
        String::from_utf8(output.stdout).expect("UTF-8").trim().parse().expect("an id")
    };
    (id(&["-u"]) == 0u32).then(|| [id(&["-u", "postgres"]), id(&["-g", "postgres"])])
}

/// Lets a user own a file.
pub fn own(path: &Path, user: Option<[u32; 2]>) {
    if let Some([user, group]) = user {
        chown(path, Some(user), Some(group)).expect("owned");
    }
}

/// Returns the folder with the programs of PostgreSQL.
pub fn postgres_programs() -> String {
    let find = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.ci/with-postgres");
    let output = Command::new(find).arg("--find").output().expect("the script runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8").trim().to_owned()
}

/// Starts the clean-up script in its own process group, so that a signal to the group of the test does not stop it.
pub fn cleaner(folder: &Path) -> Child {
    let mut command = Command::new("bash");
    command.args(["-c", CLEAN_UP, "clean-up"]).arg(folder).current_dir("/").process_group(0);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("bash is installed")
}

/// Returns the ids of a PostgreSQL server and its children, the parent first. Without a server, there are none.
pub fn postgres_processes(data: &Path) -> Vec<String> {
    let file = data.join("postmaster.pid");
    let Ok(file) = fs::read_to_string(file) else { return Vec::new() };
    let parent = file.lines().next().unwrap_or_default().to_owned();
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
    [parent].into_iter().chain(children.split_whitespace().map(str::to_owned)).collect()
}
