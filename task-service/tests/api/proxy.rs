//! A link to a service that breaks again and again, wherever a message may be at that moment.

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

/// A call that has no answer after so long counts as one whose connection broke. What a client has on a connection that
/// breaks is not always told (hyper, HTTP/2), so that whoever calls in earnest sets a limit, too.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// A running link, which closes its connections when it is dropped.
pub(crate) struct Proxy {
    pub(crate) channel: Channel,
    breaks: Arc<AtomicU64>,
    running: AbortHandle,
}

impl Proxy {
    /// Each connection breaks when so many bytes have gone through it, to and fro.
    pub(crate) async fn start(to: SocketAddr, lasts: RangeInclusive<u64>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a free port");
        let address = listener.local_addr().expect("the listener has an address");
        let breaks = Arc::default();
        let running = tokio::spawn(run(listener, to, lasts, Arc::clone(&breaks))).abort_handle();
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("a good URL");
        let channel = endpoint.timeout(ANSWER_LIMIT).connect_lazy();
        Self { channel, breaks, running }
    }

    /// How often it has broken.
    pub(crate) fn breaks(&self) -> u64 {
        self.breaks.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.running.abort();
    }
}

/// A number of a range, all alike.
pub(crate) fn any(range: RangeInclusive<u64>) -> u64 {
    range.start() + u64::from_be_bytes(random::bytes()) % (range.end() - range.start() + 1)
}

async fn run(listener: TcpListener, to: SocketAddr, lasts: RangeInclusive<u64>, breaks: Arc<AtomicU64>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                // Whoever has given up already is none of its breaks.
                let Ok((client, _)) = accepted else { continue };
                let (room, breaks) = (AtomicU64::new(any(lasts.clone())), Arc::clone(&breaks));
                connections.spawn(async move {
                    if pass(client, to, &room).await.is_err() {
                        breaks.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn pass(client: TcpStream, to: SocketAddr, room: &AtomicU64) -> io::Result<()> {
    let server = TcpStream::connect(to).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    tokio::try_join!(pump(from_client, to_server, room), pump(from_server, to_client, room))?;
    Ok(())
}

/// Passes on what comes, for as long as there is room.
async fn pump(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, room: &AtomicU64) -> io::Result<()> {
    let mut chunk = vec![0; 4096];
    loop {
        let count = from.read(&mut chunk).await?;
        if count == 0 {
            return to.shutdown().await;
        }
        let bytes = u64::try_from(count).expect("a chunk is small");
        let left = room.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |room| room.checked_sub(bytes));
        let Ok(_) = left else { return Err(io::ErrorKind::ConnectionReset.into()) };
        to.write_all(&chunk[..count]).await?;
    }
}
