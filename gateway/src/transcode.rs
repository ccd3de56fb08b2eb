//! Transcodes HTTP/JSON requests to RPC calls: request message, call, and response.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, request};
use hyper::body::Body as HttpBody;
use prost_reflect::{DescriptorPool, DynamicMessage, FieldDescriptor};
use service_kit::{
    server::{call::UPLOAD_TIMEOUT, connection_state::ConnectionState, request_id::RequestId},
    status::ApiError,
    update_mask,
};
use taskey_proto::errors::v1::ErrorReason;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tonic::{Code, body::Body};
use tracing::Span;

use crate::{
    backend::{self, UnaryResponse},
    conversion::{MAX_INLINE_BYTES, convert},
    file,
    http::{
        call::Call,
        error::HttpError,
        headers,
        negotiation::{self, Framing},
        oauth,
        request::{Format, Input, JsonLimits, body_format, check_encoding, read_body, to_message},
        response,
    },
    quota::{Client, Permit},
    route_metrics::RouteMetrics,
    routing::{
        binding::{BodyRule, Forms, Route},
        router::{Match, Router},
    },
    semantics,
    session::cookie_mode::{CookieAuth, CookieMode},
    stream, upload,
};

/// Transcodes HTTP/JSON requests to calls, according to the bindings of the RPCs.
#[derive(Debug)]
pub struct Transcoder {
    /// Contains the types of error details.
    pub pool: DescriptorPool,
    /// Routes by method and path.
    pub router: Arc<Router<Route>>,
    /// Authentication of browsers by cookies.
    pub cookies: CookieMode,
    /// Limits of JSON request bodies.
    pub json: JsonLimits,
    /// Ends all streams.
    pub shutdown: CancellationToken,
}

