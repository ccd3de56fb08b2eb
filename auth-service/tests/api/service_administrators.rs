//! Programs that administer accounts: service accounts, and personal access tokens. They cannot change credentials.

use std::time::Duration;

use prost::Message;
use service_kit::{
    assert_refused,
    auth::scope::Scope,
    on_each_database,
    testing::{TestDatabase, call_raw},
};
use taskey_proto::{
    FILE_DESCRIPTOR_SET,
    auth::v1::{
        DeleteServiceAccountRequest, DeleteUserFactorsRequest, DisableUserRequest, EnableUserRequest, GetUserRequest,
        ListAuditEventsRequest, ListMailRequest, ListServiceAccountsRequest, ListUserSessionsRequest, ListUsersRequest,
        RetryMailRequest, RevokeUserSessionsRequest, RotateServiceAccountSecretRequest, SetUserRolesRequest,
        UnlockUserRequest,
    },
};
use tonic::{Code, Status};

use crate::{
    forged_claims::{forge_with_scopes, id, sign_up_admin},
    oauth::{client_token, introspect},
    personal_access_tokens,
    service_accounts::{admin_client, created, delete, events_of, with_scopes},
    support::{Server, bearer, execute, user_id},
};

on_each_database! {
    programs_administer_but_do_not_change_credentials,
    a_service_account_needs_the_scope_of_each_rpc,
    a_service_account_needs_no_recent_proof,
    a_service_account_outlives_the_role_of_its_creator,
    a_deleted_service_account_no_longer_administers,
    the_scopes_of_a_service_account_are_those_in_the_database,
    a_service_account_that_cannot_administer_is_no_administrator,
    the_audit_log_names_the_service_account,
}

const ADMINISTERING: [&str; 2] = ["admin.read", "admin.write"];

const UNKNOWN_ID: &str = "0198c0de-0000-7000-8000-000000000000";

/// What an RPC of `AdminService` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Read,
    /// A change that programs can make.
    Write,
    /// A change that needs a login.
    Credentials,
}

/// Returns all RPCs of `AdminService`, with requests that are valid for this user.
fn rpcs(user: &str) -> Vec<(&'static str, Access, Vec<u8>)> {
    let (user_id, unknown) = (user.to_owned(), UNKNOWN_ID.to_owned());
    let user = || user_id.clone();
    vec![
        ("GetUser", Access::Read, GetUserRequest { user_id: user() }.encode_to_vec()),
        ("ListUsers", Access::Read, ListUsersRequest::default().encode_to_vec()),
        ("ListUserSessions", Access::Read, ListUserSessionsRequest { user_id: user() }.encode_to_vec()),
        ("ListAuditEvents", Access::Read, ListAuditEventsRequest::default().encode_to_vec()),
        ("ListMail", Access::Read, ListMailRequest::default().encode_to_vec()),
        ("ListServiceAccounts", Access::Read, ListServiceAccountsRequest::default().encode_to_vec()),
        ("DisableUser", Access::Write, DisableUserRequest { user_id: user() }.encode_to_vec()),
        ("EnableUser", Access::Write, EnableUserRequest { user_id: user() }.encode_to_vec()),
        ("UnlockUser", Access::Write, UnlockUserRequest { user_id: user() }.encode_to_vec()),
        ("RevokeUserSessions", Access::Write, RevokeUserSessionsRequest { user_id: user() }.encode_to_vec()),
        ("RetryMail", Access::Write, RetryMailRequest { mail_id: unknown.clone() }.encode_to_vec()),
        ("DeleteUserFactors", Access::Credentials, DeleteUserFactorsRequest { user_id: user() }.encode_to_vec()),
        ("SetUserRoles", Access::Credentials, SetUserRolesRequest { user_id: user(), roles: vec![] }.encode_to_vec()),
        ("CreateServiceAccount", Access::Credentials, with_scopes(&["tasks.read"]).encode_to_vec()),
        (
            "RotateServiceAccountSecret",
            Access::Credentials,
            RotateServiceAccountSecretRequest { id: unknown.clone(), overlap: None }.encode_to_vec(),
        ),
        ("DeleteServiceAccount", Access::Credentials, DeleteServiceAccountRequest { id: unknown }.encode_to_vec()),
    ]
}

