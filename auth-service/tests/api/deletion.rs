//! Account deletion.

use std::time::Duration;

use service_kit::{
    assert_refused, on_each_database,
    testing::{TestDatabase, refusal},
};
use sqlx::{Connection, Executor, PgConnection};
use taskey_proto::auth::v1::{
    AuditEvent, ChangePasswordRequest, GetUserRequest, IntrospectRequest, ListAuditEventsRequest,
    ListDeletedUsersResponse, TokenPair, admin_service_client::AdminServiceClient, audit_event::Kind,
};
use tokio::{task::yield_now, time::timeout};
use tonic::{Code, Status, transport::Channel};

use crate::support::{PASSWORD, Server, bearer, execute, query_string, run_program, user_id, verifier_request};

on_each_database! {
    deleting_an_account_ends_its_sessions,
    deletion_requires_the_current_password,
    deletions_with_a_wrong_password_are_throttled_like_logins,
    the_last_administrator_cannot_delete_the_account,
    only_one_of_the_last_two_administrators_can_delete_their_account,
    only_one_of_two_concurrent_deletions_succeeds,
    a_login_during_a_deletion_leaves_no_active_session,
    deletion_keeps_the_audit_log_and_removes_personal_data_from_sessions,
}

const CHEAP_HASHES: [&str; 4] = ["--password-memory-kib", "8", "--password-passes", "1"];
/// For calls that the test blocks.
const LONG_TIMEOUTS: [&str; 4] = ["--database-timeout", "20s", "--request-timeout", "20s"];
const WAIT_TIMEOUT: Duration = Duration::from_secs(10);

async fn admin(server: &Server, email: &str) -> TokenPair {
    server.sign_up(email).await.expect("signed up");
    let (succeeded, _, error) = run_program(&server.database, &["users", "set-role", email, "admin"]);
    assert!(succeeded, "{error}");
    server.login(email, PASSWORD).await.expect("logged in")
}

fn admin_client(server: &Server) -> AdminServiceClient<Channel> {
    AdminServiceClient::new(server.channel.clone())
}

async fn deleting_an_account_ends_its_sessions(database: TestDatabase) {
    let server = Server::start(database).await;
    let admin = admin(&server, "admin@example.com").await;
    let current = server.sign_up_and_login("ann@example.com").await;
    let other_session = server.login("ann@example.com", PASSWORD).await.expect("logged in");
    let other = server.sign_up_and_login("bob@example.com").await;
    server.delete_me(&current.access_token, PASSWORD).await.expect("deleted");
    for pair in [&current, &other_session] {
        let introspect = IntrospectRequest { token: pair.access_token.clone(), ..IntrospectRequest::default() };
        let introspect = verifier_request(&server, introspect).await;
        let introspected = server.token().introspect(introspect).await.expect("introspected").into_inner();
        assert!(!introspected.active, "a token is still active when the deletion has returned");
        assert_refused!(server.refresh(&pair.refresh_token).await, Unauthenticated, "REFRESH_TOKEN_INVALID");
        // Until the server reads the revocation, the error may be that of a missing account.
        let revoked = async {
            while refusal(&server.await_refusal(&pair.access_token).await).1 != "TOKEN_REVOKED" {
                yield_now().await;
            }
        };
        timeout(WAIT_TIMEOUT, revoked).await.expect("the tokens are refused");
    }
    assert_refused!(server.login("ann@example.com", PASSWORD).await, Unauthenticated, "CREDENTIALS_INVALID");
    let get = GetUserRequest { user_id: user_id(&current) };
    let found = admin_client(&server).get_user(bearer(&admin.access_token, get)).await;
    assert_refused!(found, NotFound, "USER_NOT_FOUND");

    let again = server.sign_up_and_login("ann@example.com").await;
    assert_ne!(user_id(&again), user_id(&current));
    assert_eq!(server.get_me(&again.access_token).await.expect("another account").display_name, "");
    assert_refused!(server.refresh(&current.refresh_token).await, Unauthenticated, "REFRESH_TOKEN_INVALID");
    server.get_me(&other.access_token).await.expect("other users are unaffected");
    assert_eq!(server.list_deleted_users(0, 0).await.expect("listed").user_ids, [user_id(&current)]);
    server.stop().await;
}

async fn deletion_requires_the_current_password(database: TestDatabase) {
    let server = Server::start(database).await;
    let ann = server.sign_up_and_login("ann@example.com").await;
    let wrong = server.delete_me(&ann.access_token, "another horse").await;
    assert_refused!(wrong, PermissionDenied, "CREDENTIALS_INVALID", "current_password");
    for invalid in ["", &"x".repeat(10_000)] {
        let refused = server.delete_me(&ann.access_token, invalid).await;
        assert_refused!(refused, InvalidArgument, "VALIDATION_FAILED", "current_password");
    }
    server.get_me(&ann.access_token).await.expect("the account still exists");
    server.refresh(&ann.refresh_token).await.expect("the session is still active");
    server.login("ann@example.com", PASSWORD).await.expect("logged in");
    let expected = ListDeletedUsersResponse { user_ids: vec![], sequence: 0 };
    assert_eq!(server.list_deleted_users(0, 0).await.expect("listed"), expected);
    server.stop().await;
}

