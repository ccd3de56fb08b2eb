//! The checks of the command `doctor`, which change nothing.

use std::sync::Arc;

use service_kit::{
    auth::{
        check::check_key_file,
        key_source::Purpose,
        revocation::{RevocationView, follow::Follower},
    },
    clock::Clock,
    db::Migrate,
    ops::doctor::Finding,
    sealing::SealingKeys,
    server::check::{check_listener, check_proxies, check_rate_limits},
};
use tonic::transport::Endpoint;

use crate::{config::Config, recovery::open_existing, store::webhook_keys};

/// Checks all settings and files of a server, its database, and the feed of auth-service.
pub async fn diagnose(config: &Config, clock: &Clock) -> Vec<Finding> {
    let mut findings = vec![
        check_listener("--listen", config.listen, &config.tls, &config.limits),
        check_proxies(&[config.listen], &config.limits.proxies),
        check_rate_limits(config.rate_limits),
    ];
    findings.extend(config.tls.check(clock));
    findings.extend(config.upstream.check(clock));
    findings.extend(diagnose_service(config, "task-service", clock).await);
    if let Some(file) = &config.verifier.key_file {
        let purpose = if config.verifier.service_token_file.is_some() { Purpose::Verify } else { Purpose::Sign };
        findings.extend(check_key_file(file, purpose, clock));
    }
    findings.extend(check_feed(config, clock).await);
    findings
}

/// Checks the database, and the keys that only this service has. `program` is the name of the program.
pub async fn diagnose_service(config: &Config, program: &str, clock: &Clock) -> Vec<Finding> {
    let database = config.database.service_database();
    let mut findings = database.diagnose(program, config.migrations.migrate, clock).await;
    findings.push(check_webhook_key(config).await);
    findings
}

/// Checks the keys of the secrets of webhooks: whether they can be used, and all of them are needed. If the database cannot
/// be read, which its own check reports, no key is expected.
async fn check_webhook_key(config: &Config) -> Finding {
    const NAME: &str = "webhook_key";
    let used = read_webhook_key_ids(config).await.unwrap_or_default();
    let Some(file) = config.webhook_key_file() else {
        return Finding::warning(NAME, "webhooks are disabled, because they have no key file", "--webhook-key-file");
    };
    let name = file.display();
    let restore = format!("restore {name} from a backup");
    if !file.exists() && used.is_empty() {
        return Finding::ok(NAME, format!("{name} does not exist; the server creates it, or has no webhooks"));
    }
    let keys = match SealingKeys::read(&file) {
        Ok(keys) => keys,
        Err(error) => return Finding::from_error(NAME, &error, restore),
    };
    let ids = keys.ids();
    let message = format!("keys in {name}: {}", ids.len());
    if used.iter().any(|id| !ids.contains(&id.as_str())) {
        return Finding::failed(NAME, format!("{message}; those of some webhooks are missing"), restore);
    }
    let is_needed = |id: &&str| *id == keys.first_id() || used.iter().any(|used| used == id);
    if ids.iter().all(is_needed) {
        return Finding::ok(NAME, message);
    }
    let fix = format!("remove lines from {name} that no server needs any more; the first one encrypts");
    Finding::warning(NAME, format!("{message}; no webhook needs all of them"), fix)
}

/// Returns the ids of the keys that have encrypted secrets of webhooks.
async fn read_webhook_key_ids(config: &Config) -> anyhow::Result<Vec<String>> {
    let db = open_existing(&config.database, Migrate::Never).await?;
    let ids = webhook_keys::key_ids(&db).await;
    db.close().await;
    Ok(ids?)
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
    Follower { view, keys, user_changes: None, credential, peers, dialer }.check().await
}
