//! Certificates of clients.

use std::fs;

use service_kit::testing::certificates::{Authority, Issued, Validity};

use super::{Client, Files, Log, Server};

const NAME: &str = "spiffe://example.org/billing";

impl Files {
    /// Starts a server that verifies client certificates, with these other flags.
    async fn verifying_server(&self, flags: &[&str]) -> Server {
        let authorities = ["--tls-client-ca-file", &self.path("ca.pem")];
        Server::start(&self.server(&[&authorities[..], flags].concat())).await
    }

    /// Asserts that a client gets this alert, and that the log says why.
    async fn assert_refused(&self, server: &Server, client: &Client, alert: &str, logged: &str, log: &mut Log) {
        let error = server.get(client).await.expect_err("refused").to_string();
        assert!(error.contains(alert), "{error}");
        let line = log.wait_for("a TLS handshake has failed").await;
        assert!(line.contains(logged) && line.contains("WARN"), "{line}");
    }

    fn client(&self, issued: &Issued) -> Client {
        Client::with_certificate(&self.authority, issued)
    }
}

#[tokio::test]
async fn names_of_a_verified_certificate_are_passed_to_the_service() {
    let files = Files::new();
    let server = files.verifying_server(&[]).await;
    let issued = files.authority.issue(&["Billing.example.org", NAME]);
    assert_eq!(server.get(&files.client(&issued)).await.expect("served"), format!("billing.example.org {NAME}"));
}

#[tokio::test]
async fn client_without_a_certificate_is_refused_if_it_is_required() {
    let (files, mut log) = (Files::new(), Log::capture());
    let server = files.verifying_server(&[]).await;
    let client = Client::new(&files.authority);
    files.assert_refused(&server, &client, "CertificateRequired", "the client has no certificate", &mut log).await;
}

#[tokio::test]
async fn optional_certificate_is_verified_if_the_client_has_one() {
    let (files, mut log) = (Files::new(), Log::capture());
    let server = files.verifying_server(&["--tls-client-auth", "optional"]).await;
    assert_eq!(server.get(&Client::new(&files.authority)).await.expect("served"), "nobody");
    assert_eq!(server.get(&files.client(&files.authority.issue(&[NAME]))).await.expect("served"), NAME);
    let foreign = files.client(&Authority::new("another").issue(&[NAME]));
    let logged = "was not issued by a trusted authority";
    files.assert_refused(&server, &foreign, "UnknownCA", logged, &mut log).await;
}

#[tokio::test]
async fn certificates_are_not_requested_without_client_auth() {
    let files = Files::new();
    let server = files.verifying_server(&["--tls-client-auth", "none"]).await;
    assert_eq!(server.get(&files.client(&files.authority.issue(&[NAME]))).await.expect("served"), "nobody");
}

#[tokio::test]
async fn expired_certificate_is_refused() {
    let (files, mut log) = (Files::new(), Log::capture());
    let server = files.verifying_server(&[]).await;
    let client = files.client(&files.authority.issue_for(&[NAME], Validity::Expired));
    let logged = "the certificate of the client has expired";
    files.assert_refused(&server, &client, "CertificateExpired", logged, &mut log).await;
}

#[tokio::test]
async fn certificate_that_is_not_valid_yet_is_refused() {
    let (files, mut log) = (Files::new(), Log::capture());
    let server = files.verifying_server(&[]).await;
    let client = files.client(&files.authority.issue_for(&[NAME], Validity::Future));
    let logged = "the certificate of the client is not valid yet";
    files.assert_refused(&server, &client, "CertificateExpired", logged, &mut log).await;
}

#[tokio::test]
async fn self_signed_certificate_is_refused() {
    let (files, mut log) = (Files::new(), Log::capture());
    let server = files.verifying_server(&[]).await;
    let client = files.client(&Issued::self_signed(&[NAME]));
    let logged = "was not issued by a trusted authority";
    files.assert_refused(&server, &client, "UnknownCA", logged, &mut log).await;
}

#[tokio::test]
async fn revoked_certificate_is_refused() {
    let (files, mut log) = (Files::new(), Log::capture());
    let (revoked, valid) = (files.authority.issue(&[NAME]), files.authority.issue(&[NAME]));
    fs::write(files.path("crl.pem"), files.authority.revoke(&[&revoked])).expect("written");
    let server = files.verifying_server(&["--tls-crl-file", &files.path("crl.pem")]).await;
    assert_eq!(server.get(&files.client(&valid)).await.expect("served"), NAME);
    let logged = "the certificate of the client was revoked";
    files.assert_refused(&server, &files.client(&revoked), "CertificateRevoked", logged, &mut log).await;
}

#[tokio::test]
async fn certificate_of_an_authority_without_a_revocation_list_is_refused() {
    let (files, mut log) = (Files::new(), Log::capture());
    let other = Authority::new("another");
    fs::write(files.path("ca.pem"), files.authority.pem() + &other.pem()).expect("written");
    fs::write(files.path("crl.pem"), files.authority.revoke(&[])).expect("written");
    let server = files.verifying_server(&["--tls-crl-file", &files.path("crl.pem")]).await;
    let logged = "was issued by an authority without a revocation list";
    files.assert_refused(&server, &files.client(&other.issue(&[NAME])), "UnknownCA", logged, &mut log).await;
}

#[tokio::test]
async fn sessions_of_clients_with_certificates_are_not_resumed() {
    let files = Files::new();
    let server = files.verifying_server(&[]).await;
    let client = files.client(&files.authority.issue(&[NAME]));
    for _ in 0..3 {
        let mut stream = server.connect(&client).await.expect("connected");
        super::get(&mut stream).await.expect("served");
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(rustls::HandshakeKind::Full));
    }
}
