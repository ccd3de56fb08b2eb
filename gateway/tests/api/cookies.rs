//! Cookie mode: login, calls and logout of a browser, whose scripts cannot read the tokens.

use cookie::SameSite;
use http::{HeaderValue, Method};
use taskey_proto::auth::v1::LogoutRequest;

use crate::{
    program::with_header,
    site::{LOGIN, LOGOUT, Site, USER_WITH_FACTOR},
    support::TestResponse,
};

async fn login(site: &Site, path: &str) -> TestResponse {
    site.program.send(site.request(Method::POST, path, "")).await
}

/// Returns the names of the cookies of a login and whether they are secure. Either all or none are.
async fn cookie_names(flags: &[&str], forwarded_proto: &str) -> (Vec<String>, bool) {
    let site = Site::start(flags).await;
    let request = site.request(Method::POST, "/v1/auth/login?cookie=true", "");
    let response = site.program.send(with_header(request, "x-forwarded-proto", forwarded_proto)).await;
    let cookies = response.cookies();
    let secure_count = cookies.iter().filter(|cookie| cookie.secure() == Some(true)).count();
    assert!(secure_count == 0 || secure_count == cookies.len(), "{cookies:?}");
    (cookies.iter().map(|cookie| cookie.name().to_owned()).collect(), secure_count > 0)
}

const WITHOUT_PREFIX: [&str; 2] = ["taskey_access", "taskey_refresh"];
const WITH_PREFIX: [&str; 2] = ["__Host-taskey_access", "__Host-taskey_refresh"];

#[tokio::test]
async fn login_returns_tokens_in_cookies_and_not_in_the_body() {
    let site = Site::start(&[]).await;
    let response = login(&site, "/v1/auth/login?cookie=true").await;
    let json = response.ok();
    assert_eq!((json["accessToken"].as_str(), json["refreshToken"].as_str()), (Some(""), Some("")));
    assert!(json["accessExpireTime"].is_string() && !response.text.contains("-first"), "{response:?}");
    let cookies = response.cookies();
    let expected = [("taskey_access", "access-first", 300), ("taskey_refresh", "refresh-first", 3000)];
    assert_eq!(cookies.len(), expected.len());
    for (cookie, (name, value, lifetime)) in cookies.iter().zip(expected) {
        assert_eq!((cookie.name(), cookie.value(), cookie.path()), (name, value, Some("/")));
        assert_eq!((cookie.http_only(), cookie.same_site()), (Some(true), Some(SameSite::Strict)));
        assert_eq!((cookie.domain(), cookie.secure()), (None, None));
        let max_age = cookie.max_age().unwrap().whole_seconds();
        assert!((lifetime - 20..=lifetime).contains(&max_age), "{max_age}");
    }
}

