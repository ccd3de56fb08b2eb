//! Services that authenticate with a certificate instead of a token.

use std::time::Duration;

use service_kit::{
    assert_refused,
    clock::Clock,
    on_each_database,
    testing::{TestDatabase, certificates::Authority},
    tls::UpstreamTlsArgs,
};
use taskey_proto::auth::v1::{
    CreateServiceAccountRequest, IntrospectRequest, IntrospectResponse, ListSessionsRequest, LoginRequest,
    WatchRevocationsRequest, auth_service_client::AuthServiceClient, o_auth_service_client::OAuthServiceClient,
    token_service_client::TokenServiceClient,
};
use tokio::time::timeout;
use tonic::{
    Request, Status,
    transport::{Channel, Endpoint, Uri},
};

use crate::{
    forged_claims::sign_up_admin,
    oauth::{self, request_of},
    service_accounts,
    support::{PASSWORD, Server, bearer, run_program},
    token_exchange::exchange_request,
};

on_each_database! {
    a_certificate_with_the_scope_may_verify_tokens_without_a_token,
    a_certificate_gives_no_rights_to_the_clients_of_a_gateway,
    a_certificate_with_the_scope_may_forward_client_addresses,
    revoking_a_service_ends_the_streams_of_its_certificate,
    services_are_listed,
    a_certificate_belongs_to_one_service,
    a_service_account_authenticates_with_its_certificate,
    a_service_account_with_a_certificate_acts_for_users_until_it_is_deleted,
}

const BILLING: &str = "spiffe://example.org/billing";
const GATEWAY: &str = "gateway.example.org";

/// A server with mutual TLS, and the authority of its clients.
struct Mesh {
    server: Server,
    authority: Authority,
}

impl Mesh {
    async fn start(database: TestDatabase) -> Self {
        let (authority, folder) = (Authority::new("test"), database.folder().to_owned());
        let ca = authority.write(&folder, "ca").display().to_string();
        let [certificate, key] = authority.issue(&["127.0.0.1"]).write(&folder, "server");
        let (certificate, key) = (certificate.display().to_string(), key.display().to_string());
        let flags = ["--tls-cert-file", &certificate, "--tls-key-file", &key, "--tls-client-ca-file", &ca];
        let mut mesh = Self { server: Server::start_with(database, &flags).await, authority };
        mesh.server.channel = mesh.client("user").await;
        mesh
    }

    /// Returns a channel with a certificate for this name.
    async fn client(&self, name: &str) -> Channel {
        let folder = self.server.database.folder();
        // Each has its own files, because those of open connections are read again.
        let file = name.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
        let [certificate, key] = self.authority.issue(&[name]).write(folder, &file);
        let args = UpstreamTlsArgs {
            upstream_ca_file: Some(folder.join("ca.pem")),
            upstream_cert_file: Some(certificate),
            upstream_key_file: Some(key),
        };
        let dialer = args.open([], &Clock::system()).await.expect("usable files");
        let url: Uri = format!("https://{}", self.server.address).parse().expect("a URL");
        Endpoint::from(url).connect_with_connector(dialer).await.expect("connected")
    }

    /// Runs `auth-service tokens`, and returns what it prints.
    fn tokens(&self, arguments: &[&str]) -> String {
        let (succeeded, output, error) = run_program(&self.server.database, &[&["tokens"], arguments].concat());
        assert!(succeeded && error.is_empty(), "{error}");
        output
    }
}

