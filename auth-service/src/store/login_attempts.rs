//! Attempts at passwords.

use std::time::Duration;

use service_kit::{
    args,
    clock::Timestamp,
    db::{Db, Error, FromRow, Row},
};

use crate::model::login_throttle::{self, LoginThrottle, MAX_A_DAY, MAX_PENDING, PENDING_TTL, ThrottleKey};

/// How an attempt has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With the right password: the next attempt need not wait. What has failed today still counts.
    Right,
    /// With a wrong one.
    Wrong,
    /// Without being judged.
    Unknown,
}

impl FromRow for LoginThrottle {
    /// Reads `day, failures, failed_at`.
    fn from_row(row: &mut Row<'_>) -> Result<Self, Error> {
        Ok(Self { day: row.next()?, failures: row.next()?, failed_at: row.next()? })
    }
}

/// Permits an attempt, or returns how long to wait. The attempt counts at once, so that of many at the same time no more
/// are permitted than of those one after the other.
///
/// # Errors
/// Those of the database.
pub async fn admit(db: &Db, now: Timestamp, key: ThrottleKey) -> Result<Result<(), Duration>, Error> {
    const COUNT: &str = "
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
    const SELECT: &str = "select day, failures, failed_at from guesses where address = $1";
    let count = args![&key.0, login_throttle::day(now), now, now - PENDING_TTL, MAX_PENDING, MAX_A_DAY];
    if db.execute_returning::<i64>(COUNT, count).await?.is_some() {
        return Ok(Ok(()));
    }
    let guesses: Option<LoginThrottle> = db.fetch_optional(SELECT, args![key.0]).await?;
    // If only others are under way, they will soon have been judged.
    let wait = guesses.map(|guesses| guesses.wait(now)).unwrap_or_default();
    Ok(Err(wait.max(Duration::from_secs(1))))
}

/// Records how an attempt that was permitted has ended.
///
/// # Errors
/// Those of the database.
pub async fn record(db: &Db, now: Timestamp, key: ThrottleKey, outcome: Outcome) -> Result<(), Error> {
    const RIGHT: &str = "
        update guesses set failed_at = 0, pending = pending - 1 where address = $1 and pending > 0";
    const WRONG: &str = "
        update guesses set failures = failures + 1, failed_at = $2, pending = pending - 1
        where address = $1 and pending > 0";
    const UNJUDGED: &str = "update guesses set pending = pending - 1 where address = $1 and pending > 0";
    match outcome {
        Outcome::Right => db.execute(RIGHT, args![key.0]).await?,
        Outcome::Wrong => db.execute(WRONG, args![key.0, now]).await?,
        Outcome::Unknown => db.execute(UNJUDGED, args![key.0]).await?,
    };
    Ok(())
}
