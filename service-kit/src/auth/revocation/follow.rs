//! Keeps a [`RevocationView`] and the public keys up to date from the feed of auth-service.

use std::{collections::HashSet, convert::Infallible, mem, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use taskey_proto::auth::v1::{
    AcknowledgeRevocationsRequest, WatchRevocationsRequest, WatchRevocationsResponse,
    token_service_client::TokenServiceClient,
    token_service_server,
    watch_revocations_response::{Event, SnapshotEnd},
};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use tonic::Streaming;
use uuid::Uuid;

use super::{
    HEARTBEAT_LIMIT, RevocationView,
    peer::{Peer, PeerChannel},
    user_changes::{self, UserChangeStore},
};
use crate::{
    auth::{claims, credential::Credential, key_source::KeySource},
    clock::Timestamp,
    id, random, status,
    tls::Dialer,
    trace::CallSpan,
};

/// How long connecting and the first response may take. Together with the longest delay between attempts, 1.5 times
/// [`MAX_BACKOFF`], it is less than the 2 s in which the view must recover after the peer is back.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(1500);

/// The delay between attempts doubles from the minimum to the maximum, with jitter.
const MIN_BACKOFF: Duration = Duration::from_millis(50);
const MAX_BACKOFF: Duration = Duration::from_millis(300);

/// How long a stream is used before another one is opened: less than the lifetime of the token that opened it, because
/// the peer ends the stream when the token expires; and less than the default age of connections minus 10 %, plus the
/// grace period, because the peer ends the stream then.
const MAX_STREAM_AGE: Duration = Duration::from_secs(claims::MAX_LIFETIME.as_secs() - 120);

/// Maximum size of a message. A snapshot is split into many messages.
const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;

/// When a stream fails after more than this duration, the backoff starts over, and the failure is logged.
const STABLE_AFTER: Duration = Duration::from_secs(5);

/// Follows the feed of revocations.
#[derive(Clone, Debug)]
pub struct Follower {
    /// The revoked sessions.
    pub view: Arc<RevocationView>,
    /// The public keys, if they are received with the feed.
    pub keys: Arc<KeySource>,
    /// Where the changes of accounts are stored, if this service stores data of accounts.
    pub user_changes: Option<Arc<dyn UserChangeStore>>,
    /// Authenticates this service to the peers.
    pub credential: Credential,
    /// The replicas of auth-service; at least one.
    pub peers: Vec<Peer>,
    /// Opens the connections to those that are called over the network.
    pub dialer: Dialer,
}

impl Follower {
    /// Follows the feed for as long as it is awaited. When a stream ends, the next peer is tried.
    ///
    /// # Panics
    /// If there is no peer.
    pub async fn run(&self) {
        let mut backoff = MIN_BACKOFF;
        let mut is_failure_logged = false;
        for peer in self.peers.iter().cycle() {
            let started = Instant::now();
            let followed = timeout(MAX_STREAM_AGE, self.follow(peer)).await;
            if started.elapsed() > STABLE_AFTER {
                (backoff, is_failure_logged) = (MIN_BACKOFF, false);
            }
            let error = match followed {
                Ok(Ok(())) => anyhow::anyhow!("the peer ended the stream"),
                Ok(Err(error)) => error,
                // The stream has reached its maximum age.
                Err(_) => continue,
            };
            // Of several failures in a row, only the first is logged. `report` logs the recovery.
            if !is_failure_logged {
                tracing::warn!(%peer, error = format!("{error:#}"), "the feed of revocations failed");
                is_failure_logged = true;
            }
            tokio::time::sleep(random::jitter(backoff)).await;
            backoff = (backoff * 2).min(MAX_BACKOFF);
        }
        unreachable!("a verifier has at least one peer to follow");
    }

    /// Follows one peer to the end of its stream, and acknowledges its updates.
    async fn follow(&self, peer: &Peer) -> anyhow::Result<()> {
        let connecting = timeout(CONNECT_TIMEOUT, self.open(peer)).await;
        let (client, mut feed) = connecting.context("no response in time")??;
        let Some((sessions, end, acknowledgement)) = self.receive_snapshot(&mut feed).await? else { return Ok(()) };
        self.view.add_snapshot(sessions, end.issued_before.map(Timestamp::from));
        tracing::debug!(%peer, "following the feed of revocations");
        let (change_sender, change_receiver) = watch::channel(end.last_deletion_sequence);
        let (acknowledgement_sender, mut acknowledgement_receiver) = watch::channel(acknowledgement);
        // The snapshot is acknowledged as well.
        acknowledgement_receiver.mark_changed();
        let receive = async {
            while let Some(message) = self.next_message(&mut feed).await? {
                let acknowledgement = acknowledge_request(&message);
                match message.event {
                    Some(Event::Update(update)) => {
                        self.view.add(session_ids(&update.revoked_session_ids)?);
                        let last = update.last_deletion_sequence;
                        change_sender.send_if_modified(|sequence| last != mem::replace(sequence, last));
                        acknowledgement_sender.send_replace(acknowledgement);
                    }
                    Some(Event::Heartbeat(_)) => self.view.add([]),
                    // A peer that cannot read its revocations also sends keys, so they are not a heartbeat.
                    Some(Event::Keys(keys)) => self.keys.receive(&keys)?,
                    Some(Event::SnapshotChunk(_) | Event::SnapshotEnd(_)) => bail!("the feed has a second snapshot"),
                    // A newer peer may send events that this version does not know.
                    None => {}
                }
            }
            Ok(())
        };
        // Run concurrently, because acknowledgements and changes of accounts must not delay the next message.
        tokio::select! {
            ended = receive => ended,
            failed = self.acknowledge(client.clone(), acknowledgement_receiver) => failed,
            never = self.follow_user_changes(client, change_receiver) => match never {},
        }
    }

    async fn open(
        &self,
        peer: &Peer,
    ) -> anyhow::Result<(TokenServiceClient<PeerChannel>, Streaming<WatchRevocationsResponse>)> {
        let channel = peer.connect(&self.dialer).await?;
        let mut client = TokenServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let mut request = self.credential.sign(WatchRevocationsRequest {}).await?;
        let span = CallSpan::background(token_service_server::SERVICE_NAME, "WatchRevocations", &mut request);
        let feed = span.observe(client.watch_revocations(request).await).map_err(|status| {
            // If the clocks differ, the peer may refuse the token, so that no message of the feed shows its time.
            if let Some(date) =
                status.metadata().get("date").and_then(|date| Timestamp::parse_http_date(date.to_str().ok()?))
            {
                self.view.monitor.observe_clock(date);
            }
            status::summary(&status)
        })?;
        Ok((client, feed.into_inner()))
    }

    /// Receives the snapshot of a peer, and disconnects. Returns the number of its sessions.
    pub(super) async fn read_snapshot(&self, peer: &Peer) -> anyhow::Result<usize> {
        let connecting = timeout(CONNECT_TIMEOUT, self.open(peer)).await;
        let (_client, mut feed) = connecting.context("no response in time")??;
        let snapshot = self.receive_snapshot(&mut feed).await?;
        snapshot.map(|(sessions, ..)| sessions.len()).context("the peer ended the stream")
    }

    /// Keeps the changes of accounts up to date, if they are stored.
    async fn follow_user_changes(
        &self,
        client: TokenServiceClient<PeerChannel>,
        last: watch::Receiver<i64>,
    ) -> Infallible {
        match &self.user_changes {
            Some(store) => user_changes::follow(store.as_ref(), client, &self.credential, last).await,
            None => std::future::pending().await,
        }
    }

    /// Receives the snapshot. Returns its sessions, its last event and its acknowledgement, or `None` if the stream
    /// ended earlier. Does not change the view.
    async fn receive_snapshot(
        &self,
        feed: &mut Streaming<WatchRevocationsResponse>,
    ) -> anyhow::Result<Option<(HashSet<Uuid>, SnapshotEnd, AcknowledgeRevocationsRequest)>> {
        let mut sessions = HashSet::new();
        while let Some(message) = self.next_message(feed).await? {
            let acknowledgement = acknowledge_request(&message);
            match message.event {
                Some(Event::SnapshotChunk(chunk)) => sessions.extend(session_ids(&chunk.revoked_session_ids)?),
                Some(Event::SnapshotEnd(end)) => {
                    end.keys.as_ref().map_or(Ok(()), |keys| self.keys.receive(keys))?;
                    return Ok(Some((sessions, end, acknowledgement)));
                }
                Some(Event::Update(_) | Event::Heartbeat(_)) => bail!("the feed does not begin with a snapshot"),
                Some(Event::Keys(keys)) => self.keys.receive(&keys)?,
                None => {}
            }
        }
        Ok(None)
    }

    /// Returns the next message. Fails if the peer sends nothing for too long, even if its connection is open.
    async fn next_message(
        &self,
        feed: &mut Streaming<WatchRevocationsResponse>,
    ) -> anyhow::Result<Option<WatchRevocationsResponse>> {
        let message = timeout(HEARTBEAT_LIMIT, feed.message()).await.context("no heartbeat in time")?;
        let message = message.map_err(|status| status::summary(&status))?;
        if let Some(message) = &message {
            self.view.monitor.observe(message);
        }
        Ok(message)
    }

    /// Acknowledges the latest update that has taken effect. Failures are only logged: the stream shows whether the
    /// peer is alive.
    async fn acknowledge(
        &self,
        mut client: TokenServiceClient<PeerChannel>,
        mut acknowledgements: watch::Receiver<AcknowledgeRevocationsRequest>,
    ) -> anyhow::Result<()> {
        while acknowledgements.changed().await.is_ok() {
            let acknowledgement = acknowledgements.borrow_and_update().clone();
            let send = async {
                let request = self.credential.sign(acknowledgement).await?;
                client.acknowledge_revocations(request).await.map_err(|status| status::summary(&status))
            };
            if let Err(error) = send.await {
                tracing::debug!(%error, "cannot acknowledge revocations");
            }
        }
        std::future::pending().await
    }
}

fn acknowledge_request(message: &WatchRevocationsResponse) -> AcknowledgeRevocationsRequest {
    AcknowledgeRevocationsRequest { watch_id: message.watch_id.clone(), sequence: message.sequence }
}

fn session_ids(ids: &[String]) -> anyhow::Result<Vec<Uuid>> {
    let ids: Option<_> = ids.iter().map(|id| id::parse(id)).collect();
    ids.context("the feed contains a session id that is not a UUID")
}

/// Keeps `ready` up to date for as long as it is awaited. The service `name` is ready while it accepts tokens and all
/// `conditions` are true. Logs every change of the freshness.
pub async fn report<const N: usize>(
    name: &str,
    view: Arc<RevocationView>,
    mut conditions: [watch::Receiver<bool>; N],
    ready: watch::Sender<bool>,
) {
    let (accepting_sender, mut is_accepting) = watch::channel(false);
    let combine = async {
        loop {
            // Every value is marked as seen, even if an earlier one is false.
            let unmet = conditions.iter_mut().filter_map(|condition| (!*condition.borrow_and_update()).then_some(()));
            let are_met = unmet.count() == 0;
            ready.send_replace(*is_accepting.borrow_and_update() && are_met);
            // Once all senders are dropped, the last value remains.
            tokio::select! {
                Ok(()) = is_accepting.changed() => {}
                () = any_change(&mut conditions) => {}
            }
        }
    };
    tokio::join!(report_freshness(name, &view, &accepting_sender), combine);
}

/// Waits until one of the values changes. Values whose sender was dropped never change.
async fn any_change(values: &mut [watch::Receiver<bool>]) {
    let changes = values.iter_mut().map(|value| {
        Box::pin(async {
            if value.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    });
    futures::future::select_all(changes).await;
}

async fn report_freshness(name: &str, view: &RevocationView, accepting_sender: &watch::Sender<bool>) {
    view.watch_freshness(|freshness| {
        match freshness {
            super::Freshness::Fresh => tracing::info!(name, "revocations: fresh"),
            super::Freshness::Cold => tracing::info!(name, "revocations: none received yet; no token is accepted"),
            super::Freshness::Stale => tracing::warn!(name, "revocations: stale; tokens are still accepted"),
            super::Freshness::Lost => tracing::error!(name, "revocations: lost; no token is accepted"),
        }
        accepting_sender.send_replace(freshness.accepts_tokens());
    })
    .await;
}