#[tokio::test]
async fn challenge_of_a_login_changes_no_cookies() {
    let site = Site::start(&[]).await;
    let body = format!(r#"{{"email": "{USER_WITH_FACTOR}"}}"#);
    let request = site.program.request(Method::POST, "/v1/auth/login?cookie=true", &body);
    let response = site.program.send(with_header(request, "sec-fetch-site", "same-origin")).await;
    assert_eq!((response.ok()["challenge"]["token"].as_str(), response.cookies().len()), (Some("challenge"), 0));
    let completed = login(&site, "/v1/auth/login:complete?cookie=true").await;
    assert_eq!((completed.ok()["accessToken"].as_str(), completed.cookies().len()), (Some(""), 2));
}

#[tokio::test]
async fn new_access_token_of_a_session_replaces_the_cookie() {
    let site = Site::start(&[]).await;
    for (cookies, count) in [("taskey_access=a; taskey_refresh=r", 1), ("taskey_refresh=refresh-good", 2)] {
        let request = site.request(Method::POST, "/v1/me:reauthenticate", cookies);
        let response = site.program.send(request).await;
        assert_eq!(response.ok()["accessToken"].as_str(), Some(""), "no script sees the token");
        let cookies = response.cookies();
        let names: Vec<_> = cookies.iter().map(|cookie| format!("{}={}", cookie.name(), cookie.value())).collect();
        let expected = ["taskey_access=access-renewed", "taskey_refresh=refresh-new"];
        assert_eq!(names, expected[..count]);
    }
    let request = with_header(site.request(Method::POST, "/v1/me:reauthenticate", ""), "authorization", "Bearer a");
    let response = site.program.send(request).await;
    assert_eq!((response.ok()["accessToken"].as_str(), response.cookies().len()), (Some("access-renewed"), 0));
}

#[tokio::test]
async fn wrong_code_of_a_session_keeps_the_cookies() {
    let site = Site::start(&[]).await;
    let request = site.program.request(Method::POST, "/v1/me:reauthenticate", r#"{"totpCode": "123456"}"#);
    let request = with_header(request, "sec-fetch-site", "same-origin");
    let response = site.program.send(with_header(request, "cookie", "taskey_access=a; taskey_refresh=r")).await;
    response.assert_refused(401, "UNAUTHENTICATED", "CODE_INVALID", &[]);
    assert!(response.cookies().is_empty(), "the session continues");
}

#[tokio::test]
async fn login_without_cookie_mode_returns_tokens_in_the_body() {
    let site = Site::start(&[]).await;
    let response = login(&site, "/v1/auth/login").await;
    assert_eq!((response.ok()["accessToken"].as_str(), response.cookies().len()), (Some("access-first"), 0));
}

#[tokio::test]
async fn cookies_over_tls_have_the_host_prefix() {
    let trusted = ["--trusted-proxies", "127.0.0.1"];
    assert_eq!(cookie_names(&["--secure-cookies"], "http").await, (WITH_PREFIX.map(str::to_owned).to_vec(), true));
    assert_eq!(cookie_names(&trusted, "https").await, (WITH_PREFIX.map(str::to_owned).to_vec(), true));
    assert_eq!(cookie_names(&trusted, "http").await, (WITHOUT_PREFIX.map(str::to_owned).to_vec(), false));
    assert_eq!(cookie_names(&[], "https").await, (WITHOUT_PREFIX.map(str::to_owned).to_vec(), false));
}

#[tokio::test]
async fn protocol_of_the_client_is_read_from_a_list_and_in_any_letter_case() {
    let trusted = ["--trusted-proxies", "127.0.0.1"];
    for protocols in ["https, http", "HTTPS", "Https,http"] {
        assert!(cookie_names(&trusted, protocols).await.1, "{protocols}");
    }
    assert!(!cookie_names(&trusted, "http, https").await.1);
}

#[tokio::test]
async fn cookies_without_the_host_prefix_are_ignored_over_tls() {
    let site = Site::start(&["--secure-cookies"]).await;
    site.get("taskey_access=a").await.assert_refused(401, "UNAUTHENTICATED", "TOKEN_MISSING", &[]);
    site.get("__Host-taskey_access=a").await.ok();
    assert_eq!(site.bearers(), ["", "Bearer a"]);
}

#[tokio::test]
async fn cookie_token_is_forwarded_as_a_bearer_token() {
    let site = Site::start(&[]).await;
    let response = site.get("other=b; taskey_access=a; taskey_refresh=r").await;
    assert_eq!((response.code, response.cookies().len()), (200, 0));
    assert_eq!((site.bearers(), site.auth.was_called()), (vec!["Bearer a".to_owned()], false));
    assert!(site.task.call().values("cookie").is_empty());
}

#[tokio::test]
async fn authorization_header_takes_precedence_over_a_cookie() {
    let site = Site::start(&[]).await;
    let request =
        with_header(site.request(Method::POST, "/v1/tasks/x:complete", "taskey_access=a"), "authorization", "Bearer b");
    // A page of another site cannot know the token, so the origin is not checked.
    site.program.send(with_header(request, "sec-fetch-site", "cross-site")).await.ok();
    assert_eq!(site.bearers(), ["Bearer b"]);
}

#[tokio::test]
async fn cookies_of_other_applications_may_contain_any_bytes() {
    let site = Site::start(&[]).await;
    for cookies in [
        &b"other=\xfc; taskey_access=a"[..],
        b"taskey_access=a; other=\xc3\xbc",
        b"\xfc; taskey_access=a; =\xff",
        b"other=\"\xfc\"; taskey_access=a;;",
    ] {
        let mut request = site.request(Method::GET, "/v1/tasks/x", "");
        request.headers_mut().insert("cookie", HeaderValue::from_bytes(cookies).unwrap());
        site.program.send(request).await.ok();
    }
    let mut request = site.request(Method::GET, "/v1/tasks/x", "taskey_access=a");
    request.headers_mut().append("cookie", HeaderValue::from_bytes(b"other=\xfc").unwrap());
    site.program.send(request).await.ok();
    assert_eq!(site.bearers(), ["Bearer a"; 5]);
}

#[tokio::test]
async fn duplicate_cookies_are_ignored() {
    let site = Site::start(&[]).await;
    site.get("taskey_access=a; taskey_access=b").await.assert_refused(401, "UNAUTHENTICATED", "TOKEN_MISSING", &[]);
    let mut request = site.request(Method::GET, "/v1/tasks/x", "taskey_access=a; taskey_refresh=refresh-good");
    request.headers_mut().append("cookie", "taskey_access=b; taskey_refresh=b".parse().unwrap());
    site.program.send(request).await.assert_refused(401, "UNAUTHENTICATED", "TOKEN_MISSING", &[]);
    assert_eq!((site.bearers(), site.refresh_count()), (vec![String::new(); 2], 0));
}

#[tokio::test]
async fn logout_ends_the_session_and_clears_the_cookies() {
    for (cookies, refresh_token, bearers) in [
        ("taskey_access=a; taskey_refresh=r", "r", vec![]),
        ("taskey_refresh=r", "r", vec![]),
        ("taskey_access=a", "", vec!["Bearer a"]),
    ] {
        let site = Site::start(&[]).await;
        let response = site.program.send(site.request(Method::POST, "/v1/auth/logout", cookies)).await;
        response.ok();
        response.assert_clears_cookies();
        let call = site.auth.call();
        assert_eq!((&call.rpc[..], call.values("authorization")), (LOGOUT, bearers), "{cookies}");
        assert_eq!(call.message::<LogoutRequest>().refresh_token, refresh_token);
    }
}

#[tokio::test]
async fn login_ignores_cookies() {
    let site = Site::start(&[]).await;
    let request = site.request(Method::POST, "/v1/auth/login", "taskey_access=a; taskey_refresh=refresh-good");
    site.program.send(request).await.ok();
    assert_eq!((&site.auth.call().rpc[..], site.auth.call().values("authorization")), (LOGIN, vec![]));
}
