//! Which accounts have been deleted, for services that keep something of accounts. The feed says how many there are; a
//! service that knows another number asks for those that it has not heard of.

use std::{convert::Infallible, fmt, future::pending, time::Duration};

use anyhow::Context;
use taskey_proto::auth::v1::{
    ListDeletedUsersRequest, ListDeletedUsersResponse, token_service_client::TokenServiceClient,
};
use tokio::sync::watch;
use tonic::transport::Channel;
use uuid::Uuid;

use super::follow::{Follower, in_short};
use crate::{id, page, random};

/// Waits between attempts grow from the first to the last, each with jitter.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LAST_WAIT: Duration = Duration::from_secs(30);

/// Where a service notes which deleted accounts it has heard of. Replicas that share it may each note the same.
#[tonic::async_trait]
pub trait DeletedUsers: fmt::Debug + Send + Sync {
    /// How far it has come: the `place` that it heard last, or 0.
    async fn place(&self) -> anyhow::Result<i64>;

    /// Notes that these accounts are gone, and that it has come to `place`: both or neither. There may be up to 500,
    /// and some that it has heard of before. The place is lower than the last one if auth-service was restored from a
    /// backup, and begins again.
    async fn hear(&self, users: Vec<Uuid>, place: i64) -> anyhow::Result<()>;
}

impl Follower {
    /// Catches up with the deleted accounts now and whenever `told` changes, for as long as it is awaited. A failure is
    /// nobody else's trouble: it is told once, and tried again.
    pub(super) async fn follow_deletions(
        &self,
        mut client: TokenServiceClient<Channel>,
        mut told: watch::Receiver<i64>,
    ) -> Infallible {
        let Some(ledger) = &self.deleted_users else { return pending().await };
        let mut wait = FIRST_WAIT;
        loop {
            let last = *told.borrow_and_update();
            if let Err(error) = self.catch_up(ledger.as_ref(), &mut client, last).await {
                if wait == FIRST_WAIT {
                    tracing::warn!(error = format!("{error:#}"), "cannot learn which accounts have been deleted");
                }
                tokio::time::sleep(random::jitter(wait)).await;
                wait = (wait * 2).min(LAST_WAIT);
                continue;
            }
            wait = FIRST_WAIT;
            if told.changed().await.is_err() {
                // The stream has ended, and this ends with it.
                return pending().await;
            }
        }
    }

    /// Has the ledger hear of all accounts up to the place `last` that it has not heard of, page by page. Where there
    /// is none, or the peer does not say, there is nothing to hear.
    async fn catch_up(
        &self,
        ledger: &dyn DeletedUsers,
        client: &mut TokenServiceClient<Channel>,
        last: i64,
    ) -> anyhow::Result<()> {
        if last == 0 {
            return Ok(());
        }
        let mut place = ledger.place().await.context("its own notes")?;
        while place != last {
            let page_size = i32::try_from(page::MAX_SIZE)?;
            let request = self.signed(ListDeletedUsersRequest { after: place, page_size }).await?;
            let answer = client.list_deleted_users(request).await.map_err(|status| in_short(&status))?;
            let ListDeletedUsersResponse { user_ids, place: reached } = answer.into_inner();
            if user_ids.is_empty() {
                break;
            }
            anyhow::ensure!(reached != place, "the peer repeats itself");
            let users: Option<_> = user_ids.iter().map(|id| id::parse(id)).collect();
            let users = users.context("the list names an account that is not a UUID")?;
            ledger.hear(users, reached).await.context("its own notes")?;
            place = reached;
        }
        Ok(())
    }
}
