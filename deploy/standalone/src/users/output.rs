//! Prints accounts and sessions: one per line, either columns that are separated by tabs, or JSON with the fields of the API.

use prost_types::Timestamp;
use serde_json::{Value, json};
use taskey_proto::auth::v1::{Session, User};

/// Returns the line of an account.
pub fn user(user: &User, as_json: bool) -> String {
    if as_json {
        return without_nulls(json!({
            "id": user.id,
            "email": user.email,
            "displayName": user.display_name,
            "emailVerified": user.email_verified,
            "roles": user.roles,
            "disabled": user.disabled,
            "createTime": time(user.create_time),
            "updateTime": time(user.update_time),
        }));
    }
    let state = if user.disabled { "disabled" } else { "enabled" };
    let create_time = time(user.create_time).unwrap_or_default();
    columns(&[&user.id, &user.email, &user.roles.join(","), state, &create_time])
}

/// Returns the line of a session.
pub fn session(session: &Session, as_json: bool) -> String {
    let (create_time, last_used_time) = (time(session.create_time), time(session.last_used_time));
    if as_json {
        return without_nulls(json!({
            "id": session.id,
            "label": session.label,
            "userAgent": session.user_agent,
            "ipAddress": session.ip_address,
            "createTime": create_time,
            "lastUsedTime": last_used_time,
            "expireTime": time(session.expire_time),
            "current": session.current,
            "scopes": session.scopes,
        }));
    }
    let (create_time, last_used_time) = (create_time.unwrap_or_default(), last_used_time.unwrap_or_default());
    columns(&[&session.id, &session.label, &session.ip_address, &create_time, &last_used_time])
}

/// Returns the line after sessions were revoked.
pub fn revoked(count: i32, as_json: bool) -> String {
    if as_json { json!({ "revokedCount": count }).to_string() } else { format!("revoked sessions: {count}") }
}

fn time(time: Option<Timestamp>) -> Option<String> {
    time.map(|time| time.to_string())
}

/// Joins values with tabs. Values come from users, so control characters are replaced: they could change the columns, or
/// what the terminal shows.
fn columns(values: &[&str]) -> String {
    let clean = values.iter().map(|value| value.replace(char::is_control, "\u{fffd}"));
    clean.collect::<Vec<_>>().join("\t")
}

/// Removes the members that are null, as the API does.
fn without_nulls(mut object: Value) -> String {
    if let Value::Object(members) = &mut object {
        members.retain(|_, value| !value.is_null());
    }
    object.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_cannot_change_the_columns_or_the_terminal() {
        let hostile = Session { label: "a\tb\n\u{1b}[2J".to_owned(), ..Session::default() };
        let line = session(&hostile, false);
        assert_eq!(line.matches('\t').count(), 4);
        assert!(!line.contains(['\n', '\u{1b}']), "{line:?}");
    }

    #[test]
    fn json_has_the_members_of_the_api_without_times_that_are_not_set() {
        let create_time = Some(Timestamp { seconds: 1_800_000_000, nanos: 0 });
        let ann = User { email: "ann@example.com".to_owned(), create_time, ..User::default() };
        let expected = json!({
            "id": "", "email": "ann@example.com", "displayName": "", "emailVerified": false, "roles": [], "disabled": false,
            "createTime": "2027-01-15T08:00:00Z",
        });
        assert_eq!(user(&ann, true), expected.to_string());
    }
}
