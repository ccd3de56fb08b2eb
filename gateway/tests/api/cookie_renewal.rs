//! Cookie mode: access tokens are renewed with the refresh token.

use std::time::Duration;

use futures::future::join_all;
use http::Method;
use http_body_util::BodyExt;
use taskey_proto::task::v1::WatchTasksResponse;
use tokio::time::{Instant, timeout};

use crate::{
    fake_backend::TIMEOUT,
    program::{Program, UNREACHABLE, with_header},
    site::{Site, settings, task_reply},
    support::{FakeBackend, Reply},
};

const EXPIRED: &str = "taskey_access=access-expired; taskey_refresh=refresh-good";

fn renewed_cookies() -> [(String, String); 2] {
    [("taskey_access", "access-new"), ("taskey_refresh", "refresh-new")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
}

#[tokio::test]
async fn missing_access_cookie_is_renewed() {
    let site = Site::start(&[]).await;
    let response = site.get("taskey_refresh=refresh-good").await;
    response.ok();
    assert_eq!(
        (response.cookie_values(), site.bearers()),
        (renewed_cookies().to_vec(), vec!["Bearer access-new".to_owned()])
    );
}

#[tokio::test]
async fn expired_token_is_renewed_and_the_call_retried() {
    let site = Site::start(&[]).await;
    let request = site.request(Method::POST, "/v1/tasks/x:complete", EXPIRED);
    let response = site.program.send(request).await;
    response.ok();
    assert_eq!(response.cookie_values(), renewed_cookies());
    assert_eq!(
        (site.bearers(), site.refresh_count()),
        (vec!["Bearer access-expired".to_owned(), "Bearer access-new".to_owned()], 1)
    );
}

#[tokio::test]
async fn stream_is_retried_after_a_renewal() {
    let (sender, stream) = Reply::stream();
    let task = Reply::from_fn(move |call| match task_reply(call) {
        Reply::Message(_) => stream.clone(),
        error => error,
    });
    let site = Site::start_with(task, &[]).await;
    let request = site.request(Method::GET, "/v1/tasks:watch", EXPIRED);
    let request = with_header(request, "accept", "text/event-stream");
    let response = timeout(TIMEOUT, site.program.open(request)).await.expect("the response starts");
    assert_eq!((response.status().as_u16(), response.headers().get_all("set-cookie").iter().count()), (200, 2));
    sender.send(&WatchTasksResponse { sync_token: "one".to_owned(), ..WatchTasksResponse::default() }).await;
    drop(sender);
    let body = timeout(TIMEOUT, response.into_body().collect()).await.expect("the stream ends").unwrap().to_bytes();
    assert!(std::str::from_utf8(&body).unwrap().contains("id: one\n"), "{body:?}");
    assert_eq!(site.bearers(), ["Bearer access-expired", "Bearer access-new"]);
}

#[tokio::test]
async fn call_is_retried_only_once() {
    let site = Site::start(&[]).await;
    let response = site.get("taskey_access=access-expired; taskey_refresh=refresh-useless").await;
    response.assert_refused(401, "UNAUTHENTICATED", "TOKEN_EXPIRED", &[]);
    // The refresh token was not refused, so the session goes on.
    let renewed = [("taskey_access", "access-expired"), ("taskey_refresh", "refresh-new")];
    assert_eq!(response.cookie_values(), renewed.map(|(name, value)| (name.to_owned(), value.to_owned())));
    assert_eq!((site.bearers().len(), site.refresh_count()), (2, 1));
}

#[tokio::test]
async fn expired_session_without_a_refresh_token_ends() {
    let site = Site::start(&[]).await;
    let response = site.get("taskey_access=access-expired").await;
    response.assert_refused(401, "UNAUTHENTICATED", "TOKEN_EXPIRED", &[]);
    response.assert_clears_cookies();
    assert_eq!((site.bearers().len(), site.refresh_count()), (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_calls_share_one_refresh() {
    let site = Site::start(&[]).await;
    let responses = join_all((0..20).map(|_| site.get("taskey_refresh=refresh-good"))).await;
    for response in responses {
        assert_eq!((response.code, response.cookie_values()), (200, renewed_cookies().to_vec()));
    }
    assert_eq!((site.refresh_count(), site.bearers().len()), (1, 20));
}

#[tokio::test]
async fn failed_call_sets_the_renewed_cookies() {
    let site = Site::start(&[]).await;
    let response = site.program.send(site.request(Method::GET, "/v1/me", "taskey_refresh=refresh-good")).await;
    // The fake auth-service does not implement GetMe.
    response.assert_refused(501, "UNIMPLEMENTED", "METHOD_UNKNOWN", &[]);
    assert_eq!(response.cookie_values(), renewed_cookies());
}

#[tokio::test]
async fn failed_refresh_ends_the_session_and_can_be_retried() {
    let site = Site::start(&[]).await;
    for attempt in 1..=2 {
        let response = site.get("taskey_refresh=refresh-bad").await;
        response.assert_refused(401, "UNAUTHENTICATED", "REFRESH_TOKEN_INVALID", &[]);
        response.assert_clears_cookies();
        assert_eq!((site.task.was_called(), site.refresh_count()), (false, attempt));
    }
}

#[tokio::test]
async fn superseded_refresh_token_keeps_the_cookies() {
    let site = Site::start(&[]).await;
    let response = site.get("taskey_refresh=refresh-old").await;
    response.assert_refused(409, "ABORTED", "REFRESH_TOKEN_SUPERSEDED", &[]);
    assert!(response.cookies().is_empty());
}

#[tokio::test]
async fn unavailable_auth_service_keeps_the_cookies() {
    let task = FakeBackend::start(Reply::from_fn(task_reply)).await;
    let program = Program::start(settings(UNREACHABLE, &task.url(), &[])).await;
    let request = program.request(Method::GET, "/v1/tasks/x", "");
    let response = program.send(with_header(request, "cookie", EXPIRED)).await;
    response.assert_refused(503, "UNAVAILABLE", "BACKEND_UNAVAILABLE", &[]);
    assert_eq!((response.header("retry-after"), response.cookies().len()), ("1", 0));
    assert_eq!(response.json()["error"]["message"], "the auth service cannot be reached");
}

#[tokio::test]
async fn revoked_session_clears_the_cookies() {
    let site = Site::start(&[]).await;
    let response = site.get("taskey_access=access-revoked; taskey_refresh=refresh-good").await;
    response.assert_refused(401, "UNAUTHENTICATED", "TOKEN_REVOKED", &[]);
    response.assert_clears_cookies();
    assert_eq!(site.refresh_count(), 0);
}

#[tokio::test]
async fn renewed_tokens_are_shared_for_ten_seconds() {
    let site = Site::start(&[]).await;
    for (seconds, refresh_count) in [(0, 1), (9, 1), (2, 2)] {
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(seconds)).await;
        tokio::time::resume();
        assert_eq!(site.get("taskey_refresh=refresh-good").await.cookie_values(), renewed_cookies());
        assert_eq!(site.refresh_count(), refresh_count, "after another {seconds} s");
    }
}

#[tokio::test]
async fn hanging_refresh_times_out_and_keeps_the_cookies() {
    let site = Site::start(&[]).await;
    // Connect before the clock is paused.
    site.get("taskey_refresh=refresh-good").await.ok();
    tokio::time::pause();
    let start = Instant::now();
    let response = site.get("taskey_refresh=refresh-slow").await;
    response.assert_refused(504, "DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED", &[]);
    assert!(response.cookies().is_empty() && start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
}
