//! The load generator works, so that it is there when it is needed.

use std::{env, path::Path, process::Command};

#[test]
fn a_quick_run_measures_every_scenario_and_draws_a_picture() {
    let own = Path::new(env!("CARGO_BIN_EXE_bench"));
    for program in ["auth-service", "task-service"] {
        assert!(own.with_file_name(program).exists(), "{program} is not built: cargo build --workspace");
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench");
    let run = Command::new(own).args(["run", "--quick", "--folder"]).arg(&folder).output().expect("it starts");
    let (table, errors) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{errors}");
    let engines = 1 + usize::from(env::var_os("TASKEY_TEST_POSTGRES").is_some());
    let measured = |name: &str| table.lines().filter(|line| line.starts_with(name)).count();
    assert_eq!(measured("echo "), 1, "{table}");
    for scenario in ["create ", "get ", "list(20) ", "list(50) ", "update ", "complete ", "mixed 90/10 ", "watch "] {
        assert_eq!(measured(scenario), engines, "{scenario}: {table}");
    }
    assert_eq!(measured("memory "), engines, "{table}");
    let picture = std::fs::read_to_string(folder.join("latency.svg")).expect("there is a picture");
    assert_eq!(picture.matches("<polyline").count(), 1 + 8 * engines);
    let left = std::fs::read_dir(&folder).expect("there is a folder").count();
    assert_eq!(left, 1, "the databases are gone");
}
