//! The gateway is killed, and services behind it are killed or paused.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use super::{
    cluster::{Cluster, ONE_EACH},
    report::{LOAD_ALLOWANCE, report_value},
    users::{CALL_TIMEOUT, RETRY_PAUSE, list, sign_up_and_log_in},
};

/// The deadline of each call.
const DEADLINE: Duration = Duration::from_secs(2);

/// Everything has recovered within this time after a program is back.
const RECOVERY_LIMIT: Duration = Duration::from_secs(5);

/// Creates a task over HTTP. Returns the status, or `None` if there was no response.
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
        let mut response = String::new();
        connection.read_to_string(&mut response).await.ok()?;
        response.split(' ').nth(1)?.parse().ok()
    };
    timeout(CALL_TIMEOUT, call).await.expect("the gateway does not hang")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateway_responds_in_time_and_nothing_acknowledged_is_lost() {
    let mut cluster = Cluster::on_sqlite(ONE_EACH).await;
    let mut gateway = cluster.gateway();
    let gateway_address = gateway.address();
    let ann = sign_up_and_log_in(&cluster.auth[0].channel(), "ann@example.com").await;
    let token = &ann.access_token[..];
    assert_eq!(create(gateway_address, token, "before").await, Some(200));

    cluster.task[0].pause();
    let begun = Instant::now();
    assert!(matches!(create(gateway_address, token, "paused").await, Some(503 | 504)));
    assert!(begun.elapsed() <= DEADLINE + LOAD_ALLOWANCE, "responded after {:?}", begun.elapsed());
    cluster.task[0].resume();
    retry_until_created(gateway_address, token, "resumed").await;

    cluster.task[0].kill();
    let begun = Instant::now();
    assert!(matches!(create(gateway_address, token, "killed").await, Some(503 | 504)));
    assert!(begun.elapsed() <= DEADLINE + LOAD_ALLOWANCE, "responded after {:?}", begun.elapsed());
    cluster.task[0].start_again();
    retry_until_created(gateway_address, token, "started again").await;

    gateway.pause();
    let during_pause = create(gateway_address, token, "patient");
    let resume = async {
        sleep(Duration::from_secs(1)).await;
        gateway.resume();
    };
    assert_eq!(tokio::join!(during_pause, resume).0, Some(200));
    gateway.kill();
    assert_eq!(create(gateway_address, token, "gateway killed").await, None);
    gateway.start_again();
    assert_eq!(create(gateway.address(), token, "after").await, Some(200));

    let tasks = list(&cluster.task[0].channel(), token).await.expect("listed");
    let mut titles: Vec<_> = tasks.iter().map(|task| &task.title[..]).collect();
    // This task was not acknowledged, so it may exist or not.
    titles.retain(|title| *title != "paused");
    assert_eq!(titles, ["after", "patient", "started again", "resumed", "before"]);
}

/// Retries until the gateway has reconnected to its service. Only the last attempt is acknowledged.
async fn retry_until_created(gateway: SocketAddr, access_token: &str, title: &str) {
    let begun = Instant::now();
    let created = async {
        while create(gateway, access_token, title).await != Some(200) {
            sleep(RETRY_PAUSE).await;
        }
    };
    timeout(RECOVERY_LIMIT + LOAD_ALLOWANCE, created).await.expect("the gateway recovers");
    report_value(&format!("{title}: recovered after"), format_args!("{:.1?}", begun.elapsed()));
}
