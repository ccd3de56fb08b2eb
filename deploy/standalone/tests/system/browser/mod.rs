//! Tests of the web page in a browser, against the whole program. Each test runs a script in this folder with the
//! address of its own `taskey`.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Command,
};

use service_kit::testing::{self, report_skipped};
use tokio::sync::Mutex;
use tonic_health::pb::health_check_response::ServingStatus;

use crate::{
    deployment::{
        proxy::{HOST, Proxy},
        template::free_address,
    },
    mail_server::MailServer,
    process::{Process, channel, program, wait_for_health},
};

/// A browser needs the whole machine, so these tests run one at a time.
static BROWSER: Mutex<()> = Mutex::const_new(());

/// The path of the page behind a proxy that removes it.
const PATH: &str = "/todo";

/// Returns the build folder. It contains the tools of `make tools` and receives the screenshots.
fn build_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target")
}

/// Returns the name of the first missing tool, if any, as the reason to skip the test.
fn missing_tool() -> Option<&'static str> {
    let runs = |name: &str| Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success());
    if !runs("node") {
        return Some("node is not installed");
    }
    if !runs("chromium") {
        return Some("chromium is not installed");
    }
    (!build_folder().join("tools/browser/node_modules/playwright-core").exists())
        .then_some("make tools has not been run")
}

/// Starts `taskey` with this folder and waits until it serves.
async fn start(folder: &Path, flags: &[&str]) -> Process {
    start_at("127.0.0.1:0", folder, flags).await
}

/// Starts `taskey` as [`start`], with this address of the page.
async fn start_at(gateway: &str, folder: &Path, flags: &[&str]) -> Process {
    let listeners = ["auth", "task", "gateway"];
    let mut command = Command::new(program("taskey"));
    for (name, address) in listeners.into_iter().zip(["127.0.0.1:0", "127.0.0.1:0", gateway]) {
        command.arg(format!("--{name}-listen")).arg(address);
    }
    command.arg("--data-dir").arg(folder.join("data")).args(["--log", "warn", "--rate-limits", "off"]).args(flags);
    let taskey = Process::spawn(&mut command, &listeners);
    for name in ["auth", "task"] {
        wait_for_health(channel(taskey.address(name)), ServingStatus::Serving).await;
    }
    taskey
}

/// Runs a script against a new `taskey` and asserts that it succeeds.
async fn run_script(script: &str, flags: &[&str]) {
    if let Some(reason) = missing_tool() {
        return report_skipped("a test in a browser", reason);
    }
    let _guard = BROWSER.lock().await;
    let folder = testing::folder();
    let taskey = start(folder.path(), flags).await;
    assert_succeeds(script, &format!("http://localhost:{}", taskey.address("gateway").port())).await;
}

/// Runs a script with the URL of the page, and asserts that it succeeds.
async fn assert_succeeds(script: &str, url: &str) {
    assert_succeeds_with(script, url, []).await;
}

