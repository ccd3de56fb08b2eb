//! Receives deleted accounts, for services that store data of accounts. The feed reports the sequence number of the
//! last deletion. A service whose own number differs lists the deletions after it.

use std::{convert::Infallible, fmt, future::pending, time::Duration};

use anyhow::Context;
use taskey_proto::auth::v1::{
    ListDeletedUsersRequest, ListDeletedUsersResponse, token_service_client::TokenServiceClient, token_service_server,
};
use tokio::sync::watch;
use uuid::Uuid;

use super::peer::PeerChannel;
use crate::{auth::credential::Credential, id, page, random, status, trace::CallSpan};

/// The delay between attempts doubles from the minimum to the maximum, with jitter.
const MIN_BACKOFF: Duration = Duration::from_millis(100);
const MAX_BACKOFF: Duration = Duration::from_secs(30);

/// Stores which deleted accounts a service has received. Replicas share it, so each account may be received several
/// times.
#[tonic::async_trait]
pub trait DeletedUsers: fmt::Debug + Send + Sync {
    /// Returns the `sequence` that was stored last, or 0.
    async fn sequence(&self) -> anyhow::Result<i64>;

    /// Stores deleted accounts together with their `sequence`, in one transaction. There are at most 500, some of which
    /// may have been received before. The sequence number is lower than the last one if auth-service was restored from
    /// a backup.
    async fn receive(&self, users: Vec<Uuid>, sequence: i64) -> anyhow::Result<()>;
}

/// Receives the deleted accounts now and whenever `last` changes, for as long as it is awaited. The ledger then
/// contains all deletions up to `last`. Failures are retried; of several in a row, only the first is logged.
pub(super) async fn follow(
    ledger: &dyn DeletedUsers,
    mut client: TokenServiceClient<PeerChannel>,
    credential: &Credential,
    mut last: watch::Receiver<i64>,
) -> Infallible {
    let mut backoff = MIN_BACKOFF;
    loop {
        let sequence = *last.borrow_and_update();
        if let Err(error) = catch_up(ledger, &mut client, credential, sequence).await {
            if backoff == MIN_BACKOFF {
                tracing::warn!(error = format!("{error:#}"), "cannot receive the deleted accounts");
            }
            tokio::time::sleep(random::jitter(backoff)).await;
            backoff = (backoff * 2).min(MAX_BACKOFF);
            continue;
        }
        backoff = MIN_BACKOFF;
        if last.changed().await.is_err() {
            // The stream has ended, and the caller drops this future.
            return pending().await;
        }
    }
}

/// Passes all accounts up to the sequence number `last` to the ledger, page by page.
async fn catch_up(
    ledger: &dyn DeletedUsers,
    client: &mut TokenServiceClient<PeerChannel>,
    credential: &Credential,
    last: i64,
) -> anyhow::Result<()> {
    if last == 0 {
        return Ok(());
    }
    let mut sequence = ledger.sequence().await.context("cannot read the ledger of deleted accounts")?;
    while sequence != last {
        let page_size = i32::try_from(page::MAX_SIZE)?;
        let mut request = credential.sign(ListDeletedUsersRequest { after: sequence, page_size }).await?;
        let span = CallSpan::background(token_service_server::SERVICE_NAME, "ListDeletedUsers", &mut request);
        let response = span.observe(client.list_deleted_users(request).await);
        let response = response.map_err(|status| status::summary(&status))?;
        let ListDeletedUsersResponse { user_ids, sequence: page_sequence } = response.into_inner();
        if user_ids.is_empty() {
            break;
        }
        anyhow::ensure!(page_sequence != sequence, "the peer returned the same sequence number again");
        let users: Option<_> = user_ids.iter().map(|id| id::parse(id)).collect();
        let users = users.context("the list contains an account id that is not a UUID")?;
        ledger.receive(users, page_sequence).await.context("cannot update the ledger of deleted accounts")?;
        sequence = page_sequence;
    }
    Ok(())
}
