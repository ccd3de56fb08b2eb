//! Receives the accounts that were deleted, disabled or enabled, for services that store data of accounts or act for them
//! without a call. The feed reports the sequence number of the last change. A service whose own number differs lists the
//! changes after it.

use std::{convert::Infallible, fmt, future::pending, time::Duration};

use anyhow::Context;
use taskey_proto::auth::v1::{
    self as pb, ListUserChangesRequest, ListUserChangesResponse, token_service_client::TokenServiceClient,
    token_service_server, user_change::State,
};
use tokio::sync::watch;
use uuid::Uuid;

use super::peer::PeerChannel;
use crate::{auth::credential::Credential, id, page, random, status, trace::CallSpan};

/// The delay between attempts doubles from the minimum to the maximum, with jitter.
const MIN_BACKOFF: Duration = Duration::from_millis(100);
const MAX_BACKOFF: Duration = Duration::from_secs(30);

/// The state of an account after its last change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserState {
    /// The account was deleted. The service deletes its data.
    Deleted,
    /// The account is disabled. The service does nothing for it, but keeps its data.
    Disabled,
    /// The account was enabled again.
    Enabled,
}

/// The last change of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserChange {
    /// The account.
    pub user_id: Uuid,
    /// Its state since the change.
    pub state: UserState,
}

/// Consecutive changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserChangePage {
    /// At most 500 changes, in their order.
    pub changes: Vec<UserChange>,
    /// The stored sequence number after which the page was requested.
    pub after: i64,
    /// The sequence number of the last change.
    pub sequence: i64,
}

impl UserChangePage {
    /// Reports whether auth-service was restored from a backup, and the page is the first one of the restored list. The
    /// changes that were received before may be lost.
    #[must_use]
    pub fn is_restored(&self) -> bool {
        self.sequence < self.after
    }
}

/// Stores the changes that a service has received. Replicas share it.
#[tonic::async_trait]
pub trait UserChangeStore: fmt::Debug + Send + Sync {
    /// Returns the `sequence` that was stored last, or 0.
    async fn sequence(&self) -> anyhow::Result<i64>;

    /// Stores a page and its `sequence` in one transaction. Does nothing if the stored number is no longer
    /// [`UserChangePage::after`], because another replica has stored the page meanwhile, and maybe later ones. If the page
    /// [is restored](UserChangePage::is_restored), the same transaction forgets which accounts are disabled.
    async fn receive(&self, page: UserChangePage) -> anyhow::Result<()>;
}

/// Receives the changes now and whenever `last` changes, for as long as it is awaited. The store then contains all changes
/// up to `last`. Failures are retried, also if the peer is an older version without the list; of several in a row, only
/// the first is logged.
pub(super) async fn follow(
    store: &dyn UserChangeStore,
    mut client: TokenServiceClient<PeerChannel>,
    credential: &Credential,
    mut last: watch::Receiver<i64>,
) -> Infallible {
    let mut backoff = MIN_BACKOFF;
    loop {
        let sequence = *last.borrow_and_update();
        if let Err(error) = catch_up(store, &mut client, credential, sequence).await {
            if backoff == MIN_BACKOFF {
                tracing::warn!(error = format!("{error:#}"), "cannot receive the changes of accounts");
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

/// Passes all changes up to the sequence number `last` to the store, page by page.
async fn catch_up(
    store: &dyn UserChangeStore,
    client: &mut TokenServiceClient<PeerChannel>,
    credential: &Credential,
    last: i64,
) -> anyhow::Result<()> {
    loop {
        // Another replica may have stored a page meanwhile.
        let after = store.sequence().await.context("cannot read the sequence number of the changes of accounts")?;
        if after == last {
            return Ok(());
        }
        let page = next_page(client, credential, after).await?;
        if page.sequence == after {
            return Ok(());
        }
        store.receive(page).await.context("cannot store the changes of accounts")?;
    }
}

/// Returns the changes after a sequence number. Without any, the page has the same number.
async fn next_page(
    client: &mut TokenServiceClient<PeerChannel>,
    credential: &Credential,
    after: i64,
) -> anyhow::Result<UserChangePage> {
    let page_size = i32::try_from(page::MAX_SIZE)?;
    let mut request = credential.sign(ListUserChangesRequest { after, page_size }).await?;
    let span = CallSpan::background(token_service_server::SERVICE_NAME, "ListUserChanges", &mut request);
    let response = span.observe(client.list_user_changes(request).await);
    let ListUserChangesResponse { changes, sequence } =
        response.map_err(|status| status::summary(&status))?.into_inner();
    anyhow::ensure!(changes.is_empty() || sequence != after, "the peer returned the same sequence number again");
    let changes = changes.iter().filter_map(|change| parse(change).transpose()).collect::<anyhow::Result<_>>()?;
    Ok(UserChangePage { changes, after, sequence })
}

/// Parses a change. Returns `None` if its state is one of a newer version.
fn parse(change: &pb::UserChange) -> anyhow::Result<Option<UserChange>> {
    let user_id = id::parse(&change.user_id).context("the list contains an account id that is not a UUID")?;
    let state = match change.state() {
        State::Unspecified => return Ok(None),
        State::Deleted => UserState::Deleted,
        State::Disabled => UserState::Disabled,
        State::Enabled => UserState::Enabled,
    };
    Ok(Some(UserChange { user_id, state }))
}
