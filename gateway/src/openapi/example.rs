//! Examples for the RPCs that a new user calls first: sign up, log in, create a task.

use serde_json::{Value, json};

/// Returns the example of a request body of an RPC, if there is one.
#[must_use]
pub fn request(rpc: &str) -> Option<Value> {
    Some(match rpc {
        "taskey.auth.v1.AuthService.SignUp" => {
            json!({"email": "ann@example.com", "password": "correct horse battery staple", "displayName": "Ann"})
        }
        "taskey.auth.v1.AuthService.Login" => {
            json!({
                "email": "ann@example.com",
                "password": "correct horse battery staple",
                "sessionLabel": "Ann's phone",
            })
        }
        "taskey.task.v1.TaskService.CreateTask" => {
            json!({
                "title": "Buy milk",
                "notes": "Two litres.",
                "priority": "PRIORITY_HIGH",
                "dueDate": "2026-11-30",
                "timeZone": "Europe/Berlin",
                "labels": ["home"],
            })
        }
        _ => return None,
    })
}

/// Returns the response of an RPC to its example request.
#[must_use]
pub fn response(rpc: &str) -> Option<Value> {
    let user = json!({
        "id": "019ab2c4-7d10-7c3e-9a51-0b8f6d2e4c11",
        "email": "ann@example.com",
        "displayName": "Ann",
        "emailVerified": false,
        "roles": [],
        "disabled": false,
        "createTime": "2026-11-23T08:00:00.123456Z",
        "updateTime": "2026-11-23T08:00:00.123456Z",
    });
    Some(match rpc {
        "taskey.auth.v1.AuthService.SignUp" => user,
        "taskey.auth.v1.AuthService.Login" => json!({
            "accessToken": "eyJ0eXAiOiJhdCtqd3QiLCJhbGciOiJIUzI1NiJ9…",
            "refreshToken": "AZqyxH0QfD6aUQuPbS5MEQAAAAA…",
            "tokenType": "Bearer",
            "accessExpireTime": "2026-11-23T08:05:00Z",
            "refreshExpireTime": "2026-11-30T08:00:00Z",
            "sessionId": "019ab2c5-1e42-7f0a-8d36-5c9be0a7f3d2",
            "user": user,
        }),
        "taskey.task.v1.TaskService.CreateTask" => json!({
            "id": "019ab2c6-93b8-7a15-b2c7-e4d80f61a935",
            "title": "Buy milk",
            "notes": "Two litres.",
            "state": "STATE_OPEN",
            "priority": "PRIORITY_HIGH",
            "dueDate": "2026-11-30",
            "ownerId": "019ab2c4-7d10-7c3e-9a51-0b8f6d2e4c11",
            "createTime": "2026-11-23T08:01:00.654321Z",
            "updateTime": "2026-11-23T08:01:00.654321Z",
            "etag": "\"1\"",
            "listId": "019ab2c4-7d10-7c3e-9a51-0b8f6d2e4c12",
            "parentId": "",
            "timeZone": "Europe/Berlin",
            "labels": ["home"],
            "rank": "a0",
            "recurrenceText": "",
            "seriesId": "",
            "occurrenceDate": "",
            "nextTaskId": "",
            "reminders": [],
            "sourceId": "",
        }),
        _ => return None,
    })
}
