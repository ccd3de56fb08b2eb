//! Other services learn which accounts were deleted, disabled or enabled: by listing the changes, and on the revocation feed.

use service_kit::{args, assert_refused, db::Value, on_each_database, testing::TestDatabase};
use taskey_proto::auth::v1::{
    DisableUserRequest, EnableUserRequest, ListDeletedUsersResponse, ListUserChangesRequest, ListUserChangesResponse,
    TokenPair, UserChange, admin_service_client::AdminServiceClient, user_change::State,
};
use tonic::{Response, Status, transport::Channel};
use uuid::Uuid;

use crate::{
    deleted_users::{assert_reported, end_of_snapshot},
    forged_claims::sign_up_admin,
    migrations,
    support::{PASSWORD, Server, bearer, execute, start_replica, user_id, verifier_request},
};

on_each_database! {
    verifiers_page_through_the_last_changes_of_accounts_in_order,
    a_change_that_was_made_already_is_not_listed_again,
    the_list_of_deleted_accounts_leaves_out_other_changes,
    an_unknown_sequence_number_lists_from_the_start_and_a_negative_one_is_refused,
    listing_changes_of_accounts_requires_the_verifier_role,
    the_feed_reports_accounts_that_are_disabled_and_enabled,
    accounts_that_an_earlier_version_has_disabled_or_deleted_are_listed,
    a_change_by_an_earlier_version_is_listed_when_it_is_repeated,
}

/// A server with an administrator.
struct Fixture {
    server: Server,
    admin: TokenPair,
}

impl Fixture {
    async fn start(database: TestDatabase) -> Self {
        let server = Server::start(database).await;
        let admin = sign_up_admin(&server).await;
        Self { server, admin }
    }

    async fn sign_up(&self, name: &str) -> String {
        self.server.sign_up(&format!("{name}@example.com")).await.expect("signed up").id
    }

    async fn disable(&self, user_id: &str) {
        disable(&self.server.channel, &self.admin, user_id).await.expect("disabled");
    }

    async fn enable(&self, user_id: &str) {
        let request = bearer(&self.admin.access_token, EnableUserRequest { user_id: user_id.to_owned() });
        AdminServiceClient::new(self.server.channel.clone()).enable_user(request).await.expect("enabled");
    }

    /// Disables or enables an account.
    async fn set(&self, user_id: &str, state: State) {
        match state {
            State::Disabled => self.disable(user_id).await,
            _ => self.enable(user_id).await,
        }
    }

    async fn delete(&self, name: &str) {
        let pair = self.server.login(&format!("{name}@example.com"), PASSWORD).await.expect("logged in");
        self.server.delete_me(&pair.access_token, PASSWORD).await.expect("deleted");
    }
}

async fn disable(channel: &Channel, admin: &TokenPair, user_id: &str) -> Result<(), Status> {
    let request = bearer(&admin.access_token, DisableUserRequest { user_id: user_id.to_owned() });
    AdminServiceClient::new(channel.clone()).disable_user(request).await.map(drop)
}

/// Lists the changes as a verifier.
async fn list(server: &Server, after: i64, page_size: i32) -> Result<ListUserChangesResponse, Status> {
    let request = verifier_request(server, ListUserChangesRequest { after, page_size }).await;
    server.token().list_user_changes(request).await.map(Response::into_inner)
}

/// Returns a page with these changes.
fn page<'a>(changes: impl IntoIterator<Item = (&'a String, State)>, sequence: i64) -> ListUserChangesResponse {
    let change = |(user_id, state): (&String, State)| UserChange { user_id: user_id.clone(), state: state.into() };
    ListUserChangesResponse { changes: changes.into_iter().map(change).collect(), sequence }
}

