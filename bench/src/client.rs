//! gRPC over a bare HTTP/2 connection. A full client would cost more than the server that it is to load.

use std::{future::poll_fn, net::SocketAddr};

use anyhow::{Context, bail, ensure};
use bytes::{BufMut, Bytes, BytesMut};
use h2::{RecvStream, client::SendRequest};
use http::{HeaderMap, HeaderValue, Method, Request, Uri, header};
use prost::Message;
use tokio::net::TcpStream;

/// What a stream or a connection may send before it is told to go on: more than any answer here has.
const WINDOW: u32 = 1 << 22;

/// A call that is ready to be sent.
#[derive(Clone)]
pub(crate) struct Call {
    /// The path of the RPC.
    pub(crate) path: &'static str,
    /// The caller's token.
    pub(crate) authorization: HeaderValue,
    /// The framed message.
    pub(crate) body: Bytes,
}

/// Puts the frame of gRPC around a message.
pub(crate) fn framed(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut bytes = BytesMut::with_capacity(5 + length);
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(length).expect("a message is small"));
    message.encode(&mut bytes).expect("there is room");
    bytes.freeze()
}

/// A connection, which bears any number of calls.
#[derive(Clone)]
pub(crate) struct Connection {
    address: SocketAddr,
    send: SendRequest<Bytes>,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await.with_context(|| format!("nobody listens on {address}"))?;
        stream.set_nodelay(true)?;
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(WINDOW).initial_connection_window_size(WINDOW).enable_push(false);
        let (send, connection) = builder.handshake(stream).await?;
        tokio::spawn(async move {
            // Those who call find out.
            _ = connection.await;
        });
        Ok(Self { address, send })
    }

    /// Calls, and answers the message. Any status but OK is an error.
    pub(crate) async fn call(&self, call: Call) -> anyhow::Result<Bytes> {
        let path = call.path;
        let mut answers = self.stream(call).await?;
        let message = answers.next().await?.with_context(|| format!("{path}: no answer"))?;
        ensure!(answers.next().await?.is_none(), "{path}: more than one answer");
        Ok(message)
    }

    /// Calls, and answers the messages one by one.
    pub(crate) async fn stream(&self, call: Call) -> anyhow::Result<Answers> {
        let Call { path, authorization, body } = call;
        let uri = Uri::builder().scheme("http").authority(self.address.to_string()).path_and_query(path).build()?;
        let request = Request::builder()
            .method(Method::POST)
            .uri(uri)
            .header(header::TE, HeaderValue::from_static("trailers"))
            .header(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"))
            .header(header::AUTHORIZATION, authorization)
            .body(())?;
        let mut send = self.send.clone();
        poll_fn(|context| send.poll_ready(context)).await?;
        let (response, mut stream) = send.send_request(request, false)?;
        stream.send_data(body, true)?;
        let response = response.await?;
        ensure!(response.status() == 200, "{path}: HTTP status {}", response.status());
        // An answer without messages has its status here.
        if response.headers().contains_key("grpc-status") {
            check(path, response.headers())?;
        }
        Ok(Answers { path, stream: response.into_body(), read: BytesMut::new() })
    }
}

/// The messages that come in answer to a call.
pub(crate) struct Answers {
    path: &'static str,
    stream: RecvStream,
    read: BytesMut,
}

impl Answers {
    /// The next message; none if the call has ended well.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Option<Bytes>> {
        loop {
            if let Some(header) = self.read.first_chunk::<5>() {
                let length = 5 + u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
                if self.read.len() >= length {
                    return Ok(Some(self.read.split_to(length).freeze().slice(5..)));
                }
            }
            if let Some(data) = self.stream.data().await {
                let data = data?;
                self.stream.flow_control().release_capacity(data.len())?;
                self.read.extend_from_slice(&data);
                continue;
            }
            ensure!(self.read.is_empty(), "{}: half an answer", self.path);
            if let Some(trailers) = self.stream.trailers().await? {
                check(self.path, &trailers)?;
            }
            return Ok(None);
        }
    }
}

/// Whether these headers say OK.
fn check(path: &str, headers: &HeaderMap) -> anyhow::Result<()> {
    let text = |name| headers.get(name).map(|value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()));
    match text("grpc-status").as_deref() {
        Some("0") => Ok(()),
        status => bail!("{path}: status {}: {}", status.unwrap_or("?"), text("grpc-message").unwrap_or_default()),
    }
}
