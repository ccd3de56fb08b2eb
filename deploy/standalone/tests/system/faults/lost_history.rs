//! The database of auth-service loses its last revocations while everything runs, as in an asynchronous failover.

use std::{path::Path, time::Duration};

use auth_service::config::DatabaseArgs;
use clap::Parser;
use service_kit::{args, db::Db};
use taskey_proto::auth::v1::{LogoutRequest, TokenPair, auth_service_client::AuthServiceClient};
use tokio::time::{Instant, sleep};
use tonic_health::pb::health_check_response::ServingStatus;

use super::{
    cluster::{Cluster, ONE_EACH, TWO_EACH},
    report::{LOAD_ALLOWANCE, report_value},
    users::{RETRY_PAUSE, check_token, log_in, log_out, me, reason, sign_up_and_log_in, wait_until_refused},
};

/// How far the counter of the feed goes back.
const LOST: i64 = 50;

/// A logout takes effect within this time.
const REVOCATION_LIMIT: Duration = Duration::from_secs(1);

/// Opens the database of auth-service.
async fn open(url: &str) -> Db {
    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        database: DatabaseArgs,
    }
    let database = Cli::parse_from(["", "--database-url", url]).database;
    database.open_existing().await.expect("the database opens")
}

fn auth_file(folder: &Path) -> String {
    format!("sqlite:{}", folder.join("auth.db").display())
}

/// Checks for a while that the tokens are refused by every replica of both services.
pub async fn assert_stay_refused(cluster: &Cluster, ended: &[TokenPair]) {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(3) {
        for pair in ended {
            for task in cluster.task_channels() {
                let status = check_token(&task, &pair.access_token).await.expect_err("a revoked token is accepted");
                assert!(["TOKEN_REVOKED", "VERIFIER_NOT_READY"].contains(&&reason(&status)[..]), "{status:?}");
            }
            for auth in cluster.auth_channels() {
                me(&auth, &pair.access_token).await.expect_err("auth-service accepts a revoked token");
            }
        }
        sleep(RETRY_PAUSE).await;
    }
}

async fn assert_lost_revocations_stay_in_effect(cluster: Cluster, url: &str) {
    let (auth, task) = (cluster.auth[0].channel(), cluster.task[0].channel());
    let ann = sign_up_and_log_in(&auth, "ann@example.com").await;
    let db = open(url).await;
    let execute = async |sql: &'static str| {
        db.execute(sql, args![LOST]).await.expect("the statement succeeds");
    };
    execute("update feed set last_revocation = last_revocation + $1").await;
    let mut ended = Vec::new();
    for _ in 0..3 {
        let pair = log_in(&auth, "ann@example.com").await.expect("logged in");
        log_out(&auth, &pair).await.expect("logged out");
        for task in cluster.task_channels() {
            wait_until_refused(&task, &pair.access_token, "TOKEN_REVOKED", REVOCATION_LIMIT + LOAD_ALLOWANCE).await;
        }
        ended.push(pair);
    }
    execute("update sessions set revoked_at = null, revocation = null where $1 > 0").await;
    execute("update feed set last_revocation = last_revocation - $1").await;
    assert_stay_refused(&cluster, &ended).await;
    cluster.auth[0].wait_for_log("the database has lost revocations", LOAD_ALLOWANCE).await;
    for service in cluster.auth.iter().chain(&cluster.task) {
        service.wait_for_health(ServingStatus::Serving, REVOCATION_LIMIT + LOAD_ALLOWANCE).await;
    }

    let pair = log_in(&auth, "ann@example.com").await.expect("logged in");
    let begun = Instant::now();
    let request = LogoutRequest { refresh_token: pair.refresh_token.clone(), wait_for_verifiers: true };
    let response = AuthServiceClient::new(auth).logout(request).await.expect("logged out").into_inner();
    for task in cluster.task_channels() {
        wait_until_refused(&task, &pair.access_token, "TOKEN_REVOKED", REVOCATION_LIMIT + LOAD_ALLOWANCE).await;
    }
    report_value("a later logout took effect after", format_args!("{:.1?}", begun.elapsed()));
    assert!(response.acknowledged_verifiers >= 1, "{response:?}");
    check_token(&task, &ann.access_token).await.expect("other sessions are not affected");
    db.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revocations_that_the_database_has_lost_stay_in_effect_on_sqlite() {
    let cluster = Cluster::on_sqlite(ONE_EACH).await;
    let url = auth_file(cluster.database.folder());
    assert_lost_revocations_stay_in_effect(cluster, &url).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revocations_that_the_database_has_lost_stay_in_effect_on_postgresql() {
    let Some(cluster) = Cluster::on_postgres(TWO_EACH).await else { return };
    let url = cluster.database.url().to_owned();
    assert_lost_revocations_stay_in_effect(cluster, &url).await;
}