/// Runs a script with the URL of the page and further variables, and asserts that it succeeds.
async fn assert_succeeds_with<const N: usize>(script: &str, url: &str, variables: [(&str, &OsStr); N]) {
    let output = tokio::process::Command::new("node")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/system/browser").join(script))
        .env("TASKEY_URL", url)
        .env("TASKEY_TARGET", build_folder())
        .envs(variables)
        .kill_on_drop(true)
        .output()
        .await
        .expect("node is installed");
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn changes_in_one_window_appear_in_the_other() {
    run_script("tasks.mjs", &[]).await;
}

#[tokio::test]
async fn tasks_are_reordered_by_keyboard_and_by_mouse() {
    run_script("order.mjs", &[]).await;
}

#[tokio::test]
async fn lists_are_created_renamed_and_deleted_with_or_without_their_tasks() {
    run_script("lists.mjs", &[]).await;
}

#[tokio::test]
async fn completing_a_task_offers_its_subtasks() {
    run_script("subtasks.mjs", &[]).await;
}

#[tokio::test]
async fn open_editor_survives_changes_from_elsewhere() {
    run_script("editor.mjs", &[]).await;
}

#[tokio::test]
async fn narrow_windows_unknown_time_zones_midnight_and_long_results_are_handled() {
    run_script("limits.mjs", &[]).await;
}

#[tokio::test]
async fn task_recurs_is_skipped_and_stops() {
    run_script("recurrence.mjs", &[]).await;
}

#[tokio::test]
async fn recurrence_in_words_has_the_rule_that_it_says_or_none() {
    run_script("phrases.mjs", &[]).await;
}

#[tokio::test]
async fn reminders_fire_in_all_windows_and_are_snoozed_and_dismissed() {
    run_script("reminders.mjs", &[]).await;
}

#[tokio::test]
async fn conflicting_change_is_not_overwritten_silently() {
    run_script("conflict.mjs", &[]).await;
}

#[tokio::test]
async fn markup_in_a_title_stays_text() {
    run_script("markup.mjs", &[]).await;
}

#[tokio::test]
async fn expired_access_token_is_renewed_silently() {
    run_script("renewal.mjs", &["--access-token-ttl", "5s"]).await;
}

#[tokio::test]
async fn logout_in_one_window_logs_out_the_other() {
    run_script("logout.mjs", &[]).await;
}

#[tokio::test]
async fn offline_window_catches_up() {
    run_script("offline.mjs", &[]).await;
}

#[tokio::test]
async fn outage_is_shown_until_the_service_is_back() {
    run_script("outage.mjs", &[]).await;
}

#[tokio::test]
async fn account_page_logs_out_devices_changes_passwords_and_deletes_the_account() {
    run_script("account.mjs", &[]).await;
}

#[tokio::test]
async fn access_tokens_are_created_used_edited_rotated_and_deleted() {
    run_script("tokens.mjs", &[]).await;
}

#[tokio::test]
async fn security_events_are_sentences_in_pages() {
    run_script("events.mjs", &[]).await;
}

#[tokio::test]
async fn second_factors_are_added_used_renamed_and_deleted() {
    run_script("factors.mjs", &[]).await;
}

#[tokio::test]
async fn change_of_credentials_long_after_the_login_asks_for_the_password() {
    run_script("step-up.mjs", &["--step-up-max-age", "5s"]).await;
}

#[tokio::test]
async fn devices_are_allowed_and_refused_by_their_codes() {
    run_script("device.mjs", &["--step-up-max-age", "5s"]).await;
}

#[tokio::test]
async fn export_of_the_account_is_saved_as_a_file() {
    run_script("export.mjs", &[]).await;
}

#[tokio::test]
async fn webhooks_are_managed_in_the_account() {
    run_script("webhooks.mjs", &["--webhook-allow", "127.0.0.1"]).await;
}

#[tokio::test]
async fn tasks_are_exported_and_imported_as_files() {
    run_script("files.mjs", &[]).await;
}

#[tokio::test]
async fn links_in_mails_confirm_an_address_and_reset_a_forgotten_password() {
    if let Some(reason) = missing_tool() {
        return report_skipped("a test in a browser", reason);
    }
    let _guard = BROWSER.lock().await;
    let (folder, address) = (testing::folder(), free_address());
    let Some(mail_server) = MailServer::start(folder.path()).await else { return };
    let url = format!("https://{HOST}:{}{PATH}", address.port());
    let flags = ["--public-url", &url, "--trusted-proxies", "127.0.0.1"].into_iter();
    let flags: Vec<_> = flags.chain(mail_server.flags.iter().map(String::as_str)).collect();
    let taskey = start(folder.path(), &flags).await;
    let _nginx = Proxy::nginx_under(PATH, folder.path(), address, taskey.address("gateway")).await;
    assert_succeeds_with("mail.mjs", &format!("{url}/"), [("MAILS", mail_server.mails.as_os_str())]).await;
}

#[tokio::test]
async fn administrators_manage_accounts_mails_and_services() {
    if let Some(reason) = missing_tool() {
        return report_skipped("a test in a browser", reason);
    }
    let _guard = BROWSER.lock().await;
    let (folder, mail_port) = (testing::folder(), free_address().port().to_string());
    let mail = format!("smtp://127.0.0.1:{mail_port}");
    let flags = ["--public-url", "https://tasks.example.org", "--mail", &mail, "--mail-from", "tasks@example.org"];
    let taskey = start(folder.path(), &flags).await;
    let database = format!("sqlite:{}", folder.path().join("data/auth.db").display());
    let auth_service = program("auth-service");
    let variables = [
        ("AUTH_SERVICE", auth_service.as_os_str()),
        ("DATABASE_URL", OsStr::new(&database)),
        ("MAIL_PORT", OsStr::new(&mail_port)),
    ];
    let url = format!("http://localhost:{}", taskey.address("gateway").port());
    assert_succeeds_with("admin.mjs", &url, variables).await;
}

#[tokio::test]
async fn page_works_under_a_path_behind_nginx() {
    if let Some(reason) = missing_tool() {
        return report_skipped("a test in a browser", reason);
    }
    let _guard = BROWSER.lock().await;
    let (folder, address) = (testing::folder(), free_address());
    let url = format!("https://{HOST}:{}{PATH}", address.port());
    let taskey = start(folder.path(), &["--public-url", &url, "--trusted-proxies", "127.0.0.1"]).await;
    let _nginx = Proxy::nginx_under(PATH, folder.path(), address, taskey.address("gateway")).await;
    assert_succeeds("path.mjs", &format!("{url}/")).await;
}

/// Runs a script against a new `taskey` whose passkeys belong to the URL of the page.
async fn run_passkey_script(script: &str, flags: &[&str]) {
    if let Some(reason) = missing_tool() {
        return report_skipped("a test in a browser", reason);
    }
    let _guard = BROWSER.lock().await;
    let (folder, address) = (testing::folder(), free_address());
    let url = format!("http://localhost:{}", address.port());
    let flags = [&["--public-url", &url], flags].concat();
    let _taskey = start_at(&address.to_string(), folder.path(), &flags).await;
    assert_succeeds(script, &url).await;
}

#[tokio::test]
async fn passkey_replaces_or_completes_a_password() {
    run_passkey_script("passkeys.mjs", &[]).await;
}

#[tokio::test]
async fn login_form_offers_passkeys_until_the_password_is_sent() {
    run_passkey_script("passkey-autofill.mjs", &[]).await;
}

#[tokio::test]
async fn change_of_credentials_long_after_the_login_accepts_a_passkey() {
    run_passkey_script("passkey-step-up.mjs", &["--step-up-max-age", "5s"]).await;
}

#[tokio::test]
async fn axe_finds_nothing_in_any_view() {
    run_script("axe.mjs", &["--webhook-allow", "127.0.0.1"]).await;
}
