//! The feed of revocations: its sequence numbers, its epoch, and the revoked sessions in their order.

use std::{collections::HashSet, time::Duration};

use service_kit::{
    args,
    clock::Timestamp,
    db::{Conn, Db, Error, FromRow, QueryBuilder, ReadKind, Row, Value},
};
use tokio::time::Instant;
use uuid::Uuid;

/// The channel on which replicas are notified of revocations and changes of accounts.
pub const CHANNEL: &str = "taskey_revocations";

/// Maximum number of rows that one statement reads, so that each takes much less than the statement timeout.
const PAGE_SIZE: i64 = 10_000;

/// Maximum number of revocations that one transaction restores.
const RESTORE_BATCH: usize = 500;

/// How far the sequence number jumps when a new epoch starts: further than other replicas, and their verifiers, can be
/// ahead of the replica that starts the epoch.
pub(super) const EPOCH_GAP: i64 = 1_000_000;

/// The state of the feed in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeedPosition {
    /// Identifies the history to which the sequence numbers belong. A server sets it when it opens a new database.
    pub epoch: Option<Uuid>,
    /// The sequence number of the last revocation.
    pub sequence: i64,
    /// The sequence number of the last change in the list of accounts that were deleted, disabled or enabled.
    pub last_deletion: i64,
}

impl FeedPosition {
    /// Reports whether this is a later state of the same history. If it is not, the database has lost revocations that
    /// were reported before, or it is another database.
    #[must_use]
    pub fn continues(&self, earlier: &Self) -> bool {
        self.epoch == earlier.epoch && self.sequence >= earlier.sequence
    }
}

impl FromRow for FeedPosition {
    /// Reads `epoch, last_revocation, last_deletion`.
    fn from_row(row: &mut Row<'_>) -> Result<Self, Error> {
        Ok(Self { epoch: row.next()?, sequence: row.next()?, last_deletion: row.next()? })
    }
}

/// Returns the state of the feed.
///
/// # Errors
/// If the database fails.
pub async fn position(db: &Db) -> Result<FeedPosition, Error> {
    const SELECT: &str = "select epoch, last_revocation, last_deletion from feed";
    db.fetch_optional(SELECT, args![]).await?.ok_or(Error::RowNotFound)
}

/// Assigns the next sequence number, within the transaction of a revocation, and notifies the other replicas. The row
/// stays locked until the commit, so that sequence numbers follow the order of commits.
///
/// # Errors
/// If the database fails.
pub async fn next_sequence(conn: &mut Conn) -> Result<i64, Error> {
    const NEXT: &str = "update feed set last_revocation = last_revocation + 1 returning last_revocation";
    let sequence = conn.fetch_one(NEXT, args![]).await?;
    conn.notify(CHANNEL).await?;
    Ok(sequence)
}

/// Starts the epoch `new` if the database has none, or if it has the epoch of `lost`: it has then lost revocations of
/// this history, and reuses their numbers. The sequence number jumps beyond every number that a verifier may have
/// received. If several replicas call this, the first one starts the epoch. Returns the resulting state.
///
/// # Errors
/// If the database fails.
pub async fn ensure_epoch(db: &Db, lost: Option<FeedPosition>, new: Uuid) -> Result<FeedPosition, Error> {
    const LOCK: &str =
        "update feed set last_revocation = last_revocation returning epoch, last_revocation, last_deletion";
    const START: &str =
        "update feed set epoch = $1, last_revocation = $2 returning epoch, last_revocation, last_deletion";
    db.write(move |conn| {
        Box::pin(async move {
            let stored: FeedPosition = conn.fetch_one(LOCK, args![]).await?;
            let sequence = match lost {
                Some(lost) if stored.epoch.is_none() || stored.epoch == lost.epoch => {
                    lost.sequence.max(stored.sequence) + EPOCH_GAP
                }
                None if stored.epoch.is_none() => stored.sequence,
                _ => return Ok(stored),
            };
            let started = conn.fetch_one(START, args![new, sequence]).await?;
            conn.notify(CHANNEL).await?;
            Ok(started)
        })
    })
    .await
}

