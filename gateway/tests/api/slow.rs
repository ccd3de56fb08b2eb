//! Clients that send or read slowly, or wait for `100 Continue`.

use prost::Message;
use taskey_proto::task::v1::{ListTasksResponse, Task};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::raw::{TIMEOUT, Target, read_to_end};

/// Returns a list so large that socket buffers cannot contain 80 of them.
fn large_list() -> Vec<u8> {
    let task = Task { notes: "x".repeat(100_000), ..Task::default() };
    ListTasksResponse { tasks: vec![task; 3], ..ListTasksResponse::default() }.encode_to_vec()
}

/// Connects a client that requests a large list 80 times and does not read the responses.
async fn connect_stalled(target: &Target) -> TcpStream {
    let mut stream = target.connect().await;
    stream.write_all("GET /v1/tasks HTTP/1.1\r\nHost: x\r\n\r\n".repeat(80).as_bytes()).await.unwrap();
    let mut status_line = [0; 12];
    timeout(TIMEOUT, stream.read_exact(&mut status_line)).await.unwrap().unwrap();
    assert_eq!(&status_line, b"HTTP/1.1 200");
    stream
}

#[tokio::test]
async fn body_over_the_limit_is_413_before_it_is_received() {
    let target = Target::start().await;
    for length in ["262145", "9999999999"] {
        let head =
            format!("POST /v1/tasks HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n");
        // The error is the only response: there is no `100 Continue` before it.
        target.send(head).await.assert_refused(413, "RESOURCE_EXHAUSTED", "MESSAGE_TOO_LARGE", &[]);
    }
    let chunk = format!("40001\r\n{}\r\n", "x".repeat(0x40001));
    let head = "POST /v1/tasks HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    let response = target.send(format!("{head}{chunk}")).await;
    response.assert_refused(413, "RESOURCE_EXHAUSTED", "MESSAGE_TOO_LARGE", &[]);
    assert!(!target.backend.was_called());
}

#[tokio::test]
async fn body_of_256_kib_is_accepted() {
    let target = Target::start().await;
    let title = "a".repeat(262_144 - 40);
    let body = |text: &str| {
        let json = format!(r#"{{"title":"{title}","notes":{text}}}"#);
        let spaces = " ".repeat(262_144 - json.len());
        format!("{json}{spaces}")
    };
    target.post("", body("1").as_bytes()).await.assert_invalid_field("task.notes");
    target.post("", body("x").as_bytes()).await.assert_malformed();
    assert!(!target.backend.was_called());
    target.post("", body("null").as_bytes()).await.ok();
    assert!(target.backend.was_called());
}

#[tokio::test]
async fn expect_100_continue_is_supported() {
    let target = Target::start().await;
    let mut stream = target.connect().await;
    let head =
        "POST /v1/tasks HTTP/1.1\r\nHost: x\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut interim = [0; b"HTTP/1.1 100 Continue\r\n\r\n".len()];
    timeout(TIMEOUT, stream.read_exact(&mut interim)).await.unwrap().unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"{}").await.unwrap();
    read_to_end(&mut stream).await[0].ok();
}

#[tokio::test]
async fn slow_body_times_out_and_ends_the_connection() {
    let target = Target::start().await;
    for body in ["Content-Length: 100\r\n\r\n{", "Transfer-Encoding: chunked\r\n\r\n5\r\n{"] {
        let response =
            target.send(format!("POST /v1/tasks HTTP/1.1\r\nHost: x\r\nRequest-Timeout: 0.2\r\n{body}")).await;
        response.assert_refused(408, "DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED", &[]);
    }
    assert!(!target.backend.was_called());
    target.assert_still_serving().await;
}

#[tokio::test]
async fn stalled_body_is_408() {
    let target = Target::start().await;
    let request = "POST /v1/tasks HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 100\r\n\r\n{";
    let response = target.send(request.to_owned()).await;
    response.assert_refused(408, "DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED", &[]);
    assert!(!target.backend.was_called());
}

#[tokio::test]
async fn bodies_beyond_the_limit_of_a_client_are_429() {
    // One client may use an eighth of half as many incomplete requests.
    let target = Target::start_with(Vec::new(), &["--max-calls", "16"]).await;
    let request = "POST /v1/tasks HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 100\r\n\r\n{";
    let mut incomplete = target.connect().await;
    incomplete.write_all(request.replace("100", "2").as_bytes()).await.unwrap();
    let refused = async {
        loop {
            let response = target.send(request.to_owned()).await;
            if response.code == 429 {
                return response;
            }
        }
    };
    let response = timeout(TIMEOUT, refused).await.expect("refused");
    response.assert_refused(429, "RESOURCE_EXHAUSTED", "OVERLOADED", &[]);
    incomplete.write_all(b"}").await.unwrap();
    read_to_end(&mut incomplete).await[0].ok();
}

#[tokio::test]
async fn stalled_readers_delay_neither_other_clients_nor_shutdown() {
    let target = Target::start_with(large_list(), &["--drain-timeout", "200ms"]).await;
    let _stalled = [connect_stalled(&target).await, connect_stalled(&target).await, connect_stalled(&target).await];
    target.assert_still_serving().await;
    target.program.shutdown.cancel();
    timeout(TIMEOUT, target.program.running).await.expect("the gateway stops").unwrap().unwrap();
}

#[tokio::test]
async fn stalled_reader_is_disconnected() {
    let flags = ["--keepalive-interval", "250ms", "--keepalive-timeout", "250ms", "--max-connections-per-address", "1"];
    let target = Target::start_with(large_list(), &flags).await;
    let _stalled = connect_stalled(&target).await;
    // The gateway accepts no other connection from the address while the stalled client is connected.
    let accepted = async {
        while target.send_all("GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.is_empty() {}
    };
    timeout(TIMEOUT, accepted).await.expect("the stalled client is disconnected");
}
