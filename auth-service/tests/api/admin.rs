//! Administrators, and what they may do to other people's accounts.

use std::process::Command;

use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::auth::v1::{
    AuditEvent, DisableUserRequest, EnableUserRequest, GetUserRequest, ListAuditEventsRequest, ListUsersRequest,
    RevokeUserSessionsRequest, SetUserRolesRequest, TokenPair, User, admin_service_client::AdminServiceClient,
    audit_event::Kind,
};
use tokio::task::JoinSet;
use tonic::{Response, Status, transport::Channel};

use crate::support::{self, PASSWORD, Server, bearer};

on_each_database! {
    the_first_administrator_is_made_at_the_machine,
    only_administrators_may_administer,
    a_disabled_account_is_out_at_once_and_back_when_it_is_enabled,
    roles_count_from_the_next_refresh_and_a_lost_one_ends_the_sessions,
    there_is_always_an_administrator_left,
    of_two_administrators_who_demote_each_other_one_is_left,
    accounts_are_listed_page_by_page_and_by_filter,
    an_administrator_ends_all_sessions_of_an_account,
    who_logs_out_while_being_disabled_gets_neither_call_stuck,
    a_request_at_fault_is_refused_by_its_field,
    the_log_tells_administrators_who_did_what,
}

fn set_role(database: &TestDatabase, arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_auth-service"))
        .args(["users", "set-role"])
        .args(arguments)
        .env("TASKEY_DATABASE_URL", database.url())
        .output()
        .expect("the program runs");
    (output.status.success(), String::from_utf8(output.stderr).expect("UTF-8"))
}

fn client(server: &Server) -> AdminServiceClient<Channel> {
    AdminServiceClient::new(server.channel.clone())
}

/// A new account that is made an administrator at the machine.
async fn admin(server: &Server, email: &str) -> TokenPair {
    server.sign_up(email).await.expect("signed up");
    assert_eq!(set_role(&server.database, &[email, "admin"]), (true, String::new()));
    server.login(email, PASSWORD).await.expect("logged in")
}

fn id(pair: &TokenPair) -> String {
    pair.user.as_ref().expect("told at login").id.clone()
}

async fn disable(server: &Server, admin: &TokenPair, user_id: &str) -> Result<User, Status> {
    let request = DisableUserRequest { user_id: user_id.to_owned() };
    client(server).disable_user(bearer(&admin.access_token, request)).await.map(Response::into_inner)
}

async fn set_roles(server: &Server, admin: &TokenPair, user_id: &str, roles: &[&str]) -> Result<User, Status> {
    let roles = roles.iter().map(ToString::to_string).collect();
    let request = SetUserRolesRequest { user_id: user_id.to_owned(), roles };
    client(server).set_user_roles(bearer(&admin.access_token, request)).await.map(Response::into_inner)
}

async fn list(server: &Server, admin: &TokenPair, request: ListUsersRequest) -> Result<(Vec<String>, String), Status> {
    let page = client(server).list_users(bearer(&admin.access_token, request)).await?.into_inner();
    Ok((page.users.into_iter().map(|user| user.email).collect(), page.next_page_token))
}

async fn events(server: &Server, admin: &TokenPair, request: ListAuditEventsRequest) -> Vec<AuditEvent> {
    let page = client(server).list_audit_events(bearer(&admin.access_token, request)).await;
    page.expect("listed").into_inner().events
}

async fn the_first_administrator_is_made_at_the_machine(database: TestDatabase) {
    let server = Server::start(database).await;
    let ann = server.person("ann@example.com").await;
    assert_eq!(set_role(&server.database, &["Ann@Example.com", "admin"]), (true, String::new()));
    let refreshed = server.refresh(&ann.refresh_token).await.expect("the session goes on");
    assert_eq!(refreshed.user.as_ref().expect("told").roles, ["admin"]);
    let request = GetUserRequest { user_id: id(&ann) };
    client(&server).get_user(bearer(&refreshed.access_token, request)).await.expect("let in");

    for (arguments, why) in [
        (&["nobody@example.com", "admin"][..], "has no account"),
        (&["ann@example.com", "king"], "admin or verifier"),
        (&["ann", "admin"], "the address must have an @"),
        (&["ann@example.com", "admin", "--remove"], "no account with the role `admin` would be left"),
    ] {
        let (good, error) = set_role(&server.database, arguments);
        assert!(!good && error.contains(why), "{error}");
    }
    assert_eq!(set_role(&server.database, &["ann@example.com", "verifier"]), (true, String::new()));
    assert_eq!(set_role(&server.database, &["ann@example.com", "verifier", "--remove"]), (true, String::new()));
    assert_refused!(Err::<(), _>(server.refused(&refreshed.access_token).await), Unauthenticated, "TOKEN_REVOKED");
    server.stop().await;
}

