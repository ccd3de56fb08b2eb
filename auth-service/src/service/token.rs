//! `taskey.auth.v1.TokenService`: for the services that verify tokens.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures::{Stream, StreamExt, TryStreamExt, stream};
use service_kit::{
    auth::{claims::AccessClaims, revocation::Freshness},
    status::ApiError,
};
use taskey_proto::{
    auth::v1::{
        self as pb, AcknowledgeRevocationsRequest, AcknowledgeRevocationsResponse, GetJwksRequest, IntrospectRequest,
        IntrospectResponse, JwkSet, ListDeletedUsersRequest, ListDeletedUsersResponse, WatchRevocationsRequest,
        WatchRevocationsResponse,
        watch_revocations_response::{Event, Heartbeat, SnapshotChunk, SnapshotEnd, Update},
    },
    errors::v1::ErrorReason,
};
use tokio::sync::broadcast;
use tokio_stream::wrappers::{BroadcastStream, WatchStream};
use tonic::{Code, Request, Response, Status};
use uuid::Uuid;

use super::request;
use crate::{
    app::App,
    feed::{FeedUpdate, Snapshot},
    store::{deletions, sessions},
    verifier::Verifier,
};

/// How many sessions one message of the snapshot names.
const CHUNK: usize = 1000;

/// The service.
pub struct TokenService {
    pub(crate) app: Arc<App>,
}

#[tonic::async_trait]
impl pb::token_service_server::TokenService for TokenService {
    async fn get_jwks(&self, _: Request<GetJwksRequest>) -> Result<Response<JwkSet>, Status> {
        Ok(Response::new(self.app.issuer.keys.current().map(|keys| keys.public()).unwrap_or_default()))
    }

    async fn introspect(&self, request: Request<IntrospectRequest>) -> Result<Response<IntrospectResponse>, Status> {
        self.app.verifier(request.metadata()).await?;
        let token = request::introspected(request.into_inner())?;
        let claims = match self.app.authenticator.verify(&token) {
            Ok(claims) => self.live(claims).await?,
            Err(error) if error.code() == Code::Unauthenticated => None,
            Err(error) => return Err(error.into()),
        };
        Ok(Response::new(claims.map_or_else(IntrospectResponse::default, |claims| self.introspection(claims))))
    }

    type WatchRevocationsStream = Pin<Box<dyn Stream<Item = Result<WatchRevocationsResponse, Status>> + Send>>;

    async fn watch_revocations(
        &self,
        request: Request<WatchRevocationsRequest>,
    ) -> Result<Response<Self::WatchRevocationsStream>, Status> {
        let verifier = self.app.verifier(request.metadata()).await?;
        // A replica that cannot read its database would pass on what it knew, and keep its verifiers in good faith.
        if self.app.feed.view().freshness() != Freshness::Fresh {
            let message = "this replica cannot read its revocations at the moment";
            let error = ApiError::new(Code::Unavailable, ErrorReason::VerifierNotReady, message);
            return Err(error.retry_after(Duration::from_secs(1)).into());
        }
        Ok(Response::new(self.watch(verifier)))
    }

    async fn acknowledge_revocations(
        &self,
        request: Request<AcknowledgeRevocationsRequest>,
    ) -> Result<Response<AcknowledgeRevocationsResponse>, Status> {
        self.app.verifier(request.metadata()).await?;
        let AcknowledgeRevocationsRequest { watch_id, sequence } = request.into_inner();
        self.app.feed.acknowledge(request::id("watch_id", &watch_id)?, sequence);
        Ok(Response::new(AcknowledgeRevocationsResponse {}))
    }

    async fn list_deleted_users(
        &self,
        request: Request<ListDeletedUsersRequest>,
    ) -> Result<Response<ListDeletedUsersResponse>, Status> {
        self.app.verifier(request.metadata()).await?;
        let (after, size) = request::deletions(request.get_ref())?;
        let (page, last) = deletions::list_after(&self.app.db, after, size).await.map_err(ApiError::from)?;
        let sequence = page.last().map_or(last, |deleted| deleted.sequence);
        let user_ids = page.into_iter().map(|deleted| deleted.user_id.to_string()).collect();
        Ok(Response::new(ListDeletedUsersResponse { user_ids, sequence }))
    }
}

impl TokenService {
    /// The keys for verifiers that have no others.
    fn public_keys(&self) -> JwkSet {
        self.app.issuer.keys.current().map(|keys| keys.public_if_complete()).unwrap_or_default()
    }

