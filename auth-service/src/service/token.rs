//! `taskey.auth.v1.TokenService`: keys, revocations and introspection for the services that verify tokens.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures::{Stream, StreamExt, TryStreamExt, stream};
use service_kit::{
    auth::{
        claims::{AccessClaims, LEEWAY},
        personal_access_token::Exchange,
    },
    status::ApiError,
};
use taskey_proto::{
    auth::v1::{
        self as pb, AcknowledgeRevocationsRequest, AcknowledgeRevocationsResponse, Actor,
        ExchangePersonalAccessTokenRequest, ExchangePersonalAccessTokenResponse, GetJwksRequest, IntrospectRequest,
        IntrospectResponse, JwkSet, ListDeletedUsersRequest, ListDeletedUsersResponse, ListUserChangesRequest,
        ListUserChangesResponse, WatchRevocationsRequest, WatchRevocationsResponse,
        watch_revocations_response::{Event, Heartbeat, SnapshotChunk, SnapshotEnd, Update},
    },
    errors::v1::ErrorReason,
};
use tokio::sync::broadcast;
use tokio_stream::wrappers::{BroadcastStream, WatchStream};
use tonic::{Code, Request, Response, Status};
use uuid::Uuid;

use super::{personal_access_token_request::exchange, request};
use crate::{
    app::App,
    error,
    feed::{FeedUpdate, Snapshot},
    model::service_account::roles,
    response,
    store::{
        feed::FeedPosition,
        service_accounts, user_changes,
        users::{self, SessionUser},
    },
    verifier::Verifier,
};

/// Maximum number of sessions in one message of the snapshot.
const CHUNK_SIZE: usize = 1000;

/// The stream of a verifier.
type RevocationStream = Pin<Box<dyn Stream<Item = Result<WatchRevocationsResponse, Status>> + Send>>;

/// The implementation of the service.
pub struct TokenService {
    pub(crate) app: Arc<App>,
}

#[tonic::async_trait]
impl pb::token_service_server::TokenService for TokenService {
    async fn get_jwks(&self, _: Request<GetJwksRequest>) -> Result<Response<JwkSet>, Status> {
        Ok(Response::new(self.app.issuer.keys.current().map(|keys| keys.public()).unwrap_or_default()))
    }

    async fn introspect(&self, request: Request<IntrospectRequest>) -> Result<Response<IntrospectResponse>, Status> {
        self.app.authenticate_verifier(&request).await?;
        let audience = request.get_ref().audience.clone();
        let token = request::introspection_token(request.into_inner())?;
        let oauth = &self.app.oauth;
        let expected = if audience.is_empty() { oauth.audiences.own() } else { &audience };
        let claims = match oauth.authenticator.verify_with_audience(&token) {
            Ok((claims, audience)) if audience == expected => self.check_session(claims).await?,
            Ok(_) => None,
            Err(error) if error.code() == Code::Unauthenticated => None,
            Err(error) => return Err(error.into()),
        };
        Ok(Response::new(
            claims.map_or_else(IntrospectResponse::default, |claims| self.introspection(claims, expected)),
        ))
    }

    type WatchRevocationsStream = RevocationStream;

    async fn watch_revocations(
        &self,
        request: Request<WatchRevocationsRequest>,
    ) -> Result<Response<Self::WatchRevocationsStream>, Status> {
        let verifier = self.app.authenticate_verifier(&request).await?;
        Ok(Response::new(self.watch(verifier)?))
    }

    async fn acknowledge_revocations(
        &self,
        request: Request<AcknowledgeRevocationsRequest>,
    ) -> Result<Response<AcknowledgeRevocationsResponse>, Status> {
        self.app.authenticate_verifier(&request).await?;
        let AcknowledgeRevocationsRequest { watch_id, sequence } = request.into_inner();
        self.app.feed.acknowledge(request::id("watch_id", &watch_id)?, sequence);
        Ok(Response::new(AcknowledgeRevocationsResponse {}))
    }

