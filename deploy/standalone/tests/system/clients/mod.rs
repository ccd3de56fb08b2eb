//! The clients of `clients/`, in all languages: each passes the same scenarios. See `clients/conformance/README.md`.

use std::{
    collections::BTreeMap,
    env, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt, stream};

use adapter::Adapter;
use runner::Cell;
use scenario::{Scenario, Scenarios};

mod adapter;
mod drive;
mod expect;
mod fake;
mod quick_start;
mod runner;
mod scenario;
mod table;
mod verifiers;
mod world;

/// The languages, by their folder in `clients/`, with their names in the table.
const LANGUAGES: [(&str, &str); 5] =
    [("go", "Go"), ("python", "Python"), ("typescript", "TypeScript"), ("java", "Java"), ("cpp", "C++")];

/// How many scenarios of a language run at the same time. Each has its own servers, and most of them wait.
const CONCURRENT_SCENARIOS: usize = 4;

/// Selects scenarios by a part of their names, to repeat those that have failed.
const ONLY: &str = "TASKEY_TEST_SCENARIO";

/// Returns the folder `clients`.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../clients")
}

/// Returns the folder of a client, or `None` if the language has none. The table contains all languages that have one.
fn client_folder(language: &str) -> Option<PathBuf> {
    let folder = folder().join(language);
    folder.join("adapter").exists().then_some(folder)
}

/// Runs all scenarios in a language. The results must be those of the table.
async fn check(language: &'static str) {
    let Some(client) = client_folder(language) else {
        assert!(!table::contains(language), "clients/{language} is missing, but the table contains it");
        return;
    };
    let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("adapter-{language}.log"));
    let adapter = Arc::new(Adapter::start(&client.join("adapter"), &log));
    let scenarios = Scenarios::read();
    let only = env::var(ONLY).unwrap_or_default();
    let all = [&scenarios.clients[..], &scenarios.verifiers].concat();
    let selected = all.into_iter().filter(|scenario| scenario.name.contains(&only));
    let run = async |scenario: Scenario| {
        let (cell, measured) = runner::run(Arc::clone(&adapter), &scenario).await;
        report(language, &scenario.name, &cell);
        (scenario.name, cell, measured)
    };
    let results: Vec<_> = stream::iter(selected).map(run).buffer_unordered(CONCURRENT_SCENARIOS).collect().await;
    let measured: Vec<Duration> = results.iter().flat_map(|(_, _, measured)| measured).copied().collect();
    let cells: BTreeMap<_, _> = results.into_iter().map(|(name, cell, _)| (name, cell)).collect();
    let failed: Vec<_> =
        cells.iter().filter(|(_, cell)| matches!(cell, Cell::Failed(_))).map(|(name, _)| name).collect();
    assert!(
        failed.is_empty(),
        "scenarios that fail in {language}: {failed:?}; the log of its adapter: {}",
        log.display()
    );
    if only.is_empty() {
        table::update(&scenarios, language, &cells, &measured);
    }
}

/// Reports the result of a scenario while the others run.
fn report(language: &str, name: &str, cell: &Cell) {
    use io::Write;
    let details = if let Cell::Failed(message) = cell { format!(": {message}") } else { String::new() };
    _ = writeln!(io::stderr(), "{language} {name}: {}{details}", cell.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn go() {
    check("go").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn python() {
    check("python").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn typescript() {
    check("typescript").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn java() {
    check("java").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn cpp() {
    check("cpp").await;
}

/// A client that no test runs would have no column in the table.
#[test]
fn every_client_is_tested() {
    let entries = fs::read_dir(folder()).expect("the folder exists").map(|entry| entry.expect("readable").path());
    for client in entries.filter(|entry| entry.join("adapter").exists()) {
        let name = client.file_name().expect("a name").to_string_lossy().into_owned();
        assert!(LANGUAGES.iter().any(|(language, _)| *language == name), "clients/{name} has no test");
    }
}