/// Introspects a token with these headers.
async fn introspect(client: &Channel, headers: &[(&'static str, &str)]) -> Result<IntrospectResponse, Status> {
    let mut request = Request::new(IntrospectRequest { token: "x".to_owned(), ..Default::default() });
    for (name, value) in headers {
        request.metadata_mut().insert(*name, value.parse().expect("ASCII"));
    }
    TokenServiceClient::new(client.clone()).introspect(request).await.map(tonic::Response::into_inner)
}

async fn a_certificate_with_the_scope_may_verify_tokens_without_a_token(database: TestDatabase) {
    let mesh = Mesh::start(database).await;
    let printed = mesh.tokens(&["issue-service", "billing", "--san", BILLING, "--scope", "tokens.verify"]);
    assert_eq!(printed, "", "there is no token to print");
    mesh.tokens(&["issue-service", "gateway", "--san", GATEWAY, "--scope", "clients.forward"]);
    let billing = mesh.client(BILLING).await;
    introspect(&billing, &[]).await.expect("introspected");
    let watch = TokenServiceClient::new(billing.clone()).watch_revocations(WatchRevocationsRequest {}).await;
    watch.expect("the stream opens").into_inner().message().await.expect("no error").expect("the stream is open");
    // A token takes precedence.
    assert_refused!(introspect(&billing, &[("authorization", "Bearer x.y.z")]).await, Unauthenticated, "TOKEN_INVALID");
    let gateway = mesh.client("Gateway.Example.org").await;
    assert_refused!(introspect(&gateway, &[]).await, PermissionDenied, "SCOPE_MISSING");
    let other = mesh.client("spiffe://example.org/Billing").await;
    assert_refused!(introspect(&other, &[]).await, Unauthenticated, "TOKEN_MISSING");
    mesh.server.stop().await;
}

async fn a_service_account_authenticates_with_its_certificate(database: TestDatabase) {
    let mesh = Mesh::start(database).await;
    let admin = sign_up_admin(&mesh.server).await.access_token;
    let request = CreateServiceAccountRequest {
        label: "billing".to_owned(),
        scopes: vec!["tasks.read".to_owned()],
        certificate_name: BILLING.to_owned(),
    };
    let account = service_accounts::create(&mesh.server, &admin, request).await.expect("created");
    let issue = async |channel: &Channel, forwarded: bool| {
        let mut request = Request::new(request_of(&account, "client_credentials", ""));
        if forwarded {
            request.metadata_mut().insert("x-forwarded-for", "203.0.113.7".parse().expect("ASCII"));
        }
        OAuthServiceClient::new(channel.clone()).issue_token(request).await.map(tonic::Response::into_inner)
    };
    let billing = mesh.client(BILLING).await;
    let issued = issue(&billing, false).await.expect("issued");
    assert_eq!(issued.scope.as_deref(), Some("tasks.read"));
    assert_refused!(issue(&billing, true).await, Unauthenticated, "CLIENT_INVALID");
    let other = mesh.client("spiffe://example.org/other").await;
    assert_refused!(issue(&other, false).await, Unauthenticated, "CLIENT_INVALID");
    let rotated = service_accounts::rotate(&mesh.server, &admin, &account.id, None).await;
    assert_refused!(rotated, NotFound, "SERVICE_ACCOUNT_NOT_FOUND");
    mesh.server.stop().await;
}

async fn a_service_account_with_a_certificate_acts_for_users_until_it_is_deleted(database: TestDatabase) {
    let mesh = Mesh::start(database).await;
    let admin = sign_up_admin(&mesh.server).await.access_token;
    let request = CreateServiceAccountRequest {
        certificate_name: BILLING.to_owned(),
        ..service_accounts::with_scopes(&["tasks.read", "clients.forward"])
    };
    let account = service_accounts::create(&mesh.server, &admin, request).await.expect("created");
    let ann = mesh.server.sign_up_and_login("ann@example.com").await;
    let request = exchange_request(&account, &ann.access_token, "");
    let mut billing = OAuthServiceClient::new(mesh.client(BILLING).await);
    let token = billing.issue_token(request).await.expect("exchanged").into_inner().access_token;
    assert!(oauth::introspect(&mesh.server, &token).await.active);
    service_accounts::delete(&mesh.server, &admin, &account.id).await.expect("deleted");
    assert!(!oauth::introspect(&mesh.server, &token).await.active);
    mesh.server.stop().await;
}

async fn a_certificate_gives_no_rights_to_the_clients_of_a_gateway(database: TestDatabase) {
    let mesh = Mesh::start(database).await;
    let scopes = ["--scope", "tokens.verify", "--scope", "clients.forward"];
    mesh.tokens(&[&["issue-service", "gateway", "--san", GATEWAY], &scopes[..]].concat());
    let gateway = mesh.client(GATEWAY).await;
    introspect(&gateway, &[]).await.expect("the gateway itself may introspect");
    for headers in [("x-forwarded-for", "203.0.113.7"), ("x-forwarded-user-agent", "")] {
        assert_refused!(introspect(&gateway, &[headers]).await, Unauthenticated, "TOKEN_MISSING");
    }
    mesh.server.stop().await;
}

async fn a_certificate_with_the_scope_may_forward_client_addresses(database: TestDatabase) {
    let mesh = Mesh::start(database).await;
    mesh.tokens(&["issue-service", "gateway", "--san", GATEWAY, "--scope", "clients.forward"]);
    mesh.tokens(&["issue-service", "billing", "--san", BILLING, "--scope", "tokens.verify"]);
    mesh.server.sign_up("ann@example.com").await.expect("signed up");
    for (name, address) in [(GATEWAY, "203.0.113.7"), (BILLING, "127.0.0.1"), ("other", "127.0.0.1")] {
        let (email, password) = ("ann@example.com".to_owned(), PASSWORD.to_owned());
        let mut request = Request::new(LoginRequest { email, password, ..LoginRequest::default() });
        request.metadata_mut().insert("x-forwarded-for", "203.0.113.7".parse().expect("ASCII"));
        let mut client = AuthServiceClient::new(mesh.client(name).await);
        let token = client.login(request).await.expect("logged in").into_inner().access_token;
        let sessions = mesh.server.account().list_sessions(bearer(&token, ListSessionsRequest {})).await;
        assert_eq!(sessions.expect("listed").into_inner().sessions[0].ip_address, address, "{name}");
    }
    mesh.server.stop().await;
}

async fn revoking_a_service_ends_the_streams_of_its_certificate(database: TestDatabase) {
    let mesh = Mesh::start(database).await;
    mesh.tokens(&["issue-service", "billing", "--san", BILLING, "--scope", "tokens.verify"]);
    let mut client = TokenServiceClient::new(mesh.client(BILLING).await);
    let mut feed = client.watch_revocations(WatchRevocationsRequest {}).await.expect("the stream opens").into_inner();
    mesh.tokens(&["revoke-service", "billing"]);
    let ended = timeout(Duration::from_secs(10), async {
        while feed.message().await?.is_some() {}
        Ok(())
    });
    assert_refused!(ended.await.expect("the stream ends"), Unauthenticated, "TOKEN_INVALID");
    assert_refused!(client.watch_revocations(WatchRevocationsRequest {}).await, Unauthenticated, "TOKEN_MISSING");
    mesh.server.stop().await;
}

async fn services_are_listed(database: TestDatabase) {
    let mesh = Mesh::start(database).await;
    assert_eq!(mesh.tokens(&["list-services"]), "");
    mesh.tokens(&["issue-service", "gateway", "--scope", "clients.forward"]);
    mesh.tokens(&["issue-service", "billing", "--san", BILLING, "--scope", "tokens.verify"]);
    let listed = mesh.tokens(&["list-services"]);
    let rows: Vec<Vec<_>> = listed.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!(rows[0][..3], ["billing", BILLING, "tokens.verify"]);
    assert_eq!(rows[1][..3], ["gateway", "token", "clients.forward"]);
    assert!(rows.iter().all(|row| row.len() == 6 && row[3].ends_with('Z')), "{listed}");
    assert!(rows.iter().all(|row| row[4..] == ["never", "never"]), "{listed}");
    introspect(&mesh.client(BILLING).await, &[]).await.expect("introspected");
    let today = mesh.server.clock.now().to_string();
    let is_stored = || mesh.tokens(&["list-services"]).lines().next().is_some_and(|line| line.ends_with(&today[..10]));
    let stored = async {
        while !is_stored() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(10), stored).await.expect("the last use is stored");
    mesh.server.stop().await;
}

async fn a_certificate_belongs_to_one_service(database: TestDatabase) {
    let mesh = Mesh::start(database).await;
    let issue = ["tokens", "issue-service", "other", "--san", BILLING];
    let refused = |arguments: &[&str], expected: &str| {
        let (succeeded, output, error) = run_program(&mesh.server.database, arguments);
        assert!(!succeeded && output.is_empty() && error.contains(expected), "{error}");
    };
    refused(&issue, "--scope");
    mesh.tokens(&["issue-service", "billing", "--san", BILLING, "--scope", "tokens.verify"]);
    refused(&[&issue[..], &["--scope", "tokens.verify"]].concat(), "belongs to the service billing");
    refused(&["tokens", "issue-service", "x", "--san", "not a name", "--scope", "tokens.verify"], "must be a URI");
    mesh.server.stop().await;
}
