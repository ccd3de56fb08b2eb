//! A service that keeps something of accounts hears which of them have been deleted, and nothing else waits for it.

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
};
use taskey_proto::auth::v1::{
    AcknowledgeRevocationsRequest, AcknowledgeRevocationsResponse, GetJwksRequest, IntrospectRequest,
    IntrospectResponse, JwkSet, ListDeletedUsersRequest, ListDeletedUsersResponse, WatchRevocationsRequest,
    WatchRevocationsResponse,
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

const LIMIT: Duration = Duration::from_secs(10);

fn user(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

/// What the peer says.
#[derive(Clone, Default)]
struct Said {
    revoked: Vec<Uuid>,
    deleted: Vec<Uuid>,
}

#[derive(Clone)]
struct Peer {
    said: watch::Sender<Said>,
    /// After which sequence numbers it was asked.
    asked_after: Arc<Mutex<Vec<i64>>>,
    /// How many more answers fail.
    failures: Arc<AtomicUsize>,
    watched: Arc<AtomicUsize>,
}

#[tonic::async_trait]
impl TokenService for Peer {
    type WatchRevocationsStream = BoxStream<'static, Result<WatchRevocationsResponse, Status>>;

    async fn watch_revocations(
        &self,
        _: Request<WatchRevocationsRequest>,
    ) -> Result<Response<Self::WatchRevocationsStream>, Status> {
        self.watched.fetch_add(1, Ordering::SeqCst);
        let (said, ticks) = (self.said.subscribe(), interval(Duration::from_millis(50)));
        let messages = futures::stream::unfold((said, ticks, true), async |(said, mut ticks, is_first)| {
            ticks.tick().await;
            let Said { revoked, deleted } = said.borrow().clone();
            let last_deletion_sequence = i64::try_from(deleted.len()).expect("few");
            let event = if is_first {
                Event::SnapshotEnd(SnapshotEnd { last_deletion_sequence, ..SnapshotEnd::default() })
            } else {
                let revoked_session_ids = revoked.iter().map(Uuid::to_string).collect();
                Event::Update(Update { revoked_session_ids, last_deletion_sequence })
            };
            let message = WatchRevocationsResponse { event: Some(event), ..WatchRevocationsResponse::default() };
            Some((Ok(message), (said, ticks, false)))
        });
        Ok(Response::new(messages.boxed()))
    }

    async fn list_deleted_users(
        &self,
        request: Request<ListDeletedUsersRequest>,
    ) -> Result<Response<ListDeletedUsersResponse>, Status> {
        assert!(request.metadata().contains_key("authorization"));
        let ListDeletedUsersRequest { after, page_size } = request.into_inner();
        self.asked_after.lock().expect("no panic").push(after);
        let less = |failures: usize| failures.checked_sub(1);
        if self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok() {
            return Err(Status::unavailable("not now"));
        }
        let deleted = self.said.borrow().deleted.clone();
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

/// Notes that live in memory.
#[derive(Debug, Default)]
struct Ledger {
    notes: Mutex<(Vec<Uuid>, i64)>,
    heard: Notify,
    /// Whether it cannot write.
    is_full: AtomicBool,
    /// Whether it never comes to an end.
    hangs: AtomicBool,
    tried: AtomicUsize,
}

impl Ledger {
    fn at(sequence: i64) -> Arc<Self> {
        Arc::new(Self { notes: Mutex::new((Vec::new(), sequence)), ..Self::default() })
    }

    fn notes(&self) -> (Vec<Uuid>, i64) {
        self.notes.lock().expect("no panic").clone()
    }

    async fn comes_to(&self, sequence: i64) -> Vec<Uuid> {
        let come = async {
            while self.notes().1 != sequence {
                self.heard.notified().await;
            }
        };
        timeout(LIMIT, come).await.expect("it hears");
        self.notes().0
    }
}

#[tonic::async_trait]
impl DeletedUsers for Ledger {
    async fn sequence(&self) -> anyhow::Result<i64> {
        Ok(self.notes().1)
    }

    async fn receive(&self, users: Vec<Uuid>, sequence: i64) -> anyhow::Result<()> {
        self.tried.fetch_add(1, Ordering::SeqCst);
        if self.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        anyhow::ensure!(!self.is_full.load(Ordering::SeqCst), "the disk is full");
        let mut notes = self.notes.lock().expect("no panic");
        notes.0.extend(users);
        notes.1 = sequence;
        self.heard.notify_one();
        Ok(())
    }
}

/// A peer and who follows it.
struct Scene {
    peer: Peer,
    view: Arc<RevocationView>,
    running: [JoinHandle<()>; 2],
    _folder: TempDir,
}

impl Scene {
    async fn new(said: Said, ledger: Option<&Arc<Ledger>>) -> Self {
        let peer = Peer {
            said: watch::Sender::new(said),
            asked_after: Arc::default(),
            failures: Arc::default(),
            watched: Arc::default(),
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
            deleted_users: ledger.map(|ledger| Arc::clone(ledger) as Arc<_>),
            credential: Credential::Given(token),
            peers: vec![Endpoint::from_shared(format!("http://{address}")).expect("a URL")],
        };
        let running = [tokio::spawn(serving), tokio::spawn(async move { follower.run().await })];
        Self { peer, view, running, _folder: folder }
    }

    fn delete(&self, users: impl IntoIterator<Item = Uuid>) {
        self.peer.said.send_modify(|said| said.deleted.extend(users));
    }

    fn asked_after(&self) -> Vec<i64> {
        self.peer.asked_after.lock().expect("no panic").clone()
    }

    /// Revokes a session and waits until the view knows it.
    async fn hears_of_a_revocation(&self) {
        let session = user(u128::MAX);
        self.peer.said.send_modify(|said| said.revoked.push(session));
        let mut heard = self.view.heard();
        let known = async {
            while !self.view.snapshot().0.contains(&session) {
                heard.changed().await.expect("the view lives");
            }
        };
        timeout(Duration::from_secs(1), known).await.expect("heard within a second");
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.running.iter().for_each(JoinHandle::abort);
    }
}

fn deleted(users: impl IntoIterator<Item = Uuid>) -> Said {
    Said { deleted: users.into_iter().collect(), ..Said::default() }
}

#[tokio::test]
async fn a_follower_hears_what_it_has_missed_and_what_happens_from_then_on() {
    let ledger = Ledger::at(2);
    let scene = Scene::new(deleted((1..=1203).map(user)), Some(&ledger)).await;
    assert_eq!(ledger.comes_to(1203).await, (3..=1203).map(user).collect::<Vec<_>>());
    assert_eq!(scene.asked_after(), [2, 502, 1002]);
    scene.delete([user(5000), user(5001)]);
    assert_eq!(ledger.comes_to(1205).await[1201..], [user(5000), user(5001)]);
    scene.hears_of_a_revocation().await;
    assert_eq!(scene.asked_after().len(), 4, "it does not ask for what it knows");
}

#[tokio::test]
async fn a_list_that_begins_anew_is_followed_from_its_beginning() {
    let ledger = Ledger::at(9);
    let scene = Scene::new(deleted([user(1), user(2)]), Some(&ledger)).await;
    assert_eq!(ledger.comes_to(2).await, [user(1), user(2)]);
    scene.delete([user(3)]);
    assert_eq!(ledger.comes_to(3).await.len(), 3);
    assert_eq!(scene.asked_after(), [9, 2]);
}

#[tokio::test]
async fn a_peer_that_fails_is_asked_again_and_disturbs_nothing_else() {
    let ledger = Ledger::at(0);
    let scene = Scene::new(Said::default(), Some(&ledger)).await;
    scene.peer.failures.store(3, Ordering::SeqCst);
    scene.delete([user(1)]);
    scene.hears_of_a_revocation().await;
    assert_eq!(ledger.comes_to(1).await, [user(1)]);
    assert_eq!(scene.asked_after(), [0; 4]);
    assert_eq!(scene.peer.watched.load(Ordering::SeqCst), 1, "the stream has not been broken for it");
}

#[tokio::test]
async fn a_ledger_that_fails_is_told_again_and_disturbs_nothing_else() {
    let ledger = Ledger::at(0);
    ledger.is_full.store(true, Ordering::SeqCst);
    let scene = Scene::new(deleted([user(1)]), Some(&ledger)).await;
    let tried = async {
        while ledger.tried.load(Ordering::SeqCst) < 2 {
            yield_now().await;
        }
    };
    timeout(LIMIT, tried).await.expect("it is told again");
    scene.hears_of_a_revocation().await;
    ledger.is_full.store(false, Ordering::SeqCst);
    assert_eq!(ledger.comes_to(1).await, [user(1)]);
    assert_eq!(scene.peer.watched.load(Ordering::SeqCst), 1, "the stream has not been broken for it");
}

#[tokio::test]
async fn a_ledger_that_hangs_delays_no_revocation() {
    let ledger = Ledger::at(0);
    ledger.hangs.store(true, Ordering::SeqCst);
    let scene = Scene::new(deleted([user(1)]), Some(&ledger)).await;
    let tried = async {
        while ledger.tried.load(Ordering::SeqCst) == 0 {
            yield_now().await;
        }
    };
    timeout(LIMIT, tried).await.expect("it hangs");
    scene.hears_of_a_revocation().await;
}

#[tokio::test]
async fn deleted_users_are_not_requested_without_a_ledger_or_if_there_are_none() {
    let without = Scene::new(deleted([user(1)]), None).await;
    let empty = Scene::new(deleted([]), Some(&Ledger::at(7))).await;
    for scene in [&without, &empty] {
        scene.hears_of_a_revocation().await;
        assert!(scene.asked_after().is_empty());
    }
}
