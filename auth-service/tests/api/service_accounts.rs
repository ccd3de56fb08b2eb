//! Service accounts: how administrators create, list, rotate and delete them.

use std::time::Duration;

use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::auth::v1::{
    AuditEvent, CreateServiceAccountRequest, DeleteServiceAccountRequest, ListAuditEventsRequest,
    ListServiceAccountsRequest, ListServiceAccountsResponse, RotateServiceAccountSecretRequest, ServiceAccount,
    admin_service_client::AdminServiceClient,
};
use tonic::{Status, transport::Channel};

use crate::{
    forged_claims::sign_up_admin,
    oauth::{client_token, introspect},
    support::{Server, bearer, query_string},
};

on_each_database! {
    an_administrator_creates_and_lists_service_accounts,
    service_accounts_are_listed_in_pages,
    invalid_service_accounts_are_refused,
    only_administrators_manage_service_accounts,
    an_old_secret_is_valid_during_the_overlap,
    a_rotation_without_an_overlap_revokes_the_tokens,
    a_deleted_service_account_is_refused_and_its_data_is_deleted,
    changes_of_service_accounts_are_audited,
}

const UNKNOWN_ID: &str = "0198c0de-0000-7000-8000-000000000000";

pub fn admin_client(server: &Server) -> AdminServiceClient<Channel> {
    AdminServiceClient::new(server.channel.clone())
}

pub fn with_scopes(scopes: &[&str]) -> CreateServiceAccountRequest {
    let scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
    CreateServiceAccountRequest { label: "billing".to_owned(), scopes, certificate_name: String::new() }
}

pub async fn create(
    server: &Server,
    admin: &str,
    request: CreateServiceAccountRequest,
) -> Result<ServiceAccount, Status> {
    admin_client(server).create_service_account(bearer(admin, request)).await.map(tonic::Response::into_inner)
}

/// Creates a service account with these scopes, as an administrator.
pub async fn created(server: &Server, admin: &str, scopes: &[&str]) -> ServiceAccount {
    create(server, admin, with_scopes(scopes)).await.expect("created")
}

async fn list(server: &Server, admin: &str, page_size: i32, page_token: &str) -> ListServiceAccountsResponse {
    let request = ListServiceAccountsRequest { page_size, page_token: page_token.to_owned() };
    admin_client(server).list_service_accounts(bearer(admin, request)).await.expect("listed").into_inner()
}

pub async fn rotate(
    server: &Server,
    admin: &str,
    id: &str,
    overlap: Option<Duration>,
) -> Result<ServiceAccount, Status> {
    let overlap = overlap.map(|overlap| overlap.try_into().expect("a short time"));
    let request = bearer(admin, RotateServiceAccountSecretRequest { id: id.to_owned(), overlap });
    admin_client(server).rotate_service_account_secret(request).await.map(tonic::Response::into_inner)
}

pub async fn delete(server: &Server, admin: &str, id: &str) -> Result<(), Status> {
    let request = bearer(admin, DeleteServiceAccountRequest { id: id.to_owned() });
    admin_client(server).delete_service_account(request).await.map(drop)
}

pub async fn events_of(server: &Server, admin: &str, user_id: &str) -> Vec<AuditEvent> {
    let request = ListAuditEventsRequest { user_id: user_id.to_owned(), ..Default::default() };
    admin_client(server).list_audit_events(bearer(admin, request)).await.expect("listed").into_inner().events
}

async fn an_administrator_creates_and_lists_service_accounts(database: TestDatabase) {
    let server = Server::start(database).await;
    let admin = sign_up_admin(&server).await.access_token;
    let account = created(&server, &admin, &["clients.forward", "tasks.read"]).await;
    assert_eq!(account.scopes, ["tasks.read", "clients.forward"]);
    assert!(account.secret.starts_with("taskey_client_") && account.secret.len() == 57, "{}", account.secret);
    let request = CreateServiceAccountRequest {
        certificate_name: "Billing.Example.org".to_owned(),
        ..with_scopes(&["tokens.verify"])
    };
    let with_certificate = create(&server, &admin, request.clone()).await.expect("created");
    assert_eq!((&with_certificate.certificate_name[..], &with_certificate.secret[..]), ("billing.example.org", ""));
    let taken = create(&server, &admin, request).await;
    assert_refused!(taken, AlreadyExists, "CERTIFICATE_NAME_TAKEN", "certificate_name");

    let listed = list(&server, &admin, 0, "").await;
    let expected = ServiceAccount { secret: String::new(), ..account.clone() };
    assert_eq!(listed.service_accounts, [with_certificate, expected]);
    assert_eq!(listed.next_page_token, "");
    client_token(&server, &account, "").await.expect("issued");
    let used = &list(&server, &admin, 0, "").await.service_accounts[1];
    assert_eq!((used.last_use_date.len(), &used.last_use_address[..]), (10, "127.0.0.1"));
    let stored = query_string(&server.database, "select hash from service_accounts where hash is not null").await;
    assert!(!account.secret.contains(&stored) && stored.len() == 43, "only a hash is stored");
    server.stop().await;
}

