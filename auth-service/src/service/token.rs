//! `taskey.auth.v1.TokenService`: for the services that verify tokens.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures::{Stream, StreamExt, TryStreamExt, stream};
use service_kit::{keys::KeySet, revocation::Freshness, status::Refusal, token::Grant};
use taskey_proto::{
    auth::v1::{
        self as pb, AcknowledgeRevocationsRequest, AcknowledgeRevocationsResponse, GetJwksRequest, IntrospectRequest,
        IntrospectResponse, JwkSet, ListDeletedUsersRequest, ListDeletedUsersResponse, WatchRevocationsRequest,
        WatchRevocationsResponse,
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
    feed::{News, Snapshot},
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
        Ok(Response::new(self.app.keys.current().map(|keys| keys.public()).unwrap_or_default()))
    }

    async fn introspect(&self, request: Request<IntrospectRequest>) -> Result<Response<IntrospectResponse>, Status> {
        self.app.verifier(request.metadata()).await?;
        let token = request::introspected(request.into_inner())?;
        let grant = match self.app.authenticator.grant(&token) {
            Ok(grant) => self.live(grant).await?,
            Err(refusal) if refusal.code() == Code::Unauthenticated => None,
            Err(refusal) => return Err(refusal.into()),
        };
        Ok(Response::new(grant.map_or_else(IntrospectResponse::default, |grant| self.introspection(grant))))
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
            let refusal = Refusal::new(Code::Unavailable, ErrorReason::VerifierNotReady, message);
            return Err(refusal.retry_after(Duration::from_secs(1)).into());
        }
        Ok(Response::new(self.watch(verifier)))
    }

    async fn acknowledge_revocations(
        &self,
        request: Request<AcknowledgeRevocationsRequest>,
    ) -> Result<Response<AcknowledgeRevocationsResponse>, Status> {
        self.app.verifier(request.metadata()).await?;
        let AcknowledgeRevocationsRequest { watch_id, place } = request.into_inner();
        self.app.feed.acknowledge(request::id("watch_id", &watch_id)?, place);
        Ok(Response::new(AcknowledgeRevocationsResponse {}))
    }

    async fn list_deleted_users(
        &self,
        request: Request<ListDeletedUsersRequest>,
    ) -> Result<Response<ListDeletedUsersResponse>, Status> {
        self.app.verifier(request.metadata()).await?;
        let (after, size) = request::deletions(request.get_ref())?;
        let (page, last) = deletions::list_after(&self.app.db, after, size).await.map_err(Refusal::from)?;
        let place = page.last().map_or(last, |deleted| deleted.sequence);
        let user_ids = page.into_iter().map(|deleted| deleted.user_id.to_string()).collect();
        Ok(Response::new(ListDeletedUsersResponse { user_ids, place }))
    }
}

impl TokenService {
    /// The keys for verifiers that have no others.
    fn public_keys(&self) -> JwkSet {
        self.app.keys.current().map(|keys| keys.sufficient_public()).unwrap_or_default()
    }

    /// What was granted, if the session lives in the database: what this replica has heard may be half a second old.
    async fn live(&self, grant: Grant) -> Result<Option<Grant>, Refusal> {
        let session = sessions::by_id(&self.app.db, grant.session_id).await?;
        let lives = session.is_some_and(|session| session.user_id == grant.user_id && session.revoked_at.is_none());
        Ok(lives.then_some(grant))
    }

    fn introspection(&self, grant: Grant) -> IntrospectResponse {
        let seconds = |seconds: i64| u32::try_from(seconds).ok();
        IntrospectResponse {
            active: true,
            sub: Some(grant.user_id.to_string()),
            sid: Some(grant.session_id.to_string()),
            jti: Some(grant.id.to_string()),
            iss: Some(self.app.tokens.issuer.clone()),
            aud: Some(self.app.tokens.audience.clone()),
            iat: seconds(grant.issued_at.as_seconds()),
            exp: seconds(grant.expires_at.as_seconds()),
            roles: grant.roles,
            token_type: Some("Bearer".to_owned()),
        }
    }

    /// What a verifier hears, until its token is no longer good.
    fn watch(&self, verifier: Verifier) -> <Self as pb::token_service_server::TokenService>::WatchRevocationsStream {
        let app = Arc::clone(&self.app);
        // Whatever changes from here on is news.
        let keys = WatchStream::from_changes(app.keys.subscribe());
        let (known, news, watching) = app.feed.watch(app.clock.new_id());
        let first = snapshot(known, self.public_keys()).map(Ok);
        let then = stream::select(updates(news), keys.filter_map(async |keys| keys).map(|keys| Ok(new_keys(&keys))));
        let ended = async move { Err(Status::from(app.verifier_ended(verifier).await)) };
        let heard = first.chain(then).map_ok(move |message| {
            // The watch lasts as long as the stream.
            WatchRevocationsResponse { watch_id: watching.id().to_string(), ..message }
        });
        stream::select(heard, stream::once(ended)).boxed()
    }
}

/// The snapshot in messages, each made when it is sent, of which only the last, which names no session, completes it.
fn snapshot(known: Snapshot, keys: JwkSet) -> impl Stream<Item = WatchRevocationsResponse> + Send + 'static {
    let last = WatchRevocationsResponse {
        snapshot_complete: true,
        place: known.place,
        deletion_place: known.deletions,
        public_keys: Some(keys),
        issued_before: known.issued_before.map(Into::into),
        ..WatchRevocationsResponse::default()
    };
    let chunks = known.revoked.len().div_ceil(CHUNK);
    let parts = (0..chunks).map(move |index| {
        let from = index * CHUNK;
        message(&known.revoked[from..known.revoked.len().min(from + CHUNK)], 0, 0)
    });
    stream::iter(parts.chain([last]))
}

/// What happens from then on. Who reads too slowly to keep up is cut off: with a gap the verifier would accept what it
/// must refuse.
fn updates(
    news: broadcast::Receiver<News>,
) -> impl Stream<Item = Result<WatchRevocationsResponse, Status>> + Send + 'static {
    let too_slow = |_| {
        let message = "revocations were read too slowly; start over with a snapshot";
        let refusal = Refusal::new(Code::ResourceExhausted, ErrorReason::Overloaded, message);
        Status::from(refusal.retry_after(Duration::from_secs(1)))
    };
    let told = |news: News| message(&news.revoked, news.place, news.deletions);
    BroadcastStream::new(news).map(move |news| news.map(told).map_err(too_slow))
}

fn new_keys(keys: &KeySet) -> WatchRevocationsResponse {
    WatchRevocationsResponse { public_keys: Some(keys.sufficient_public()), ..WatchRevocationsResponse::default() }
}

fn message(revoked: &[Uuid], place: i64, deletion_place: i64) -> WatchRevocationsResponse {
    let revoked_session_ids = revoked.iter().map(Uuid::to_string).collect();
    WatchRevocationsResponse { revoked_session_ids, place, deletion_place, ..WatchRevocationsResponse::default() }
}
