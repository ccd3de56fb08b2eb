//! Cookie mode: requests that can outlive the access token. They do not use the refresh token, and a page renews its tokens
//! before them.

use http::{Method, Request};
use http_body_util::Full;
use taskey_proto::{
    auth::v1::RefreshRequest,
    task::v1::{ExportTasksResponse, ImportTasksResponse},
};

use crate::{
    program::with_header,
    site::{REFRESH, Site, task_reply},
    support::{Reply, TestResponse},
};

const IMPORT: &str = "/v1/tasks:import?format=FILE_FORMAT_CSV";
const RENEWAL: &str = "/v1/auth/refresh?cookie=true";

/// Starts a gateway whose task-service imports and exports nothing if the access token is valid.
async fn start() -> Site {
    let reply = Reply::from_fn(|call| match task_reply(call) {
        Reply::Message(_) if call.rpc.ends_with("ExportTasks") => Reply::message(&ExportTasksResponse::default()),
        Reply::Message(_) => Reply::message(&ImportTasksResponse::default()),
        error => error,
    });
    Site::start_with(reply, &[]).await
}

async fn post(site: &Site, path: &str, cookies: &str) -> TestResponse {
    site.program.send(site.request(Method::POST, path, cookies)).await
}

fn cookies(access: &str, refresh: &str) -> Vec<(String, String)> {
    vec![("taskey_access".to_owned(), access.to_owned()), ("taskey_refresh".to_owned(), refresh.to_owned())]
}

#[tokio::test]
async fn access_token_that_expires_during_an_upload_does_not_end_the_session() {
    let site = start().await;
    let response = post(&site, IMPORT, "taskey_access=access-expired; taskey_refresh=refresh-good").await;
    response.assert_refused(401, "UNAUTHENTICATED", "TOKEN_EXPIRED", &[]);
    assert!(response.cookies().is_empty(), "{response:?}");
    // Another request may have used the refresh token since the upload began.
    assert_eq!((site.bearers().len(), site.refresh_count()), (1, 0));
    let next = site.get("taskey_access=access-expired; taskey_refresh=refresh-good").await;
    assert_eq!((next.code, next.cookie_values()), (200, cookies("access-new", "refresh-new")));
}

#[tokio::test]
async fn upload_ends_a_session_that_has_no_refresh_token_or_is_revoked() {
    let site = start().await;
    for (cookies, reason) in [
        ("taskey_access=access-expired", "TOKEN_EXPIRED"),
        ("taskey_access=access-revoked; taskey_refresh=refresh-good", "TOKEN_REVOKED"),
        ("taskey_refresh=refresh-bad", "REFRESH_TOKEN_INVALID"),
    ] {
        let response = post(&site, IMPORT, cookies).await;
        response.assert_refused(401, "UNAUTHENTICATED", reason, &[]);
        response.assert_clears_cookies();
    }
}

#[tokio::test]
async fn upload_without_an_access_token_renews_it_at_once_and_is_repeated() {
    let site = start().await;
    let response = post(&site, IMPORT, "taskey_refresh=refresh-good").await;
    response.assert_refused(401, "UNAUTHENTICATED", "TOKEN_EXPIRED", &[]);
    assert_eq!((response.cookie_values(), site.task.was_called()), (cookies("access-new", "refresh-new"), false));
    post(&site, IMPORT, "taskey_access=access-new; taskey_refresh=refresh-new").await.ok();
    assert_eq!((site.bearers(), site.refresh_count()), (vec!["Bearer access-new".to_owned()], 1));
}

#[tokio::test]
async fn download_is_retried_after_a_renewal() {
    let site = start().await;
    let path = "/v1/tasks:export?format=FILE_FORMAT_CSV";
    let request = site.request(Method::GET, path, "taskey_access=access-expired; taskey_refresh=refresh-good");
    let response = site.program.send(request).await;
    assert_eq!((response.code, response.cookie_values()), (200, cookies("access-new", "refresh-new")));
    assert_eq!(site.bearers(), ["Bearer access-expired", "Bearer access-new"]);
}

#[tokio::test]
async fn refresh_with_cookies_renews_tokens_that_have_not_expired() {
    let site = start().await;
    let response = post(&site, RENEWAL, "taskey_access=access-old; taskey_refresh=refresh-good").await;
    let json = response.ok();
    assert_eq!((json["accessToken"].as_str(), json["refreshToken"].as_str()), (Some(""), Some("")));
    assert_eq!(response.cookie_values(), cookies("access-new", "refresh-new"));
    let call = site.auth.call();
    assert_eq!((call.rpc.as_str(), call.values("authorization").len()), (REFRESH, 0));
    assert_eq!(call.message::<RefreshRequest>().refresh_token, "refresh-good");
}

#[tokio::test]
async fn refresh_with_cookies_ends_only_a_session_whose_token_is_refused() {
    let site = start().await;
    let superseded = post(&site, RENEWAL, "taskey_access=access-old; taskey_refresh=refresh-old").await;
    superseded.assert_refused(409, "ABORTED", "REFRESH_TOKEN_SUPERSEDED", &[]);
    assert!(superseded.cookies().is_empty(), "{superseded:?}");
    for cookies in ["taskey_access=access-old; taskey_refresh=refresh-bad", "taskey_access=access-old", ""] {
        let refused = post(&site, RENEWAL, cookies).await;
        refused.assert_refused(401, "UNAUTHENTICATED", "REFRESH_TOKEN_INVALID", &[]);
        refused.assert_clears_cookies();
    }
}

#[tokio::test]
async fn refresh_with_cookies_must_come_from_the_same_origin() {
    let site = start().await;
    let request = |path: &str| -> Request<Full<_>> {
        let mut request = site.request(Method::POST, path, "taskey_refresh=refresh-good");
        request.headers_mut().remove("sec-fetch-site");
        with_header(request, "sec-fetch-site", "cross-site")
    };
    let response = site.program.send(request(RENEWAL)).await;
    response.assert_refused(403, "PERMISSION_DENIED", "PERMISSION_DENIED", &[]);
    assert!(!site.auth.was_called());
    // Without the parameter, the cookies are not used.
    let response = site.program.send(request("/v1/auth/refresh")).await;
    response.assert_refused(401, "UNAUTHENTICATED", "REFRESH_TOKEN_INVALID", &[]);
    assert!(response.cookies().is_empty(), "{response:?}");
    assert_eq!(site.auth.call().message::<RefreshRequest>().refresh_token, "");
}
