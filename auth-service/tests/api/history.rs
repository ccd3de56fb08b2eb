//! Page tokens after the database has lost history, and times of updates although the clock has gone back.

use std::time::Duration;

use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::auth::v1::{ListMySecurityEventsRequest, UpdateMeRequest, User};
use tokio::time::timeout;

use crate::support::{Server, bearer, execute};

on_each_database! {
    a_page_token_of_a_lost_history_is_refused,
    update_time_increases_although_the_clock_has_gone_back,
}

async fn a_page_token_of_a_lost_history_is_refused(database: TestDatabase) {
    let server = Server::start(database).await;
    let ann = server.sign_up_and_login("ann@example.com").await;
    let list = async |page_token: &str| {
        let request = ListMySecurityEventsRequest { page_size: 1, page_token: page_token.to_owned() };
        server.account().list_my_security_events(bearer(&ann.access_token, request)).await
    };
    let page_token = list("").await.expect("a page").into_inner().next_page_token;
    list(&page_token).await.expect("the token is valid");

    // A restored database has another epoch. Any id will do.
    execute(&server.database, "update feed set epoch = (select id from users)").await;

    let noticed = async { while list(&page_token).await.is_ok() {} };
    timeout(Duration::from_secs(30), noticed).await.expect("the new epoch is noticed");
    assert_refused!(list(&page_token).await, InvalidArgument, "PAGE_TOKEN_INVALID", "page_token");
    let page_token = list("").await.expect("a page").into_inner().next_page_token;
    list(&page_token).await.expect("a new token is valid");
    server.stop().await;
}

async fn update_time_increases_although_the_clock_has_gone_back(database: TestDatabase) {
    let server = Server::start(database).await;
    let ann = server.sign_up_and_login("ann@example.com").await;
    // As if a replica with a clock that is an hour ahead had changed the account.
    execute(&server.database, "update users set updated_at = updated_at + 3600000000").await;
    let mut before = server.get_me(&ann.access_token).await.expect("returned").update_time.expect("a time");
    for name in ["Ann", "Bee"] {
        let user = Some(User { display_name: name.to_owned(), ..User::default() });
        let request = UpdateMeRequest { user, ..UpdateMeRequest::default() };
        let updated = server.account().update_me(bearer(&ann.access_token, request)).await.expect("changed");
        let after = updated.into_inner().update_time.expect("a time");
        assert!((after.seconds, after.nanos) > (before.seconds, before.nanos), "{after:?}");
        before = after;
    }
    server.stop().await;
}
