//! A proxy between two programs that fails as networks do.

use std::{
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

/// How many connections may wait to be accepted.
const BACKLOG: u32 = 1024;

/// How much is read at once, and how often ahead of what can be passed on.
const CHUNK: usize = 16 * 1024;
const AHEAD: usize = 64;

/// What happens on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Everything goes through.
    Forward,
    /// Everything goes through, so much later.
    Delay(Duration),
    /// Connections are closed and new ones refused.
    Cut,
    /// Connections stand, new ones come about, and nothing goes through: a peer that has silently gone.
    Frozen,
    /// As frozen, but only what the server says.
    Mute,
    /// As frozen, but only what the server is told.
    Deaf,
}

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    ToServer,
    ToClient,
}

impl Mode {
    fn passes(self, direction: Direction) -> bool {
        match self {
            Self::Forward | Self::Delay(_) => true,
            Self::Cut | Self::Frozen => false,
            Self::Mute => direction == Direction::ToServer,
            Self::Deaf => direction == Direction::ToClient,
        }
    }

    fn delay(self) -> Duration {
        if let Self::Delay(delay) = self { delay } else { Duration::ZERO }
    }
}

/// Where a proxy leads.
#[derive(Clone, Debug)]
pub enum Upstream {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// A running proxy, which closes all its connections when it is dropped.
pub struct Proxy {
    address: SocketAddr,
    link: Arc<Link>,
    running: AbortHandle,
}

struct Link {
    mode: watch::Sender<Mode>,
    upstream: watch::Sender<Upstream>,
    to_server: AtomicU64,
    to_client: AtomicU64,
}

impl Proxy {
    pub fn start(upstream: Upstream) -> Self {
        let socket = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("there is a free port");
        let address = socket.local_addr().expect("it is bound");
        let link = Arc::new(Link {
            mode: watch::Sender::new(Mode::Forward),
            upstream: watch::Sender::new(upstream),
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

    /// Connections lead there from now on; those that stand are closed.
    pub fn lead_to(&self, upstream: Upstream) {
        self.link.upstream.send_replace(upstream);
    }

    /// How many bytes have gone through to the server and to its clients.
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
    socket.bind(address)?;
    Ok(socket)
}

/// A socket that is bound and does not listen refuses connections and yet keeps the port.
async fn run(link: Arc<Link>, address: SocketAddr, mut socket: TcpSocket) {
    let (mut mode, mut upstream) = (link.mode.subscribe(), link.upstream.subscribe());
    loop {
        if mode.wait_for(|mode| *mode != Mode::Cut).await.is_err() {
            return;
        }
        let listener = socket.listen(BACKLOG).expect("the socket listens");
        let mut connections = JoinSet::new();
        tokio::select! {
            () = accept(&link, &listener, &mut connections) => {}
            _ = mode.wait_for(|mode| *mode == Mode::Cut) => {}
            _ = upstream.changed() => {}
        }
        drop(listener);
        connections.shutdown().await;
        socket = bind(address).expect("the port is still ours");
    }
}

async fn accept(link: &Arc<Link>, listener: &TcpListener, connections: &mut JoinSet<()>) {
    loop {
        tokio::select! {
            Ok((client, _)) = listener.accept() => {
                let link = Arc::clone(link);
                // How a connection ends is for its two ends to judge.
                connections.spawn(async move { _ = link.serve(client).await; });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

impl Link {
    async fn serve(&self, client: TcpStream) -> io::Result<()> {
        self.passing(Direction::ToServer).await;
        client.set_nodelay(true)?;
        let upstream = self.upstream.borrow().clone();
        match upstream {
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

    /// Passes on what comes, in its time; the end comes as an empty chunk.
    async fn pump(
        &self,
        direction: Direction,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
    ) -> io::Result<()> {
        let (queue, mut queued) = mpsc::channel::<(Instant, Vec<u8>)>(AHEAD);
        let read = async move {
            loop {
                let mut chunk = vec![0; CHUNK];
                let count = from.read(&mut chunk).await?;
                chunk.truncate(count);
                if queue.send((Instant::now(), chunk)).await.is_err() || count == 0 {
                    return io::Result::Ok(());
                }
            }
        };
        let write = async {
            while let Some((read_at, chunk)) = queued.recv().await {
                self.due(direction, read_at).await;
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

    /// Waits until something can go this way.
    async fn passing(&self, direction: Direction) -> Mode {
        let mut mode = self.mode.subscribe();
        let passing = mode.wait_for(|mode| mode.passes(direction)).await;
        *passing.expect("the link holds the other end")
    }

    /// Waits until what was read at a time may go on.
    async fn due(&self, direction: Direction, read_at: Instant) {
        let mut changes = self.mode.subscribe();
        loop {
            let due = read_at + self.passing(direction).await.delay();
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