async fn deletions_with_a_wrong_password_are_throttled_like_logins(database: TestDatabase) {
    let server = Server::start_with(database, &[&["--rate-limits", "on"], &CHEAP_HASHES[..]].concat()).await;
    let ann = server.sign_up_and_login("ann@example.com").await;
    let wrong = server.delete_me(&ann.access_token, "a wrong one").await;
    assert_refused!(wrong, PermissionDenied, "CREDENTIALS_INVALID", "current_password");
    let limited = server.delete_me(&ann.access_token, PASSWORD).await;
    assert_refused!(limited, ResourceExhausted, "RATE_LIMITED");
    assert_refused!(server.login("ann@example.com", PASSWORD).await, ResourceExhausted, "RATE_LIMITED");
    server.manual_clock.advance(Duration::from_secs(1));
    server.delete_me(&ann.access_token, PASSWORD).await.expect("deleted");
    server.stop().await;
}

async fn the_last_administrator_cannot_delete_the_account(database: TestDatabase) {
    let server = Server::start(database).await;
    let last_admin = admin(&server, "admin@example.com").await;
    let refused = server.delete_me(&last_admin.access_token, PASSWORD).await;
    assert_refused!(refused, FailedPrecondition, "LAST_ADMIN");
    server.refresh(&last_admin.refresh_token).await.expect("nothing has changed");
    admin(&server, "other@example.com").await;
    server.delete_me(&last_admin.access_token, PASSWORD).await.expect("deleted");
    server.stop().await;
}

async fn only_one_of_the_last_two_administrators_can_delete_their_account(database: TestDatabase) {
    let server = Server::start_with(database, &CHEAP_HASHES).await;
    for round in 0..5 {
        let ann = admin(&server, &format!("ann{round}@example.com")).await;
        let bob = admin(&server, &format!("bob{round}@example.com")).await;
        let (first, second) =
            tokio::join!(server.delete_me(&ann.access_token, PASSWORD), server.delete_me(&bob.access_token, PASSWORD));
        let error = first.and(second).expect_err("one deletion is refused");
        assert_refused!(Err::<(), _>(error), FailedPrecondition, "LAST_ADMIN");
        // Removes the remaining administrator, so that the next round begins without one.
        execute(&server.database, "update users set roles = ''").await;
    }
    server.stop().await;
}

async fn only_one_of_two_concurrent_deletions_succeeds(database: TestDatabase) {
    let server = Server::start_with(database, &CHEAP_HASHES).await;
    for round in 1..=10 {
        let current = server.sign_up_and_login("ann@example.com").await;
        let other_session = server.login("ann@example.com", PASSWORD).await.expect("logged in");
        let outcomes = tokio::join!(
            server.delete_me(&current.access_token, PASSWORD),
            server.delete_me(&other_session.access_token, PASSWORD)
        );
        let error = match outcomes {
            (Ok(()), Err(status)) | (Err(status), Ok(())) => status,
            outcomes => panic!("{outcomes:?}"),
        };
        let (code, reason, _) = refusal(&error);
        let account_missing = (code, &reason[..]) == (Code::NotFound, "USER_NOT_FOUND");
        assert!(account_missing || (code, &reason[..]) == (Code::Unauthenticated, "TOKEN_REVOKED"), "{error:?}");
        assert_eq!(server.list_deleted_users(0, 0).await.expect("listed").sequence, round);
    }
    server.stop().await;
}

async fn count_active_sessions(server: &Server) -> String {
    query_string(&server.database, "select cast(count(*) as text) from sessions where revoked_at is null").await
}

async fn a_login_during_a_deletion_leaves_no_active_session(database: TestDatabase) {
    let server = Server::start_with(database, &CHEAP_HASHES).await;
    for _ in 0..20 {
        let ann = server.sign_up_and_login("ann@example.com").await;
        let (deletion, first_login, second_login) = tokio::join!(
            server.delete_me(&ann.access_token, PASSWORD),
            server.login("ann@example.com", PASSWORD),
            server.login("ann@example.com", PASSWORD),
        );
        deletion.expect("deleted");
        for login in [first_login, second_login] {
            match login {
                Ok(pair) => {
                    let refreshed = server.refresh(&pair.refresh_token).await;
                    assert_refused!(refreshed, Unauthenticated, "REFRESH_TOKEN_INVALID");
                }
                Err(status) => assert_refused!(Err::<(), _>(status), Unauthenticated, "CREDENTIALS_INVALID"),
            }
        }
        assert_eq!(count_active_sessions(&server).await, "0");
    }
    server.stop().await;
}

