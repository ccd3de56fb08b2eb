//! The limits of personal access tokens: valid requests, their number, their networks, and exchanges of unknown ones.

use std::time::Duration;

use futures::future::join_all;
use service_kit::{
    assert_refused,
    auth::personal_access_token::PersonalAccessToken as Secret,
    on_each_database, random,
    testing::{TestDatabase, refusal},
};
use taskey_proto::auth::v1::{CreatePersonalAccessTokenRequest, PersonalAccessToken, UpdatePersonalAccessTokenRequest};
use tokio::time::Instant;

use crate::{
    personal_access_tokens::{DAY, await_acceptance, client, create, created, delete, list, with_scopes},
    support::{PASSWORD, Server, bearer, execute},
};

on_each_database! {
    invalid_requests_are_refused,
    an_account_has_at_most_fifty_tokens_beside_its_sessions,
    a_token_is_refused_outside_its_networks,
    an_update_cannot_change_other_fields,
    unknown_tokens_are_limited_and_do_not_affect_others,
}

async fn invalid_requests_are_refused(database: TestDatabase) {
    let server = Server::start(database).await;
    let access = server.sign_up_and_login("ann@example.com").await.access_token;
    for (scopes, field) in [
        (&[][..], "scopes"),
        (&["tasks.read", "tasks.delete"], "scopes[1]"),
        (&["tasks.read", "tasks.read"], "scopes[1]"),
        (&["public"], "scopes[0]"),
        (&["clients.forward"], "scopes[0]"),
        (&["admin.read"], "scopes[0]"),
        (&["tokens.verify"], "scopes[0]"),
        (&["tasks.read"; 9], "scopes"),
    ] {
        let outcome = create(&server, &access, with_scopes(scopes)).await;
        assert_refused!(outcome, InvalidArgument, "VALIDATION_FAILED", field);
    }
    let valid = with_scopes(&["tasks.read"]);
    for (networks, field) in [
        (vec!["192.0.2.0/33"], "networks[0]"),
        (vec!["192.0.2.1", "192.0.2.1/32"], "networks[1]"),
        (vec!["localhost"], "networks[0]"),
        (vec!["192.0.2.1"; 21], "networks"),
    ] {
        let networks = networks.into_iter().map(str::to_owned).collect();
        let outcome = create(&server, &access, CreatePersonalAccessTokenRequest { networks, ..valid.clone() }).await;
        assert_refused!(outcome, InvalidArgument, "VALIDATION_FAILED", field);
    }
    let now = server.clock.now();
    for at in [now, now - DAY, now + 367 * DAY] {
        let expire_time = Some(at.into());
        let outcome = create(&server, &access, CreatePersonalAccessTokenRequest { expire_time, ..valid.clone() }).await;
        assert_refused!(outcome, InvalidArgument, "VALIDATION_FAILED", "expire_time");
    }
    for label in [String::new(), "x".repeat(101), "two\nlines".to_owned()] {
        let outcome = create(&server, &access, CreatePersonalAccessTokenRequest { label, ..valid.clone() }).await;
        assert_refused!(outcome, InvalidArgument, "VALIDATION_FAILED", "label");
    }
    execute(&server.database, "update users set roles = 'admin verifier'").await;
    created(&server, &access, &["admin.read", "tokens.verify"]).await;
    server.stop().await;
}

async fn an_account_has_at_most_fifty_tokens_beside_its_sessions(database: TestDatabase) {
    let server = Server::start(database).await;
    let pair = server.sign_up_and_login("ann@example.com").await;
    let create_one = || create(&server, &pair.access_token, with_scopes(&["account.read"]));
    let outcomes = join_all((0..60).map(|_| create_one())).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 50);
    for outcome in outcomes.into_iter().filter(Result::is_err) {
        assert_refused!(outcome, ResourceExhausted, "QUOTA_EXCEEDED");
    }
    let tokens = list(&server, &pair.access_token).await;
    assert_eq!(tokens.len(), 50);
    delete(&server, &pair.access_token, &tokens[0].id).await.expect("deleted");
    let token = create_one().await.expect("there is room for one");
    for _ in 0..19 {
        server.login("ann@example.com", PASSWORD).await.expect("logged in");
    }
    server.refresh(&pair.refresh_token).await.expect("the first of 20 sessions is still active");
    server.get_me(&token.secret).await.expect("logins do not end tokens");
    server.stop().await;
}

