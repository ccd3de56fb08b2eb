//! Administrators, and the RPCs with which they manage other accounts.

use std::{process::Command, time::Duration};

use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::auth::v1::{
    AuditEvent, DisableUserRequest, EnableUserRequest, GetUserRequest, ListAuditEventsRequest, ListUserSessionsRequest,
    ListUsersRequest, RevokeUserSessionsRequest, Session, SetUserRolesRequest, TokenPair, UnlockUserRequest, User,
    admin_service_client::AdminServiceClient, audit_event::Kind,
};
use tokio::task::JoinSet;
use tonic::{Response, Status, transport::Channel};
use uuid::Uuid;

use crate::support::{self, PASSWORD, Server, bearer};

on_each_database! {
    roles_can_be_set_on_the_command_line,
    admin_rpcs_require_the_admin_role,
    a_disabled_account_loses_access_until_it_is_enabled,
    new_roles_apply_at_the_next_refresh_and_removing_one_ends_the_sessions,
    the_last_administrator_cannot_be_disabled_or_demoted,
    only_one_of_two_administrators_demoting_each_other_succeeds,
    accounts_can_be_paged_and_filtered,
    an_administrator_can_list_the_active_sessions_of_an_account,
    an_administrator_can_revoke_all_sessions_of_an_account,
    a_concurrent_logout_and_disable_do_not_deadlock,
    errors_of_invalid_requests_name_the_fields,
    administrators_can_list_audit_events_with_their_actors,
}

