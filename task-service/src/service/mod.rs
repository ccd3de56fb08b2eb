//! The RPCs: each parses its request, calls the store, and responds.

use std::{sync::Arc, time::Duration};

use prost::Message;
use service_kit::{
    auth::interceptor::{Authenticator, Caller},
    clock::Clock,
    db::{Db, Searches},
    ops::config::OnOff,
    page::PageTokens,
    rate_limit::RateLimit,
    status::ApiError,
};
use tonic::{Request, Response, Status, metadata::MetadataValue};

use crate::{
    error::{rate_limited, row_rate_limited},
    store::{owner_queue::OwnerQueue, transaction::Outcome},
    watch::{Watches, sync_page::ChangeReader},
};

pub(crate) mod lists;
pub(crate) mod tasks;

/// The metadata key that marks a replayed response (AIP-155).
const REPLAYED: &str = "idempotent-replayed";

/// The state that both services share.
pub(crate) struct App {
    pub(crate) db: Db,
    pub(crate) searches: Searches,
    pub(crate) owner_queue: OwnerQueue,
    pub(crate) clock: Clock,
    pub(crate) authenticator: Authenticator,
    pub(crate) page_tokens: PageTokens,
    pub(crate) watches: Arc<Watches>,
    pub(crate) changes: ChangeReader,
    /// The rate limit of calls per user.
    pub(crate) call_rate_limit: RateLimit,
    /// The rate limit of rows written per user.
    pub(crate) row_rate_limit: Arc<RateLimit>,
    /// Whether the rate limits are enforced.
    pub(crate) rate_limits: OnOff,
    /// How long a deleted task can be undeleted.
    pub(crate) purge_after: Duration,
    pub(crate) max_tasks: u32,
    pub(crate) max_lists: u32,
    /// Maximum size of a response. Pages end early rather than exceed it.
    pub(crate) max_response_bytes: usize,
}

impl App {
    /// Returns the caller, and counts the call against the caller's rate limit.
    ///
    /// # Errors
    /// RATE_LIMITED if the limit is exceeded.
    pub(crate) fn caller<T>(&self, request: &Request<T>) -> Result<Caller, ApiError> {
        let caller = Caller::from_request(request)?.clone();
        if self.rate_limits == OnOff::On {
            self.call_rate_limit.check(&caller.user_id()).map_err(rate_limited)?;
        }
        Ok(caller)
    }

    /// Like [`caller`](Self::caller), for a write, which also requires that the caller has not written too many rows.
    ///
    /// # Errors
    /// RATE_LIMITED if a limit is exceeded.
    pub(crate) fn writer<T>(&self, request: &Request<T>) -> Result<Caller, ApiError> {
        let caller = self.caller(request)?;
        if self.rate_limits == OnOff::On {
            self.row_rate_limit.check_charges(&caller.user_id()).map_err(row_rate_limited)?;
        }
        Ok(caller)
    }
}

/// Returns the response to a write, marked if it is replayed.
pub(crate) fn respond<M: Message + Default>(outcome: Outcome<M>) -> Result<Response<M>, Status> {
    match outcome {
        Outcome::Done(message) => Ok(Response::new(message)),
        Outcome::Replayed(bytes) => {
            let mut response = Response::new(M::decode(&bytes[..]).map_err(ApiError::internal)?);
            response.metadata_mut().insert(REPLAYED, MetadataValue::from_static("true"));
            Ok(response)
        }
    }
}
