//! Malformed input over raw sockets: the gateway rejects it and keeps serving.

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use crate::raw::{TIMEOUT, Target};

/// A smuggled request. It follows another request and must never be served.
const SMUGGLED: &str = "GET /v1/tasks HTTP/1.1\r\nHost: x\r\n\r\n";

#[tokio::test]
async fn ambiguous_request_is_rejected_and_ends_the_connection() {
    for headers in [
        "Content-Length: 2\r\nContent-Length: 4\r\n",
        "Content-Length: 2, 4\r\n",
        "Content-Length: +2\r\n",
        "Content-Length: -2\r\n",
        "Content-Length: 0x2\r\n",
        "Content-Length : 2\r\n",
        "Content-Length: 2\r\n folded\r\n",
        "X: a\r\n\tfolded\r\nContent-Length: 2\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "X\0: a\r\nContent-Length: 2\r\n",
        "X: a\0b\r\nContent-Length: 2\r\n",
        ": a\r\nContent-Length: 2\r\n",
        "no colon\r\nContent-Length: 2\r\n",
        "X: a\nContent-Length: 2\r\n",
        "Content-Length: 2\n",
    ] {
        let target = Target::start().await;
        let request = format!("POST /v1/tasks HTTP/1.1\r\nHost: x\r\n{headers}\r\n{{}}{SMUGGLED}");
        target.send(request).await.assert_malformed();
        assert!(!target.backend.was_called(), "{headers:?}");
        target.assert_still_serving().await;
    }
}

#[tokio::test]
async fn bare_line_feed_in_a_later_request_is_rejected() {
    let target = Target::start().await;
    let valid = "POST /v1/tasks HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n{\n\n}";
    let responses = target.send_all(format!("{valid}GET /v1/tasks HTTP/1.1\nHost: x\r\n\r\n{SMUGGLED}")).await;
    assert_eq!(responses.iter().map(|response| response.code).collect::<Vec<_>>(), [200, 400]);
    responses[1].assert_malformed();
}

#[tokio::test]
async fn chunked_body_ends_the_connection() {
    for lengths in ["", "Content-Length: 7\r\n", "Content-Length: 400\r\n"] {
        for headers in
            [format!("{lengths}Transfer-Encoding: chunked\r\n"), format!("Transfer-Encoding: chunked\r\n{lengths}")]
        {
            let target = Target::start().await;
            let body = "2\r\n{}\r\n0\r\n\r\n";
            let request = format!("POST /v1/tasks HTTP/1.1\r\nHost: x\r\n{headers}\r\n{body}{SMUGGLED}");
            let response = target.send(request).await;
            assert_eq!((response.code, response.header("connection")), (200, "close"), "{headers:?}");
            assert_eq!(target.backend.call().rpc, "/taskey.task.v1.TaskService/CreateTask");
        }
    }
}

#[tokio::test]
async fn chunked_grpc_web_body_ends_the_connection() {
    let target = Target::start().await;
    let head = "POST /taskey.task.v1.TaskService/GetTask HTTP/1.1\r\nHost: x\r\nContent-Type: application/grpc-web\r\n";
    let request = format!(
        "{head}Content-Length: 400\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n\0\0\0\0\0\r\n0\r\n\r\n{SMUGGLED}"
    );
    let (mut stream, mut response) = (target.connect().await, Vec::new());
    stream.write_all(request.as_bytes()).await.unwrap();
    // The read ends because the gateway closes the connection.
    timeout(TIMEOUT, stream.read_to_end(&mut response)).await.unwrap().unwrap();
    let response = String::from_utf8_lossy(&response);
    assert!(response.contains("connection: close\r\n") && response.matches("HTTP/1.1 ").count() == 1, "{response}");
}

#[tokio::test]
async fn invalid_chunk_is_malformed() {
    let target = Target::start().await;
    for chunk in ["zz\r\n{}\r\n0\r\n\r\n", "-2\r\n{}\r\n0\r\n\r\n", "2\r\n{}xx0\r\n\r\n", "ffffffffffffffffff\r\n{}"] {
        let head = "POST /v1/tasks HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
        target.send(format!("{head}{chunk}{SMUGGLED}")).await.assert_malformed();
    }
    assert!(!target.backend.was_called());
}

#[tokio::test]
async fn invalid_request_line_is_rejected() {
    let target = Target::start().await;
    for line in
        ["GET /healthz", "GET", "GET /healthz HTTP/9.9", "G@T /healthz HTTP/1.1", "\0\0\0\0", "GET /a b HTTP/1.1"]
    {
        let responses = target.send_all(format!("{line}\r\nHost: x\r\n\r\n{SMUGGLED}")).await;
        assert!(
            responses.len() <= 1 && responses.iter().all(|response| response.code == 400),
            "{line:?}: {responses:?}"
        );
    }
    assert!(!target.backend.was_called());
    target.assert_still_serving().await;
}

