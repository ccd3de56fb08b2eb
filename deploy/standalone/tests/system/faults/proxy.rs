//! A proxy between two programs that simulates network failures.

use std::{
    future::pending,
    io,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream, UnixStream},
    sync::{mpsc, watch},
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep_until},
};

/// The backlog of the listener.
const BACKLOG: u32 = 1024;

/// The size of a read, and the number of chunks that are read ahead of what can be forwarded.
const CHUNK_SIZE: usize = 16 * 1024;
const MAX_QUEUED_CHUNKS: usize = 64;

/// How a proxy treats connections and data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Forwards everything.
    Forward,
    /// Forwards everything after this delay.
    Delay(Duration),
    /// Closes connections and refuses new ones.
    Cut,
    /// Keeps connections open and accepts new ones, but forwards nothing, like a peer that vanished.
    Frozen,
    /// Like `Frozen`, but only for data from the server.
    StalledResponses,
    /// Like `Frozen`, but only for data to the server.
    StalledRequests,
}

/// The direction of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    ToServer,
    ToClient,
}

impl Mode {
    fn forwards(self, direction: Direction) -> bool {
        match self {
            Self::Forward | Self::Delay(_) => true,
            Self::Cut | Self::Frozen => false,
            Self::StalledResponses => direction == Direction::ToServer,
            Self::StalledRequests => direction == Direction::ToClient,
        }
    }

    fn delay(self) -> Duration {
        if let Self::Delay(delay) = self { delay } else { Duration::ZERO }
    }
}