async fn service_accounts_are_listed_in_pages(database: TestDatabase) {
    let server = Server::start(database).await;
    let admin = sign_up_admin(&server).await.access_token;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.insert(0, created(&server, &admin, &["tasks.read"]).await.id);
    }
    let first = list(&server, &admin, 2, "").await;
    let second = list(&server, &admin, 2, &first.next_page_token).await;
    let all = first.service_accounts.into_iter().chain(second.service_accounts);
    assert_eq!(all.map(|account| account.id).collect::<Vec<_>>(), ids);
    assert_eq!(second.next_page_token, "");
    server.stop().await;
}

async fn invalid_service_accounts_are_refused(database: TestDatabase) {
    let server = Server::start(database).await;
    let admin = sign_up_admin(&server).await.access_token;
    let cases = [
        (CreateServiceAccountRequest { label: String::new(), ..with_scopes(&["tasks.read"]) }, "label"),
        (CreateServiceAccountRequest { label: "x".repeat(101), ..with_scopes(&["tasks.read"]) }, "label"),
        (with_scopes(&[]), "scopes"),
        (with_scopes(&["x"]), "scopes[0]"),
        (with_scopes(&["tasks.read", "tasks.read"]), "scopes[1]"),
        (with_scopes(&["tasks.read", "account.write"]), "scopes[1]"),
        (with_scopes(&["account.read"]), "scopes[0]"),
        (with_scopes(&["tasks.read"; 9]), "scopes"),
        (
            CreateServiceAccountRequest { certificate_name: "a b".to_owned(), ..with_scopes(&["tasks.read"]) },
            "certificate_name",
        ),
    ];
    for (request, field) in cases {
        let outcome = create(&server, &admin, request).await;
        assert_refused!(outcome, InvalidArgument, "VALIDATION_FAILED", field);
    }
    let account = created(&server, &admin, &["tasks.read"]).await;
    let week = Duration::from_secs(7 * 86_400);
    for (id, overlap, field) in [("x", None, "id"), (&account.id, Some(week + Duration::from_nanos(1)), "overlap")] {
        let outcome = rotate(&server, &admin, id, overlap).await;
        assert_refused!(outcome, InvalidArgument, "VALIDATION_FAILED", field);
    }
    let negative = Some(prost_types::Duration { seconds: -1, nanos: 0 });
    let request = RotateServiceAccountSecretRequest { id: account.id.clone(), overlap: negative };
    let outcome = admin_client(&server).rotate_service_account_secret(bearer(&admin, request)).await;
    assert_refused!(outcome, InvalidArgument, "VALIDATION_FAILED", "overlap");
    rotate(&server, &admin, &account.id, Some(week)).await.expect("rotated");
    assert_refused!(rotate(&server, &admin, UNKNOWN_ID, None).await, NotFound, "SERVICE_ACCOUNT_NOT_FOUND");
    assert_refused!(delete(&server, &admin, UNKNOWN_ID).await, NotFound, "SERVICE_ACCOUNT_NOT_FOUND");
    server.stop().await;
}

async fn only_administrators_manage_service_accounts(database: TestDatabase) {
    let server = Server::start(database).await;
    let user = server.sign_up_and_login("ann@example.com").await.access_token;
    let outcome = create(&server, &user, with_scopes(&["tasks.read"])).await;
    assert_refused!(outcome, PermissionDenied, "PERMISSION_DENIED");
    let outcome =
        admin_client(&server).list_service_accounts(bearer(&user, ListServiceAccountsRequest::default())).await;
    assert_refused!(outcome, PermissionDenied, "PERMISSION_DENIED");
    assert_refused!(rotate(&server, &user, UNKNOWN_ID, None).await, PermissionDenied, "PERMISSION_DENIED");
    assert_refused!(delete(&server, &user, UNKNOWN_ID).await, PermissionDenied, "PERMISSION_DENIED");
    server.stop().await;
}