impl Transcoder {
    /// Handles a request. The deadline applies to the response, or to the start of a stream. `permit` counts the bytes of
    /// the request. Sets `metrics`, if an RPC matches.
    ///
    /// # Errors
    /// If no RPC matches, if the request is invalid or does not arrive in time, or if the call fails.
    pub async fn handle<'a, B>(
        &'a self,
        request: Request<B>,
        id: &RequestId,
        deadline: Instant,
        permit: &mut Permit,
        metrics: &mut &'a RouteMetrics,
    ) -> Result<Response<Body>, HttpError>
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (request, body) = request.into_parts();
        let matched = self.router.find(&request.method, request.uri.path()).map_err(HttpError::from)?;
        let route = matched.target;
        *metrics = &route.metrics;
        Span::current().record("rpc", route.rpc.as_str());
        if route.forms == Forms::OAuth {
            let response = self.handle_oauth(&request, route, body, id, deadline, permit).await;
            return Ok(response.unwrap_or_else(|error| oauth::error_response(error, &self.pool, id)));
        }
        let framing = match route.file {
            // The format of a file is chosen by a field of the request.
            Some(_) => None,
            None => negotiation::framing(&request.headers, route.is_server_streaming)?,
        };
        let mut query = request.uri.query().unwrap_or_default().to_owned();
        let mut cookie_auth = self.cookies.cookie_auth(&request, route, &mut query)?;
        let mut metadata = headers::metadata(&request, id, &route.backend);
        let response = if let Some(content) = &route.upload {
            check_encoding(&request.headers)?;
            let deadline = Instant::now() + headers::timeout(&request.headers, UPLOAD_TIMEOUT)?;
            let (message, _) = self.to_message(&request, &matched, &query, &Bytes::new()).await?;
            let call = Call { request: &request, route, id, deadline, message, metadata };
            timeout_at(deadline, self.upload(&mut cookie_auth, call, content, body, permit)).await
        } else {
            let body = read_body(body, self.json, permit, deadline).await?;
            let (message, has_derived_mask) = self.to_message(&request, &matched, &query, &body).await?;
            if has_derived_mask {
                update_mask::mark_derived(&mut metadata);
            }
            let call = Call { request: &request, route, id, deadline, message, metadata };
            // The calls enforce the deadline, too, but a refresh of the tokens has a timeout of its own.
            timeout_at(deadline, self.call_with_cookies(&mut cookie_auth, call, framing)).await
        };
        match response.unwrap_or_else(|_| Err(backend::deadline_exceeded().into())) {
            Ok(response) => Ok(cookie_auth.apply_to_response(route, response)),
            Err(error) => Err(cookie_auth.apply_to_error(error)),
        }
    }

    /// Handles a request to an endpoint of OAuth 2.0. Such requests use no cookies.
    async fn handle_oauth<B>(
        &self,
        request: &request::Parts,
        route: &Route,
        body: B,
        id: &RequestId,
        deadline: Instant,
        permit: &mut Permit,
    ) -> Result<Response<Body>, HttpError>
    where
        B: HttpBody<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let body = read_body(body, self.json, permit, deadline).await?;
        let message = oauth::to_message(request, route, &body)?;
        let mut metadata = headers::metadata(request, id, &route.backend);
        metadata.remove(http::header::AUTHORIZATION);
        let call = Call { request, route, id, deadline, message, metadata };
        let response = timeout_at(deadline, self.call(call, None, &mut CookieAuth::None)).await;
        response.unwrap_or_else(|_| Err(backend::deadline_exceeded().into()))
    }

    /// Calls the service with the access token from the cookies. If it has expired, renews it and retries once.
    async fn call_with_cookies(
        &self,
        cookie_auth: &mut CookieAuth,
        mut call: Call<'_>,
        framing: Option<Framing>,
    ) -> Result<Response<Body>, HttpError> {
        self.cookies.apply(cookie_auth, &mut call).await?;
        let retry = cookie_auth.can_renew().then(|| call.clone());
        match (self.call(call, framing, cookie_auth).await, retry) {
            (Err(error), Some(mut retry)) if error.is_token_expired() => {
                self.cookies.renew(cookie_auth, &mut retry).await?;
                self.call(retry, framing, cookie_auth).await
            }
            (result, _) => result,
        }
    }

    /// Calls an RPC that receives a file, with the access token from the cookies. The call cannot be retried, because the
    /// body is sent as it arrives.
    ///
    /// If the access token is missing, it is renewed, but the client must repeat the request. Otherwise the client would
    /// receive the new refresh token only at the end of the call, after up to [`UPLOAD_TIMEOUT`]. If another request used the
    /// old one meanwhile, it would be considered stolen, and the session would be revoked.
    async fn upload<B>(
        &self,
        cookie_auth: &mut CookieAuth,
        mut call: Call<'_>,
        content: &FieldDescriptor,
        body: B,
        permit: &mut Permit,
    ) -> Result<Response<Body>, HttpError>
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.cookies.apply(cookie_auth, &mut call).await?;
        if cookie_auth.is_renewed() {
            let message = "the access token had expired; it was renewed, so the request can be repeated";
            return Err(ApiError::new(Code::Unauthenticated, ErrorReason::TokenExpired, message).into());
        }
        let (request, route) = (call.request, call.route);
        let message = upload::send(call, content, body, permit).await?;
        respond(request, route, message).await
    }

    /// Builds the request message from the path, query, body and headers. Returns it, and whether its field mask is derived
    /// from the body.
    async fn to_message(
        &self,
        request: &request::Parts,
        matched: &Match<'_, '_, Route>,
        query: &str,
        body: &Bytes,
    ) -> Result<(DynamicMessage, bool), HttpError> {
        let route = matched.target;
        let has_body = !body.is_empty() && !matches!(route.body, BodyRule::None);
        let format = if has_body { body_format(&request.headers, route)? } else { Format::Json };
        let (mut message, has_derived_mask) = if body.len() <= MAX_INLINE_BYTES {
            to_message(route, Input { segments: &matched.segments, query, body, format }, self.json)?
        } else {
            self.large_to_message(request, query, body, format).await?
        };
        semantics::set_if_match(route, &request.headers, &mut message)?;
        semantics::set_request_id(route, &request.headers, &mut message)?;
        stream::set_last_event_id(route, &request.headers, &mut message);
        Ok((message, has_derived_mask))
    }

    /// Builds the request message from a large body on another thread, for which the route is found again.
    async fn large_to_message(
        &self,
        request: &request::Parts,
        query: &str,
        body: &Bytes,
        format: Format,
    ) -> Result<(DynamicMessage, bool), HttpError> {
        let (router, method, uri) = (Arc::clone(&self.router), request.method.clone(), request.uri.clone());
        let (size, query, body, limits) = (body.len(), query.to_owned(), body.clone(), self.json);
        let conversion = move || {
            let Match { target, segments } = router.find(&method, uri.path()).map_err(HttpError::from)?;
            let input = Input { segments: &segments, query: &query, body: &body, format };
            to_message(target, input, limits).map_err(HttpError::from)
        };
        convert(size, conversion).await?
    }

    /// Makes the call. `framing` is the framing of the stream, if the RPC returns one.
    async fn call(
        &self,
        call: Call<'_>,
        framing: Option<Framing>,
        cookie_auth: &mut CookieAuth,
    ) -> Result<Response<Body>, HttpError> {
        let Call { request, route, id, deadline, message, metadata } = call;
        let Route { backend, rpc, .. } = route;
        let (message, client) = (backend::new_request(message, metadata), Client::from_extensions(&request.extensions));
        if route.is_server_streaming {
            let permit = backend.bytes.acquire(client, 0)?;
            let messages = backend.stream(rpc, message, client, deadline).await?;
            let end = ConnectionState::end_of_streams(&request.extensions, &self.shutdown);
            let context = stream::Context { pool: self.pool.clone(), id: id.clone(), end, permit };
            return match route.file {
                Some(fields) => file::respond(route, fields, messages, context).await,
                None => Ok(stream::respond(route, messages, framing.unwrap_or(Framing::Lines), context)),
            };
        }
        let response = backend.call(rpc, message, route.is_read, client, deadline).await;
        let response = response.map_err(|status| semantics::to_http_error(status, &request.headers))?;
        // The bytes of the message count as in use until it is written.
        let UnaryResponse { metadata, message, permit: _permit } = response;
        let mut message = self.cookies.strip_tokens(cookie_auth, route, message)?;
        if oauth::returns_addresses(route) {
            let gateway = self.cookies.settings.gateway_url(&request.uri, &request.headers, &request.extensions);
            message = oauth::with_addresses(message, &gateway)?;
        }
        let mut response = respond(request, route, message).await?;
        semantics::mark_replayed(&metadata, response.headers_mut());
        Ok(response)
    }
}

/// Creates the response for an encoded message: 304 if the client has this version already, or 204 if it prefers no body.
async fn respond(request: &request::Parts, route: &Route, message: Bytes) -> Result<Response<Body>, HttpError> {
    let tag = semantics::response_etag(route, &message);
    let json = response::to_json(&route.writer, message).await?;
    let is_read = [Method::GET, Method::HEAD].contains(&request.method);
    let is_unmodified =
        is_read && tag.as_ref().is_some_and(|tag| semantics::matches_if_none_match(&request.headers, tag));
    let mut response = if is_unmodified {
        response::not_modified()
    } else if semantics::prefers_minimal(request, route) {
        semantics::minimal_response()
    } else {
        response::json(StatusCode::OK, json)
    };
    if let Some(tag) = tag {
        response.headers_mut().insert(http::header::ETAG, tag);
    }
    Ok(response)
}
