//! The commands of operators, on the data of real programs.

mod backup;
mod copy;
mod restore;

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use service_kit::testing::TestDatabase;

use crate::process::program;

/// Returns the data directory of [`Taskey::start`](crate::end_to_end::processes::Taskey::start).
fn data_dir(database: &TestDatabase) -> PathBuf {
    database.folder().join("data")
}

/// Runs a command of `taskey` on a data directory.
fn run(data_dir: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(program("taskey"));
    command.arg("--data-dir").arg(data_dir).args(arguments).env_clear().output().expect("the program runs")
}

/// Runs a command that succeeds, and returns its output.
#[track_caller]
fn succeed(data_dir: &Path, arguments: &[&str]) -> String {
    let output = run(data_dir, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Runs a command that fails with one line, which contains `expected`.
#[track_caller]
fn fail(data_dir: &Path, arguments: &[&str], expected: &str) {
    let output = run(data_dir, arguments);
    let error = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(!output.status.success(), "{arguments:?} succeeded");
    assert!(error.lines().count() == 1 && error.contains(expected), "{arguments:?}: {error}");
}
