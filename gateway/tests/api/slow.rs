//! Clients that send or read slowly, or wait to be asked.

use prost::Message;
use taskey_proto::task::v1::{ListTasksResponse, Task};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::raw::{LIMIT, Target, read_to_end};

/// A list of which no socket buffers eighty.
fn large_list() -> Vec<u8> {
    let task = Task { notes: "x".repeat(100_000), ..Task::default() };
    ListTasksResponse { tasks: vec![task; 3], ..ListTasksResponse::default() }.encode_to_vec()
}

/// A client that asks for a large list again and again, and does not read it.
async fn silent(target: &Target) -> TcpStream {
    let mut stream = target.connect().await;
    stream.write_all("GET /v1/tasks HTTP/1.1\r\nHost: x\r\n\r\n".repeat(80).as_bytes()).await.unwrap();
    let mut first = [0; 12];
    timeout(LIMIT, stream.read_exact(&mut first)).await.unwrap().unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    stream
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_413_before_it_has_come() {
    let target = Target::start().await;
    for length in ["65537", "9999999999"] {
        let head =
            format!("POST /v1/tasks HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n");
        // There is no `100 Continue` before it.
        target.answer(head).await.assert_refused(413, "RESOURCE_EXHAUSTED", "MESSAGE_TOO_LARGE", &[]);
    }
    let chunk = format!("10001\r\n{}\r\n", "x".repeat(0x10001));
    let head = "POST /v1/tasks HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    let answer = target.answer(format!("{head}{chunk}")).await;
    answer.assert_refused(413, "RESOURCE_EXHAUSTED", "MESSAGE_TOO_LARGE", &[]);
    assert!(!target.backend.was_called());
}

#[tokio::test]
async fn who_asks_first_is_told_to_go_on() {
    let target = Target::start().await;
    let mut stream = target.connect().await;
    let head =
        "POST /v1/tasks HTTP/1.1\r\nHost: x\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut interim = [0; b"HTTP/1.1 100 Continue\r\n\r\n".len()];
    timeout(LIMIT, stream.read_exact(&mut interim)).await.unwrap().unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"{}").await.unwrap();
    read_to_end(&mut stream).await[0].ok();
}

#[tokio::test]
async fn a_body_that_comes_too_slowly_meets_the_deadline_and_ends_the_connection() {
    let target = Target::start().await;
    for body in ["Content-Length: 100\r\n\r\n{", "Transfer-Encoding: chunked\r\n\r\n5\r\n{"] {
        let answer =
            target.answer(format!("POST /v1/tasks HTTP/1.1\r\nHost: x\r\nRequest-Timeout: 0.2\r\n{body}")).await;
        answer.assert_refused(504, "DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED", &[]);
    }
    assert!(!target.backend.was_called());
    target.assert_goes_on().await;
}

#[tokio::test]
async fn who_reads_nothing_holds_up_nobody_and_not_the_end() {
    let target = Target::answering(large_list(), &["--drain-timeout", "200ms"]).await;
    let _silent = [silent(&target).await, silent(&target).await, silent(&target).await];
    target.assert_goes_on().await;
    target.program.shutdown.cancel();
    timeout(LIMIT, target.program.running).await.expect("it ends").unwrap().unwrap();
}

#[tokio::test]
async fn who_reads_nothing_is_cut_off() {
    let flags = ["--keepalive-interval", "250ms", "--keepalive-timeout", "250ms", "--max-connections-per-address", "1"];
    let target = Target::answering(large_list(), &flags).await;
    let _silent = silent(&target).await;
    // While it is connected it has the only place.
    let is_free = async {
        while target.answers("GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.is_empty() {}
    };
    timeout(LIMIT, is_free).await.expect("it is cut off");
}
