//! Requests of devices for a session, and the decisions of users about them.

use std::time::Duration;

use service_kit::{
    args,
    auth::authentication::{AuthMethods, Authentication},
    clock::Timestamp,
    db::{Conn, Db, Engine, Error, FromRow, Row},
};
use uuid::Uuid;

use super::audit;
use crate::model::{
    audit::{Event, Kind},
    device_authorization::{DeviceAuthorization, INTERVAL, MAX_PENDING, PollSchedule, UserCode},
    personal_access_token::scopes_from_stored,
};

impl FromRow for DeviceAuthorization {
    /// Reads `user_code, client_id, scope, user_agent, ip_address, created_at, expires_at`.
    fn from_row(row: &mut Row<'_>) -> Result<Self, Error> {
        Ok(Self {
            user_code: UserCode(row.next()?),
            client_id: row.next()?,
            scopes: row.next::<Option<String>>()?.map(|scopes| scopes_from_stored(&scopes)),
            user_agent: row.next()?,
            ip_address: row.next()?,
            created_at: row.next()?,
            expires_at: row.next()?,
        })
    }
}

/// The permission of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permission {
    /// The user.
    pub user_id: Uuid,
    /// The version of the password at the time of the decision.
    pub password_version: i64,
    /// How and when the user had proved their identity.
    pub authentication: Authentication,
}

/// A device that a user has permitted.
#[derive(Clone, Debug)]
pub struct ApprovedDevice {
    /// Identifies the request.
    pub id: Uuid,
    /// The request.
    pub request: DeviceAuthorization,
    /// The permission.
    pub permission: Permission,
}

/// The row of a device that polls.
struct Polled {
    state: String,
    schedule: PollSchedule,
    permission: Option<Permission>,
    request: DeviceAuthorization,
}

impl FromRow for Polled {
    /// Reads `state, interval_seconds, polled_at, user_id, password_version, amr, authenticated_at`, and the columns of a
    /// [`DeviceAuthorization`].
    fn from_row(row: &mut Row<'_>) -> Result<Self, Error> {
        let (state, interval, polled_at) = (row.next()?, row.next::<i64>()?, row.next()?);
        let interval = Duration::from_secs(u64::try_from(interval).unwrap_or_default());
        let (user_id, password_version) = (row.next::<Option<Uuid>>()?, row.next::<Option<i64>>()?);
        let (amr, time) = (row.next::<Option<String>>()?, row.next::<Option<Timestamp>>()?);
        let permission = user_id.zip(password_version).zip(amr.zip(time));
        let permission = permission.map(|((user_id, password_version), (amr, time))| {
            let authentication = Authentication { methods: AuthMethods::from_names(amr.split(' ')), time };
            Permission { user_id, password_version, authentication }
        });
        let schedule = PollSchedule { interval, polled_at };
        Ok(Self { state, schedule, permission, request: DeviceAuthorization::from_row(row)? })
    }
}

/// The outcome of a poll.
#[derive(Clone, Debug)]
pub enum Poll {
    /// There is no request of this client, or it was fulfilled before.
    Unknown,
    /// The user has not decided yet.
    Pending,
    /// The device polls too often, and has to wait for this time.
    TooOften(Duration),
    /// The user has refused.
    Denied,
    /// The user has agreed.
    Approved(ApprovedDevice),
}

/// Adds a request. Returns false if too many devices wait, or another one has the same code. Concurrent calls can exceed the
/// limit by their number.
///
/// # Errors
/// If the database fails.
pub async fn insert(db: &Db, now: Timestamp, id: Uuid, new: &DeviceAuthorization) -> Result<bool, Error> {
    const INSERT: &str = "
        insert into device_authorizations (id, user_code, client_id, scope, user_agent, ip_address, state,
            interval_seconds, created_at, expires_at)
        select $1, $2, $3, $4, $5, $6, 'pending', $7, $8, $9
        where (select count(*) from device_authorizations where expires_at > $10) < $11
        on conflict (user_code) do nothing";
    let (scope, interval) = (new.scopes.map(|scopes| scopes.to_string()), seconds(INTERVAL));
    let DeviceAuthorization { user_code, client_id, user_agent, ip_address, created_at, expires_at, .. } = new.clone();
    let values = args![
        id,
        user_code.0,
        client_id,
        scope,
        user_agent,
        ip_address,
        interval,
        created_at,
        expires_at,
        now,
        MAX_PENDING
    ];
    Ok(db.execute(INSERT, values).await? > 0)
}