    async fn exchange_personal_access_token(
        &self,
        request: Request<ExchangePersonalAccessTokenRequest>,
    ) -> Result<Response<ExchangePersonalAccessTokenResponse>, Status> {
        self.app.authenticate_verifier(&request).await?;
        let (token, client) = exchange(request.into_inner())?;
        let exchanged = self.app.token_exchange.exchange(&token, client).await?;
        let exchanged = exchanged.ok_or_else(error::personal_access_token_not_found)?;
        Ok(Response::new(response::exchanged(exchanged, self.app.clock.now())))
    }

    async fn list_deleted_users(
        &self,
        request: Request<ListDeletedUsersRequest>,
    ) -> Result<Response<ListDeletedUsersResponse>, Status> {
        self.app.authenticate_verifier(&request).await?;
        let ListDeletedUsersRequest { after, page_size } = request.into_inner();
        let (after, size) = request::user_changes(after, page_size)?;
        let page = user_changes::list_deletions_after(&self.app.db, after, size).await.map_err(ApiError::from)?;
        let user_ids = page.changes.into_iter().map(|change| change.user_id.to_string()).collect();
        Ok(Response::new(ListDeletedUsersResponse { user_ids, sequence: page.sequence }))
    }

    async fn list_user_changes(
        &self,
        request: Request<ListUserChangesRequest>,
    ) -> Result<Response<ListUserChangesResponse>, Status> {
        self.app.authenticate_verifier(&request).await?;
        let ListUserChangesRequest { after, page_size } = request.into_inner();
        let (after, size) = request::user_changes(after, page_size)?;
        let page = user_changes::list_after(&self.app.db, after, size).await.map_err(ApiError::from)?;
        let changes = page.changes.into_iter().map(response::user_change).collect();
        Ok(Response::new(ListUserChangesResponse { changes, sequence: page.sequence }))
    }
}

impl TokenService {
    /// Returns the public keys for verifiers that have no other keys.
    fn public_keys(&self) -> JwkSet {
        self.app.issuer.keys.current().map(|keys| keys.public_if_complete()).unwrap_or_default()
    }

    /// Returns the claims if the sessions of the account and of its actors are active, and the account has the roles. Reads the
    /// database, because the revocations of this replica may be half a second old, and every holder of a shared key can sign
    /// any claim.
    async fn check_session(&self, claims: AccessClaims) -> Result<Option<AccessClaims>, ApiError> {
        let App { db, clock, .. } = &*self.app;
        let (valid_at, id) = (clock.now() - LEEWAY, claims.user_id);
        let user = users::by_active_session(db, valid_at, id, claims.session_id, false).await?;
        let roles = match user {
            Some(SessionUser { user, .. }) => Some(user.roles()),
            None => service_accounts::by_active_session(db, valid_at, id, claims.session_id).await?.map(roles),
        };
        let has_roles = roles.is_some_and(|roles| claims.roles.iter().all(|role| roles.contains(role)));
        let is_active = has_roles && service_accounts::have_active_sessions(db, valid_at, &claims.actors).await?;
        Ok(is_active.then_some(claims))
    }

    fn introspection(&self, claims: AccessClaims, audience: &str) -> IntrospectResponse {
        let seconds = |seconds: i64| u32::try_from(seconds).ok();
        IntrospectResponse {
            active: true,
            sub: Some(claims.user_id.to_string()),
            sid: Some(claims.session_id.to_string()),
            jti: Some(claims.id.to_string()),
            iss: Some(self.app.issuer.token_args.issuer.clone()),
            aud: Some(audience.to_owned()),
            iat: seconds(claims.issued_at.as_seconds()),
            exp: seconds(claims.expires_at.as_seconds()),
            roles: claims.roles,
            scope: claims.scopes.map(|scopes| scopes.to_string()),
            amr: claims.authentication.map(|authentication| authentication.methods.names()).unwrap_or_default(),
            auth_time: claims.authentication.and_then(|authentication| seconds(authentication.time.as_seconds())),
            act: claims.actors.first().map(|actor| Actor { sub: actor.id.to_string() }),
            token_type: Some("Bearer".to_owned()),
        }
    }

