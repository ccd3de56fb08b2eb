//! Cookie mode: sessions outlive their access tokens.

use std::time::Duration;

use futures::future::join_all;
use http::Method;
use http_body_util::BodyExt;
use taskey_proto::task::v1::WatchTasksResponse;
use tokio::time::{Instant, timeout};

use crate::{
    fake_backend::LIMIT,
    program::{NOBODY, Program, with_header},
    site::{Site, of_task, settings},
    support::{FakeBackend, Reply},
};

const EXPIRED: &str = "taskey_access=access-expired; taskey_refresh=refresh-good";

fn renewed() -> [(String, String); 2] {
    [("taskey_access", "access-new"), ("taskey_refresh", "refresh-new")].map(|(a, b)| (a.to_owned(), b.to_owned()))
}

#[tokio::test]
async fn an_access_cookie_that_is_gone_is_renewed() {
    let site = Site::start(&[]).await;
    let answer = site.get("taskey_refresh=refresh-good").await;
    answer.ok();
    assert_eq!((answer.kept(), site.bearers()), (renewed().to_vec(), vec!["Bearer access-new".to_owned()]));
}

#[tokio::test]
async fn a_token_that_has_expired_is_renewed_and_the_call_made_again() {
    let site = Site::start(&[]).await;
    let request = site.request(Method::POST, "/v1/tasks/x:complete", EXPIRED);
    let answer = site.program.send(request).await;
    answer.ok();
    assert_eq!(answer.kept(), renewed());
    assert_eq!(
        (site.bearers(), site.refreshes()),
        (vec!["Bearer access-expired".to_owned(), "Bearer access-new".to_owned()], 1)
    );
}

#[tokio::test]
async fn a_stream_is_begun_again_too() {
    let (feeder, stream) = Reply::stream();
    let task = Reply::by(move |call| match of_task(call) {
        Reply::Message(_) => stream.clone(),
        refused => refused,
    });
    let site = Site::before(task, &[]).await;
    let request = site.request(Method::GET, "/v1/tasks:watch", EXPIRED);
    let request = with_header(request, "accept", "text/event-stream");
    let response = timeout(LIMIT, site.program.open(request)).await.expect("it begins");
    assert_eq!((response.status().as_u16(), response.headers().get_all("set-cookie").iter().count()), (200, 2));
    feeder.send(&WatchTasksResponse { sync_token: "one".to_owned(), ..WatchTasksResponse::default() }).await;
    drop(feeder);
    let body = timeout(LIMIT, response.into_body().collect()).await.expect("it ends").unwrap().to_bytes();
    assert!(std::str::from_utf8(&body).unwrap().contains("id: one\n"), "{body:?}");
    assert_eq!(site.bearers(), ["Bearer access-expired", "Bearer access-new"]);
}

#[tokio::test]
async fn a_call_is_made_again_no_more_than_once() {
    let site = Site::start(&[]).await;
    let answer = site.get("taskey_access=access-expired; taskey_refresh=refresh-useless").await;
    answer.assert_refused(401, "UNAUTHENTICATED", "TOKEN_EXPIRED", &[]);
    answer.assert_forgets();
    assert_eq!((site.bearers().len(), site.refreshes()), (2, 1));
}

#[tokio::test]
async fn without_a_refresh_token_an_expired_session_is_over() {
    let site = Site::start(&[]).await;
    let answer = site.get("taskey_access=access-expired").await;
    answer.assert_refused(401, "UNAUTHENTICATED", "TOKEN_EXPIRED", &[]);
    answer.assert_forgets();
    assert_eq!((site.bearers().len(), site.refreshes()), (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn calls_at_the_same_time_share_one_refresh() {
    let site = Site::start(&[]).await;
    let answers = join_all((0..20).map(|_| site.get("taskey_refresh=refresh-good"))).await;
    for answer in answers {
        assert_eq!((answer.code, answer.kept()), (200, renewed().to_vec()));
    }
    assert_eq!((site.refreshes(), site.bearers().len()), (1, 20));
}

#[tokio::test]
async fn a_refusal_of_the_call_bears_the_new_cookies_too() {
    let site = Site::start(&[]).await;
    let answer = site.program.send(site.request(Method::GET, "/v1/me", "taskey_refresh=refresh-good")).await;
    // The auth-service of the tests has no accounts.
    answer.assert_refused(501, "UNIMPLEMENTED", "METHOD_UNKNOWN", &[]);
    assert_eq!(answer.kept(), renewed());
}

#[tokio::test]
async fn a_refused_refresh_ends_the_session_and_can_be_tried_again() {
    let site = Site::start(&[]).await;
    for tried in 1..=2 {
        let answer = site.get("taskey_refresh=refresh-bad").await;
        answer.assert_refused(401, "UNAUTHENTICATED", "REFRESH_TOKEN_INVALID", &[]);
        answer.assert_forgets();
        assert_eq!((site.task.was_called(), site.refreshes()), (false, tried));
    }
}

#[tokio::test]
async fn a_token_that_has_been_superseded_ends_nothing() {
    let site = Site::start(&[]).await;
    let answer = site.get("taskey_refresh=refresh-old").await;
    answer.assert_refused(409, "ABORTED", "REFRESH_TOKEN_SUPERSEDED", &[]);
    assert!(answer.cookies().is_empty());
}

#[tokio::test]
async fn an_auth_service_that_is_away_ends_nothing() {
    let task = FakeBackend::start(Reply::by(of_task)).await;
    let program = Program::start(settings(NOBODY, &task.url(), &[])).await;
    let request = program.request(Method::GET, "/v1/tasks/x", "");
    let answer = program.send(with_header(request, "cookie", EXPIRED)).await;
    answer.assert_refused(503, "UNAVAILABLE", "BACKEND_UNAVAILABLE", &[]);
    assert_eq!((answer.header("retry-after"), answer.cookies().len()), ("1", 0));
    assert_eq!(answer.json()["error"]["message"], "the auth service cannot be reached");
}

#[tokio::test]
async fn a_session_that_was_revoked_is_forgotten() {
    let site = Site::start(&[]).await;
    let answer = site.get("taskey_access=access-revoked; taskey_refresh=refresh-good").await;
    answer.assert_refused(401, "UNAUTHENTICATED", "TOKEN_REVOKED", &[]);
    answer.assert_forgets();
    assert_eq!(site.refreshes(), 0);
}

#[tokio::test]
async fn who_comes_soon_after_gets_the_same_and_who_comes_later_asks_again() {
    let site = Site::start(&[]).await;
    for (after, refreshes) in [(0, 1), (9, 1), (2, 2)] {
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(after)).await;
        tokio::time::resume();
        assert_eq!(site.get("taskey_refresh=refresh-good").await.kept(), renewed());
        assert_eq!(site.refreshes(), refreshes, "after {after} s");
    }
}

#[tokio::test]
async fn a_refresh_that_hangs_is_given_up_and_ends_nothing() {
    let site = Site::start(&[]).await;
    // The connection is made while the clock goes.
    site.get("taskey_refresh=refresh-good").await.ok();
    tokio::time::pause();
    let begun = Instant::now();
    let answer = site.get("taskey_refresh=refresh-slow").await;
    answer.assert_refused(504, "DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED", &[]);
    assert!(answer.cookies().is_empty() && begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
}
