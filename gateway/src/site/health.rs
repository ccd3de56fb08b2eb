//! Health checks: `/healthz` reports that the gateway runs, `/readyz` that the services behind it serve. Both are answered
//! from memory: one task per replica polls it on a connection of its own, however many clients ask.

use std::{collections::BTreeMap, convert::Infallible, pin::Pin, sync::Arc, time::Duration};

use futures::{Stream, future::join_all, stream};
use http::{Response, StatusCode};
use prost_reflect::DescriptorPool;
use service_kit::{
    server::health::{HealthReport, UPDATE_INTERVAL},
    status::ApiError,
};
use taskey_proto::errors::v1::ErrorReason;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Status, body::Body};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus, health_client::HealthClient,
    health_server,
};

use crate::{
    backend::{self, Backend},
    connection::Connection,
    http::{error::HttpError, response},
    replica::Replica,
};

/// Timeout of a health check. A backend that responds later counts as not serving.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// Interval between polls of a backend that serves, and of one that does not.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
const RECOVERY_POLL_INTERVAL: Duration = Duration::from_millis(100);

/// How long a request waits for the first poll after the start.
const FIRST_POLL_TIMEOUT: Duration = Duration::from_secs(3);

/// Returns the response of `/healthz`, and of `/readyz` if all backends serve.
#[must_use]
pub fn serving() -> Response<Body> {
    response::json(StatusCode::OK, r#"{"status":"SERVING"}"#)
}

/// The health of the services behind the gateway, and the gRPC health service (grpc.health.v1) for them. The empty name
/// stands for all of them.
#[derive(Clone, Debug)]
pub struct Health(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// The backends, with the names of their services and the empty name.
    backends: Vec<(Backend, Vec<String>)>,
    /// Once it is cancelled, no service is healthy.
    announced: CancellationToken,
    polled: watch::Sender<Polled>,
}

/// The statuses of the services of each replica that has been polled, by the name of its backend and its number.
type Polled = BTreeMap<(&'static str, usize), BTreeMap<String, ServingStatus>>;

/// Returns the error of `/readyz` after the announcement of a shutdown.
#[must_use]
pub fn shutting_down() -> ApiError {
    let error = ApiError::new(Code::Unavailable, ErrorReason::ShuttingDown, "the server is shutting down");
    error.retry_after(Duration::from_secs(1))
}

impl Health {
    /// Creates the health of backends that have not been polled. They serve the services in `pool`.
    #[must_use]
    pub fn new(pool: &DescriptorPool, backends: &[Backend], announced: CancellationToken) -> Self {
        let with_services = backends.iter().map(|backend| {
            let names = pool.services().map(|service| service.full_name().to_owned());
            (backend.clone(), names.filter(|name| backend.serves(name)).chain([String::new()]).collect())
        });
        Self(Arc::new(Inner { backends: with_services.collect(), announced, polled: watch::Sender::default() }))
    }

    /// Polls each replica on a connection that `connect` creates. Never ends.
    pub async fn poll(&self, connect: impl Fn(&Replica) -> Connection) {
        let replicas = self.0.backends.iter().flat_map(|(backend, services)| {
            let connect = &connect;
            backend.replicas.iter().enumerate().map(move |(number, replica)| {
                self.poll_replica((backend.name, number), replica, services, connect(replica))
            })
        });
        join_all(replicas).await;
    }

    async fn poll_replica(
        &self,
        key: (&'static str, usize),
        replica: &Replica,
        services: &[String],
        connection: Connection,
    ) {
        loop {
            let statuses = check(services, &connection).await;
            let serves = statuses.get("") == Some(&ServingStatus::Serving);
            replica.set_serving(serves);
            self.0.polled.send_if_modified(|polled| polled.insert(key, statuses.clone()).as_ref() != Some(&statuses));
            sleep(if serves { POLL_INTERVAL } else { RECOVERY_POLL_INTERVAL }).await;
        }
    }

    /// Keeps `report` up to date. Never ends.
    pub async fn report(&self, report: &HealthReport) -> Infallible {
        let mut polled = self.0.polled.subscribe();
        loop {
            let services = self.0.backends.iter().flat_map(|(_, services)| services);
            let statuses = {
                let polled = polled.borrow_and_update();
                services.filter_map(|name| Some((name.clone(), self.status(name, &polled)?))).collect()
            };
            report.set(statuses);
            tokio::select! {
                () = self.0.announced.cancelled(), if !self.0.announced.is_cancelled() => {}
                // The sender exists as long as `self`.
                _ = polled.changed() => {}
                () = sleep(UPDATE_INTERVAL) => {}
            }
        }
    }

    /// Returns the response of `/readyz`.
    ///
    /// # Errors
    /// `BACKEND_UNAVAILABLE`, naming the backends that do not serve.
    pub async fn ready(&self) -> Result<Response<Body>, HttpError> {
        let polled = self.polled().await;
        let names = self.0.backends.iter().map(|(backend, _)| backend.name);
        let not_ready: Vec<_> = names.filter(|name| !serves(&polled, name)).collect();
        if not_ready.is_empty() {
            return Ok(serving());
        }
        Err(backend::unavailable(format!("not ready: {}", not_ready.join(", "))).into())
    }

    /// Returns what was polled. Waits for the first poll of each replica after the start.
    async fn polled(&self) -> Polled {
        let mut polled = self.0.polled.subscribe();
        let count: usize = self.0.backends.iter().map(|(backend, _)| backend.replicas.len()).sum();
        let all_polled = polled.wait_for(|polled| polled.len() == count);
        _ = timeout(FIRST_POLL_TIMEOUT, all_polled).await;
        polled.borrow().clone()
    }

    /// Returns the status of a service, or `None` if it is unknown.
    fn status(&self, service: &str, polled: &Polled) -> Option<ServingStatus> {
        if self.0.announced.is_cancelled() {
            return Some(ServingStatus::NotServing);
        }
        if service.is_empty() {
            let all_serve = self.0.backends.iter().all(|(backend, _)| serves(polled, backend.name));
            return Some(if all_serve { ServingStatus::Serving } else { ServingStatus::NotServing });
        }
        let mut statuses = polled.values().filter_map(|statuses| statuses.get(service)).copied();
        let first = statuses.next()?;
        // One replica is enough.
        Some(statuses.find(|status| *status == ServingStatus::Serving).unwrap_or(first))
    }
}

/// Reports whether a replica of a backend serves.
fn serves(polled: &Polled, backend: &str) -> bool {
    let mut replicas = polled.iter().filter(|((name, _), _)| *name == backend);
    replicas.any(|(_, statuses)| statuses.get("") == Some(&ServingStatus::Serving))
}

/// Returns the statuses of services of a replica, without those that it does not know.
async fn check(services: &[String], connection: &Connection) -> BTreeMap<String, ServingStatus> {
    let checks = services.iter().map(|service| async move {
        let mut client = HealthClient::new(connection.clone());
        let response = client.check(HealthCheckRequest { service: service.clone() });
        let status = match timeout(CHECK_TIMEOUT, response).await {
            Ok(Ok(response)) => response.into_inner().status(),
            Ok(Err(status)) if status.code() == Code::NotFound => return None,
            Ok(Err(_)) | Err(_) => ServingStatus::NotServing,
        };
        Some((service.clone(), status))
    });
    join_all(checks).await.into_iter().flatten().collect()
}

#[tonic::async_trait]
impl health_server::Health for Health {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<HealthCheckResponse>, Status> {
        let Some(status) = self.status(&request.into_inner().service, &self.polled().await) else {
            let message = "this server has no such service";
            return Err(ApiError::new(Code::NotFound, ErrorReason::MethodUnknown, message).into());
        };
        Ok(tonic::Response::new(HealthCheckResponse { status: status.into() }))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    /// Sends the status, and again after each change.
    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<tonic::Response<Self::WatchStream>, Status> {
        let (health, service) = (self.clone(), request.into_inner().service);
        self.polled().await;
        let start = (self.0.polled.subscribe(), None);
        let changes = stream::unfold(start, move |(mut polled, last_sent)| {
            let (health, service) = (health.clone(), service.clone());
            async move {
                loop {
                    let status = health.status(&service, &polled.borrow_and_update());
                    let status = status.unwrap_or(ServingStatus::ServiceUnknown);
                    if last_sent != Some(status) {
                        let response = HealthCheckResponse { status: status.into() };
                        return Some((Ok(response), (polled, Some(status))));
                    }
                    tokio::select! {
                        () = health.0.announced.cancelled(), if !health.0.announced.is_cancelled() => {}
                        changed = polled.changed() => changed.ok()?,
                    }
                }
            }
        });
        Ok(tonic::Response::new(Box::pin(changes)))
    }
}