    /// Returns the claims if the session is active in the database: the revocations of this replica may be half a
    /// second old.
    async fn live(&self, claims: AccessClaims) -> Result<Option<AccessClaims>, ApiError> {
        let session = sessions::by_id(&self.app.db, claims.session_id).await?;
        let lives = session.is_some_and(|session| session.user_id == claims.user_id && session.revoked_at.is_none());
        Ok(lives.then_some(claims))
    }

    fn introspection(&self, claims: AccessClaims) -> IntrospectResponse {
        let seconds = |seconds: i64| u32::try_from(seconds).ok();
        IntrospectResponse {
            active: true,
            sub: Some(claims.user_id.to_string()),
            sid: Some(claims.session_id.to_string()),
            jti: Some(claims.id.to_string()),
            iss: Some(self.app.issuer.claims.issuer.clone()),
            aud: Some(self.app.issuer.claims.audience.clone()),
            iat: seconds(claims.issued_at.as_seconds()),
            exp: seconds(claims.expires_at.as_seconds()),
            roles: claims.roles,
            token_type: Some("Bearer".to_owned()),
        }
    }

    /// Returns the stream of a verifier, which ends when its token is no longer valid.
    fn watch(&self, verifier: Verifier) -> <Self as pb::token_service_server::TokenService>::WatchRevocationsStream {
        let app = Arc::clone(&self.app);
        // Changes from here on are sent after the snapshot.
        let keys = WatchStream::from_changes(app.issuer.keys.subscribe());
        let (known, feed_updates, watching) = app.feed.watch(app.clock.new_id());
        let (epoch, mut sequence) = (known.epoch.to_string(), known.sequence);
        let keys = keys.filter_map(async |keys| keys).map(|keys| Ok((None, Event::Keys(keys.public_if_complete()))));
        let then = stream::select(updates(feed_updates, known.last_deletion), keys);
        let first = snapshot(known, self.public_keys()).map(|event| Ok((None, event)));
        let ended = async move { Err(Status::from(app.verifier_ended(verifier).await)) };
        let messages = first.chain(then).map_ok(move |(reached, event): (Option<i64>, Event)| {
            sequence = reached.map_or(sequence, |reached| reached.max(sequence));
            // The watch lasts as long as the stream.
            let watch_id = watching.id().to_string();
            WatchRevocationsResponse { watch_id, epoch: epoch.clone(), sequence, event: Some(event) }
        });
        stream::select(messages, stream::once(ended)).boxed()
    }
}

/// Returns the events of the snapshot. Each is made when it is sent.
fn snapshot(known: Snapshot, keys: JwkSet) -> impl Stream<Item = Event> + Send + 'static {
    let end = SnapshotEnd {
        keys: Some(keys),
        issued_before: known.issued_before.map(Into::into),
        last_deletion_sequence: known.last_deletion,
    };
    let chunks = known.revoked.len().div_ceil(CHUNK);
    let chunks = (0..chunks).map(move |index| {
        let from = index * CHUNK;
        let revoked_session_ids = texts(&known.revoked[from..known.revoked.len().min(from + CHUNK)]);
        Event::SnapshotChunk(SnapshotChunk { revoked_session_ids })
    });
    stream::iter(chunks.chain([Event::SnapshotEnd(end)]))
}

/// Returns the events after the snapshot, each with its sequence number. A watcher that reads too slowly is cut off:
/// with a gap the verifier would accept revoked tokens.
fn updates(
    feed_updates: broadcast::Receiver<FeedUpdate>,
    mut last_deletion: i64,
) -> impl Stream<Item = Result<(Option<i64>, Event), Status>> + Send + 'static {
    let too_slow = |_| {
        let message = "revocations were read too slowly; start over with a snapshot";
        let error = ApiError::new(Code::ResourceExhausted, ErrorReason::Overloaded, message);
        Status::from(error.retry_after(Duration::from_secs(1)))
    };
    BroadcastStream::new(feed_updates).map(move |update| {
        let update = update.map_err(too_slow)?;
        let is_heartbeat = update.revoked.is_empty() && update.last_deletion == last_deletion;
        last_deletion = update.last_deletion;
        let event = if is_heartbeat {
            Event::Heartbeat(Heartbeat {})
        } else {
            let revoked_session_ids = texts(&update.revoked);
            Event::Update(Update { revoked_session_ids, last_deletion_sequence: last_deletion })
        };
        Ok((Some(update.sequence), event))
    })
}

fn texts(ids: &[Uuid]) -> Vec<String> {
    ids.iter().map(Uuid::to_string).collect()
}
