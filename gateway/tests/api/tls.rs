//! TLS to clients and to the services.

use http::Method;
use service_kit::{
    clock::Clock,
    testing::{
        certificates::{Authority, Issued},
        listen,
    },
};
use tempfile::TempDir;

use crate::{
    fake_backend::{FakeBackend, Reply},
    program::{Program, with_header},
    site::{Site, settings, task_reply},
    support::{TestResponse, config},
};

const STRICT: &str = "strict-transport-security";

/// A folder with a certificate for this machine, and the authority that issued it.
struct Files {
    folder: TempDir,
    authority: Authority,
}

impl Files {
    fn new() -> Self {
        let files = Self { folder: service_kit::testing::folder(), authority: Authority::new("test") };
        _ = files.authority.write(files.folder.path(), "ca");
        files.write(&files.authority.issue(&["127.0.0.1"]));
        files
    }

    fn write(&self, issued: &Issued) {
        _ = issued.write(self.folder.path(), "gateway");
    }

    /// Returns flags with the paths of files.
    fn flags(&self, flags: &[(&str, &str)]) -> Vec<String> {
        let path = |file: &str| self.folder.path().join(file).display().to_string();
        flags.iter().flat_map(|(flag, file)| [(*flag).to_owned(), path(file)]).collect()
    }

    /// Returns the flags of a gateway with TLS.
    fn server(&self) -> Vec<String> {
        self.flags(&[
            ("--tls-cert-file", "gateway.crt"),
            ("--tls-key-file", "gateway.key"),
            ("--upstream-ca-file", "ca.pem"),
        ])
    }

    /// Starts a task-service with TLS, which requires a certificate of its clients. Returns its URL, too.
    async fn task_service(&self) -> (FakeBackend, String) {
        let flags = [self.server(), self.flags(&[("--tls-client-ca-file", "ca.pem")])].concat();
        let config = config(&flags.iter().map(String::as_str).collect::<Vec<_>>());
        let tls = config.tls.open(&Clock::system()).await.unwrap();
        let listener = listen(&config.limits, tls).await;
        let backend = FakeBackend::start_on(listener, Reply::from_fn(task_reply), None);
        let url = backend.url().replace("http://", "https://");
        (backend, url)
    }
}

/// Starts a site with these flags.
async fn site(flags: &[String], other: &[&str]) -> Site {
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    Site::start(&[&flags[..], other].concat()).await
}

async fn login(site: &Site, forwarded_proto: Option<&str>) -> TestResponse {
    let mut request = site.request(Method::POST, "/v1/auth/login?cookie=true", "");
    if let Some(proto) = forwarded_proto {
        request = with_header(request, "x-forwarded-proto", proto);
    }
    site.program.send(request).await
}

#[tokio::test]
async fn cookies_and_transport_security_follow_the_tls_of_the_client() {
    let files = Files::new();
    let behind_proxy = site(&files.server(), &["--trusted-proxies", "127.0.0.1"]).await;
    for (site, forwarded_proto, is_secure) in [
        (site(&files.server(), &[]).await, None, true),
        (site(&files.server(), &[]).await, Some("http"), true),
        (site(&[], &[]).await, None, false),
        (behind_proxy, Some("http"), false),
        (site(&[], &["--trusted-proxies", "127.0.0.1"]).await, Some("https"), true),
    ] {
        let response = login(&site, forwarded_proto).await;
        let cookies = response.cookies();
        assert!(cookies.iter().all(|cookie| cookie.name().starts_with("__Host-") == is_secure), "{cookies:?}");
        assert!(cookies.iter().all(|cookie| cookie.secure().is_some() == is_secure), "{cookies:?}");
        let expected = if is_secure { "max-age=31536000" } else { "" };
        assert_eq!((cookies.len(), response.header(STRICT)), (2, expected));
    }
}

#[tokio::test]
async fn services_are_called_over_tls_with_a_certificate() {
    let files = Files::new();
    let (_task, url) = files.task_service().await;
    let identity = files.flags(&[("--upstream-cert-file", "gateway.crt"), ("--upstream-key-file", "gateway.key")]);
    let flags = [files.flags(&[("--upstream-ca-file", "ca.pem")]), identity].concat();
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    let program = Program::start(settings(crate::program::UNREACHABLE, &url, &flags)).await;
    let request = || with_header(program.request(Method::GET, "/v1/tasks/x", ""), "authorization", "Bearer a");
    program.send(request()).await.ok();
}

#[tokio::test]
async fn service_that_the_gateway_does_not_trust_is_unavailable() {
    let files = Files::new();
    let other = Files::new();
    let (_task, url) = other.task_service().await;
    let flags = files.flags(&[("--upstream-ca-file", "ca.pem")]);
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    let program = Program::start(settings(crate::program::UNREACHABLE, &url, &flags)).await;
    program.get("/v1/tasks/x").await.assert_refused(503, "UNAVAILABLE", "BACKEND_UNAVAILABLE", &[]);
}

#[tokio::test]
async fn plaintext_request_is_refused_in_the_format_of_all_errors() {
    let files = Files::new();
    let mut site = site(&files.server(), &[]).await;
    site.program.use_plaintext();
    let response = site.get("").await;
    response.assert_malformed();
    assert!(response.text.contains("use https:// instead of http://"), "{response:?}");
}
