//! HTTP/2 connections that do what no ordinary client does.

use std::{convert::Infallible, net::SocketAddr};

use futures::{StreamExt, stream};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{
    Request,
    body::{Bytes, Frame},
    client::conn::http2,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost_reflect::prost::Message;
use tokio::{net::TcpSocket, task::JoinSet};

use super::target::SOURCE;

pub type Body = BoxBody<Bytes, Infallible>;

/// A connection. It is closed when it is dropped.
pub struct Connection {
    pub sender: http2::SendRequest<Body>,
    address: SocketAddr,
    _driver: JoinSet<()>,
}

impl Connection {
    /// Connects with a receive window of this size, which is never enlarged while a response is not read.
    pub async fn open(address: SocketAddr, window: u32) -> Option<Self> {
        let socket = TcpSocket::new_v4().ok()?;
        socket.bind((SOURCE, 0).into()).ok()?;
        let stream = socket.connect(address).await.ok()?;
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.initial_stream_window_size(window).initial_connection_window_size(1 << 20);
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.ok()?;
        let mut driver = JoinSet::new();
        driver.spawn(async { _ = connection.await });
        Some(Self { sender, address, _driver: driver })
    }

    /// Returns a gRPC request.
    pub fn grpc(&self, path: &str, token: &str, body: Body) -> Request<Body> {
        let request = Request::post(format!("http://{}{path}", self.address));
        let request = request.header("content-type", "application/grpc").header("te", "trailers");
        let request = request.header("authorization", format!("Bearer {token}"));
        request.body(body).expect("a request")
    }
}

/// Returns a body with one gRPC message.
pub fn message(message: &impl Message) -> Body {
    let bytes = message.encode_to_vec();
    let length = u32::try_from(bytes.len()).expect("a short message").to_be_bytes();
    Full::new([&[0], &length[..], &bytes].concat().into()).boxed()
}

/// Returns a body that does not end after these bytes.
pub fn unfinished(bytes: Vec<u8>) -> Body {
    let start = stream::iter((!bytes.is_empty()).then(|| Ok(Frame::data(bytes.into()))));
    BodyExt::boxed(StreamBody::new(start.chain(stream::pending())))
}
