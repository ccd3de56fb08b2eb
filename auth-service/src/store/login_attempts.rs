//! Counts password attempts per email address.

use std::time::Duration;

use service_kit::{
    args,
    clock::Timestamp,
    db::{Db, Error, FromRow, Row},
};

use crate::model::login_throttle::{self, LoginThrottle, MAX_FAILURES_PER_DAY, MAX_PENDING, PENDING_TTL, ThrottleKey};

/// The outcome of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The password was correct. The next attempt is not delayed, but today's failures still count.
    Correct,
    /// The password was wrong.
    Wrong,
    /// The password was not checked.
    NotChecked,
}

impl FromRow for LoginThrottle {
    /// Reads `day, failures, failed_at`.
    fn from_row(row: &mut Row<'_>) -> Result<Self, Error> {
        Ok(Self { day: row.next()?, failures: row.next()?, failed_at: row.next()? })
    }
}

/// Permits an attempt, or returns how long to wait. A permitted attempt counts as pending immediately, so that
/// concurrent attempts cannot exceed the limits.
///
/// # Errors
/// If the database fails.
pub async fn admit(db: &Db, now: Timestamp, key: ThrottleKey) -> Result<Result<(), Duration>, Error> {
    // The delays, in microseconds, are those of `LoginThrottle::delay`.
    const ADD_PENDING: &str = "
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
    let values = args![&key.0, login_throttle::day(now), now, now - PENDING_TTL, MAX_PENDING, MAX_FAILURES_PER_DAY];
    if db.execute_returning::<i64>(ADD_PENDING, values).await?.is_some() {
        return Ok(Ok(()));
    }
    let throttle: Option<LoginThrottle> = db.fetch_optional(SELECT, args![key.0]).await?;
    // A delay of zero means that pending attempts block this one. They finish soon.
    let delay = throttle.map(|throttle| throttle.remaining_delay(now)).unwrap_or_default();
    Ok(Err(delay.max(Duration::from_secs(1))))
}

/// Records the outcome of a permitted attempt.
///
/// # Errors
/// If the database fails.
pub async fn record(db: &Db, now: Timestamp, key: ThrottleKey, outcome: Outcome) -> Result<(), Error> {
    const CORRECT: &str = "
        update guesses set failed_at = 0, pending = pending - 1 where address = $1 and pending > 0";
    const WRONG: &str = "
        update guesses set failures = failures + 1, failed_at = $2, pending = pending - 1
        where address = $1 and pending > 0";
    const NOT_CHECKED: &str = "update guesses set pending = pending - 1 where address = $1 and pending > 0";
    match outcome {
        Outcome::Correct => db.execute(CORRECT, args![key.0]).await?,
        Outcome::Wrong => db.execute(WRONG, args![key.0, now]).await?,
        Outcome::NotChecked => db.execute(NOT_CHECKED, args![key.0]).await?,
    };
    Ok(())
}
