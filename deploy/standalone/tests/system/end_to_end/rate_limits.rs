//! Rate limits through the gateway.

use service_kit::testing::TestDatabase;
use taskey_proto::auth::v1::LoginRequest;
use tonic::Code;

use super::processes::{PASSWORD, Taskey, curl};

/// The gateway forwards the client's address, which is also its own address in this test. So a direct call to
/// auth-service is limited as well.
#[tokio::test(flavor = "multi_thread")]
async fn eleventh_login_in_a_burst_is_refused_with_retry_after() {
    let database = TestDatabase::sqlite();
    let taskey = Taskey::start_with(&database, &["--rate-limits", "on"]).await;
    taskey.sign_up_and_log_in("ann@example.com").await;
    let login = format!(r#"{{"email": "ann@example.com", "password": "{PASSWORD}"}}"#);
    let post = ["--include", "--header", "content-type: application/json", "--data", &login];
    let mut statuses = Vec::new();
    let refusal = loop {
        let (status, response) = curl(&taskey, "/v1/auth/login", &post).await;
        statuses.push(status);
        if status != 200 {
            break response;
        }
    };
    // Ten at once, including the login above. Each takes some time, in which the limit may allow another.
    assert!((10..=12).contains(&statuses.len()) && statuses.last() == Some(&429), "{statuses:?}");
    assert!(refusal.contains("\"reason\":\"RATE_LIMITED\""), "{refusal}");
    let retry_after = refusal
        .lines()
        .find_map(|line| line.strip_prefix("retry-after: "))
        .expect("the response has a retry-after header");
    assert!((1..=10).contains(&retry_after.trim().parse().unwrap_or(0)), "{retry_after}");

    let request =
        LoginRequest { email: "ann@example.com".to_owned(), password: PASSWORD.to_owned(), ..Default::default() };
    let direct = taskey.auth().login(request).await.expect_err("the same address");
    assert_eq!(direct.code(), Code::ResourceExhausted);
}
