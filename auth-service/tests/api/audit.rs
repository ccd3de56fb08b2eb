//! Audit events of failed password checks, service tokens, and reads by administrators.

use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::auth::v1::{
    AuditEvent, ChangePasswordRequest, GetUserRequest, ListAuditEventsRequest, ListMySecurityEventsRequest,
    ListUsersRequest, TokenPair, admin_service_client::AdminServiceClient, audit_event::Kind,
};
use tonic::transport::Channel;

use crate::support::{PASSWORD, Server, bearer, execute, run_program, user_id};

on_each_database! {
    a_wrong_current_password_is_recorded,
    issuing_and_revoking_service_tokens_is_recorded,
    each_read_of_an_administrator_is_recorded,
}

fn client(server: &Server) -> AdminServiceClient<Channel> {
    AdminServiceClient::new(server.channel.clone())
}

/// Signs up an administrator, and logs in.
async fn sign_up_admin(server: &Server) -> TokenPair {
    server.sign_up("admin@example.com").await.expect("signed up");
    execute(&server.database, "update users set roles = 'admin'").await;
    server.login("admin@example.com", PASSWORD).await.expect("logged in")
}

/// Returns the events of a kind, newest first.
async fn events(server: &Server, admin: &TokenPair, kind: Kind) -> Vec<AuditEvent> {
    let request = ListAuditEventsRequest { kind: kind.into(), ..Default::default() };
    let page = client(server).list_audit_events(bearer(&admin.access_token, request)).await;
    page.expect("listed").into_inner().events
}

async fn a_wrong_current_password_is_recorded(database: TestDatabase) {
    let server = Server::start(database).await;
    let ann = server.sign_up_and_login("ann@example.com").await;
    let (current_password, new_password) = ("a wrong one".to_owned(), "a stapled battery of horses".to_owned());
    let request = bearer(&ann.access_token, ChangePasswordRequest { current_password, new_password });
    let changed = server.account().change_password(request).await;
    assert_refused!(changed, PermissionDenied, "CREDENTIALS_INVALID", "current_password");
    let deleted = server.delete_me(&ann.access_token, "a wrong one").await;
    assert_refused!(deleted, PermissionDenied, "CREDENTIALS_INVALID", "current_password");

    let request = bearer(&ann.access_token, ListMySecurityEventsRequest::default());
    let events = server.account().list_my_security_events(request).await.expect("listed").into_inner().events;
    let wrong: Vec<_> = events.iter().filter(|event| event.kind() == Kind::CurrentPasswordWrong).collect();
    let attempted: Vec<_> = wrong.iter().map(|event| &event.details["attempted"][..]).collect();
    assert_eq!(attempted, ["KIND_ACCOUNT_DELETED", "KIND_PASSWORD_CHANGED"]);
    for event in wrong {
        assert_eq!((&event.actor_id, &event.session_id), (&user_id(&ann), &ann.session_id));
        assert_eq!(event.ip_address, "127.0.0.1");
    }
    server.stop().await;
}

async fn issuing_and_revoking_service_tokens_is_recorded(database: TestDatabase) {
    let server = Server::start(database).await;
    let admin = sign_up_admin(&server).await;
    for arguments in [
        &["tokens", "issue-service", "billing", "--scope", "tokens.verify"][..],
        &["tokens", "issue-service", "billing"],
        &["tokens", "revoke-service", "billing"],
    ] {
        let (succeeded, _, error) = run_program(&server.database, arguments);
        assert!(succeeded, "{error}");
    }
    let (succeeded, _, _) = run_program(&server.database, &["tokens", "revoke-service", "billing"]);
    assert!(!succeeded, "nothing is left to revoke");

    let issued = events(&server, &admin, Kind::ServiceTokenIssued).await;
    let scopes: Vec<_> = issued.iter().map(|event| &event.details["scopes"][..]).collect();
    assert_eq!(scopes, ["tokens.verify clients.forward", "tokens.verify"]);
    let revoked = events(&server, &admin, Kind::ServiceTokensRevoked).await;
    assert_eq!(revoked.iter().map(|event| &event.details["tokens"][..]).collect::<Vec<_>>(), ["2"]);
    for event in issued.iter().chain(&revoked) {
        assert_eq!(event.details["service"], "billing");
        assert_eq!((&event.user_id[..], &event.actor_id[..], &event.ip_address[..]), ("", "", ""));
    }
    server.stop().await;
}

async fn each_read_of_an_administrator_is_recorded(database: TestDatabase) {
    let server = Server::start(database).await;
    let (admin, bob) = (sign_up_admin(&server).await, server.sign_up_and_login("bob@example.com").await);
    let (mut client, token) = (client(&server), &admin.access_token);
    let get = GetUserRequest { user_id: user_id(&bob) };
    client.get_user(bearer(token, get)).await.expect("found");
    let filter = format!("email:{}", "b".repeat(300));
    let list = ListUsersRequest { filter: filter.clone(), ..Default::default() };
    client.list_users(bearer(token, list)).await.expect("listed");
    let list = ListAuditEventsRequest { user_id: user_id(&bob), ..Default::default() };
    client.list_audit_events(bearer(token, list)).await.expect("listed");
    // Calls that fail read nothing.
    client.get_user(bearer(token, GetUserRequest { user_id: "x".to_owned() })).await.expect_err("refused");
    client.list_users(bearer(&bob.access_token, ListUsersRequest::default())).await.expect_err("refused");

    let mut reads = events(&server, &admin, Kind::AdminRead).await;
    reads.reverse();
    let detail = |name: &str| reads.iter().map(|read| read.details.get(name).cloned()).collect::<Vec<_>>();
    assert_eq!(detail("rpc"), ["GetUser", "ListUsers", "ListAuditEvents"].map(|rpc| Some(rpc.to_owned())));
    assert_eq!(detail("user_id"), [Some(user_id(&bob)), None, Some(user_id(&bob))]);
    assert_eq!(detail("filter"), [None, Some(filter[..256].to_owned()), None]);
    for read in &reads {
        assert_eq!((&read.user_id, &read.actor_id), (&user_id(&admin), &user_id(&admin)));
        assert_eq!((&read.session_id, &read.ip_address[..]), (&admin.session_id, "127.0.0.1"));
    }
    server.stop().await;
}
