//! Stores which accounts were deleted, disabled or enabled.

use std::collections::BTreeMap;

use service_kit::{
    args,
    auth::revocation::user_changes::{UserChangePage, UserState},
    clock::Timestamp,
    db::{Db, Error},
};
use uuid::Uuid;

use super::{removed_owners, sweep::sweep};
use crate::store::disabled_owners;

/// Returns the sequence number of the last change that was received.
///
/// # Errors
/// Those of the database.
pub(crate) async fn sequence(db: &Db) -> Result<i64, Error> {
    db.fetch_optional("select sequence from followed_user_changes", args![]).await?.ok_or(Error::RowNotFound)
}

/// Stores a page of changes, and its sequence number: deleted accounts are due for a sweep at `now`, and disabled ones send
/// nothing. Does nothing if another replica has stored the page already. Its changes could otherwise replace later ones.
///
/// # Errors
/// Those of the database.
pub(crate) async fn receive(db: &Db, now: Timestamp, page: UserChangePage) -> Result<(), Error> {
    const ADVANCE: &str = "update followed_user_changes set sequence = $2 where sequence = $1";
    let is_restored = page.is_restored();
    let UserChangePage { changes, after, sequence } = page;
    // Of several changes of an account, the last one counts.
    let states: BTreeMap<Uuid, UserState> = changes.iter().map(|change| (change.user_id, change.state)).collect();
    let owners_with = |wanted| states.iter().filter(|(_, state)| **state == wanted).map(|(owner, _)| *owner).collect();
    let [deleted, disabled, enabled]: [Vec<Uuid>; 3] =
        [UserState::Deleted, UserState::Disabled, UserState::Enabled].map(owners_with);
    sweep(db, move |conn| {
        Box::pin(async move {
            disabled_owners::lock_within(conn).await?;
            if conn.execute(ADVANCE, args![after, sequence]).await? == 0 {
                return Ok(());
            }
            if is_restored {
                disabled_owners::clear_within(conn).await?;
            }
            removed_owners::insert_within(conn, now, &deleted).await?;
            disabled_owners::delete_within(conn, &deleted).await?;
            disabled_owners::insert_within(conn, &disabled).await?;
            disabled_owners::enable_within(conn, now, &enabled).await
        })
    })
    .await
}

#[cfg(test)]
mod tests {
    use service_kit::{
        auth::revocation::user_changes::UserChange, clock::Clock, on_each_database, testing::TestDatabase,
    };

    use super::*;
    use crate::store::{disabled_owners::is_disabled, tests::open};

    on_each_database!(
        a_page_that_another_replica_has_stored_does_not_undo_later_changes,
        a_restored_list_forgets_disabled_accounts_that_are_not_on_its_first_page,
        the_last_change_of_an_account_counts,
    );

    const ANN: Uuid = Uuid::from_u128(1);
    const BOB: Uuid = Uuid::from_u128(2);

    async fn receive_page(db: &Db, changes: &[(Uuid, UserState)], after: i64, sequence: i64) {
        let changes = changes.iter().map(|(user_id, state)| UserChange { user_id: *user_id, state: *state }).collect();
        let page = UserChangePage { changes, after, sequence };
        receive(db, Clock::system().now(), page).await.expect("the page is stored");
    }

    /// Returns the stored sequence number, and whether the accounts of Ann and Bob are disabled.
    async fn state(db: &Db) -> (i64, [bool; 2]) {
        let sequence = sequence(db).await.expect("a sequence number");
        let is_disabled = async |owner| is_disabled(db, owner).await.expect("a state");
        (sequence, [is_disabled(ANN).await, is_disabled(BOB).await])
    }

    async fn a_page_that_another_replica_has_stored_does_not_undo_later_changes(database: TestDatabase) {
        let db = open(&database).await;
        receive_page(&db, &[(ANN, UserState::Disabled), (BOB, UserState::Disabled)], 0, 2).await;
        assert_eq!(state(&db).await, (2, [true, true]));
        receive_page(&db, &[(ANN, UserState::Enabled)], 2, 3).await;
        assert_eq!(state(&db).await, (3, [false, true]));
        // A slower replica.
        receive_page(&db, &[(ANN, UserState::Disabled), (BOB, UserState::Disabled)], 0, 2).await;
        assert_eq!(state(&db).await, (3, [false, true]));
        db.close().await;
    }

    async fn a_restored_list_forgets_disabled_accounts_that_are_not_on_its_first_page(database: TestDatabase) {
        let db = open(&database).await;
        receive_page(&db, &[(ANN, UserState::Disabled), (BOB, UserState::Disabled)], 0, 9).await;
        receive_page(&db, &[(BOB, UserState::Disabled)], 9, 4).await;
        assert_eq!(state(&db).await, (4, [false, true]));
        receive_page(&db, &[], 4, 0).await;
        assert_eq!(state(&db).await, (0, [false, false]));
        db.close().await;
    }

    async fn the_last_change_of_an_account_counts(database: TestDatabase) {
        let db = open(&database).await;
        let changes = [
            (ANN, UserState::Disabled),
            (BOB, UserState::Enabled),
            (ANN, UserState::Deleted),
            (BOB, UserState::Disabled),
        ];
        receive_page(&db, &changes, 0, 4).await;
        assert_eq!(state(&db).await, (4, [false, true]));
        let due = removed_owners::due_owners(&db, Clock::system().now(), 10).await.expect("the owners");
        assert_eq!(due, [ANN]);
        db.close().await;
    }
}
