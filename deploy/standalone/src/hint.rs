//! Tells a person who has just started the program what to try.

use std::{
    io::{self, Write},
    net::SocketAddr,
};

use tokio_util::sync::CancellationToken;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use crate::config::endpoint;

/// Prints a working line for curl and one for grpcurl, once the services are ready.
pub async fn print_when_ready(auth: SocketAddr, task: SocketAddr, gateway: SocketAddr, shutdown: &CancellationToken) {
    let ready = async { is_ready(auth).await.and(is_ready(task).await) };
    if let Some(Ok(())) = shutdown.run_until_cancelled(ready).await {
        let (gateway, auth) = (endpoint(gateway).uri().to_string(), endpoint(auth).uri().clone());
        let auth = auth.authority().map(ToString::to_string).unwrap_or_default();
        let person = r#"{"email": "ann@example.com", "password": "correct horse battery staple"}"#;
        // Nobody may read it any more.
        _ = writeln!(
            io::stdout(),
            "\nTaskey is ready. Sign up with curl, then log in with grpcurl; the README goes on from there.\n\n\
             curl {gateway}v1/auth/signup -d '{person}' -H 'content-type: application/json'\n\n\
             grpcurl -plaintext -d '{person}' {auth} taskey.auth.v1.AuthService/Login\n"
        );
    }
}

/// Waits until a service says that it serves.
async fn is_ready(service: SocketAddr) -> anyhow::Result<()> {
    let mut health = HealthClient::new(endpoint(service).connect().await?);
    let mut states = health.watch(HealthCheckRequest::default()).await?.into_inner();
    while let Some(state) = states.message().await? {
        if state.status() == ServingStatus::Serving {
            return Ok(());
        }
    }
    anyhow::bail!("the service ended before it was ready")
}
