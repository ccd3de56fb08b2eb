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
mod reference;
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

/// The results of scenarios, by name.
type Cells = BTreeMap<String, Cell>;

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
    let all = [&scenarios.clients[..], &scenarios.verifiers].concat();
    let (cells, measured) = run(language, adapter, all).await;
    let failed = failures(&cells);
    assert!(
        failed.is_empty(),
        "scenarios that fail in {language}: {failed:?}; the log of its adapter: {}",
        log.display()
    );
    if only().is_empty() {
        table::update(&scenarios, language, &cells, &measured);
    }
}

/// Returns a part of the names of the scenarios to run.
fn only() -> String {
    env::var(ONLY).unwrap_or_default()
}

/// Runs scenarios, and returns their results and the durations that they have measured.
async fn run(language: &str, adapter: Arc<Adapter>, all: Vec<Scenario>) -> (Cells, Vec<Duration>) {
    let only = only();
    let selected = all.into_iter().filter(|scenario| scenario.name.contains(&only));
    let (alone, others): (Vec<_>, Vec<_>) = selected.partition(|scenario| scenario.alone);
    let run = async |scenario: Scenario| {
        let name = scenario.name.clone();
        // A task of its own, so that scenarios do not delay each other.
        let running = tokio::spawn(runner::run(Arc::clone(&adapter), scenario));
        let (cell, measured) =
            running.await.unwrap_or_else(|error| (Cell::Failed(format!("the driver failed: {error}")), Vec::new()));
        report(language, &name, &cell);
        (name, cell, measured)
    };
    let mut results: Vec<_> = stream::iter(alone).then(run).collect().await;
    results.extend(stream::iter(others).map(run).buffer_unordered(CONCURRENT_SCENARIOS).collect::<Vec<_>>().await);
    let measured = results.iter().flat_map(|(_, _, measured)| measured).copied().collect();
    (results.into_iter().map(|(name, cell, _)| (name, cell)).collect(), measured)
}

/// Returns the names of the scenarios that have failed.
fn failures(cells: &Cells) -> Vec<&String> {
    cells.iter().filter(|(_, cell)| matches!(cell, Cell::Failed(_))).map(|(name, _)| name).collect()
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

/// The scenarios expect nothing of other verifiers that this one does not do.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn verifier_of_service_kit() {
    let (cells, _) = run("service-kit", Arc::new(reference::adapter()), Scenarios::read().verifiers).await;
    assert!(failures(&cells).is_empty(), "scenarios that fail: {:?}", failures(&cells));
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
