//! The commands of operators, on the data of real programs.

mod backup;
mod copy;
mod reminders;
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

/// A backup of a whole database.
struct Backup<'d> {
    database: &'d TestDatabase,
    file: String,
}

impl<'d> Backup<'d> {
    fn new(database: &'d TestDatabase) -> Self {
        Self { database, file: database.folder().join("file.backup").display().to_string() }
    }

    /// Creates the backup, with the command for the engine.
    fn create(&self) {
        match self.database.url() {
            url if url.starts_with("postgres") => {
                run_postgres("pg_dump", &["--format=custom", "--file", &self.file, url]);
            }
            _ => _ = succeed(&data_dir(self.database), &["backup", "--out", &self.file]),
        }
    }

    /// Restores the backup while the program does not run, and begins a new epoch. Returns the output of that command.
    fn restore(&self) -> String {
        let data = data_dir(self.database);
        match self.database.url() {
            url if url.starts_with("postgres") => {
                run_postgres("pg_restore", &["--clean", "--if-exists", "--dbname", url, &self.file]);
                succeed(&data, &["new-epoch", "--database-url", url])
            }
            _ => succeed(&data, &["restore", "--replace", &self.file]),
        }
    }
}

/// Runs a program of PostgreSQL.
fn run_postgres(program: &str, arguments: &[&str]) {
    let find = concat!(env!("CARGO_MANIFEST_DIR"), "/../../.ci/with-postgres");
    let folder = Command::new(find).arg("--find").output().expect("bash is installed").stdout;
    let folder = String::from_utf8(folder).expect("UTF-8");
    let ran = Command::new(Path::new(folder.trim()).join(program)).args(arguments).output().expect("it is installed");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
}
