//! Cookie mode: protection against cross-site requests, and secrecy of tokens.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use gateway::{
    backend::Backend,
    service::{Gateway, Settings},
    session::{cookie::CookieSettings, cookie_mode::CookieMode},
};
use http::{Method, Request};
use http_body_util::Full;
use service_kit::clock::Clock;
use tracing::{Dispatch, subscriber};

use crate::{
    site::{Site, auth_reply},
    support::{FakeBackend, Reply, TestResponse, backend_at, pool, settings},
};

const SESSION: &str = "taskey_access=a; taskey_refresh=refresh-good";

/// Creates a POST with the session cookies and these headers, which a browser adds for a page. `SELF` in a value stands
/// for the address of the gateway.
fn post_from_page(site: &Site, path: &str, headers: &[(&'static str, &str)]) -> Request<Full<Bytes>> {
    let mut request = site.request(Method::POST, path, SESSION);
    request.headers_mut().remove("sec-fetch-site");
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.replace("SELF", &site.program.address.to_string()).parse().unwrap());
    }
    request
}

#[tokio::test]
async fn requests_from_other_origins_are_rejected() {
    let site = Site::start(&[]).await;
    let origin = "http://SELF";
    for headers in [
        &[][..],
        &[("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site")],
        &[("sec-fetch-site", "none")],
        &[("sec-fetch-site", "")],
        &[("sec-fetch-site", "cross-site"), ("origin", origin)],
        &[("origin", "null")],
        &[("origin", "")],
        &[("origin", "http://")],
        &[("origin", "SELF")],
        &[("origin", "http://evil.example")],
        &[("origin", "http://evil.SELF")],
        &[("origin", "http://SELF.evil.example")],
        &[("origin", "http://SELF/")],
        &[("origin", "http://SELF1")],
        &[("origin", "http://127.0.0.1")],
        &[("origin", "http://127.0.0.1:1")],
        &[("origin", "http://localhost:1")],
    ] {
        for path in ["/v1/tasks/x:complete", "/v1/auth/logout", "/v1/auth/login?cookie=true"] {
            let response = site.program.send(post_from_page(&site, path, headers)).await;
            response.assert_refused(403, "PERMISSION_DENIED", "PERMISSION_DENIED", &[]);
            assert!(response.cookies().is_empty(), "{headers:?}");
        }
    }
    assert!(!site.task.was_called() && !site.auth.was_called());
}

#[tokio::test]
async fn every_unsafe_method_requires_the_same_origin() {
    let site = Site::start(&[]).await;
    for (method, path) in [
        (Method::POST, "/v1/tasks"),
        (Method::PATCH, "/v1/tasks/x"),
        (Method::DELETE, "/v1/tasks/x"),
        (Method::DELETE, "/v1/me/sessions/x"),
    ] {
        let mut request = site.request(method, path, SESSION);
        request.headers_mut().insert("sec-fetch-site", "cross-site".parse().unwrap());
        site.program.send(request).await.assert_refused(403, "PERMISSION_DENIED", "PERMISSION_DENIED", &[]);
    }
    assert!(!site.task.was_called() && !site.auth.was_called());
}

#[tokio::test]
async fn requests_from_the_same_origin_are_accepted() {
    for headers in
        [&[("sec-fetch-site", "same-origin")][..], &[("origin", "http://SELF")], &[("origin", "https://SELF")]]
    {
        let site = Site::start(&[]).await;
        site.program.send(post_from_page(&site, "/v1/tasks/x:complete", headers)).await.ok();
        assert_eq!(site.bearers(), ["Bearer a"]);
    }
}

#[tokio::test]
async fn http_origin_is_rejected_with_secure_cookies() {
    let site = Site::start(&["--secure-cookies"]).await;
    for (origin, code) in [("http://SELF", 403), ("https://SELF", 200)] {
        let mut request = post_from_page(&site, "/v1/tasks/x:complete", &[("origin", origin)]);
        request.headers_mut().insert("cookie", "__Host-taskey_access=a".parse().unwrap());
        assert_eq!(site.program.send(request).await.code, code, "{origin}");
    }
}

#[tokio::test]
async fn origin_is_compared_with_the_http2_authority() {
    let site = Site::start(&[]).await;
    let executor = hyper_util::rt::TokioExecutor::new();
    let client = hyper_util::client::legacy::Client::builder(executor).http2_only(true).build_http();
    for (origin, code) in [("http://SELF", 200), ("http://evil.example", 403)] {
        let request = post_from_page(&site, "/v1/tasks/x:complete", &[("origin", origin)]);
        assert_eq!(client.request(request).await.unwrap().status(), code, "{origin}");
    }
}

#[tokio::test]
async fn safe_methods_are_accepted_from_any_origin() {
    let site = Site::start(&[]).await;
    for method in [Method::GET, Method::HEAD] {
        let mut request = site.request(method, "/v1/tasks/x", SESSION);
        request.headers_mut().insert("sec-fetch-site", "cross-site".parse().unwrap());
        assert_eq!(site.program.send(request).await.code, 200);
    }
}

#[tokio::test]
async fn login_without_cookies_is_accepted_from_any_origin() {
    let site = Site::start(&[]).await;
    site.program.send(post_from_page(&site, "/v1/auth/login", &[("sec-fetch-site", "cross-site")])).await.ok();
}

/// A log that collects its output.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn tokens_are_not_logged() {
    let log = Log::default();
    let writer = log.clone();
    // With a single dispatcher, tracing caches for all threads whether the first thread at a callsite is interested.
    let _other = Dispatch::new(tracing_subscriber::registry());
    // The whole test runs on one thread, so this subscriber sees all log lines.
    let _guard = subscriber::set_default(
        tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).with_writer(move || writer.clone()).finish(),
    );
    let site = Site::start(&[]).await;
    site.program.send(site.request(Method::POST, "/v1/auth/login?cookie=true", "")).await.ok();
    site.get("taskey_access=access-expired; taskey_refresh=refresh-good").await.ok();
    site.get("taskey_refresh=refresh-bad").await;
    site.program.send(site.request(Method::POST, "/v1/auth/logout", "taskey_refresh=refresh-good")).await.ok();
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("call completed"), "{log}");
    assert!(!log.contains("access-") && !log.contains("refresh-"), "{log}");
}

#[tokio::test]
async fn debug_output_contains_no_tokens() {
    let (auth, task) = (FakeBackend::start(Reply::from_fn(auth_reply)).await, FakeBackend::start(Reply::Echo).await);
    let auth_backend = Backend { package: "taskey.auth", ..backend_at(&auth.url(), None) };
    let cookies = CookieMode::new(CookieSettings::default(), Clock::system(), &[auth_backend]);
    let settings = Settings { cookies, ..settings(Duration::from_secs(10)) };
    let gateway = Gateway::new(pool(), &[backend_at(&task.url(), None)], settings).unwrap();
    let request = Request::get("/v1/query").header("cookie", "taskey_refresh=refresh-good");
    let response = TestResponse::read(gateway.handle(request.body(Full::<Bytes>::default()).unwrap()).await).await;
    assert_eq!(response.cookie_values()[1].1, "refresh-new");
    let debug = format!("{gateway:?}");
    assert!(!debug.contains("refresh-") && !debug.contains("access-"), "{debug}");
}
