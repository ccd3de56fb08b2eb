//! The files in `deploy/monitoring`, checked with the real Prometheus.

use std::{
    collections::HashMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};

use hyper::Method;
use serde_json::Value;
use service_kit::testing::{TestDatabase, certificates::Authority, folder, report_skipped};
use taskey_proto::auth::v1::{LoginRequest, auth_service_client::AuthServiceClient};
use tokio::{
    io::AsyncWriteExt,
    net::TcpListener,
    time::{sleep, timeout},
};

use super::{get, send, start_taskey, traces::collector::Collector};
use crate::{
    faults::programs::command,
    process::{PASSWORD, Process},
};

/// How long Prometheus may take to start and to scrape several times, on a machine that is busy with other tests.
const SCRAPE_LIMIT: Duration = Duration::from_secs(60);

const PAUSE: Duration = Duration::from_millis(200);

/// The variables of Grafana in the queries of the dashboard, and values for them.
const VARIABLES: [(&str, &str); 2] = [("$instance", ".*"), ("$__rate_interval", "10s")];

fn monitoring() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../monitoring")
}

fn read(file: &str) -> String {
    fs::read_to_string(monitoring().join(file)).expect(file)
}

/// Reports whether Prometheus is installed. If it is not, the test is skipped, or fails in CI.
fn is_installed() -> bool {
    let is_missing = |tool: &&str| Command::new(tool).arg("--version").output().is_err();
    let missing: Vec<_> = ["prometheus", "promtool"].into_iter().filter(is_missing).collect();
    if !missing.is_empty() {
        let tools = missing.join(" and ");
        report_skipped("a check with Prometheus", &format!("there is no {tools}; `make tools` installs it"));
    }
    missing.is_empty()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

#[track_caller]
fn assert_promtool_succeeds(arguments: &[&str]) {
    let output = Command::new("promtool").args(arguments).current_dir(monitoring()).output().expect("it runs");
    assert!(output.status.success(), "{}", text(&output));
}

#[test]
fn prometheus_accepts_its_configuration_and_the_alerts() {
    if is_installed() {
        assert_promtool_succeeds(&["check", "config", "prometheus.yml"]);
        assert_promtool_succeeds(&["check", "rules", "--lint-fatal", "alerts.yml"]);
    }
}

#[test]
fn alerts_fire_when_they_should() {
    if is_installed() {
        assert_promtool_succeeds(&["test", "rules", "alerts_test.yml"]);
    }
}

#[test]
fn every_alert_has_a_runbook_and_a_test() {
    let (alerts, tests) = (read("alerts.yml"), read("alerts_test.yml"));
    let mut sections = alerts.split("- alert: ");
    sections.next();
    for section in sections {
        let name = section.lines().next().expect("a name");
        for key in ["severity: ", "summary: ", "runbook: "] {
            assert!(section.contains(key), "{name} has no {key}");
        }
        assert!(tests.contains(name), "{name} has no test");
    }
}

/// Starts `taskey` so that it refuses logins and sends traces.
async fn start_limited(database: &TestDatabase, collector: &Collector) -> Process {
    let flags = ["--rate-limits", "on", "--login-rate", "1+1/h", "--otlp-endpoint"];
    start_taskey(database, &[&flags[..], &[&collector.url()]].concat()).await
}

/// Checks the metrics with `promtool check metrics`.
async fn assert_metrics_are_valid(ops: SocketAddr) {
    let mut promtool = tokio::process::Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut promtool = promtool.spawn().expect("it runs");
    let metrics = get(ops, "/metrics").await.1;
    promtool.stdin.take().expect("piped").write_all(metrics.as_bytes()).await.expect("it reads");
    let output = promtool.wait_with_output().await.expect("it ends");
    assert!(output.status.success(), "{}", text(&output));
}

/// Makes calls that succeed, fail and are refused.
async fn make_calls(taskey: &Process) {
    let gateway = taskey.address("gateway");
    for path in ["/readyz", "/v1/tasks", "/no/such/path"] {
        send(gateway, Method::GET, path).await;
    }
    let mut auth = AuthServiceClient::new(taskey.channel("auth"));
    for _ in 0..2 {
        let (email, password) = ("ann@example.com".to_owned(), PASSWORD.to_owned());
        let login = LoginRequest { email, password, ..LoginRequest::default() };
        auth.login(login).await.expect_err("there is no such account");
    }
}

/// Starts Prometheus with the configuration in `deploy/monitoring`, except for the addresses and the interval.
async fn start_prometheus(folder: &Path, targets: &[SocketAddr]) -> Process {
    // Prometheus cannot choose a port by itself.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let targets: Vec<_> = targets.iter().map(|target| format!("\"{target}\"")).collect();
    let configuration = read("prometheus.yml")
        .replace("\"127.0.0.1:9090\"", &targets.join(", "))
        .replace("interval: 15s", "interval: 1s");
    fs::write(folder.join("prometheus.yml"), configuration).expect("written");
    fs::copy(monitoring().join("alerts.yml"), folder.join("alerts.yml")).expect("copied");
    let mut prometheus = Command::new("prometheus");
    prometheus.arg("--config.file").arg(folder.join("prometheus.yml"));
    prometheus.arg("--storage.tsdb.path").arg(folder.join("data"));
    prometheus.arg(format!("--web.listen-address={address}")).stdout(Stdio::null()).stderr(Stdio::null());
    Process {
        child: prometheus.spawn().expect("it starts"),
        addresses: HashMap::from([("prometheus".to_owned(), address)]),
    }
}

/// Returns the result of a query, or `None` while Prometheus does not respond.
async fn query(prometheus: &Process, query: &str) -> Option<Vec<Value>> {
    let url = format!("http://{}/api/v1/query", prometheus.address("prometheus"));
    let mut curl = tokio::process::Command::new("curl");
    let output = curl.args(["--silent", "--data-urlencode", &format!("query={query}"), &url]).output().await;
    let response: Value = serde_json::from_slice(&output.expect("curl is installed").stdout).ok()?;
    assert_eq!(response["status"], "success", "{query}: {response}");
    Some(response["data"]["result"].as_array().expect("an array").clone())
}

/// Waits until each target was scraped several times.
async fn wait_for_scrapes(prometheus: &Process, targets: usize) {
    let scraped = async {
        while query(prometheus, "sum_over_time(up[1m]) >= 5").await.is_none_or(|scraped| scraped.len() < targets) {
            sleep(PAUSE).await;
        }
    };
    timeout(SCRAPE_LIMIT, scraped).await.expect("Prometheus scrapes the programs");
}

/// Returns the queries of the dashboard, with the titles of their panels.
fn dashboard_queries() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(&read("dashboard.json")).expect("JSON");
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().expect("panels") {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let query = target["expr"].as_str().expect("a query").to_owned();
            let query = VARIABLES.iter().fold(query, |query, (name, value)| query.replace(name, value));
            queries.push((panel["title"].to_string(), query));
        }
    }
    queries
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prometheus_has_data_for_every_panel_of_the_dashboard() {
    if !is_installed() {
        return;
    }
    // Some panels show only SQLite, and others only PostgreSQL.
    let Some(postgres) = TestDatabase::postgres().await else { return };
    let (folder, databases) = (folder(), [TestDatabase::sqlite(), postgres]);
    let (mut programs, collector) = (Vec::new(), Collector::start().await);
    for database in &databases {
        let taskey = start_limited(database, &collector).await;
        make_calls(&taskey).await;
        assert_metrics_are_valid(taskey.address("ops")).await;
        programs.push(taskey);
    }
    let targets: Vec<_> = programs.iter().map(|program| program.address("ops")).collect();
    let prometheus = start_prometheus(folder.path(), &targets).await;
    wait_for_scrapes(&prometheus, targets.len()).await;
    let mut without_data = dashboard_queries();
    let has_data = async {
        while !without_data.is_empty() {
            for program in &programs {
                make_calls(program).await;
            }
            for index in (0..without_data.len()).rev() {
                if query(&prometheus, &without_data[index].1).await.is_some_and(|result| !result.is_empty()) {
                    without_data.swap_remove(index);
                }
            }
            sleep(PAUSE).await;
        }
    };
    let all_have_data = timeout(SCRAPE_LIMIT, has_data).await.is_ok();
    assert!(all_have_data, "{without_data:#?}");
    let firing = query(&prometheus, r#"ALERTS{alertstate="firing"}"#).await.expect("a response");
    assert!(firing.is_empty(), "{firing:?}");
}

/// Returns the metrics of a program that has a certificate.
async fn metrics_with_tls() -> String {
    let database = TestDatabase::sqlite();
    let path = |name: &str| database.folder().join(name).display().to_string();
    _ = Authority::new("an authority").issue(&["localhost"]).write(database.folder(), "server");
    let (certificate, key) = (path("server.crt"), path("server.key"));
    let flags = ["--ops-listen", "127.0.0.1:0", "--tls-cert-file", &certificate, "--tls-key-file", &key];
    let auth = Process::spawn(&mut command("auth-service", &database, &flags), &["auth", "ops"]);
    get(auth.address("ops"), "/metrics").await.1
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alerts_and_dashboard_use_only_metrics_that_exist() {
    let Some(postgres) = TestDatabase::postgres().await else { return };
    let (mut scraped, collector) = (String::new(), Collector::start().await);
    for database in [TestDatabase::sqlite(), postgres] {
        let taskey = start_limited(&database, &collector).await;
        make_calls(&taskey).await;
        scraped += &get(taskey.address("ops"), "/metrics").await.1;
    }
    scraped += &metrics_with_tls().await;
    let files = read("alerts.yml") + &read("dashboard.json");
    let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
    for name in files.split(|c| !is_name(c)) {
        if ["taskey_", "grpc_server_", "http_server_", "process_"].iter().any(|prefix| name.starts_with(prefix)) {
            let family = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
            let family = family.unwrap_or(name);
            assert!(scraped.contains(&format!("# TYPE {family} ")), "{name}");
        }
    }
}
