//! What the tests of connections share.

use std::time::Duration;

use bytes::Bytes;
use clap::Parser;
use http::{HeaderValue, Response, StatusCode};
use service_kit::ops::config::LimitArgs;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// No test waits longer for what must happen.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// What is answered to a request that cannot be read.
pub fn explain(code: StatusCode) -> Response<Bytes> {
    let mut response = Response::new(format!("this is {}", code.as_u16()).into());
    response.headers_mut().insert("x-test", HeaderValue::from_static("yes"));
    response
}

/// The limits that these flags make.
pub fn limits(flags: &[&str]) -> LimitArgs {
    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        limits: LimitArgs,
    }
    Cli::parse_from([""].iter().chain(flags)).limits
}

/// Whether the server answers on this connection, rather than close it.
pub async fn serves(stream: &mut TcpStream) -> bool {
    let mut head = Vec::new();
    let answered = async {
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await?;
        while !head.ends_with(b"\r\n\r\n") && stream.read_buf(&mut head).await? > 0 {}
        Ok::<_, std::io::Error>(head.starts_with(b"HTTP/1.1 200"))
    };
    timeout(PATIENCE, answered).await.expect("answered or closed in time").unwrap_or(false)
}