async fn only_administrators_may_administer(database: TestDatabase) {
    let server = Server::start(database).await;
    let ann = server.person("ann@example.com").await;
    let token = &ann.access_token;
    let mut client = client(&server);
    let user_id = id(&ann);
    let refusals = [
        client.get_user(bearer(token, GetUserRequest { user_id: user_id.clone() })).await.err(),
        client.list_users(bearer(token, ListUsersRequest::default())).await.err(),
        client.disable_user(bearer(token, DisableUserRequest { user_id: user_id.clone() })).await.err(),
        client.enable_user(bearer(token, EnableUserRequest { user_id: user_id.clone() })).await.err(),
        client.set_user_roles(bearer(token, SetUserRolesRequest::default())).await.err(),
        client.revoke_user_sessions(bearer(token, RevokeUserSessionsRequest { user_id })).await.err(),
        client.list_audit_events(bearer(token, ListAuditEventsRequest::default())).await.err(),
    ];
    for refusal in refusals {
        assert_refused!(refusal.map_or(Ok(()), Err), PermissionDenied, "PERMISSION_DENIED");
    }
    server.me(token).await.expect("nothing has happened");
    server.stop().await;
}

async fn a_disabled_account_is_out_at_once_and_back_when_it_is_enabled(database: TestDatabase) {
    let server = Server::start(database).await;
    let (admin, bob) = (admin(&server, "admin@example.com").await, server.person("bob@example.com").await);
    assert!(disable(&server, &admin, &id(&bob)).await.expect("disabled").disabled);
    assert!(disable(&server, &admin, &id(&bob)).await.expect("as it is").disabled);
    assert_refused!(Err::<(), _>(server.refused(&bob.access_token).await), Unauthenticated, "TOKEN_REVOKED");
    assert_refused!(server.refresh(&bob.refresh_token).await, Unauthenticated, "REFRESH_TOKEN_INVALID");
    assert_refused!(server.login("bob@example.com", PASSWORD).await, Unauthenticated, "CREDENTIALS_INVALID");
    let request = EnableUserRequest { user_id: id(&bob) };
    let enabled = client(&server).enable_user(bearer(&admin.access_token, request)).await.expect("enabled");
    assert!(!enabled.into_inner().disabled);
    server.login("bob@example.com", PASSWORD).await.expect("logged in");
    assert_refused!(server.refresh(&bob.refresh_token).await, Unauthenticated, "REFRESH_TOKEN_INVALID");
    server.stop().await;
}

async fn roles_count_from_the_next_refresh_and_a_lost_one_ends_the_sessions(database: TestDatabase) {
    let server = Server::start(database).await;
    let (admin, bob) = (admin(&server, "admin@example.com").await, server.person("bob@example.com").await);
    let changed = set_roles(&server, &admin, &id(&bob), &["verifier", "admin"]).await.expect("set");
    assert_eq!(changed.roles, ["admin", "verifier"]);
    let listing = async |pair: &TokenPair| list(&server, pair, ListUsersRequest::default()).await;
    assert_refused!(listing(&bob).await, PermissionDenied, "PERMISSION_DENIED");
    let bob = server.refresh(&bob.refresh_token).await.expect("the session goes on");
    listing(&bob).await.expect("an administrator");
    set_roles(&server, &admin, &id(&bob), &["admin"]).await.expect("set");
    assert_refused!(Err::<(), _>(server.refused(&bob.access_token).await), Unauthenticated, "TOKEN_REVOKED");
    server.stop().await;
}

async fn there_is_always_an_administrator_left(database: TestDatabase) {
    let server = Server::start(database).await;
    let only = admin(&server, "admin@example.com").await;
    assert_refused!(disable(&server, &only, &id(&only)).await, FailedPrecondition, "LAST_ADMIN");
    assert_refused!(set_roles(&server, &only, &id(&only), &[]).await, FailedPrecondition, "LAST_ADMIN");
    // One who cannot log in does not count.
    let other = admin(&server, "other@example.com").await;
    disable(&server, &only, &id(&other)).await.expect("disabled");
    assert_refused!(disable(&server, &only, &id(&only)).await, FailedPrecondition, "LAST_ADMIN");
    server.me(&only.access_token).await.expect("nothing has happened");
    server.stop().await;
}

