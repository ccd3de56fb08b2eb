//! Helpers for the tests of all services: databases of both engines, a manual clock, and checks of errors.

use std::{
    env, fs,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use http::uri::PathAndQuery;
use prost::bytes::{Buf, BufMut};
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection, migrate::Migrator, sqlite::SqliteConnectOptions,
};
use tempfile::TempDir;
use tonic::{
    Code, Request, Response, Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::Channel,
};
use tonic_types::StatusExt;

use crate::{
    args,
    auth::rotation,
    clock::{Clock, Timestamp},
    db::{DatabaseUrl, Db},
    random,
};

pub mod certificates;
mod listen;

pub use listen::listen;

/// The environment variable with the URL of a `PostgreSQL` server on which tests may create databases.
pub const POSTGRES: &str = "TASKEY_TEST_POSTGRES";

/// An empty database. Dropping it deletes its directory; a `PostgreSQL` database stays on the test server.
#[derive(Debug)]
pub struct TestDatabase {
    url: String,
    folder: TempDir,
}

impl TestDatabase {
    /// Creates a SQLite database in its own directory.
    #[must_use]
    pub fn sqlite() -> Self {
        let folder = folder();
        let url = format!("sqlite:{}", folder.path().join("test.db").display());
        Self { url, folder }
    }

    /// Creates a database on the server that [`POSTGRES`] names. Returns `None` if that is not set, and reports the
    /// skipped test on standard error; with `CI=true` the test fails.
    pub async fn postgres() -> Option<Self> {
        let Ok(server) = env::var(POSTGRES) else {
            report_skipped("a test on PostgreSQL", &format!("{POSTGRES} is not set; `make test` provides a server"));
            return None;
        };
        let name = format!("test_{}", u128::from_be_bytes(random::bytes()));
        let mut connection = PgConnection::connect(&server).await.expect("the test server is reachable");
        let statement = sqlx::AssertSqlSafe(format!("create database {name} template template0"));
        connection.execute(statement).await.expect("the test server can create databases");
        let (base, parameters) = server.split_once('?').map_or((&server[..], ""), |(base, rest)| (base, rest));
        let base = base.rsplit_once('/').expect("a URL has a path").0;
        Some(Self { url: format!("{base}/{name}?{parameters}"), folder: folder() })
    }

    /// Returns the URL in the form of a setting.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the parsed URL.
    #[must_use]
    pub fn parsed_url(&self) -> DatabaseUrl {
        self.url.parse().expect("the URL of a test database is valid")
    }

    /// Returns how many sessions a PostgreSQL database has had so far, including closed ones.
    ///
    /// # Panics
    /// If this is not a PostgreSQL database, or the server is unreachable.
    pub async fn session_count(&self) -> i64 {
        let mut connection = PgConnection::connect(&self.url).await.expect("the database is reachable");
        let count = "select sessions from pg_stat_database where datname = current_database()";
        sqlx::query_scalar(count).fetch_one(&mut connection).await.expect("the server counts sessions")
    }

    /// Returns a directory that exists until this is dropped.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns a key file in that directory. Creates the file if it does not exist.
    #[must_use]
    pub fn key_file(&self) -> PathBuf {
        let path = self.folder().join("keys.json");
        if !path.exists() {
            rotation::generate(rotation::NewKey::Hs256, &path).expect("the key file can be created");
        }
        path
    }
}

/// Executes statements on a database, beside the services that use it.
///
/// # Panics
/// If the database is not reachable, or a statement fails.
pub async fn execute_sql(url: &str, statements: String) {
    let statements = AssertSqlSafe(statements);
    if let Some(path) = url.strip_prefix("sqlite:") {
        let options = SqliteConnectOptions::new().filename(path).busy_timeout(Duration::from_secs(10));
        let mut connection = options.connect().await.expect("the file can be opened");
        connection.execute(statements).await.expect("the statements succeed");
        connection.close().await.expect("the file can be closed");
    } else {
        let mut connection = PgConnection::connect(url).await.expect("the database is reachable");
        connection.execute(statements).await.expect("the statements succeed");
        connection.close().await.expect("the connection can be closed");
    }
}

/// Asserts that the migrations, including their comments, are exactly the merged ones, because databases reject changed
/// migrations. `merged` lists the version of each and the first 128 bits of its SHA-384 in hexadecimal digits. Add each
/// new migration to the list.
///
/// # Panics
/// If a migration was changed or is not in the list.
pub fn assert_unchanged(migrations: &Migrator, merged: &[(i64, &str)]) {
    let hex =
        |bytes: &[u8]| format!("{:032x}", u128::from_be_bytes(*bytes.first_chunk().expect("SHA-384 has 48 bytes")));
    let found: Vec<_> = migrations.iter().map(|migration| (migration.version, hex(&migration.checksum))).collect();
    let merged: Vec<_> = merged.iter().map(|(version, checksum)| (*version, (*checksum).to_owned())).collect();
    assert_eq!(found, merged);
}