async fn verifiers_page_through_the_last_changes_of_accounts_in_order(database: TestDatabase) {
    let fixture = Fixture::start(database).await;
    let server = &fixture.server;
    let (ann, bob, eve) = (fixture.sign_up("ann").await, fixture.sign_up("bob").await, fixture.sign_up("eve").await);
    assert_eq!(list(server, 0, 0).await.expect("a page"), page([], 0), "new accounts are not listed");
    fixture.disable(&ann).await;
    fixture.disable(&bob).await;
    fixture.delete("eve").await;
    assert_eq!(
        list(server, 0, 0).await.expect("a page"),
        page([(&ann, State::Disabled), (&bob, State::Disabled), (&eve, State::Deleted)], 3)
    );

    fixture.enable(&ann).await;
    let pages = [
        (0, page([(&bob, State::Disabled), (&eve, State::Deleted)], 3)),
        (3, page([(&ann, State::Enabled)], 4)),
        (4, page([], 4)),
    ];
    for (after, expected) in pages {
        assert_eq!(list(server, after, 2).await.expect("a page"), expected);
    }
    fixture.delete("ann").await;
    assert_eq!(
        list(server, 0, 0).await.expect("a page"),
        page([(&bob, State::Disabled), (&eve, State::Deleted), (&ann, State::Deleted)], 5)
    );
    fixture.server.stop().await;
}

async fn a_change_that_was_made_already_is_not_listed_again(database: TestDatabase) {
    let fixture = Fixture::start(database).await;
    let ann = fixture.sign_up("ann").await;
    fixture.enable(&ann).await;
    assert_eq!(list(&fixture.server, 0, 0).await.expect("a page"), page([], 0));
    for (state, sequence) in [(State::Disabled, 1), (State::Enabled, 2)] {
        for _ in 0..2 {
            fixture.set(&ann, state).await;
            assert_eq!(list(&fixture.server, 0, 0).await.expect("a page"), page([(&ann, state)], sequence));
        }
    }
    let own_id = user_id(&fixture.admin);
    let refused = disable(&fixture.server.channel, &fixture.admin, &own_id).await;
    assert_refused!(refused, FailedPrecondition, "LAST_ADMIN");
    assert_eq!(list(&fixture.server, 0, 0).await.expect("a page").sequence, 2, "nothing was changed");
    fixture.server.stop().await;
}

async fn the_list_of_deleted_accounts_leaves_out_other_changes(database: TestDatabase) {
    let fixture = Fixture::start(database).await;
    let server = &fixture.server;
    let (ann, bob, eve) = (fixture.sign_up("ann").await, fixture.sign_up("bob").await, fixture.sign_up("eve").await);
    fixture.disable(&ann).await;
    fixture.delete("bob").await;
    fixture.enable(&ann).await;
    fixture.delete("eve").await;
    fixture.disable(&ann).await;
    let deleted = |ids: &[&String], sequence| {
        let user_ids = ids.iter().map(|id| (*id).clone()).collect();
        ListDeletedUsersResponse { user_ids, sequence }
    };
    for (after, expected) in
        [(0, deleted(&[&bob], 2)), (2, deleted(&[&eve], 4)), (4, deleted(&[], 5)), (6, deleted(&[&bob], 2))]
    {
        assert_eq!(server.list_deleted_users(after, 1).await.expect("a page"), expected, "after {after}");
    }
    fixture.server.stop().await;
}

async fn an_unknown_sequence_number_lists_from_the_start_and_a_negative_one_is_refused(database: TestDatabase) {
    let fixture = Fixture::start(database).await;
    assert_eq!(list(&fixture.server, 7, 0).await.expect("a page"), page([], 0));
    let ann = fixture.sign_up("ann").await;
    fixture.disable(&ann).await;
    for unknown in [2, i64::MAX] {
        assert_eq!(list(&fixture.server, unknown, 0).await.expect("a page"), page([(&ann, State::Disabled)], 1));
    }
    let refused = list(&fixture.server, -1, -1).await;
    assert_refused!(refused, InvalidArgument, "VALIDATION_FAILED", "after", "page_size");
    fixture.server.stop().await;
}

