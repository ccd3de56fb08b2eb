//! A follower passes changes of accounts on to its service, without delaying revocations.

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
        revocation::{
            RevocationView,
            follow::Follower,
            user_changes::{UserChange, UserChangePage, UserChangeStore, UserState},
        },
    },
    clock::Clock,
    testing::folder,
    tls::Dialer,
};
use taskey_proto::auth::v1::{
    self as pb, AcknowledgeRevocationsRequest, AcknowledgeRevocationsResponse, ExchangePersonalAccessTokenRequest,
    ExchangePersonalAccessTokenResponse, GetJwksRequest, IntrospectRequest, IntrospectResponse, JwkSet,
    ListDeletedUsersRequest, ListDeletedUsersResponse, ListUserChangesRequest, ListUserChangesResponse,
    WatchRevocationsRequest, WatchRevocationsResponse,
    token_service_server::{TokenService, TokenServiceServer},
    user_change::State,
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
    changes: Vec<pb::UserChange>,
}

#[derive(Clone)]
struct Peer {
    state: watch::Sender<PeerState>,
    /// The `after` of each `ListUserChanges` request.
    requested_after: Arc<Mutex<Vec<i64>>>,
    /// The number of `ListUserChanges` calls that still fail.
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
            let PeerState { revoked, changes } = state.borrow().clone();
            let last_deletion_sequence = i64::try_from(changes.len()).expect("few");
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
        _: Request<ListDeletedUsersRequest>,
    ) -> Result<Response<ListDeletedUsersResponse>, Status> {
        Err(Status::unimplemented("only earlier versions list deletions alone"))
    }

    async fn list_user_changes(
        &self,
        request: Request<ListUserChangesRequest>,
    ) -> Result<Response<ListUserChangesResponse>, Status> {
        assert!(request.metadata().contains_key("authorization"));
        let ListUserChangesRequest { after, page_size } = request.into_inner();
        self.requested_after.lock().expect("no panic").push(after);
        let decrement = |failures: usize| failures.checked_sub(1);
        if self.remaining_failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, decrement).is_ok() {
            // As a peer of an earlier version does.
            return Err(Status::unimplemented("unknown method"));
        }
        let changes = self.state.borrow().changes.clone();
        let after = usize::try_from(after).ok().filter(|after| *after <= changes.len()).unwrap_or(0);
        let page: Vec<_> =
            changes[after..].iter().take(usize::try_from(page_size).expect("not negative")).cloned().collect();
        let sequence = i64::try_from(after + page.len()).expect("few");
        Ok(Response::new(ListUserChangesResponse { changes: page, sequence }))
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

/// Stores changes of accounts in memory.
#[derive(Debug, Default)]
struct MemoryStore {
    /// The changes and the last sequence number.
    stored: Mutex<(Vec<UserChange>, i64)>,
    /// The sequence numbers of the pages of a restored list.
    restored: Mutex<Vec<i64>>,
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

    fn stored(&self) -> (Vec<UserChange>, i64) {
        self.stored.lock().expect("no panic").clone()
    }

    /// Waits until the last sequence number is `sequence`, and returns the stored changes.
    async fn wait_for(&self, sequence: i64) -> Vec<UserChange> {
        let reached = async {
            while self.stored().1 != sequence {
                self.changed.notified().await;
            }
        };
        timeout(TIMEOUT, reached).await.expect("the changes arrive");
        self.stored().0
    }
}

#[tonic::async_trait]
impl UserChangeStore for MemoryStore {
    async fn sequence(&self) -> anyhow::Result<i64> {
        Ok(self.stored().1)
    }

