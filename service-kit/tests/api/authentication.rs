//! How and when the user has proved their identity: the claims `amr` and `auth_time`.

use serde_json::{Value, json};
use service_kit::{
    auth::{
        authentication::{AuthMethods, Authentication},
        token::TokenError,
    },
    clock::Timestamp,
};

use crate::token::{NOW, claims, forge, header, verify, with};

#[test]
fn authentication_is_that_of_the_claims() {
    let authentication = |amr: Value, auth_time: Value| {
        let claims = with(serde_json::from_str(&with(claims(), "amr", amr)).expect("JSON"), "auth_time", auth_time);
        verify(&forge(&header().to_string(), &claims)).map(|claims| claims.authentication)
    };
    let expected =
        Authentication { methods: AuthMethods::from_names(["pwd"]), time: Timestamp::from_seconds(NOW - 60) };
    assert_eq!(authentication(json!(["pwd", "face"]), json!(NOW - 60)), Ok(Some(expected)));
    let at_issue = Authentication { time: Timestamp::from_seconds(NOW - 10), ..expected };
    assert_eq!(authentication(json!(["pwd"]), json!(NOW)), Ok(Some(at_issue)), "not after the token was issued");
    for (amr, auth_time) in [
        (json!("pwd"), json!(NOW - 60)),
        (json!([1]), json!(NOW - 60)),
        (json!(null), json!(NOW - 60)),
        (json!(["pwd"]), json!(null)),
        (json!(["pwd"]), json!("1")),
        (json!(["pwd"]), json!(1.5)),
    ] {
        assert_eq!(authentication(amr.clone(), auth_time.clone()), Err(TokenError::Invalid), "{amr} {auth_time}");
    }
}
