//! Runs the commands of the README and of the other manuals, and compares their output with the documented one.

use std::{
    env, fs,
    net::TcpListener,
    path::Path,
    process::{Command, Stdio},
};

use service_kit::testing::{TestDatabase, folder, report_skipped};

use super::processes::{Taskey, program};

/// The main manual, relative to the root of the repository.
const README: &str = "README.md";

/// The operator's manual.
const OPERATORS_MANUAL: &str = "deploy/README.md";

/// Stands for any text within a line, which may differ between runs.
const ANYTHING: char = '…';

/// A block of commands, and the block of expected output that follows it, if there is one.
pub struct Step {
    pub commands: String,
    pub output: Option<String>,
}

/// Reads the steps of a section. The path of the file is relative to the root of the repository.
pub fn steps(file: &str, section: &str) -> Vec<Step> {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let manual = fs::read_to_string(root.join(file)).expect(file);
    let text = manual.split("\n## ").find(|text| text.starts_with(section)).expect(section);
    let mut steps: Vec<Step> = Vec::new();
    for block in text.split("\n```").skip(1).step_by(2) {
        let (language, text) = block.split_once('\n').expect("a block has lines");
        match language {
            "sh" => steps.push(Step { commands: text.to_owned(), output: None }),
            "" | "text" | "json" => steps.last_mut().expect("output follows a command").output = Some(text.to_owned()),
            // Sources and configurations.
            _ => {}
        }
    }
    assert!(!steps.is_empty(), "{file}: {section} has no commands");
    steps
}

/// Returns one script that runs all steps. The output of each step is written to its own file.
fn script(steps: &[Step]) -> String {
    let numbered = steps.iter().enumerate();
    let steps = numbered.map(|(number, step)| format!("{{\n{}\n}} > {number}.out 2>&1\n", step.commands));
    format!("set -u\n{}", steps.collect::<String>())
}

pub fn matches(output: &str, expected: &str) -> bool {
    let (mut rest, mut parts) = (output.trim(), expected.trim().split(ANYTHING));
    let first = parts.next().unwrap_or_default();
    let Some(after) = rest.strip_prefix(first) else { return false };
    rest = after;
    let mut last = None;
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        // The placeholder does not match line breaks.
        if rest[..at].contains('\n') {
            return false;
        }
        rest = &rest[at + part.len()..];
        last = Some(part);
    }
    rest.is_empty() || last == Some("")
}

/// Runs the steps in a folder and returns the output of each. The documented ports are replaced with those of the test.
fn run(folder: &Path, steps: &[Step], ports: [u16; 3]) -> Vec<String> {
    let ports = ports.map(|port| port.to_string());
    run_with(folder, steps, &[("50051", &ports[0]), ("50052", &ports[1]), ("8080", &ports[2])])
}

/// Runs the steps in a folder, with these replacements of their text, and returns the output of each.
pub fn run_with(folder: &Path, steps: &[Step], replacements: &[(&str, &str)]) -> Vec<String> {
    // In two steps, because a port may contain the digits of another one.
    let marker = |number: usize| format!("\u{1}{number}\u{2}");
    let mut script = script(steps);
    for (number, (from, _)) in replacements.iter().enumerate() {
        script = script.replace(from, &marker(number));
    }
    for (number, (_, to)) in replacements.iter().enumerate() {
        script = script.replace(&marker(number), to);
    }
    let programs = program("taskey").parent().expect("a folder").display().to_string();
    // Debian installs servers such as nginx in /usr/sbin.
    let path = format!("{programs}:{}:/usr/sbin", env::var("PATH").unwrap_or_default());
    let mut bash = Command::new("bash");
    bash.args(["-c", &script]).current_dir(folder).env("PATH", path).stdin(Stdio::null());
    // `taskey token` stores tokens in the configuration directory.
    bash.env("XDG_CONFIG_HOME", folder.join("config"));
    bash.status().expect("there is a bash");
    let output = |number| fs::read_to_string(folder.join(format!("{number}.out"))).expect("each step has run");
    (0..steps.len()).map(output).collect()
}

/// Reports whether the tools are installed. If one is missing, the test is skipped, or fails in CI.
pub fn tools_are_installed(tools: &[&str]) -> bool {
    for tool in tools {
        if Command::new(tool).arg("--help").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
            report_skipped("a tour of the README", &format!("{tool} is not installed; `make test` installs it"));
            return false;
        }
    }
    true
}

