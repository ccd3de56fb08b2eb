//! What a call uses of the budgets of its server.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use taskey_proto::errors::v1::ErrorReason;
use tonic::Status;

use crate::{
    budget::{Budget, Share},
    ops::config::LimitArgs,
    status::ApiError,
};

/// The retry delay of a call that exceeds a budget.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The budgets of a server.
#[derive(Debug)]
pub(super) struct Budgets {
    /// Calls whose requests are complete, until their responses start.
    active_calls: Arc<Budget>,
    /// Calls that wait for the rest of their requests. They have a budget of their own, so that they leave room for
    /// complete ones.
    incomplete_calls: Arc<Budget>,
    request_bytes: Arc<Budget>,
    response_bytes: Arc<Budget>,
    /// No call stores more of its request at a time.
    max_request_bytes: usize,
    max_response_bytes: usize,
}

impl Budgets {
    /// Creates the budgets of a server. One client may use the `clients`th part of each.
    pub(super) fn new(limits: &LimitArgs, clients: usize) -> Self {
        // One call needs at least `min`.
        let budget = |max_total: usize, min: usize| Budget::new(max_total.max(min), (max_total / clients).max(min));
        Self {
            active_calls: budget(limits.max_calls, 1),
            // The rest of an honest request arrives soon.
            incomplete_calls: budget(limits.max_calls / 2, 1),
            request_bytes: budget(limits.max_total_request_bytes, limits.max_request_bytes),
            // In JSON, a response can be several times as large.
            response_bytes: budget(limits.max_total_response_bytes, 4 * limits.max_response_bytes),
            max_request_bytes: limits.max_request_bytes,
            max_response_bytes: limits.max_response_bytes,
        }
    }

    /// Admits a call.
    ///
    /// # Errors
    /// OVERLOADED if the client, or all clients, have too many calls in progress or too many unread responses.
    pub(super) fn admit(&self, client: IpAddr, is_complete: bool) -> Result<Call, Status> {
        let mut call = Usage {
            active: self.active_calls.share(client),
            incomplete: self.incomplete_calls.share(client),
            bytes: self.request_bytes.share(client),
            max_bytes: self.max_request_bytes,
            has_started_response: false,
        };
        if is_complete {
            call.active.grow(1).map_err(|_| too_many_calls())?;
        }
        // A response cannot be refused once the call may have taken effect, so the call is refused.
        let room = self.response_bytes(client).grow(self.max_response_bytes);
        room.map_err(|_| overloaded("response_bytes", "too many responses have not been read"))?;
        Ok(Call(Arc::new(Mutex::new(call))))
    }

    /// Returns a share for the bytes of a response.
    pub(super) fn response_bytes(&self, client: IpAddr) -> Share {
        self.response_bytes.share(client)
    }
}

/// An admitted call. Shared by the body of its request, and by the future of its response.
#[derive(Clone, Debug)]
pub(super) struct Call(Arc<Mutex<Usage>>);

#[derive(Debug)]
struct Usage {
    active: Share,
    incomplete: Share,
    /// The bytes of the request, until both the body is dropped and the response starts.
    bytes: Share,
    max_bytes: usize,
    has_started_response: bool,
}

impl Call {
    /// Counts the call as incomplete.
    ///
    /// # Errors
    /// OVERLOADED if too many calls are incomplete.
    pub(super) fn await_request(&self) -> Result<(), Status> {
        let mut usage = self.usage();
        if usage.incomplete.amount() > 0 {
            return Ok(());
        }
        usage.incomplete.grow(1).map_err(|_| overloaded("incomplete_requests", "too many requests are incomplete"))
    }

    /// Counts received bytes.
    ///
    /// # Errors
    /// OVERLOADED if too many bytes are in memory.
    pub(super) fn receive(&self, bytes: usize) -> Result<(), Status> {
        let mut usage = self.usage();
        // The rest of a stream of requests has been processed already.
        let bytes = bytes.min(usage.max_bytes.saturating_sub(usage.bytes.amount()));
        usage.bytes.grow(bytes).map_err(|_| overloaded("request_bytes", "too many requests are in memory"))
    }

    /// Counts the call as complete.
    ///
    /// # Errors
    /// OVERLOADED if too many complete calls are in progress.
    pub(super) fn complete_request(&self) -> Result<(), Status> {
        let mut usage = self.usage();
        usage.incomplete.clear();
        if usage.has_started_response || usage.active.amount() > 0 {
            return Ok(());
        }
        usage.active.grow(1).map_err(|_| too_many_calls())
    }

    /// Counts the request as abandoned or read to its end.
    pub(super) fn end_request(&self) {
        self.usage().incomplete.clear();
    }

    /// Counts the call as processed. The rest of its request may be a stream.
    pub(super) fn start_response(&self) {
        let mut usage = self.usage();
        usage.active.clear();
        usage.has_started_response = true;
    }

    pub(super) fn has_started_response(&self) -> bool {
        self.usage().has_started_response
    }

    // Never held across an await.
    fn usage(&self) -> MutexGuard<'_, Usage> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn too_many_calls() -> Status {
    overloaded("calls_in_progress", "too many calls are in progress")
}

fn overloaded(limit: &'static str, message: &'static str) -> Status {
    ApiError::limit_exceeded(limit, ErrorReason::Overloaded, message).retry_after(RETRY_AFTER).into()
}
