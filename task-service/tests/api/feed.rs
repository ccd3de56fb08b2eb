//! A fake auth-service with only a revocation feed, which the test controls.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
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
    ListDeletedUsersRequest, ListDeletedUsersResponse, ListUserChangesRequest, ListUserChangesResponse, UserChange,
    WatchRevocationsRequest, WatchRevocationsResponse,
    token_service_server::{TokenService, TokenServiceServer},
    user_change::State,
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
    users: SharedUserList,
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
}

/// The list of changed accounts, which replicas share.
pub(crate) type SharedUserList = watch::Sender<UserList>;

/// The last changes of accounts.
#[derive(Clone, Debug, Default)]
pub(crate) struct UserList {
    /// The sequence number of the last change.
    last: i64,
    /// The changes by their sequence numbers.
    changes: BTreeMap<i64, (Uuid, State)>,
}

impl UserList {
    fn add(&mut self, state: State, users: impl IntoIterator<Item = Uuid>) {
        for user in users {
            self.changes.retain(|_, (changed, _)| *changed != user);
            self.last += 1;
            self.changes.insert(self.last, (user, state));
        }
    }
}

impl Feed {
    /// Starts a feed that accepts verifier tokens signed with `keys`.
    pub(crate) async fn start(
        keys: Arc<KeySet>,
        token_args: TokenArgs,
        clock: Clock,
        is_sending: bool,
        users: SharedUserList,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a free port");
        let address = listener.local_addr().expect("the listener has an address");
        let state = watch::Sender::new(FeedState { is_sending, revoked: HashSet::new() });
        let (requested_cursors, personal_access_tokens) = (Arc::default(), Arc::default());
        let service = TokenServiceServer::new(FakeAuth {
            keys,
            token_args,
            clock,
            state: state.subscribe(),
            users: users.clone(),
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
        Self { address, state, users, requested_cursors, personal_access_tokens, _server: shutdown.drop_guard() }
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

    /// Returns the list of changed accounts.
    pub(crate) fn users(&self) -> SharedUserList {
        self.users.clone()
    }

    /// Appends the deletion of these accounts to the list.
    pub(crate) fn delete(&self, users: impl IntoIterator<Item = Uuid>) {
        self.users.send_modify(|list| list.add(State::Deleted, users));
    }

    /// Appends to the list that these accounts were disabled.
    pub(crate) fn disable(&self, users: impl IntoIterator<Item = Uuid>) {
        self.users.send_modify(|list| list.add(State::Disabled, users));
    }

    /// Appends to the list that these accounts were enabled.
    pub(crate) fn enable(&self, users: impl IntoIterator<Item = Uuid>) {
        self.users.send_modify(|list| list.add(State::Enabled, users));
    }

    /// Replaces the list by an older one, in which only these accounts were deleted.
    pub(crate) fn restore(&self, deleted: impl IntoIterator<Item = Uuid>) {
        let mut list = UserList::default();
        list.add(State::Deleted, deleted);
        self.users.send_replace(list);
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

    /// Returns the `after` of every `ListUserChanges` request.
    pub(crate) fn requested_cursors(&self) -> Vec<i64> {
        self.requested_cursors.lock().expect("no panic").clone()
    }
}

struct FakeAuth {
    keys: Arc<KeySet>,
    token_args: TokenArgs,
    clock: Clock,
    state: watch::Receiver<FeedState>,
    users: SharedUserList,
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
        _: Request<ListDeletedUsersRequest>,
    ) -> Result<Response<ListDeletedUsersResponse>, Status> {
        Err(Status::unimplemented("only earlier versions list deletions alone"))
    }

    async fn list_user_changes(
        &self,
        request: Request<ListUserChangesRequest>,
    ) -> Result<Response<ListUserChangesResponse>, Status> {
        let ListUserChangesRequest { after, page_size } = request.into_inner();
        self.requested_cursors.lock().expect("no panic").push(after);
        let UserList { last, changes } = self.users.borrow().clone();
        let start = if after > last { 1 } else { after + 1 };
        let size = usize::try_from(page_size).expect("not negative");
        let page: Vec<_> = changes.range(start..).take(size).collect();
        let sequence = page.last().map_or(last, |(sequence, _)| **sequence);
        let change =
            |(_, (user, state)): (_, &(Uuid, State))| UserChange { user_id: user.to_string(), state: (*state).into() };
        let changes = page.into_iter().map(change).collect();
        Ok(Response::new(ListUserChangesResponse { changes, sequence }))
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
        tokio::spawn(send_events(self.state.clone(), self.users.subscribe(), sender));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

/// Sends a snapshot, and then the full state in each update, which a verifier must accept.
async fn send_events(
    mut state: watch::Receiver<FeedState>,
    mut users: watch::Receiver<UserList>,
    sender: mpsc::Sender<Result<WatchRevocationsResponse, Status>>,
) {
    let mut has_sent_snapshot = false;
    loop {
        let FeedState { is_sending, revoked } = state.borrow_and_update().clone();
        let last_deletion_sequence = users.borrow_and_update().last;
        if is_sending {
            let revoked_session_ids = revoked.iter().map(Uuid::to_string).collect();
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
            _ = users.changed() => {}
            changed = timeout(HEARTBEAT, state.changed()) => if let Ok(Err(_)) = changed { return },
        }
    }
}
