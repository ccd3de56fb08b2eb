//! Checks the settings of servers, and whether other services serve, for the command `doctor`.

use std::{net::SocketAddr, time::Duration};

use anyhow::Context;
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use crate::{
    network::ProxyArgs,
    ops::{
        config::{LimitArgs, OnOff},
        doctor::Finding,
    },
    tls::{Dialer, TlsArgs},
};

/// How long a health check may take, including the connection.
const HEALTH_LIMIT: Duration = Duration::from_secs(5);

/// Networks with shorter prefixes contain most of the Internet.
const MIN_PREFIX: u8 = 8;

/// Checks whether others can intercept the traffic of a server. `flag` is the setting of its address.
#[must_use]
pub fn check_listener(flag: &str, listen: SocketAddr, tls: &TlsArgs, limits: &LimitArgs) -> Finding {
    let fix = format!("--tls-cert-file and --tls-key-file, or {flag} 127.0.0.1:{}", listen.port());
    if tls.tls_cert_file.is_some() {
        Finding::ok("listener", format!("{listen} accepts only TLS"))
    } else if listen.ip().to_canonical().is_loopback() {
        Finding::ok("listener", format!("{listen} can be reached only from this machine"))
    } else if limits.insecure_plaintext {
        Finding::warning("listener", format!("{listen} accepts plaintext, where tokens can be intercepted"), fix)
    } else {
        let message = format!("the server does not start: {listen} is not a loopback address, and has no TLS");
        Finding::failed("listener", message, fix)
    }
}

/// Checks the trusted proxies of servers at these addresses.
#[must_use]
pub fn check_proxies(listen: &[SocketAddr], ProxyArgs { trusted_proxies }: &ProxyArgs) -> Finding {
    if let Some(network) = trusted_proxies.iter().find(|network| network.prefix_len() < MIN_PREFIX) {
        let message = format!("{network} is trusted, so that clients can choose the address to which limits apply");
        return Finding::warning("trusted_proxies", message, "--trusted-proxies with the addresses of your proxies");
    }
    let is_local = !listen.is_empty() && listen.iter().all(|address| address.ip().to_canonical().is_loopback());
    let trusts_local = trusted_proxies.iter().any(|network| network.addr().to_canonical().is_loopback());
    match trusted_proxies.len() {
        0 => Finding::ok("trusted_proxies", "no proxy is trusted"),
        _ if is_local && !trusts_local => {
            let message = "proxies can connect only from this machine, whose loopback addresses are not trusted";
            Finding::warning("trusted_proxies", message, "--trusted-proxies 127.0.0.1,::1")
        }
        count => Finding::ok("trusted_proxies", format!("the number of trusted networks is {count}")),
    }
}

/// Checks whether rate limits are enforced.
#[must_use]
pub fn check_rate_limits(rate_limits: OnOff) -> Finding {
    match rate_limits {
        OnOff::On => Finding::ok("rate_limits", "rate limits are enforced"),
        OnOff::Off => Finding::warning(
            "rate_limits",
            "rate limits are not enforced, so that passwords can be guessed and one client can use all capacity",
            "--rate-limits on",
        ),
    }
}

/// Asks another service whether it serves. `flag` is the setting of its URL.
pub async fn check_health(name: &str, flag: &str, peer: &Endpoint, dialer: &Dialer) -> Finding {
    let url = peer.uri();
    let status = timeout(HEALTH_LIMIT, health(peer, dialer)).await.context("no response in time");
    match status.and_then(|status| status).with_context(|| url.to_string()) {
        Ok(ServingStatus::Serving) => Finding::ok(name, format!("{url} serves")),
        Ok(_) => Finding::failed(
            name,
            format!("{url} does not serve"),
            format!("read the log of {url}, or run its `doctor`"),
        ),
        Err(error) => {
            Finding::from_error(name, &error, format!("start it, or correct {flag} and the --upstream files"))
        }
    }
}

async fn health(peer: &Endpoint, dialer: &Dialer) -> anyhow::Result<ServingStatus> {
    let channel: Channel = peer.connect_with_connector(dialer.clone()).await?;
    let response = HealthClient::new(channel).check(HealthCheckRequest::default()).await;
    Ok(response.map_err(|status| crate::status::summary(&status))?.into_inner().status())
}
