//! TLS of listeners and of connections to other services.

use std::{
    convert::Infallible,
    io::{self, Write},
    net::SocketAddr,
    path::PathBuf,
    process::Command,
    sync::Arc,
};

use clap::Parser;
use http::{Request, Response};
use http_body_util::Full;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use service_kit::{
    clock::Clock,
    server::connection::{self, Protocol},
    testing::{
        certificates::{Authority, Issued},
        listen,
    },
    tls::{TlsArgs, TlsInfo, UpstreamTlsArgs},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::body::Body;
use tracing::subscriber::DefaultGuard;

use crate::support::{TIMEOUT, error_response, parse_limits};

mod client_certificates;
mod dials;
mod handshakes;
mod reload;

/// Parses the flags of TLS.
#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    tls: TlsArgs,
    #[command(flatten)]
    upstream: UpstreamTlsArgs,
}

fn parse(flags: &[&str]) -> Cli {
    Cli::parse_from([""].iter().chain(flags))
}

/// An authority, and the files that it has issued for `localhost`.
struct Files {
    folder: TempDir,
    authority: Authority,
    authority_file: PathBuf,
}

impl Files {
    /// Writes the certificate and the key of a server to `server.crt` and `server.key`.
    fn new() -> Self {
        let (folder, authority) = (service_kit::testing::folder(), Authority::new("test"));
        let authority_file = authority.write(folder.path(), "ca");
        let files = Self { folder, authority, authority_file };
        files.write_server(&files.authority.issue(&["localhost"]));
        files
    }

    fn write_server(&self, issued: &Issued) {
        _ = issued.write(self.folder.path(), "server");
    }

    /// Returns the path of a file, as a flag takes it.
    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// Returns the settings of a server with these other flags.
    fn server(&self, flags: &[&str]) -> TlsArgs {
        let [certificate, key] = [self.path("server.crt"), self.path("server.key")];
        let identity = ["--tls-cert-file", &certificate, "--tls-key-file", &key];
        parse(&[&identity[..], flags].concat()).tls
    }
}

/// A server that responds to each request over HTTP/1 with the names of the certificate of its client.
struct Server {
    address: SocketAddr,
    _shutdown: DropGuard,
}

impl Server {
    async fn start(tls: &TlsArgs) -> Self {
        Self::start_with(tls, Protocol::Http1And2(error_response), &[]).await
    }

    async fn start_with(tls: &TlsArgs, protocol: Protocol, limits: &[&str]) -> Self {
        let limits = parse_limits(limits);
        let tls = tls.open(&Clock::system()).await.expect("usable files");
        let listener = listen(&limits, tls).await;
        let address = listener.local_addr().expect("an address");
        let service = tower::service_fn(|request: Request<_>| {
            let info = request.extensions().get::<TlsInfo>().expect("the request was received over TLS");
            let names = info.peer.as_ref().map_or("nobody".to_owned(), |peer| peer.names().join(" "));
            async move { Ok::<_, Infallible>(Response::new(Body::new(Full::from(names)))) }
        });
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        tokio::spawn(async move { connection::serve("test", listener, protocol, &limits, service, stop).await });
        Self { address, _shutdown: shutdown.drop_guard() }
    }

    async fn tcp(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("connected")
    }

    async fn connect(&self, client: &Client) -> io::Result<TlsStream<TcpStream>> {
        let host = ServerName::try_from("localhost").expect("a name");
        TlsConnector::from(Arc::clone(&client.0)).connect(host, self.tcp().await).await
    }

    /// Makes a request on a new connection, and returns the body of the response.
    async fn get(&self, client: &Client) -> io::Result<String> {
        get(&mut self.connect(client).await?).await
    }
}

/// Makes a request over HTTP/1, and returns the body of the response.
async fn get(stream: &mut TlsStream<TcpStream>) -> io::Result<String> {
    let exchange = async {
        stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await?;
        let mut response = Vec::new();
        loop {
            if stream.read_buf(&mut response).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let text = String::from_utf8_lossy(&response);
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            if head.contains(&format!("content-length: {}", body.len())) {
                return Ok(body.to_owned());
            }
        }
    };
    timeout(TIMEOUT, exchange).await.expect("a response in time")
}

/// A client that trusts one authority.
struct Client(Arc<ClientConfig>);

impl Client {
    fn new(authority: &Authority) -> Self {
        Self::build(authority, None)
    }

    fn with_certificate(authority: &Authority, issued: &Issued) -> Self {
        Self::build(authority, Some(issued))
    }

    fn build(authority: &Authority, issued: Option<&Issued>) -> Self {
        let mut roots = RootCertStore::empty();
        let certificate = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate");
        roots.add(certificate(&authority.pem())).expect("added");
        let builder = ClientConfig::builder_with_provider(default_provider().into())
            .with_safe_default_protocol_versions()
            .expect("supported")
            .with_root_certificates(roots);
        let mut config = match issued {
            None => builder.with_no_client_auth(),
            Some(issued) => {
                let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).expect("a key");
                builder.with_client_auth_cert(vec![certificate(&issued.certificate)], key).expect("usable")
            }
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self(Arc::new(config))
    }

    fn with_protocols(mut self, protocols: &[&[u8]]) -> Self {
        let config = Arc::get_mut(&mut self.0).expect("not shared");
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        self
    }
}

/// The log of the current thread.
struct Log {
    lines: mpsc::UnboundedReceiver<String>,
    _guard: DefaultGuard,
}

#[derive(Clone)]
struct Writer(mpsc::UnboundedSender<String>);

impl Write for Writer {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        _ = self.0.send(String::from_utf8_lossy(line).into_owned());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn capture() -> Self {
        let (sender, lines) = mpsc::unbounded_channel();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || Writer(sender.clone()));
        Self { lines, _guard: tracing::subscriber::set_default(subscriber.finish()) }
    }

    /// Waits for a line that contains this text.
    async fn wait_for(&mut self, text: &str) -> String {
        let mut seen = Vec::new();
        let found = async {
            while let Some(line) = self.lines.recv().await {
                if line.contains(text) {
                    return line;
                }
                seen.push(line);
            }
            panic!("the log ended");
        };
        timeout(TIMEOUT * 2, found).await.unwrap_or_else(|_| panic!("no line contains {text:?}: {seen:?}"))
    }
}

/// Sends a signal to this process.
fn signal(name: &str) {
    let sent = Command::new("kill").args(["-s", name, &std::process::id().to_string()]).status();
    assert!(sent.expect("`kill` is installed").success());
}

/// Returns the error of settings that are refused.
async fn error_of(tls: &TlsArgs) -> String {
    format!("{:#}", tls.open(&Clock::system()).await.expect_err("refused"))
}
