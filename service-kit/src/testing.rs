//! What the tests of every service need: databases of both engines, a clock with hands, and a look into a status.

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
use sqlx::{Connection, Executor, PgConnection, migrate::Migrator};
use tempfile::TempDir;
use tonic::{
    Code, Request, Response, Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::Channel,
};
use tonic_types::StatusExt;

use crate::{
    auth::rotation,
    clock::{Clock, Timestamp},
    db::DatabaseUrl,
    random,
};

/// The variable that names a `PostgreSQL` server on which tests may make databases.
pub const POSTGRES: &str = "TASKEY_TEST_POSTGRES";

/// An empty database that goes when it is dropped.
#[derive(Debug)]
pub struct TestDatabase {
    url: String,
    folder: TempDir,
}

impl TestDatabase {
    /// A file in a folder of its own.
    #[must_use]
    pub fn sqlite() -> Self {
        let folder = folder();
        let url = format!("sqlite:{}", folder.path().join("test.db").display());
        Self { url, folder }
    }

    /// A database on the server that [`POSTGRES`] names. Without one the test is left out, which is said on standard
    /// error; with `CI=true` that is a failure.
    pub async fn postgres() -> Option<Self> {
        let Ok(server) = env::var(POSTGRES) else {
            leave_out("a test on PostgreSQL", &format!("{POSTGRES} names no server; `make test` provides one"));
            return None;
        };
        let name = format!("test_{}", u128::from_be_bytes(random::bytes()));
        let mut connection = PgConnection::connect(&server).await.expect("the test server answers");
        let statement = sqlx::AssertSqlSafe(format!("create database {name} template template0"));
        connection.execute(statement).await.expect("the test server makes databases");
        let (base, parameters) = server.split_once('?').map_or((&server[..], ""), |(base, rest)| (base, rest));
        let base = base.rsplit_once('/').expect("a URL has a path").0;
        Some(Self { url: format!("{base}/{name}?{parameters}"), folder: folder() })
    }

    /// Returns the URL as a setting.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The parsed URL.
    #[must_use]
    pub fn parsed_url(&self) -> DatabaseUrl {
        self.url.parse().expect("the URL of a test database is good")
    }

    /// Returns how many sessions have been made to a PostgreSQL database so far, those that are over among them.
    ///
    /// # Panics
    /// If the database is none of PostgreSQL or does not answer.
    pub async fn session_count(&self) -> i64 {
        let mut connection = PgConnection::connect(&self.url).await.expect("the database answers");
        let count = "select sessions from pg_stat_database where datname = current_database()";
        sqlx::query_scalar(count).fetch_one(&mut connection).await.expect("the server counts sessions")
    }

    /// A folder that lives as long as the database.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A key file in that folder.
    #[must_use]
    pub fn key_file(&self) -> PathBuf {
        let path = self.folder().join("keys.json");
        if !path.exists() {
            rotation::generate(rotation::NewKey::Hs256, &path).expect("the folder takes a key file");
        }
        path
    }
}

/// Asserts that migrations are those that have landed, their comments included: databases refuse others. Each is given
/// by the first 128 bits of its SHA-384 in hexadecimal digits. A new migration is added to the list.
///
/// # Panics
/// If one was edited, or is not in the list.
pub fn assert_unchanged(migrations: &Migrator, landed: &[(i64, &str)]) {
    let hex =
        |bytes: &[u8]| format!("{:032x}", u128::from_be_bytes(*bytes.first_chunk().expect("SHA-384 has 48 bytes")));
    let found: Vec<_> = migrations.iter().map(|migration| (migration.version, hex(&migration.checksum))).collect();
    let landed: Vec<_> = landed.iter().map(|(version, checksum)| (*version, (*checksum).to_owned())).collect();
    assert_eq!(found, landed);
}

/// A temporary folder.
///
/// # Panics
/// If there is no place for it.
#[must_use]
pub fn folder() -> TempDir {
    tempfile::tempdir().expect("there is a place for temporary folders")
}

/// Feeds a fuzz target every file of its corpus and what lies close by: the beginnings of the file, and the file with
/// one bit changed.
///
/// # Panics
/// If the target does, or the corpus cannot be read or is empty.
pub fn feed(corpus: &str, target: fn(&[u8])) {
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

/// Says on standard error, past the capture of the test harness, that a test was left out.
///
/// # Panics
/// With `CI=true`, where nothing may be left out.
pub fn leave_out(what: &str, why: &str) {
    assert!(env::var("CI").as_deref() != Ok("true"), "{what} was left out: {why}");
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    _ = writeln!(io::stderr(), "left out: {name}: {what}: {why}");
}

/// Runs each of the named tests on both engines: `async fn name(database: TestDatabase)`. A macro because the test
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

/// The hands of a [`Clock`].
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<AtomicI64>);

/// A clock that stands still until its hands are moved. It starts at the time of the machine, since programs beside
/// the test may look at that.
#[must_use]
pub fn clock() -> (Clock, ManualClock) {
    let hands = ManualClock(Arc::new(AtomicI64::new(Clock::system().now().as_micros())));
    let time = Arc::clone(&hands.0);
    (Clock::from_fn(move || Timestamp::from_micros(time.load(Ordering::SeqCst))), hands)
}

impl ManualClock {
    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(i64::try_from(by.as_micros()).expect("a test does not wait that long"), Ordering::SeqCst);
    }
}

/// Calls any RPC with any bytes for a message, and gives the bytes of the answer.
///
/// # Errors
/// As the server answers.
pub async fn call_raw(channel: &Channel, path: &str, request: Request<Vec<u8>>) -> Result<Vec<u8>, Status> {
    let mut client = tonic::client::Grpc::new(channel.clone()).max_decoding_message_size(usize::MAX);
    client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let path: PathAndQuery = path.parse().expect("a path");
    client.unary(request, path, RawCodec).await.map(Response::into_inner)
}

/// Leaves messages as they are.
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
#[must_use]
pub fn refusal(status: &Status) -> (Code, String, Vec<String>) {
    let details = status.get_error_details();
    let reason = details.error_info().map(|info| info.reason.clone()).unwrap_or_default();
    let violations = details.bad_request().map(|bad| bad.field_violations.clone()).unwrap_or_default();
    let mut fields: Vec<_> = violations.into_iter().map(|violation| violation.field).collect();
    fields.sort();
    (status.code(), reason, fields)
}

/// Asserts code and reason of a refusal, and the invalid fields if any are named. A macro so that a failure names the
/// line of the test.
#[macro_export]
macro_rules! assert_refused {
    ($outcome:expr, $code:ident, $reason:expr $(, $field:expr)* $(,)?) => {{
        let status = $outcome.expect_err("the call was not refused");
        let expected: (::tonic::Code, String, Vec<String>) =
            (::tonic::Code::$code, String::from($reason), vec![$(String::from($field)),*]);
        assert_eq!($crate::testing::refusal(&status), expected, "{status:?}");
    }};
}