/// The target of a proxy.
#[derive(Clone, Debug)]
pub enum Upstream {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// A running proxy. Dropping it closes all its connections.
pub struct Proxy {
    address: SocketAddr,
    link: Arc<Link>,
    running: AbortHandle,
}

struct Link {
    mode: watch::Sender<Mode>,
    upstream: watch::Sender<Upstream>,
    /// Connections of an earlier generation are abandoned.
    generation: AtomicU64,
    is_listening: watch::Sender<bool>,
    to_server: AtomicU64,
    to_client: AtomicU64,
}

impl Proxy {
    pub fn start(upstream: Upstream) -> Self {
        let socket = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("there is a free port");
        let address = socket.local_addr().expect("the socket is bound");
        let link = Arc::new(Link {
            mode: watch::Sender::new(Mode::Forward),
            upstream: watch::Sender::new(upstream),
            generation: AtomicU64::new(0),
            is_listening: watch::Sender::new(true),
            to_server: AtomicU64::new(0),
            to_client: AtomicU64::new(0),
        });
        let running = tokio::spawn(run(Arc::clone(&link), address, socket)).abort_handle();
        Self { address, link, running }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn set(&self, mode: Mode) {
        self.link.mode.send_replace(mode);
    }

    /// Closes connections and refuses new ones, and waits until this has taken effect.
    pub async fn cut(&self) {
        let mut is_listening = self.link.is_listening.subscribe();
        self.set(Mode::Cut);
        is_listening.wait_for(|is_listening| !is_listening).await.expect("the link owns the sender");
    }

    /// Keeps the open connections, but forwards nothing on them from now on, as if their state was lost on the way. New
    /// connections are not affected.
    pub fn abandon_connections(&self) {
        self.link.generation.fetch_add(1, Ordering::SeqCst);
    }

    /// Closes all connections and connects to this target from now on.
    pub fn redirect_to(&self, upstream: Upstream) {
        self.link.upstream.send_replace(upstream);
    }

    /// Returns the numbers of bytes forwarded to the server and to the clients.
    pub fn bytes(&self) -> [u64; 2] {
        [&self.link.to_server, &self.link.to_client].map(|count| count.load(Ordering::SeqCst))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.running.abort();
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Runs the proxy. While it refuses connections, the socket is bound but does not listen, which keeps the port.
async fn run(link: Arc<Link>, address: SocketAddr, mut socket: TcpSocket) {
    let mut mode = link.mode.subscribe();
    loop {
        if mode.wait_for(|mode| *mode != Mode::Cut).await.is_err() {
            return;
        }
        let listener = socket.listen(BACKLOG).expect("the socket listens");
        link.is_listening.send_replace(true);
        let mut connections = JoinSet::new();
        tokio::select! {
            () = accept(&link, &listener, &mut connections) => {}
            _ = mode.wait_for(|mode| *mode == Mode::Cut) => {}
        }
        // Bound before the listener is closed, so that no other socket can get the port.
        socket = bind(address).expect("the port can be shared");
        drop(listener);
        connections.shutdown().await;
        link.is_listening.send_replace(false);
    }
}

async fn accept(link: &Arc<Link>, listener: &TcpListener, connections: &mut JoinSet<()>) {
    loop {
        tokio::select! {
            Ok((client, _)) = listener.accept() => {
                let link = Arc::clone(link);
                // Both ends notice how the connection ends.
                connections.spawn(async move { _ = link.serve(client).await; });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

impl Link {
    /// Serves a connection until it ends, or the target changes.
    async fn serve(&self, client: TcpStream) -> io::Result<()> {
        let mut upstream = self.upstream.subscribe();
        let target = upstream.borrow().clone();
        tokio::select! {
            served = self.serve_from(target, client) => served,
            _ = upstream.changed() => Ok(()),
        }
    }

    async fn serve_from(&self, target: Upstream, client: TcpStream) -> io::Result<()> {
        self.wait_until_forwarding(Direction::ToServer).await;
        client.set_nodelay(true)?;
        match target {
            Upstream::Tcp(address) => {
                let server = TcpStream::connect(address).await?;
                server.set_nodelay(true)?;
                self.join(client, server).await
            }
            Upstream::Unix(path) => self.join(client, UnixStream::connect(path).await?).await,
        }
    }

    async fn join(&self, client: TcpStream, server: impl AsyncRead + AsyncWrite) -> io::Result<()> {
        let (from_client, to_client) = tokio::io::split(client);
        let (from_server, to_server) = tokio::io::split(server);
        tokio::try_join!(
            self.pump(Direction::ToServer, from_client, to_server),
            self.pump(Direction::ToClient, from_server, to_client),
        )?;
        Ok(())
    }

    /// Forwards data when the mode allows it. An empty chunk marks the end.
    async fn pump(
        &self,
        direction: Direction,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
    ) -> io::Result<()> {
        let (queue, mut queued) = mpsc::channel::<(Instant, Vec<u8>)>(MAX_QUEUED_CHUNKS);
        let read = async move {
            loop {
                let mut chunk = vec![0; CHUNK_SIZE];
                let count = from.read(&mut chunk).await?;
                chunk.truncate(count);
                if queue.send((Instant::now(), chunk)).await.is_err() || count == 0 {
                    return io::Result::Ok(());
                }
            }
        };
        let generation = self.generation.load(Ordering::SeqCst);
        let write = async {
            while let Some((read_at, chunk)) = queued.recv().await {
                self.wait_until_due(direction, read_at).await;
                if self.generation.load(Ordering::SeqCst) != generation {
                    return pending().await;
                }
                if chunk.is_empty() {
                    break;
                }
                to.write_all(&chunk).await?;
                let counter = if direction == Direction::ToServer { &self.to_server } else { &self.to_client };
                counter.fetch_add(u64::try_from(chunk.len()).expect("a chunk is small"), Ordering::SeqCst);
            }
            to.shutdown().await
        };
        tokio::try_join!(read, write)?;
        Ok(())
    }

    /// Waits until the mode forwards data in this direction, and returns the mode.
    async fn wait_until_forwarding(&self, direction: Direction) -> Mode {
        let mut mode = self.mode.subscribe();
        let current = mode.wait_for(|mode| mode.forwards(direction)).await;
        *current.expect("the link owns the sender")
    }

    /// Waits until data read at this time may be forwarded.
    async fn wait_until_due(&self, direction: Direction, read_at: Instant) {
        let mut changes = self.mode.subscribe();
        loop {
            let due = read_at + self.wait_until_forwarding(direction).await.delay();
            if due <= Instant::now() {
                return;
            }
            tokio::select! {
                () = sleep_until(due) => {}
                _ = changes.changed() => {}
            }
        }
    }
}
