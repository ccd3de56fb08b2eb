//! What happens when the process may open no more files. It is alone in its binary, since the limit holds for the whole
//! process.

use std::{convert::Infallible, io};

use http::{Request, Response};
use rlimit::Resource;
use service_kit::server::connection::{self, Protocol};
use tokio::{
    net::{TcpSocket, TcpStream},
    sync::mpsc,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;

#[path = "api/support.rs"]
mod support;

use support::{PATIENCE, explain, limits, serves};

/// Passes the log on to the test.
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
async fn a_server_that_may_open_no_more_files_goes_on_and_takes_the_next_connection_later() {
    let (log, mut lines) = mpsc::unbounded_channel();
    tracing_subscriber::fmt().with_writer(move || Log(log.clone())).init();
    let limits = limits(&[]);
    let listener = connection::bind("127.0.0.1:0".parse().expect("an address"), &limits).await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let service = tower::service_fn(|_: Request<_>| async { Ok::<_, Infallible>(Response::new(Body::empty())) });
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    let serving = connection::serve("test", listener, Protocol::Http1And2(explain), &limits, service, stop);
    let test = async {
        let mut before = TcpStream::connect(address).await.expect("connected");
        assert!(serves(&mut before).await);
        // The client's end is open before the limit falls.
        let socket = TcpSocket::new_v4().expect("a socket");
        let (soft, hard) = Resource::NOFILE.get().expect("there is a limit");
        Resource::NOFILE.set(0, hard).expect("a lower limit is allowed");
        let mut waiting = socket.connect(address).await.expect("the system takes the connection for the server");
        let failed = async { while !lines.recv().await.expect("a line").contains("cannot accept connections") {} };
        timeout(PATIENCE, failed).await.expect("the server is refused the file");
        assert!(serves(&mut before).await, "who was there before is served");
        Resource::NOFILE.set(soft, hard).expect("the limit is what it was");
        assert!(serves(&mut waiting).await, "who waited is served");
        shutdown.cancel();
    };
    tokio::join!(serving, test).0.expect("ended well");
}
