//! Prints commands to try after the program has started.

use std::{io, net::SocketAddr};

use service_kit::ops::output;
use tokio_util::sync::CancellationToken;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use crate::{config::endpoint, listen::Listeners};

/// The addresses in the commands.
pub struct Hint {
    auth: SocketAddr,
    gateway: SocketAddr,
    uses_tls: bool,
    /// Where the services are reached from this process.
    internal: [SocketAddr; 2],
}

impl Hint {
    /// Creates the hint for these listeners.
    ///
    /// # Errors
    /// If the system does not know an address.
    pub fn new(Listeners { auth, task, gateway }: &Listeners) -> io::Result<Self> {
        Ok(Self {
            auth: auth.listener.local_addr()?,
            gateway: gateway.local_addr()?,
            uses_tls: gateway.uses_tls(),
            internal: [auth.internal_address, task.internal_address],
        })
    }

    /// Prints a command for curl and one for grpcurl once the services are ready.
    pub async fn print_when_ready(&self, shutdown: &CancellationToken) {
        let [auth, task] = self.internal;
        let ready = async { wait_until_serving(auth).await.and(wait_until_serving(task).await) };
        if let Some(Ok(())) = shutdown.run_until_cancelled(ready).await {
            output::print(self.text());
        }
    }

    fn text(&self) -> String {
        let [auth, gateway] = [self.auth, self.gateway].map(|address| {
            let url = endpoint(address).uri().clone();
            url.authority().map(ToString::to_string).unwrap_or_default()
        });
        // Only the operator knows the names in the certificate, and its authority.
        let (scheme, curl, grpcurl) = if self.uses_tls {
            ("https", "curl --cacert ca.pem", "-cacert ca.pem")
        } else {
            ("http", "curl", "-plaintext")
        };
        let credentials = r#"{"email": "ann@example.com", "password": "correct horse battery staple"}"#;
        format!(
            "\nTaskey is ready. Sign up with curl, then log in with grpcurl; see the README for the next steps.\n\n\
             {curl} {scheme}://{gateway}/v1/auth/signup -d '{credentials}' -H 'content-type: application/json'\n\n\
             grpcurl {grpcurl} -d '{credentials}' {auth} taskey.auth.v1.AuthService/Login\n"
        )
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
