//! A proxy to a service whose connections break after a number of bytes, possibly in the middle of a message.

use std::{
    io,
    net::SocketAddr,
    ops::RangeInclusive,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use service_kit::random;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
};
use tonic::transport::{Channel, Endpoint};

/// A call without a response within this limit counts as a broken connection. The limit is needed because hyper's
/// HTTP/2 client does not always report a broken connection to its pending calls.
const RESPONSE_LIMIT: Duration = Duration::from_secs(10);

/// A running proxy. Dropping it closes its connections.
pub(crate) struct Proxy {
    pub(crate) channel: Channel,
    breaks: Arc<AtomicU64>,
    running: AbortHandle,
}

impl Proxy {
    /// Starts a proxy. Each connection breaks after a random number of bytes in this range, counting both directions.
    pub(crate) async fn start(to: SocketAddr, bytes_per_connection: RangeInclusive<u64>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a free port");
        let address = listener.local_addr().expect("the listener has an address");
        let breaks = Arc::default();
        let running = tokio::spawn(run(listener, to, bytes_per_connection, Arc::clone(&breaks))).abort_handle();
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("a valid URL");
        let channel = endpoint.timeout(RESPONSE_LIMIT).connect_lazy();
        Self { channel, breaks, running }
    }

    /// Returns the number of broken connections.
    pub(crate) fn breaks(&self) -> u64 {
        self.breaks.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.running.abort();
    }
}

/// Returns a uniformly distributed random number.
pub(crate) fn any(range: RangeInclusive<u64>) -> u64 {
    range.start() + u64::from_be_bytes(random::bytes()) % (range.end() - range.start() + 1)
}

async fn run(listener: TcpListener, to: SocketAddr, bytes_per_connection: RangeInclusive<u64>, breaks: Arc<AtomicU64>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                // A client that has already disconnected is not a break.
                let Ok((client, _)) = accepted else { continue };
                let (budget, breaks) = (AtomicU64::new(any(bytes_per_connection.clone())), Arc::clone(&breaks));
                connections.spawn(async move {
                    if forward(client, to, &budget).await.is_err() {
                        breaks.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn forward(client: TcpStream, to: SocketAddr, budget: &AtomicU64) -> io::Result<()> {
    let server = TcpStream::connect(to).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    tokio::try_join!(pump(from_client, to_server, budget), pump(from_server, to_client, budget))?;
    Ok(())
}

/// Forwards bytes until the byte budget is spent.
async fn pump(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, budget: &AtomicU64) -> io::Result<()> {
    let mut chunk = vec![0; 4096];
    loop {
        let count = from.read(&mut chunk).await?;
        if count == 0 {
            return to.shutdown().await;
        }
        let bytes = u64::try_from(count).expect("a chunk is small");
        let left = budget.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |budget| budget.checked_sub(bytes));
        let Ok(_) = left else { return Err(io::ErrorKind::ConnectionReset.into()) };
        to.write_all(&chunk[..count]).await?;
    }
}
