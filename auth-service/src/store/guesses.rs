//! Guesses at passwords.

use std::time::Duration;

use service_kit::{
    clock::Timestamp,
    db::{Db, Error},
    db_read, db_write,
};

use crate::model::guess::{self, FORGOTTEN, Guesses, MAX_A_DAY, MAX_PENDING, Target};

/// How an attempt has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With the right password: the next attempt need not wait. What has failed today still counts.
    Right,
    /// With a wrong one.
    Wrong,
    /// Without being judged.
    Unjudged,
}

/// Lets an attempt in, or says how long to wait. It is counted at once, so that of many who come together no more are
/// let in than of those who come one after the other.
pub async fn admit(db: &Db, now: Timestamp, target: Target) -> Result<Result<(), Duration>, Error> {
    const SQL: &str = "
        insert into guesses (address, day, failures, failed_at, pending, asked_at) values ($1, $2, 0, 0, 1, $3)
        on conflict (address) do update set
            failures = case when guesses.day = $2 then guesses.failures else 0 end,
            pending = case when guesses.asked_at > $4 then guesses.pending else 0 end + 1,
            day = $2,
            asked_at = $3
        where (guesses.asked_at <= $4 or guesses.pending < $5)
            and (guesses.day <> $2 or (
                guesses.failures + case when guesses.asked_at > $4 then guesses.pending else 0 end < $6
                and $3 >= guesses.failed_at + case
                    when guesses.failures >= 25 then 10000000 when guesses.failures >= 9 then 5000000
                    when guesses.failures >= 3 then 3000000 when guesses.failures >= 1 then 1000000 else 0 end))
        returning failures";
    const WAIT: &str = "select day, failures, failed_at from guesses where address = $1";
    let address = target.0.clone();
    let admitted: Option<i64> = db_write!(db, |connection| {
        sqlx::query_scalar(SQL)
            .bind(&address)
            .bind(guess::day(now))
            .bind(now)
            .bind(now - FORGOTTEN)
            .bind(MAX_PENDING)
            .bind(MAX_A_DAY)
            .fetch_optional(connection)
            .await
    })?;
    if admitted.is_some() {
        return Ok(Ok(()));
    }
    let guesses: Option<Guesses> =
        db_read!(db, |connection| sqlx::query_as(WAIT).bind(&target.0).fetch_optional(connection).await)?;
    // Where only others are under way, they will have been judged soon.
    let wait = guesses.map(|guesses| guesses.wait(now)).unwrap_or_default();
    Ok(Err(wait.max(Duration::from_secs(1))))
}

/// Notes how an attempt that was let in has ended.
pub async fn settle(db: &Db, now: Timestamp, target: Target, end: End) -> Result<(), Error> {
    const RIGHT: &str = "
        update guesses set failed_at = 0, pending = pending - 1 where address = $1 and pending > 0 and $2 = $2";
    const WRONG: &str = "
        update guesses set failures = failures + 1, failed_at = $2, pending = pending - 1
        where address = $1 and pending > 0";
    const UNJUDGED: &str = "update guesses set pending = pending - 1 where address = $1 and pending > 0 and $2 = $2";
    let sql = match end {
        End::Right => RIGHT,
        End::Wrong => WRONG,
        End::Unjudged => UNJUDGED,
    };
    db_write!(db, |connection| sqlx::query(sql).bind(&target.0).bind(now).execute(connection).await.map(|_| ()))
}
