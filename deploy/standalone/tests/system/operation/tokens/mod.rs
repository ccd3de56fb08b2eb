//! The command `taskey token`, which keeps the tokens of a user for scripts.

use std::{fs, net::SocketAddr, os::unix::fs::PermissionsExt, path::Path, process::Output};

use futures::future::join_all;
use service_kit::testing::TestDatabase;
use taskey_proto::auth::v1::TokenPair;

use super::{
    metrics::{value, wait_for_value},
    start_taskey,
};
use crate::{
    faults::{
        proxy::{Mode, Proxy, Upstream},
        report::LOAD_ALLOWANCE,
        users::{check_token, log_out, sign_up, wait_until_refused},
    },
    process::{PASSWORD, Process},
    shim::Shim,
};

mod device;
pub mod terminal;
pub mod user;

use user::{EMAIL, LOGIN, User, read, text};

/// The number of calls of `Refresh` that have succeeded.
const REFRESHES: &str = r#"grpc_server_handled_total{grpc_type="unary",grpc_service="taskey.auth.v1.AuthService",grpc_method="Refresh",grpc_code="OK"}"#;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it exists").permissions().mode() & 0o777
}

/// Starts `taskey` with a user who has signed up and logged in.
async fn start_with_user(database: &TestDatabase) -> (Process, User) {
    let taskey = start_taskey(database, &[]).await;
    sign_up(&taskey.channel("auth"), EMAIL).await.expect("signed up");
    let user = User::of(taskey.address("gateway"));
    user.log_in().await;
    (taskey, user)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_are_kept_from_login_to_logout() {
    let database = TestDatabase::sqlite();
    let (taskey, user) = start_with_user(&database).await;
    let (task, (file, _)) = (taskey.channel("task"), user.file());
    assert_eq!((mode(&file), mode(file.parent().expect("a folder"))), (0o600, 0o700));

    let first = user.print().await;
    check_token(&task, &first).await.expect("accepted");
    assert_eq!(user.print().await, first, "a valid token is not refreshed");

    user.expire();
    let second = user.print().await;
    assert_ne!(first, second);
    check_token(&task, &second).await.expect("accepted");
    assert_eq!(mode(&file), 0o600);

    let output = user.run(&["logout"], "").await;
    assert!(output.status.success() && !user.file().1, "{}", text(&output.stderr));
    wait_until_refused(&task, &second, "TOKEN_REVOKED", LOAD_ALLOWANCE).await;
    assert!(user.run(&["logout"], "").await.status.success(), "there is nothing to log out of");
    let error = user.fail(&["print"], "", 1).await;
    assert!(error.contains(&format!("taskey token login --url {}", user.url)), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_processes_refresh_the_token_once() {
    let database = TestDatabase::sqlite();
    let (taskey, user) = start_with_user(&database).await;
    user.expire();
    let tokens = join_all((0..10).map(|_| user.print())).await;
    assert!(tokens.iter().all(|token| *token == tokens[0]), "all processes print the new token");
    check_token(&taskey.channel("task"), &tokens[0]).await.expect("accepted");
    wait_for_value(taskey.address("ops"), REFRESHES, 1.0).await;
}

/// A user behind a proxy that forwards no responses, with a process that has refreshed the token and waits for the
/// response.
async fn lose_response(taskey: &Process, user: &mut User) -> (Proxy, tokio::process::Child) {
    let proxy = Proxy::start(Upstream::Tcp(taskey.address("gateway")));
    user.url = format!("http://{}", proxy.address());
    user.log_in().await;
    user.expire();
    proxy.set(Mode::StalledResponses);
    let waiting = user.command(&["print"]).spawn().expect("the program starts");
    wait_for_value(taskey.address("ops"), REFRESHES, 1.0).await;
    (proxy, waiting)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refresh_is_repeated_after_its_response_was_lost() {
    let database = TestDatabase::sqlite();
    let (taskey, mut user) = start_with_user(&database).await;
    let (proxy, waiting) = lose_response(&taskey, &mut user).await;
    proxy.cut().await;
    proxy.set(Mode::Forward);
    let Output { status, stdout, stderr } = waiting.wait_with_output().await.expect("the program ends");
    assert!(status.success(), "{}", text(&stderr));
    check_token(&taskey.channel("task"), text(&stdout).trim_end()).await.expect("accepted");
    assert!(
        (value(taskey.address("ops"), REFRESHES).await - 2.0).abs() < f64::EPSILON,
        "the same token was sent twice"
    );
    user.expire();
    check_token(&taskey.channel("task"), &user.print().await).await.expect("the session continues");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn process_that_was_killed_during_a_refresh_holds_up_no_other() {
    let database = TestDatabase::sqlite();
    let (taskey, mut user) = start_with_user(&database).await;
    let (proxy, mut waiting) = lose_response(&taskey, &mut user).await;
    let other = user.command(&["print"]).spawn().expect("the program starts");
    waiting.kill().await.expect("killed");
    proxy.cut().await;
    proxy.set(Mode::Forward);
    let Output { status, stdout, stderr } = other.wait_with_output().await.expect("the program ends");
    assert!(status.success(), "{}", text(&stderr));
    check_token(&taskey.channel("task"), text(&stdout).trim_end()).await.expect("accepted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn file_of_an_ended_session_is_deleted() {
    let database = TestDatabase::sqlite();
    let (taskey, user) = start_with_user(&database).await;
    let refresh_token = read(&user.file().0)["refresh_token"].as_str().expect("a token").to_owned();
    let pair = TokenPair { refresh_token: refresh_token.clone(), ..TokenPair::default() };
    log_out(&taskey.channel("auth"), &pair).await.expect("logged out");
    user.expire();
    let error = user.fail(&["print"], "", 1).await;
    assert!(error.contains("REFRESH_TOKEN_INVALID") && error.contains("taskey token login"), "{error}");
    assert!(!user.file().1 && !error.contains(&refresh_token), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn second_login_revokes_the_stored_session() {
    let database = TestDatabase::sqlite();
    let (taskey, user) = start_with_user(&database).await;
    let first = user.print().await;
    user.log_in().await;
    wait_until_refused(&taskey.channel("task"), &first, "TOKEN_REVOKED", LOAD_ALLOWANCE).await;
    check_token(&taskey.channel("task"), &user.print().await).await.expect("accepted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn file_that_other_users_can_read_is_refused() {
    let database = TestDatabase::sqlite();
    let (_taskey, user) = start_with_user(&database).await;
    fs::set_permissions(user.file().0, fs::Permissions::from_mode(0o644)).expect("permitted");
    for arguments in [&["print"][..], &["logout"], &LOGIN] {
        let error = user.fail(arguments, PASSWORD, 1).await;
        assert!(error.contains("has mode 0644") && error.contains("chmod 600"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_password_stores_nothing() {
    let database = TestDatabase::sqlite();
    let taskey = start_taskey(&database, &[]).await;
    sign_up(&taskey.channel("auth"), EMAIL).await.expect("signed up");
    let user = User::of(taskey.address("gateway"));
    let error = user.fail(&LOGIN, "another horse battery staple\n", 1).await;
    assert!(error.contains("CREDENTIALS_INVALID") && !error.contains("another horse"), "{error}");
    assert!(!user.file().1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_are_not_sent_to_another_installation() {
    let database = TestDatabase::sqlite();
    let (_taskey, user) = start_with_user(&database).await;
    let file = user.file().0.display().to_string();
    let error = user.fail(&["print", "--token-file", &file, "--url", "http://localhost:1"], "", 1).await;
    assert!(error.contains("not for http://localhost:1"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clock_of_the_client_may_be_wrong() {
    let database = TestDatabase::sqlite();
    let (taskey, mut user) = start_with_user(&database).await;
    let shim = Shim::new();
    user.environment = shim.environment().to_vec();
    for seconds in [-3600, 3600] {
        shim.step_clock(seconds);
        user.log_in().await;
        check_token(&taskey.channel("task"), &user.print().await).await.expect("accepted");
    }
    assert!(value(taskey.address("ops"), REFRESHES).await.abs() < f64::EPSILON, "no token was refreshed");
}

#[tokio::test]
async fn unreachable_gateway_is_reported() {
    let user = User::of(SocketAddr::from(([127, 0, 0, 1], 1)));
    let error = user.fail(&LOGIN, PASSWORD, 1).await;
    assert!(error.contains("cannot log in to http://127.0.0.1:1: ") && error.contains("refused"), "{error}");
}

#[tokio::test]
async fn password_is_not_sent_over_a_network_in_plaintext() {
    let user = User { url: "http://192.0.2.1:8080".to_owned(), ..User::of(SocketAddr::from(([127, 0, 0, 1], 1))) };
    let error = user.fail(&LOGIN, PASSWORD, 1).await;
    assert!(error.contains("use an https URL, or --insecure-plaintext"), "{error}");
}

#[tokio::test]
async fn usage_errors_exit_with_2() {
    let user = User::of(SocketAddr::from(([127, 0, 0, 1], 1)));
    user.fail(&["login", "--password-stdin"], PASSWORD, 2).await;
    user.fail(&["login", "--password", PASSWORD], "", 2).await;
    user.fail(&["login", "--device", "--email", EMAIL], "", 2).await;
    user.fail(&["login", "--scope", "tasks.read"], "", 2).await;
    let error = user.fail(&["print", "--url", "http://ann:secret@localhost"], "", 2).await;
    assert!(!error.contains("secret"), "{error}");
}
