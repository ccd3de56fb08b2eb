//! `taskey.auth.v1.TokenService`: for the services that verify tokens.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures::{Stream, StreamExt, TryStreamExt, stream};
use service_kit::{interceptor::ROLE_VERIFIER, revocation::Freshness, status::Refusal};
use taskey_proto::{
    auth::v1::{
        self as pb, AcknowledgeRevocationsRequest, AcknowledgeRevocationsResponse, GetJwksRequest, JwkSet,
        WatchRevocationsRequest, WatchRevocationsResponse,
    },
    errors::v1::ErrorReason,
};
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;
use tonic::{Code, Request, Response, Status};
use uuid::Uuid;

use super::request;
use crate::{app::App, feed::News};

/// How many sessions one message of the snapshot names.
const CHUNK: usize = 1000;

/// The service.
pub struct TokenService {
    pub(crate) app: Arc<App>,
}

#[tonic::async_trait]
impl pb::token_service_server::TokenService for TokenService {
    async fn get_jwks(&self, _: Request<GetJwksRequest>) -> Result<Response<JwkSet>, Status> {
        Ok(Response::new(self.app.keys.current().public()))
    }

    type WatchRevocationsStream = Pin<Box<dyn Stream<Item = Result<WatchRevocationsResponse, Status>> + Send>>;

    async fn watch_revocations(
        &self,
        request: Request<WatchRevocationsRequest>,
    ) -> Result<Response<Self::WatchRevocationsStream>, Status> {
        self.app.authenticator.authenticate(request.metadata())?.require_role(ROLE_VERIFIER)?;
        // A replica that cannot read its database would pass on what it knew, and keep its verifiers in good faith.
        if self.app.feed.view().freshness() != Freshness::Fresh {
            let message = "this replica cannot read its revocations at the moment";
            let refusal = Refusal::new(Code::Unavailable, ErrorReason::VerifierNotReady, message);
            return Err(refusal.retry_after(Duration::from_secs(1)).into());
        }
        let (known, news, watching) = self.app.feed.watch(self.app.clock.new_id());
        let messages = stream::iter(snapshot(&known)).map(Ok).chain(updates(news));
        // The watch lasts as long as the stream.
        let messages =
            messages.map_ok(move |message| WatchRevocationsResponse { watch_id: watching.id().to_string(), ..message });
        Ok(Response::new(messages.boxed()))
    }

    async fn acknowledge_revocations(
        &self,
        request: Request<AcknowledgeRevocationsRequest>,
    ) -> Result<Response<AcknowledgeRevocationsResponse>, Status> {
        self.app.authenticator.authenticate(request.metadata())?.require_role(ROLE_VERIFIER)?;
        let AcknowledgeRevocationsRequest { watch_id, place } = request.into_inner();
        self.app.feed.acknowledge(request::id("watch_id", &watch_id)?, place);
        Ok(Response::new(AcknowledgeRevocationsResponse {}))
    }
}

/// The snapshot in messages of which only the last, which may be empty, completes it.
fn snapshot(known: &News) -> Vec<WatchRevocationsResponse> {
    let parts = known.revoked.chunks(CHUNK).map(|part| message(part, 0, false));
    parts.chain([message(&[], known.place, true)]).collect()
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
    let told = |news: News| message(&news.revoked, news.place, false);
    BroadcastStream::new(news).map(move |news| news.map(told).map_err(too_slow))
}

fn message(revoked: &[Uuid], place: i64, snapshot_complete: bool) -> WatchRevocationsResponse {
    let revoked_session_ids = revoked.iter().map(Uuid::to_string).collect();
    WatchRevocationsResponse { revoked_session_ids, snapshot_complete, place, ..WatchRevocationsResponse::default() }
}
