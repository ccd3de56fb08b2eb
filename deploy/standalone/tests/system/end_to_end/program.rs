//! Start and exit of `taskey`.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output, Stdio},
};

use service_kit::testing::{TestDatabase, folder};

use super::processes::{Process, Taskey, program};

const LISTEN: [&str; 6] =
    ["--auth-listen", "127.0.0.1:0", "--task-listen", "127.0.0.1:0", "--gateway-listen", "127.0.0.1:0"];

fn taskey(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(program("taskey"));
    command.current_dir(folder).env_clear().args(LISTEN).args(arguments).output().expect("the program runs")
}

#[track_caller]
fn assert_start_fails(folder: &Path, arguments: &[&str], expected: &str) {
    let output = taskey(folder, arguments);
    let errors = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(!output.status.success(), "{arguments:?}");
    assert_eq!(errors.lines().count(), 1, "{errors}");
    assert!(errors.contains(expected), "{errors}");
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("the file exists").permissions().mode() & 0o777
}

#[tokio::test(flavor = "multi_thread")]
async fn first_start_creates_private_files() {
    let database = TestDatabase::sqlite();
    let _taskey = Taskey::start(&database).await;
    let data = database.folder().join("data");
    assert_eq!(mode(&data), 0o700);
    for file in ["keys.json", "refresh.secret", "auth.db", "task.db"] {
        assert_eq!(mode(&data.join(file)), 0o600, "{file}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn data_directory_is_used_by_one_process_at_a_time() {
    let database = TestDatabase::sqlite();
    let _taskey = Taskey::start(&database).await;
    let data = database.folder().join("data").display().to_string();
    assert_start_fails(database.folder(), &["--data-dir", &data], "is in use by process");
}

#[test]
fn migrate_creates_the_tables_of_both_services() {
    let folder = folder();
    let migrate = |arguments: &[&str]| {
        let output = taskey(folder.path(), &[&["migrate"], arguments].concat());
        (output.status.success(), String::from_utf8(output.stdout).expect("UTF-8"))
    };
    let (succeeded, plan) = migrate(&["--plan"]);
    assert!(succeeded && plan.starts_with("auth: 0001 ") && plan.contains("\ntask: 0001 "), "{plan}");
    assert!(!migrate(&["--check"]).0 && !folder.path().join("data").exists(), "nothing is created");
    assert!(migrate(&[]).0 && migrate(&["--check"]).0);
    assert_eq!(migrate(&[]).1, "auth: the tables are up to date\ntask: the tables are up to date\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn migrate_does_not_change_the_files_of_a_running_program() {
    let database = TestDatabase::sqlite();
    let _taskey = Taskey::start(&database).await;
    let data = database.folder().join("data").display().to_string();
    assert_start_fails(database.folder(), &["migrate", "--data-dir", &data], "is in use by process");
    let output = taskey(database.folder(), &["migrate", "--check", "--data-dir", &data]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn invalid_setting_is_refused_without_creating_files() {
    let folder = folder();
    assert_start_fails(folder.path(), &["--revocation-max-staleness", "soon"], "--revocation-max-staleness");
    assert_start_fails(folder.path(), &["--no-such-setting"], "--no-such-setting");
    assert_start_fails(
        folder.path(),
        &["--gateway-listen", "0.0.0.0:0", "--data-dir", "d"],
        "cannot be used multiple times",
    );
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0);
}

#[test]
fn port_in_use_is_named_in_the_error() {
    let folder = folder();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address").to_string();
    let output = Command::new(program("taskey"))
        .current_dir(folder.path())
        .env_clear()
        .args(["--auth-listen", &address])
        .output()
        .expect("the program runs");
    let errors = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(!output.status.success() && errors.contains(&address) && errors.lines().count() == 1, "{errors}");
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0);
}

#[test]
fn key_file_readable_by_others_is_refused() {
    let folder = folder();
    let file = folder.path().join("keys.json");
    service_kit::auth::rotation::generate(service_kit::auth::rotation::NewKey::Hs256, &file).expect("a key file");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("changed");
    assert_start_fails(folder.path(), &["--key-file", "keys.json"], "mode 0644");
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1);
}

#[test]
fn unusable_database_is_refused_without_creating_files() {
    let folder = folder();
    assert_start_fails(folder.path(), &["--database-url", "postgres://127.0.0.1:1/x"], "127.0.0.1:1");
    assert_start_fails(folder.path(), &["--key-file", "nowhere/keys.json"], "nowhere");
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0);
    fs::create_dir(folder.path().join("data")).expect("created");
    fs::write(folder.path().join("data/task.db"), "this is no database ".repeat(500)).expect("written");
    assert_start_fails(folder.path(), &[], "data/task.db");
    assert_eq!(fs::read_dir(folder.path().join("data")).expect("a folder").count(), 1);
}

#[test]
fn invalid_log_filter_in_the_environment_is_refused() {
    let folder = folder();
    let mut command = Command::new(program("taskey"));
    let output = command.current_dir(folder.path()).env("RUST_LOG", "a=b=c").args(LISTEN).output();
    let errors = String::from_utf8(output.expect("the program runs").stderr).expect("UTF-8");
    assert!(errors.starts_with("error: RUST_LOG: ") && errors.lines().count() == 1, "{errors}");
}

#[test]
fn help_names_every_setting_that_scripts_rely_on() {
    for (name, settings) in [
        ("taskey", &["--data-dir", "--auth-listen", "--task-listen", "--gateway-listen", "--database-url"][..]),
        ("auth-service", &["--listen", "--key-file", "--secret-file", "--access-token-ttl", "--refresh-grace"]),
        ("task-service", &["--listen", "--auth-url", "--revocation-max-staleness", "--issuer", "--audience"]),
        ("gateway", &["--listen", "--auth-url", "--task-url"]),
    ] {
        let output = Command::new(program(name)).arg("--help").output().expect("the program runs");
        let help = String::from_utf8(output.stdout).expect("UTF-8");
        assert!(output.status.success());
        for setting in settings.iter().chain(&["--log", "--log-format"]) {
            assert!(help.contains(setting), "{name} {setting}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_drains_and_exits_with_0() {
    for (name, flags, listeners) in [
        ("taskey", &LISTEN[..], &["auth", "task", "gateway"][..]),
        ("gateway", &["--listen", "127.0.0.1:0"], &["gateway"]),
    ] {
        let folder = folder();
        let data = folder.path().join("data").display().to_string();
        let mut flags: Vec<_> = flags.iter().map(ToString::to_string).collect();
        if name == "taskey" {
            flags.extend(["--data-dir".to_owned(), data]);
        }
        let process = Process::start(&program(name), &flags, listeners);
        // An idle connection does not delay the shutdown.
        let _idle = std::net::TcpStream::connect(process.address("gateway")).expect("connected");
        process.signal("TERM");
        let begun = tokio::time::Instant::now();
        assert_eq!(process.wait(), Some(0), "{name}");
        assert!(begun.elapsed().as_secs() < 15, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn closed_output_pipes_do_not_stop_the_program() {
    let folder = folder();
    let mut child = Command::new(program("taskey"))
        .current_dir(folder.path())
        .args(LISTEN)
        .args(["--log", "debug"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    drop(child.stderr.take());
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
    let gateway = lines.find_map(|line| line.strip_prefix("listening gateway ").map(str::to_owned));
    let url = format!("http://{}/healthz", gateway.expect("the gateway listens"));
    drop(lines);
    for _ in 0..3 {
        let response = tokio::process::Command::new("curl").args(["-sf", "--retry", "3", &url]).output().await;
        assert_eq!(response.expect("curl is installed").stdout, br#"{"status":"SERVING"}"#);
    }
    let sent = Command::new("kill").arg(child.id().to_string()).status();
    assert!(sent.expect("`kill` is installed").success());
    assert_eq!(child.wait().expect("ended").code(), Some(0));
}
