//! The command `taskey users`, by which administrators manage accounts.

use std::process::Output;

use service_kit::testing::TestDatabase;
use taskey_proto::auth::v1::{ListUsersRequest, TokenPair, admin_service_client::AdminServiceClient};
use tokio::task::yield_now;

use super::{
    start_taskey,
    tokens::{
        terminal::run_with_password,
        user::{EMAIL, User, text},
    },
};
use crate::{
    end_to_end::processes::Taskey,
    faults::{
        report::LOAD_ALLOWANCE,
        users::{log_in, reason, sign_up, sign_up_and_log_in, try_password, wait_until_refused},
    },
    process::{Process, bearer},
};

const BOB: &str = "bob@example.com";

/// Starts `taskey` with an administrator who has logged in by the command, and with Bob.
async fn start(flags: &[&str]) -> (TestDatabase, Process, User, TokenPair) {
    let database = TestDatabase::sqlite();
    let taskey = start_taskey(&database, flags).await;
    let auth = taskey.channel("auth");
    sign_up(&auth, EMAIL).await.expect("signed up");
    Taskey::grant_role(&database, EMAIL, "admin");
    let admin = User::of(taskey.address("gateway"));
    admin.log_in().await;
    let bob = sign_up_and_log_in(&auth, BOB).await;
    (database, taskey, admin, bob)
}

/// Runs a command that succeeds, and returns the columns of its lines.
async fn lines(admin: &User, arguments: &[&str]) -> Vec<Vec<String>> {
    let Output { status, stdout, stderr } = admin.administer(arguments).await;
    assert!(status.success(), "{}", text(&stderr));
    text(&stdout).lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect()
}

/// Runs a command that fails, and returns its error.
async fn error(admin: &User, arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } = admin.administer(arguments).await;
    assert_eq!((status.code(), text(&stdout)), (Some(1), String::new()), "{}", text(&stderr));
    text(&stderr)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accounts_are_listed_disabled_and_enabled() {
    let (_database, taskey, admin, bob) = start(&[]).await;
    let (auth, task) = (taskey.channel("auth"), taskey.channel("task"));
    let listed = lines(&admin, &["list"]).await;
    let columns = listed.iter().map(|line| [&line[1][..], &line[2], &line[3]]);
    assert_eq!(columns.collect::<Vec<_>>(), [[BOB, "", "enabled"], [EMAIL, "admin", "enabled"]]);

    assert_eq!(lines(&admin, &["disable", BOB]).await[0][3], "disabled");
    wait_until_refused(&task, &bob.access_token, "TOKEN_REVOKED", LOAD_ALLOWANCE).await;
    assert_eq!(lines(&admin, &["list", "--filter", "disabled:true"]).await.len(), 1);
    assert_eq!(reason(&log_in(&auth, BOB).await.expect_err("disabled")), "CREDENTIALS_INVALID");
    let id = &listed[0][0];
    assert_eq!(lines(&admin, &["enable", id]).await[0][3], "enabled");
    log_in(&auth, BOB).await.expect("logged in");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_pages_of_accounts_are_listed() {
    let (_database, taskey, admin, _) = start(&[]).await;
    let auth = taskey.channel("auth");
    for number in 0..100 {
        sign_up(&auth, &format!("user{number}@example.com")).await.expect("signed up");
    }
    assert_eq!(lines(&admin, &["list"]).await.len(), 102);
    let Output { stdout, .. } = admin.administer(&["list", "--filter", "email:user42", "--json"]).await;
    let user: serde_json::Value = serde_json::from_slice(&stdout).expect("one line of JSON");
    assert_eq!((&user["email"], &user["disabled"]), (&"user42@example.com".into(), &false.into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_are_listed_and_revoked() {
    let (_database, taskey, admin, bob) = start(&[]).await;
    log_in(&taskey.channel("auth"), BOB).await.expect("logged in");
    assert_eq!(lines(&admin, &["sessions", BOB]).await.len(), 2);
    assert_eq!(lines(&admin, &["sessions", EMAIL]).await[0][1], "taskey token");
    assert_eq!(lines(&admin, &["sessions", BOB, "--revoke"]).await, [["revoked sessions: 2"]]);
    wait_until_refused(&taskey.channel("task"), &bob.access_token, "TOKEN_REVOKED", LOAD_ALLOWANCE).await;
    assert!(lines(&admin, &["sessions", BOB]).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn account_with_many_wrong_passwords_is_unlocked() {
    let (_database, taskey, admin, _) = start(&["--rate-limits", "on"]).await;
    let auth = taskey.channel("auth");
    while reason(&try_password(&auth, BOB, "a wrong one").await.expect_err("wrong")) == "CREDENTIALS_INVALID" {}
    assert_eq!(reason(&log_in(&auth, BOB).await.expect_err("locked")), "RATE_LIMITED");
    lines(&admin, &["unlock", BOB]).await;
    log_in(&auth, BOB).await.expect("logged in");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_password_is_asked_for_when_the_login_is_too_old() {
    let (_database, taskey, admin, _) = start(&["--step-up-max-age", "3s"]).await;
    let token = admin.print().await;
    let list = async || {
        let mut client = AdminServiceClient::new(taskey.channel("auth"));
        client.list_users(bearer(&token, ListUsersRequest::default())).await
    };
    while list().await.is_ok() {
        yield_now().await;
    }
    assert_eq!(reason(&list().await.expect_err("too old")), "STEP_UP_REQUIRED");
    let (succeeded, shown) = run_with_password(&admin, "users list");
    assert!(succeeded && shown.contains("Password: ") && shown.contains(BOB), "{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_say_what_is_wrong() {
    let (_database, taskey, admin, _) = start(&[]).await;
    let unknown = error(&admin, &["disable", "bob@example.co"]).await;
    assert!(unknown.contains("there is no account with the email address bob@example.co"), "{unknown}");
    let last = error(&admin, &["disable", EMAIL]).await;
    assert!(last.contains("LAST_ADMIN"), "{last}");
    let filter = error(&admin, &["list", "--filter", "name:bob"]).await;
    assert!(filter.contains("FILTER_INVALID"), "{filter}");
    let nobody = User::of(taskey.address("gateway"));
    assert!(error(&nobody, &["list"]).await.contains("taskey token login"));
}
