//! People delete their accounts.

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

use crate::support::{PASSWORD, Server, bearer, execute, id, look_up, program, verifier};

on_each_database! {
    a_deleted_account_is_gone_with_its_sessions,
    nothing_changes_without_the_current_password,
    the_current_password_cannot_be_guessed_here_either,
    the_last_administrator_stays,
    of_two_administrators_who_delete_themselves_at_once_one_is_left,
    of_two_deletions_at_once_one_counts,
    a_login_at_the_same_time_leaves_no_session,
    the_log_outlives_the_account_and_its_sessions_tell_nothing_of_the_person,
}

const CHEAP: [&str; 4] = ["--password-memory-kib", "8", "--password-passes", "1"];
/// For calls that the test has wait for each other.
const PATIENT: [&str; 4] = ["--database-timeout", "20s", "--request-timeout", "20s"];
const LIMIT: Duration = Duration::from_secs(10);

async fn admin(server: &Server, email: &str) -> TokenPair {
    server.sign_up(email).await.expect("signed up");
    let (set, _, error) = program(&server.database, &["users", "set-role", email, "admin"]);
    assert!(set, "{error}");
    server.login(email, PASSWORD).await.expect("logged in")
}

fn administration(server: &Server) -> AdminServiceClient<Channel> {
    AdminServiceClient::new(server.channel.clone())
}

async fn a_deleted_account_is_gone_with_its_sessions(database: TestDatabase) {
    let server = Server::start(database).await;
    let admin = admin(&server, "admin@example.com").await;
    let here = server.person("ann@example.com").await;
    let there = server.login("ann@example.com", PASSWORD).await.expect("logged in");
    let other = server.person("bob@example.com").await;
    server.delete(&here.access_token, PASSWORD).await.expect("deleted");
    for pair in [&here, &there] {
        let introspect = IntrospectRequest { token: pair.access_token.clone(), ..IntrospectRequest::default() };
        let introspect = verifier(&server, introspect).await;
        assert!(!server.token().introspect(introspect).await.expect("told").into_inner().active, "from the answer on");
        assert_refused!(server.refresh(&pair.refresh_token).await, Unauthenticated, "REFRESH_TOKEN_INVALID");
        // For a moment it may be that only the account is known to be gone.
        let revoked = async {
            while refusal(&server.refused(&pair.access_token).await).1 != "TOKEN_REVOKED" {
                yield_now().await;
            }
        };
        timeout(LIMIT, revoked).await.expect("the tokens are refused");
    }
    assert_refused!(server.login("ann@example.com", PASSWORD).await, Unauthenticated, "CREDENTIALS_INVALID");
    let get = GetUserRequest { user_id: id(&here) };
    let found = administration(&server).get_user(bearer(&admin.access_token, get)).await;
    assert_refused!(found, NotFound, "USER_NOT_FOUND");

    let again = server.person("ann@example.com").await;
    assert_ne!(id(&again), id(&here));
    assert_eq!(server.me(&again.access_token).await.expect("another account").display_name, "");
    assert_refused!(server.refresh(&here.refresh_token).await, Unauthenticated, "REFRESH_TOKEN_INVALID");
    server.me(&other.access_token).await.expect("nobody else is touched");
    assert_eq!(server.deleted(0, 0).await.expect("told").user_ids, [id(&here)]);
    server.stop().await;
}

async fn nothing_changes_without_the_current_password(database: TestDatabase) {
    let server = Server::start(database).await;
    let ann = server.person("ann@example.com").await;
    let wrong = server.delete(&ann.access_token, "another horse").await;
    assert_refused!(wrong, PermissionDenied, "CREDENTIALS_INVALID", "current_password");
    for no_password in ["", &"x".repeat(10_000)] {
        let none = server.delete(&ann.access_token, no_password).await;
        assert_refused!(none, InvalidArgument, "VALIDATION_FAILED", "current_password");
    }
    server.me(&ann.access_token).await.expect("still there");
    server.refresh(&ann.refresh_token).await.expect("the session goes on");
    server.login("ann@example.com", PASSWORD).await.expect("logged in");
    let expected = ListDeletedUsersResponse { user_ids: vec![], sequence: 0 };
    assert_eq!(server.deleted(0, 0).await.expect("told"), expected);
    server.stop().await;
}