fn run_set_role(database: &TestDatabase, arguments: &[&str]) -> (bool, String) {
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

/// Signs up an account, makes it an administrator on the command line, and logs in.
async fn admin(server: &Server, email: &str) -> TokenPair {
    server.sign_up(email).await.expect("signed up");
    assert_eq!(run_set_role(&server.database, &[email, "admin"]), (true, String::new()));
    server.login(email, PASSWORD).await.expect("logged in")
}

fn user_id(pair: &TokenPair) -> String {
    pair.user.as_ref().expect("login returns the user").id.clone()
}

async fn disable_user(server: &Server, admin: &TokenPair, user_id: &str) -> Result<User, Status> {
    let request = DisableUserRequest { user_id: user_id.to_owned() };
    client(server).disable_user(bearer(&admin.access_token, request)).await.map(Response::into_inner)
}

async fn set_roles(server: &Server, admin: &TokenPair, user_id: &str, roles: &[&str]) -> Result<User, Status> {
    let roles = roles.iter().map(ToString::to_string).collect();
    let request = SetUserRolesRequest { user_id: user_id.to_owned(), roles };
    client(server).set_user_roles(bearer(&admin.access_token, request)).await.map(Response::into_inner)
}

async fn list_users(
    server: &Server,
    admin: &TokenPair,
    request: ListUsersRequest,
) -> Result<(Vec<String>, String), Status> {
    let page = client(server).list_users(bearer(&admin.access_token, request)).await?.into_inner();
    Ok((page.users.into_iter().map(|user| user.email).collect(), page.next_page_token))
}

async fn list_audit_events(server: &Server, admin: &TokenPair, request: ListAuditEventsRequest) -> Vec<AuditEvent> {
    let page = client(server).list_audit_events(bearer(&admin.access_token, request)).await;
    page.expect("listed").into_inner().events
}

async fn roles_can_be_set_on_the_command_line(database: TestDatabase) {
    let server = Server::start(database).await;
    let ann = server.sign_up_and_login("ann@example.com").await;
    assert_eq!(run_set_role(&server.database, &["Ann@Example.com", "admin"]), (true, String::new()));
    let refreshed = server.refresh(&ann.refresh_token).await.expect("the session is still active");
    assert_eq!(refreshed.user.as_ref().expect("refresh returns the user").roles, ["admin"]);
    let request = GetUserRequest { user_id: user_id(&ann) };
    client(&server).get_user(bearer(&refreshed.access_token, request)).await.expect("the role is active");

    for (arguments, expected) in [
        (&["nobody@example.com", "admin"][..], "has no account"),
        (&["ann@example.com", "king"], "admin or verifier"),
        (&["ann", "admin"], "the address must have an @"),
        (&["ann@example.com", "admin", "--remove"], "no account with the role `admin` would be left"),
    ] {
        let (succeeded, error) = run_set_role(&server.database, arguments);
        assert!(!succeeded && error.contains(expected), "{error}");
    }
    assert_eq!(run_set_role(&server.database, &["ann@example.com", "verifier"]), (true, String::new()));
    assert_eq!(run_set_role(&server.database, &["ann@example.com", "verifier", "--remove"]), (true, String::new()));
    assert_refused!(
        Err::<(), _>(server.await_refusal(&refreshed.access_token).await),
        Unauthenticated,
        "TOKEN_REVOKED"
    );
    server.stop().await;
}

async fn admin_rpcs_require_the_admin_role(database: TestDatabase) {
    let server = Server::start(database).await;
    let ann = server.sign_up_and_login("ann@example.com").await;
    let token = &ann.access_token;
    let mut client = client(&server);
    let user_id = user_id(&ann);
    let refusals = [
        client.get_user(bearer(token, GetUserRequest { user_id: user_id.clone() })).await.err(),
        client.list_users(bearer(token, ListUsersRequest::default())).await.err(),
        client.disable_user(bearer(token, DisableUserRequest { user_id: user_id.clone() })).await.err(),
        client.enable_user(bearer(token, EnableUserRequest { user_id: user_id.clone() })).await.err(),
        client.unlock_user(bearer(token, UnlockUserRequest { user_id: user_id.clone() })).await.err(),
        client.set_user_roles(bearer(token, SetUserRolesRequest::default())).await.err(),
        client.list_user_sessions(bearer(token, ListUserSessionsRequest { user_id: user_id.clone() })).await.err(),
        client.revoke_user_sessions(bearer(token, RevokeUserSessionsRequest { user_id })).await.err(),
        client.list_audit_events(bearer(token, ListAuditEventsRequest::default())).await.err(),
    ];
    for refusal in refusals {
        assert_refused!(refusal.map_or(Ok(()), Err), PermissionDenied, "PERMISSION_DENIED");
    }
    server.get_me(token).await.expect("nothing has changed");
    server.stop().await;
}

async fn a_disabled_account_loses_access_until_it_is_enabled(database: TestDatabase) {
    let server = Server::start(database).await;
    let (admin, bob) = (admin(&server, "admin@example.com").await, server.sign_up_and_login("bob@example.com").await);
    assert!(disable_user(&server, &admin, &user_id(&bob)).await.expect("disabled").disabled);
    assert!(disable_user(&server, &admin, &user_id(&bob)).await.expect("unchanged").disabled);
    assert_refused!(Err::<(), _>(server.await_refusal(&bob.access_token).await), Unauthenticated, "TOKEN_REVOKED");
    assert_refused!(server.refresh(&bob.refresh_token).await, Unauthenticated, "REFRESH_TOKEN_INVALID");
    assert_refused!(server.login("bob@example.com", PASSWORD).await, Unauthenticated, "CREDENTIALS_INVALID");
    let request = EnableUserRequest { user_id: user_id(&bob) };
    let enabled = client(&server).enable_user(bearer(&admin.access_token, request)).await.expect("enabled");
    assert!(!enabled.into_inner().disabled);
    server.login("bob@example.com", PASSWORD).await.expect("logged in");
    assert_refused!(server.refresh(&bob.refresh_token).await, Unauthenticated, "REFRESH_TOKEN_INVALID");
    server.stop().await;
}

async fn new_roles_apply_at_the_next_refresh_and_removing_one_ends_the_sessions(database: TestDatabase) {
    let server = Server::start(database).await;
    let (admin, bob) = (admin(&server, "admin@example.com").await, server.sign_up_and_login("bob@example.com").await);
    let changed = set_roles(&server, &admin, &user_id(&bob), &["verifier", "admin"]).await.expect("set");
    assert_eq!(changed.roles, ["admin", "verifier"]);
    let listing = async |pair: &TokenPair| list_users(&server, pair, ListUsersRequest::default()).await;
    assert_refused!(listing(&bob).await, PermissionDenied, "PERMISSION_DENIED");
    let bob = server.refresh(&bob.refresh_token).await.expect("the session is still active");
    listing(&bob).await.expect("the caller is an administrator");
    set_roles(&server, &admin, &user_id(&bob), &["admin"]).await.expect("set");
    assert_refused!(Err::<(), _>(server.await_refusal(&bob.access_token).await), Unauthenticated, "TOKEN_REVOKED");
    server.stop().await;
}

async fn the_last_administrator_cannot_be_disabled_or_demoted(database: TestDatabase) {
    let server = Server::start(database).await;
    let last_admin = admin(&server, "admin@example.com").await;
    assert_refused!(disable_user(&server, &last_admin, &user_id(&last_admin)).await, FailedPrecondition, "LAST_ADMIN");
    assert_refused!(
        set_roles(&server, &last_admin, &user_id(&last_admin), &[]).await,
        FailedPrecondition,
        "LAST_ADMIN"
    );
    // A disabled administrator does not count.
    let other = admin(&server, "other@example.com").await;
    disable_user(&server, &last_admin, &user_id(&other)).await.expect("disabled");
    assert_refused!(disable_user(&server, &last_admin, &user_id(&last_admin)).await, FailedPrecondition, "LAST_ADMIN");
    server.get_me(&last_admin.access_token).await.expect("nothing has changed");
    server.stop().await;
}

async fn only_one_of_two_administrators_demoting_each_other_succeeds(database: TestDatabase) {
    let server = Server::start(database).await;
    for round in 0..5 {
        let ann = admin(&server, &format!("ann{round}@example.com")).await;
        let bob = admin(&server, &format!("bob{round}@example.com")).await;
        let mut calls = JoinSet::new();
        for (caller, target) in [(&ann, &bob), (&bob, &ann)] {
            let (mut client, token, user_id) = (client(&server), caller.access_token.clone(), user_id(target));
            let request = SetUserRolesRequest { user_id, roles: vec![] };
            calls.spawn(async move { client.set_user_roles(bearer(&token, request)).await.is_ok() });
        }
        let demotions = calls.join_all().await.into_iter().filter(|succeeded| *succeeded).count();
        assert_eq!(demotions, 1, "round {round}");
        // Removes the remaining administrator, so that the next round begins without one.
        support::execute(&server.database, "update users set roles = ''").await;
    }
    server.stop().await;
}

async fn accounts_can_be_paged_and_filtered(database: TestDatabase) {
    let server = Server::start(database).await;
    let admin = admin(&server, "admin@example.com").await;
    for number in 0..5 {
        server.sign_up(&format!("user{number}@example.com")).await.expect("signed up");
    }
    server.sign_up("off@example.com").await.expect("signed up");
    support::execute(&server.database, "update users set disabled = true where email = 'off@example.com'").await;

    let filtered = |filter: &str| ListUsersRequest { filter: filter.to_owned(), ..ListUsersRequest::default() };
    let emails = async |filter: &str| list_users(&server, &admin, filtered(filter)).await.expect("listed").0;
    assert_eq!(emails("role:admin").await, ["admin@example.com"]);
    assert_eq!(emails("disabled:true").await, ["off@example.com"]);
    assert_eq!(emails("email:USER1").await, ["user1@example.com"]);
    assert_eq!(emails("email:user AND disabled:true").await, Vec::<String>::new());
    assert_eq!(emails("email:us%r").await, Vec::<String>::new());
    assert_eq!(emails("role:admin OR email:user1").await, ["user1@example.com", "admin@example.com"]);
    assert_eq!(emails("NOT (email:user OR disabled:true)").await, ["admin@example.com"]);

    let page = ListUsersRequest { page_size: 2, ..filtered("email:user") };
    let (first, token) = list_users(&server, &admin, page.clone()).await.expect("a page");
    assert_eq!(first, ["user4@example.com", "user3@example.com"]);
    let (second, token) =
        list_users(&server, &admin, ListUsersRequest { page_token: token, ..page.clone() }).await.expect("a page");
    assert_eq!(second, ["user2@example.com", "user1@example.com"]);
    let next = ListUsersRequest { page_token: token.clone(), ..page.clone() };
    let (last, end) = list_users(&server, &admin, next.clone()).await.expect("a page");
    assert_eq!((last, end), (vec!["user0@example.com".to_owned()], String::new()));
    // A page token is valid only for the same query and the same caller.
    let other_query = ListUsersRequest { filter: String::new(), ..next.clone() };
    assert_refused!(
        list_users(&server, &admin, other_query).await,
        InvalidArgument,
        "PAGE_TOKEN_INVALID",
        "page_token"
    );
    let other = self::admin(&server, "zoe@example.com").await;
    assert_refused!(list_users(&server, &other, next).await, InvalidArgument, "PAGE_TOKEN_INVALID", "page_token");
    server.stop().await;
}

async fn an_administrator_can_list_the_active_sessions_of_an_account(database: TestDatabase) {
    let server = Server::start(database).await;
    let (admin, bob) = (admin(&server, "admin@example.com").await, server.sign_up_and_login("bob@example.com").await);
    server.manual_clock.advance(Duration::from_secs(1));
    let second = server.login("bob@example.com", PASSWORD).await.expect("logged in");
    let list = async |user_id: String| {
        let request = bearer(&admin.access_token, ListUserSessionsRequest { user_id });
        client(&server).list_user_sessions(request).await.map(|response| response.into_inner().sessions)
    };
    let seconds = |session: &Session| session.create_time.as_ref().expect("always set").seconds;
    let sessions = list(user_id(&bob)).await.expect("listed");
    assert!(sessions.len() == 2 && seconds(&sessions[0]) > seconds(&sessions[1]), "{sessions:?}");
    assert!(sessions.iter().all(|session| !session.current && session.expire_time.is_some()), "{sessions:?}");

    server.logout(&second.refresh_token).await.expect("logged out");
    assert_eq!(list(user_id(&bob)).await.expect("listed"), sessions[1..]);
    let own = list(user_id(&admin)).await.expect("listed");
    assert!(own.len() == 1 && own[0].current, "{own:?}");
    let unknown = Uuid::from_u128(1).to_string();
    assert_refused!(list(unknown).await, NotFound, "USER_NOT_FOUND");
    assert_refused!(list("bob".to_owned()).await, InvalidArgument, "VALIDATION_FAILED", "user_id");
    server.stop().await;
}

async fn an_administrator_can_revoke_all_sessions_of_an_account(database: TestDatabase) {
    let server = Server::start(database).await;
    let (admin, bob) = (admin(&server, "admin@example.com").await, server.sign_up_and_login("bob@example.com").await);
    server.login("bob@example.com", PASSWORD).await.expect("logged in");
    let request = RevokeUserSessionsRequest { user_id: user_id(&bob) };
    let ended = client(&server).revoke_user_sessions(bearer(&admin.access_token, request)).await.expect("ended");
    assert_eq!(ended.into_inner().revoked_count, 2);
    assert_refused!(Err::<(), _>(server.await_refusal(&bob.access_token).await), Unauthenticated, "TOKEN_REVOKED");
    server.login("bob@example.com", PASSWORD).await.expect("the account is unchanged");
    server.stop().await;
}

async fn a_concurrent_logout_and_disable_do_not_deadlock(database: TestDatabase) {
    let server = Server::start(database).await;
    let admin = admin(&server, "admin@example.com").await;
    for round in 0..40 {
        let bob = server.sign_up_and_login(&format!("bob{round}@example.com")).await;
        let user_id = user_id(&bob);
        let (disabled, logged_out) =
            tokio::join!(disable_user(&server, &admin, &user_id), server.logout(&bob.refresh_token));
        disabled.expect("disabled");
        logged_out.expect("logged out");
    }
    server.stop().await;
}

async fn errors_of_invalid_requests_name_the_fields(database: TestDatabase) {
    let server = Server::start(database).await;
    let admin = admin(&server, "admin@example.com").await;
    let unknown_id = server.clock.new_id().to_string();
    assert_refused!(disable_user(&server, &admin, "x").await, InvalidArgument, "VALIDATION_FAILED", "user_id");
    assert_refused!(disable_user(&server, &admin, &unknown_id).await, NotFound, "USER_NOT_FOUND");
    let roles = set_roles(&server, &admin, &user_id(&admin), &["admin", "king", "admin"]).await;
    assert_refused!(roles, InvalidArgument, "VALIDATION_FAILED", "roles[1]", "roles[2]");
    for filter in ["nonsense", "role:king", "role:admin OR", "email = x", "email:", "disabled:maybe"] {
        let request = ListUsersRequest { filter: filter.to_owned(), ..ListUsersRequest::default() };
        assert_refused!(list_users(&server, &admin, request).await, InvalidArgument, "FILTER_INVALID", "filter");
    }
    let negative = ListUsersRequest { page_size: -1, ..ListUsersRequest::default() };
    assert_refused!(list_users(&server, &admin, negative).await, InvalidArgument, "VALIDATION_FAILED", "page_size");
    let request = ListAuditEventsRequest { page_size: -1, user_id: "x".to_owned(), kind: 99, ..Default::default() };
    let outcome = client(&server).list_audit_events(bearer(&admin.access_token, request)).await;
    assert_refused!(outcome, InvalidArgument, "VALIDATION_FAILED", "kind", "page_size", "user_id");
    server.stop().await;
}

async fn administrators_can_list_audit_events_with_their_actors(database: TestDatabase) {
    let server = Server::start(database).await;
    let (admin, bob) = (admin(&server, "admin@example.com").await, server.sign_up_and_login("bob@example.com").await);
    set_roles(&server, &admin, &user_id(&bob), &["verifier"]).await.expect("set");
    disable_user(&server, &admin, &user_id(&bob)).await.expect("disabled");
    disable_user(&server, &admin, &user_id(&bob)).await.expect("unchanged");

    let bob_request = ListAuditEventsRequest { user_id: user_id(&bob), ..ListAuditEventsRequest::default() };
    let bob_events = list_audit_events(&server, &admin, bob_request.clone()).await;
    let kinds: Vec<_> = bob_events.iter().map(AuditEvent::kind).collect();
    assert_eq!(kinds, [Kind::UserDisabled, Kind::RolesChanged, Kind::Login, Kind::SignUp]);
    assert_eq!(
        (&bob_events[0].actor_id, &bob_events[1].actor_id, &bob_events[2].actor_id),
        (&user_id(&admin), &user_id(&admin), &user_id(&bob))
    );
    assert_eq!(bob_events[1].details["roles"], "verifier");
    assert_eq!((&bob_events[2].session_id, &bob_events[2].ip_address[..]), (&bob.session_id, "127.0.0.1"));
    assert!(bob_events.iter().all(|event| event.user_id == user_id(&bob) && event.create_time.is_some()));

    let role_changes = ListAuditEventsRequest { kind: Kind::RolesChanged.into(), ..ListAuditEventsRequest::default() };
    let role_changes = list_audit_events(&server, &admin, role_changes).await;
    assert_eq!(role_changes.len(), 2);
    let admin_event = role_changes.iter().find(|event| event.user_id == user_id(&admin)).expect("listed");
    assert_eq!(admin_event.actor_id, "", "set on the command line");

    let first = ListAuditEventsRequest { page_size: 3, ..bob_request };
    let page = client(&server).list_audit_events(bearer(&admin.access_token, first.clone())).await.expect("a page");
    let next = ListAuditEventsRequest { page_token: page.into_inner().next_page_token, ..first };
    let last = list_audit_events(&server, &admin, next).await;
    assert_eq!(last.iter().map(AuditEvent::kind).collect::<Vec<_>>(), [Kind::SignUp]);
    server.stop().await;
}
