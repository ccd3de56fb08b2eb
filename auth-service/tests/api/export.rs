//! The export of an account.

use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::auth::v1::{ExportMeRequest, ExportMeResponse, ListSessionsRequest, TokenPair, audit_event::Kind};
use tonic::{Response, Status};

use crate::{
    personal_access_tokens::{self, created},
    support::{PASSWORD, Server, bearer, execute},
};

on_each_database! {
    an_export_contains_the_account_its_sessions_tokens_and_events,
    the_pages_of_an_export_contain_every_event_once,
    an_export_contains_nothing_of_other_accounts,
    a_page_token_belongs_to_one_caller_and_to_the_export,
    a_personal_access_token_exports_no_credentials,
}

async fn export(server: &Server, token: &str, page_size: i32, page_token: &str) -> Result<ExportMeResponse, Status> {
    let request = ExportMeRequest { page_size, page_token: page_token.to_owned() };
    server.account().export_me(bearer(token, request)).await.map(Response::into_inner)
}

/// Adds this many events to the only account, each with its own id.
async fn add_events(server: &Server, count: usize) {
    for _ in 0..count {
        let id = server.clock.new_id().simple();
        let id = if server.database.url().starts_with("postgres") { format!("'{id}'") } else { format!("x'{id}'") };
        let copy = format!(
            "insert into audit_events (id, kind, user_id, actor_id, session_id, ip_address, user_agent, details,
                created_at, minute, occurrences)
            select {id}, 'KIND_LOGIN', id, id, null, '192.0.2.1', '', '{{}}', created_at, null, 1 from users"
        );
        execute(&server.database, copy).await;
    }
}

fn kinds(page: &ExportMeResponse) -> Vec<Kind> {
    page.events.iter().map(taskey_proto::auth::v1::AuditEvent::kind).collect()
}

async fn log_in_twice(server: &Server, email: &str) -> TokenPair {
    server.sign_up_and_login(email).await;
    server.login(email, PASSWORD).await.expect("logged in")
}

async fn an_export_contains_the_account_its_sessions_tokens_and_events(database: TestDatabase) {
    let server = Server::start(database).await;
    let pair = log_in_twice(&server, "ann@example.com").await;
    let token = created(&server, &pair.access_token, &["tasks.read"]).await;
    let exported = export(&server, &pair.access_token, 0, "").await.expect("exported");
    assert_eq!(exported.user, Some(server.get_me(&pair.access_token).await.expect("found")));
    let sessions = server.account().list_sessions(bearer(&pair.access_token, ListSessionsRequest {})).await;
    assert_eq!(exported.sessions, sessions.expect("listed").into_inner().sessions);
    assert_eq!(exported.sessions.len(), 2);
    assert_eq!(exported.personal_access_tokens, personal_access_tokens::list(&server, &pair.access_token).await);
    assert_eq!(exported.personal_access_tokens[0].id, token.id);
    let expected = [Kind::PersonalAccessTokenCreated, Kind::Login, Kind::Login, Kind::SignUp];
    assert_eq!(kinds(&exported), expected);
    assert_eq!(exported.next_page_token, "");
    let text = format!("{exported:?}");
    for secret in [&token.secret, &pair.access_token, &pair.refresh_token, PASSWORD, "argon2"] {
        assert!(!text.contains(secret), "the export contains {secret}");
    }
    server.stop().await;
}

async fn the_pages_of_an_export_contain_every_event_once(database: TestDatabase) {
    let server = Server::start(database).await;
    let pair = server.sign_up_and_login("ann@example.com").await;
    add_events(&server, 9).await;
    let all = export(&server, &pair.access_token, 0, "").await.expect("exported");
    assert_eq!((all.events.len(), &all.next_page_token[..]), (11, ""));
    let (mut events, mut page_token, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = export(&server, &pair.access_token, 4, &page_token).await.expect("exported");
        let is_first = pages == 0;
        assert_eq!((page.user.is_some(), page.sessions.len()), (is_first, usize::from(is_first)));
        events.extend(page.events);
        (page_token, pages) = (page.next_page_token, pages + 1);
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!((events, pages), (all.events, 3));
    server.stop().await;
}

async fn an_export_contains_nothing_of_other_accounts(database: TestDatabase) {
    let server = Server::start(database).await;
    let ann = log_in_twice(&server, "ann@example.com").await;
    created(&server, &ann.access_token, &["tasks.read"]).await;
    let bob = server.sign_up_and_login("bob@example.com").await;
    let exported = export(&server, &bob.access_token, 0, "").await.expect("exported");
    assert_eq!(exported.user, bob.user);
    assert_eq!(exported.sessions.iter().map(|session| &session.id).collect::<Vec<_>>(), [&bob.session_id]);
    assert!(exported.personal_access_tokens.is_empty());
    assert_eq!(kinds(&exported), [Kind::Login, Kind::SignUp]);
    server.stop().await;
}

async fn a_page_token_belongs_to_one_caller_and_to_the_export(database: TestDatabase) {
    let server = Server::start(database).await;
    let ann = server.sign_up_and_login("ann@example.com").await.access_token;
    let bob = server.sign_up_and_login("bob@example.com").await.access_token;
    let page_token = export(&server, &ann, 1, "").await.expect("exported").next_page_token;
    export(&server, &ann, 1, &page_token).await.expect("exported");
    assert_refused!(export(&server, &bob, 1, &page_token).await, InvalidArgument, "PAGE_TOKEN_INVALID", "page_token");
    let list = taskey_proto::auth::v1::ListMySecurityEventsRequest { page_size: 1, page_token };
    let listed = server.account().list_my_security_events(bearer(&ann, list)).await;
    assert_refused!(listed, InvalidArgument, "PAGE_TOKEN_INVALID", "page_token");
    assert_refused!(export(&server, &ann, -1, "").await, InvalidArgument, "VALIDATION_FAILED", "page_size");
    server.stop().await;
}

async fn a_personal_access_token_exports_no_credentials(database: TestDatabase) {
    let server = Server::start(database).await;
    let access = server.sign_up_and_login("ann@example.com").await.access_token;
    let reader = created(&server, &access, &["account.read"]).await.secret;
    crate::factors::add_totp_to(&server, &access).await;
    let exported = export(&server, &reader, 0, "").await.expect("permitted");
    assert_eq!(exported.user, Some(server.get_me(&access).await.expect("found")));
    assert_eq!(
        (exported.personal_access_tokens.len(), exported.factors.len()),
        (0, 0),
        "as in the RPCs that list them"
    );
    let with_login = export(&server, &access, 0, "").await.expect("exported");
    assert_eq!((with_login.personal_access_tokens.len(), with_login.factors.len()), (1, 1));
    assert_eq!((with_login.events, exported.sessions.len()), (exported.events, 1));
    assert!(exported.sessions.iter().all(|session| !session.current));
    let other = created(&server, &access, &["account.write", "tasks.read"]).await.secret;
    assert_refused!(export(&server, &other, 0, "").await, PermissionDenied, "SCOPE_MISSING");
    server.stop().await;
}
