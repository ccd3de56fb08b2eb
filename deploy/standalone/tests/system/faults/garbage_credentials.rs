//! Many cancelled calls per second whose credentials were never issued, and their effect on other calls.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use service_kit::random;
use taskey_proto::auth::v1::{
    IntrospectRequest, LoginRequest, LogoutRequest, RefreshRequest, auth_service_client::AuthServiceClient,
    token_service_client::TokenServiceClient,
};
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::{Request, transport::Channel};

use super::{
    cluster::{Cluster, ClusterConfig, ONE_EACH},
    others::Others,
    report::report_value,
};
use crate::process::{PASSWORD, bearer};

/// Calls per second. In debug builds, 800 per second would need more than two cores.
const RATE: usize = if cfg!(debug_assertions) { 200 } else { 800 };

/// The last byte of the address of the attacker. Others have another address, which has its own rate limits.
const ATTACKER_ADDRESS: u8 = 66;

/// Maximum number of new PostgreSQL sessions, most of them for the other callers.
const MAX_SESSIONS: i64 = 40;

/// Returns a service token of the right format that was never issued.
fn garbage_token() -> String {
    format!("taskey_service_{}", BASE64_URL_SAFE_NO_PAD.encode(random::bytes::<32>()))
}

/// Makes a call of the `number`th kind, and cancels it.
async fn call(number: usize, auth: Channel) {
    let refresh_token = || BASE64_URL_SAFE_NO_PAD.encode(random::bytes::<56>());
    let call = async {
        match number % 4 {
            0 => {
                let request = IntrospectRequest { token: "x".to_owned(), ..IntrospectRequest::default() };
                _ = TokenServiceClient::new(auth).introspect(bearer(&garbage_token(), request)).await;
            }
            1 => {
                let (email, password) = ("nobody@example.com".to_owned(), PASSWORD.to_owned());
                let mut request = Request::new(LoginRequest { email, password, ..LoginRequest::default() });
                request.metadata_mut().insert("x-taskey-service-token", garbage_token().parse().expect("ASCII"));
                _ = AuthServiceClient::new(auth).login(request).await;
            }
            2 => _ = AuthServiceClient::new(auth).refresh(RefreshRequest { refresh_token: refresh_token() }).await,
            _ => {
                let request = LogoutRequest { refresh_token: refresh_token(), wait_for_verifiers: true };
                _ = AuthServiceClient::new(auth).logout(request).await;
            }
        }
    };
    _ = timeout(Duration::from_millis([1, 20, 1000][number % 3]), call).await;
}

/// Makes calls at a steady rate until `stopped`. Returns their number.
async fn make_calls(auth: &Channel, stopped: &CancellationToken) -> usize {
    let (mut ticks, mut calls, made) = (interval(Duration::from_millis(5)), JoinSet::new(), AtomicUsize::new(0));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    while stopped.run_until_cancelled(ticks.tick()).await.is_some() {
        for _ in 0..RATE / 200 {
            calls.spawn(call(made.fetch_add(1, Ordering::Relaxed), auth.clone()));
        }
        while calls.try_join_next().is_some() {}
    }
    calls.join_all().await;
    made.into_inner()
}

async fn assert_garbage_credentials_do_not_slow_down_others(cluster: Cluster, counts_sessions: bool) {
    let mut others = Others::sign_up(cluster.auth[0].channel(), cluster.task[0].channel(), None).await;
    others.slow_down();
    let attacker = cluster.auth[0].channel_from(ATTACKER_ADDRESS);
    let before = if counts_sessions { cluster.database.session_count().await } else { 0 };
    let attack = async |stopped: &CancellationToken| {
        report_value("calls with garbage credentials", make_calls(&attacker, stopped).await);
    };
    others.assert_unaffected("calls with garbage credentials", attack).await;
    if counts_sessions {
        let sessions = cluster.database.session_count().await - before;
        report_value("new PostgreSQL sessions", sessions);
        assert!(sessions < MAX_SESSIONS, "{sessions} new PostgreSQL sessions");
    }
}

/// The flags of auth-service. Rate limits stop most logins, but only after their service tokens were checked.
const CONFIG: ClusterConfig = ClusterConfig { auth_flags: &["--rate-limits", "on"], ..ONE_EACH };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serial_garbage_credentials_do_not_slow_down_others_on_postgresql() {
    let Some(cluster) = Cluster::on_postgres(CONFIG).await else { return };
    assert_garbage_credentials_do_not_slow_down_others(cluster, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serial_garbage_credentials_do_not_slow_down_others_on_sqlite() {
    assert_garbage_credentials_do_not_slow_down_others(Cluster::on_sqlite(CONFIG).await, false).await;
}