async fn call(server: &Server, rpc: &str, request: &[u8], token: &str) -> Result<Vec<u8>, Status> {
    call_raw(&server.channel, &format!("/taskey.auth.v1.AdminService/{rpc}"), bearer(token, request.to_vec())).await
}

/// Returns an access token of a new service account with these scopes.
async fn service_token(server: &Server, admin: &str, scopes: &[&str]) -> String {
    let account = created(server, admin, scopes).await;
    client_token(server, &account, "").await.expect("issued").access_token
}

#[test]
fn the_table_contains_all_rpcs() {
    let descriptors = prost_types::FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).expect("descriptors");
    let services = descriptors.file.into_iter().flat_map(|file| file.service);
    let admin = services.into_iter().find(|service| service.name() == "AdminService").expect("the service");
    let mut all: Vec<_> = admin.method.iter().map(|method| method.name().to_owned()).collect();
    let mut table: Vec<_> = rpcs("").into_iter().map(|(rpc, ..)| rpc.to_owned()).collect();
    all.sort();
    table.sort();
    assert_eq!(table, all);
}

async fn programs_administer_but_do_not_change_credentials(database: TestDatabase) {
    let server = Server::start(database).await;
    let admin = sign_up_admin(&server).await.access_token;
    let ann = user_id(&server.sign_up_and_login("ann@example.com").await);
    let personal = personal_access_tokens::created(&server, &admin, &ADMINISTERING).await.secret;
    let service = service_token(&server, &admin, &ADMINISTERING).await;
    for (rpc, access, request) in rpcs(&ann) {
        for token in [&personal, &service] {
            match (access, call(&server, rpc, &request, token).await) {
                (Access::Credentials, outcome) => assert_refused!(outcome, PermissionDenied, "PERMISSION_DENIED"),
                (_, Err(status)) => assert_eq!((rpc, status.code()), ("RetryMail", Code::NotFound), "{status:?}"),
                (_, Ok(_)) => {}
            }
        }
    }
    // An administrator who has logged in can do all of it.
    for (rpc, access, request) in rpcs(&ann) {
        let outcome = call(&server, rpc, &request, &admin).await;
        let is_unknown = outcome.as_ref().is_err_and(|status| status.code() == Code::NotFound);
        assert!(outcome.is_ok() || is_unknown, "{rpc} {access:?}: {outcome:?}");
    }
    server.stop().await;
}

async fn a_service_account_needs_the_scope_of_each_rpc(database: TestDatabase) {
    let server = Server::start(database).await;
    let admin = sign_up_admin(&server).await.access_token;
    let ann = user_id(&server.sign_up_and_login("ann@example.com").await);
    let both = created(&server, &admin, &ADMINISTERING).await;
    for (scope, permitted) in [("admin.read", Access::Read), ("admin.write", Access::Write)] {
        let narrow = client_token(&server, &both, scope).await.expect("issued").access_token;
        for token in [narrow, service_token(&server, &admin, &[scope]).await] {
            for (rpc, access, request) in rpcs(&ann) {
                let outcome = call(&server, rpc, &request, &token).await;
                let is_read = access == Access::Read;
                if is_read != (permitted == Access::Read) {
                    assert_refused!(outcome, PermissionDenied, "SCOPE_MISSING");
                } else if access != Access::Credentials {
                    assert!(outcome.is_ok() || rpc == "RetryMail", "{rpc}: {outcome:?}");
                }
            }
        }
    }
    server.stop().await;
}

async fn a_service_account_needs_no_recent_proof(database: TestDatabase) {
    let server = Server::start(database).await;
    let admin = sign_up_admin(&server).await.access_token;
    let account = created(&server, &admin, &ADMINISTERING).await;
    server.manual_clock.advance(Duration::from_secs(86_400));
    let token = client_token(&server, &account, "").await.expect("issued").access_token;
    admin_client(&server).list_users(bearer(&token, ListUsersRequest::default())).await.expect("listed");
    let introspected = introspect(&server, &token).await;
    assert_eq!((introspected.roles, introspected.auth_time), (vec!["admin".to_owned()], None));
    server.stop().await;
}

