//! The baseline: a bare tonic server that verifies the access token, as our services do, and echoes the request.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    io::{self, Write},
    path::PathBuf,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use service_kit::{
    auth::{
        interceptor::Authenticator,
        key_source::{KeySource, Purpose},
        revocation::RevocationView,
    },
    clock::Clock,
};
use taskey_proto::task::v1::GetTaskRequest;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Request, Response, Status,
    body::Body,
    server::{Grpc, NamedService, UnaryService},
    service::interceptor::InterceptedService,
    transport::Server,
};
use tonic_prost::ProstCodec;

use crate::target::token_args;

/// The path of the only RPC.
pub(crate) const PATH: &str = "/bench.Echo/Echo";

/// Serves until it is killed.
#[derive(clap::Args)]
pub(crate) struct Echo {
    /// Key file for access tokens
    #[arg(long, value_name = "FILE")]
    key_file: PathBuf,
}

impl Echo {
    pub(crate) async fn serve(self) -> anyhow::Result<()> {
        let clock = Clock::system();
        let keys = Arc::new(KeySource::file(&self.key_file, Purpose::Verify, clock.clone())?);
        let view = Arc::new(RevocationView::new(Duration::from_secs(3), clock.clone()));
        view.add_snapshot([], None);
        let heartbeat = Arc::clone(&view);
        tokio::spawn(async move {
            loop {
                heartbeat.add([]);
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        });
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        writeln!(io::stdout(), "listening echo {}", listener.local_addr()?)?;
        let authenticator = Authenticator::new(keys, token_args(), view, clock);
        let authenticate = move |mut request: Request<()>| -> Result<_, Status> {
            let caller = authenticator.authenticate(request.metadata().as_ref())?;
            request.extensions_mut().insert(caller);
            Ok(request)
        };
        let service = InterceptedService::new(Service, authenticate);
        let incoming = TcpListenerStream::new(listener);
        Ok(Server::builder().tcp_nodelay(true).add_service(service).serve_with_incoming(incoming).await?)
    }
}

#[derive(Clone)]
struct Service;

impl NamedService for Service {
    const NAME: &'static str = "bench.Echo";
}

impl tonic::codegen::Service<http::Request<Body>> for Service {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let codec = ProstCodec::<GetTaskRequest, GetTaskRequest>::default();
        Box::pin(async move { Ok(Grpc::new(codec).unary(EchoHandler, request).await) })
    }
}

struct EchoHandler;

impl UnaryService<GetTaskRequest> for EchoHandler {
    type Response = GetTaskRequest;
    type Future = Ready<Result<Response<GetTaskRequest>, Status>>;

    fn call(&mut self, request: Request<GetTaskRequest>) -> Self::Future {
        ready(Ok(Response::new(request.into_inner())))
    }
}
