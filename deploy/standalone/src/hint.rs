//! Prints commands to try after the program has started.

use std::{io, net::SocketAddr};

use service_kit::{ops::output, server::health::HealthReport};
use tokio_util::sync::CancellationToken;

use crate::{config::endpoint, listen::Listeners};

/// The addresses in the commands.
pub struct Hint {
    auth: SocketAddr,
    gateway: SocketAddr,
    uses_tls: bool,
    /// The services that must serve first.
    services: [HealthReport; 2],
}

impl Hint {
    /// Creates the hint for these listeners.
    ///
    /// # Errors
    /// If the system does not know an address.
    pub fn new(Listeners { auth, gateway, .. }: &Listeners, services: [HealthReport; 2]) -> io::Result<Self> {
        let (auth, uses_tls) = (auth.local_addr()?, gateway.uses_tls());
        Ok(Self { auth, gateway: gateway.local_addr()?, uses_tls, services })
    }

    /// Prints a command for curl and one for grpcurl once the services are ready.
    pub async fn print_when_ready(&self, shutdown: &CancellationToken) {
        let ready = async {
            for service in &self.services {
                service.serving().await;
            }
        };
        if let Some(()) = shutdown.run_until_cancelled(ready).await {
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