/// The sessions that were revoked recently.
#[derive(Debug, Default)]
pub struct RecentRevocations {
    /// The sessions.
    pub sessions: HashSet<Uuid>,
    /// If sessions were omitted, an upper bound of their `revoked_at`.
    pub omitted_until: Option<Timestamp>,
}

/// Returns the sessions that were revoked after `since`. Reads pages by key, latest first, until `limit` sessions are
/// found or `budget` has passed, and omits the older ones. The duration therefore does not depend on the number of rows.
///
/// # Errors
/// If the database fails.
pub async fn recent(db: &Db, since: Timestamp, limit: usize, budget: Duration) -> Result<RecentRevocations, Error> {
    const SELECT: &str = "
        select revoked_at, id from sessions
        where revoked_at is not null and revoked_at > $1 and (revoked_at, id) < ($2, $3)
        order by revoked_at desc, id desc limit $4";
    let started = Instant::now();
    let mut recent = RecentRevocations::default();
    let mut last = (Timestamp::from_micros(i64::MAX), Uuid::max());
    loop {
        let page: Vec<(Timestamp, Uuid)> = db
            .read(ReadKind::Point, move |conn| {
                Box::pin(conn.fetch_all(SELECT, args![since, last.0, last.1, PAGE_SIZE]))
            })
            .await?;
        recent.sessions.extend(page.iter().map(|(_, id)| *id));
        let is_full = i64::try_from(page.len()).is_ok_and(|length| length == PAGE_SIZE);
        let Some(oldest) = page.last().filter(|_| is_full) else { return Ok(recent) };
        last = *oldest;
        if recent.sessions.len() >= limit || started.elapsed() >= budget {
            recent.omitted_until = Some(last.0);
            return Ok(recent);
        }
    }
}

/// Identifies an entry of the feed: a sequence number, and one of the sessions that share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    sequence: i64,
    session_id: Uuid,
}

impl Cursor {
    /// Returns the cursor after all entries up to a sequence number.
    #[must_use]
    pub fn after(sequence: i64) -> Self {
        Self { sequence, session_id: Uuid::max() }
    }
}

/// A page of the feed.
#[derive(Debug)]
pub struct Page {
    /// One of the sessions with the sequence number of the cursor, unless they are purged.
    pub at_cursor: Option<Uuid>,
    /// The revoked sessions, in the order of their sequence numbers.
    pub sessions: Vec<Uuid>,
    /// The state of the feed when the page was read.
    pub position: FeedPosition,
    /// The sessions with the last sequence number of the page.
    pub last_sessions: Vec<Uuid>,
    /// The cursor for the next page, if this one is full.
    pub next: Option<Cursor>,
}

impl Page {
    /// Returns the sequence number up to which this page and the ones before it contain all entries.
    #[must_use]
    pub fn complete_until(&self) -> i64 {
        // The next page may begin with other sessions of the same sequence number.
        self.next.map_or(self.position.sequence, |next| next.sequence - 1)
    }
}