async fn of_two_administrators_who_demote_each_other_one_is_left(database: TestDatabase) {
    let server = Server::start(database).await;
    for round in 0..5 {
        let ann = admin(&server, &format!("ann{round}@example.com")).await;
        let bob = admin(&server, &format!("bob{round}@example.com")).await;
        let mut calls = JoinSet::new();
        for (by, of) in [(&ann, &bob), (&bob, &ann)] {
            let (mut client, token, user_id) = (client(&server), by.access_token.clone(), id(of));
            let request = SetUserRolesRequest { user_id, roles: vec![] };
            calls.spawn(async move { client.set_user_roles(bearer(&token, request)).await.is_ok() });
        }
        let demoted = calls.join_all().await.into_iter().filter(|good| *good).count();
        assert_eq!(demoted, 1, "round {round}");
        // Whoever is left goes, too, so that the next round begins without one.
        support::execute(&server.database, "update users set roles = ''").await;
    }
    server.stop().await;
}

async fn accounts_are_listed_page_by_page_and_by_filter(database: TestDatabase) {
    let server = Server::start(database).await;
    let admin = admin(&server, "admin@example.com").await;
    for number in 0..5 {
        server.sign_up(&format!("user{number}@example.com")).await.expect("signed up");
    }
    server.sign_up("off@example.com").await.expect("signed up");
    support::execute(&server.database, "update users set disabled = true where email = 'off@example.com'").await;

    let filtered = |filter: &str| ListUsersRequest { filter: filter.to_owned(), ..ListUsersRequest::default() };
    let emails = async |filter: &str| list(&server, &admin, filtered(filter)).await.expect("listed").0;
    assert_eq!(emails("role:admin").await, ["admin@example.com"]);
    assert_eq!(emails("disabled:true").await, ["off@example.com"]);
    assert_eq!(emails("email:USER1").await, ["user1@example.com"]);
    assert_eq!(emails("email:user AND disabled:true").await, Vec::<String>::new());
    assert_eq!(emails("email:us%r").await, Vec::<String>::new());

    let page = ListUsersRequest { page_size: 2, ..filtered("email:user") };
    let (first, token) = list(&server, &admin, page.clone()).await.expect("a page");
    assert_eq!(first, ["user4@example.com", "user3@example.com"]);
    let (second, token) =
        list(&server, &admin, ListUsersRequest { page_token: token, ..page.clone() }).await.expect("a page");
    assert_eq!(second, ["user2@example.com", "user1@example.com"]);
    let next = ListUsersRequest { page_token: token.clone(), ..page.clone() };
    let (last, end) = list(&server, &admin, next.clone()).await.expect("a page");
    assert_eq!((last, end), (vec!["user0@example.com".to_owned()], String::new()));
    // A page belongs to its query and its caller.
    let other_query = ListUsersRequest { filter: String::new(), ..next.clone() };
    assert_refused!(list(&server, &admin, other_query).await, InvalidArgument, "PAGE_TOKEN_INVALID", "page_token");
    let other = self::admin(&server, "zoe@example.com").await;
    assert_refused!(list(&server, &other, next).await, InvalidArgument, "PAGE_TOKEN_INVALID", "page_token");
    server.stop().await;
}

async fn an_administrator_ends_all_sessions_of_an_account(database: TestDatabase) {
    let server = Server::start(database).await;
    let (admin, bob) = (admin(&server, "admin@example.com").await, server.person("bob@example.com").await);
    server.login("bob@example.com", PASSWORD).await.expect("logged in");
    let request = RevokeUserSessionsRequest { user_id: id(&bob) };
    let ended = client(&server).revoke_user_sessions(bearer(&admin.access_token, request)).await.expect("ended");
    assert_eq!(ended.into_inner().revoked_count, 2);
    assert_refused!(Err::<(), _>(server.refused(&bob.access_token).await), Unauthenticated, "TOKEN_REVOKED");
    server.login("bob@example.com", PASSWORD).await.expect("the account is as it was");
    server.stop().await;
}

