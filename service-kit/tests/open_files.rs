//! A server at the limit of open files. This test has a binary of its own, as the limit applies to the whole process.

use std::{convert::Infallible, io};

use http::{Request, Response};
use rlimit::Resource;
use service_kit::{
    server::connection::{self, Protocol},
    testing::listen,
};
use tokio::{
    net::{TcpSocket, TcpStream},
    sync::mpsc,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;

#[path = "api/support.rs"]
mod support;

use support::{TIMEOUT, error_response, is_served, parse_limits};

/// Forwards the log to the test.
struct Log(mpsc::UnboundedSender<String>);

impl io::Write for Log {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        _ = self.0.send(String::from_utf8_lossy(text).into_owned());
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn server_at_the_open_file_limit_keeps_running_and_accepts_connections_later() {
    let (log, mut lines) = mpsc::unbounded_channel();
    tracing_subscriber::fmt().with_writer(move || Log(log.clone())).init();
    let limits = parse_limits(&[]);
    let listener = listen(&limits, None).await;
    let address = listener.local_addr().expect("an address");
    let service = tower::service_fn(|_: Request<_>| async { Ok::<_, Infallible>(Response::new(Body::empty())) });
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    let serving = connection::serve("test", listener, Protocol::Http1And2(error_response), &limits, service, stop);
    let test = async {
        let mut earlier = TcpStream::connect(address).await.expect("connected");
        assert!(is_served(&mut earlier).await);
        // Opened before the limit is lowered, because it needs a file descriptor as well.
        let socket = TcpSocket::new_v4().expect("a socket");
        let (soft, hard) = Resource::NOFILE.get().expect("there is a limit");
        Resource::NOFILE.set(0, hard).expect("a lower limit is allowed");
        let mut waiting = socket.connect(address).await.expect("the kernel queues the connection");
        let failed = async { while !lines.recv().await.expect("a line").contains("cannot accept connections") {} };
        timeout(TIMEOUT, failed).await.expect("the server logs that it cannot accept");
        assert!(is_served(&mut earlier).await, "the earlier connection is served");
        Resource::NOFILE.set(soft, hard).expect("the limit is restored");
        assert!(is_served(&mut waiting).await, "the waiting connection is served");
        shutdown.cancel();
    };
    tokio::join!(serving, test).0.expect("the server ends without an error");
}
