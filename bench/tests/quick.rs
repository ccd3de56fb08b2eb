//! Checks that the load generator works.

use std::{
    env,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Output, Stdio},
};

/// Runs the program.
fn bench(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bench")).args(arguments).output().expect("it starts")
}

/// Returns the rows whose first cell is `name`.
fn count_rows(table: &str, name: &str) -> usize {
    table.lines().filter(|line| line.split('|').nth(1).is_some_and(|cell| cell.trim() == name)).count()
}

#[test]
fn quick_run_measures_every_scenario() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench");
    let run = bench(&["run", "--quick", "--folder", &folder.display().to_string()]);
    let (table, errors) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{errors}");
    let engines = 1 + usize::from(env::var_os("TASKEY_TEST_POSTGRES").is_some());
    assert_eq!(count_rows(&table, "echo"), 1, "{table}");
    // Over gRPC in a closed and an open loop, and over REST in a closed loop.
    for scenario in ["get", "list(20)", "create", "update"] {
        assert_eq!(count_rows(&table, scenario), 3 * engines, "{scenario}: {table}");
    }
    for scenario in ["list(50)", "complete", "mixed 90/10"] {
        assert_eq!(count_rows(&table, scenario), 2 * engines, "{scenario}: {table}");
    }
    assert_eq!(count_rows(&table, "watch"), engines, "{table}");
    assert!(table.contains("memory of taskey"), "{table}");
    let file_count = std::fs::read_dir(&folder).expect("the folder exists").count();
    assert_eq!(file_count, 0, "the databases are deleted");
}

#[test]
fn scale_measures_each_size() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("scale");
    let small = ["scale", "--divide", "1000", "--time", "50ms", "--folder", &folder.display().to_string()];
    let run = bench(&small);
    let (tables, errors) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{errors}");
    let engines = 1 + usize::from(env::var_os("TASKEY_TEST_POSTGRES").is_some());
    // 100 tasks, one and 100 accounts, no and 1,000 revoked sessions, and 25 watches.
    for (size, expected_count) in [("100", 2 * engines), ("1", engines), ("0", engines), ("1000", engines), ("25", 1)] {
        assert_eq!(count_rows(&tables, size), expected_count, "{size}: {tables}");
    }
}

/// A running `taskey`, killed when it is dropped.
struct Taskey(Child);

impl Drop for Taskey {
    fn drop(&mut self) {
        // The test may have failed because the program has ended.
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

#[test]
fn compare_measures_each_call_on_each_server() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let program = Path::new(env!("CARGO_BIN_EXE_bench")).with_file_name("taskey");
    let mut taskey = Command::new(program);
    for server in ["auth", "task", "gateway"] {
        taskey.args([&format!("--{server}-listen"), "127.0.0.1:0"]);
    }
    taskey.args(["--rate-limits", "off", "--data-dir"]).arg(folder.path());
    let mut taskey = Taskey(taskey.stdout(Stdio::piped()).spawn().expect("`cargo build --workspace` has built taskey"));
    let lines = BufReader::new(taskey.0.stdout.take().expect("the output is piped")).lines();
    let mut lines = lines.map_while(Result::ok);
    let address =
        lines.find_map(|line| line.strip_prefix("listening gateway ").map(str::to_owned)).expect("it listens");
    assert!(lines.any(|line| line.starts_with("Taskey is ready")), "taskey has ended");
    let description = Path::new(env!("CARGO_MANIFEST_DIR")).join("workloads/taskey.toml");
    let server = format!("{}=http://{address}", description.display());
    let small = ["--users", "2", "--tasks", "3", "--connections", "2", "--rounds", "2", "--time", "50ms"];
    let run = bench(&[&["compare", &server, &server], &small[..]].concat());
    let (table, errors) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{errors}");
    for call in ["get", "list(20)", "create", "update"] {
        assert_eq!(count_rows(&table, call), 2, "{call}: {table}");
    }
}
