//! The checks of the command `doctor`, which change nothing.

use std::sync::Arc;

use service_kit::{
    auth::{
        check::check_key_file,
        key_source::Purpose,
        revocation::{RevocationView, follow::Follower},
    },
    clock::Clock,
    ops::doctor::Finding,
    server::check::{check_listener, check_proxies, check_rate_limits},
};
use tonic::transport::Endpoint;

use crate::config::Config;

/// Checks all settings and files of a server, its database, and the feed of auth-service.
pub async fn diagnose(config: &Config, clock: &Clock) -> Vec<Finding> {
    let mut findings = vec![
        check_listener("--listen", config.listen, &config.tls, &config.limits),
        check_proxies(&[config.listen], &config.limits.proxies),
        check_rate_limits(config.rate_limits),
    ];
    findings.extend(config.tls.check(clock));
    findings.extend(config.upstream.check(clock));
    findings.extend(diagnose_database(config, "task-service", clock).await);
    if let Some(file) = &config.verifier.key_file {
        let purpose = if config.verifier.service_token_file.is_some() { Purpose::Verify } else { Purpose::Sign };
        findings.extend(check_key_file(file, purpose, clock));
    }
    findings.extend(check_feed(config, clock).await);
    findings
}

/// Checks the database. `program` is the name of the program.
pub async fn diagnose_database(config: &Config, program: &str, clock: &Clock) -> Vec<Finding> {
    config.database.service_database().diagnose(program, config.migrations.migrate, clock).await
}

/// Checks the credential of this service, and the feed of each auth-service. Without usable files, there is no connection.
async fn check_feed(config: &Config, clock: &Clock) -> Vec<Finding> {
    let opened = async {
        let (keys, credential) = config.verifier.open(&config.tokens, clock).await?;
        anyhow::Ok((keys, credential, config.upstream.open(config.auth_url.iter().map(Endpoint::uri), clock).await?))
    };
    let (keys, credential, dialer) = match opened.await {
        Ok(opened) => opened,
        Err(error) => {
            let fix = "correct --key-file, --service-token-file, --auth-url, or the --upstream files";
            return vec![Finding::from_error("feed", &error, fix)];
        }
    };
    let view = Arc::new(RevocationView::new(config.tasks.revocation_max_staleness, clock.clone()));
    let peers = config.peers();
    Follower { view, keys, deleted_users: None, credential, peers, dialer }.check().await
}