async fn who_logs_out_while_being_disabled_gets_neither_call_stuck(database: TestDatabase) {
    let server = Server::start(database).await;
    let admin = admin(&server, "admin@example.com").await;
    for round in 0..40 {
        let bob = server.person(&format!("bob{round}@example.com")).await;
        let user_id = id(&bob);
        let (disabled, logged_out) =
            tokio::join!(disable(&server, &admin, &user_id), server.logout(&bob.refresh_token));
        disabled.expect("disabled");
        logged_out.expect("logged out");
    }
    server.stop().await;
}

async fn a_request_at_fault_is_refused_by_its_field(database: TestDatabase) {
    let server = Server::start(database).await;
    let admin = admin(&server, "admin@example.com").await;
    let nobody = server.clock.new_id().to_string();
    assert_refused!(disable(&server, &admin, "x").await, InvalidArgument, "VALIDATION_FAILED", "user_id");
    assert_refused!(disable(&server, &admin, &nobody).await, NotFound, "USER_NOT_FOUND");
    let roles = set_roles(&server, &admin, &id(&admin), &["admin", "king", "admin"]).await;
    assert_refused!(roles, InvalidArgument, "VALIDATION_FAILED", "roles[1]", "roles[2]");
    for filter in ["nonsense", "role:king", "role:admin OR role:verifier", "email:", "disabled:maybe"] {
        let request = ListUsersRequest { filter: filter.to_owned(), ..ListUsersRequest::default() };
        assert_refused!(list(&server, &admin, request).await, InvalidArgument, "FILTER_INVALID", "filter");
    }
    let negative = ListUsersRequest { page_size: -1, ..ListUsersRequest::default() };
    assert_refused!(list(&server, &admin, negative).await, InvalidArgument, "VALIDATION_FAILED", "page_size");
    let request = ListAuditEventsRequest { page_size: -1, user_id: "x".to_owned(), kind: 99, ..Default::default() };
    let outcome = client(&server).list_audit_events(bearer(&admin.access_token, request)).await;
    assert_refused!(outcome, InvalidArgument, "VALIDATION_FAILED", "kind", "page_size", "user_id");
    server.stop().await;
}

async fn the_log_tells_administrators_who_did_what(database: TestDatabase) {
    let server = Server::start(database).await;
    let (admin, bob) = (admin(&server, "admin@example.com").await, server.person("bob@example.com").await);
    set_roles(&server, &admin, &id(&bob), &["verifier"]).await.expect("set");
    disable(&server, &admin, &id(&bob)).await.expect("disabled");
    disable(&server, &admin, &id(&bob)).await.expect("nothing changes");

    let of_bob = ListAuditEventsRequest { user_id: id(&bob), ..ListAuditEventsRequest::default() };
    let told = events(&server, &admin, of_bob.clone()).await;
    let kinds: Vec<_> = told.iter().map(AuditEvent::kind).collect();
    assert_eq!(kinds, [Kind::UserDisabled, Kind::RolesChanged, Kind::Login, Kind::SignUp]);
    assert_eq!((&told[0].actor_id, &told[1].actor_id, &told[2].actor_id), (&id(&admin), &id(&admin), &id(&bob)));
    assert_eq!(told[1].details["roles"], "verifier");
    assert_eq!((&told[2].session_id, &told[2].ip_address[..]), (&bob.session_id, "127.0.0.1"));
    assert!(told.iter().all(|event| event.user_id == id(&bob) && event.create_time.is_some()));

    let all = ListAuditEventsRequest { kind: Kind::RolesChanged.into(), ..ListAuditEventsRequest::default() };
    let told = events(&server, &admin, all).await;
    assert_eq!(told.len(), 2);
    let of_admin = told.iter().find(|event| event.user_id == id(&admin)).expect("told");
    assert_eq!(of_admin.actor_id, "", "at the machine");

    let first = ListAuditEventsRequest { page_size: 3, ..of_bob };
    let page = client(&server).list_audit_events(bearer(&admin.access_token, first.clone())).await.expect("a page");
    let next = ListAuditEventsRequest { page_token: page.into_inner().next_page_token, ..first };
    let last = events(&server, &admin, next).await;
    assert_eq!(last.iter().map(AuditEvent::kind).collect::<Vec<_>>(), [Kind::SignUp]);
    server.stop().await;
}