/// Returns the revocations after a cursor together with the state of the feed, from one statement, so that they are
/// consistent.
///
/// # Errors
/// If the database fails.
pub async fn list_after(db: &Db, Cursor { sequence, session_id }: Cursor) -> Result<Page, Error> {
    const SELECT: &str = "
        select epoch, last_revocation, last_deletion,
            (select id from sessions where revocation = $1 order by id limit 1), entries.id, entries.revocation
        from feed left join (
            select id, revocation from sessions
            where revocation is not null and (revocation, id) > ($1, $2)
            order by revocation, id limit $3
        ) entries on true
        order by entries.revocation, entries.id";
    // Not a scan: the result is small, because the feed reads often.
    let rows: Vec<PageRow> = db
        .read(ReadKind::Point, move |conn| Box::pin(conn.fetch_all(SELECT, args![sequence, session_id, PAGE_SIZE])))
        .await?;
    let PageRow { position, at_cursor, entry: last } = *rows.last().ok_or(Error::RowNotFound)?;
    let entries = rows.iter().filter_map(|row| row.entry);
    let sessions: Vec<_> = entries.clone().map(|entry| entry.session_id).collect();
    let is_last = |entry: &Cursor| last.is_some_and(|last| last.sequence == entry.sequence);
    let last_sessions = entries.filter(is_last).map(|entry| entry.session_id).collect();
    let is_full = i64::try_from(sessions.len()).is_ok_and(|length| length == PAGE_SIZE);
    Ok(Page { at_cursor, sessions, position, last_sessions, next: last.filter(|_| is_full) })
}

/// Returns the sessions with a sequence number.
///
/// # Errors
/// If the database fails.
pub async fn sessions_at(db: &Db, sequence: i64) -> Result<Vec<Uuid>, Error> {
    const SELECT: &str = "select id from sessions where revocation = $1 order by id limit $2";
    db.read(ReadKind::Point, move |conn| Box::pin(conn.fetch_all(SELECT, args![sequence, PAGE_SIZE]))).await
}

/// A row of a page: the state of the feed, and an entry unless the page has none.
#[derive(Clone, Copy)]
struct PageRow {
    position: FeedPosition,
    at_cursor: Option<Uuid>,
    entry: Option<Cursor>,
}

impl FromRow for PageRow {
    /// Reads the columns of a position, the session at the cursor, and `id, revocation`.
    fn from_row(row: &mut Row<'_>) -> Result<Self, Error> {
        let (position, at_cursor) = (FeedPosition::from_row(row)?, row.next()?);
        let (session_id, sequence): (Option<Uuid>, Option<i64>) = (row.next()?, row.next()?);
        let entry = session_id.zip(sequence).map(|(session_id, sequence)| Cursor { sequence, session_id });
        Ok(Self { position, at_cursor, entry })
    }
}

/// Revokes sessions again that the database has forgotten to be revoked, in batches. Sessions that are revoked do not
/// change. Those that the database does not contain are stored without an account, so that all replicas and verifiers
/// receive them; they are purged like other sessions.
///
/// # Errors
/// If the database fails.
pub async fn restore(db: &Db, now: Timestamp, sessions: &[Uuid]) -> Result<(), Error> {
    for batch in sessions.chunks(RESTORE_BATCH) {
        let batch = batch.to_vec();
        db.write(move |conn| Box::pin(async move { restore_within(conn, now, &batch).await })).await?;
    }
    Ok(())
}

/// As [`restore`], within a transaction.
///
/// # Errors
/// If the database fails.
pub async fn restore_within(conn: &mut Conn, now: Timestamp, sessions: &[Uuid]) -> Result<(), Error> {
    let row =
        |id: &Uuid| -> Vec<Value> { args![*id, Uuid::nil(), "", "", "", 0_i64, now, now, now, now, now, now, false] };
    let mut insert = QueryBuilder::new(
        "insert into sessions (id, user_id, label, user_agent, ip_address, generation, created_at, rotated_at,
            previous_rotated_at, expires_at, ends_at, revoked_at, reused)",
    );
    insert.push_values(sessions.iter().map(row));
    insert.push(" on conflict (id) do update set revoked_at = excluded.revoked_at where sessions.revoked_at is null");
    let (sql, values) = insert.build();
    conn.execute(sql, values).await?;
    // The rows of sessions are locked before that of the feed, as in every revocation.
    let mut assign = QueryBuilder::new("update sessions set revocation = ");
    assign.push_bind(next_sequence(conn).await?);
    assign.push(" where revocation is null and revoked_at is not null and id in ").push_ids(sessions.iter().copied());
    let (sql, values) = assign.build();
    conn.execute(sql, values).await.map(drop)
}
