//! `taskey` with one certificate for its three ports.

use service_kit::testing::TestDatabase;
use taskey_proto::task::v1::{ListTasksRequest, task_service_client::TaskServiceClient};
use tonic_health::pb::health_check_response::ServingStatus;

use super::{Files, channel, is_accepted, sign_up_and_log_in, start_taskey};
use crate::{
    operation::get,
    process::{bearer, wait_for_health},
};

#[tokio::test(flavor = "multi_thread")]
async fn one_certificate_serves_all_ports() {
    let (files, database) = (Files::new(), TestDatabase::sqlite());
    let taskey = start_taskey(&database, files.folder.path(), &[]);
    let dialer = files.dialer("ca.pem", None).await;
    let [auth, task, gateway] = ["auth", "task", "gateway"].map(|name| channel(&dialer, taskey.address(name)));
    wait_for_health(auth.clone(), ServingStatus::Serving).await;
    wait_for_health(task.clone(), ServingStatus::Serving).await;
    wait_for_health(gateway.clone(), ServingStatus::Serving).await;
    let token = sign_up_and_log_in(&auth, "ann@example.com").await;
    for tasks in [task, gateway] {
        let request = bearer(&token, ListTasksRequest::default());
        TaskServiceClient::new(tasks).list_tasks(request).await.expect("listed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn internal_calls_need_no_client_certificate() {
    let (files, database) = (Files::new(), TestDatabase::sqlite());
    files.write("client", &files.authority.issue(&["client"]));
    let taskey = start_taskey(&database, files.folder.path(), &["--tls-client-ca-file", &files.flag("ca.pem")]);
    let gateway = taskey.address("gateway");
    wait_for_health(channel(&files.dialer("ca.pem", Some("client")).await, gateway), ServingStatus::Serving).await;
    let anonymous = channel(&files.dialer("ca.pem", None).await, gateway);
    assert!(!is_accepted(anonymous).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn time_at_which_the_certificate_expires_is_a_metric() {
    let (files, database) = (Files::new(), TestDatabase::sqlite());
    let taskey = start_taskey(&database, files.folder.path(), &["--ops-listen", "127.0.0.1:0"]);
    let (_, metrics) = get(taskey.address("ops"), "/metrics").await;
    let name = "taskey_tls_certificate_not_after_seconds{side=\"server\"} ";
    assert!(metrics.lines().any(|line| line.starts_with(name)), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sighup_never_ends_a_program() {
    let (files, database) = (Files::new(), TestDatabase::sqlite());
    let mut taskey = start_taskey(&database, files.folder.path(), &[]);
    let dialer = files.dialer("ca.pem", None).await;
    for _ in 0..3 {
        taskey.signal("HUP");
        wait_for_health(channel(&dialer, taskey.address("auth")), ServingStatus::Serving).await;
    }
    taskey.signal("TERM");
    assert_eq!(taskey.wait_for_exit().await, Some(0));
}