async fn the_current_password_cannot_be_guessed_here_either(database: TestDatabase) {
    let server = Server::start_with(database, &[&["--rate-limits", "on"], &CHEAP[..]].concat()).await;
    let ann = server.person("ann@example.com").await;
    let wrong = server.delete(&ann.access_token, "a wrong one").await;
    assert_refused!(wrong, PermissionDenied, "CREDENTIALS_INVALID", "current_password");
    let right = server.delete(&ann.access_token, PASSWORD).await;
    assert_refused!(right, ResourceExhausted, "RATE_LIMITED");
    assert_refused!(server.login("ann@example.com", PASSWORD).await, ResourceExhausted, "RATE_LIMITED");
    server.hands.advance(Duration::from_secs(1));
    server.delete(&ann.access_token, PASSWORD).await.expect("deleted");
    server.stop().await;
}

async fn the_last_administrator_stays(database: TestDatabase) {
    let server = Server::start(database).await;
    let only = admin(&server, "admin@example.com").await;
    let refused = server.delete(&only.access_token, PASSWORD).await;
    assert_refused!(refused, FailedPrecondition, "LAST_ADMIN");
    server.refresh(&only.refresh_token).await.expect("nothing has happened");
    admin(&server, "other@example.com").await;
    server.delete(&only.access_token, PASSWORD).await.expect("deleted");
    server.stop().await;
}

async fn of_two_administrators_who_delete_themselves_at_once_one_is_left(database: TestDatabase) {
    let server = Server::start_with(database, &CHEAP).await;
    for round in 0..5 {
        let ann = admin(&server, &format!("ann{round}@example.com")).await;
        let bob = admin(&server, &format!("bob{round}@example.com")).await;
        let (one, other) =
            tokio::join!(server.delete(&ann.access_token, PASSWORD), server.delete(&bob.access_token, PASSWORD));
        let left = one.and(other).expect_err("nobody would be left");
        assert_refused!(Err::<(), _>(left), FailedPrecondition, "LAST_ADMIN");
        // Whoever is left goes, too, so that the next round begins without one.
        execute(&server.database, "update users set roles = ''").await;
    }
    server.stop().await;
}

async fn of_two_deletions_at_once_one_counts(database: TestDatabase) {
    let server = Server::start_with(database, &CHEAP).await;
    for round in 1..=10 {
        let here = server.person("ann@example.com").await;
        let there = server.login("ann@example.com", PASSWORD).await.expect("logged in");
        let both =
            tokio::join!(server.delete(&here.access_token, PASSWORD), server.delete(&there.access_token, PASSWORD));
        let lost = match both {
            (Ok(()), Err(status)) | (Err(status), Ok(())) => status,
            both => panic!("{both:?}"),
        };
        let (code, reason, _) = refusal(&lost);
        let gone = (code, &reason[..]) == (Code::NotFound, "USER_NOT_FOUND");
        assert!(gone || (code, &reason[..]) == (Code::Unauthenticated, "TOKEN_REVOKED"), "{lost:?}");
        assert_eq!(server.deleted(0, 0).await.expect("told").sequence, round);
    }
    server.stop().await;
}

async fn live_sessions(server: &Server) -> String {
    look_up(&server.database, "select cast(count(*) as text) from sessions where revoked_at is null").await
}

async fn a_login_at_the_same_time_leaves_no_session(database: TestDatabase) {
    let server = Server::start_with(database, &CHEAP).await;
    for _ in 0..20 {
        let ann = server.person("ann@example.com").await;
        let (deleted, login, again) = tokio::join!(
            server.delete(&ann.access_token, PASSWORD),
            server.login("ann@example.com", PASSWORD),
            server.login("ann@example.com", PASSWORD),
        );
        deleted.expect("deleted");
        for login in [login, again] {
            match login {
                Ok(pair) => {
                    let refreshed = server.refresh(&pair.refresh_token).await;
                    assert_refused!(refreshed, Unauthenticated, "REFRESH_TOKEN_INVALID");
                }
                Err(status) => assert_refused!(Err::<(), _>(status), Unauthenticated, "CREDENTIALS_INVALID"),
            }
        }
        assert_eq!(live_sessions(&server).await, "0");
    }
    server.stop().await;
}

