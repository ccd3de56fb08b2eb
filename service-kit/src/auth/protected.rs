//! Protects a service: authenticates the caller of each RPC and checks the scope that the contract requires for it.

use std::{
    collections::HashMap,
    sync::Arc,
    task::{Context, Poll},
};

use anyhow::{Context as _, bail};
use futures::future::{BoxFuture, Either};
use http::Request;
use prost::Message;
use taskey_proto::FILE_DESCRIPTOR_SET;
use tonic::{body::Body, server::NamedService, service::interceptor::InterceptedService};
use tower::Service;

use super::{
    interceptor::{Authenticator, PersonalCaller, RequiredScope},
    scope::Scope,
};
use crate::contract::Contract;

/// The scopes that the RPCs of a service require, by path: `/package.Service/Method`.
#[derive(Clone, Debug)]
struct MethodScopes(Arc<HashMap<String, Scope>>);

impl MethodScopes {
    /// Reads the scopes from an encoded `google.protobuf.FileDescriptorSet`.
    fn from_descriptors(service_name: &str, descriptors: &[u8]) -> anyhow::Result<Self> {
        let mut scopes = HashMap::new();
        for file in Contract::decode(descriptors).context("invalid descriptors")?.files {
            for service in &file.services {
                let name = format!("{}.{}", file.package, service.name);
                for method in service.methods.iter().filter(|_| name == service_name) {
                    let path = format!("/{name}/{}", method.name);
                    let scope = method.options.as_ref().map(|options| &options.scope[..]).unwrap_or_default();
                    let scope = scope.parse().with_context(|| format!("{path}: the scope {scope:?}"))?;
                    scopes.insert(path, scope);
                }
            }
        }
        if scopes.is_empty() {
            bail!("the descriptors contain no RPC of {service_name}");
        }
        Ok(Self(Arc::new(scopes)))
    }
}

/// A service whose RPCs all require a token with their scope. tonic's interceptors do not see the path of a call, so this
/// passes them the scope as an extension of the request, and the caller with a personal access token, which may have to be
/// exchanged first. Handlers obtain the caller from
/// [`Caller::from_request`](super::interceptor::Caller::from_request).
#[derive(Clone, Debug)]
pub struct Protected<S> {
    inner: Intercepted<S>,
    authenticator: Authenticator,
    scopes: MethodScopes,
}

impl<S: NamedService> Protected<S> {
    /// Protects a service of Taskey's contract.
    ///
    /// # Errors
    /// If the contract does not contain the service.
    pub fn new(service: S, authenticator: Authenticator) -> anyhow::Result<Self> {
        Self::with_descriptors(service, authenticator, FILE_DESCRIPTOR_SET)
    }

    /// Protects a service of another contract, an encoded `google.protobuf.FileDescriptorSet`. It sets the option
    /// `taskey.options.v1.scope` of each RPC.
    ///
    /// # Errors
    /// If the contract does not contain the service, or an RPC does not require a known scope.
    pub fn with_descriptors(service: S, authenticator: Authenticator, descriptors: &[u8]) -> anyhow::Result<Self> {
        let scopes = MethodScopes::from_descriptors(S::NAME, descriptors)?;
        Ok(Self { inner: InterceptedService::new(service, authenticator.clone()), authenticator, scopes })
    }
}

impl<S: NamedService> NamedService for Protected<S> {
    const NAME: &'static str = S::NAME;
}

/// A service behind the interceptor.
type Intercepted<S> = InterceptedService<S, Authenticator>;

/// What it responds.
type Outcome<S> = Result<<S as Service<Request<Body>>>::Response, <S as Service<Request<Body>>>::Error>;

impl<S> Service<Request<Body>> for Protected<S>
where
    Intercepted<S>: Service<Request<Body>, Future: Send> + Clone + Send + 'static,
{
    type Response = <Intercepted<S> as Service<Request<Body>>>::Response;
    type Error = <Intercepted<S> as Service<Request<Body>>>::Error;
    type Future =
        Either<<Intercepted<S> as Service<Request<Body>>>::Future, BoxFuture<'static, Outcome<Intercepted<S>>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let required = RequiredScope(self.scopes.0.get(request.uri().path()).copied());
        request.extensions_mut().insert(required);
        if self.authenticator.has_personal_access_token(request.headers()) {
            let Some(caller) = self.authenticator.remembered_caller(request.headers()) else {
                // `poll_ready` has prepared this instance, not its clone.
                let clone = self.inner.clone();
                let inner = std::mem::replace(&mut self.inner, clone);
                return Either::Right(Box::pin(call_after_exchange(inner, self.authenticator.clone(), request)));
            };
            request.extensions_mut().insert(PersonalCaller(Ok(caller)));
        }
        Either::Left(self.inner.call(request))
    }
}

/// Exchanges the personal access token in the request, and passes the caller to the interceptor.
async fn call_after_exchange<S: Service<Request<Body>>>(
    mut inner: S,
    authenticator: Authenticator,
    request: Request<Body>,
) -> Outcome<S> {
    let (mut head, body) = request.into_parts();
    let caller = authenticator.exchange(&head.extensions, &head.headers).await;
    head.extensions.insert(PersonalCaller(caller));
    inner.call(Request::from_parts(head, body)).await
}