async fn an_old_secret_is_valid_during_the_overlap(database: TestDatabase) {
    let server = Server::start(database).await;
    let admin = sign_up_admin(&server).await.access_token;
    let old = created(&server, &admin, &["tasks.read"]).await;
    let token = client_token(&server, &old, "").await.expect("issued").access_token;
    let hour = Duration::from_secs(3600);
    let new = rotate(&server, &admin, &old.id, Some(hour)).await.expect("rotated");
    let expire_time = new.previous_secret_expire_time.expect("set").seconds;
    assert_eq!(expire_time, (server.clock.now() + hour).as_seconds());
    assert!(introspect(&server, &token).await.active, "its tokens stay valid");
    server.manual_clock.advance(Duration::from_secs(3599));
    client_token(&server, &old, "").await.expect("issued");
    client_token(&server, &new, "").await.expect("issued");
    server.manual_clock.advance(Duration::from_secs(1));
    assert_refused!(client_token(&server, &old, "").await, Unauthenticated, "CLIENT_INVALID");
    client_token(&server, &new, "").await.expect("issued");
    server.stop().await;
}

async fn a_rotation_without_an_overlap_revokes_the_tokens(database: TestDatabase) {
    let server = Server::start(database).await;
    let admin = sign_up_admin(&server).await.access_token;
    let first = created(&server, &admin, &["tasks.read"]).await;
    let second = rotate(&server, &admin, &first.id, Some(Duration::from_secs(60))).await.expect("rotated");
    let tokens = [&first, &second].map(async |account| client_token(&server, account, "").await.expect("issued"));
    let tokens = futures::future::join_all(tokens).await;
    let third = rotate(&server, &admin, &first.id, None).await.expect("rotated");
    assert_eq!(third.previous_secret_expire_time, None);
    for account in [&first, &second] {
        assert_refused!(client_token(&server, account, "").await, Unauthenticated, "CLIENT_INVALID");
    }
    for token in tokens {
        assert!(!introspect(&server, &token.access_token).await.active);
    }
    client_token(&server, &third, "").await.expect("issued");
    server.stop().await;
}

async fn a_deleted_service_account_is_refused_and_its_data_is_deleted(database: TestDatabase) {
    let server = Server::start(database).await;
    let admin = sign_up_admin(&server).await.access_token;
    let account = created(&server, &admin, &["tasks.write"]).await;
    let token = client_token(&server, &account, "").await.expect("issued").access_token;
    assert!(introspect(&server, &token).await.active);
    delete(&server, &admin, &account.id).await.expect("deleted");
    assert!(!introspect(&server, &token).await.active);
    assert_refused!(client_token(&server, &account, "").await, Unauthenticated, "CLIENT_INVALID");
    assert_eq!(server.list_deleted_users(0, 0).await.expect("listed").user_ids, std::slice::from_ref(&account.id));
    assert_refused!(delete(&server, &admin, &account.id).await, NotFound, "SERVICE_ACCOUNT_NOT_FOUND");
    server.stop().await;
}

async fn changes_of_service_accounts_are_audited(database: TestDatabase) {
    let server = Server::start(database).await;
    let admin = sign_up_admin(&server).await;
    let account = created(&server, &admin.access_token, &["tasks.read"]).await;
    rotate(&server, &admin.access_token, &account.id, None).await.expect("rotated");
    delete(&server, &admin.access_token, &account.id).await.expect("deleted");
    let events = events_of(&server, &admin.access_token, &account.id).await;
    let kinds: Vec<_> = events.iter().map(|event| event.kind().as_str_name()).collect();
    let expected =
        ["KIND_SERVICE_ACCOUNT_DELETED", "KIND_SERVICE_ACCOUNT_SECRET_ROTATED", "KIND_SERVICE_ACCOUNT_CREATED"];
    assert_eq!(kinds, expected);
    let admin_id = admin.user.expect("set").id;
    assert!(events.iter().all(|event| event.actor_id == admin_id && event.ip_address == "127.0.0.1"));
    assert_eq!((&events[2].details["label"][..], &events[2].details["scopes"][..]), ("billing", "tasks.read"));
    assert_eq!(events[0].details["label"], "billing");
    server.stop().await;
}
