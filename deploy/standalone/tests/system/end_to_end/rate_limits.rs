//! Rate limits through the gateway.

use service_kit::testing::TestDatabase;
use taskey_proto::auth::v1::LoginRequest;
use tonic::Code;

use super::processes::{PASSWORD, Taskey, curl};

/// The address is that of the client, which the gateway tells auth-service; that of the gateway is the same here, so
/// the service is asked directly, too.
#[tokio::test(flavor = "multi_thread")]
async fn the_eleventh_login_at_once_is_told_when_to_come_again() {
    let database = TestDatabase::sqlite();
    let taskey = Taskey::start_with(&database, &["--rate-limits", "on"]).await;
    taskey.person("ann@example.com").await;
    let login = format!(r#"{{"email": "ann@example.com", "password": "{PASSWORD}"}}"#);
    let post = ["--include", "--header", "content-type: application/json", "--data", &login];
    let mut statuses = Vec::new();
    let refusal = loop {
        let (status, answer) = curl(&taskey, "/v1/auth/login", &post).await;
        statuses.push(status);
        if status != 200 {
            break answer;
        }
    };
    // With the login of before, ten at once; each takes some time, in which another place may come free.
    assert!((10..=12).contains(&statuses.len()) && statuses.last() == Some(&429), "{statuses:?}");
    assert!(refusal.contains("\"reason\":\"RATE_LIMITED\""), "{refusal}");
    let retry_after = refusal.lines().find_map(|line| line.strip_prefix("retry-after: ")).expect("it is told");
    assert!((1..=10).contains(&retry_after.trim().parse().unwrap_or(0)), "{retry_after}");

    let request =
        LoginRequest { email: "ann@example.com".to_owned(), password: PASSWORD.to_owned(), ..Default::default() };
    let direct = taskey.auth().login(request).await.expect_err("the same address");
    assert_eq!(direct.code(), Code::ResourceExhausted);
}
