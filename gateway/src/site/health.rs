//! `/healthz`: the gateway is alive. `/readyz`: the services behind it serve.

use std::{pin::Pin, time::Duration};

use futures::{Stream, future::join_all, stream};
use http::{Response, StatusCode};
use service_kit::status::ApiError;
use taskey_proto::errors::v1::ErrorReason;
use tokio::time::{sleep, timeout};
use tonic::{Code, Request, Status, body::Body};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus, health_client::HealthClient,
    health_server,
};

use crate::{
    backend::{self, Backend},
    http::{error::HttpError, response},
};

/// A backend that takes longer to say that it serves does not.
const LIMIT: Duration = Duration::from_secs(1);

/// How often it is looked how a watched service is.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// The answer of `/healthz`, and that of `/readyz` when all is well.
#[must_use]
pub fn serving() -> Response<Body> {
    response::json(StatusCode::OK, r#"{"status":"SERVING"}"#)
}

/// The answer of `/readyz`.
///
/// # Errors
/// `BACKEND_UNAVAILABLE`, naming the backends that do not serve.
pub async fn ready(backends: &[Backend]) -> Result<Response<Body>, HttpError> {
    let asked = join_all(backends.iter().map(async |backend| (backend.name, serves(backend).await))).await;
    let away: Vec<_> = asked.into_iter().filter(|(_, serves)| !serves).map(|(name, _)| name).collect();
    if away.is_empty() {
        return Ok(serving());
    }
    Err(backend::unavailable(format!("not ready: {}", away.join(", "))).into())
}

async fn serves(backend: &Backend) -> bool {
    asked(backend, "").await.is_ok_and(|status| status == ServingStatus::Serving)
}

/// What a backend says of one of its services.
async fn asked(backend: &Backend, service: &str) -> Result<ServingStatus, Status> {
    let mut client = HealthClient::new(backend.channel.clone());
    let check = client.check(HealthCheckRequest { service: service.to_owned() });
    match timeout(LIMIT, check).await {
        Ok(answer) => Ok(answer?.into_inner().status()),
        Err(_) => Ok(ServingStatus::NotServing),
    }
}

/// The health of the services behind the gateway over gRPC (grpc.health.v1); without a name, that of all of them.
#[derive(Clone, Debug)]
pub struct Health(pub Vec<Backend>);

impl Health {
    async fn status(&self, service: &str) -> Result<ServingStatus, Status> {
        if service.is_empty() {
            let all = join_all(self.0.iter().map(serves)).await;
            return Ok(if all.into_iter().all(|serves| serves) {
                ServingStatus::Serving
            } else {
                ServingStatus::NotServing
            });
        }
        let Some(backend) = self.0.iter().find(|backend| backend.serves(service)) else {
            let message = "this server has no such service";
            return Err(ApiError::new(Code::NotFound, ErrorReason::MethodUnknown, message).into());
        };
        match asked(backend, service).await {
            Err(status) if status.code() != Code::NotFound => Ok(ServingStatus::NotServing),
            answer => answer,
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

    /// Says the status, and again whenever it has changed.
    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<tonic::Response<Self::WatchStream>, Status> {
        let (health, service) = (self.clone(), request.into_inner().service);
        let changes = stream::unfold(None, move |told| {
            let (health, service) = (health.clone(), service.clone());
            async move {
                loop {
                    let status = health.status(&service).await.unwrap_or(ServingStatus::ServiceUnknown);
                    if told != Some(status) {
                        return Some((Ok(HealthCheckResponse { status: status.into() }), Some(status)));
                    }
                    sleep(POLL_INTERVAL).await;
                }
            }
        });
        Ok(tonic::Response::new(Box::pin(changes)))
    }
}
