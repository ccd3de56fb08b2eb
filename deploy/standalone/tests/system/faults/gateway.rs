//! The gateway killed, and what it says when a service behind it is.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use super::{
    cluster::{Cluster, ONE},
    people::{BREATH, PATIENCE, list, person},
    report::{BUSY, measured},
};

/// How long a caller gives the gateway.
const DEADLINE: Duration = Duration::from_secs(2);

/// Everything is of use again within this after the return of what was missing.
const RECOVERED: Duration = Duration::from_secs(5);

/// Makes a task over HTTP and gives the status; `None` if there was no answer.
async fn create(gateway: SocketAddr, access_token: &str, title: &str) -> Option<u16> {
    let body = format!(r#"{{"title": "{title}"}}"#);
    let request = format!(
        "POST /v1/tasks HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\nauthorization: Bearer {access_token}\r\n\
         request-timeout: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        DEADLINE.as_secs(),
        body.len(),
    );
    let call = async {
        let mut connection = TcpStream::connect(gateway).await.ok()?;
        connection.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.ok()?;
        answer.split(' ').nth(1)?.parse().ok()
    };
    timeout(PATIENCE, call).await.expect("the gateway does not hang")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gateway_answers_in_time_and_nothing_acknowledged_is_lost() {
    let mut cluster = Cluster::on_files(ONE).await;
    let mut gateway = cluster.gateway();
    let at = gateway.address();
    let ann = person(&cluster.auth[0].channel(), "ann@example.com").await;
    let token = &ann.access_token[..];
    assert_eq!(create(at, token, "before").await, Some(200));

    cluster.task[0].stop();
    let begun = Instant::now();
    assert!(matches!(create(at, token, "stopped").await, Some(503 | 504)));
    assert!(begun.elapsed() <= DEADLINE + BUSY, "answered after {:?}", begun.elapsed());
    cluster.task[0].go_on();
    until_created(at, token, "gone on").await;

    cluster.task[0].kill();
    let begun = Instant::now();
    assert!(matches!(create(at, token, "killed").await, Some(503 | 504)));
    assert!(begun.elapsed() <= DEADLINE + BUSY, "answered after {:?}", begun.elapsed());
    cluster.task[0].start_again();
    until_created(at, token, "started again").await;

    gateway.stop();
    let meanwhile = create(at, token, "patient");
    let go_on = async {
        sleep(Duration::from_secs(1)).await;
        gateway.go_on();
    };
    assert_eq!(tokio::join!(meanwhile, go_on).0, Some(200));
    gateway.kill();
    assert_eq!(create(at, token, "nobody there").await, None);
    gateway.start_again();
    assert_eq!(create(gateway.address(), token, "after").await, Some(200));

    let tasks = list(&cluster.task[0].channel(), token).await.expect("listed");
    let mut titles: Vec<_> = tasks.iter().map(|task| &task.title[..]).collect();
    // It was not acknowledged, so it may be there or not.
    titles.retain(|title| *title != "stopped");
    assert_eq!(titles, ["after", "patient", "started again", "gone on", "before"]);
}

/// Tries until the gateway has found its service again. Only the last try is acknowledged.
async fn until_created(gateway: SocketAddr, access_token: &str, title: &str) {
    let begun = Instant::now();
    let created = async {
        while create(gateway, access_token, title).await != Some(200) {
            sleep(BREATH).await;
        }
    };
    timeout(RECOVERED + BUSY, created).await.expect("it comes back");
    measured(&format!("{title}: of use after"), format_args!("{:.1?}", begun.elapsed()));
}