/// Blocks a login after it has inserted its session but before it commits. Then runs `concurrent_call` until it is
/// blocked as well, unblocks both, and returns their results.
async fn run_during_uncommitted_login(
    server: &Server,
    concurrent_call: impl Future<Output = Result<(), Status>>,
) -> (Result<TokenPair, Status>, Result<(), Status>) {
    let mut locker = PgConnection::connect(server.database.url()).await.expect("connected");
    let mut monitor = PgConnection::connect(server.database.url()).await.expect("connected");
    let mut lock = locker.begin().await.expect("begun");
    // The login inserts its audit event after the session, and waits for this lock.
    lock.execute("lock table auth.audit_events in exclusive mode").await.expect("locked");
    let mut wait_for_blocked_calls = async |expected: i64| {
        const BLOCKED: &str = "select count(*) from pg_stat_activity
            where datname = current_database() and wait_event_type = 'Lock'";
        let reached = async {
            while sqlx::query_scalar::<_, i64>(BLOCKED).fetch_one(&mut monitor).await.expect("counted") < expected {}
        };
        timeout(WAIT_TIMEOUT, reached).await.expect("the calls are blocked");
    };
    let login = server.login("ann@example.com", PASSWORD);
    let unblocked_call = async {
        wait_for_blocked_calls(1).await;
        let unlock = async {
            wait_for_blocked_calls(2).await;
            lock.rollback().await.expect("unlocked");
        };
        tokio::join!(concurrent_call, unlock).0
    };
    tokio::join!(login, unblocked_call)
}

#[tokio::test(flavor = "multi_thread")]
async fn deletion_revokes_a_session_of_an_uncommitted_login() {
    let Some(database) = TestDatabase::postgres().await else { return };
    let server = Server::start_with(database, &[CHEAP_HASHES, LONG_TIMEOUTS].concat()).await;
    let ann = server.sign_up_and_login("ann@example.com").await;
    let deletion = server.delete_me(&ann.access_token, PASSWORD);
    let (login, deletion) = run_during_uncommitted_login(&server, deletion).await;
    deletion.expect("deleted");
    let pair = login.expect("the login comes first");
    assert_refused!(server.refresh(&pair.refresh_token).await, Unauthenticated, "REFRESH_TOKEN_INVALID");
    assert_eq!(count_active_sessions(&server).await, "0");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_change_revokes_a_session_of_an_uncommitted_login() {
    let Some(database) = TestDatabase::postgres().await else { return };
    let server = Server::start_with(database, &[CHEAP_HASHES, LONG_TIMEOUTS].concat()).await;
    let ann = server.sign_up_and_login("ann@example.com").await;
    let new_password = "a stapled battery of horses".to_owned();
    let request = ChangePasswordRequest { current_password: PASSWORD.to_owned(), new_password };
    let mut account = server.account();
    let change = async { account.change_password(bearer(&ann.access_token, request)).await.map(|_| ()) };
    let (login, change) = run_during_uncommitted_login(&server, change).await;
    change.expect("changed");
    let pair = login.expect("the login comes first");
    assert_refused!(server.refresh(&pair.refresh_token).await, Unauthenticated, "REFRESH_TOKEN_INVALID");
    assert_eq!(count_active_sessions(&server).await, "1", "the session that changed the password");
    server.stop().await;
}

async fn deletion_keeps_the_audit_log_and_removes_personal_data_from_sessions(database: TestDatabase) {
    let server = Server::start(database).await;
    let admin = admin(&server, "admin@example.com").await;
    let old = server.sign_up_and_login("ann@example.com").await;
    server.logout(&old.refresh_token).await.expect("logged out");
    let ann = server.login("ann@example.com", PASSWORD).await.expect("logged in");
    execute(&server.database, "update sessions set label = 'my phone', user_agent = 'a phone'").await;
    server.delete_me(&ann.access_token, PASSWORD).await.expect("deleted");

    let request = ListAuditEventsRequest { user_id: user_id(&ann), ..ListAuditEventsRequest::default() };
    let events = admin_client(&server).list_audit_events(bearer(&admin.access_token, request)).await;
    let events = events.expect("listed").into_inner().events;
    let kinds: Vec<_> = events.iter().map(AuditEvent::kind).collect();
    assert_eq!(kinds, [Kind::AccountDeleted, Kind::Login, Kind::Logout, Kind::Login, Kind::SignUp]);
    let last = &events[0];
    assert_eq!((&last.user_id, &last.actor_id, &last.session_id), (&user_id(&ann), &user_id(&ann), &ann.session_id));
    assert!(last.details.is_empty() && last.create_time.is_some());

    let scrubbed = "select cast(count(*) as text) from sessions
        where label = '' and user_agent = '' and ip_address = '' and revoked_at is not null";
    assert_eq!(query_string(&server.database, scrubbed).await, "2", "both are kept as revoked");
    let unchanged = "select cast(count(*) as text) from sessions where label = 'my phone' and ip_address = '127.0.0.1'";
    assert_eq!(query_string(&server.database, unchanged).await, "1", "the session of the administrator");
    server.stop().await;
}
