//! Health checks: `/healthz` reports that the gateway runs, `/readyz` that the services behind it serve.

use std::{pin::Pin, time::Duration};

use futures::{Stream, future::join_all, stream};
use http::{Response, StatusCode};
use service_kit::status::ApiError;
use taskey_proto::errors::v1::ErrorReason;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Status, body::Body};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus, health_client::HealthClient,
    health_server,
};

use crate::{
    backend::{self, Backend},
    http::{error::HttpError, response},
};

/// Timeout of a health check. A backend that responds later counts as not serving.
const CHECK_TIMEOUT: Duration = Duration::from_secs(1);

/// Interval between health checks of a watched service.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Returns the response of `/healthz`, and of `/readyz` if all backends serve.
#[must_use]
pub fn serving() -> Response<Body> {
    response::json(StatusCode::OK, r#"{"status":"SERVING"}"#)
}

/// Returns the response of `/readyz`.
///
/// # Errors
/// `BACKEND_UNAVAILABLE`, naming the backends that do not serve.
pub async fn ready(backends: &[Backend]) -> Result<Response<Body>, HttpError> {
    let checks = join_all(backends.iter().map(async |backend| (backend.name, serves(backend).await))).await;
    let not_ready: Vec<_> = checks.into_iter().filter(|(_, serves)| !serves).map(|(name, _)| name).collect();
    if not_ready.is_empty() {
        return Ok(serving());
    }
    Err(backend::unavailable(format!("not ready: {}", not_ready.join(", "))).into())
}

/// Returns the error of `/readyz` after the announcement of a shutdown.
#[must_use]
pub fn shutting_down() -> ApiError {
    let error = ApiError::new(Code::Unavailable, ErrorReason::ShuttingDown, "the server is shutting down");
    error.retry_after(Duration::from_secs(1))
}

async fn serves(backend: &Backend) -> bool {
    check(backend, "").await.is_ok_and(|status| status == ServingStatus::Serving)
}

/// Returns the health of a service of a backend.
async fn check(backend: &Backend, service: &str) -> Result<ServingStatus, Status> {
    let mut client = HealthClient::new(backend.channel.clone());
    let response = client.check(HealthCheckRequest { service: service.to_owned() });
    match timeout(CHECK_TIMEOUT, response).await {
        Ok(response) => Ok(response?.into_inner().status()),
        Err(_) => Ok(ServingStatus::NotServing),
    }
}

/// The gRPC health service (grpc.health.v1) for the services behind the gateway. The empty name stands for all of
/// them.
#[derive(Clone, Debug)]
pub struct Health {
    /// The services.
    pub backends: Vec<Backend>,
    /// Once it is cancelled, no service is healthy.
    pub announced: CancellationToken,
}

impl Health {
    async fn status(&self, service: &str) -> Result<ServingStatus, Status> {
        if self.announced.is_cancelled() {
            return Ok(ServingStatus::NotServing);
        }
        if service.is_empty() {
            let results = join_all(self.backends.iter().map(serves)).await;
            return Ok(if results.into_iter().all(|serves| serves) {
                ServingStatus::Serving
            } else {
                ServingStatus::NotServing
            });
        }
        let Some(backend) = self.backends.iter().find(|backend| backend.serves(service)) else {
            let message = "this server has no such service";
            return Err(ApiError::new(Code::NotFound, ErrorReason::MethodUnknown, message).into());
        };
        match check(backend, service).await {
            Err(status) if status.code() != Code::NotFound => Ok(ServingStatus::NotServing),
            result => result,
        }
    }
}

#[tonic::async_trait]
impl health_server::Health for Health {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<HealthCheckResponse>, Status> {
        let status = self.status(&request.into_inner().service).await?;
        Ok(tonic::Response::new(HealthCheckResponse { status: status.into() }))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    /// Sends the status, and again after each change.
    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<tonic::Response<Self::WatchStream>, Status> {
        let (health, service) = (self.clone(), request.into_inner().service);
        let changes = stream::unfold(None, move |last_sent| {
            let (health, service) = (health.clone(), service.clone());
            async move {
                loop {
                    let status = health.status(&service).await.unwrap_or(ServingStatus::ServiceUnknown);
                    if last_sent != Some(status) {
                        return Some((Ok(HealthCheckResponse { status: status.into() }), Some(status)));
                    }
                    sleep(POLL_INTERVAL).await;
                }
            }
        });
        Ok(tonic::Response::new(Box::pin(changes)))
    }
}