    /// Returns the stream of a verifier, which ends when its token is no longer valid, or the database loses history.
    ///
    /// # Errors
    /// UNAVAILABLE / VERIFIER_NOT_READY while this replica may lack revocations.
    fn watch(&self, verifier: Verifier) -> Result<RevocationStream, ApiError> {
        let app = Arc::clone(&self.app);
        // Subscribes before the current keys are read, so that no change is missed.
        let keys = WatchStream::from_changes(app.issuer.keys.subscribe());
        let message = "this replica cannot read its revocations at the moment";
        let (snapshot, feed_updates, guard) = app.feed.watch(app.clock.new_id()).ok_or_else(|| not_ready(message))?;
        let (mut sequence, clock) = (snapshot.position.sequence, app.clock.clone());
        let epoch = snapshot.position.epoch.map(|epoch| epoch.to_string()).unwrap_or_default();
        let keys = keys.filter_map(async |keys| keys).map(|keys| Ok((None, Event::Keys(keys.public_if_complete()))));
        let later = stream::select(update_events(feed_updates, snapshot.position), keys);
        let first = snapshot_events(snapshot, self.public_keys()).map(|event| Ok((None, event)));
        let end = async move { Err(Status::from(app.verifier_invalidated(verifier).await)) };
        let messages = first.chain(later).map_ok(move |(event_sequence, event): (Option<i64>, Event)| {
            sequence = event_sequence.map_or(sequence, |event_sequence| event_sequence.max(sequence));
            // The stream owns the guard, so the watcher is registered as long as the stream exists.
            let watch_id = guard.id().to_string();
            let send_time = Some(clock.now().into());
            WatchRevocationsResponse { watch_id, epoch: epoch.clone(), sequence, send_time, event: Some(event) }
        });
        Ok(stream::select(messages, stream::once(end)).boxed())
    }
}

/// Returns the events of the snapshot. Each is created when it is sent.
fn snapshot_events(snapshot: Snapshot, keys: JwkSet) -> impl Stream<Item = Event> + Send + 'static {
    let end = SnapshotEnd {
        keys: Some(keys),
        issued_before: snapshot.issued_before.map(Into::into),
        last_deletion_sequence: snapshot.position.last_deletion,
    };
    let chunk_count = snapshot.revoked.len().div_ceil(CHUNK_SIZE);
    let chunks = (0..chunk_count).map(move |index| {
        let start = index * CHUNK_SIZE;
        let revoked_session_ids = to_strings(&snapshot.revoked[start..snapshot.revoked.len().min(start + CHUNK_SIZE)]);
        Event::SnapshotChunk(SnapshotChunk { revoked_session_ids })
    });
    stream::iter(chunks.chain([Event::SnapshotEnd(end)]))
}

/// Returns the events after the snapshot, each with its sequence number. A watcher that reads too slowly is
/// disconnected, because a verifier that misses updates would accept revoked tokens. So are all watchers when a new epoch
/// starts, because updates of the old one may be missing.
fn update_events(
    feed_updates: broadcast::Receiver<FeedUpdate>,
    start: FeedPosition,
) -> impl Stream<Item = Result<(Option<i64>, Event), Status>> + Send + 'static {
    let too_slow = |_| {
        let message = "revocations were read too slowly; start over with a snapshot";
        let error = ApiError::new(Code::ResourceExhausted, ErrorReason::Overloaded, message);
        Status::from(error.retry_after(Duration::from_secs(1)))
    };
    let mut last_deletion = start.last_deletion;
    BroadcastStream::new(feed_updates).map(move |update| {
        let FeedUpdate { revoked, position } = update.map_err(too_slow)?;
        if position.epoch != start.epoch {
            return Err(not_ready("the database has lost revocations; start over with a snapshot").into());
        }
        let is_heartbeat = revoked.is_empty() && position.last_deletion == last_deletion;
        last_deletion = position.last_deletion;
        let event = if is_heartbeat {
            Event::Heartbeat(Heartbeat {})
        } else {
            Event::Update(Update { revoked_session_ids: to_strings(&revoked), last_deletion_sequence: last_deletion })
        };
        Ok((Some(position.sequence), event))
    })
}

fn not_ready(message: &'static str) -> ApiError {
    ApiError::new(Code::Unavailable, ErrorReason::VerifierNotReady, message).retry_after(Duration::from_secs(1))
}

fn to_strings(ids: &[Uuid]) -> Vec<String> {
    ids.iter().map(Uuid::to_string).collect()
}
