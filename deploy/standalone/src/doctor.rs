//! The checks of the command `doctor`, which change nothing.

use service_kit::{
    auth::{check::check_key_file, key_source::Purpose},
    clock::Clock,
    ops::doctor::{Finding, files::check_private},
    server::check::{check_listener, check_proxies},
};

use crate::config::{Cli, Configs};

/// Checks all settings and files of the program, and its databases. The services call each other within the process, so
/// that their connections need no check.
pub async fn diagnose(cli: &Cli, configs: &Configs, clock: &Clock) -> Vec<Finding> {
    let listeners = [
        ("auth", "--auth-listen", cli.auth_listen),
        ("task", "--task-listen", cli.task_listen),
        ("gateway", "--gateway-listen", cli.gateway_listen),
    ];
    let addresses = listeners.map(|(_, _, listen)| listen);
    let listeners = listeners
        .map(|(service, flag, listen)| check_listener(flag, listen, &cli.tls, &cli.limits).of_service(service));
    let mut findings = listeners.to_vec();
    findings.push(check_proxies(&addresses, &cli.limits.proxies));
    findings.push(gateway::doctor::check_public_url(&configs.gateway, cli.tls.tls_cert_file.is_some()));
    findings.extend(cli.tls.check(clock));
    findings.extend(check_private("data_dir", &cli.data_dir));
    findings.extend(check_keys(cli, clock));
    let auth = auth_service::doctor::diagnose_service(&configs.auth, "taskey", clock).await;
    findings.extend(auth.into_iter().map(|finding| finding.of_service("auth")));
    let task = task_service::doctor::diagnose_service(&configs.task, "taskey", clock).await;
    findings.extend(task.into_iter().map(|finding| finding.of_service("task")));
    findings
}

/// Checks the keys. Those in the data directory are created on the first start.
fn check_keys(cli: &Cli, clock: &Clock) -> Vec<Finding> {
    let file = cli.key_file();
    if cli.key_file.is_none() && !file.exists() {
        let message = format!("{} does not exist; the program creates it when it starts", file.display());
        return vec![Finding::ok("key_file", message)];
    }
    check_key_file(&file, Purpose::Sign, clock)
}
