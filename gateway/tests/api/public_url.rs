//! Deployments under another host or path than the gateway sees.

use bytes::Bytes;
use cookie::SameSite;
use http::{Method, Request};
use http_body_util::Full;

use crate::{program::with_header, site::Site};

const BEHIND_PROXY: [&str; 2] = ["--trusted-proxies", "127.0.0.1"];

/// Creates a write with a cookie, as a browser without `Sec-Fetch-Site` sends it for a page of this origin.
fn write(site: &Site, origin: &str, cookie: &str) -> Request<Full<Bytes>> {
    let mut request = site.request(Method::POST, "/v1/tasks/x:complete", cookie);
    request.headers_mut().remove("sec-fetch-site");
    with_header(request, "origin", origin)
}

#[tokio::test]
async fn origin_is_compared_with_the_public_url() {
    let site = Site::start(&["--public-url", "https://Tasks.example.org:443/"]).await;
    for (origin, code) in [
        ("https://tasks.example.org", 200),
        ("http://tasks.example.org", 403),
        ("https://tasks.example.org:8443", 403),
        ("https://example.org", 403),
        (&format!("http://{}", site.program.address), 403),
        ("null", 403),
    ] {
        let response = site.program.send(write(&site, origin, "__Host-taskey_access=a")).await;
        assert_eq!(response.code, code, "{origin}");
    }
}

#[tokio::test]
async fn origin_is_compared_with_the_host_that_a_trusted_proxy_sends() {
    for (host, origin) in [
        ("tasks.example.org", "http://tasks.example.org"),
        ("TASKS.example.org", "http://tasks.example.org"),
        ("tasks.example.org:80", "http://tasks.example.org"),
        ("tasks.example.org:443", "https://tasks.example.org"),
        ("tasks.example.org:8443, inner.example", "https://tasks.example.org:8443"),
    ] {
        for (flags, code) in [(&BEHIND_PROXY[..], 200), (&[], 403)] {
            let site = Site::start(flags).await;
            let request = with_header(write(&site, origin, "taskey_access=a"), "x-forwarded-host", host);
            assert_eq!(site.program.send(request).await.code, code, "{host} {flags:?}");
        }
    }
}

#[tokio::test]
async fn origin_of_another_host_than_the_forwarded_one_is_rejected() {
    let site = Site::start(&BEHIND_PROXY).await;
    for host in ["other.example", "tasks.example.org.evil.example", "tasks.example.org:81", "", "\"", "a b"] {
        let request = write(&site, "http://tasks.example.org", "taskey_access=a");
        let response = site.program.send(with_header(request, "x-forwarded-host", host)).await;
        response.assert_refused(403, "PERMISSION_DENIED", "PERMISSION_DENIED", &[]);
    }
}

#[tokio::test]
async fn cookies_have_the_path_of_the_public_url() {
    let site = Site::start(&["--public-url", "https://example.org/tasks"]).await;
    let response = site.program.send(site.request(Method::POST, "/v1/auth/login?cookie=true", "")).await;
    let cookies = response.cookies();
    let names: Vec<_> = cookies.iter().map(cookie::Cookie::name).collect();
    assert_eq!(names, ["__Secure-taskey_access", "__Secure-taskey_refresh"]);
    for cookie in &cookies {
        assert_eq!((cookie.path(), cookie.secure()), (Some("/tasks"), Some(true)));
        assert_eq!((cookie.http_only(), cookie.same_site()), (Some(true), Some(SameSite::Strict)));
    }
    site.get("__Secure-taskey_access=a").await.ok();
    assert_eq!(site.bearers(), ["Bearer a"]);
}

#[tokio::test]
async fn openapi_document_names_the_public_url() {
    for (flags, server) in
        [(&[][..], "/"), (&["--public-url", "https://example.org/tasks/"], "https://example.org/tasks")]
    {
        let site = Site::start(flags).await;
        let document = site.program.send(site.program.request(Method::GET, "/openapi.json", "")).await.ok();
        assert_eq!(document["servers"], serde_json::json!([{"url": server}]));
    }
}
