//! A forgotten password is reset with curl alone. The mail is sent by a real SMTP server.

use std::{fs, path::Path, time::Duration};

use serde_json::{Value, json};
use service_kit::testing::{TestDatabase, report_skipped};
use tokio::time::{sleep, timeout};

use super::start_taskey;
use crate::{mail_server::MailServer, process};

const EMAIL: &str = "ann@example.com";
const OLD_PASSWORD: &str = "correct horse battery staple";
const NEW_PASSWORD: &str = "another staple battery horse";

/// Returns the status code and the body of the response to a JSON body.
async fn curl(url: &str, path: &str, body: Value) -> (u16, Value) {
    let (status, body) = process::curl(&format!("{url}{path}"), &["--json", &body.to_string()]).await;
    (status, serde_json::from_str(&body).expect("JSON"))
}

async fn log_in(url: &str, password: &str) -> (u16, Value) {
    curl(url, "/v1/auth/login", json!({"email": EMAIL, "password": password})).await
}

/// Waits for the mail with a subject, and returns its text.
async fn await_mail(folder: &Path, subject: &str) -> String {
    let header = format!("\nSubject: {subject}\n");
    let received = async {
        loop {
            let files = fs::read_dir(folder).expect("readable").map(|file| file.expect("readable").path());
            let mut mails = files.map(|file| fs::read_to_string(file).expect("readable").replace("\r\n", "\n"));
            if let Some(mail) = mails.find(|mail| mail.contains(&header)) {
                return mail;
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(Duration::from_secs(30), received).await.unwrap_or_else(|_| panic!("no mail {subject:?}"))
}

#[tokio::test]
async fn forgotten_password_is_reset_with_curl_alone() {
    if std::process::Command::new("curl").arg("--version").output().is_err() {
        return report_skipped("a test with curl", "curl is not installed");
    }
    let database = TestDatabase::sqlite();
    let Some(mail_server) = MailServer::start(database.folder()).await else { return };
    let flags = ["--public-url", "https://tasks.example.org"].into_iter();
    let flags: Vec<_> = flags.chain(mail_server.flags.iter().map(String::as_str)).collect();
    let taskey = start_taskey(&database, &flags).await;
    let url = format!("http://{}", taskey.address("gateway"));
    let account = json!({"email": EMAIL, "password": OLD_PASSWORD});
    assert_eq!(curl(&url, "/v1/auth/signup", account).await.0, 200);
    assert_eq!(log_in(&url, OLD_PASSWORD).await.0, 200);

    let requested = curl(&url, "/v1/auth/password:requestReset", json!({"email": EMAIL})).await;
    assert_eq!(requested, (200, json!({})));
    let mail = await_mail(&mail_server.mails, "Reset your password").await;
    let code = mail.lines().find_map(|line| line.strip_prefix("    ")).expect("a code");
    let reset = json!({"email": EMAIL, "code": code, "newPassword": NEW_PASSWORD});
    assert_eq!(curl(&url, "/v1/auth/password:reset", reset.clone()).await, (200, json!({})));
    let (code, body) = curl(&url, "/v1/auth/password:reset", reset).await;
    assert_eq!((code, &body["error"]["details"][0]["reason"]), (401, &json!("CODE_INVALID")));

    let (code, body) = log_in(&url, OLD_PASSWORD).await;
    assert_eq!((code, &body["error"]["details"][0]["reason"]), (401, &json!("CREDENTIALS_INVALID")));
    let (code, body) = log_in(&url, NEW_PASSWORD).await;
    assert!(code == 200 && body["accessToken"].is_string(), "{body}");
    await_mail(&mail_server.mails, "Your password was changed").await;
}
