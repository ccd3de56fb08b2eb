//! Connections to other services.

use http::Uri;
use service_kit::{
    clock::Clock,
    server::connection::Protocol,
    testing::certificates::{Authority, Issued, Validity, replace},
    tls::Dialer,
};
use tower::Service;

use super::{Files, Log, Server, parse, signal};

/// Returns a dialer that trusts the authority of the files, with these other flags.
async fn dialer(files: &Files, flags: &[&str]) -> Dialer {
    let authorities = ["--upstream-ca-file", &files.path("ca.pem")];
    parse(&[&authorities[..], flags].concat()).upstream.open([], &Clock::system()).await.expect("usable files")
}

/// Connects to a server under the name `localhost`.
async fn dial(dialer: &Dialer, server: &Server) -> Result<(), String> {
    let url: Uri = format!("https://localhost:{}", server.address.port()).parse().expect("a URL");
    dialer.clone().call(url).await.map(|_| ()).map_err(|error| error.to_string())
}

/// Starts a gRPC server with this certificate, and returns the error of a connection to it.
async fn error_of_dial(files: &Files, certificate: &Issued) -> String {
    files.write_server(certificate);
    let server = grpc_server(files, &[]).await;
    dial(&dialer(files, &[]).await, &server).await.expect_err("refused")
}

async fn grpc_server(files: &Files, flags: &[&str]) -> Server {
    Server::start_with(&files.server(flags), Protocol::Http2, &[]).await
}

#[tokio::test]
async fn certificates_of_servers_are_verified() {
    let files = Files::new();
    dial(&dialer(&files, &[]).await, &grpc_server(&files, &[]).await).await.expect("connected");
    let authority = &files.authority;
    for (certificate, error) in [
        (authority.issue_for(&["localhost"], Validity::Expired), "the certificate of the server has expired"),
        (authority.issue_for(&["localhost"], Validity::Future), "the certificate of the server is not valid yet"),
        (authority.issue(&["example.org"]), "the certificate of the server is for example.org, not for localhost"),
        (Issued::self_signed(&["localhost"]), "the certificate of the server was not issued by a trusted authority"),
        (
            Authority::new("x").issue(&["localhost"]),
            "the certificate of the server was not issued by a trusted authority",
        ),
    ] {
        assert_eq!(error_of_dial(&files, &certificate).await, error);
    }
}

#[tokio::test]
async fn server_without_tls_is_refused() {
    let files = Files::new();
    let server = Server::start_with(&parse(&[]).tls, Protocol::Http2, &[]).await;
    dial(&dialer(&files, &[]).await, &server).await.expect_err("no TLS");
}

#[tokio::test]
async fn https_url_needs_authorities() {
    let url: Uri = "https://auth:50051".parse().expect("a URL");
    let error = parse(&[]).upstream.open([&url], &Clock::system()).await.expect_err("refused").to_string();
    assert!(error.contains("--upstream-ca-file"), "{error}");
    let url: Uri = "http://auth:50051".parse().expect("a URL");
    parse(&[]).upstream.open([&url], &Clock::system()).await.expect("plaintext");
}

#[tokio::test]
async fn new_files_are_used_by_new_connections() {
    let (files, mut log, other) = (Files::new(), Log::capture(), Authority::new("another"));
    let dialer = dialer(&files, &[]).await;
    files.write_server(&other.issue(&["localhost"]));
    let server = grpc_server(&files, &[]).await;
    dial(&dialer, &server).await.expect_err("not trusted yet");
    replace(&files.authority_file, &other.pem(), 0o644);
    signal("HUP");
    log.wait_for("the files of TLS have changed").await;
    dial(&dialer, &server).await.expect("trusted now");
}