/// Has a login come so far that its session is made and not committed, then `meanwhile`, which waits for something by
/// then; and both go on.
async fn while_a_session_is_being_made(
    server: &Server,
    meanwhile: impl Future<Output = Result<(), Status>>,
) -> (Result<TokenPair, Status>, Result<(), Status>) {
    let mut holder = PgConnection::connect(server.database.url()).await.expect("connected");
    let mut watcher = PgConnection::connect(server.database.url()).await.expect("connected");
    let mut held = holder.begin().await.expect("begun");
    // The event of the login is written after the session, and has to wait.
    held.execute("lock table auth.audit_events in exclusive mode").await.expect("held");
    let mut waiting = async |expected: i64| {
        const WAITING: &str = "select count(*) from pg_stat_activity
            where datname = current_database() and wait_event_type = 'Lock'";
        let reached = async {
            while sqlx::query_scalar::<_, i64>(WAITING).fetch_one(&mut watcher).await.expect("told") < expected {}
        };
        timeout(LIMIT, reached).await.expect("the calls wait");
    };
    let login = server.login("ann@example.com", PASSWORD);
    let other = async {
        waiting(1).await;
        let released = async {
            waiting(2).await;
            held.rollback().await.expect("let go");
        };
        tokio::join!(meanwhile, released).0
    };
    tokio::join!(login, other)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_being_made_ends_with_the_account() {
    let Some(database) = TestDatabase::postgres().await else { return };
    let server = Server::start_with(database, &[CHEAP, PATIENT].concat()).await;
    let ann = server.person("ann@example.com").await;
    let deletion = server.delete(&ann.access_token, PASSWORD);
    let (login, deleted) = while_a_session_is_being_made(&server, deletion).await;
    deleted.expect("deleted");
    let pair = login.expect("it was before");
    assert_refused!(server.refresh(&pair.refresh_token).await, Unauthenticated, "REFRESH_TOKEN_INVALID");
    assert_eq!(live_sessions(&server).await, "0");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_being_made_ends_with_the_password() {
    let Some(database) = TestDatabase::postgres().await else { return };
    let server = Server::start_with(database, &[CHEAP, PATIENT].concat()).await;
    let ann = server.person("ann@example.com").await;
    let new_password = "a stapled battery of horses".to_owned();
    let request = ChangePasswordRequest { current_password: PASSWORD.to_owned(), new_password };
    let mut account = server.account();
    let change = async { account.change_password(bearer(&ann.access_token, request)).await.map(|_| ()) };
    let (login, changed) = while_a_session_is_being_made(&server, change).await;
    changed.expect("changed");
    let pair = login.expect("it was before");
    assert_refused!(server.refresh(&pair.refresh_token).await, Unauthenticated, "REFRESH_TOKEN_INVALID");
    assert_eq!(live_sessions(&server).await, "1", "the one that changed it");
    server.stop().await;
}

async fn the_log_outlives_the_account_and_its_sessions_tell_nothing_of_the_person(database: TestDatabase) {
    let server = Server::start(database).await;
    let admin = admin(&server, "admin@example.com").await;
    let old = server.person("ann@example.com").await;
    server.logout(&old.refresh_token).await.expect("logged out");
    let ann = server.login("ann@example.com", PASSWORD).await.expect("logged in");
    execute(&server.database, "update sessions set label = 'my phone', user_agent = 'a phone'").await;
    server.delete(&ann.access_token, PASSWORD).await.expect("deleted");

    let request = ListAuditEventsRequest { user_id: id(&ann), ..ListAuditEventsRequest::default() };
    let events = administration(&server).list_audit_events(bearer(&admin.access_token, request)).await;
    let events = events.expect("listed").into_inner().events;
    let kinds: Vec<_> = events.iter().map(AuditEvent::kind).collect();
    assert_eq!(kinds, [Kind::AccountDeleted, Kind::Login, Kind::Logout, Kind::Login, Kind::SignUp]);
    let last = &events[0];
    assert_eq!((&last.user_id, &last.actor_id, &last.session_id), (&id(&ann), &id(&ann), &ann.session_id));
    assert!(last.details.is_empty() && last.create_time.is_some());

    let told = "select cast(count(*) as text) from sessions
        where label = '' and user_agent = '' and ip_address = '' and revoked_at is not null";
    assert_eq!(look_up(&server.database, told).await, "2", "both are still known to have ended");
    let kept = "select cast(count(*) as text) from sessions where label = 'my phone' and ip_address = '127.0.0.1'";
    assert_eq!(look_up(&server.database, kept).await, "1", "the administrator's");
    server.stop().await;
}
