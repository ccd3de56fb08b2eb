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
use uuid::Uuid;

use crate::{
    error::row_rate_limited,
    model::{mutation::Actor, sync::SyncPoint, write::Write},
    reminders::Reminders,
    request::options::WriteOptions,
    store::{
        lists::create_default,
        mutations::{Encode, Mutation},
        owner_queue::OwnerQueue,
        read_groups::TaskReads,
        storage_limits,
        transaction::Outcome,
        write_groups::TaskWrites,
    },
    transfer::limit::TransferLimit,
    watch::{
        Watches,
        sync_page::{ChangeReader, SyncPage},
    },
};

mod import;
pub(crate) mod lists;
pub(crate) mod tasks;
mod upload;
pub(crate) mod webhooks;

/// The metadata key that marks a replayed response (AIP-155).
const REPLAYED: &str = "idempotent-replayed";

/// The state that both services share.
pub(crate) struct App {
    pub(crate) db: Db,
    pub(crate) reads: TaskReads,
    pub(crate) writes: TaskWrites,
    pub(crate) searches: Searches,
    pub(crate) owner_queue: OwnerQueue,
    pub(crate) clock: Clock,
    pub(crate) authenticator: Authenticator,
    pub(crate) page_tokens: PageTokens,
    pub(crate) watches: Arc<Watches>,
    pub(crate) reminders: Arc<Reminders>,
    pub(crate) changes: ChangeReader,
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
    /// The exports that are being sent, and the imports.
    pub(crate) exports: TransferLimit,
    pub(crate) imports: TransferLimit,
}

impl App {
    /// Returns the caller who writes, whose account must not have written too many rows.
    ///
    /// # Errors
    /// RATE_LIMITED if the limit of rows is exceeded.
    pub(crate) fn writer<T>(&self, request: &Request<T>) -> Result<Writer, ApiError> {
        let caller = Caller::from_request(request)?;
        let owner = caller.user_id();
        if let Some(delay) = self.row_delay(owner) {
            return Err(row_rate_limited(delay));
        }
        let id = caller.actor().unwrap_or(owner);
        Ok(Writer { owner, actor: Actor { id: Some(id), session_id: Some(caller.session_id()) } })
    }

    /// Returns how long the account must wait before it writes again, if it has written too many rows.
    pub(crate) fn row_delay(&self, owner: Uuid) -> Option<Duration> {
        let is_limited = self.rate_limits == OnOff::On;
        is_limited.then(|| self.row_rate_limit.check_charges(&owner).err()).flatten()
    }

    /// Returns a mutation of these writes.
    pub(crate) fn mutation(
        &self,
        writer: Writer,
        options: WriteOptions,
        writes: Vec<Write>,
        prefixes: Vec<String>,
        encode: Encode,
    ) -> Mutation {
        let Writer { owner, actor } = writer;
        let now = self.clock.now();
        Mutation {
            owner,
            actor,
            now,
            purge_time: now + self.purge_after,
            max_tasks: self.max_tasks.into(),
            max_deleted: storage_limits::MAX_DELETED_TASKS,
            options,
            new_ids: writes.iter().map(|_| self.clock.new_id()).collect(),
            writes,
            prefixes,
            encode,
        }
    }

    /// Returns up to `size` changes of an owner since a sync point, or since the beginning. An owner who has written
    /// nothing yet gets the default list, so that it is among them.
    ///
    /// # Errors
    /// SYNC_TOKEN_EXPIRED, and those of the database.
    pub(crate) async fn changes_since(
        &self,
        owner: Uuid,
        since: Option<SyncPoint>,
        size: usize,
    ) -> Result<SyncPage, ApiError> {
        let page = self.changes.page(owner, since, size).await?;
        if since.is_some() || page.point.change > 0 {
            return Ok(page);
        }
        create_default(&self.db, &self.owner_queue, owner, self.clock.now()).await?;
        self.changes.page(owner, None, size).await
    }
}

/// A caller who writes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Writer {
    pub(crate) owner: Uuid,
    pub(crate) actor: Actor,
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