async fn a_token_is_refused_outside_its_networks(database: TestDatabase) {
    let server = Server::start(database).await;
    let access = server.sign_up_and_login("ann@example.com").await.access_token;
    let networks = vec!["198.51.100.0/24".to_owned()];
    let request = CreatePersonalAccessTokenRequest { networks, ..with_scopes(&["account.read"]) };
    let token = create(&server, &access, request).await.expect("created");
    assert_refused!(server.get_me(&token.secret).await, Unauthenticated, "TOKEN_INVALID");
    assert_eq!(list(&server, &access).await[0].last_use_date, "", "it was not used");

    let update = async |networks: &[&str]| {
        let networks = networks.iter().map(|network| (*network).to_owned()).collect();
        let personal_access_token = PersonalAccessToken { id: token.id.clone(), networks, ..Default::default() };
        let update_mask = Some(prost_types::FieldMask { paths: vec!["networks".to_owned()] });
        let personal_access_token = Some(personal_access_token);
        let request = UpdatePersonalAccessTokenRequest { personal_access_token, update_mask };
        client(&server).update_personal_access_token(bearer(&access, request)).await.expect("updated").into_inner()
    };
    let updated = update(&["198.51.100.0/24", "127.1.2.3/8"]).await;
    assert_eq!((updated.networks, updated.label), (vec!["198.51.100.0/24".into(), "127.0.0.0/8".into()], token.label));
    await_acceptance(&server, &token.secret).await;
    let updated_at = Instant::now();
    update(&["198.51.100.0/24"]).await;
    server.await_refusal(&token.secret).await;
    assert!(updated_at.elapsed() < Duration::from_secs(1));
    server.stop().await;
}

async fn an_update_cannot_change_other_fields(database: TestDatabase) {
    let server = Server::start(database).await;
    let access = server.sign_up_and_login("ann@example.com").await.access_token;
    let secret = created(&server, &access, &["tasks.read"]).await.secret;
    let [token] = &list(&server, &access).await[..] else { panic!("one token") };
    let update = async |token: PersonalAccessToken, paths: &[&str], is_derived: bool| {
        let paths = paths.iter().map(|path| (*path).to_owned()).collect();
        let update_mask = Some(prost_types::FieldMask { paths });
        let request = UpdatePersonalAccessTokenRequest { personal_access_token: Some(token), update_mask };
        let mut request = bearer(&access, request);
        if is_derived {
            request.metadata_mut().insert("taskey-derived-mask", "true".parse().expect("a value"));
        }
        client(&server).update_personal_access_token(request).await.map(tonic::Response::into_inner)
    };
    let all = ["label", "scopes", "expire_time", "networks", "create_time", "last_use_date", "secret"];
    let renamed = PersonalAccessToken { label: "nightly".to_owned(), ..token.clone() };
    assert_eq!(update(renamed.clone(), &all, true).await.expect("the other values are the current ones"), renamed);
    let only_id = PersonalAccessToken { id: token.id.clone(), ..Default::default() };
    for path in ["id", "scopes", "expire_time", "create_time", "last_use_date", "secret", "session_id"] {
        for token in [only_id.clone(), renamed.clone()] {
            let outcome = update(token, &[path], false).await;
            assert_refused!(outcome, InvalidArgument, "VALIDATION_FAILED", "update_mask");
        }
    }
    for path in ["scopes", "expire_time", "create_time"] {
        let field = format!("personal_access_token.{path}");
        let outcome = update(only_id.clone(), &[path], true).await;
        assert_refused!(outcome, InvalidArgument, "VALIDATION_FAILED", &*field);
    }
    let outcome = update(only_id, &["session_id"], true).await;
    assert_refused!(outcome, InvalidArgument, "VALIDATION_FAILED", "update_mask");
    for (field, other) in [
        ("scopes", PersonalAccessToken { scopes: vec!["tasks.write".to_owned()], ..token.clone() }),
        ("secret", PersonalAccessToken { secret, ..token.clone() }),
    ] {
        let path = format!("personal_access_token.{field}");
        let outcome = update(other, &["label", "scopes", "secret"], true).await;
        assert_refused!(outcome, InvalidArgument, "VALIDATION_FAILED", &*path);
    }
    assert_eq!(list(&server, &access).await, [renamed]);
    server.stop().await;
}

async fn unknown_tokens_are_limited_and_do_not_affect_others(database: TestDatabase) {
    let server = Server::start(database).await;
    let access = server.sign_up_and_login("ann@example.com").await.access_token;
    let token = created(&server, &access, &["account.read"]).await;
    server.get_me(&token.secret).await.expect("permitted");
    let reason = async |token: &str| refusal(&server.get_me(token).await.expect_err("refused")).1;
    for _ in 0..300 {
        let wrong_checksum = format!("{}00000000", &token.secret[..88]);
        assert_eq!(reason(&wrong_checksum).await, "TOKEN_INVALID", "refused without an exchange");
    }
    let mut reasons = Vec::new();
    for _ in 0..120 {
        let (unknown, _) = Secret::generate(random::id());
        reasons.push(reason(&unknown).await);
    }
    assert_eq!(reasons[..99], ["TOKEN_INVALID"; 99]);
    assert_eq!(reasons[100..], ["RATE_LIMITED"; 20]);
    server.get_me(&token.secret).await.expect("it is remembered");
    server.get_me(&access).await.expect("access tokens are not affected");
    server.stop().await;
}
