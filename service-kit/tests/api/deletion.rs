//! A follower passes deleted accounts on to its service, without delaying revocations.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt, stream::BoxStream};
use service_kit::{
    auth::{
        credential::Credential,
        key_source::KeySource,
        revocation::{RevocationView, deletion::DeletedUsers, follow::Follower},
    },
    clock::Clock,
    testing::folder,
    tls::Dialer,
};
use taskey_proto::auth::v1::{
    AcknowledgeRevocationsRequest, AcknowledgeRevocationsResponse, ExchangePersonalAccessTokenRequest,
    ExchangePersonalAccessTokenResponse, GetJwksRequest, IntrospectRequest, IntrospectResponse, JwkSet,
    ListDeletedUsersRequest, ListDeletedUsersResponse, WatchRevocationsRequest, WatchRevocationsResponse,
    token_service_server::{TokenService, TokenServiceServer},
    watch_revocations_response::{Event, SnapshotEnd, Update},
};
use tempfile::TempDir;
use tokio::{
    net::TcpListener,
    sync::{Notify, watch},
    task::{JoinHandle, yield_now},
    time::{interval, timeout},
};
use tonic::{
    Request, Response, Status,
    transport::{Endpoint, Server, server::TcpIncoming},
};
use uuid::Uuid;

const TIMEOUT: Duration = Duration::from_secs(10);

fn user(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

/// The sessions and accounts that the peer reports.
#[derive(Clone, Default)]
struct PeerState {
    revoked: Vec<Uuid>,
    deleted: Vec<Uuid>,
}

#[derive(Clone)]
struct Peer {
    state: watch::Sender<PeerState>,
    /// The `after` of each `ListDeletedUsers` request.
    requested_after: Arc<Mutex<Vec<i64>>>,
    /// The number of `ListDeletedUsers` calls that still fail.
    remaining_failures: Arc<AtomicUsize>,
    /// The number of `WatchRevocations` calls.
    watches: Arc<AtomicUsize>,
}

#[tonic::async_trait]
impl TokenService for Peer {
    type WatchRevocationsStream = BoxStream<'static, Result<WatchRevocationsResponse, Status>>;

    async fn watch_revocations(
        &self,
        _: Request<WatchRevocationsRequest>,
    ) -> Result<Response<Self::WatchRevocationsStream>, Status> {
        self.watches.fetch_add(1, Ordering::SeqCst);
        let (state, ticks) = (self.state.subscribe(), interval(Duration::from_millis(50)));
        let messages = futures::stream::unfold((state, ticks, true), async |(state, mut ticks, is_first)| {
            ticks.tick().await;
            let PeerState { revoked, deleted } = state.borrow().clone();
            let last_deletion_sequence = i64::try_from(deleted.len()).expect("few");
            let event = if is_first {
                Event::SnapshotEnd(SnapshotEnd { last_deletion_sequence, ..SnapshotEnd::default() })
            } else {
                let revoked_session_ids = revoked.iter().map(Uuid::to_string).collect();
                Event::Update(Update { revoked_session_ids, last_deletion_sequence })
            };
            let message = WatchRevocationsResponse { event: Some(event), ..WatchRevocationsResponse::default() };
            Some((Ok(message), (state, ticks, false)))
        });
        Ok(Response::new(messages.boxed()))
    }

    async fn exchange_personal_access_token(
        &self,
        _: Request<ExchangePersonalAccessTokenRequest>,
    ) -> Result<Response<ExchangePersonalAccessTokenResponse>, Status> {
        Err(Status::not_found("there are no tokens"))
    }

    async fn list_deleted_users(
        &self,
        request: Request<ListDeletedUsersRequest>,
    ) -> Result<Response<ListDeletedUsersResponse>, Status> {
        assert!(request.metadata().contains_key("authorization"));
        let ListDeletedUsersRequest { after, page_size } = request.into_inner();
        self.requested_after.lock().expect("no panic").push(after);
        let decrement = |failures: usize| failures.checked_sub(1);
        if self.remaining_failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, decrement).is_ok() {
            return Err(Status::unavailable("not now"));
        }
        let deleted = self.state.borrow().deleted.clone();
        let after = usize::try_from(after).ok().filter(|after| *after <= deleted.len()).unwrap_or(0);
        let page = deleted[after..].iter().take(usize::try_from(page_size).expect("not negative"));
        let user_ids: Vec<_> = page.map(Uuid::to_string).collect();
        let sequence = i64::try_from(after + user_ids.len()).expect("few");
        Ok(Response::new(ListDeletedUsersResponse { user_ids, sequence }))
    }

    async fn get_jwks(&self, _: Request<GetJwksRequest>) -> Result<Response<JwkSet>, Status> {
        Ok(Response::new(JwkSet::default()))
    }

    async fn introspect(&self, _: Request<IntrospectRequest>) -> Result<Response<IntrospectResponse>, Status> {
        Ok(Response::new(IntrospectResponse::default()))
    }

    async fn acknowledge_revocations(
        &self,
        _: Request<AcknowledgeRevocationsRequest>,
    ) -> Result<Response<AcknowledgeRevocationsResponse>, Status> {
        Ok(Response::new(AcknowledgeRevocationsResponse {}))
    }
}

