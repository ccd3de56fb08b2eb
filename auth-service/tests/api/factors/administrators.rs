//! Administrators can delete the factors of an account whose owner has lost them.

use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::auth::v1::{
    DeleteUserFactorsRequest, ListAuditEventsRequest, admin_service_client::AdminServiceClient, audit_event::Kind,
};
use tonic::Status;

use super::{enroll, list_factors};
use crate::{
    forged_claims::sign_up_admin,
    mail,
    support::{PASSWORD, Server, bearer, user_id},
};

on_each_database! {
    an_administrator_deletes_the_factors_of_an_account,
    only_administrators_delete_the_factors_of_others,
}

async fn delete_factors(server: &Server, access_token: &str, user_id: &str) -> Result<i32, Status> {
    let request = bearer(access_token, DeleteUserFactorsRequest { user_id: user_id.to_owned() });
    let deleted = AdminServiceClient::new(server.channel.clone()).delete_user_factors(request).await?;
    Ok(deleted.into_inner().deleted_count)
}

async fn an_administrator_deletes_the_factors_of_an_account(database: TestDatabase) {
    let (server, mailbox) = mail::start(database).await;
    let admin = sign_up_admin(&server).await;
    let ann = enroll(&server, "ann@example.com").await;
    let id = user_id(&ann.pair);
    let mails = mailbox.await_mail("ann@example.com", 2).await;
    assert!(mails.contains("second factors"));
    assert_eq!(delete_factors(&server, &admin.access_token, &id).await.expect("deleted"), 1);
    assert_eq!(delete_factors(&server, &admin.access_token, &id).await.expect("there are none"), 0);
    let notice = mailbox.await_mail("ann@example.com", 3).await;
    assert!(notice.contains("\nSubject: The second factors of your account were changed\n"), "{notice}");
    assert_eq!(list_factors(&server, &ann.pair.access_token).await.unused_recovery_codes, 0);
    let pair = server.login("ann@example.com", PASSWORD).await.expect("logged in");
    assert!(pair.challenge.is_none(), "the password suffices");

    let request = ListAuditEventsRequest { kind: Kind::UserFactorsDeleted.into(), ..Default::default() };
    let listed = AdminServiceClient::new(server.channel.clone())
        .list_audit_events(bearer(&admin.access_token, request))
        .await
        .expect("listed");
    let [event] = &listed.into_inner().events[..] else { panic!("one event, although the RPC was called twice") };
    assert_eq!((&event.user_id, &event.actor_id), (&id, &user_id(&admin)));
    server.stop().await;
}

async fn only_administrators_delete_the_factors_of_others(database: TestDatabase) {
    let server = Server::start(database).await;
    let ann = enroll(&server, "ann@example.com").await;
    let bob = server.sign_up_and_login("bob@example.com").await;
    let outcome = delete_factors(&server, &bob.access_token, &user_id(&ann.pair)).await;
    assert_refused!(outcome, PermissionDenied, "PERMISSION_DENIED");
    let admin = sign_up_admin(&server).await;
    let unknown = server.clock.new_id().to_string();
    assert_refused!(delete_factors(&server, &admin.access_token, &unknown).await, NotFound, "USER_NOT_FOUND");
    let outcome = delete_factors(&server, &admin.access_token, "x").await;
    assert_refused!(outcome, InvalidArgument, "VALIDATION_FAILED", "user_id");
    server.stop().await;
}
