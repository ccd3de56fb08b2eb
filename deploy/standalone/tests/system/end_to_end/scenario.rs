//! Sign up, log in, create a task, log out, and be refused.

use std::time::Duration;

use serde_json::json;
use service_kit::{
    assert_refused, on_each_database,
    testing::{TestDatabase, report_skipped},
};
use taskey_proto::task::v1::{GetTaskRequest, Task};

use super::processes::{PASSWORD, Taskey, bearer, curl};

on_each_database! {
    scenario_over_grpc_in_one_process,
    scenario_over_grpc_with_three_processes,
    scenario_over_http_with_curl,
    account_is_exported_over_http,
    task_of_another_user_is_indistinguishable_from_a_missing_one,
}

/// Waits until a token is refused, for at most the documented second.
async fn wait_until_refused(taskey: &Taskey, access_token: &str) -> tonic::Status {
    let refused = async {
        loop {
            if let Err(status) = taskey.list(access_token).await {
                return status;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(1), refused).await.expect("refused within a second")
}

async fn run_scenario(taskey: &Taskey) {
    let (ann, bob) =
        (taskey.sign_up_and_log_in("ann@example.com").await, taskey.sign_up_and_log_in("bob@example.com").await);
    let milk = taskey.create(&ann.access_token, "Buy milk").await.expect("created");
    taskey.create(&bob.access_token, "Call Ann").await.expect("created");
    assert_eq!(taskey.list(&ann.access_token).await.expect("listed"), [milk]);
    taskey.logout(&ann).await;
    assert_refused!(
        Err::<(), _>(wait_until_refused(taskey, &ann.access_token).await),
        Unauthenticated,
        "TOKEN_REVOKED"
    );
    assert_eq!(taskey.list(&bob.access_token).await.expect("Bob is not affected").len(), 1);
}

async fn scenario_over_grpc_in_one_process(database: TestDatabase) {
    run_scenario(&Taskey::start(&database).await).await;
}

async fn scenario_over_grpc_with_three_processes(database: TestDatabase) {
    run_scenario(&Taskey::start_separately(&database).await).await;
}

async fn scenario_over_http_with_curl(database: TestDatabase) {
    if std::process::Command::new("curl").arg("--version").output().is_err() {
        return report_skipped("a test with curl", "curl is not installed");
    }
    let taskey = Taskey::start_separately(&database).await;
    let json = "content-type: application/json";
    let credentials = format!(r#"{{"email": "ann@example.com", "password": "{PASSWORD}"}}"#);
    let (status, body) = curl(&taskey, "/v1/auth/signup", &["-H", json, "-d", &credentials]).await;
    assert_eq!(status, 200, "{body}");
    let (status, body) = curl(&taskey, "/v1/auth/login", &["-H", json, "-d", &credentials]).await;
    assert_eq!(status, 200, "{body}");
    let pair: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    let bearer = format!("authorization: Bearer {}", pair["accessToken"].as_str().expect("a token"));
    let task = r#"{"title": "Buy milk", "dueDate": "2026-11-30"}"#;
    let (status, created) = curl(&taskey, "/v1/tasks", &["-H", json, "-H", &bearer, "-d", task]).await;
    assert_eq!(status, 200, "{created}");
    let (status, listed) = curl(&taskey, "/v1/tasks", &["-H", &bearer]).await;
    assert_eq!((status, listed), (200, format!(r#"{{"tasks":[{created}],"nextPageToken":""}}"#)));
    let task: serde_json::Value = serde_json::from_str(&created).expect("JSON");
    let path = format!("/v1/tasks/{}", task["id"].as_str().expect("an id"));
    let current = format!("if-match: {}", task["etag"].as_str().expect("an etag"));
    let change = ["-X", "PATCH", "-H", &bearer, "-H", json, "-H", &current, "-d", r#"{"notes": "two"}"#];
    assert_eq!(curl(&taskey, &path, &change).await.0, 200);
    assert_eq!(curl(&taskey, &path, &change).await.0, 412, "the task was changed by the first call");
    let (status, body) = curl(&taskey, "/v1/auth/logout", &["-X", "POST", "-H", &bearer]).await;
    assert_eq!((status, &body[..]), (200, r#"{"acknowledgedVerifiers":0}"#));
    let refused = async {
        loop {
            let (status, body) = curl(&taskey, "/v1/tasks", &["-H", &bearer]).await;
            if status != 200 {
                return (status, body);
            }
        }
    };
    let (status, body) = tokio::time::timeout(Duration::from_secs(1), refused).await.expect("refused within a second");
    assert!(status == 401 && body.contains("TOKEN_REVOKED"), "{status} {body}");
}

async fn account_is_exported_over_http(database: TestDatabase) {
    let taskey = Taskey::start(&database).await;
    let pair = taskey.sign_up_and_log_in("ann@example.com").await;
    let bearer = format!("authorization: Bearer {}", pair.access_token);
    let (status, body) = curl(&taskey, "/v1/me:export?pageSize=1", &["-H", &bearer]).await;
    assert_eq!(status, 200, "{body}");
    let first: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(
        (&first["user"]["email"], &first["sessions"][0]["id"]),
        (&json!("ann@example.com"), &json!(pair.session_id))
    );
    let next_page = format!("/v1/me:export?pageSize=1&pageToken={}", first["nextPageToken"].as_str().expect("a token"));
    let (status, body) = curl(&taskey, &next_page, &["-H", &bearer]).await;
    assert_eq!(status, 200, "{body}");
    let last: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    let kinds = [&first, &last].map(|page| page["events"][0]["kind"].clone());
    assert_eq!((kinds, &last["nextPageToken"]), ([json!("KIND_LOGIN"), json!("KIND_SIGN_UP")], &json!("")));
    assert_eq!(curl(&taskey, "/v1/me:export", &[]).await.0, 401);
}

async fn task_of_another_user_is_indistinguishable_from_a_missing_one(database: TestDatabase) {
    let taskey = Taskey::start(&database).await;
    let (ann, bob) =
        (taskey.sign_up_and_log_in("ann@example.com").await, taskey.sign_up_and_log_in("bob@example.com").await);
    let task = taskey.create(&ann.access_token, "Secret").await.expect("created");
    let missing = "01890a5d-ac96-774b-bcce-b302099a8057";

    let get_task_as_bob = async |id: &str| {
        let mut request = bearer(&bob.access_token, GetTaskRequest { id: id.to_owned() });
        request.metadata_mut().insert("x-request-id", "the-same".parse().expect("ASCII"));
        taskey.tasks().get_task(request).await.expect_err("refused")
    };
    let (existing, unknown) = (get_task_as_bob(&task.id).await, get_task_as_bob(missing).await);
    assert_refused!(Err::<(), _>(existing.clone()), NotFound, "TASK_NOT_FOUND");
    assert_eq!(existing.message(), unknown.message());
    assert_eq!(existing.details(), unknown.details());

    let bearer = format!("authorization: Bearer {}", bob.access_token);
    let headers = ["-H", &bearer, "-H", "x-request-id: the-same"];
    let call_http =
        async |id: &str, more: &[&str]| curl(&taskey, &format!("/v1/tasks/{id}"), &[&headers[..], more].concat()).await;
    for more in [&[][..], &["-X", "DELETE"], &["-X", "PATCH", "-H", "content-type: application/json", "-d", "{}"]] {
        assert_eq!(call_http(&task.id, more).await, call_http(missing, more).await);
    }
    let stored: Vec<Task> = taskey.list(&ann.access_token).await.expect("listed");
    assert_eq!(stored, [task]);
}
