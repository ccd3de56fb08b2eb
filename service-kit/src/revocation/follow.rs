//! Keeps a [`RevocationView`], and the public keys, up to date from the feed of auth-service.

use std::{collections::HashSet, mem, sync::Arc, time::Duration};

use anyhow::Context;
use taskey_proto::auth::v1::{
    AcknowledgeRevocationsRequest, WatchRevocationsRequest, WatchRevocationsResponse,
    token_service_client::TokenServiceClient,
};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use tonic::{
    Request, Status, Streaming,
    transport::{Channel, Endpoint},
};
use uuid::Uuid;

use super::{HEARTBEAT_LIMIT, RevocationView, deletion::DeletedUsers};
use crate::{clock::Timestamp, credential::Credential, id, key_source::KeySource, random, token};

/// How long the connection and the first answer may take. Together with one and a half times the last wait it is less
/// than the 2 s within which the view shall have recovered from the peer's return.
const CONNECT_LIMIT: Duration = Duration::from_millis(1500);

/// Waits between attempts grow from the first to the last, each with jitter.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LAST_WAIT: Duration = Duration::from_millis(300);

/// For so long one stream is followed. The peer ends it when the credential expires that opened it.
const RENEW_AFTER: Duration = Duration::from_secs(token::MAX_LIFE.as_secs() - 60);

/// A snapshot comes in many messages, each of which may be as large as the sender likes.
const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;

/// A feed that was followed for so long was a good one: the next attempt is made at once, and a new failure is told.
const SETTLED: Duration = Duration::from_secs(5);

/// What follows the feed, and for whom.
#[derive(Clone, Debug)]
pub struct Follower {
    /// The revoked sessions.
    pub view: Arc<RevocationView>,
    /// The keys of access tokens, where they come with the feed.
    pub keys: Arc<KeySource>,
    /// Where it is noted which accounts have been deleted, if this service keeps something of accounts.
    pub deleted_users: Option<Arc<dyn DeletedUsers>>,
    /// By what the peers know this service.
    pub credential: Credential,
    /// The replicas of auth-service; at least one.
    pub peers: Vec<Endpoint>,
}

impl Follower {
    /// Follows the feed for as long as it is awaited, and starts over with the next peer whenever it breaks.
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
            // One line when the trouble begins; the view tells when it is over.
            if !told {
                tracing::warn!(peer = %peer.uri(), error = format!("{fault:#}"), "the feed of revocations broke");
                told = true;
            }
            tokio::time::sleep(random::jitter(wait)).await;
            wait = (wait * 2).min(LAST_WAIT);
        }
        unreachable!("a verifier has at least one peer to follow");
    }

    /// Follows one peer to the end of its stream, and confirms what it has heard.
    async fn follow(&self, peer: &Endpoint) -> anyhow::Result<()> {
        let connecting = timeout(CONNECT_LIMIT, self.open(peer)).await;
        let (client, mut feed) = connecting.context("no answer in time")??;
        let Some((sessions, last)) = self.snapshot(&mut feed).await? else { return Ok(()) };
        self.view.replace(sessions, last.issued_before.map(Timestamp::from));
        tracing::debug!(peer = %peer.uri(), "following the feed of revocations");
        let (deletions, deleted) = watch::channel(last.deletion_place);
        let (effective, mut heard) = watch::channel(confirmation(last));
        heard.mark_changed();
        let listen = async {
            while let Some(message) = self.next(&mut feed).await? {
                let only_keys = message.public_keys.is_some() && message.revoked_session_ids.is_empty();
                // Keys come from a peer that cannot read its revocations, too.
                if !only_keys {
                    self.view.add(session_ids(&message)?);
                    deletions.send_if_modified(|place| {
                        message.deletion_place != mem::replace(place, message.deletion_place)
                    });
                }
                if !message.revoked_session_ids.is_empty() {
                    effective.send_replace(confirmation(message));
                }
            }
            Ok(())
        };
        // Neither to confirm nor to hear of deleted accounts must delay what comes next.
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
        let request = self.signed(WatchRevocationsRequest {}).await?;
        let feed = client.watch_revocations(request).await.map_err(|status| in_short(&status))?.into_inner();
        Ok((client, feed))
    }

    /// A request with the credential.
    pub(super) async fn signed<T>(&self, message: T) -> anyhow::Result<Request<T>> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", self.credential.header().await?);
        Ok(request)
    }

    /// Gathers the snapshot, and the message that completes it, while the view goes on with what it knows.
    async fn snapshot(
        &self,
        feed: &mut Streaming<WatchRevocationsResponse>,
    ) -> anyhow::Result<Option<(HashSet<Uuid>, WatchRevocationsResponse)>> {
        let mut sessions = HashSet::new();
        while let Some(message) = self.next(feed).await? {
            sessions.extend(session_ids(&message)?);
            if message.snapshot_complete {
                return Ok(Some((sessions, message)));
            }
        }
        Ok(None)
    }

    /// The next message, whose keys are in force when it is given. A peer that keeps silent for too long is taken for
    /// dead, even if its connection still stands.
    async fn next(
        &self,
        feed: &mut Streaming<WatchRevocationsResponse>,
    ) -> anyhow::Result<Option<WatchRevocationsResponse>> {
        let message = timeout(HEARTBEAT_LIMIT, feed.message()).await.context("no heartbeat in time")?;
        let message = message.map_err(|status| in_short(&status))?;
        if let Some(public) = message.as_ref().and_then(|message| message.public_keys.as_ref()) {
            self.keys.hear(public)?;
        }
        Ok(message)
    }

    /// Confirms what has taken effect, the newest at a time. A failure is the peer's to bear: the stream tells whether
    /// it lives.
    async fn acknowledge(
        &self,
        mut client: TokenServiceClient<Channel>,
        mut heard: watch::Receiver<AcknowledgeRevocationsRequest>,
    ) -> anyhow::Result<()> {
        while heard.changed().await.is_ok() {
            let effective = heard.borrow_and_update().clone();
            let confirmed = async {
                let request = self.signed(effective).await?;
                client.acknowledge_revocations(request).await.map_err(|status| in_short(&status))
            };
            if let Err(error) = confirmed.await {
                tracing::debug!(%error, "cannot confirm revocations");
            }
        }
        std::future::pending().await
    }
}

fn confirmation(message: WatchRevocationsResponse) -> AcknowledgeRevocationsRequest {
    AcknowledgeRevocationsRequest { watch_id: message.watch_id, place: message.place }
}

/// What a status says, without the sources that tonic writes out.
pub(super) fn in_short(status: &Status) -> anyhow::Error {
    anyhow::anyhow!("{:?}: {}", status.code(), status.message())
}

fn session_ids(message: &WatchRevocationsResponse) -> anyhow::Result<Vec<Uuid>> {
    let ids: Option<_> = message.revoked_session_ids.iter().map(|id| id::parse(id)).collect();
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
