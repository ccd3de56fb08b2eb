//! Cookie mode: login, calls and logout of a browser whose scripts see no token.

use cookie::SameSite;
use http::Method;
use taskey_proto::auth::v1::LogoutRequest;

use crate::{
    program::with_header,
    site::{LOGIN, LOGOUT, Site},
    support::Answer,
};

async fn login(site: &Site, path: &str) -> Answer {
    site.program.send(site.request(Method::POST, path, "")).await
}

/// The names of the cookies of a login, all of which are secure or none is.
async fn names(flags: &[&str], forwarded_proto: &str) -> (Vec<String>, bool) {
    let site = Site::start(flags).await;
    let request = site.request(Method::POST, "/v1/auth/login?cookie=true", "");
    let answer = site.program.send(with_header(request, "x-forwarded-proto", forwarded_proto)).await;
    let cookies = answer.cookies();
    let secure = cookies.iter().filter(|cookie| cookie.secure() == Some(true)).count();
    assert!(secure == 0 || secure == cookies.len(), "{cookies:?}");
    (cookies.iter().map(|cookie| cookie.name().to_owned()).collect(), secure > 0)
}

const PLAIN: [&str; 2] = ["taskey_access", "taskey_refresh"];
const HOST: [&str; 2] = ["__Host-taskey_access", "__Host-taskey_refresh"];

#[tokio::test]
async fn a_login_puts_the_tokens_into_cookies_and_not_into_the_body() {
    let site = Site::start(&[]).await;
    let answer = login(&site, "/v1/auth/login?cookie=true").await;
    let json = answer.ok();
    assert_eq!((json["accessToken"].as_str(), json["refreshToken"].as_str()), (Some(""), Some("")));
    assert!(json["accessExpireTime"].is_string() && !answer.text.contains("-first"), "{answer:?}");
    let cookies = answer.cookies();
    let kept = [("taskey_access", "access-first", 300), ("taskey_refresh", "refresh-first", 3000)];
    assert_eq!(cookies.len(), kept.len());
    for (cookie, (name, value, life)) in cookies.iter().zip(kept) {
        assert_eq!((cookie.name(), cookie.value(), cookie.path()), (name, value, Some("/")));
        assert_eq!((cookie.http_only(), cookie.same_site()), (Some(true), Some(SameSite::Strict)));
        assert_eq!((cookie.domain(), cookie.secure()), (None, None));
        let age = cookie.max_age().unwrap().whole_seconds();
        assert!((life - 20..=life).contains(&age), "{age}");
    }
}

#[tokio::test]
async fn who_asks_for_no_cookies_gets_the_tokens() {
    let site = Site::start(&[]).await;
    let answer = login(&site, "/v1/auth/login").await;
    assert_eq!((answer.ok()["accessToken"].as_str(), answer.cookies().len()), (Some("access-first"), 0));
}

#[tokio::test]
async fn over_tls_cookies_are_those_of_the_host_alone() {
    let trusted = ["--trusted-proxies", "127.0.0.1"];
    assert_eq!(names(&["--secure-cookies"], "http").await, (HOST.map(str::to_owned).to_vec(), true));
    assert_eq!(names(&trusted, "https").await, (HOST.map(str::to_owned).to_vec(), true));
    assert_eq!(names(&trusted, "http").await, (PLAIN.map(str::to_owned).to_vec(), false));
    assert_eq!(names(&[], "https").await, (PLAIN.map(str::to_owned).to_vec(), false));
}

#[tokio::test]
async fn over_tls_no_other_cookies_are_believed() {
    let site = Site::start(&["--secure-cookies"]).await;
    site.get("taskey_access=a").await.assert_refused(401, "UNAUTHENTICATED", "TOKEN_MISSING", &[]);
    site.get("__Host-taskey_access=a").await.ok();
    assert_eq!(site.bearers(), ["", "Bearer a"]);
}

#[tokio::test]
async fn a_call_bears_the_token_of_the_cookie() {
    let site = Site::start(&[]).await;
    let answer = site.get("other=b; taskey_access=a; taskey_refresh=r").await;
    assert_eq!((answer.code, answer.cookies().len()), (200, 0));
    assert_eq!((site.bearers(), site.auth.was_called()), (vec!["Bearer a".to_owned()], false));
    assert!(site.task.call().values("cookie").is_empty());
}

#[tokio::test]
async fn an_authorization_counts_more_than_a_cookie() {
    let site = Site::start(&[]).await;
    let request =
        with_header(site.request(Method::POST, "/v1/tasks/x:complete", "taskey_access=a"), "authorization", "Bearer b");
    // A page elsewhere cannot know the token, so it may be anywhere.
    site.program.send(with_header(request, "sec-fetch-site", "cross-site")).await.ok();
    assert_eq!(site.bearers(), ["Bearer b"]);
}

#[tokio::test]
async fn a_cookie_that_comes_twice_is_nobodys() {
    let site = Site::start(&[]).await;
    site.get("taskey_access=a; taskey_access=b").await.assert_refused(401, "UNAUTHENTICATED", "TOKEN_MISSING", &[]);
    let mut request = site.request(Method::GET, "/v1/tasks/x", "taskey_access=a; taskey_refresh=refresh-good");
    request.headers_mut().append("cookie", "taskey_access=b; taskey_refresh=b".parse().unwrap());
    site.program.send(request).await.assert_refused(401, "UNAUTHENTICATED", "TOKEN_MISSING", &[]);
    assert_eq!((site.bearers(), site.refreshes()), (vec![String::new(); 2], 0));
}

#[tokio::test]
async fn a_logout_ends_the_session_of_the_cookies_and_forgets_them() {
    for (cookies, refresh_token, bearers) in [
        ("taskey_access=a; taskey_refresh=r", "r", vec![]),
        ("taskey_refresh=r", "r", vec![]),
        ("taskey_access=a", "", vec!["Bearer a"]),
    ] {
        let site = Site::start(&[]).await;
        let answer = site.program.send(site.request(Method::POST, "/v1/auth/logout", cookies)).await;
        answer.ok();
        answer.assert_forgets();
        let call = site.auth.call();
        assert_eq!((&call.rpc[..], call.values("authorization")), (LOGOUT, bearers), "{cookies}");
        assert_eq!(call.message::<LogoutRequest>().refresh_token, refresh_token);
    }
}

#[tokio::test]
async fn a_login_needs_no_cookies_and_heeds_none() {
    let site = Site::start(&[]).await;
    let request = site.request(Method::POST, "/v1/auth/login", "taskey_access=a; taskey_refresh=refresh-good");
    site.program.send(request).await.ok();
    assert_eq!((&site.auth.call().rpc[..], site.auth.call().values("authorization")), (LOGIN, vec![]));
}
