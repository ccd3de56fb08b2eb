//! Counts wrong passwords per account and network.

use service_kit::{
    args,
    clock::Timestamp,
    db::{Conn, Db, Error, FromRow, ReadKind, Row},
};
use uuid::Uuid;

use super::audit;
use crate::model::{
    audit::Event,
    login_throttle::{
        KNOWN_NETWORK_TTL, LoginThrottle, MAX_FAILURES, MAX_KNOWN_NETWORKS, OTHER_NETWORKS, ThrottleKey, day,
    },
};

impl FromRow for LoginThrottle {
    /// Reads `network, day, failures, failed_at, succeeded_at`.
    fn from_row(row: &mut Row<'_>) -> Result<Self, Error> {
        Ok(Self {
            network: row.next()?,
            day: row.next()?,
            failures: row.next()?,
            failed_at: row.next()?,
            succeeded_at: row.next()?,
        })
    }
}

/// A permitted attempt.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// The account and the network of the client.
    pub key: ThrottleKey,
    /// The counter of the attempt: that of the network, or that of all networks from which the account was not used.
    pub counter: ThrottleKey,
}

impl Attempt {
    /// Reports whether the account was used from the network of the client recently.
    #[must_use]
    pub fn is_from_known_network(&self) -> bool {
        self.key == self.counter
    }
}

/// Returns the counters of a network and of the other networks, as far as they exist.
///
/// # Errors
/// If the database fails.
pub async fn counters(db: &Db, key: &ThrottleKey) -> Result<Vec<LoginThrottle>, Error> {
    const SELECT: &str = "
        select network, day, failures, failed_at, succeeded_at from guesses
        where address = $1 and network in ($2, $3)";
    let values = args![&key.address, &key.network, OTHER_NETWORKS];
    db.read(ReadKind::Point, |conn| Box::pin(async move { conn.fetch_all(SELECT, values).await })).await
}

/// Counts a wrong password. Returns false if the counter has reached its limit since the attempt was permitted.
///
/// # Errors
/// If the database fails.
pub async fn record_failure(db: &Db, now: Timestamp, attempt: &Attempt) -> Result<bool, Error> {
    const UPSERT: &str = "
        insert into guesses (address, network, day, failures, failed_at, succeeded_at) values ($1, $2, $3, 1, $4, 0)
        on conflict (address, network) do update set
            failures = case when guesses.day = $3 then guesses.failures else 0 end + 1, failed_at = $4, day = $3
        where guesses.day <> $3 or guesses.failures < $5
        returning failures";
    let ThrottleKey { address, network } = &attempt.counter;
    let recorded: Option<i64> =
        db.execute_returning(UPSERT, args![address, network, day(now), now, MAX_FAILURES]).await?;
    Ok(recorded.is_some())
}

/// Records a correct password as [`record_success_within`].
///
/// # Errors
/// If the database fails.
pub async fn record_success(db: &Db, now: Timestamp, attempt: Attempt) -> Result<bool, Error> {
    db.write(move |conn| Box::pin(async move { record_success_within(conn, now, &attempt).await })).await
}

/// Records a correct password within a transaction: resets the counter of the attempt, and makes the network known.
/// Returns false if the counter has reached its limit since the attempt was permitted.
///
/// # Errors
/// If the database fails.
pub async fn record_success_within(conn: &mut Conn, now: Timestamp, attempt: &Attempt) -> Result<bool, Error> {
    const RESET: &str = "
        insert into guesses (address, network, day, failures, failed_at, succeeded_at) values ($1, $2, $3, 0, 0, $4)
        on conflict (address, network) do update set failures = 0, failed_at = 0, day = $3, succeeded_at = $4
        where guesses.day <> $3 or guesses.failures < $5
        returning failures";
    let Attempt { key, counter } = attempt;
    let succeeded_at = if counter.network == OTHER_NETWORKS { Timestamp::from_seconds(0) } else { now };
    let values = args![&counter.address, &counter.network, day(now), succeeded_at, MAX_FAILURES];
    let reset: Option<i64> = conn.fetch_optional(RESET, values).await?;
    if reset.is_some() && key != counter {
        add_network_within(conn, now, key).await?;
    }
    Ok(reset.is_some())
}

