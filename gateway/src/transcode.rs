//! A request that is for an RPC: its message, the call, and the answer.

use bytes::Bytes;
use http::{Method, Request, Response, request};
use hyper::body::Body as HttpBody;
use prost_reflect::{DescriptorPool, DynamicMessage};
use service_kit::server::request_id::RequestId;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tracing::Span;

use crate::{
    http::{
        call::Call,
        error::HttpError,
        headers,
        negotiation::{self, Framing},
        request::{Format, Input, JsonLimits, format, read_body, to_message},
        response,
    },
    routing::{
        binding::{BodyRule, Route},
        router::{Match, Router},
    },
    semantics::{etag, idempotency, preference},
    session::cookie_mode::{CookieAuth, CookieMode},
    stream,
};

/// Makes calls of requests, by the bindings of the RPCs.
#[derive(Debug)]
pub struct Transcoder {
    /// Knows the types of the details of errors.
    pub pool: DescriptorPool,
    /// The bindings.
    pub router: Router<Route>,
    /// The cookies of browsers.
    pub cookies: CookieMode,
    /// How large and deep a body may be.
    pub json: JsonLimits,
    /// Ends streams.
    pub shutdown: CancellationToken,
}

impl Transcoder {
    /// Answers a request. The answer, or the beginning of a stream, comes by the deadline if the backend minds it.
    ///
    /// # Errors
    /// Why there is no such call, it is not made, or the backend refused it.
    pub async fn answer<B>(
        &self,
        request: Request<B>,
        id: &RequestId,
        deadline: Instant,
    ) -> Result<Response<Body>, HttpError>
    where
        B: HttpBody<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (request, body) = request.into_parts();
        let found = self.router.find(&request.method, request.uri.path()).map_err(HttpError::from)?;
        let route = found.target;
        Span::current().record("rpc", route.rpc.as_str());
        let framing = negotiation::framing(&request.headers, route.streams)?;
        let mut query = request.uri.query().unwrap_or_default().to_owned();
        let mut cookie_auth = self.cookies.cookie_auth(&request, route, &mut query)?;
        let message = self.read(&request, &found, &query, body).await?;
        let metadata = headers::metadata(&request, id, &route.backend);
        let call = Call { request: &request, route, id, deadline, message, metadata };
        match self.call_as(&mut cookie_auth, call, framing).await {
            Ok(response) => Ok(cookie_auth.answered(route, response)),
            Err(error) => Err(cookie_auth.refused(error)),
        }
    }

    /// Calls the service with the access token of the cookies. If it has expired, renews it and calls once more.
    async fn call_as(
        &self,
        cookie_auth: &mut CookieAuth,
        mut call: Call<'_>,
        framing: Option<Framing>,
    ) -> Result<Response<Body>, HttpError> {
        self.cookies.apply(cookie_auth, &mut call).await?;
        let again = cookie_auth.can_renew().then(|| call.clone());
        match (self.call(call, framing, cookie_auth).await, again) {
            (Err(error), Some(mut again)) if error.is_expired() => {
                self.cookies.renew(cookie_auth, &mut again).await?;
                self.call(again, framing, cookie_auth).await
            }
            (answer, _) => answer,
        }
    }

    /// The message that path, query, body and headers make.
    async fn read<B>(
        &self,
        request: &request::Parts,
        found: &Match<'_, '_, Route>,
        query: &str,
        body: B,
    ) -> Result<DynamicMessage, HttpError>
    where
        B: HttpBody<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let route = found.target;
        let body = read_body(body, self.json).await?;
        let has_body = !body.is_empty() && !matches!(route.body, BodyRule::None);
        let format = if has_body { format(&request.headers, route)? } else { Format::Json };
        let input = Input { segments: &found.segments, query, body: &body, format };
        let mut message = to_message(route, input, self.json)?;
        etag::set_if_match(route, &request.headers, &mut message)?;
        idempotency::set_request_id(route, &request.headers, &mut message)?;
        stream::set_last_event_id(route, &request.headers, &mut message);
        Ok(message)
    }

    /// Makes the call. `framing` is how its stream is written, if it has one.
    async fn call(
        &self,
        call: Call<'_>,
        framing: Option<Framing>,
        cookie_auth: &mut CookieAuth,
    ) -> Result<Response<Body>, HttpError> {
        let Call { request, route, id, deadline, message, metadata } = call;
        let Route { backend, rpc, output, .. } = route;
        if let Some(framing) = framing {
            let messages = backend.stream(rpc, output, message, metadata, deadline).await?;
            let context = stream::Context { pool: self.pool.clone(), id: id.clone(), shutdown: self.shutdown.clone() };
            return Ok(stream::respond(route, messages, framing, context));
        }
        let answer = backend.call(rpc, output, message, metadata, deadline).await;
        let answer = answer.map_err(|status| etag::refused(status, &request.headers))?;
        let (metadata, mut message, _) = answer.into_parts();
        self.cookies.strip_tokens(cookie_auth, &mut message)?;
        let mut response = respond(request, route, &message)?;
        idempotency::mark_replayed(&metadata, response.headers_mut());
        Ok(response)
    }
}

/// The answer that a message makes, or without it if the client has it already or does not want it.
fn respond(request: &request::Parts, route: &Route, message: &DynamicMessage) -> Result<Response<Body>, HttpError> {
    let tag = etag::of(message);
    let is_read = [Method::GET, Method::HEAD].contains(&request.method);
    let is_known = is_read && tag.as_ref().is_some_and(|tag| etag::is_known(&request.headers, tag));
    let mut response = if is_known {
        response::not_modified()
    } else if preference::is_minimal(request, route) {
        preference::minimal()
    } else {
        response::from_message(route, message)?
    };
    if let Some(tag) = tag {
        response.headers_mut().insert(http::header::ETAG, tag);
    }
    Ok(response)
}