/// Stores deleted accounts in memory.
#[derive(Debug, Default)]
struct MemoryStore {
    /// The accounts and the last sequence number.
    stored: Mutex<(Vec<Uuid>, i64)>,
    changed: Notify,
    /// Whether `receive` fails.
    is_full: AtomicBool,
    /// Whether `receive` never returns.
    hangs: AtomicBool,
    attempts: AtomicUsize,
}

impl MemoryStore {
    fn with_sequence(sequence: i64) -> Arc<Self> {
        Arc::new(Self { stored: Mutex::new((Vec::new(), sequence)), ..Self::default() })
    }

    fn stored(&self) -> (Vec<Uuid>, i64) {
        self.stored.lock().expect("no panic").clone()
    }

    /// Waits until the last sequence number is `sequence`, and returns the stored accounts.
    async fn wait_for(&self, sequence: i64) -> Vec<Uuid> {
        let reached = async {
            while self.stored().1 != sequence {
                self.changed.notified().await;
            }
        };
        timeout(TIMEOUT, reached).await.expect("the deletions arrive");
        self.stored().0
    }
}

#[tonic::async_trait]
impl DeletedUsers for MemoryStore {
    async fn sequence(&self) -> anyhow::Result<i64> {
        Ok(self.stored().1)
    }

    async fn receive(&self, users: Vec<Uuid>, sequence: i64) -> anyhow::Result<()> {
        self.attempts.fetch_add(1, Ordering::SeqCst);
        if self.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        anyhow::ensure!(!self.is_full.load(Ordering::SeqCst), "the disk is full");
        let mut stored = self.stored.lock().expect("no panic");
        stored.0.extend(users);
        stored.1 = sequence;
        self.changed.notify_one();
        Ok(())
    }
}

/// A peer and its follower.
struct Fixture {
    peer: Peer,
    view: Arc<RevocationView>,
    running: [JoinHandle<()>; 2],
    _folder: TempDir,
}