/// Returns a request about which no user has decided.
///
/// # Errors
/// If the database fails.
pub async fn pending(db: &Db, now: Timestamp, code: UserCode) -> Result<Option<DeviceAuthorization>, Error> {
    const SELECT: &str = "
        select user_code, client_id, scope, user_agent, ip_address, created_at, expires_at from device_authorizations
        where user_code = $1 and state = 'pending' and expires_at > $2";
    db.fetch_optional(SELECT, args![code.0, now]).await
}

/// Stores the decision of a user in a session: permission if the event is of kind [`Kind::DeviceApproved`]. Returns `None`
/// if there is no pending request with this code.
///
/// # Errors
/// If the database fails.
pub async fn decide(
    db: &Db,
    now: Timestamp,
    code: UserCode,
    (user_id, session_id): (Uuid, Uuid),
    event: Event,
) -> Result<Option<DeviceAuthorization>, Error> {
    const UPDATE: &str = "
        update device_authorizations set state = $3, user_id = $4, session_id = $5,
            password_version = (select password_version from users where users.id = $4),
            amr = (select sessions.amr from sessions where sessions.id = $5),
            authenticated_at = (
                select coalesce(sessions.authenticated_at, sessions.created_at) from sessions where sessions.id = $5)
        where user_code = $1 and state = 'pending' and expires_at > $2
        returning user_code, client_id, scope, user_agent, ip_address, created_at, expires_at";
    let state = if event.kind == Kind::DeviceApproved { "approved" } else { "denied" };
    db.write(move |conn| {
        Box::pin(async move {
            let values = args![code.0, now, state, user_id, session_id];
            let decided: Option<DeviceAuthorization> = conn.fetch_optional(UPDATE, values).await?;
            if let Some(device) = &decided {
                let event = event.with_detail("client_id", &device.client_id);
                let event = event.with_detail("device_address", &device.ip_address);
                let event = match device.scopes {
                    Some(scopes) => event.with_detail("scopes", &scopes),
                    None => event,
                };
                audit::insert(conn, now, user_id, &event).await?;
            }
            Ok(decided)
        })
    })
    .await
}

/// Records a poll of a client, and returns the decision about its request.
///
/// # Errors
/// If the database fails.
pub async fn poll(db: &Db, now: Timestamp, id: Uuid, client_id: String) -> Result<Poll, Error> {
    // Concurrent polls are counted one after another. SQLite does not need the lock: it has a single writer.
    const LOCK: &str = "select 1 from device_authorizations where id = $1 for update";
    const SELECT: &str = "
        select state, interval_seconds, polled_at, user_id, password_version, amr, authenticated_at,
            user_code, client_id, scope, user_agent, ip_address, created_at, expires_at
        from device_authorizations where id = $1 and client_id = $2";
    const UPDATE: &str = "update device_authorizations set polled_at = $2, interval_seconds = $3 where id = $1";
    db.write(move |conn| {
        Box::pin(async move {
            if conn.engine() == Engine::Postgres {
                conn.execute(LOCK, args![id]).await?;
            }
            let Some(polled) = conn.fetch_optional::<Polled>(SELECT, args![id, client_id]).await? else {
                return Ok(Poll::Unknown);
            };
            match (&polled.state[..], polled.permission) {
                ("approved", Some(permission)) => {
                    return Ok(Poll::Approved(ApprovedDevice { id, request: polled.request, permission }));
                }
                ("denied", _) => return Ok(Poll::Denied),
                _ => {}
            }
            let (schedule, is_in_time) = polled.schedule.poll(now);
            conn.execute(UPDATE, args![id, schedule.polled_at, seconds(schedule.interval)]).await?;
            Ok(if is_in_time { Poll::Pending } else { Poll::TooOften(schedule.interval) })
        })
    })
    .await
}

/// Deletes an approved request within the transaction that starts the session of the device. Returns false if that was done
/// before, or the session in which the user has permitted it has ended.
///
/// # Errors
/// If the database fails.
pub async fn redeem_within(conn: &mut Conn, now: Timestamp, id: Uuid) -> Result<bool, Error> {
    const DELETE: &str = "
        delete from device_authorizations where id = $1 and state = 'approved' and exists (
            select 1 from sessions
            where sessions.id = device_authorizations.session_id and revoked_at is null
                and sessions.expires_at > $2)";
    Ok(conn.execute(DELETE, args![id, now]).await? > 0)
}

/// Deletes at most `limit` requests that expired before `expired_before`, and returns how many it deleted.
///
/// # Errors
/// If the database fails.
pub async fn purge(db: &Db, expired_before: Timestamp, limit: i64) -> Result<i64, Error> {
    const DELETE: &str = "
        delete from device_authorizations where id in (
            select id from device_authorizations where expires_at < $1 limit $2)";
    db.execute(DELETE, args![expired_before, limit]).await.map(u64::cast_signed)
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}
