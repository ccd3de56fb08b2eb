//! A fake auth-service with only a revocation feed, which the test controls.

use std::{
    collections::{HashMap, HashSet},
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
    AcknowledgeRevocationsRequest, AcknowledgeRevocationsResponse, ExchangePersonalAccessTokenRequest,
    ExchangePersonalAccessTokenResponse, GetJwksRequest, IntrospectRequest, IntrospectResponse, JwkSet,
    ListDeletedUsersRequest, ListDeletedUsersResponse, WatchRevocationsRequest, WatchRevocationsResponse,
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

/// Well below the limit of 3 s for heartbeats.
const HEARTBEAT: Duration = Duration::from_millis(200);

/// The running feed. Dropping it stops it.
pub(crate) struct Feed {
    pub(crate) address: SocketAddr,
    state: watch::Sender<FeedState>,
    requested_cursors: Arc<Mutex<Vec<i64>>>,
    personal_access_tokens: Arc<Mutex<PersonalAccessTokens>>,
    _server: DropGuard,
}

#[derive(Default)]
struct PersonalAccessTokens {
    claims: HashMap<String, ExchangePersonalAccessTokenResponse>,
    exchanges: usize,
}

#[derive(Clone)]
struct FeedState {
    /// A feed that does not send still accepts connections.
    is_sending: bool,
    revoked: HashSet<Uuid>,
    /// The deleted accounts, in order of deletion.
    deleted: Vec<Uuid>,
}

impl Feed {
    /// Starts a feed that accepts verifier tokens signed with `keys`.
    pub(crate) async fn start(keys: Arc<KeySet>, token_args: TokenArgs, clock: Clock, is_sending: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a free port");
        let address = listener.local_addr().expect("the listener has an address");
        let state = watch::Sender::new(FeedState { is_sending, revoked: HashSet::new(), deleted: Vec::new() });
        let (requested_cursors, personal_access_tokens) = (Arc::default(), Arc::default());
        let service = TokenServiceServer::new(FakeAuth {
            keys,
            token_args,
            clock,
            state: state.subscribe(),
            requested_cursors: Arc::clone(&requested_cursors),
            personal_access_tokens: Arc::clone(&personal_access_tokens),
        });
        let shutdown = CancellationToken::new();
        let cancelled = shutdown.clone().cancelled_owned();
        tokio::spawn(async move {
            let server = Server::builder().add_service(service);
            tokio::select! {
                served = server.serve_with_incoming(TcpListenerStream::new(listener)) => served.expect("no error"),
                () = cancelled => {}
            }
        });
        Self { address, state, requested_cursors, personal_access_tokens, _server: shutdown.drop_guard() }
    }

    /// Starts or stops sending.
    pub(crate) fn set_sending(&self, is_sending: bool) {
        self.state.send_modify(|state| state.is_sending = is_sending);
    }

    /// Revokes a session.
    pub(crate) fn revoke(&self, session_id: Uuid) {
        self.state.send_modify(|state| {
            state.revoked.insert(session_id);
        });
    }

    /// Appends these accounts to the deleted ones.
    pub(crate) fn delete(&self, users: impl IntoIterator<Item = Uuid>) {
        self.state.send_modify(|state| state.deleted.extend(users));
    }

    /// Sets the claims of a personal access token, or makes it unknown.
    pub(crate) fn set_claims(&self, token: &str, claims: Option<ExchangePersonalAccessTokenResponse>) {
        let all = &mut self.personal_access_tokens.lock().expect("no panic").claims;
        match claims {
            Some(claims) => all.insert(token.to_owned(), claims),
            None => all.remove(token),
        };
    }

    /// Returns how many tokens were exchanged.
    pub(crate) fn exchanges(&self) -> usize {
        self.personal_access_tokens.lock().expect("no panic").exchanges
    }

    /// Returns the `after` of every `ListDeletedUsers` request.
    pub(crate) fn requested_cursors(&self) -> Vec<i64> {
        self.requested_cursors.lock().expect("no panic").clone()
    }
}

struct FakeAuth {
    keys: Arc<KeySet>,
    token_args: TokenArgs,
    clock: Clock,
    state: watch::Receiver<FeedState>,
    requested_cursors: Arc<Mutex<Vec<i64>>>,
    personal_access_tokens: Arc<Mutex<PersonalAccessTokens>>,
}

#[tonic::async_trait]
impl TokenService for FakeAuth {
    type WatchRevocationsStream = ReceiverStream<Result<WatchRevocationsResponse, Status>>;

    async fn get_jwks(&self, _request: Request<GetJwksRequest>) -> Result<Response<JwkSet>, Status> {
        Ok(Response::new(JwkSet::default()))
    }

    async fn introspect(&self, _request: Request<IntrospectRequest>) -> Result<Response<IntrospectResponse>, Status> {
        Err(Status::unimplemented("task-service does not introspect"))
    }

    async fn acknowledge_revocations(
        &self,
        _request: Request<AcknowledgeRevocationsRequest>,
    ) -> Result<Response<AcknowledgeRevocationsResponse>, Status> {
        Ok(Response::new(AcknowledgeRevocationsResponse {}))
    }

    async fn exchange_personal_access_token(
        &self,
        request: Request<ExchangePersonalAccessTokenRequest>,
    ) -> Result<Response<ExchangePersonalAccessTokenResponse>, Status> {
        let mut tokens = self.personal_access_tokens.lock().expect("no panic");
        tokens.exchanges += 1;
        let claims = tokens.claims.get(&request.into_inner().token).cloned();
        claims.map(Response::new).ok_or_else(|| Status::not_found("no token"))
    }

    async fn list_deleted_users(
        &self,
        request: Request<ListDeletedUsersRequest>,
    ) -> Result<Response<ListDeletedUsersResponse>, Status> {
        let ListDeletedUsersRequest { after, page_size } = request.into_inner();
        self.requested_cursors.lock().expect("no panic").push(after);
        let deleted = self.state.borrow().deleted.clone();
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
        let claims = token::verify(&self.keys, &self.token_args, credential, self.clock.now());
        if !claims.is_ok_and(|claims| claims.roles == [ROLE_VERIFIER]) {
            return Err(Status::permission_denied("not a verifier"));
        }
        let (sender, receiver) = mpsc::channel(8);
        tokio::spawn(send_events(self.state.clone(), sender));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

/// Sends a snapshot, and then the full state in each update, which a verifier must accept.
async fn send_events(
    mut state: watch::Receiver<FeedState>,
    sender: mpsc::Sender<Result<WatchRevocationsResponse, Status>>,
) {
    let mut has_sent_snapshot = false;
    loop {
        let FeedState { is_sending, revoked, deleted } = state.borrow_and_update().clone();
        if is_sending {
            let revoked_session_ids = revoked.iter().map(Uuid::to_string).collect();
            let last_deletion_sequence = i64::try_from(deleted.len()).expect("few");
            let events = if has_sent_snapshot {
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
            has_sent_snapshot = true;
        }
        tokio::select! {
            () = sender.closed() => return,
            changed = timeout(HEARTBEAT, state.changed()) => if let Ok(Err(_)) = changed { return },
        }
    }
}