#[tokio::test]
async fn absolute_target_is_accepted_and_its_host_ignored() {
    let target = Target::start().await;
    let get = async |line: &str| target.send(format!("{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).await;
    assert_eq!(get("GET http://example.org/healthz").await.ok()["status"], "SERVING");
    for line in
        ["GET http://example.org/page", "OPTIONS *", "CONNECT example.org:443", "GET /../healthz", "GET //healthz"]
    {
        get(line).await.assert_refused(404, "NOT_FOUND", "ROUTE_NOT_FOUND", &[]);
    }
}

#[tokio::test]
async fn too_many_or_too_large_headers_are_431() {
    let target = Target::start().await;
    let head = "GET /healthz HTTP/1.1\r\nHost: x\r\n";
    let too_many = format!("{head}{}\r\n", "X: y\r\n".repeat(101));
    target.send(too_many).await.assert_headers_too_large();
    target.send(format!("{head}X: {}\r\n\r\n", "y".repeat(16 * 1024))).await.assert_headers_too_large();
    let flood = target.send_all(format!("{head}{}\r\n", "X: y\r\n".repeat(100_000))).await;
    assert!(flood.iter().all(|response| response.code == 431), "{flood:?}");
    target.assert_still_serving().await;
}

#[tokio::test]
async fn error_reaches_a_client_that_reads_only_after_sending_everything() {
    let target = Target::start().await;
    let post = "POST /v1/tasks HTTP/1.1\r\nHost: x\r\n";
    let payload = "x".repeat(8 << 20);
    for (code, request) in [
        (413, format!("{post}Content-Length: {}\r\n\r\n{payload}", payload.len())),
        (413, format!("{post}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{payload}\r\n0\r\n\r\n", payload.len())),
        (404, format!("POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{payload}", payload.len())),
        (400, format!("{post}Content-Length: -1\r\n\r\n{payload}")),
        (431, format!("{post}X: {payload}\r\n\r\n")),
    ] {
        let mut stream = target.connect().await;
        stream.write_all(request.as_bytes()).await.expect("the gateway reads all of it");
        let mut response = String::new();
        timeout(TIMEOUT, stream.read_to_string(&mut response)).await.expect("the response ends").expect("no reset");
        assert!(response.starts_with(&format!("HTTP/1.1 {code} ")), "{code}: {response}");
    }
}

#[tokio::test]
async fn target_over_the_limit_is_414() {
    let target = Target::start().await;
    for path in [format!("/v1/tasks/{}", "x".repeat(8192)), format!("/v1/tasks?filter={}", "x".repeat(8192))] {
        let response = target.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).await;
        response.assert_refused(414, "INVALID_ARGUMENT", "MALFORMED_REQUEST", &[]);
    }
    assert!(!target.backend.was_called());
}

#[tokio::test]
async fn unsupported_content_type_is_415() {
    let target = Target::start().await;
    for headers in [
        "Content-Type: text/plain\r\n",
        "Content-Type: application/xml\r\n",
        "Content-Type: multipart/form-data; boundary=x\r\n",
        "Content-Type: application/json; charset=utf-16\r\n",
        "Content-Type: application/json; charset=latin1\r\n",
        "Content-Type: application/json\r\nContent-Type: text/plain\r\n",
        "Content-Type: application/json\r\nContent-Encoding: gzip\r\n",
        "Content-Type: \r\n",
    ] {
        let response = target.post(headers, b"{}").await;
        response.assert_refused(415, "INVALID_ARGUMENT", "MALFORMED_REQUEST", &[]);
    }
    assert!(!target.backend.was_called());
}

#[tokio::test]
async fn body_that_is_not_json_in_utf8_is_malformed() {
    let target = Target::start().await;
    let utf16 = |to_bytes: fn(u16) -> [u8; 2]| "{}".encode_utf16().flat_map(to_bytes).collect::<Vec<_>>();
    let bodies = [
        utf16(u16::to_le_bytes),
        utf16(u16::to_be_bytes),
        [&b"\xff\xfe"[..], &utf16(u16::to_le_bytes)].concat(),
        b"\xef\xbb\xbf{}".to_vec(),
        b"{\"title\":\"\xc0\xaf\"}".to_vec(),
        b"{\"title\":\"\xed\xa0\x80\"}".to_vec(),
        vec![b'['; 10_000],
        b"{\"task\":".repeat(5_000),
        vec![0; 100],
    ];
    for body in bodies {
        target.post("Content-Type: application/json\r\n", &body).await.assert_malformed();
    }
    assert!(!target.backend.was_called());
}

#[tokio::test]
async fn head_is_accepted_wherever_get_is() {
    let target = Target::start().await;
    for path in ["/v1/tasks", "/v1/tasks/x", "/v1/tasks:changes", "/v1/lists", "/v1/lists/x", "/healthz"] {
        let send = async |method: &str| {
            let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            target.send(request).await
        };
        let (get, head) = (send("GET").await, send("HEAD").await);
        assert_eq!((get.code, head.code, head.text.as_str()), (200, 200, ""), "{path}");
        assert_eq!(head.header("content-length"), get.text.len().to_string(), "{path}");
    }
}

#[tokio::test]
async fn unbound_method_is_405() {
    let target = Target::start().await;
    for method in ["OPTIONS", "TRACE", "PROPFIND", "get", "X"] {
        let response =
            target.send(format!("{method} /v1/tasks HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).await;
        response.assert_refused(405, "UNIMPLEMENTED", "METHOD_UNKNOWN", &[]);
        assert_eq!(response.header("allow"), "GET, HEAD, POST", "{method}");
    }
}

#[tokio::test]
async fn accept_without_json_is_406() {
    let target = Target::start().await;
    let get = async |headers: &str| {
        let request = format!("GET /v1/tasks HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n");
        target.send(request).await
    };
    for accept in ["text/html", "application/json;q=0", "application/xml, text/*"] {
        let response = get(&format!("Accept: {accept}\r\n")).await;
        response.assert_refused(406, "INVALID_ARGUMENT", "MALFORMED_REQUEST", &[]);
    }
    assert!(!target.backend.was_called());
    for headers in ["", "Accept: */*\r\n", "Accept: application/*\r\n", "Accept: text/html, application/json;q=0.1\r\n"]
    {
        let json: Value = get(headers).await.ok();
        assert!(json.is_object(), "{headers}");
    }
}
