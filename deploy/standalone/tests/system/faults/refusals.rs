//! A caller who is refused again and again, on a connection that others use, too.

use std::time::Duration;

use futures::{StreamExt, stream};

use super::{
    cluster::{Cluster, ONE},
    people::{knock, log_out, person, reason, until_refused},
};

/// As behind the gateway, everybody calls over one connection. Who is refused must not break it under the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_survives_any_number_of_refusals() {
    let cluster = Cluster::on_files(ONE).await;
    let (auth, task) = (cluster.auth[0].channel(), cluster.task[0].channel());
    let (ann, bob) = (person(&auth, "ann@example.com").await, person(&auth, "bob@example.com").await);
    log_out(&auth, &bob).await.expect("logged out");
    until_refused(&task, &bob.access_token, "TOKEN_REVOKED", Duration::from_secs(5)).await;
    let calls = (0..4000).map(async |call| {
        let refused = knock(&task, &bob.access_token).await.expect_err("refused");
        assert_eq!(reason(&refused), "TOKEN_REVOKED", "call {call}: {refused:?}");
        knock(&task, &ann.access_token).await.expect("let in");
    });
    stream::iter(calls).buffer_unordered(8).collect::<Vec<_>>().await;
}
