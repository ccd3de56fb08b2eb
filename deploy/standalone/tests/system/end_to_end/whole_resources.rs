//! A PATCH with the whole object of a GET, over HTTP.

use serde_json::{Value, json};
use service_kit::{on_each_database, testing::TestDatabase};

use super::processes::{Taskey, curl};

on_each_database! {
    a_patch_with_the_whole_object_of_a_get_changes_only_what_differs,
    a_patch_with_another_value_of_a_read_only_field_is_refused_by_name,
}

const JSON: &str = "content-type: application/json";

/// A signed-in user of the API.
struct Api {
    taskey: Taskey,
    authorization: String,
}

impl Api {
    async fn start(database: &TestDatabase) -> Self {
        let taskey = Taskey::start(database).await;
        let access_token = taskey.sign_up_and_log_in("ann@example.com").await.access_token;
        Self { taskey, authorization: format!("authorization: Bearer {access_token}") }
    }

    async fn get(&self, path: &str) -> Value {
        let (status, body) = curl(&self.taskey, path, &["-H", &self.authorization]).await;
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).expect("JSON")
    }

    async fn send(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let (body, authorization) = (body.to_string(), &*self.authorization);
        let (status, body) =
            curl(&self.taskey, path, &["-X", method, "-H", authorization, "-H", JSON, "-d", &body]).await;
        (status, serde_json::from_str(&body).expect("JSON"))
    }

    /// Creates a task, a list, a webhook and an access token. Returns the paths of these and of the account.
    async fn paths(&self) -> [String; 5] {
        let fields = json!({"title": "Buy milk", "notes": "oat", "dueDate": "2030-05-01", "timeZone": "Europe/Berlin",
            "priority": "PRIORITY_HIGH", "labels": ["home"]});
        let (_, task) = self.send("POST", "/v1/tasks", &fields).await;
        let (_, list) = self.send("POST", "/v1/lists", &json!({"title": "Work"})).await;
        let fields = json!({"url": "https://1.1.1.1/hook", "state": "STATE_PAUSED"});
        let (_, webhook) = self.send("POST", "/v1/webhooks", &fields).await;
        let fields = json!({"label": "Backup", "scopes": ["tasks.read"], "networks": ["192.0.2.0/24"]});
        let (_, token) = self.send("POST", "/v1/me/personalAccessTokens", &fields).await;
        let path = |collection: &str, item: &Value| format!("/v1/{collection}/{}", item["id"].as_str().expect("an id"));
        [
            path("tasks", &task),
            path("lists", &list),
            "/v1/me".to_owned(),
            path("webhooks", &webhook),
            path("me/personalAccessTokens", &token),
        ]
    }
}

/// Returns an object with another value of a field.
fn with(object: &Value, field: &str, value: Value) -> Value {
    let mut changed = object.clone();
    changed[field] = value;
    changed
}

/// Returns an object without what every update changes.
fn without_version(object: &Value) -> Value {
    with(&with(object, "etag", Value::Null), "updateTime", Value::Null)
}

async fn a_patch_with_the_whole_object_of_a_get_changes_only_what_differs(database: TestDatabase) {
    let api = Api::start(&database).await;
    let changes = [
        ("title", "Buy oats"),
        ("title", "Home"),
        ("displayName", "Ann"),
        ("filter", "state = OPEN"),
        ("label", "Nightly backup"),
    ];
    for (path, (field, value)) in api.paths().await.iter().zip(changes) {
        let read = api.get(path).await;
        let (status, updated) = api.send("PATCH", path, &read).await;
        assert_eq!((status, without_version(&updated)), (200, without_version(&read)));
        let renamed = with(&updated, field, json!(value));
        // The time of the last update differs after an update by somebody else.
        let has_update_time = read.get("updateTime").is_some();
        let older =
            if has_update_time { with(&renamed, "updateTime", json!("2020-01-01T00:00:00Z")) } else { renamed.clone() };
        let (status, updated) = api.send("PATCH", path, &older).await;
        assert_eq!((status, without_version(&updated)), (200, without_version(&renamed)));
        if !read["etag"].is_null() {
            assert_eq!(api.send("PATCH", path, &read).await.0, 409, "the etag is that of the object that was read");
        }
    }
}

async fn a_patch_with_another_value_of_a_read_only_field_is_refused_by_name(database: TestDatabase) {
    let api = Api::start(&database).await;
    let [task, list, user, webhook, token] = api.paths().await;
    let other_id = "0198c0de-0000-7000-8000-000000000000";
    for (path, field, value, name) in [
        (&task, "state", json!("STATE_COMPLETED"), "task.state"),
        (&task, "listId", json!(other_id), "task.list_id"),
        (&task, "createTime", json!("2020-01-01T00:00:00Z"), "task.create_time"),
        (&task, "completeTime", json!("2020-01-01T00:00:00Z"), "task.complete_time"),
        (&task, "rank", Value::Null, "task.rank"),
        (&list, "isDefault", json!(true), "task_list.is_default"),
        (&list, "ownerId", json!(other_id), "task_list.owner_id"),
        (&user, "email", json!("bob@example.com"), "user.email"),
        (&user, "roles", json!(["admin"]), "user.roles"),
        (&webhook, "createTime", json!("2020-01-01T00:00:00Z"), "webhook.create_time"),
        (&webhook, "secret", json!("whsec_AAAA"), "webhook.secret"),
        (&token, "scopes", json!(["tasks.write"]), "personal_access_token.scopes"),
    ] {
        let read = api.get(path).await;
        let (status, error) = api.send("PATCH", path, &with(&read, field, value)).await;
        let violation = &error["error"]["details"].as_array().expect("details")[..];
        assert_eq!(status, 400, "{field}: {error}");
        assert!(violation.iter().any(|detail| detail["fieldViolations"][0]["field"] == name), "{field}: {error}");
        // A mask of the client must not contain such a field, even if the value is the current one.
        let (status, error) = api.send("PATCH", &format!("{path}?updateMask={field}"), &read).await;
        assert!(status == 400 && error.to_string().contains("update_mask"), "{field}: {error}");
        assert_eq!(api.get(path).await, read, "nothing has changed");
    }
}
