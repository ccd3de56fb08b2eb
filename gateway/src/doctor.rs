//! The checks of the command `doctor`, which change nothing.

use service_kit::{
    clock::Clock,
    ops::doctor::Finding,
    server::check::{check_health, check_listener, check_proxies},
};
use tonic::transport::Endpoint;

use crate::config::Config;

/// Checks all settings and files of a gateway, and whether the services serve.
pub async fn diagnose(config: &Config, clock: &Clock) -> Vec<Finding> {
    let mut findings = vec![
        check_listener("--listen", config.listen, &config.tls, &config.limits),
        check_proxies(&[config.listen], &config.limits.proxies),
        check_public_url(config, config.tls.tls_cert_file.is_some()),
        check_credential(config).await,
    ];
    findings.extend(config.tls.check(clock));
    findings.extend(config.upstream.check(clock));
    findings.extend(check_services(config, clock).await);
    findings
}

/// Checks that the clients of a proxy are distinguished, if browsers reach the gateway through one.
#[must_use]
pub fn check_public_url(config: &Config, has_tls: bool) -> Finding {
    let is_behind_proxy = config.browsers.public_url.as_ref().is_some_and(|url| url.is_https() && !has_tls);
    match &config.browsers.public_url {
        Some(url) if is_behind_proxy && config.limits.proxies.trusted_proxies.is_empty() => Finding::warning(
            "public_url",
            format!(
                "browsers reach {} through a proxy that is not trusted, so that all of its clients share their limits",
                url.origin()
            ),
            "--trusted-proxies with the address of the proxy",
        ),
        Some(url) => Finding::ok("public_url", format!("browsers reach the gateway at {}", url.origin())),
        None => Finding::ok("public_url", "cookies are for the host of each request"),
    }
}

/// Checks how the gateway authenticates to auth-service.
async fn check_credential(config: &Config) -> Finding {
    const FIX: &str = "auth-service tokens issue-service gateway --scope clients.forward, for --service-token-file";
    match (config.service_token.clone().open().await, &config.upstream.upstream_cert_file) {
        (Ok(Some(_)), _) => Finding::ok("credential", "the service token can be read"),
        (Ok(None), Some(file)) => {
            Finding::ok("credential", format!("the gateway authenticates with {}", file.display()))
        }
        (Ok(None), None) => {
            let message =
                "without a service token or a certificate, all clients share the limits of the gateway's address";
            Finding::warning("credential", message, FIX)
        }
        (Err(error), _) => Finding::from_error("credential", &error, FIX),
    }
}

/// Asks each replica of the services whether it serves.
async fn check_services(config: &Config, clock: &Clock) -> Vec<Finding> {
    let urls = config.auth_url.iter().chain(&config.task_url).map(Endpoint::uri);
    let dialer = match config.upstream.open(urls, clock).await {
        Ok(dialer) => dialer,
        Err(error) => return vec![Finding::from_error("services", &error, "correct --upstream-ca-file")],
    };
    let mut findings = Vec::new();
    for (name, flag, peers) in
        [("auth_service", "--auth-url", &config.auth_url), ("task_service", "--task-url", &config.task_url)]
    {
        for peer in peers {
            findings.push(check_health(name, flag, peer, &dialer).await);
        }
    }
    findings
}
