//! Bad input over sockets, byte by byte: each is refused, and the gateway goes on.

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use crate::raw::{LIMIT, Target};

/// A request that must never be taken for one: it hides behind another.
const HIDDEN: &str = "GET /v1/tasks HTTP/1.1\r\nHost: x\r\n\r\n";

#[tokio::test]
async fn what_servers_may_read_differently_is_refused_and_nothing_after_it_is_read() {
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
        let request = format!("POST /v1/tasks HTTP/1.1\r\nHost: x\r\n{headers}\r\n{{}}{HIDDEN}");
        target.answer(request).await.assert_malformed();
        assert!(!target.backend.was_called(), "{headers:?}");
        target.assert_goes_on().await;
    }
}

#[tokio::test]
async fn a_bare_line_feed_ends_no_line_of_a_later_request_either() {
    let target = Target::start().await;
    let good = "POST /v1/tasks HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n{\n\n}";
    let answers = target.answers(format!("{good}GET /v1/tasks HTTP/1.1\nHost: x\r\n\r\n{HIDDEN}")).await;
    assert_eq!(answers.iter().map(|answer| answer.code).collect::<Vec<_>>(), [200, 400]);
    answers[1].assert_malformed();
}

#[tokio::test]
async fn nothing_is_read_after_a_body_in_chunks() {
    for lengths in ["", "Content-Length: 7\r\n", "Content-Length: 400\r\n"] {
        for headers in
            [format!("{lengths}Transfer-Encoding: chunked\r\n"), format!("Transfer-Encoding: chunked\r\n{lengths}")]
        {
            let target = Target::start().await;
            let body = "2\r\n{}\r\n0\r\n\r\n";
            let request = format!("POST /v1/tasks HTTP/1.1\r\nHost: x\r\n{headers}\r\n{body}{HIDDEN}");
            let answer = target.answer(request).await;
            assert_eq!((answer.code, answer.header("connection")), (200, "close"), "{headers:?}");
            assert_eq!(target.backend.call().rpc, "/taskey.task.v1.TaskService/CreateTask");
        }
    }
}

#[tokio::test]
async fn nothing_is_read_after_grpc_in_chunks_either() {
    let target = Target::start().await;
    let head = "POST /taskey.task.v1.TaskService/GetTask HTTP/1.1\r\nHost: x\r\nContent-Type: application/grpc-web\r\n";
    let request =
        format!("{head}Content-Length: 400\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n\0\0\0\0\0\r\n0\r\n\r\n{HIDDEN}");
    let (mut stream, mut answer) = (target.connect().await, Vec::new());
    stream.write_all(request.as_bytes()).await.unwrap();
    // It ends because the gateway closes the connection.
    timeout(LIMIT, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.contains("connection: close\r\n") && answer.matches("HTTP/1.1 ").count() == 1, "{answer}");
}

#[tokio::test]
async fn a_broken_chunk_is_malformed() {
    let target = Target::start().await;
    for chunk in ["zz\r\n{}\r\n0\r\n\r\n", "-2\r\n{}\r\n0\r\n\r\n", "2\r\n{}xx0\r\n\r\n", "ffffffffffffffffff\r\n{}"] {
        let head = "POST /v1/tasks HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
        target.answer(format!("{head}{chunk}{HIDDEN}")).await.assert_malformed();
    }
    assert!(!target.backend.was_called());
}

#[tokio::test]
async fn what_is_no_request_line_is_refused() {
    let target = Target::start().await;
    for line in
        ["GET /healthz", "GET", "GET /healthz HTTP/9.9", "G@T /healthz HTTP/1.1", "\0\0\0\0", "GET /a b HTTP/1.1"]
    {
        let answers = target.answers(format!("{line}\r\nHost: x\r\n\r\n{HIDDEN}")).await;
        assert!(answers.len() <= 1 && answers.iter().all(|answer| answer.code == 400), "{line:?}: {answers:?}");
    }
    assert!(!target.backend.was_called());
    target.assert_goes_on().await;
}

