//! Runs the page *Production* of the operator's manual, line by line.

use service_kit::testing::TestDatabase;

use super::readme::{Step, matches, run_with, steps, tools_are_installed};
use crate::deployment::template::{deploy, free_address};

const TOOLS: [&str; 7] = ["curl", "envsubst", "jq", "openssl", "/usr/sbin/nginx", "prometheus", "promtool"];

#[tokio::test(flavor = "multi_thread")]
async fn commands_of_the_page_production_print_the_documented_output() {
    if !tools_are_installed(&TOOLS) {
        return;
    }
    let Some(database) = TestDatabase::postgres().await else { return };
    let mut steps = steps("deploy/README.md", "Production");
    steps.push(Step { commands: "kill $(jobs -p)".to_owned(), output: None });
    let documented = ["50051", "50052", "8080", "8443", "9091", "9092", "9093", "9094"];
    let ports = documented.map(|port| (port, free_address().port().to_string()));
    let mut replacements: Vec<_> = ports.iter().map(|(from, to)| (*from, &to[..])).collect();
    let repository = deploy("..").canonicalize().expect("the repository").display().to_string();
    replacements
        .extend([("~/taskey", &repository[..]), ("postgres://postgres@127.0.0.1:5432/postgres", database.url())]);
    for (step, output) in steps.iter().zip(run_with(database.folder(), &steps, &replacements)) {
        let expected = step.output.as_deref().unwrap_or_default();
        // The programs in the background also write to this file.
        let in_background = step.commands.contains(" &\n") && output.contains(expected.trim());
        assert!(in_background || matches(&output, expected), "{}\nprinted\n{output}\nnot\n{expected}", step.commands);
    }
}
