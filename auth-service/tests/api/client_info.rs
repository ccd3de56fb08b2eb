//! The address and the user agent of clients behind proxies, in rate limits, sessions and security events alike.

use service_kit::{
    on_each_database,
    testing::{TestDatabase, refusal},
};
use taskey_proto::auth::v1::{ListMySecurityEventsRequest, ListSessionsRequest, LoginRequest, TokenPair};
use tonic::{Code, Request, Response, Status, metadata::AsciiMetadataValue};

use crate::support::{PASSWORD, Server, bearer, issue_service_token};

on_each_database! {
    bytes_that_are_not_ascii_do_not_hide_the_client_behind_a_trusted_proxy,
    bytes_that_are_not_ascii_do_not_hide_the_client_of_a_service,
    an_invalid_address_hides_only_the_clients_beyond_it,
}

const FLAGS: [&str; 8] =
    ["--rate-limits", "on", "--login-rate", "2+1/h", "--password-memory-kib", "8", "--password-passes", "1"];

const TRUSTED_LOOPBACK: [&str; 2] = ["--trusted-proxies", "127.0.0.1"];

async fn log_in(server: &Server, forwarded_for: &[u8], token: Option<&str>) -> Result<TokenPair, Status> {
    let (email, password) = ("ann@example.com".to_owned(), PASSWORD.to_owned());
    let mut request = Request::new(LoginRequest { email, password, ..LoginRequest::default() });
    let value = |bytes: &[u8]| AsciiMetadataValue::try_from(bytes).expect("a header value");
    request.metadata_mut().insert("x-forwarded-for", value(forwarded_for));
    request.metadata_mut().insert("x-forwarded-user-agent", value(b"B\xc3\xbccher/1 \xfc"));
    if let Some(token) = token {
        request.metadata_mut().insert("x-taskey-service-token", token.parse().expect("ASCII"));
    }
    server.auth().login(request).await.map(Response::into_inner)
}

/// Asserts that the latest session and the latest security event are from this client.
async fn assert_client(server: &Server, pair: &TokenPair, address: &str) {
    let sessions = server.account().list_sessions(bearer(&pair.access_token, ListSessionsRequest {})).await;
    let session = sessions.expect("listed").into_inner().sessions.remove(0);
    assert_eq!((&session.ip_address[..], &session.user_agent[..]), (address, "Bücher/1 \u{fffd}"));
    let events = bearer(&pair.access_token, ListMySecurityEventsRequest::default());
    let events = server.account().list_my_security_events(events).await.expect("listed").into_inner().events;
    assert_eq!((&events[0].ip_address[..], &events[0].user_agent[..]), (address, "Bücher/1 \u{fffd}"));
}

/// Logs in twice, which is the rate limit, from each of two clients.
async fn assert_clients_are_told_apart(server: &Server, token: Option<&str>) {
    server.sign_up("ann@example.com").await.expect("signed up");
    for (entries, address) in [
        ([&b"\xfc, 203.0.113.7"[..], b"\xc3\xbc,\"203.0.113.7:4711\""], "203.0.113.7"),
        ([b"unknown, [2001:db8::1]:4711", b"\xff,2001:db8::1"], "2001:db8::1"),
    ] {
        for entry in entries {
            let pair = log_in(server, entry, token).await.expect("logged in");
            assert_client(server, &pair, address).await;
        }
        let status = log_in(server, address.as_bytes(), token).await.expect_err("the client has reached its limit");
        assert_eq!(refusal(&status), (Code::ResourceExhausted, "RATE_LIMITED".to_owned(), vec![]));
    }
}

async fn bytes_that_are_not_ascii_do_not_hide_the_client_behind_a_trusted_proxy(database: TestDatabase) {
    let server = Server::start_with(database, &[&FLAGS[..], &TRUSTED_LOOPBACK].concat()).await;
    assert_clients_are_told_apart(&server, None).await;
    server.stop().await;
}

async fn bytes_that_are_not_ascii_do_not_hide_the_client_of_a_service(database: TestDatabase) {
    let server = Server::start_with(database, &FLAGS).await;
    let token = issue_service_token(&server.database, "gateway");
    assert_clients_are_told_apart(&server, Some(&token)).await;
    server.stop().await;
}

async fn an_invalid_address_hides_only_the_clients_beyond_it(database: TestDatabase) {
    let flags = [&FLAGS[..], &["--trusted-proxies", "127.0.0.1,192.0.2.0/24"]].concat();
    let server = Server::start_with(database, &flags).await;
    server.sign_up("ann@example.com").await.expect("signed up");
    for (forwarded_for, address) in [(&b"203.0.113.7, \xfc, 192.0.2.1"[..], "192.0.2.1"), (b"\xfc", "127.0.0.1")] {
        let pair = log_in(&server, forwarded_for, None).await.expect("logged in");
        assert_client(&server, &pair, address).await;
    }
    server.stop().await;
}
