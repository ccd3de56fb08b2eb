//! Adding, listing, renaming and deleting passkeys.

use futures::future::join;
use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::auth::v1::{
    AuditEvent, BeginPasskeyRequest, DeleteFactorRequest, Factor, FinishPasskeyRequest, FinishPasskeyResponse,
    ListFactorsRequest, ListMySecurityEventsRequest, UpdateFactorRequest, audit_event::Kind, factor::Type,
    factor_service_client::FactorServiceClient,
};

use super::{
    authenticator::Authenticator,
    support::{add_passkey, creation_options, factors, finish_registration, log_in, start},
};
use crate::support::{Server, bearer, query_string, run_program, start_replica_with};

const OTHER_ORIGIN: &str = "https://todo.example.org";

on_each_database! {
    passkey_is_a_factor_until_it_is_deleted,
    responses_of_other_registrations_are_refused,
    account_has_at_most_ten_passkeys,
    passkeys_belong_to_the_first_site,
    site_can_change_when_no_passkey_is_left,
    concurrent_registrations_belong_to_one_site,
    deleted_account_leaves_no_passkey,
}

async fn passkey_is_a_factor_until_it_is_deleted(database: TestDatabase) {
    let (server, pair) = start(database).await;
    let (token, mut client) = (&pair.access_token, factors(&server));
    let mut device = Authenticator::new();
    let added = add_passkey(&server, token, &mut device).await.expect("added");
    let factor = added.factor.expect("a factor");
    assert_eq!((factor.r#type(), factor.label.as_str(), factor.last_use_time), (Type::Passkey, "phone", None));
    assert_eq!(added.recovery_codes.len(), 10, "it is the first factor");
    let second = add_passkey(&server, token, &mut Authenticator::new()).await.expect("added");
    assert!(second.recovery_codes.is_empty());

    let renamed = Factor { label: "key".to_owned(), ..factor.clone() };
    let request = UpdateFactorRequest { factor: Some(renamed), update_mask: None };
    client.update_factor(bearer(token, request)).await.expect("renamed");
    log_in(&server, &mut device).await.expect("logged in");
    let listed = client.list_factors(bearer(token, ListFactorsRequest {})).await.expect("listed").into_inner().factors;
    let labels: Vec<_> = listed.iter().map(|factor| (factor.label.as_str(), factor.last_use_time.is_some())).collect();
    assert_eq!(labels, [("phone", false), ("key", true)]);

    let request = DeleteFactorRequest { factor_id: factor.id.clone() };
    client.delete_factor(bearer(token, request)).await.expect("deleted");
    assert_refused!(log_in(&server, &mut device).await, Unauthenticated, "PASSKEY_INVALID");
    let request = ListMySecurityEventsRequest { page_size: 100, page_token: String::new() };
    let events = server.account().list_my_security_events(bearer(token, request)).await.expect("listed").into_inner();
    let of_factor = events.events.iter().filter(|event| event.details.get("factor_id") == Some(&factor.id));
    let kinds: Vec<_> = of_factor.map(AuditEvent::kind).collect();
    assert_eq!(kinds, [Kind::FactorDeleted, Kind::FactorUpdated, Kind::FactorAdded]);
    server.stop().await;
}

async fn responses_of_other_registrations_are_refused(database: TestDatabase) {
    let (server, pair) = start(database).await;
    let token = &pair.access_token;
    let other = server.sign_up_and_login("ben@example.com").await;
    let mut device = Authenticator::new();
    let options = creation_options(&server, token).await;
    let response = device.create(&options);
    for (what, token, response) in [
        ("another account", &other.access_token, response.clone()),
        ("another origin", token, device.with_origin("https://example.com").create(&options)),
        ("another site", token, device.create(&options.replace("tasks.example.org", "example.com"))),
        ("a login", token, device.get(&super::support::login_options(&server).await)),
        ("no JSON", token, "{".to_owned()),
    ] {
        let status = finish_registration(&server, token, response).await.expect_err(what);
        assert_refused!(Err::<(), _>(status), InvalidArgument, "PASSKEY_INVALID", "response");
    }
    finish_registration(&server, token, response.clone()).await.expect("added");
    let repeated = finish_registration(&server, token, response).await;
    assert_refused!(repeated, InvalidArgument, "PASSKEY_INVALID", "response");
    // Authenticators refuse this by themselves, because the options list their passkey.
    let again = device.create(&creation_options(&server, &other.access_token).await);
    let existing = finish_registration(&server, &other.access_token, again).await;
    assert_refused!(existing, AlreadyExists, "PASSKEY_EXISTS");
    server.stop().await;
}

async fn account_has_at_most_ten_passkeys(database: TestDatabase) {
    let (server, pair) = start(database).await;
    for _ in 0..10 {
        add_passkey(&server, &pair.access_token, &mut Authenticator::new()).await.expect("added");
    }
    let added = add_passkey(&server, &pair.access_token, &mut Authenticator::new()).await;
    assert_refused!(added, ResourceExhausted, "QUOTA_EXCEEDED");
    server.stop().await;
}

async fn passkeys_belong_to_the_first_site(database: TestDatabase) {
    let (server, pair) = start(database).await;
    add_passkey(&server, &pair.access_token, &mut Authenticator::new()).await.expect("added");
    let server = Server::start_with(server.stop().await, &["--public-url", "https://todo.example.org"]).await;
    let added = add_passkey(&server, &pair.access_token, &mut Authenticator::new()).await;
    assert_refused!(added, FailedPrecondition, "PASSKEYS_DISABLED");
    let database = server.stop().await;
    for (url, level) in [("https://tasks.example.org", "ok"), ("https://todo.example.org", "warning")] {
        let keys = database.key_file().display().to_string();
        let flags = ["doctor", "--json", "--key-file", &keys, "--public-url", url];
        let report: serde_json::Value = serde_json::from_str(&run_program(&database, &flags).1).expect("JSON");
        let findings = report["findings"].as_array().expect("an array");
        let finding = findings.iter().find(|finding| finding["name"] == "passkeys").expect("checked");
        assert_eq!(finding["level"], level, "{finding}");
    }
}

async fn delete_passkey(server: &Server, access_token: &str, added: FinishPasskeyResponse) {
    let request = DeleteFactorRequest { factor_id: added.factor.expect("a factor").id };
    factors(server).delete_factor(bearer(access_token, request)).await.expect("deleted");
}

async fn site_can_change_when_no_passkey_is_left(database: TestDatabase) {
    let (server, ann) = start(database).await;
    let ben = server.sign_up_and_login("ben@example.com").await;
    let of_ann = add_passkey(&server, &ann.access_token, &mut Authenticator::new()).await.expect("added");
    let of_ben = add_passkey(&server, &ben.access_token, &mut Authenticator::new()).await.expect("added");
    let server = Server::start_with(server.stop().await, &["--public-url", OTHER_ORIGIN]).await;
    let mut device = Authenticator::new().with_origin(OTHER_ORIGIN);
    for (token, passkey) in [(&ann.access_token, of_ann), (&ben.access_token, of_ben)] {
        let added = add_passkey(&server, &ann.access_token, &mut device).await;
        assert_refused!(added, FailedPrecondition, "PASSKEYS_DISABLED");
        delete_passkey(&server, token, passkey).await;
    }
    add_passkey(&server, &ann.access_token, &mut device).await.expect("added");
    log_in(&server, &mut device).await.expect("logged in");
    let server = Server::start_with(server.stop().await, &super::support::FLAGS).await;
    let added = add_passkey(&server, &ben.access_token, &mut Authenticator::new()).await;
    assert_refused!(added, FailedPrecondition, "PASSKEYS_DISABLED");
    server.stop().await;
}

async fn concurrent_registrations_belong_to_one_site(database: TestDatabase) {
    let (server, ann) = start(database).await;
    let ben = server.sign_up_and_login("ben@example.com").await;
    let replica = start_replica_with(&server, server.clock.clone(), &["--public-url", OTHER_ORIGIN]).await;
    let mut other = FactorServiceClient::new(replica.channel.clone());
    for _ in 0..5 {
        let of_ann = Authenticator::new().create(&creation_options(&server, &ann.access_token).await);
        let begun = other.begin_passkey(bearer(&ben.access_token, BeginPasskeyRequest {})).await.expect("options");
        let mut device = Authenticator::new().with_origin(OTHER_ORIGIN);
        let (response, label) = (device.create(&begun.into_inner().options), "phone".to_owned());
        let finish = other.finish_passkey(bearer(&ben.access_token, FinishPasskeyRequest { response, label }));
        let (of_ann, of_ben) = join(finish_registration(&server, &ann.access_token, of_ann), finish).await;
        match (of_ann, of_ben) {
            (Ok(added), refused) => {
                assert_refused!(refused, FailedPrecondition, "PASSKEYS_DISABLED");
                delete_passkey(&server, &ann.access_token, added).await;
            }
            (refused, added) => {
                assert_refused!(refused, FailedPrecondition, "PASSKEYS_DISABLED");
                delete_passkey(&server, &ben.access_token, added.expect("one was added").into_inner()).await;
            }
        }
    }
    replica.stop().await;
    server.stop().await;
}

async fn deleted_account_leaves_no_passkey(database: TestDatabase) {
    let (server, pair) = start(database).await;
    let mut device = Authenticator::new();
    add_passkey(&server, &pair.access_token, &mut device).await.expect("added");
    server.delete_me(&pair.access_token, crate::support::PASSWORD).await.expect("deleted");
    assert_refused!(log_in(&server, &mut device).await, Unauthenticated, "PASSKEY_INVALID");
    let rows = "select cast((select count(*) from passkeys) + (select count(*) from passkey_users) as text)";
    assert_eq!(query_string(&server.database, rows).await, "0");
    server.stop().await;
}
