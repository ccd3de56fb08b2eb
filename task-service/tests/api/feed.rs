//! An auth-service that has nothing but a feed of revocations, and says on it what the test wants.

use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use service_kit::{
    auth::{credential::ROLE_VERIFIER, keys::KeySet, token},
    clock::Clock,
    ops::config::TokenArgs,
};
use taskey_proto::auth::v1::{
    AcknowledgeRevocationsRequest, AcknowledgeRevocationsResponse, GetJwksRequest, IntrospectRequest,
    IntrospectResponse, JwkSet, ListDeletedUsersRequest, ListDeletedUsersResponse, WatchRevocationsRequest,
    WatchRevocationsResponse,
    token_service_server::{TokenService, TokenServiceServer},
    watch_revocations_response::{Event, SnapshotChunk, SnapshotEnd, Update},
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    time::timeout,
};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Request, Response, Status, transport::Server};
use uuid::Uuid;

/// Well below the limit of 3 s.
const HEARTBEAT: Duration = Duration::from_millis(200);

/// The feed. It ends when it is dropped.
pub(crate) struct Feed {
    pub(crate) address: SocketAddr,
    said: watch::Sender<Said>,
    asked_after: Arc<Mutex<Vec<i64>>>,
    _server: DropGuard,
}

#[derive(Clone)]
struct Said {
    /// A feed that does not speak still accepts connections.
    speaks: bool,
    revoked: HashSet<Uuid>,
    /// The accounts that have been deleted, in order.
    deleted: Vec<Uuid>,
}

impl Feed {
    /// A feed that accepts the tokens of a verifier that holds `keys`.
    pub(crate) async fn start(keys: Arc<KeySet>, names: TokenArgs, clock: Clock, speaks: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a free port");
        let address = listener.local_addr().expect("the listener has an address");
        let said = watch::Sender::new(Said { speaks, revoked: HashSet::new(), deleted: Vec::new() });
        let asked_after = Arc::default();
        let service = TokenServiceServer::new(FakeAuth {
            keys,
            names,
            clock,
            said: said.subscribe(),
            asked_after: Arc::clone(&asked_after),
        });
        let shutdown = CancellationToken::new();
        let ended = shutdown.clone().cancelled_owned();
        tokio::spawn(async move {
            let server = Server::builder().add_service(service);
            tokio::select! {
                served = server.serve_with_incoming(TcpListenerStream::new(listener)) => served.expect("it serves"),
                () = ended => {}
            }
        });
        Self { address, said, asked_after, _server: shutdown.drop_guard() }
    }

    /// Lets it speak, or be silent.
    pub(crate) fn speak(&self, speaks: bool) {
        self.said.send_modify(|said| said.speaks = speaks);
    }

    /// Revokes a session.
    pub(crate) fn revoke(&self, session_id: Uuid) {
        self.said.send_modify(|said| {
            said.revoked.insert(session_id);
        });
    }

    /// Says that these accounts have been deleted, after those that it said before.
    pub(crate) fn delete(&self, users: impl IntoIterator<Item = Uuid>) {
        self.said.send_modify(|said| said.deleted.extend(users));
    }

    /// After which sequence numbers it was asked for deleted accounts.
    pub(crate) fn asked_after(&self) -> Vec<i64> {
        self.asked_after.lock().expect("no panic").clone()
    }
}

struct FakeAuth {
    keys: Arc<KeySet>,
    names: TokenArgs,
    clock: Clock,
    said: watch::Receiver<Said>,
    asked_after: Arc<Mutex<Vec<i64>>>,
}

#[tonic::async_trait]
impl TokenService for FakeAuth {
    type WatchRevocationsStream = ReceiverStream<Result<WatchRevocationsResponse, Status>>;

    async fn get_jwks(&self, _request: Request<GetJwksRequest>) -> Result<Response<JwkSet>, Status> {
        Ok(Response::new(JwkSet::default()))
    }

    async fn introspect(&self, _request: Request<IntrospectRequest>) -> Result<Response<IntrospectResponse>, Status> {
        Err(Status::unimplemented("no task-service asks"))
    }

    async fn acknowledge_revocations(
        &self,
        _request: Request<AcknowledgeRevocationsRequest>,
    ) -> Result<Response<AcknowledgeRevocationsResponse>, Status> {
        Ok(Response::new(AcknowledgeRevocationsResponse {}))
    }

    async fn list_deleted_users(
        &self,
        request: Request<ListDeletedUsersRequest>,
    ) -> Result<Response<ListDeletedUsersResponse>, Status> {
        let ListDeletedUsersRequest { after, page_size } = request.into_inner();
        self.asked_after.lock().expect("no panic").push(after);
        let deleted = self.said.borrow().deleted.clone();
        let after = usize::try_from(after).ok().filter(|after| *after <= deleted.len()).unwrap_or(0);
        let size = usize::try_from(page_size).expect("not negative");
        let user_ids: Vec<_> = deleted[after..].iter().take(size).map(Uuid::to_string).collect();
        let sequence = i64::try_from(after + user_ids.len()).expect("few");
        Ok(Response::new(ListDeletedUsersResponse { user_ids, sequence }))
    }

    async fn watch_revocations(
        &self,
        request: Request<WatchRevocationsRequest>,
    ) -> Result<Response<Self::WatchRevocationsStream>, Status> {
        let header = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        let credential = header.and_then(|header| header.strip_prefix("Bearer ")).unwrap_or_default();
        let claims = token::verify(&self.keys, &self.names, credential, self.clock.now());
        if !claims.is_ok_and(|claims| claims.roles == [ROLE_VERIFIER]) {
            return Err(Status::permission_denied("not a verifier"));
        }
        let (sender, receiver) = mpsc::channel(8);
        tokio::spawn(tell(self.said.clone(), sender));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

/// Begins with a snapshot, and then repeats everything in each update, which a verifier must accept.
async fn tell(mut said: watch::Receiver<Said>, sender: mpsc::Sender<Result<WatchRevocationsResponse, Status>>) {
    let mut is_begun = false;
    loop {
        let Said { speaks, revoked, deleted } = said.borrow_and_update().clone();
        if speaks {
            let revoked_session_ids = revoked.iter().map(Uuid::to_string).collect();
            let last_deletion_sequence = i64::try_from(deleted.len()).expect("few");
            let events = if is_begun {
                vec![Event::Update(Update { revoked_session_ids, last_deletion_sequence })]
            } else {
                let end = SnapshotEnd { last_deletion_sequence, ..SnapshotEnd::default() };
                vec![Event::SnapshotChunk(SnapshotChunk { revoked_session_ids }), Event::SnapshotEnd(end)]
            };
            for event in events {
                let message = WatchRevocationsResponse { event: Some(event), ..Default::default() };
                if sender.send(Ok(message)).await.is_err() {
                    return;
                }
            }
            is_begun = true;
        }
        tokio::select! {
            () = sender.closed() => return,
            changed = timeout(HEARTBEAT, said.changed()) => if let Ok(Err(_)) = changed { return },
        }
    }
}
