//! What the README shows is what happens: its commands are run as they stand there, and what follows them must be
//! what they print.

use std::{
    env, fs,
    net::TcpListener,
    path::Path,
    process::{Command, Stdio},
};

use service_kit::testing::{TestDatabase, folder, leave_out};

use super::processes::{Taskey, program};

/// What stands for text that is different each time.
const ANYTHING: char = '…';

/// A block of commands and the block of output that follows it, if one does.
struct Step {
    commands: String,
    output: Option<String>,
}

/// The steps of a section of the README.
fn steps(section: &str) -> Vec<Step> {
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md")).expect("a README");
    let section = readme.split("\n## ").find(|text| text.starts_with(section)).expect(section).to_owned();
    let mut steps: Vec<Step> = Vec::new();
    for block in section.split("\n```").skip(1).step_by(2) {
        let (language, text) = block.split_once('\n').expect("a block has lines");
        match language {
            "sh" => steps.push(Step { commands: text.to_owned(), output: None }),
            _ => steps.last_mut().expect("output follows a command").output = Some(text.to_owned()),
        }
    }
    assert!(!steps.is_empty(), "{section}");
    steps
}

/// One script of all steps, each of which writes what it prints to a file of its own.
fn script(steps: &[Step]) -> String {
    let numbered = steps.iter().enumerate();
    let steps = numbered.map(|(number, step)| format!("{{\n{}\n}} > {number}.out 2>&1\n", step.commands));
    format!("set -u\n{}", steps.collect::<String>())
}

fn matches(output: &str, expected: &str) -> bool {
    let (mut rest, mut parts) = (output.trim(), expected.trim().split(ANYTHING));
    let first = parts.next().unwrap_or_default();
    let Some(after) = rest.strip_prefix(first) else { return false };
    rest = after;
    let mut last = None;
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        // What stands for anything never stands for more than one line.
        if rest[..at].contains('\n') {
            return false;
        }
        rest = &rest[at + part.len()..];
        last = Some(part);
    }
    rest.is_empty() || last == Some("")
}

/// Runs the steps in a folder and gives what each prints. The ports of the README become those of the test.
fn run(folder: &Path, steps: &[Step], ports: [u16; 3]) -> Vec<String> {
    let script = script(steps)
        .replace("50051", &ports[0].to_string())
        .replace("50052", &ports[1].to_string())
        .replace("8080", &ports[2].to_string());
    let programs = program("taskey").parent().expect("a folder").display().to_string();
    let path = format!("{programs}:{}", env::var("PATH").unwrap_or_default());
    let mut bash = Command::new("bash");
    bash.args(["-c", &script]).current_dir(folder).env("PATH", path).stdin(Stdio::null());
    bash.status().expect("there is a bash");
    let output = |number| fs::read_to_string(folder.join(format!("{number}.out"))).expect("each step has run");
    (0..steps.len()).map(output).collect()
}

/// Says which of the tools that the README uses are missing.
fn tools_are_there(tools: &[&str]) -> bool {
    for tool in tools {
        if Command::new(tool).arg("--help").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
            leave_out("a tour of the README", &format!("there is no {tool}; `make test` installs it"));
            return false;
        }
    }
    true
}

async fn tour(sections: &[&str]) {
    let database = TestDatabase::sqlite();
    let taskey = Taskey::start(&database).await;
    let ports = ["auth", "task", "gateway"].map(|name| taskey.process(name).address(name).port());
    let steps: Vec<_> = sections.iter().flat_map(|section| steps(section)).collect();
    for (step, output) in steps.iter().zip(run(database.folder(), &steps, ports)) {
        let expected = step.output.as_deref().unwrap_or_default();
        assert!(matches(&output, expected), "{}\nprinted\n{output}\nnot\n{expected}", step.commands);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tour_with_grpcurl_is_as_the_readme_shows_it() {
    if tools_are_there(&["grpcurl", "curl", "jq"]) {
        // Ann, who has signed up there, becomes an administrator.
        tour(&["Two minutes with grpcurl", "What it can do", "Tasks in earnest", "REST in earnest"]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tour_with_curl_is_as_the_readme_shows_it() {
    if tools_are_there(&["curl", "jq"]) {
        tour(&["Two minutes with curl"]).await;
    }
}

fn free_ports() -> [u16; 3] {
    let free = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    free.map(|listener| listener.local_addr().expect("an address").port())
}

#[test]
fn the_services_run_apart_as_the_readme_shows_it() {
    if !tools_are_there(&["curl"]) {
        return;
    }
    let (folder, ports) = (folder(), free_ports());
    let mut steps = steps("As services of their own");
    // The programs run in the background; this is how the test knows that they work, and ends them.
    let commands = "for i in $(seq 600); do curl -sf localhost:8080/readyz && break; sleep 0.1; done; kill $(jobs -p)";
    steps.push(Step { commands: commands.to_owned(), output: None });
    let outputs = run(folder.path(), &steps, ports);
    assert_eq!(outputs[1], r#"{"status":"SERVING"}"#, "{}", outputs[0]);
}

#[test]
fn the_services_run_without_a_shared_key_as_the_readme_shows_it() {
    if !tools_are_there(&["curl", "jq"]) {
        return;
    }
    let (folder, ports) = (folder(), free_ports());
    let mut steps = steps("Without a shared key");
    steps.push(Step { commands: "kill $(jobs -p)".to_owned(), output: None });
    for (step, output) in steps.iter().zip(run(folder.path(), &steps, ports)) {
        let expected = step.output.as_deref().unwrap_or_default();
        // The programs in the background print there, too.
        let beside = step.commands.contains(" &\n") && output.contains(expected);
        assert!(beside || matches(&output, expected), "{}\nprinted\n{output}\nnot\n{expected}", step.commands);
    }
}

#[test]
fn every_program_has_the_help_that_the_readme_shows() {
    let help = run(folder().path(), &steps("Settings"), [50051, 50052, 8080]).concat();
    for program in ["taskey", "auth-service", "task-service", "gateway"] {
        assert!(help.contains(&format!("Usage: {program} ")), "{help}");
    }
}

#[test]
fn the_two_commands_are_targets_of_make() {
    let makefile = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../Makefile")).expect("a Makefile");
    for step in steps("Run it") {
        let target = step.commands.trim().strip_prefix("make ").expect("a make target").to_owned();
        assert!(makefile.contains(&format!("\n{target}: ")), "{target}");
    }
}

/// A comparison that lets everything pass would make the tours worthless.
#[test]
fn what_differs_is_noticed() {
    assert!(matches("a b c", "a … c") && matches("a b", "a …") && matches("", "") && matches("x\n", "x"));
    assert!(!matches("a b d", "a … c") && !matches("a\nb c", "a … c") && !matches("a", "") && !matches("", "a"));
    assert!(!matches("a b c d", "a … c"));
}
