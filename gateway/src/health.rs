//! `/healthz`: the gateway is alive. `/readyz`: the services behind it serve.

use std::time::Duration;

use futures::future::join_all;
use http::{Response, StatusCode};
use tokio::time::timeout;
use tonic::body::Body;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use crate::{
    backend::{self, Backend},
    failure::Failure,
    response,
};

/// A backend that takes longer to say that it serves does not.
const LIMIT: Duration = Duration::from_secs(1);

/// The answer of `/healthz`, and that of `/readyz` when all is well.
#[must_use]
pub fn serving() -> Response<Body> {
    response::json(StatusCode::OK, r#"{"status":"SERVING"}"#)
}

/// The answer of `/readyz`.
///
/// # Errors
/// `BACKEND_UNAVAILABLE`, naming the backends that do not serve.
pub async fn ready(backends: &[Backend]) -> Result<Response<Body>, Failure> {
    let asked = join_all(backends.iter().map(async |backend| (backend.name, serves(backend).await))).await;
    let away: Vec<_> = asked.into_iter().filter(|(_, serves)| !serves).map(|(name, _)| name).collect();
    if away.is_empty() {
        return Ok(serving());
    }
    Err(backend::unavailable(format!("not ready: {}", away.join(", "))).into())
}

async fn serves(backend: &Backend) -> bool {
    let mut client = HealthClient::new(backend.channel.clone());
    let check = client.check(HealthCheckRequest { service: String::new() });
    match timeout(LIMIT, check).await {
        Ok(Ok(answer)) => answer.into_inner().status() == ServingStatus::Serving,
        Ok(Err(_)) | Err(_) => false,
    }
}
