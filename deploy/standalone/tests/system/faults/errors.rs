//! Many errors for one caller, on a connection that others share.

use std::time::Duration;

use futures::{StreamExt, stream};

use super::{
    cluster::{Cluster, ONE_EACH},
    users::{check_token, log_out, reason, sign_up_and_log_in, wait_until_refused},
};

/// As behind the gateway, all callers share one connection. Errors of one caller must not close it for the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connection_survives_many_errors() {
    let cluster = Cluster::on_sqlite(ONE_EACH).await;
    let (auth, task) = (cluster.auth[0].channel(), cluster.task[0].channel());
    let (ann, bob) =
        (sign_up_and_log_in(&auth, "ann@example.com").await, sign_up_and_log_in(&auth, "bob@example.com").await);
    log_out(&auth, &bob).await.expect("logged out");
    wait_until_refused(&task, &bob.access_token, "TOKEN_REVOKED", Duration::from_secs(5)).await;
    let calls = (0..4000).map(async |call| {
        let refused = check_token(&task, &bob.access_token).await.expect_err("refused");
        assert_eq!(reason(&refused), "TOKEN_REVOKED", "call {call}: {refused:?}");
        check_token(&task, &ann.access_token).await.expect("accepted");
    });
    stream::iter(calls).buffer_unordered(8).collect::<Vec<_>>().await;
}
