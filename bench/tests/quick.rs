//! Checks that the load generator works.

use std::{env, path::Path, process::Command};

#[test]
fn quick_run_measures_every_scenario_and_draws_a_plot() {
    let bench = Path::new(env!("CARGO_BIN_EXE_bench"));
    for program in ["auth-service", "task-service"] {
        assert!(bench.with_file_name(program).exists(), "{program} is not built: cargo build --workspace");
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench");
    let run = Command::new(bench).args(["run", "--quick", "--folder"]).arg(&folder).output().expect("it starts");
    let (table, errors) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{errors}");
    let engines = 1 + usize::from(env::var_os("TASKEY_TEST_POSTGRES").is_some());
    let measured = |name: &str| table.lines().filter(|line| line.starts_with(name)).count();
    assert_eq!(measured("echo "), 1, "{table}");
    for scenario in ["create ", "get ", "list(20) ", "list(50) ", "update ", "complete ", "mixed 90/10 ", "watch "] {
        assert_eq!(measured(scenario), engines, "{scenario}: {table}");
    }
    assert_eq!(measured("memory "), engines, "{table}");
    let plot = std::fs::read_to_string(folder.join("latency.svg")).expect("the plot exists");
    assert_eq!(plot.matches("<polyline").count(), 1 + 8 * engines);
    let file_count = std::fs::read_dir(&folder).expect("the folder exists").count();
    assert_eq!(file_count, 1, "the databases are deleted");
}
