//! A minimal gRPC client on an HTTP/2 connection. A full client would use more CPU than the server under load.

use std::{future::poll_fn, net::SocketAddr};

use anyhow::{Context, bail, ensure};
use bytes::{BufMut, Bytes, BytesMut};
use h2::{RecvStream, client::SendRequest};
use http::{HeaderMap, HeaderValue, Method, Request, Uri, header};
use prost::Message;
use tokio::net::TcpStream;

/// The flow-control window of streams and connections in bytes, larger than any response here.
const WINDOW: u32 = 1 << 22;

/// A call that is ready to be sent.
#[derive(Clone)]
pub(crate) struct Call {
    /// The path of the RPC.
    pub(crate) path: &'static str,
    /// The caller's token.
    pub(crate) authorization: HeaderValue,
    /// The message with its gRPC header.
    pub(crate) body: Bytes,
}

/// Encodes a message with its gRPC header.
pub(crate) fn encode_frame(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut bytes = BytesMut::with_capacity(5 + length);
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(length).expect("a message is small"));
    message.encode(&mut bytes).expect("the buffer is large enough");
    bytes.freeze()
}

/// A connection for any number of concurrent calls.
#[derive(Clone)]
pub(crate) struct Connection {
    address: SocketAddr,
    send: SendRequest<Bytes>,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(WINDOW).initial_connection_window_size(WINDOW).enable_push(false);
        let (send, connection) = builder.handshake(stream).await?;
        tokio::spawn(async move {
            // The calls return the error.
            _ = connection.await;
        });
        Ok(Self { address, send })
    }

    /// Makes a unary call and returns the message. Any status other than OK is an error.
    pub(crate) async fn call(&self, call: Call) -> anyhow::Result<Bytes> {
        let path = call.path;
        let mut responses = self.stream(call).await?;
        let message = responses.next().await?.with_context(|| format!("{path}: no response message"))?;
        ensure!(responses.next().await?.is_none(), "{path}: more than one response message");
        Ok(message)
    }

    /// Makes a call and returns its response messages.
    pub(crate) async fn stream(&self, call: Call) -> anyhow::Result<Responses> {
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
        // A response without messages has its status here.
        if response.headers().contains_key("grpc-status") {
            check_status(path, response.headers())?;
        }
        Ok(Responses { path, stream: response.into_body(), buffer: BytesMut::new() })
    }
}

/// The response messages of a call.
pub(crate) struct Responses {
    path: &'static str,
    stream: RecvStream,
    buffer: BytesMut,
}

impl Responses {
    /// Returns the next message, or `None` after the call has succeeded.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Option<Bytes>> {
        loop {
            if let Some(header) = self.buffer.first_chunk::<5>() {
                let length = 5 + u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
                if self.buffer.len() >= length {
                    return Ok(Some(self.buffer.split_to(length).freeze().slice(5..)));
                }
            }
            if let Some(data) = self.stream.data().await {
                let data = data?;
                self.stream.flow_control().release_capacity(data.len())?;
                self.buffer.extend_from_slice(&data);
                continue;
            }
            ensure!(self.buffer.is_empty(), "{}: incomplete response message", self.path);
            if let Some(trailers) = self.stream.trailers().await? {
                check_status(self.path, &trailers)?;
            }
            return Ok(None);
        }
    }
}

/// Checks that the status in these headers is OK.
fn check_status(path: &str, headers: &HeaderMap) -> anyhow::Result<()> {
    let text = |name| headers.get(name).map(|value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()));
    match text("grpc-status").as_deref() {
        Some("0") => Ok(()),
        status => bail!("{path}: status {}: {}", status.unwrap_or("?"), text("grpc-message").unwrap_or_default()),
    }
}
