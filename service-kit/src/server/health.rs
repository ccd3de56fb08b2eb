//! The gRPC health service (grpc.health.v1). The service of tonic-health ends the watch of an unknown service with
//! NOT_FOUND, although `health.proto` requires SERVICE_UNKNOWN and an open stream, and it does not limit the watches.

use std::{collections::BTreeMap, convert::Infallible, net::Ipv4Addr, pin::Pin, sync::Arc, time::Duration};

use futures::{Stream, future::select_all, stream};
use taskey_proto::errors::v1::ErrorReason;
use tokio::sync::watch;
use tonic::{Code, Request, Response, Status};
pub use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse,
    health_server::{Health, HealthServer},
};

use crate::{
    budget::{Budget, Share},
    network::{Client, rate_limit_key},
    status::ApiError,
};

/// Maximum number of open watches in total, and per address: as many as connections by default. Watches need no access
/// token, and clients open one per connection.
const MAX_WATCHES: usize = 1024;
const MAX_WATCHES_PER_ADDRESS: usize = 64;

/// How long a client whose watch was refused should wait.
const RETRY_DELAY: Duration = Duration::from_secs(5);

/// Maximum size of a request, which contains only the name of a service.
const MAX_REQUEST_BYTES: usize = 4 * 1024;

/// The health of each service by its full name. The empty name represents the server.
pub type Statuses = BTreeMap<String, ServingStatus>;

/// The health of a server, which the server sets and others read. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct HealthReport {
    statuses: Arc<watch::Sender<Statuses>>,
    /// How often the health was set.
    updates: Arc<watch::Sender<u64>>,
}

/// A server sets its health this often, even if it has not changed.
pub const UPDATE_INTERVAL: Duration = Duration::from_secs(1);

impl HealthReport {
    /// Sets the health of the services of the server.
    pub fn set(&self, statuses: Statuses) {
        self.statuses.send_if_modified(|last| {
            let has_changed = *last != statuses;
            *last = statuses;
            has_changed
        });
        self.updates.send_modify(|updates| *updates += 1);
    }

    /// Waits until the server sets its health again, which shows that it makes progress.
    pub async fn updated(&self) {
        // The sender exists as long as `self`.
        _ = self.updates.subscribe().changed().await;
    }

    /// Reports whether the server serves. Before the health is set, it does not.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.statuses.borrow().get("") == Some(&ServingStatus::Serving)
    }

    /// Waits until the server serves.
    pub async fn serving(&self) {
        let is_serving = |statuses: &Statuses| statuses.get("") == Some(&ServingStatus::Serving);
        // The sender exists as long as `self`.
        _ = self.subscribe().wait_for(is_serving).await;
    }

    /// Returns a receiver of the health of the services.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Statuses> {
        self.statuses.subscribe()
    }
}

/// Keeps `merged` up to date: it has the services of all servers. The empty name serves if all servers serve.
pub async fn merge(servers: &[(&'static str, HealthReport)], merged: &HealthReport) -> Infallible {
    let mut changes: Vec<_> = servers.iter().map(|(_, server)| server.subscribe()).collect();
    loop {
        let statuses: Vec<_> = changes.iter_mut().map(|server| server.borrow_and_update().clone()).collect();
        let all_serve = statuses.iter().all(|server| server.get("") == Some(&ServingStatus::Serving));
        let mut all: Statuses = statuses.into_iter().flatten().collect();
        all.insert(String::new(), if all_serve { ServingStatus::Serving } else { ServingStatus::NotServing });
        merged.set(all);
        // The senders exist as long as `servers`.
        select_all(changes.iter_mut().map(|server| Box::pin(server.changed()))).await.0.ok();
    }
}

/// Creates the service. It returns the current value of `statuses`, and watches send its changes. A service may be
/// added later.
#[must_use]
pub fn health_server(statuses: watch::Receiver<Statuses>) -> HealthServer<impl Health> {
    let watches = Budget::new(MAX_WATCHES, MAX_WATCHES_PER_ADDRESS);
    HealthServer::new(HealthService { statuses, watches }).max_decoding_message_size(MAX_REQUEST_BYTES)
}

struct HealthService {
    statuses: watch::Receiver<Statuses>,
    watches: Arc<Budget>,
}

impl HealthService {
    fn acquire(&self, client: Option<&Client>) -> Result<Share, ApiError> {
        // Calls within the process have no address.
        let address = client.map_or(Ipv4Addr::LOCALHOST.into(), |client| client.address);
        let mut watch = self.watches.share(rate_limit_key(address));
        watch.grow(1).map(|()| watch).map_err(|_| {
            let message = "too many health watches are open";
            ApiError::limit_exceeded("health_watches", ErrorReason::Overloaded, message).retry_after(RETRY_DELAY)
        })
    }
}

#[tonic::async_trait]
impl Health for HealthService {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        let status = self.statuses.borrow().get(&request.get_ref().service).copied();
        let Some(status) = status else {
            let message = "this server has no such service";
            return Err(ApiError::new(Code::NotFound, ErrorReason::MethodUnknown, message).into());
        };
        Ok(Response::new(HealthCheckResponse { status: status.into() }))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    /// Sends the status, and again after each change. An unknown service has the status SERVICE_UNKNOWN.
    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let watch = Watch {
            _share: self.acquire(request.extensions().get())?,
            service: request.into_inner().service,
            statuses: self.statuses.clone(),
            last_sent: None,
        };
        let changes = stream::unfold(watch, |mut watch| async {
            let status = watch.next().await?;
            Some((Ok(HealthCheckResponse { status: status.into() }), watch))
        });
        Ok(Response::new(Box::pin(changes)))
    }
}

struct Watch {
    _share: Share,
    service: String,
    statuses: watch::Receiver<Statuses>,
    last_sent: Option<ServingStatus>,
}

impl Watch {
    /// Waits for a status that differs from the one sent last. Returns `None` if the statuses can no longer change.
    async fn next(&mut self) -> Option<ServingStatus> {
        loop {
            let status = self.statuses.borrow_and_update().get(&self.service).copied();
            let status = status.unwrap_or(ServingStatus::ServiceUnknown);
            if self.last_sent.replace(status) != Some(status) {
                return Some(status);
            }
            self.statuses.changed().await.ok()?;
        }
    }
}