async fn listing_changes_of_accounts_requires_the_verifier_role(database: TestDatabase) {
    let fixture = Fixture::start(database).await;
    let mut client = fixture.server.token();
    let request = ListUserChangesRequest::default();
    let outcome = client.list_user_changes(bearer(&fixture.admin.access_token, request)).await;
    assert_refused!(outcome, PermissionDenied, "PERMISSION_DENIED");
    assert_refused!(client.list_user_changes(request).await, Unauthenticated, "TOKEN_MISSING");
    fixture.server.stop().await;
}

async fn the_feed_reports_accounts_that_are_disabled_and_enabled(database: TestDatabase) {
    let fixture = Fixture::start(database).await;
    // Without a session, so that nothing is revoked.
    let ann = fixture.sign_up("ann").await;
    let (end, mut feed) = end_of_snapshot(&fixture.server).await;
    assert_eq!(end.last_deletion_sequence, 0);
    fixture.disable(&ann).await;
    assert_reported(&mut feed, 1).await;
    fixture.enable(&ann).await;
    assert_reported(&mut feed, 2).await;

    let other = start_replica(&fixture.server).await;
    disable(&other.channel, &fixture.admin, &ann).await.expect("disabled");
    assert_reported(&mut feed, 3).await;
    other.stop().await;
    fixture.server.stop().await;
}

async fn accounts_that_an_earlier_version_has_disabled_or_deleted_are_listed(database: TestDatabase) {
    const ACCOUNT: &str = "
        insert into users (id, email, display_name, password_hash, email_verified, roles, disabled, created_at, updated_at)
        values ($1, $2, '', '', false, '', $3, 5, 6)";
    const DELETION: &str = "insert into deleted_users (place, user_id) values ($1, $2)";
    const COUNT: &str = "update feed set last_deletion = last_deletion + 1";
    let [deleted, enabled, ann, bob] = [1, 2, 3, 4].map(Uuid::from_u128);
    let db = migrations::open(&database, 23).await;
    let account = |id: Uuid, disabled: bool| -> Vec<Value> { args![id, format!("{id}@example.com"), disabled] };
    for (sql, values) in [
        (COUNT, args![]),
        (DELETION, args![1_i64, deleted]),
        (ACCOUNT, account(enabled, false)),
        (ACCOUNT, account(bob, true)),
        (ACCOUNT, account(ann, true)),
    ] {
        db.execute(sql, values).await.expect("the statement succeeds");
    }
    db.close().await;
    let server = Server::start(database).await;
    let [deleted, ann, bob] = [deleted, ann, bob].map(|id| id.to_string());
    assert_eq!(
        list(&server, 0, 0).await.expect("a page"),
        page([(&deleted, State::Deleted), (&ann, State::Disabled), (&bob, State::Disabled)], 3)
    );
    assert_eq!(end_of_snapshot(&server).await.0.last_deletion_sequence, 3);

    // A replica of an earlier version, which runs beside this one, deletes an account.
    execute(&server.database, COUNT).await;
    let insert = "insert into deleted_users (place, user_id) select 4, id from users where email";
    execute(&server.database, format!("{insert} = '{ann}@example.com'")).await;
    assert_eq!(list(&server, 3, 0).await.expect("a page"), page([(&ann, State::Deleted)], 4));
    server.stop().await;
}

async fn a_change_by_an_earlier_version_is_listed_when_it_is_repeated(database: TestDatabase) {
    let fixture = Fixture::start(database).await;
    let ann = fixture.sign_up("ann").await;
    for (change, sequence) in [("true", 1), ("false", 2)] {
        let update = format!("update users set disabled = {change} where email = 'ann@example.com'");
        execute(&fixture.server.database, update).await;
        let state = if change == "true" { State::Disabled } else { State::Enabled };
        fixture.set(&ann, state).await;
        assert_eq!(list(&fixture.server, 0, 0).await.expect("a page"), page([(&ann, state)], sequence));
    }
    fixture.server.stop().await;
}
