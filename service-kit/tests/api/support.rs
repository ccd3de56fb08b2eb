//! Helpers that the connection tests share.

use std::time::Duration;

use bytes::Bytes;
use clap::Parser;
use http::{HeaderValue, Response, StatusCode};
use service_kit::{ops::config::LimitArgs, server::connection::Rejection};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// The maximum time that a test waits for an expected event.
pub const TIMEOUT: Duration = Duration::from_secs(5);

/// Returns the response to a request that is rejected before it reaches the service.
pub fn error_response(rejection: Rejection) -> Response<Bytes> {
    let code = match rejection {
        Rejection::Unparsable(code) => code,
        Rejection::InvalidHost | Rejection::Plaintext => StatusCode::BAD_REQUEST,
        Rejection::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
    };
    let mut response = Response::new(format!("this is {}", code.as_u16()).into());
    *response.status_mut() = code;
    response.headers_mut().insert("x-test", HeaderValue::from_static("yes"));
    response
}

/// Parses command-line flags.
pub fn parse_limits(flags: &[&str]) -> LimitArgs {
    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        limits: LimitArgs,
    }
    Cli::parse_from([""].iter().chain(flags)).limits
}

/// Reports whether the server responds with 200 on this connection, instead of closing it.
pub async fn is_served(stream: &mut TcpStream) -> bool {
    let mut head = Vec::new();
    let is_ok = async {
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await?;
        while !head.ends_with(b"\r\n\r\n") && stream.read_buf(&mut head).await? > 0 {}
        Ok::<_, std::io::Error>(head.starts_with(b"HTTP/1.1 200"))
    };
    timeout(TIMEOUT, is_ok).await.expect("responded or closed in time").unwrap_or(false)
}
