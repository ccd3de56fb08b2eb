//! A minimal HTTP/1.1 client.

use anyhow::Context;
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// A connection for sequential requests. It is opened again after the server has closed it.
pub(crate) struct Connection {
    /// The host and port.
    authority: String,
    open: Option<SendRequest<Full<Bytes>>>,
}

impl Connection {
    pub(crate) fn new(authority: &str) -> Self {
        Self { authority: authority.to_owned(), open: None }
    }

    /// Sends a request, and reads the whole response.
    pub(crate) async fn send(&mut self, request: Request<Full<Bytes>>) -> anyhow::Result<(StatusCode, Bytes)> {
        let mut send = match self.open.take() {
            Some(send) => send,
            None => self.connect().await?,
        };
        if send.ready().await.is_err() {
            send = self.connect().await?;
        }
        let response = send.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        self.open = Some(send);
        Ok((status, body))
    }

    async fn connect(&self) -> anyhow::Result<SendRequest<Full<Bytes>>> {
        let authority = &self.authority;
        let stream = TcpStream::connect(authority).await.with_context(|| format!("cannot connect to {authority}"))?;
        stream.set_nodelay(true)?;
        let (send, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(async move {
            // The requests return the error.
            _ = connection.await;
        });
        Ok(send)
    }
}