impl Fixture {
    async fn new(state: PeerState, store: Option<&Arc<MemoryStore>>) -> Self {
        let peer = Peer {
            state: watch::Sender::new(state),
            requested_after: Arc::default(),
            remaining_failures: Arc::default(),
            watches: Arc::default(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let service = Server::builder().add_service(TokenServiceServer::new(peer.clone()));
        let serving = async { service.serve_with_incoming(TcpIncoming::from(listener)).await.expect("it serves") };
        let (folder, view) = (folder(), Arc::new(RevocationView::new(Duration::ZERO, Clock::system())));
        let token = folder.path().join("token");
        fs::write(&token, "taskey_service_token").expect("written");
        fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).expect("changed");
        let follower = Follower {
            view: Arc::clone(&view),
            keys: Arc::new(KeySource::feed()),
            deleted_users: store.map(|store| Arc::clone(store) as Arc<_>),
            credential: Credential::TokenFile(token),
            peers: vec![Endpoint::from_shared(format!("http://{address}")).expect("a URL").into()],
            dialer: Dialer::plaintext(),
        };
        let running = [tokio::spawn(serving), tokio::spawn(async move { follower.run().await })];
        Self { peer, view, running, _folder: folder }
    }

    fn delete(&self, users: impl IntoIterator<Item = Uuid>) {
        self.peer.state.send_modify(|state| state.deleted.extend(users));
    }

    fn requested_after(&self) -> Vec<i64> {
        self.peer.requested_after.lock().expect("no panic").clone()
    }

    /// Revokes a session, and checks that the view receives it within a second.
    async fn assert_revocation_arrives(&self) {
        let session = user(u128::MAX);
        self.peer.state.send_modify(|state| state.revoked.push(session));
        let mut updates = self.view.subscribe();
        let revoked = async {
            while !self.view.snapshot().0.contains(&session) {
                updates.changed().await.expect("the view exists");
            }
        };
        timeout(Duration::from_secs(1), revoked).await.expect("received within a second");
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.running.iter().for_each(JoinHandle::abort);
    }
}

fn with_deleted(users: impl IntoIterator<Item = Uuid>) -> PeerState {
    PeerState { deleted: users.into_iter().collect(), ..PeerState::default() }
}

#[tokio::test]
async fn follower_receives_missed_and_later_deletions() {
    let store = MemoryStore::with_sequence(2);
    let fixture = Fixture::new(with_deleted((1..=1203).map(user)), Some(&store)).await;
    assert_eq!(store.wait_for(1203).await, (3..=1203).map(user).collect::<Vec<_>>());
    assert_eq!(fixture.requested_after(), [2, 502, 1002]);
    fixture.delete([user(5000), user(5001)]);
    assert_eq!(store.wait_for(1205).await[1201..], [user(5000), user(5001)]);
    fixture.assert_revocation_arrives().await;
    assert_eq!(fixture.requested_after().len(), 4, "known deletions are not requested again");
}

#[tokio::test]
async fn list_that_was_reset_is_read_from_its_beginning() {
    let store = MemoryStore::with_sequence(9);
    let fixture = Fixture::new(with_deleted([user(1), user(2)]), Some(&store)).await;
    assert_eq!(store.wait_for(2).await, [user(1), user(2)]);
    fixture.delete([user(3)]);
    assert_eq!(store.wait_for(3).await.len(), 3);
    assert_eq!(fixture.requested_after(), [9, 2]);
}

#[tokio::test]
async fn failed_requests_are_retried_and_do_not_break_the_stream() {
    let store = MemoryStore::with_sequence(0);
    let fixture = Fixture::new(PeerState::default(), Some(&store)).await;
    fixture.peer.remaining_failures.store(3, Ordering::SeqCst);
    fixture.delete([user(1)]);
    fixture.assert_revocation_arrives().await;
    assert_eq!(store.wait_for(1).await, [user(1)]);
    assert_eq!(fixture.requested_after(), [0; 4]);
    assert_eq!(fixture.peer.watches.load(Ordering::SeqCst), 1, "the stream is not interrupted");
}

#[tokio::test]
async fn failing_store_is_retried_and_does_not_break_the_stream() {
    let store = MemoryStore::with_sequence(0);
    store.is_full.store(true, Ordering::SeqCst);
    let fixture = Fixture::new(with_deleted([user(1)]), Some(&store)).await;
    let attempted = async {
        while store.attempts.load(Ordering::SeqCst) < 2 {
            yield_now().await;
        }
    };
    timeout(TIMEOUT, attempted).await.expect("the store is called again");
    fixture.assert_revocation_arrives().await;
    store.is_full.store(false, Ordering::SeqCst);
    assert_eq!(store.wait_for(1).await, [user(1)]);
    assert_eq!(fixture.peer.watches.load(Ordering::SeqCst), 1, "the stream is not interrupted");
}

#[tokio::test]
async fn blocked_store_does_not_delay_revocations() {
    let store = MemoryStore::with_sequence(0);
    store.hangs.store(true, Ordering::SeqCst);
    let fixture = Fixture::new(with_deleted([user(1)]), Some(&store)).await;
    let attempted = async {
        while store.attempts.load(Ordering::SeqCst) == 0 {
            yield_now().await;
        }
    };
    timeout(TIMEOUT, attempted).await.expect("the store is called");
    fixture.assert_revocation_arrives().await;
}

#[tokio::test]
async fn deleted_users_are_not_requested_without_a_store_or_deletions() {
    let without_store = Fixture::new(with_deleted([user(1)]), None).await;
    let without_deletions = Fixture::new(with_deleted([]), Some(&MemoryStore::with_sequence(7))).await;
    for fixture in [&without_store, &without_deletions] {
        fixture.assert_revocation_arrives().await;
        assert!(fixture.requested_after().is_empty());
    }
}
