//! How long personal access tokens are accepted after their deletion, at any replica.

use std::time::Duration;

use taskey_proto::{
    auth::v1::{
        CreatePersonalAccessTokenRequest, DeletePersonalAccessTokenRequest, PersonalAccessToken,
        personal_access_token_service_client::PersonalAccessTokenServiceClient,
    },
    task::v1::{GetTaskRequest, task_service_client::TaskServiceClient},
};
use tokio::{task::JoinSet, time::Instant};
use tonic::{Code, transport::Channel};

use super::{
    cluster::{Cluster, ClusterConfig, TWO_EACH},
    report::{report_percentiles, rounds},
    users::sign_up_and_log_in,
};
use crate::process::bearer;

/// A deletion takes effect within this time while the feed is up to date.
const REVOCATION_LIMIT: Duration = Duration::from_secs(1);

/// A token counts as refused after this number of consecutive refusals.
const CONSECUTIVE_REFUSALS: usize = 10;

/// A client with an address of its own, because exchanges are limited per address.
#[derive(Clone)]
struct Client {
    task: Channel,
    address: String,
    token: String,
}

impl Client {
    /// Reports whether task-service accepts the token.
    async fn is_accepted(&self) -> bool {
        let mut request = bearer(&self.token, GetTaskRequest { id: "none".to_owned() });
        request.metadata_mut().insert("x-forwarded-for", self.address.parse().expect("ASCII"));
        let status = TaskServiceClient::new(self.task.clone()).get_task(request).await.expect_err("the id is invalid");
        let is_accepted = status.code() == Code::InvalidArgument;
        assert!(is_accepted || status.code() == Code::Unauthenticated, "{status:?}");
        is_accepted
    }

    /// Calls until the token is refused consistently. Returns the time of the last response that accepted it.
    async fn call_until_refused(self) -> Option<Instant> {
        let (mut last_accepted, mut refusals) = (None, 0);
        while refusals < CONSECUTIVE_REFUSALS {
            if self.is_accepted().await {
                assert_eq!(refusals, 0, "accepted again after it was refused");
                last_accepted = Some(Instant::now());
            } else {
                refusals += 1;
            }
        }
        last_accepted
    }
}

async fn create(auth: &Channel, access_token: &str) -> PersonalAccessToken {
    let (label, scopes) = ("script".to_owned(), vec!["tasks.read".to_owned()]);
    let request = CreatePersonalAccessTokenRequest { label, scopes, ..Default::default() };
    let mut tokens = PersonalAccessTokenServiceClient::new(auth.clone());
    tokens.create_personal_access_token(bearer(access_token, request)).await.expect("created").into_inner()
}

async fn delete(auth: &Channel, access_token: &str, id: String) {
    let request = bearer(access_token, DeletePersonalAccessTokenRequest { id });
    let mut tokens = PersonalAccessTokenServiceClient::new(auth.clone());
    tokens.delete_personal_access_token(request).await.expect("deleted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_personal_access_token_is_accepted_a_second_after_its_deletion() {
    // The access token of the user must outlive all rounds.
    let (auth_flags, task_flags) = (&["--access-token-ttl", "15m"], &["--trusted-proxies", "127.0.0.1"]);
    let config = ClusterConfig { auth_flags, task_flags, ..TWO_EACH };
    let Some(cluster) = Cluster::on_postgres(config).await else { return };
    let (auth, tasks) = (cluster.auth_channels(), cluster.task_channels());
    let access_token = sign_up_and_log_in(&auth[0], "ann@example.com").await.access_token;
    let mut delays = Vec::new();
    for round in 0..rounds(100) {
        // Alternate over all pairs of replicas.
        let token = create(&auth[round % 2], &access_token).await;
        let mut callers = JoinSet::new();
        for task in &tasks {
            let address = format!("10.0.{}.{}", round / 256, round % 256);
            let client = Client { task: task.clone(), address, token: token.secret.clone() };
            assert!(client.is_accepted().await);
            callers.spawn(client.call_until_refused());
        }
        delete(&auth[round / 2 % 2], &access_token, token.id).await;
        let deleted_at = Instant::now();
        let last_accepted = callers.join_all().await.into_iter().flatten().max();
        delays.push(last_accepted.map_or(Duration::ZERO, |last| last.saturating_duration_since(deleted_at)));
    }
    let max = report_percentiles("from the response to the deletion to the last accepted call", delays);
    assert!(max <= REVOCATION_LIMIT, "accepted {max:?} after the deletion");
}