    async fn receive(&self, page: UserChangePage) -> anyhow::Result<()> {
        self.attempts.fetch_add(1, Ordering::SeqCst);
        if self.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        anyhow::ensure!(!self.is_full.load(Ordering::SeqCst), "the disk is full");
        let mut stored = self.stored.lock().expect("no panic");
        assert_eq!(page.after, stored.1);
        if page.is_restored() {
            self.restored.lock().expect("no panic").push(page.sequence);
        }
        stored.0.extend(page.changes);
        stored.1 = page.sequence;
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
            user_changes: store.map(|store| Arc::clone(store) as Arc<_>),
            credential: Credential::TokenFile(token),
            peers: vec![Endpoint::from_shared(format!("http://{address}")).expect("a URL").into()],
            dialer: Dialer::plaintext(),
        };
        let running = [tokio::spawn(serving), tokio::spawn(async move { follower.run().await })];
        Self { peer, view, running, _folder: folder }
    }

    fn delete(&self, users: impl IntoIterator<Item = Uuid>) {
        self.peer.state.send_modify(|state| state.changes.extend(users.into_iter().map(deleted)));
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

/// Returns a change as the peer reports it.
fn reported(user_id: Uuid, state: State) -> pb::UserChange {
    pb::UserChange { user_id: user_id.to_string(), state: state.into() }
}

fn deleted(user_id: Uuid) -> pb::UserChange {
    reported(user_id, State::Deleted)
}

fn with_deleted(users: impl IntoIterator<Item = Uuid>) -> PeerState {
    PeerState { changes: users.into_iter().map(deleted).collect(), ..PeerState::default() }
}

/// Returns the deletion of each user, as the follower passes it on.
fn deletions(users: impl IntoIterator<Item = Uuid>) -> Vec<UserChange> {
    users.into_iter().map(|user_id| UserChange { user_id, state: UserState::Deleted }).collect()
}

#[tokio::test]
async fn follower_receives_missed_and_later_deletions() {
    let store = MemoryStore::with_sequence(2);
    let fixture = Fixture::new(with_deleted((1..=1203).map(user)), Some(&store)).await;
    assert_eq!(store.wait_for(1203).await, deletions((3..=1203).map(user)));
    assert_eq!(fixture.requested_after(), [2, 502, 1002]);
    fixture.delete([user(5000), user(5001)]);
    assert_eq!(store.wait_for(1205).await[1201..], deletions([user(5000), user(5001)]));
    fixture.assert_revocation_arrives().await;
    assert_eq!(fixture.requested_after().len(), 4, "known deletions are not requested again");
}

#[tokio::test]
async fn list_that_was_reset_is_read_from_its_beginning() {
    let store = MemoryStore::with_sequence(9);
    let fixture = Fixture::new(with_deleted([user(1), user(2)]), Some(&store)).await;
    assert_eq!(store.wait_for(2).await, deletions([user(1), user(2)]));
    fixture.delete([user(3)]);
    assert_eq!(store.wait_for(3).await.len(), 3);
    assert_eq!(fixture.requested_after(), [9, 2]);
    assert_eq!(*store.restored.lock().expect("no panic"), [2], "only the first page begins a restored list");
}

#[tokio::test]
async fn list_that_was_reset_to_an_empty_one_is_received() {
    let store = MemoryStore::with_sequence(9);
    let _fixture = Fixture::new(PeerState::default(), Some(&store)).await;
    assert_eq!(store.wait_for(0).await, []);
    assert_eq!(*store.restored.lock().expect("no panic"), [0]);
}

#[tokio::test]
async fn all_states_are_received_except_those_of_newer_versions() {
    let store = MemoryStore::with_sequence(0);
    let mut changes = vec![
        reported(user(1), State::Disabled),
        reported(user(2), State::Enabled),
        reported(user(3), State::Unspecified),
        pb::UserChange { user_id: user(4).to_string(), state: 999 },
        deleted(user(5)),
    ];
    // A page without any other.
    changes.extend((0..600).map(|number| reported(user(1000 + number), State::Unspecified)));
    changes.push(reported(user(6), State::Disabled));
    let _fixture = Fixture::new(PeerState { changes, ..PeerState::default() }, Some(&store)).await;
    let expected = [
        (user(1), UserState::Disabled),
        (user(2), UserState::Enabled),
        (user(5), UserState::Deleted),
        (user(6), UserState::Disabled),
    ];
    assert_eq!(store.wait_for(606).await, expected.map(|(user_id, state)| UserChange { user_id, state }));
}

#[tokio::test]
async fn failed_requests_and_older_peers_are_retried_and_do_not_break_the_stream() {
    let store = MemoryStore::with_sequence(0);
    let fixture = Fixture::new(PeerState::default(), Some(&store)).await;
    fixture.peer.remaining_failures.store(3, Ordering::SeqCst);
    fixture.delete([user(1)]);
    fixture.assert_revocation_arrives().await;
    assert_eq!(store.wait_for(1).await, deletions([user(1)]));
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
    assert_eq!(store.wait_for(1).await, deletions([user(1)]));
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
async fn changes_are_not_requested_without_a_store_or_changes() {
    let without_store = Fixture::new(with_deleted([user(1)]), None).await;
    let without_changes = Fixture::new(PeerState::default(), Some(&MemoryStore::with_sequence(0))).await;
    for fixture in [&without_store, &without_changes] {
        fixture.assert_revocation_arrives().await;
        assert!(fixture.requested_after().is_empty());
    }
}