#[tokio::test]
async fn a_target_may_be_absolute_and_its_host_says_nothing() {
    let target = Target::start().await;
    let get =
        async |line: &str| target.answer(format!("{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).await;
    assert_eq!(get("GET http://example.org/healthz").await.ok()["status"], "SERVING");
    for line in
        ["GET http://example.org/page", "OPTIONS *", "CONNECT example.org:443", "GET /../healthz", "GET //healthz"]
    {
        get(line).await.assert_refused(404, "NOT_FOUND", "ROUTE_NOT_FOUND", &[]);
    }
}

#[tokio::test]
async fn headers_too_many_or_too_large_are_431() {
    let target = Target::start().await;
    let head = "GET /healthz HTTP/1.1\r\nHost: x\r\n";
    let many = format!("{head}{}\r\n", "X: y\r\n".repeat(101));
    target.answer(many).await.assert_headers_too_large();
    target.answer(format!("{head}X: {}\r\n\r\n", "y".repeat(16 * 1024))).await.assert_headers_too_large();
    let flood = target.answers(format!("{head}{}\r\n", "X: y\r\n".repeat(100_000))).await;
    assert!(flood.iter().all(|answer| answer.code == 431), "{flood:?}");
    target.assert_goes_on().await;
}

#[tokio::test]
async fn a_refusal_reaches_a_client_that_reads_nothing_before_it_has_sent_all() {
    let target = Target::start().await;
    let post = "POST /v1/tasks HTTP/1.1\r\nHost: x\r\n";
    let rest = "x".repeat(8 << 20);
    for (code, request) in [
        (413, format!("{post}Content-Length: {}\r\n\r\n{rest}", rest.len())),
        (413, format!("{post}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{rest}\r\n0\r\n\r\n", rest.len())),
        (404, format!("POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{rest}", rest.len())),
        (400, format!("{post}Content-Length: -1\r\n\r\n{rest}")),
        (431, format!("{post}X: {rest}\r\n\r\n")),
    ] {
        let mut stream = target.connect().await;
        stream.write_all(request.as_bytes()).await.expect("the gateway reads all of it");
        let mut response = String::new();
        timeout(LIMIT, stream.read_to_string(&mut response)).await.expect("an end").expect("no reset");
        assert!(response.starts_with(&format!("HTTP/1.1 {code} ")), "{code}: {response}");
    }
}

#[tokio::test]
async fn a_target_beyond_the_limit_is_414() {
    let target = Target::start().await;
    for path in [format!("/v1/tasks/{}", "x".repeat(8192)), format!("/v1/tasks?filter={}", "x".repeat(8192))] {
        let answer = target.answer(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).await;
        answer.assert_refused(414, "INVALID_ARGUMENT", "MALFORMED_REQUEST", &[]);
    }
    assert!(!target.backend.was_called());
}

#[tokio::test]
async fn a_body_in_another_form_is_415() {
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
        let answer = target.post(headers, b"{}").await;
        answer.assert_refused(415, "INVALID_ARGUMENT", "MALFORMED_REQUEST", &[]);
    }
    assert!(!target.backend.was_called());
}

#[tokio::test]
async fn a_body_that_is_no_json_in_utf8_is_malformed() {
    let target = Target::start().await;
    let utf16 = |order: fn(u16) -> [u8; 2]| "{}".encode_utf16().flat_map(order).collect::<Vec<_>>();
    let bodies = [
        utf16(u16::to_le_bytes),
        utf16(u16::to_be_bytes),
        [&b"\xff\xfe"[..], &utf16(u16::to_le_bytes)].concat(),
        b"\xef\xbb\xbf{}".to_vec(),
        b"{\"title\":\"\xc0\xaf\"}".to_vec(),
        b"{\"title\":\"\xed\xa0\x80\"}".to_vec(),
        b"{\"dueTime\":1e999}".to_vec(),
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
async fn head_is_taken_wherever_get_is() {
    let target = Target::start().await;
    for path in ["/v1/tasks", "/v1/tasks/x", "/v1/tasks:changes", "/v1/lists", "/v1/lists/x", "/healthz"] {
        let send = async |method: &str| {
            let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            target.answer(request).await
        };
        let (get, head) = (send("GET").await, send("HEAD").await);
        assert_eq!((get.code, head.code, head.text.as_str()), (200, 200, ""), "{path}");
        assert_eq!(head.header("content-length"), get.text.len().to_string(), "{path}");
    }
}

#[tokio::test]
async fn a_method_that_is_bound_nowhere_is_405() {
    let target = Target::start().await;
    for method in ["OPTIONS", "TRACE", "PROPFIND", "get", "X"] {
        let answer =
            target.answer(format!("{method} /v1/tasks HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).await;
        answer.assert_refused(405, "UNIMPLEMENTED", "METHOD_UNKNOWN", &[]);
        assert_eq!(answer.header("allow"), "GET, HEAD, POST", "{method}");
    }
}

#[tokio::test]
async fn who_takes_no_json_is_told_so() {
    let target = Target::start().await;
    let get = async |accept: &str| {
        let request = format!("GET /v1/tasks HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{accept}\r\n");
        target.answer(request).await
    };
    for accept in ["text/html", "application/json;q=0", "application/xml, text/*"] {
        let answer = get(&format!("Accept: {accept}\r\n")).await;
        answer.assert_refused(406, "INVALID_ARGUMENT", "MALFORMED_REQUEST", &[]);
    }
    assert!(!target.backend.was_called());
    for accept in ["", "Accept: */*\r\n", "Accept: application/*\r\n", "Accept: text/html, application/json;q=0.1\r\n"]
    {
        let found: Value = get(accept).await.ok();
        assert!(found.is_object(), "{accept}");
    }
}
