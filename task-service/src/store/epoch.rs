//! The stored epoch of the database.

use service_kit::{
    args,
    db::{Conn, Db, Error},
    epoch::Epoch,
};
use uuid::Uuid;

use crate::model::Target;

const SELECT: &str = "select epoch from database_epoch where id = 1";

/// Returns the epoch. If none is stored yet, stores `fresh`.
///
/// # Errors
/// Those of the database.
pub(crate) async fn open(db: &Db, fresh: Uuid) -> Result<Epoch, Error> {
    const INSERT: &str = "insert into database_epoch (id, epoch) values (1, $1) on conflict (id) do nothing";
    db.execute(INSERT, args![fresh]).await?;
    read(db).await.map(Epoch::from)
}

/// Returns the stored epoch.
///
/// # Errors
/// Those of the database.
pub(crate) async fn read(db: &Db) -> Result<Uuid, Error> {
    db.fetch_optional(SELECT, args![]).await?.ok_or(Error::RowNotFound)
}

/// Begins a new epoch, because the database has lost history, and returns it. Does so only if the epoch is still `old`,
/// so that the replicas that notice the same loss begin one new epoch.
///
/// # Errors
/// Those of the database.
pub(crate) async fn renew(db: &Db, old: Epoch, fresh: Uuid) -> Result<Epoch, Error> {
    const UPDATE: &str = "update database_epoch set epoch = $2 where epoch = $1";
    db.write(move |conn| {
        Box::pin(async move {
            let stored: Uuid = conn.fetch_one(SELECT, args![]).await?;
            if Epoch::from(stored) == old {
                conn.execute(UPDATE, args![stored, fresh]).await?;
            }
            conn.fetch_one::<Uuid>(SELECT, args![]).await.map(Epoch::from)
        })
    })
    .await
}

/// Begins the epoch `fresh`, whatever the epoch was.
///
/// # Errors
/// Those of the database.
pub(crate) async fn begin(db: &Db, fresh: Uuid) -> Result<(), Error> {
    const UPSERT: &str =
        "insert into database_epoch (id, epoch) values (1, $1) on conflict (id) do update set epoch = excluded.epoch";
    db.execute(UPSERT, args![fresh]).await.map(drop)
}

/// Makes etags of other epochs match no task or list. Reads the epoch if there is an etag.
///
/// # Errors
/// Those of the database.
pub(super) async fn check_etags(conn: &mut Conn, targets: Vec<&mut Target>) -> Result<(), Error> {
    if targets.iter().any(|target| target.revision.is_some()) {
        let epoch = Epoch::from(conn.fetch_one::<Uuid>(SELECT, args![]).await?);
        for target in targets {
            target.check_epoch(epoch);
        }
    }
    Ok(())
}
