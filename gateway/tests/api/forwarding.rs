//! Headers that the gateway forwards to the services.

use std::time::Duration;

use gateway::{backend::Forwarding, service::Gateway};
use http::{HeaderValue, Method, Request};
use http_body_util::Full;
use service_kit::{auth::credential::ServiceTokenArgs, ops::secret_file::Key};
use tonic::transport::server::TcpConnectInfo;

use crate::{
    fake_backend::Call,
    support::{FakeBackend, Reply, TestGateway, backend_at, config, pool, request, settings},
};

/// Sends a request with these headers and returns the call that the backend receives. With forwarding, the backend
/// receives the client info.
async fn call(has_forwarding: bool, headers: &[(&'static str, &'static str)]) -> Call {
    let forwarding = if has_forwarding { Some(forwarding(&[]).await) } else { None };
    call_with(forwarding, headers).await
}

/// Returns a forwarding configuration with a service token and these trusted proxies.
async fn forwarding(proxies: &[&str]) -> Forwarding {
    let service_token = Some(Key::new([7; 32]));
    let token = ServiceTokenArgs { service_token_file: None, service_token }.open().await.unwrap();
    Forwarding {
        token,
        proxies: config(&[&["--trusted-proxies"], proxies].concat()[..2 * proxies.len()]).limits.proxies,
    }
}

async fn call_with(forwarding: Option<Forwarding>, headers: &[(&'static str, &'static str)]) -> Call {
    let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
    call_with_bytes(forwarding, &headers).await
}

async fn call_with_bytes(forwarding: Option<Forwarding>, headers: &[(&'static str, &[u8])]) -> Call {
    let backend = FakeBackend::start(Reply::Echo).await;
    let backends = [backend_at(&backend.url(), forwarding)];
    let gateway = Gateway::new(pool(), &backends, settings(Duration::from_secs(10))).unwrap();
    let mut request: Request<Full<_>> = request(Method::GET, "/v1/query", "");
    for (name, value) in headers {
        request.headers_mut().append(*name, HeaderValue::from_bytes(value).unwrap());
    }
    let peer = "[::ffff:192.0.2.7]:4711".parse().unwrap();
    request.extensions_mut().insert(TcpConnectInfo { local_addr: None, remote_addr: Some(peer) });
    assert_eq!(gateway.handle(request).await.status(), 200);
    backend.call()
}

#[tokio::test]
async fn the_rpc_of_the_binding_is_called() {
    assert_eq!(call(false, &[]).await.rpc, "/test.v1.EchoService/Query");
}

#[tokio::test]
async fn authorization_and_trace_context_are_forwarded() {
    let headers = [
        ("authorization", "Bearer a"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("tracestate", "a=1"),
        ("tracestate", "b=2"),
    ];
    let call = call(false, &headers).await;
    assert_eq!(call.values("authorization"), ["Bearer a"]);
    assert_eq!(call.values("traceparent"), [headers[1].1]);
    assert_eq!(call.values("tracestate"), ["a=1", "b=2"]);
}

#[tokio::test]
async fn repeated_authorization_headers_are_forwarded() {
    let call = call(false, &[("authorization", "Bearer a"), ("authorization", "Bearer b")]).await;
    assert_eq!(call.values("authorization"), ["Bearer a", "Bearer b"]);
}

#[tokio::test]
async fn non_ascii_authorization_is_forwarded() {
    let gateway = TestGateway::start().await;
    let mut request = request(Method::GET, "/v1/query", "");
    request.headers_mut().insert("authorization", HeaderValue::from_bytes(b"Bearer \xff").unwrap());
    gateway.send(request).await.ok();
    assert_eq!(gateway.backend.call().metadata["authorization"].as_bytes(), b"Bearer \xff");
}

#[tokio::test]
async fn request_id_is_forwarded_or_generated() {
    assert_eq!(call(false, &[("x-request-id", "mine")]).await.values("x-request-id"), ["mine"]);
    assert_eq!(call(false, &[]).await.values("x-request-id")[0].len(), 36);
}

#[tokio::test]
async fn other_headers_are_not_forwarded() {
    let call = call(false, &[("cookie", "a=b"), ("x-other", "c"), ("grpc-timeout", "9H")]).await;
    for name in ["cookie", "x-other"] {
        assert!(call.values(name).is_empty(), "{name}");
    }
    assert_eq!(call.values("grpc-timeout").len(), 1);
    assert_ne!(call.values("grpc-timeout"), ["9H"]);
}

#[tokio::test]
async fn deadline_is_forwarded() {
    let call = call(false, &[("request-timeout", "2")]).await;
    let micros: u64 = call.values("grpc-timeout")[0].strip_suffix('u').unwrap().parse().unwrap();
    assert!((1..=2_000_000).contains(&micros), "{micros}");
}

#[tokio::test]
async fn client_info_and_service_token_are_forwarded() {
    let call = call(true, &[("user-agent", "curl/8")]).await;
    assert_eq!(call.values("x-forwarded-for"), ["192.0.2.7"]);
    assert_eq!(call.values("x-forwarded-user-agent"), ["curl/8"]);
    assert_eq!(call.values("x-taskey-service-token"), ["taskey_service_BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc"]);
}

#[tokio::test]
async fn client_address_is_taken_from_a_trusted_proxy() {
    let headers = [("x-forwarded-for", "198.51.100.1, 203.0.113.9")];
    let call = call_with(Some(forwarding(&["192.0.2.0/24"]).await), &headers).await;
    assert_eq!(call.values("x-forwarded-for"), ["203.0.113.9"]);
}

#[tokio::test]
async fn bytes_that_are_not_ascii_do_not_hide_the_client() {
    let user_agent: &[u8] = b"B\xc3\xbccher/1 \xfc";
    for forwarded_for in [&b"\xfc, 203.0.113.9"[..], b"\xc3\xbc,\"203.0.113.9:4711\""] {
        let headers = [("x-forwarded-for", forwarded_for), ("user-agent", user_agent)];
        let call = call_with_bytes(Some(forwarding(&["192.0.2.0/24"]).await), &headers).await;
        assert_eq!(call.values("x-forwarded-for"), ["203.0.113.9"]);
        assert_eq!(call.metadata["x-forwarded-user-agent"].as_bytes(), user_agent);
    }
}

const SPOOFED: [(&str, &str); 3] =
    [("x-forwarded-for", "198.51.100.1"), ("x-forwarded-user-agent", "evil"), ("x-taskey-service-token", "guess")];

#[tokio::test]
async fn spoofed_client_info_is_dropped() {
    let call = call(true, &SPOOFED).await;
    assert_eq!(call.values("x-forwarded-for"), ["192.0.2.7"]);
    assert_eq!(call.values("x-forwarded-user-agent"), [""]);
    assert_eq!(call.values("x-taskey-service-token").len(), 1);
    assert_ne!(call.values("x-taskey-service-token"), ["guess"]);
}

#[tokio::test]
async fn backend_without_forwarding_gets_neither_token_nor_address() {
    let call = call(false, &SPOOFED).await;
    for (name, _) in SPOOFED {
        assert!(call.values(name).is_empty(), "{name}");
    }
}
