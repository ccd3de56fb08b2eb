//! Repeated proofs of the identity of a user within a session.

use service_kit::{
    args,
    auth::authentication::AuthMethod,
    clock::Timestamp,
    db::{Db, Error},
};
use uuid::Uuid;

use super::{
    audit, factor_accounts, factors,
    login_attempts::{self, Attempt},
    rollback::{self, Rollback},
};
use crate::model::{audit::Event, factor::FactorUse, session::Session};

/// What a user has proved.
pub enum Proof {
    /// The password.
    Password,
    /// A factor, with the attempt, if attempts are throttled.
    Factor(FactorUse, Option<Attempt>),
}

/// The outcome of a proof.
#[derive(Clone, Debug)]
pub enum Reauthentication {
    /// The session has a new time of authentication.
    Done(Session),
    /// The session has ended.
    SessionEnded,
    /// The code was used before.
    CodeUsed,
    /// The counter of wrong passwords has reached its limit since the attempt was permitted.
    Throttled,
}

/// Records that the user of a session has proved the password or a factor, which is used by this.
///
/// # Errors
/// If the database fails.
pub async fn record(
    db: &Db,
    now: Timestamp,
    (user_id, session_id): (Uuid, Uuid),
    proof: Proof,
    event: Event,
) -> Result<Reauthentication, Error> {
    // Also locks the row, so that no method of a concurrent call is lost.
    const UPDATE_TIME: &str = "
        update sessions set authenticated_at = $3
        where id = $1 and user_id = $2 and revoked_at is null and expires_at > $3
        returning id, user_id, label, user_agent, ip_address, generation, created_at, rotated_at, previous_rotated_at,
            expires_at, revoked_at, reused, amr, coalesce(authenticated_at, created_at), scope";
    const UPDATE_METHODS: &str = "update sessions set amr = $2 where id = $1";
    rollback::write(db, move |conn| {
        Box::pin(async move {
            // Changes of the account lock it before the session and the counters.
            factor_accounts::lock_account(conn, user_id).await?;
            if let Proof::Factor(used, attempt) = &proof {
                if let Some(attempt) = attempt
                    && !login_attempts::record_success_within(conn, now, attempt).await?
                {
                    return Ok(Reauthentication::Throttled);
                }
                if !factors::use_within(conn, now, user_id, used).await? {
                    return Err(Rollback::Outcome(Reauthentication::CodeUsed));
                }
            }
            let updated: Option<Session> = conn.fetch_optional(UPDATE_TIME, args![session_id, user_id, now]).await?;
            let Some(mut session) = updated else { return Err(Rollback::Outcome(Reauthentication::SessionEnded)) };
            let methods = session.authentication.methods;
            session.authentication.methods = match &proof {
                Proof::Password => methods.with(AuthMethod::Password),
                Proof::Factor(used, _) => used.add_to(methods),
            };
            conn.execute(UPDATE_METHODS, args![session_id, session.authentication.methods.to_string()]).await?;
            audit::insert(conn, now, user_id, &event).await?;
            Ok(Reauthentication::Done(session))
        })
    })
    .await
}
