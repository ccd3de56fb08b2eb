//! Personal access tokens through the separate programs, and over HTTP.

use std::time::Duration;

use serde_json::{Value, json};
use service_kit::{on_each_database, testing::TestDatabase};
use taskey_proto::auth::v1::{
    CreatePersonalAccessTokenRequest, DeletePersonalAccessTokenRequest,
    personal_access_token_service_client::PersonalAccessTokenServiceClient,
};
use tokio::time::timeout;

use super::processes::{Taskey, bearer, curl};

on_each_database! {
    a_token_works_through_the_gateway_and_task_service_as_separate_programs,
    a_patch_with_the_whole_token_of_a_get_changes_only_what_differs,
}

const JSON: &str = "content-type: application/json";

async fn a_token_works_through_the_gateway_and_task_service_as_separate_programs(database: TestDatabase) {
    let taskey = Taskey::start_separately(&database).await;
    let access_token = taskey.sign_up_and_log_in("ann@example.com").await.access_token;
    let task = taskey.create(&access_token, "Buy milk").await.expect("created");
    let (label, scopes) = ("script".to_owned(), vec!["tasks.read".to_owned()]);
    let request = CreatePersonalAccessTokenRequest { label, scopes, ..Default::default() };
    let mut tokens = PersonalAccessTokenServiceClient::new(taskey.channel("auth"));
    let created = tokens.create_personal_access_token(bearer(&access_token, request)).await.expect("created");
    let token = created.into_inner();

    assert_eq!(taskey.list(&token.secret).await.expect("permitted"), [task]);
    let authorization = format!("authorization: Bearer {}", token.secret);
    let (status, body) = curl(&taskey, "/v1/tasks", &["-H", &authorization]).await;
    assert!(status == 200 && body.contains("Buy milk"), "{status} {body}");
    let write = ["-H", &authorization, "-H", JSON, "-d", r#"{"title": "Buy oats"}"#];
    let (status, body) = curl(&taskey, "/v1/tasks", &write).await;
    assert!(status == 403 && body.contains("SCOPE_MISSING") && body.contains("tasks.write"), "{status} {body}");

    let request = bearer(&access_token, DeletePersonalAccessTokenRequest { id: token.id });
    tokens.delete_personal_access_token(request).await.expect("deleted");
    let refused = async { while curl(&taskey, "/v1/tasks", &["-H", &authorization]).await.0 == 200 {} };
    timeout(Duration::from_secs(1), refused).await.expect("refused within a second");
    assert_eq!(curl(&taskey, "/v1/tasks", &["-H", &authorization]).await.0, 401);
}

async fn a_patch_with_the_whole_token_of_a_get_changes_only_what_differs(database: TestDatabase) {
    let taskey = Taskey::start(&database).await;
    let access_token = taskey.sign_up_and_log_in("ann@example.com").await.access_token;
    let authorization = format!("authorization: Bearer {access_token}");
    let call = async |path: &str, method: &str, body: &Value| {
        let body = body.to_string();
        let (status, body) = curl(&taskey, path, &["-X", method, "-H", &authorization, "-H", JSON, "-d", &body]).await;
        (status, serde_json::from_str::<Value>(&body).expect("JSON"))
    };
    let request = json!({"label": "script", "scopes": ["tasks.read", "account.read"], "networks": ["192.0.2.0/24"]});
    let (_, created) = call("/v1/me/personalAccessTokens", "POST", &request).await;
    let path = format!("/v1/me/personalAccessTokens/{}", created["id"].as_str().expect("an id"));
    let (status, body) = curl(&taskey, &path, &["-H", &authorization]).await;
    assert_eq!(status, 200, "{body}");
    let token: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(call(&path, "PATCH", &token).await, (200, token.clone()));

    let with = |field: &str, value: Value| {
        let mut changed = token.clone();
        changed[field] = value;
        changed
    };
    let renamed = with("label", json!("nightly"));
    assert_eq!(call(&path, "PATCH", &renamed).await, (200, renamed.clone()));
    // The time of the last use may have changed in the meantime.
    let used = with("lastUseDate", json!("2026-01-01"));
    assert_eq!(call(&path, "PATCH", &used).await, (200, token.clone()));
    for (field, value) in [
        ("scopes", json!(["tasks.read", "tasks.write"])),
        ("expireTime", json!("2099-01-01T00:00:00Z")),
        ("createTime", json!("2020-01-01T00:00:00Z")),
        ("secret", created["secret"].clone()),
    ] {
        let (status, error) = call(&path, "PATCH", &with(field, value)).await;
        let text = error.to_string();
        assert_eq!(status, 400, "{text}");
        let names = [("expireTime", "expire_time"), ("createTime", "create_time")];
        let name = names.iter().find(|(json, _)| *json == field).map_or(field, |(_, name)| name);
        assert!(text.contains(&format!("personal_access_token.{name}")), "{text}");
    }
    let (_, body) = curl(&taskey, &path, &["-H", &authorization]).await;
    assert_eq!(serde_json::from_str::<Value>(&body).expect("JSON"), token, "nothing else has changed");
}
