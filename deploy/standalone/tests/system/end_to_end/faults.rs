//! Guarantees that hold when processes are killed.

use std::{collections::HashSet, sync::Arc, time::Duration};

use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::auth::v1::{LoginRequest, SignUpRequest};
use tokio::{sync::Mutex, task::JoinSet};

use super::processes::{PASSWORD, Taskey};

on_each_database! {
    revoked_token_stays_refused_after_all_processes_are_killed,
    acknowledged_tasks_survive_a_kill_under_load,
    acknowledged_accounts_and_sessions_survive_a_kill_under_load,
}

async fn revoked_token_stays_refused_after_all_processes_are_killed(database: TestDatabase) {
    let taskey = Taskey::start_separately(&database).await;
    let (ended, active) =
        (taskey.sign_up_and_log_in("ann@example.com").await, taskey.sign_up_and_log_in("bob@example.com").await);
    taskey.logout(&ended).await;
    let taskey = taskey.kill_and_start_again().await;
    // From the first request served.
    assert_refused!(taskey.list(&ended.access_token).await, Unauthenticated, "TOKEN_REVOKED");
    taskey.list(&active.access_token).await.expect("accepted");
    let again = taskey.kill_and_start_again().await;
    assert_refused!(again.list(&ended.access_token).await, Unauthenticated, "TOKEN_REVOKED");
}

async fn acknowledged_tasks_survive_a_kill_under_load(database: TestDatabase) {
    let taskey = Taskey::start(&database).await;
    let token = taskey.sign_up_and_log_in("ann@example.com").await.access_token;
    let acknowledged = Arc::new(Mutex::new(HashSet::new()));
    let mut writers = JoinSet::new();
    for writer in 0..16 {
        let (mut client, token, ledger) = (taskey.tasks(), token.clone(), Arc::clone(&acknowledged));
        writers.spawn(async move {
            for number in 0.. {
                let task = taskey_proto::task::v1::Task { title: format!("{writer}/{number}"), ..Default::default() };
                let request = taskey_proto::task::v1::CreateTaskRequest { task: Some(task), ..Default::default() };
                match client.create_task(super::processes::bearer(&token, request)).await {
                    Ok(created) => ledger.lock().await.insert(created.into_inner().id),
                    Err(_) => return,
                };
            }
        });
    }
    while acknowledged.lock().await.len() < 500 {
        tokio::task::yield_now().await;
    }
    let taskey = taskey.kill_and_start_again().await;
    writers.join_all().await;
    let stored: HashSet<_> = taskey.list(&token).await.expect("listed").into_iter().map(|task| task.id).collect();
    let acknowledged = acknowledged.lock().await;
    assert!(
        acknowledged.is_subset(&stored),
        "{} of {} are missing",
        acknowledged.difference(&stored).count(),
        stored.len()
    );
}

async fn acknowledged_accounts_and_sessions_survive_a_kill_under_load(database: TestDatabase) {
    let taskey = Taskey::start(&database).await;
    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    let mut writers = JoinSet::new();
    for writer in 0..4 {
        let (mut client, ledger) = (taskey.auth(), Arc::clone(&acknowledged));
        writers.spawn(async move {
            for number in 0.. {
                let (email, password) = (format!("{writer}.{number}@example.com"), PASSWORD.to_owned());
                let new = SignUpRequest { email: email.clone(), password: password.clone(), ..Default::default() };
                let login = LoginRequest { email, password, ..Default::default() };
                let Ok(user) = client.sign_up(new).await else { return };
                let Ok(pair) = client.login(login).await else { return };
                ledger.lock().await.push((user.into_inner(), pair.into_inner()));
            }
        });
    }
    while acknowledged.lock().await.len() < 20 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let taskey = taskey.kill_and_start_again().await;
    writers.join_all().await;
    for (user, pair) in &*acknowledged.lock().await {
        let refresh = taskey_proto::auth::v1::RefreshRequest { refresh_token: pair.refresh_token.clone() };
        let refreshed = taskey.auth().refresh(refresh).await.expect("the session is active").into_inner();
        assert_eq!(refreshed.user.as_ref(), Some(user));
    }
}