/// Asserts that all migrations after `first`, the one that creates the table `compatible_migrations`, are listed in it: a
/// program that knows only the earlier ones refuses tables with others. `db` has all migrations.
///
/// # Panics
/// If a migration is not listed, or the table cannot be read.
pub async fn assert_compatible(db: &Db, migrations: &Migrator, first: i64) {
    const SELECT: &str = "select version from compatible_migrations order by version";
    let listed: Vec<i64> = db.fetch_all(SELECT, args![]).await.expect("the table is read");
    let later: Vec<i64> =
        migrations.iter().map(|migration| migration.version).filter(|version| *version > first).collect();
    assert_eq!(listed, later);
}

/// Creates a temporary directory.
///
/// # Panics
/// If it cannot be created.
#[must_use]
pub fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary directory can be created")
}

/// Runs a fuzz target on each file of its corpus, on each prefix of the file, and on the file with one bit of any byte
/// flipped.
///
/// # Panics
/// If the target panics, or if the corpus is empty or cannot be read.
pub fn run_corpus(corpus: &str, target: fn(&[u8])) {
    let files: Vec<_> = fs::read_dir(corpus).expect(corpus).map(|entry| entry.expect(corpus).path()).collect();
    assert!(!files.is_empty(), "{corpus} is empty");
    for file in files {
        let content = fs::read(&file).expect("a file of the corpus can be read");
        target(&content);
        for index in 0..content.len() {
            target(&content[..index]);
            let mut changed = content.clone();
            changed[index] ^= 1 << (index % 8);
            target(&changed);
        }
    }
}

/// Reports a skipped test on standard error, bypassing the output capture of the test harness.
///
/// # Panics
/// If `CI=true`, where no test may be skipped.
pub fn report_skipped(what: &str, why: &str) {
    assert!(env::var("CI").as_deref() != Ok("true"), "{what} was skipped: {why}");
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    _ = writeln!(io::stderr(), "skipped: {name}: {what}: {why}");
}

/// Runs each of the named tests, `async fn name(database: TestDatabase)`, on both engines. A macro because the test
/// harness finds functions by their attributes.
#[macro_export]
macro_rules! on_each_database {
    ($($test:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test($crate::testing::TestDatabase::sqlite()).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                if let Some(database) = $crate::testing::TestDatabase::postgres().await {
                    super::$test(database).await;
                }
            })*
        }
    };
}

/// Sets the time of a [`Clock`].
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<AtomicI64>);

/// Returns a clock that only advances by calls of [`ManualClock::advance`]. It starts at the system time, because other
/// programs of a test may use that.
#[must_use]
pub fn clock() -> (Clock, ManualClock) {
    let manual_clock = ManualClock(Arc::new(AtomicI64::new(Clock::system().now().as_micros())));
    let time = Arc::clone(&manual_clock.0);
    (Clock::from_fn(move || Timestamp::from_micros(time.load(Ordering::SeqCst))), manual_clock)
}

impl ManualClock {
    /// Advances the clock.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(i64::try_from(by.as_micros()).expect("the duration fits into 64 bits"), Ordering::SeqCst);
    }

    /// Sets the clock back, as a time server does if the clock was wrong.
    pub fn set_back(&self, by: Duration) {
        self.0.fetch_sub(i64::try_from(by.as_micros()).expect("the duration fits into 64 bits"), Ordering::SeqCst);
    }
}

/// Calls any RPC with the bytes of a request message, and returns the bytes of the response message.
///
/// # Errors
/// If the server returns an error or is unreachable.
pub async fn call_raw(channel: &Channel, path: &str, request: Request<Vec<u8>>) -> Result<Vec<u8>, Status> {
    let mut client = tonic::client::Grpc::new(channel.clone()).max_decoding_message_size(usize::MAX);
    client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let path: PathAndQuery = path.parse().expect("a path");
    client.unary(request, path, RawCodec).await.map(Response::into_inner)
}

/// Passes messages through unchanged.
#[derive(Clone, Copy, Debug, Default)]
struct RawCodec;

impl Codec for RawCodec {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for RawCodec {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&item);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining()).to_vec()))
    }
}

/// Returns the code, the reason and the invalid fields of an error, in the order of their paths.
///
/// # Panics
/// If the only invalid field is not named in the message.
#[must_use]
pub fn refusal(status: &Status) -> (Code, String, Vec<String>) {
    let details = status.get_error_details();
    let reason = details.error_info().map(|info| info.reason.clone()).unwrap_or_default();
    let violations = details.bad_request().map(|bad| bad.field_violations.clone()).unwrap_or_default();
    let mut fields: Vec<_> = violations.into_iter().map(|violation| violation.field).collect();
    fields.sort();
    if let ("VALIDATION_FAILED", [field]) = (&reason[..], &fields[..]) {
        assert!(status.message().starts_with(&format!("{field}: ")), "the message does not name the field: {status:?}");
    }
    (status.code(), reason, fields)
}

/// Asserts the code, the reason and the invalid fields of an error. A macro so that a failure shows the line of the
/// test.
#[macro_export]
macro_rules! assert_refused {
    ($outcome:expr, $code:ident, $reason:expr $(, $field:expr)* $(,)?) => {{
        let status = $outcome.expect_err("the call did not fail");
        let expected: (::tonic::Code, String, Vec<String>) =
            (::tonic::Code::$code, String::from($reason), vec![$(String::from($field)),*]);
        assert_eq!($crate::testing::refusal(&status), expected, "{status:?}");
    }};
}
