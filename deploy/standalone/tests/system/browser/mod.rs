//! The web page in a browser, before the whole program. Each fact is shown by a script beside this file, which is given
//! the address of a `taskey` of its own.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use service_kit::testing::{self, leave_out};
use tokio::sync::Mutex;
use tonic_health::pb::health_check_response::ServingStatus;

use crate::process::{Process, channel, program, until_health};

/// A browser wants the machine for itself.
static BROWSER: Mutex<()> = Mutex::const_new(());

/// The folder of the build, which has the tools of `make tools` in it and gets the pictures.
fn target() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target")
}

/// Why there is no browser to be had, if there is none.
fn missing() -> Option<&'static str> {
    let runs = |name: &str| Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success());
    if !runs("node") {
        return Some("there is no node");
    }
    if !runs("chromium") {
        return Some("there is no chromium");
    }
    (!target().join("tools/browser/node_modules/playwright-core").exists()).then_some("make tools has not been run")
}

/// `taskey` in a folder of its own, which serves.
async fn start(folder: &Path, flags: &[&str]) -> Process {
    let listeners = ["auth", "task", "gateway"];
    let mut command = Command::new(program("taskey"));
    for name in listeners {
        command.arg(format!("--{name}-listen")).arg("127.0.0.1:0");
    }
    command.arg("--data-dir").arg(folder.join("data")).args(["--log", "warn", "--rate-limits", "off"]).args(flags);
    let taskey = Process::spawn(&mut command, &listeners);
    for name in ["auth", "task"] {
        until_health(channel(taskey.address(name)), ServingStatus::Serving).await;
    }
    taskey
}

/// Runs a script to its end.
async fn show(script: &str, flags: &[&str]) {
    if let Some(why) = missing() {
        return leave_out("a test in a browser", why);
    }
    let _alone = BROWSER.lock().await;
    let folder = testing::folder();
    let taskey = start(folder.path(), flags).await;
    let output = tokio::process::Command::new("node")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/system/browser").join(script))
        .env("TASKEY_URL", format!("http://localhost:{}", taskey.address("gateway").port()))
        .env("TASKEY_TARGET", target())
        .kill_on_drop(true)
        .output()
        .await
        .expect("there is a node");
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn what_is_done_in_one_window_is_seen_in_the_other() {
    show("tasks.mjs", &[]).await;
}

#[tokio::test]
async fn tasks_are_put_in_order_by_keyboard_and_by_mouse() {
    show("order.mjs", &[]).await;
}

#[tokio::test]
async fn lists_are_made_renamed_and_deleted_with_or_without_their_tasks() {
    show("lists.mjs", &[]).await;
}

#[tokio::test]
async fn a_change_made_elsewhere_is_not_overwritten_unseen() {
    show("conflict.mjs", &[]).await;
}

#[tokio::test]
async fn markup_in_a_title_stays_text() {
    show("markup.mjs", &[]).await;
}

#[tokio::test]
async fn an_expired_access_token_is_renewed_unnoticed() {
    show("renewal.mjs", &["--access-token-ttl", "5s"]).await;
}

#[tokio::test]
async fn who_logs_out_in_one_window_is_logged_out_in_the_other() {
    show("logout.mjs", &[]).await;
}

#[tokio::test]
async fn who_was_offline_catches_up() {
    show("offline.mjs", &[]).await;
}

#[tokio::test]
async fn a_service_that_is_down_is_told_of_until_it_is_back() {
    show("outage.mjs", &[]).await;
}

#[tokio::test]
async fn devices_are_logged_out_passwords_changed_and_accounts_deleted() {
    show("account.mjs", &[]).await;
}

#[tokio::test]
async fn axe_finds_nothing_in_any_view() {
    show("axe.mjs", &[]).await;
}