/// Makes a network known to an account, or renews it.
///
/// # Errors
/// If the database fails.
pub async fn add_network(db: &Db, now: Timestamp, key: ThrottleKey) -> Result<(), Error> {
    db.write(move |conn| Box::pin(async move { add_network_within(conn, now, &key).await })).await
}

async fn add_network_within(conn: &mut Conn, now: Timestamp, key: &ThrottleKey) -> Result<(), Error> {
    const UPSERT: &str = "
        insert into guesses (address, network, day, failures, failed_at, succeeded_at) values ($1, $2, $3, 0, 0, $4)
        on conflict (address, network) do update set succeeded_at = $4";
    const FORGET_SURPLUS: &str = "
        delete from guesses where address = $1 and network <> $2 and network not in (
            select network from guesses where address = $1 and network <> $2 order by succeeded_at desc limit $3)";
    let ThrottleKey { address, network } = key;
    conn.execute(UPSERT, args![address, network, day(now), now]).await?;
    conn.execute(FORGET_SURPLUS, args![address, OTHER_NETWORKS, MAX_KNOWN_NETWORKS]).await.map(drop)
}

/// Resets the counters of an account. If any counted a wrong password, adds an event to the audit log.
///
/// # Errors
/// If the database fails.
pub async fn unlock(db: &Db, now: Timestamp, user_id: Uuid, address: String, event: Event) -> Result<(), Error> {
    db.write(move |conn| {
        Box::pin(async move {
            if reset_within(conn, &address).await? > 0 {
                audit::insert(conn, now, user_id, &event).await?;
            }
            Ok(())
        })
    })
    .await
}

/// Resets the counters of an account within a transaction, and returns how many counted a wrong password.
///
/// # Errors
/// If the database fails.
pub async fn reset_within(conn: &mut Conn, address: &str) -> Result<u64, Error> {
    // The row that logins lock first is also locked first here, so that they cannot deadlock.
    const RESET_OTHER_NETWORKS: &str = "
        update guesses set failures = 0, failed_at = 0 where address = $1 and network = $2 and failures > 0";
    const RESET_KNOWN_NETWORKS: &str = "
        update guesses set failures = 0, failed_at = 0 where address = $1 and network <> $2 and failures > 0";
    let others = conn.execute(RESET_OTHER_NETWORKS, args![address, OTHER_NETWORKS]).await?;
    Ok(others + conn.execute(RESET_KNOWN_NETWORKS, args![address, OTHER_NETWORKS]).await?)
}

/// Moves the counters and the known networks of an account to its new address, within the transaction that changes it.
///
/// # Errors
/// If the database fails.
pub async fn move_within(conn: &mut Conn, old: &str, new: &str) -> Result<(), Error> {
    delete_within(conn, new).await?;
    conn.execute("update guesses set address = $2 where address = $1", args![old, new]).await.map(drop)
}

/// Deletes the counters and the known networks of a deleted account, within the transaction that deletes it.
///
/// # Errors
/// If the database fails.
pub async fn delete_within(conn: &mut Conn, address: &str) -> Result<(), Error> {
    conn.execute("delete from guesses where address = $1", args![address]).await.map(drop)
}

/// Deletes a batch of the rows that neither count a recent failure nor contain a known network, and returns how many it
/// deleted.
///
/// # Errors
/// If the database fails.
pub async fn purge(db: &Db, now: Timestamp, limit: i64) -> Result<i64, Error> {
    const DELETE: &str = "
        delete from guesses where day < $1 and succeeded_at < $2 and (address, network) in (
            select address, network from guesses where day < $1 and succeeded_at < $2 limit $3)";
    let values = args![day(now) - 1, now - KNOWN_NETWORK_TTL, limit];
    db.execute(DELETE, values).await.map(u64::cast_signed)
}
