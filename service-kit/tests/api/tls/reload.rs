//! Files that change while a server runs.

use std::{fs, time::Duration};

use service_kit::testing::certificates::{Authority, replace};
use tokio::time::timeout;

use super::{Client, Files, Log, Server, get, signal};
use crate::support::TIMEOUT;

/// Connects until the server has a certificate of this authority.
async fn wait_until_trusted(server: &Server, authority: &Authority) {
    let trusted = async {
        while server.connect(&Client::new(authority)).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(TIMEOUT, trusted).await.expect("the new certificate is served in time");
}

#[tokio::test]
async fn new_certificate_is_served_after_sighup_and_open_connections_stay() {
    let (files, other) = (Files::new(), Authority::new("another"));
    let server = Server::start(&files.server(&[])).await;
    let mut open = server.connect(&Client::new(&files.authority)).await.expect("connected");
    files.write_server(&other.issue(&["localhost"]));
    signal("HUP");
    wait_until_trusted(&server, &other).await;
    assert_eq!(get(&mut open).await.expect("still served"), "nobody");
    server.connect(&Client::new(&files.authority)).await.expect_err("the old certificate is no longer served");
}

#[tokio::test]
async fn new_certificate_is_served_within_seconds_without_a_signal() {
    let (files, other) = (Files::new(), Authority::new("another"));
    let server = Server::start(&files.server(&[])).await;
    files.write_server(&other.issue(&["localhost"]));
    let begun = tokio::time::Instant::now();
    wait_until_trusted(&server, &other).await;
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn certificate_behind_a_replaced_symbolic_link_is_served() {
    // Kubernetes replaces the link to the directory of all files.
    let (files, other) = (Files::new(), Authority::new("another"));
    for (version, authority) in [("1", &files.authority), ("2", &other)] {
        fs::create_dir(files.path(version)).expect("created");
        _ = authority.issue(&["localhost"]).write(&files.folder.path().join(version), "server");
    }
    std::os::unix::fs::symlink("1", files.path("data")).expect("linked");
    let [certificate, key] = [files.path("data/server.crt"), files.path("data/server.key")];
    let server = Server::start(&super::parse(&["--tls-cert-file", &certificate, "--tls-key-file", &key]).tls).await;
    wait_until_trusted(&server, &files.authority).await;
    std::os::unix::fs::symlink("2", files.path("new")).expect("linked");
    fs::rename(files.path("new"), files.path("data")).expect("replaced");
    signal("HUP");
    wait_until_trusted(&server, &other).await;
}

#[tokio::test]
async fn unusable_files_are_reported_once_and_the_last_valid_ones_stay_in_use() {
    let (files, mut log) = (Files::new(), Log::capture());
    let server = Server::start(&files.server(&[])).await;
    let mismatched = files.authority.issue(&["localhost"]);
    replace(&files.folder.path().join("server.key"), &mismatched.key, 0o600);
    signal("HUP");
    let line = log.wait_for("the files of TLS are unusable; the previous ones remain in use").await;
    assert!(line.contains("ERROR") && line.contains("has another key than"), "{line}");
    signal("HUP");
    let line = log.lines.recv().await.expect("a line");
    assert!(line.contains("no file of TLS has changed"), "the same error is not logged again: {line}");
    server.connect(&Client::new(&files.authority)).await.expect("still served");
    replace(&files.folder.path().join("server.crt"), &mismatched.certificate, 0o644);
    signal("HUP");
    log.wait_for("the files of TLS have changed").await;
    server.connect(&Client::new(&files.authority)).await.expect("served");
    fs::remove_file(files.path("server.crt")).expect("removed");
    signal("HUP");
    let line = log.wait_for("the files of TLS are unusable").await;
    assert!(line.contains("cannot read"), "{line}");
    server.connect(&Client::new(&files.authority)).await.expect("still served");
}

#[tokio::test]
async fn new_client_authority_and_revocations_take_effect() {
    let (files, mut log, other) = (Files::new(), Log::capture(), Authority::new("another"));
    replace(&files.folder.path().join("crl.pem"), &files.authority.revoke(&[]), 0o644);
    let flags = ["--tls-client-ca-file", &files.path("ca.pem"), "--tls-crl-file", &files.path("crl.pem")];
    let server = Server::start(&files.server(&flags)).await;
    let (first, second) = (files.authority.issue(&["a"]), other.issue(&["b"]));
    let clients = [&first, &second].map(|issued| Client::with_certificate(&files.authority, issued));
    let mut open = server.connect(&clients[0]).await.expect("connected");
    assert_eq!(get(&mut open).await.expect("served"), "a");
    server.get(&clients[1]).await.expect_err("refused");

    replace(&files.folder.path().join("ca.pem"), &(files.authority.pem() + &other.pem()), 0o644);
    let lists = files.authority.revoke(&[&first]) + &other.revoke(&[]);
    replace(&files.folder.path().join("crl.pem"), &lists, 0o644);
    signal("HUP");
    log.wait_for("the files of TLS have changed").await;
    assert_eq!(server.get(&clients[1]).await.expect("served"), "b");
    server.get(&clients[0]).await.expect_err("revoked");
    assert_eq!(get(&mut open).await.expect("open connections stay"), "a");
}
