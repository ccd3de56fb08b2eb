//! Prints commands to try after the program has started.

use std::net::SocketAddr;

use service_kit::ops::output;
use tokio_util::sync::CancellationToken;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use crate::config::endpoint;

/// Prints a working command for curl and one for grpcurl once the services are ready.
pub async fn print_when_ready(auth: SocketAddr, task: SocketAddr, gateway: SocketAddr, shutdown: &CancellationToken) {
    let ready = async { wait_until_serving(auth).await.and(wait_until_serving(task).await) };
    if let Some(Ok(())) = shutdown.run_until_cancelled(ready).await {
        let (gateway, auth) = (endpoint(gateway).uri().to_string(), endpoint(auth).uri().clone());
        let auth = auth.authority().map(ToString::to_string).unwrap_or_default();
        let credentials = r#"{"email": "ann@example.com", "password": "correct horse battery staple"}"#;
        output::print(format!(
            "\nTaskey is ready. Sign up with curl, then log in with grpcurl; see the README for the next steps.\n\n\
             curl {gateway}v1/auth/signup -d '{credentials}' -H 'content-type: application/json'\n\n\
             grpcurl -plaintext -d '{credentials}' {auth} taskey.auth.v1.AuthService/Login\n"
        ));
    }
}

/// Waits until the health service of a service reports `SERVING`.
async fn wait_until_serving(service: SocketAddr) -> anyhow::Result<()> {
    let mut health = HealthClient::new(endpoint(service).connect().await?);
    let mut statuses = health.watch(HealthCheckRequest::default()).await?.into_inner();
    while let Some(status) = statuses.message().await? {
        if status.status() == ServingStatus::Serving {
            return Ok(());
        }
    }
    anyhow::bail!("the service ended before it was ready")
}