/// Runs sections in one shell, against one `taskey`, and compares their output.
async fn tour(sections: &[(&str, &str)]) {
    let database = TestDatabase::sqlite();
    let taskey = Taskey::start(&database).await;
    let ports = ["auth", "task", "gateway"].map(|name| taskey.process(name).address(name).port());
    let steps: Vec<_> = sections.iter().flat_map(|(file, section)| steps(file, section)).collect();
    for (step, output) in steps.iter().zip(run(database.folder(), &steps, ports)) {
        let expected = step.output.as_deref().unwrap_or_default();
        assert!(matches(&output, expected), "{}\nprinted\n{output}\nnot\n{expected}", step.commands);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn grpcurl_tour_prints_the_documented_output() {
    if tools_are_installed(&["grpcurl", "curl", "jq"]) {
        // Later sections use accounts and shell variables of earlier ones.
        let sections = [
            (README, "Two minutes with grpcurl"),
            ("auth-service/README.md", "The first administrator"),
            ("task-service/README.md", "Lists, batches, search and changes"),
            ("gateway/README.md", "Versions, retries, streams and cookies"),
            ("proto/README.md", "Documentation from a running service"),
            ("task-service/README.md", "Recurring tasks"),
        ];
        tour(&sections).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_tour_prints_the_documented_output() {
    if tools_are_installed(&["curl", "jq"]) {
        let sections = [(README, "Two minutes with curl"), ("gateway/README.md", "Updates and new tokens")];
        tour(&sections).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_for_scripts_print_the_documented_output() {
    if tools_are_installed(&["grpcurl", "curl", "jq"]) {
        tour(&[(OPERATORS_MANUAL, "For scripts")]).await;
    }
}

fn free_ports() -> [u16; 3] {
    let free = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    free.map(|listener| listener.local_addr().expect("an address").port())
}

#[test]
fn documented_commands_start_separate_services() {
    if !tools_are_installed(&["curl"]) {
        return;
    }
    let (folder, ports) = (folder(), free_ports());
    let mut steps = steps(OPERATORS_MANUAL, "Separate services");
    // The programs run in the background. This step waits until they serve, and then ends them.
    let commands = "for i in $(seq 600); do curl -sf localhost:8080/readyz && break; sleep 0.1; done; kill $(jobs -p)";
    steps.push(Step { commands: commands.to_owned(), output: None });
    let outputs = run(folder.path(), &steps, ports);
    assert_eq!(outputs[1], r#"{"status":"SERVING"}"#, "{}", outputs[0]);
}

#[test]
fn documented_commands_start_services_with_tls() {
    if tools_are_installed(&["curl", "openssl"]) {
        assert_services_start("TLS");
    }
}

#[test]
fn documented_commands_work_without_a_shared_key() {
    if tools_are_installed(&["curl", "jq"]) {
        assert_services_start("Without a shared key");
    }
}

/// Runs a section of the operator's manual that starts programs in the background, and compares its output.
fn assert_services_start(section: &str) {
    let (folder, ports) = (folder(), free_ports());
    let mut steps = steps(OPERATORS_MANUAL, section);
    steps.push(Step { commands: "kill $(jobs -p)".to_owned(), output: None });
    for (step, output) in steps.iter().zip(run(folder.path(), &steps, ports)) {
        let expected = step.output.as_deref().unwrap_or_default();
        // The programs in the background also write to this file.
        let in_background = step.commands.contains(" &\n") && output.contains(expected);
        assert!(in_background || matches(&output, expected), "{}\nprinted\n{output}\nnot\n{expected}", step.commands);
    }
}

#[test]
fn documented_commands_read_health_and_metrics() {
    if !tools_are_installed(&["curl"]) {
        return;
    }
    let (folder, ports) = (folder(), free_ports());
    let listen = ["AUTH", "TASK", "GATEWAY"].map(|name| format!("export TASKEY_{name}_LISTEN=127.0.0.1:0"));
    let mut steps = steps(OPERATORS_MANUAL, "Health and metrics");
    steps[0].commands = steps[0].commands.replace("9090", &ports[0].to_string());
    steps[0].commands.insert_str(0, &format!("{}\n", listen.join("\n")));
    steps.push(Step { commands: "kill $(jobs -p)".to_owned(), output: None });
    let output = &run(folder.path(), &steps, ports)[0];
    // The program in the background also writes to this file.
    let lines: Vec<_> = output.lines().filter(|line| line.starts_with(['{', '#', 't'])).collect();
    let (output, expected) = (lines.join("\n"), steps[0].output.as_deref().expect("documented"));
    assert!(matches(&output, expected), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn documented_backup_is_restored() {
    tour(&[(OPERATORS_MANUAL, "Backup and restore")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn documented_copy_moves_an_installation() {
    let Some(target) = TestDatabase::postgres().await else { return };
    let source = TestDatabase::sqlite();
    let taskey = Taskey::start(&source).await;
    let ann = taskey.sign_up_and_log_in("ann@example.com").await;
    taskey.stop().await;
    let mut steps = steps(OPERATORS_MANUAL, "Moving to PostgreSQL");
    for step in &mut steps {
        step.commands = step.commands.replace("postgres://taskey@localhost/taskey", target.url());
    }
    assert_eq!(
        run(source.folder(), &steps, [50051, 50052, 8080]),
        [format!("{}\n", steps[0].output.as_deref().unwrap_or_default())]
    );
    let taskey = Taskey::start_with(&source, &["--database-url", target.url()]).await;
    taskey.list(&ann.access_token).await.expect("the session continues");
}

#[tokio::test(flavor = "multi_thread")]
async fn documented_commands_rotate_the_refresh_secret() {
    let database = TestDatabase::sqlite();
    let taskey = Taskey::start_separately(&database).await;
    taskey.sign_up_and_log_in("ann@example.com").await;
    let steps = steps(OPERATORS_MANUAL, "Secrets");
    for (step, output) in steps.iter().zip(run(database.folder(), &steps, [50051, 50052, 8080])) {
        let expected = step.output.as_deref().unwrap_or_default();
        assert!(matches(&output, expected), "{}\nprinted\n{output}\nnot\n{expected}", step.commands);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn documented_commands_diagnose() {
    let database = TestDatabase::sqlite();
    let taskey = Taskey::start_separately(&database).await;
    let ports = ["auth", "task", "gateway"].map(|name| taskey.process(name).address(name).port());
    let steps = steps(OPERATORS_MANUAL, "Diagnosis");
    for (step, output) in steps.iter().zip(run(database.folder(), &steps, ports)) {
        let expected = step.output.as_deref().unwrap_or_default();
        assert!(matches(&output, expected), "{}\nprinted\n{output}\nnot\n{expected}", step.commands);
    }
}

#[test]
fn documented_commands_migrate() {
    let steps = steps(OPERATORS_MANUAL, "Upgrades");
    for (step, output) in steps.iter().zip(run(folder().path(), &steps, [50051, 50052, 8080])) {
        let expected = step.output.as_deref().unwrap_or_default();
        assert!(matches(&output, expected), "{}\nprinted\n{output}\nnot\n{expected}", step.commands);
    }
}

#[test]
fn every_documented_program_has_help_and_a_configuration_file() {
    let steps = steps(OPERATORS_MANUAL, "Settings");
    let outputs = run(folder().path(), &steps, [50051, 50052, 8080]);
    for program in ["taskey", "auth-service", "task-service", "gateway"] {
        assert!(outputs[0].contains(&format!("Usage: {program} ")), "{}", outputs[0]);
    }
    let documented = steps[1].output.as_deref().expect("the output is documented");
    assert!(matches(&outputs[1], documented), "printed\n{}\nnot\n{documented}", outputs[1]);
}

#[test]
fn documented_make_targets_exist() {
    let makefile = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../Makefile")).expect("a Makefile");
    for step in steps(README, "Run it") {
        let target = step.commands.trim().strip_prefix("make ").expect("a make target").to_owned();
        assert!(makefile.contains(&format!("\n{target}: ")), "{target}");
    }
}

/// Guards the tours: a comparison that accepts any output would let all of them pass.
#[test]
fn different_output_does_not_match() {
    assert!(matches("a b c", "a … c") && matches("a b", "a …") && matches("", "") && matches("x\n", "x"));
    assert!(!matches("a b d", "a … c") && !matches("a\nb c", "a … c") && !matches("a", "") && !matches("", "a"));
    assert!(!matches("a b c d", "a … c"));
}