async fn a_service_account_outlives_the_role_of_its_creator(database: TestDatabase) {
    let server = Server::start(database).await;
    let admin = sign_up_admin(&server).await;
    let token = service_token(&server, &admin.access_token, &ADMINISTERING).await;
    execute(&server.database, "update users set roles = ''").await;
    let list = async |token: &str| admin_client(&server).list_users(bearer(token, ListUsersRequest::default())).await;
    assert_refused!(list(&admin.access_token).await, PermissionDenied, "PERMISSION_DENIED");
    list(&token).await.expect("listed");
    execute(&server.database, "delete from users").await;
    list(&token).await.expect("listed");
    server.stop().await;
}

async fn a_deleted_service_account_no_longer_administers(database: TestDatabase) {
    let server = Server::start(database).await;
    let admin = sign_up_admin(&server).await.access_token;
    let account = created(&server, &admin, &ADMINISTERING).await;
    let token = client_token(&server, &account, "").await.expect("issued").access_token;
    delete(&server, &admin, &account.id).await.expect("deleted");
    let refused = admin_client(&server).list_users(bearer(&token, ListUsersRequest::default())).await;
    assert_refused!(refused, Unauthenticated, "TOKEN_REVOKED");
    server.stop().await;
}

async fn the_scopes_of_a_service_account_are_those_in_the_database(database: TestDatabase) {
    let server = Server::start(database).await;
    let admin = sign_up_admin(&server).await.access_token;
    let account = created(&server, &admin, &["admin.read"]).await;
    let token = client_token(&server, &account, "").await.expect("issued").access_token;
    let session_id = id(&introspect(&server, &token).await.sid.expect("a session"));
    let ann = user_id(&server.sign_up_and_login("ann@example.com").await);
    let scopes = [Scope::AdminRead, Scope::AdminWrite].into_iter().collect();
    let forged = forge_with_scopes(&server, id(&account.id), session_id, &["admin"], Some(scopes));
    let listed = admin_client(&server).list_users(bearer(&forged, ListUsersRequest::default())).await;
    listed.expect("permitted");
    let refused = admin_client(&server).disable_user(bearer(&forged, DisableUserRequest { user_id: ann })).await;
    assert_refused!(refused, PermissionDenied, "SCOPE_MISSING");
    server.stop().await;
}

async fn a_service_account_that_cannot_administer_is_no_administrator(database: TestDatabase) {
    let server = Server::start(database).await;
    let admin = sign_up_admin(&server).await.access_token;
    let account = created(&server, &admin, &["tasks.read", "tokens.verify"]).await;
    let token = client_token(&server, &account, "").await.expect("issued").access_token;
    let list = async |token: &str| admin_client(&server).list_users(bearer(token, ListUsersRequest::default())).await;
    assert_refused!(list(&token).await, PermissionDenied, "SCOPE_MISSING");
    let session_id = id(&introspect(&server, &token).await.sid.expect("a session"));
    for (roles, reason) in [(&[] as &[&str], "PERMISSION_DENIED"), (&["admin"], "SCOPE_MISSING")] {
        let forged = forge_with_scopes(&server, id(&account.id), session_id, roles, None);
        assert_refused!(list(&forged).await, PermissionDenied, reason);
    }
    server.stop().await;
}

async fn the_audit_log_names_the_service_account(database: TestDatabase) {
    let server = Server::start(database).await;
    let admin = sign_up_admin(&server).await.access_token;
    let account = created(&server, &admin, &ADMINISTERING).await;
    let token = client_token(&server, &account, "").await.expect("issued").access_token;
    let ann = user_id(&server.sign_up_and_login("ann@example.com").await);
    admin_client(&server)
        .disable_user(bearer(&token, DisableUserRequest { user_id: ann.clone() }))
        .await
        .expect("disabled");
    admin_client(&server).get_user(bearer(&token, GetUserRequest { user_id: ann.clone() })).await.expect("read");
    let events = events_of(&server, &admin, &ann).await;
    assert_eq!((events[0].kind().as_str_name(), &events[0].actor_id), ("KIND_USER_DISABLED", &account.id));
    let own = events_of(&server, &admin, &account.id).await;
    let read = (own[0].kind().as_str_name(), &own[0].actor_id, &own[0].details["user_id"]);
    assert_eq!(read, ("KIND_ADMIN_READ", &account.id, &ann));
    server.stop().await;
}
