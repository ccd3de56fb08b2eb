//! Keeps a [`RevocationView`] and the public keys up to date from the feed of auth-service.

use std::{collections::HashSet, convert::Infallible, mem, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use taskey_proto::auth::v1::{
    AcknowledgeRevocationsRequest, WatchRevocationsRequest, WatchRevocationsResponse,
    token_service_client::TokenServiceClient,
    watch_revocations_response::{Event, SnapshotEnd},
};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use tonic::{
    Streaming,
    transport::{Channel, Endpoint},
};
use uuid::Uuid;

use super::{
    HEARTBEAT_LIMIT, RevocationView,
    deletion::{self, DeletedUsers},
};
use crate::{
    auth::{claims, credential::Credential, key_source::KeySource},
    clock::Timestamp,
    id, random, status,
};

/// How long connecting and the first response may take. Together with one and a half times the longest delay it is less
/// than the 2 s in which the view must recover after the peer is back.
const CONNECT_LIMIT: Duration = Duration::from_millis(1500);

/// Delays between attempts grow from the first to the last, with jitter.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LAST_WAIT: Duration = Duration::from_millis(300);

/// How long one stream is used. The peer ends it when the credential expires that opened it.
const RENEW_AFTER: Duration = Duration::from_secs(claims::MAX_LIFETIME.as_secs() - 60);

/// Maximum size of a message. A snapshot consists of many.
const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;

/// After a stream of this duration, the next attempt is made immediately, and its failure is logged.
const SETTLED: Duration = Duration::from_secs(5);

/// Follows the feed.
#[derive(Clone, Debug)]
pub struct Follower {
    /// The revoked sessions.
    pub view: Arc<RevocationView>,
    /// The public keys, if they are received with the feed.
    pub keys: Arc<KeySource>,
    /// Where deleted accounts are stored, if this service stores data of accounts.
    pub deleted_users: Option<Arc<dyn DeletedUsers>>,
    /// Authenticates this service to the peers.
    pub credential: Credential,
    /// The replicas of auth-service; at least one.
    pub peers: Vec<Endpoint>,
}

impl Follower {
    /// Follows the feed for as long as it is awaited. When a stream ends, the next peer is tried.
    ///
    /// # Panics
    /// If there is no peer.
    pub async fn run(&self) {
        let mut wait = FIRST_WAIT;
        let mut told = false;
        for peer in self.peers.iter().cycle() {
            let begun = Instant::now();
            let fault = match timeout(RENEW_AFTER, self.follow(peer)).await {
                Ok(Ok(())) => anyhow::anyhow!("the peer ended the stream"),
                Ok(Err(fault)) => fault,
                Err(_) => continue,
            };
            if begun.elapsed() > SETTLED {
                (wait, told) = (FIRST_WAIT, false);
            }
            // Logged once; the view logs the recovery.
            if !told {
                tracing::warn!(peer = %peer.uri(), error = format!("{fault:#}"), "the feed of revocations broke");
                told = true;
            }
            tokio::time::sleep(random::jitter(wait)).await;
            wait = (wait * 2).min(LAST_WAIT);
        }
        unreachable!("a verifier has at least one peer to follow");
    }

    /// Follows one peer to the end of its stream, and acknowledges its updates.
    async fn follow(&self, peer: &Endpoint) -> anyhow::Result<()> {
        let connecting = timeout(CONNECT_LIMIT, self.open(peer)).await;
        let (client, mut feed) = connecting.context("no answer in time")??;
        let Some((sessions, end, acknowledgement)) = self.snapshot(&mut feed).await? else { return Ok(()) };
        self.view.replace(sessions, end.issued_before.map(Timestamp::from));
        tracing::debug!(peer = %peer.uri(), "following the feed of revocations");
        let (deletions, deleted) = watch::channel(end.last_deletion_sequence);
        let (effective, mut heard) = watch::channel(acknowledgement);
        heard.mark_changed();
        let listen = async {
            while let Some(message) = self.next(&mut feed).await? {
                let acknowledgement = acknowledge(&message);
                match message.event {
                    Some(Event::Update(update)) => {
                        self.view.add(session_ids(&update.revoked_session_ids)?);
                        let last = update.last_deletion_sequence;
                        deletions.send_if_modified(|sequence| last != mem::replace(sequence, last));
                        effective.send_replace(acknowledgement);
                    }
                    Some(Event::Heartbeat(_)) => self.view.add([]),
                    // They are sent by a peer that cannot read its revocations, too, so they are no heartbeat.
                    Some(Event::Keys(keys)) => self.keys.hear(&keys)?,
                    Some(Event::SnapshotChunk(_) | Event::SnapshotEnd(_)) => bail!("the feed has a second snapshot"),
                    // A newer peer may send events that this version does not know.
                    None => {}
                }
            }
            Ok(())
        };
        // Acknowledgements and deleted accounts must not delay the next message.
        tokio::select! {
            ended = listen => ended,
            failed = self.acknowledge(client.clone(), heard) => failed,
            never = self.follow_deletions(client, deleted) => match never {},
        }
    }

    async fn open(
        &self,
        peer: &Endpoint,
    ) -> anyhow::Result<(TokenServiceClient<Channel>, Streaming<WatchRevocationsResponse>)> {
        let channel: Channel = peer.connect().await?;
        let mut client = TokenServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let request = self.credential.sign(WatchRevocationsRequest {}).await?;
        let feed = client.watch_revocations(request).await.map_err(|status| status::summary(&status))?.into_inner();
        Ok((client, feed))
    }

    /// Keeps the ledger of deleted accounts up to date, if there is one.
    async fn follow_deletions(&self, client: TokenServiceClient<Channel>, deleted: watch::Receiver<i64>) -> Infallible {
        match &self.deleted_users {
            Some(ledger) => deletion::follow(ledger.as_ref(), client, &self.credential, deleted).await,
            None => std::future::pending().await,
        }
    }

    /// Receives the snapshot: its sessions, its end, and how to acknowledge it. The view stays as it is meanwhile.
    async fn snapshot(
        &self,
        feed: &mut Streaming<WatchRevocationsResponse>,
    ) -> anyhow::Result<Option<(HashSet<Uuid>, SnapshotEnd, AcknowledgeRevocationsRequest)>> {
        let mut sessions = HashSet::new();
        while let Some(message) = self.next(feed).await? {
            let acknowledgement = acknowledge(&message);
            match message.event {
                Some(Event::SnapshotChunk(chunk)) => sessions.extend(session_ids(&chunk.revoked_session_ids)?),
                Some(Event::SnapshotEnd(end)) => {
                    end.keys.as_ref().map_or(Ok(()), |keys| self.keys.hear(keys))?;
                    return Ok(Some((sessions, end, acknowledgement)));
                }
                Some(Event::Update(_) | Event::Heartbeat(_)) => bail!("the feed does not begin with a snapshot"),
                Some(Event::Keys(keys)) => self.keys.hear(&keys)?,
                None => {}
            }
        }
        Ok(None)
    }

    /// Returns the next message. A peer that sends nothing for too long is given up, even if its connection is open.
    async fn next(
        &self,
        feed: &mut Streaming<WatchRevocationsResponse>,
    ) -> anyhow::Result<Option<WatchRevocationsResponse>> {
        let message = timeout(HEARTBEAT_LIMIT, feed.message()).await.context("no heartbeat in time")?;
        message.map_err(|status| status::summary(&status))
    }

    /// Acknowledges the latest update that has taken effect. Failures are only logged: the stream shows whether the
    /// peer is alive.
    async fn acknowledge(
        &self,
        mut client: TokenServiceClient<Channel>,
        mut heard: watch::Receiver<AcknowledgeRevocationsRequest>,
    ) -> anyhow::Result<()> {
        while heard.changed().await.is_ok() {
            let effective = heard.borrow_and_update().clone();
            let confirmed = async {
                let request = self.credential.sign(effective).await?;
                client.acknowledge_revocations(request).await.map_err(|status| status::summary(&status))
            };
            if let Err(error) = confirmed.await {
                tracing::debug!(%error, "cannot confirm revocations");
            }
        }
        std::future::pending().await
    }
}

fn acknowledge(message: &WatchRevocationsResponse) -> AcknowledgeRevocationsRequest {
    AcknowledgeRevocationsRequest { watch_id: message.watch_id.clone(), sequence: message.sequence }
}

fn session_ids(ids: &[String]) -> anyhow::Result<Vec<Uuid>> {
    let ids: Option<_> = ids.iter().map(|id| id::parse(id)).collect();
    ids.context("the feed names a session that is not a UUID")
}

/// Keeps `ready` up to date for as long as it is awaited: whether the service `name` accepts tokens and its database
/// answers. Logs how the freshness of the view changes.
pub async fn report(
    name: &str,
    view: Arc<RevocationView>,
    mut is_healthy: watch::Receiver<bool>,
    ready: watch::Sender<bool>,
) {
    let (accepts, mut is_accepting) = watch::channel(false);
    let combine = async {
        loop {
            ready.send_replace(*is_accepting.borrow_and_update() && *is_healthy.borrow_and_update());
            // When nobody can say any more how it is, what was said last stands.
            tokio::select! {
                Ok(()) = is_accepting.changed() => {}
                Ok(()) = is_healthy.changed() => {}
                else => std::future::pending().await,
            }
        }
    };
    tokio::join!(watch_freshness(name, &view, &accepts), combine);
}

async fn watch_freshness(name: &str, view: &RevocationView, accepts: &watch::Sender<bool>) {
    view.watch_freshness(|freshness| {
        match freshness {
            super::Freshness::Fresh => tracing::info!(name, "revocations: fresh"),
            super::Freshness::Cold => tracing::info!(name, "revocations: none known yet; no token is accepted"),
            super::Freshness::Stale => tracing::warn!(name, "revocations: stale; tokens are still accepted"),
            super::Freshness::Lost => tracing::error!(name, "revocations: lost; no token is accepted"),
        }
        accepts.send_replace(freshness.serves());
    })
    .await;
}
