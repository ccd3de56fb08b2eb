//! Limits of clients behind a trusted proxy.

use tokio::{io::AsyncWriteExt, net::TcpStream, time::timeout};

use super::{Server, read_code};
use crate::support::{TIMEOUT, is_served};

/// Sends a request through a proxy for this client.
async fn send_for(stream: &mut TcpStream, path: &str, client: &str) {
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nx-forwarded-for: {client}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
}

#[tokio::test]
async fn connections_of_a_trusted_proxy_do_not_count_as_those_of_one_client() {
    let flags = ["--trusted-proxies", "127.0.0.1", "--max-connections-per-address", "1", "--max-connections", "5"];
    let mut server = Server::http1(&flags).await;
    let mut watches = Vec::new();
    for number in 1..=4 {
        let mut stream = server.connect().await;
        send_for(&mut stream, "/watch", &format!("203.0.113.{number}")).await;
        assert_eq!(server.requests.recv().await.as_deref(), Some("/watch"));
        watches.push(stream);
    }
    // A connection of another client counts for its address, and the total is limited.
    assert!(is_served(&mut server.connect_from("127.0.0.2").await).await);
    let mut last = server.connect_again().await;
    assert!(!is_served(&mut server.connect().await).await);
    assert!(is_served(&mut last).await, "the proxy itself is not limited");
}

#[tokio::test]
async fn requests_of_a_client_behind_a_proxy_count_as_its_connections() {
    let flags = ["--trusted-proxies", "127.0.0.1", "--max-connections-per-address", "2"];
    let mut server = Server::http1(&flags).await;
    let mut watches = Vec::new();
    for _ in 0..2 {
        let mut stream = server.connect().await;
        send_for(&mut stream, "/watch", "2001:db8::1").await;
        assert_eq!(server.requests.recv().await.as_deref(), Some("/watch"));
        watches.push(stream);
    }
    let mut stream = server.connect().await;
    send_for(&mut stream, "/", "2001:db8::2").await;
    assert_eq!(read_code(&mut stream).await, 429, "addresses of one network are one client");
    send_for(&mut stream, "/", "2001:db8:0:1::1").await;
    assert_eq!(read_code(&mut stream).await, 200, "others are served, on the same connection");
    drop(watches.pop());
    let served_again = async {
        loop {
            send_for(&mut stream, "/", "2001:db8::1").await;
            if read_code(&mut stream).await == 200 {
                return;
            }
        }
    };
    timeout(TIMEOUT, served_again).await.expect("the end of a request frees its slot");
}
